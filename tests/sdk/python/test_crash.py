"""`kill -9` of the server at random instants around a bash call, and a restart: nothing lost, nothing done twice.

The instants are random by purpose, so this campaign waits by the clock before each kill, and only there. The seed is
printed; MANYHANDS_CRASH_SEED repeats it.
"""

from __future__ import annotations

import collections
import os
import random
import threading
import time

import anthropic
import pytest
from conftest import wait_until_idle
from programs import Server

KILLS = 20
COMMAND = "sleep 0.05; echo line >> /workspace/log; sleep 0.05; echo finished"


def connect(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, timeout=30)


def message(command: str) -> list[dict]:
    return [{"type": "user.message", "content": [{"type": "text", "text": f"run: {command}"}]}]


def watch(server: Server, session: str, until: str) -> None:
    """Sends the command and returns as soon as the stream shows the type; "sent" is when the server has said yes."""
    client = connect(server)
    with client.beta.sessions.events.stream(session) as stream:
        client.beta.sessions.events.send(session, events=message(COMMAND))
        if until == "sent":
            return
        for event in stream:
            if event.type == until:
                return
    raise AssertionError(f"the stream ended before {until}")


def measure(server: Server, session: str, begin: str, end: str) -> float:
    """Seconds from one mark to the other in an undisturbed turn: the window that instants are drawn from."""
    client = connect(server)
    began = None
    with client.beta.sessions.events.stream(session) as stream:
        client.beta.sessions.events.send(session, events=message(COMMAND))
        if begin == "sent":
            began = time.monotonic()
        for event in stream:
            if event.type == begin:
                began = time.monotonic()
            if event.type == end:
                assert began is not None
                return time.monotonic() - began
    raise AssertionError(f"the stream ended before {end}")


def only(events: list, kind: str):
    found = [event for event in events if event.type == kind]
    assert len(found) == 1, f"{len(found)} events of type {kind} in {[event.type for event in events]}"
    return found[0]


def text(event) -> str:
    return "".join(block.text for block in event.content)


@pytest.mark.parametrize(
    ("phase", "begin", "end"),
    [
        ("before dispatch", "sent", "agent.tool_use"),
        ("during", "agent.tool_use", "agent.tool_result"),
        ("after", "agent.tool_result", "session.status_idle"),
    ],
    ids=lambda value: value.replace(" ", "-") if " " in value else value,
)
def test_crash_i1_i3_i4_the_session_goes_on_by_itself(server: Server, phase: str, begin: str, end: str) -> None:
    seed = int(os.environ.get("MANYHANDS_CRASH_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nkill -9 {phase} of a bash call, {KILLS} times: MANYHANDS_CRASH_SEED={seed}")
    dice = random.Random(f"{seed} {phase}")

    client = connect(server)
    agent = client.beta.agents.create(
        name="Survivor", model="claude-opus-4-8", tools=[{"type": "agent_toolset_20260401"}]
    )
    environment = client.beta.environments.create(name="survival")

    def new_session() -> str:
        return connect(server).beta.sessions.create(agent=agent.id, environment_id=environment.id).id

    session = new_session()
    window = measure(server, session, begin, end)
    wait_until_idle(client, session)

    progress: collections.Counter[str] = collections.Counter()
    for number in range(KILLS):
        session = new_session()
        watch(server, session, until=begin)
        # The instant itself, not a wait for something.
        instant = dice.uniform(0, window)
        threading.Event().wait(instant)
        server.kill_and_start()

        client = connect(server)
        where = f"kill {number} at {instant * 1000:.1f} ms of {window * 1000:.1f} ms, session {session}"
        logged = [event.type for event in client.beta.sessions.events.list(session)]
        progress[logged[-1] if logged else "nothing"] += 1
        wait_until_idle(client, session)

        events = list(client.beta.sessions.events.list(session))
        assert [event.type for event in events].count("user.message") == 1, where
        call = only(events, "agent.tool_use")
        result = only(events, "agent.tool_result")
        assert (result.tool_use_id, result.is_error) == (call.id, False), f"{where}: {text(result)}"
        assert text(result).strip() == "finished", where
        assert text(only(events, "agent.message")).startswith("done: finished"), where
        assert only(events, "session.status_idle").stop_reason.type == "end_turn", where

        client.beta.sessions.events.send(session, events=message("wc -l < /workspace/log"))
        wait_until_idle(client, session)
        counted = [event for event in client.beta.sessions.events.list(session) if event.type == "agent.tool_result"]
        assert text(counted[-1]).strip() == "1", where
        client.beta.sessions.delete(session)
    print(f"last event in the log right after the restart: {dict(progress)}")
