"""Sandboxes that wait started for sessions, through the official SDK: each session gets its own, and none is left.

security SBX-7, SBX-8; runtime EN-2, EN-3.
"""

from __future__ import annotations

import os
import pathlib
import time
import urllib.request
from collections.abc import Callable, Iterator

import anthropic
import pytest
from conftest import delete_sessions
from programs import ModelStub, Server
from stories import BUILT_IN, MODEL
from test_sdk import take_turn

CONFIG = "[environments]\nwarm = 2\n"
PATIENCE_SECONDS = 60
LOOK = "cat /proc/sys/kernel/random/uuid > mine; ls /workspace; id -u; hostname; cat mine"


@pytest.fixture
def server(tmp_path: pathlib.Path, model_stub: ModelStub) -> Iterator[Server]:
    config = tmp_path / "manyhands.toml"
    config.write_text(CONFIG)
    server = Server(model_stub.environment | {"MANYHANDS_CONFIG": str(config)})
    yield server
    delete_sessions(server)
    server.remove()


def until(what: str, is_so: Callable[[], bool]) -> None:
    """Looks until it is so; nothing tells of it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, what


def figure(server: Server, name: str) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0)


def waiting(server: Server) -> dict[str, int]:
    """The folders of those that wait, and their numbers in the file system."""
    with os.scandir(server.data_dir / "sandboxes") as entries:
        return {entry.name: entry.inode() for entry in entries if entry.name.startswith(".pool-")}


def all_wait(server: Server) -> bool:
    return figure(server, "manyhands_sandboxes_waiting ") == 2


def test_sbx_8_sessions_take_sandboxes_that_waited_and_nothing_stays(server: Server) -> None:
    client = anthropic.Anthropic(
        base_url=server.url, api_key=server.key, timeout=30, _strict_response_validation=True
    )
    agent = client.beta.agents.create(name="Waiting", model=MODEL, tools=[BUILT_IN])
    environment = client.beta.environments.create(name="waiting")

    def session() -> tuple[str, list[str]]:
        """A new session's id, and what its command said."""
        made = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
        seen = take_turn(client, made.id, LOOK)
        said = next(event for event in seen if event.type == "agent.tool_result")
        assert not said.is_error
        return made.id, said.content[0].text.split()

    first, said = session()
    said_by_all = [said]
    for _ in range(2):
        until("as many wait as should", lambda: all_wait(server))
        before = waiting(server)
        made, said = session()
        folder = server.data_dir / "sandboxes" / made
        assert folder.stat().st_ino in before.values()
        said_by_all.append(said)
    for listed, user, host, _ in said_by_all:
        assert (listed, user, host) == ("mine", "1000", "sandbox")
    assert len({said[-1] for said in said_by_all}) == 3, "no two are alike"
    assert figure(server, 'manyhands_waiting_sandboxes_total{outcome="taken"}') == 2

    # One that is told to stop leaves none; what a killed one leaves is removed by the next.
    until("as many wait as should", lambda: all_wait(server))
    assert server.running.terminate() == 0
    assert waiting(server) == {}
    server.start()
    client = client.with_options(base_url=server.url)
    session()
    until("as many wait as should", lambda: all_wait(server))
    assert len(waiting(server)) == 2
    server.kill_and_start()
    until("the next server removes them", lambda: waiting(server) == {})
    client = client.with_options(base_url=server.url)
    assert client.beta.sessions.retrieve(first).status == "idle"
    delete_sessions(server)
    for what in [".uids", ".trash"]:
        left = server.data_dir / "sandboxes" / what
        until(f"nothing is left in {what}", lambda left=left: list(left.iterdir()) == [])
