"""A container engine of a test's own: Podman, with the project's image and nothing else of the machine's."""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence

IMAGE = "localhost/manyhands-base"
STORAGE = ("--storage-driver=overlay", "--events-backend=none")


class Engine:
    """A running engine, started by what is prefixed."""

    def __init__(self, prefix: Sequence[str]) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manyhands-podman-"))
        self.prefix = prefix
        self.socket = self.folder / "socket"
        self.store = store()
        with (self.folder / "log").open("w") as log:
            command = [*prefix, *self.command("system", "service", "--time=0", f"unix://{self.socket}")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
        until(lambda: self.socket.is_socket() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.folder / "log").read_text()

    def command(self, *words: str) -> list[str]:
        places = [f"--{name}={self.folder / name}" for name in ("root", "runroot", "tmpdir")]
        # No init system is asked for, neither for groups nor for a journal.
        chosen = [*STORAGE, f"--storage-opt=additionalimagestore={self.store}", "--cgroup-manager=cgroupfs", "--runtime=runc"]
        return ["podman", *places, *chosen, *words]

    def podman(self, *words: str) -> str:
        done = subprocess.run([*self.prefix, *self.command(*words)], check=False, capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, f"podman {words}: {done.stderr}"
        return done.stdout.strip()

    def remove(self) -> None:
        """Ends it with all of its containers, and the monitors that it leaves for minutes."""
        self.podman("rm", "--all", "--force", "--time=0", "--volumes")
        self.process.terminate()
        self.process.wait()
        until(lambda: not self.left())
        subprocess.run([*self.prefix, "umount", "--lazy", str(self.folder / "root" / "overlay")], check=False, capture_output=True)
        shutil.rmtree(self.folder)

    def left(self) -> bool:
        """Ends what still works for it; whether there was anything."""
        found = False
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                name = os.readlink(process / "exe").rpartition("/")[2]
                if name in ("conmon", "podman") and str(self.folder).encode() in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                # It has ended, or it is somebody else's.
                continue
        return found


def store() -> pathlib.Path:
    """The image, imported once for all engines of tests, those of Rust too: its folder, which engines only read."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "manyhands"
    archives = sorted((cache / "container-image").glob("*.tar"))
    assert archives, "there is no image for containers: run scripts/setup"
    store = cache / "containers" / archives[-1].stem
    store.mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("w") as lock, tempfile.TemporaryDirectory() as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (store / "done").exists():
            places = [f"--root={store}", f"--runroot={scratch}/run", f"--tmpdir={scratch}/tmp"]
            subprocess.run(["podman", *places, *STORAGE, "import", "--quiet", str(archives[-1]), IMAGE], check=True)
            subprocess.run(["umount", "--lazy", str(store / "overlay")], check=False, capture_output=True)
            (store / "done").touch()
    return store


def until(there) -> None:
    """Waits, for a bounded time."""
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        os.sched_yield()
