"""Several servers on one PostgreSQL database, with one model; a balancer before them; a look at their sandboxes."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import anthropic
import httpx2
from postgres import Postgres
from programs import Server
from sandboxes import end_all, first_process
from stories import ABLE, CONFIG, MODEL, told_stub


class Cluster:
    """Servers that share a database. The first one's key opens all of them."""

    def __init__(self, postgres: Postgres, settings: str = "") -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manyhands-replicas-"))
        self.stub = told_stub(self.folder / "stub.log")
        config = self.folder / "manyhands.toml"
        config.write_text(settings + CONFIG.format(model=MODEL, url=self.stub.url) + ABLE)
        self.environment = {
            "MANYHANDS_CONFIG": str(config),
            "STORY_MODEL_KEY": "stub",
            "MANYHANDS_DATABASE_URL": postgres.create_database(),
        }
        self.servers: list[Server] = []

    def start(self, beside: Server | None = None, role: str = "all") -> Server:
        """One more server: at a place of its own, or beside another one."""
        server = Server({**self.environment, "MANYHANDS_ROLE": role}, beside)
        self.servers.append(server)
        return server

    def client(self, *servers: Server, port: int | None = None, **more) -> anthropic.Anthropic:
        """The official client of a server, or of whatever listens on a port."""
        url = f"http://127.0.0.1:{port}" if port else servers[0].url
        more = {"timeout": 30, "_strict_response_validation": True, **more}
        return anthropic.Anthropic(base_url=url, api_key=self.servers[0].key, **more)

    def agent(self, client: anthropic.Anthropic) -> dict[str, str]:
        """What a session is made of."""
        agent = client.beta.agents.create(name="Survivor", model=MODEL, tools=[{"type": "agent_toolset_20260401"}])
        environment = client.beta.environments.create(name=f"survival of {agent.id}")
        return {"agent": agent.id, "environment_id": environment.id}

    def open_gate(self, name: str) -> None:
        """Lets the model go on that waits there."""
        request = urllib.request.Request(f"{self.stub.url}/gates/{name}", method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def remove(self) -> None:
        """Ends everything that was started for it, sandboxes as well."""
        for server in self.servers:
            server.running.kill()
        for data_dir in {server.data_dir for server in self.servers}:
            end_all(data_dir)
        for server in self.servers:
            shutil.rmtree(server.folder, ignore_errors=True)
        assert self.stub.terminate() == 0
        shutil.rmtree(self.folder)


def sandbox_of(server: Server, session: str) -> int:
    """Process 1 of a session's sandbox."""
    process = first_process(server.data_dir / "sandboxes" / session / "socket")
    assert process is not None, "the sandbox lives"
    return process


def workspace(server: Server, session: str) -> pathlib.Path:
    """The folder that the commands of a living sandbox work in."""
    return pathlib.Path(f"/proc/{sandbox_of(server, session)}/root/workspace")


def ledger(server: Server, session: str) -> list[str]:
    """What a session's commands wrote to its file `ledger`, at the place of a server."""
    folder = server.data_dir / "sandboxes" / session
    disk = folder / "disk"
    if not disk.exists():
        path = folder / "writable" / "workspace" / "ledger"
        return path.read_text().split() if path.exists() else []
    # The disk is mounted where the sandbox is and nowhere else; one that has ended has left it whole.
    if (process := first_process(folder / "socket")) is not None:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            return pathlib.Path(f"/proc/{process}/root/workspace/ledger").read_text().split()
        return []
    shown = subprocess.run(["debugfs", "-R", "cat /workspace/ledger", str(disk)], capture_output=True, text=True, check=True)
    return shown.stdout.split()


def is_ready(port: int) -> bool:
    """Whether a server wants requests."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def figure(server: Server, name: str) -> float:
    """A figure of a server, summed over its labels."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    found = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return sum(float(value) for label, _, value in found if label.partition("{")[0] == name)


class Balancer:
    """Connections, in turn, to the servers that are ready, asked again every 50 ms, and to the next one where nobody listens: as
    balancers do."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.ready = list(ports)
        self.turn = 0
        self.stopped = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        for work in (self._ask, self._accept):
            threading.Thread(target=work, daemon=True).start()

    def _ask(self) -> None:
        while not self.stopped.wait(0.05):
            self.ready = [port for port in self.ports if is_ready(port)]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = self._connect()
        if server is None:
            client.close()
            return
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()
        client.close()
        server.close()

    def _connect(self) -> socket.socket | None:
        self.turn += 1
        ready = self.ready
        for place in range(len(ready)):
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", ready[(self.turn + place) % len(ready)]))
        return None

    def stop(self) -> None:
        """Takes no more connections."""
        self.stopped.set()
        self.listener.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Carries bytes one way until that way ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class Follower:
    """A session's stream through the SDK, taken up again at the other servers when it breaks, behind what was heard."""

    def __init__(self, cluster: Cluster, session: str, servers: list[Server]) -> None:
        self.cluster, self.session, self.servers = cluster, session, servers
        self.seen: list = []
        self.breaks = 0
        self.last_id: str | None = None

    def events(self) -> Iterator:
        """All events, each once for each time it appears, without a gap."""
        while True:
            server = self.servers[self.breaks % len(self.servers)]
            headers = {"Last-Event-ID": self.last_id or "0"}
            try:
                events = self.cluster.client(server, max_retries=0).beta.sessions.events
                opened = events.with_streaming_response.stream(self.session, extra_headers=headers)
                with opened as response:
                    for frame in anthropic.Stream.raw_events(response.http_response):
                        if frame.event != "ping":
                            self.last_id = frame.id or self.last_id
                            self.seen.append(json.loads(frame.data))
                            yield self.seen[-1]
            except (anthropic.APIConnectionError, httpx2.TransportError):
                pass
            self.breaks += 1

    def until(self, kind: str) -> dict:
        """Reads to the next event of a type."""
        for event in self.events():
            if event["type"] == kind:
                return event
        raise AssertionError("a follower does not end")
