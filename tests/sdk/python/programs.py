"""The programs under test as processes of their own: the real server, the model stub."""

from __future__ import annotations

import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence

import sandboxes

# Bounds against waiting for ever; how quick a server is, other tests say.
START_SECONDS = 60
STOP_SECONDS = 60


def program(variable: str, name: str) -> str:
    """The path of a built program: what the variable says, else what the last build left."""
    named = os.environ.get(variable)
    if named:
        return named
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or f"{cache}/manyhands/target")
    for profile in ("release", "debug"):
        if (target / profile / name).exists():
            return str(target / profile / name)
    raise FileNotFoundError(f"{name} is not built: run \"make test\", or set {variable}")


class Program:
    """A child process that prints `listening on URL` when it serves; ended by its own process id."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: pathlib.Path) -> None:
        self.log = log
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        # Of the caller's environment the child sees no more: a key in a developer's shell must change nothing.
        self.process = subprocess.Popen(
            arguments,
            env=kept | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("ab"),
            text=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        self.url = self._listening(lines)

    def _read(self, lines: queue.Queue[str | None]) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self.log.open("a") as log:
                log.write(line)
            lines.put(line)
        lines.put(None)

    def _listening(self, lines: queue.Queue[str | None]) -> str:
        while True:
            try:
                line = lines.get(timeout=START_SECONDS)
            except queue.Empty:
                line = None
            if line is None:
                self.kill()
                raise AssertionError(f"{self.process.args[0]} does not listen. It said:\n{self.log.read_text()}")
            _, found, url = line.partition("listening on ")
            if found:
                return url.strip()

    def kill(self) -> None:
        """Ends it as a power cut would: at once and without a word."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def pause(self) -> None:
        """Stops all of its threads until `resume`, or until it is killed."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Lets it go on, if it still lives."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """Asks it to end and waits until it has; gives its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


class Server:
    """`manyhands serve` on a data directory, which outlives the process: it can be killed and started again."""

    def __init__(
        self,
        environment: dict[str, str],
        beside: Server | None = None,
        prefix: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        """A server with a data directory of its own, or in that of another one; started by what is prefixed."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manyhands-sdk-"))
        self.data_dir = beside.data_dir if beside else self.folder / "data"
        self.environment = environment
        self.prefix = prefix
        self.log = self.folder / "server.log"
        self.start(port)

    def start(self, port: int = 0) -> None:
        """Starts it, on a port of its own choice or on this one."""
        arguments = [*self.prefix, program("MANYHANDS_BIN", "manyhands"), "serve", "--listen", f"127.0.0.1:{port}"]
        self.running = Program([*arguments, "--data-dir", str(self.data_dir)], self.environment, self.log)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def key(self) -> str:
        return (self.data_dir / "api-key").read_text().strip()

    def kill_and_start(self) -> None:
        port = self.port if self.prefix else 0
        self.running.kill()
        self.start(port)

    def remove(self) -> None:
        """Ends the server, the sandboxes it leaves, and what is left of it on the disk."""
        if self.running.process.poll() is None:
            self.running.terminate()
        # Those of a server that this one was started beside are that one's.
        if self.data_dir.parent == self.folder:
            sandboxes.end_all(self.data_dir)
        shutil.rmtree(self.folder)


class ModelStub(Program):
    """The Messages API played by a process of its own: one `bash` call per turn, of what follows `run:`.

    It refuses and counts what the hosted API would refuse.
    """

    def __init__(self, log: pathlib.Path, delay_millis: int = 0) -> None:
        stub = program("MANYHANDS_MODEL_STUB", "manyhands-model-stub")
        flags = ["--listen", "127.0.0.1:0", "--mode", "bash", "--check", "--delay", str(delay_millis)]
        super().__init__([stub, *flags], {}, log)

    @property
    def environment(self) -> dict[str, str]:
        """What points a server at this stub."""
        return {"MANYHANDS_ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "stub"}
