"""`manyhands quickstart` without a key: the model is scripted, the sandbox and the numbers are real."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest
import sandboxes
from programs import Server, program

FIBONACCI = [0, 1]
while len(FIBONACCI) < 20:
    FIBONACCI.append(FIBONACCI[-2] + FIBONACCI[-1])


def quickstart(*flags: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [program("MANYHANDS_BIN", "manyhands"), "quickstart", *flags],
        env=kept | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def servers_on(data_dir: str) -> list[str]:
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", errors="replace") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if "serve" in words and data_dir in words:
            found.append(process)
    return found


@pytest.fixture
def data_dir(tmp_path: pathlib.Path) -> Iterator[str]:
    """Where it starts a server, whose sandboxes stay when that has ended."""
    yield str(tmp_path / "data")
    sandboxes.end_all(tmp_path / "data")


def test_a_stranger_sees_an_agent_write_and_run_a_program(data_dir: str) -> None:
    ran = quickstart("--data-dir", data_dir)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    words = ran.stdout.split("/mnt/session/outputs/fibonacci.txt\n")[-1].split()
    assert [int(word) for word in words[:20]] == FIBONACCI
    for said in ("script", "isolated", "  bash", "  write", "ANTHROPIC_BASE_URL="):
        assert said in ran.stdout, ran.stdout
    assert "\x1b" not in ran.stdout
    assert servers_on(data_dir) == []


def test_the_second_time_works_too_and_machines_can_read_it(data_dir: str) -> None:
    for _ in range(2):
        ran = quickstart("--data-dir", data_dir, "--json")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        told = json.loads(ran.stdout)
        assert told["scripted"] is True
        assert [int(line) for line in told["file"]["content"].split()] == FIBONACCI


@pytest.fixture
def scripted_server():
    server = Server({})
    yield server
    server.remove()


def test_a_running_server_is_used_and_left_running(scripted_server: Server) -> None:
    flags = ["--url", scripted_server.url, "--data-dir", str(scripted_server.data_dir), "--json"]
    ran = quickstart(*flags)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(ran.stdout)["server"] == scripted_server.url
    assert scripted_server.running.process.poll() is None


def test_a_wrong_key_and_an_unknown_model_end_with_a_reason(scripted_server: Server) -> None:
    ran = quickstart("--url", scripted_server.url, environment={"MANYHANDS_API_KEY": "wrong"})
    assert ran.returncode != 0 and "401" in ran.stderr, ran.stderr
    data_dir = str(scripted_server.data_dir)
    ran = quickstart("--url", scripted_server.url, "--data-dir", data_dir, "--model", "nobody")
    assert ran.returncode != 0 and "claude-opus-4-8" in ran.stderr, ran.stderr
