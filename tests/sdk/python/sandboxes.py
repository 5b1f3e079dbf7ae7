"""Sandboxes of a data directory, seen from the machine: found, and ended with all that they hold (security SBX-8).

They outlive their server by design, for ten minutes. Once their data directory is gone, no server knows of their control
groups any more, so whoever removes the one ends the other before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import select
import signal
import socket
import struct
import time

# A bound against waiting for ever.
END_SECONDS = 60


def first_process(path: pathlib.Path) -> int | None:
    """The process that is process 1 of the sandbox behind a socket, as the host numbers it."""
    with contextlib.ExitStack() as stack:
        try:
            # By a handle, as a socket's path must be short.
            folder = os.open(path.parent, os.O_PATH)
            stack.callback(os.close, folder)
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        size = struct.calcsize("3i")
        return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]


def groups(data_dir: pathlib.Path) -> list[pathlib.Path]:
    """The control groups of its sandboxes, one for each controller."""
    # FNV-1a: servers name their groups by their data directory, so that none takes those of another.
    fingerprint = 0xCBF29CE484222325
    for byte in os.fsencode(data_dir.resolve()):
        fingerprint = (fingerprint ^ byte) * 0x100000001B3 % 2**64
    above = pathlib.Path("/sys/fs/cgroup")
    places = {place for place in above.glob("*") if place.is_dir()}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        # Of version 2 there is one, without controllers. Its servers move to a leaf and make groups beside that.
        _, controllers, group = line.split(":", 2)
        own = above / controllers / group.removeprefix("/")
        places |= {own, own.parent}
    return sorted({group for place in places for group in place.glob(f"manyhands-{fingerprint:016x}-*")})


def end_all(data_dir: pathlib.Path) -> None:
    """Ends all of them, and removes their groups. No server works on the directory any more."""
    for path in data_dir.glob("sandboxes/*/socket"):
        if (process := first_process(path)) is not None:
            end(process)
    deadline = time.monotonic() + END_SECONDS
    left = groups(data_dir)
    while left:
        for group in left:
            with contextlib.suppress(FileNotFoundError):
                for process in (group / "cgroup.procs").read_text().split():
                    end(int(process))
            try:
                group.rmdir()
            except OSError as error:
                # For a moment a process that has ended is still in it.
                if error.errno not in (errno.EBUSY, errno.ENOENT):
                    raise
        left = groups(data_dir)
        assert not left or time.monotonic() < deadline, left


def end(process: int) -> None:
    """Kills a process and waits until it has ended."""
    # It may have ended by itself, which is as good.
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], END_SECONDS)
        finally:
            os.close(handle)
