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
from datetime import datetime, timezone

import anthropic
import pytest
from conftest import wait_until_idle
from programs import Server

KILLS = 20
# An instant can miss its phase, on a machine that is busy with other things; every kill is survived all the same.
TRIES = 60
COMMAND = "sleep 0.05; echo line >> /workspace/log; sleep 0.05; echo finished"


def connect(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, timeout=30)


def message(command: str) -> list[dict]:
    return [{"type": "user.message", "content": [{"type": "text", "text": f"run: {command}"}]}]


def watch(server: Server, session: str, until: str) -> None:
    """Sends the command and returns as soon as the stream shows the type; "sent" is when the server has said yes."""
    client = connect(server)
    if until == "sent":
        client.beta.sessions.events.send(session, events=message(COMMAND))
        return
    with client.beta.sessions.events.stream(session) as stream:
        client.beta.sessions.events.send(session, events=message(COMMAND))
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


def phase_of(events: list, killed_at: datetime) -> str:
    """In which phase of its turn the session was at that time."""
    by_then = {event.type for event in events if event.processed_at and event.processed_at <= killed_at}
    if "agent.tool_result" in by_then:
        return "after"
    return "during" if "agent.tool_use" in by_then else "before"


def check_story(client: anthropic.Anthropic, session: str, where: str) -> list:
    """One message, one call, one result, one answer: as if nothing had happened."""
    events = list(client.beta.sessions.events.list(session))
    assert [event.type for event in events].count("user.message") == 1, where
    call = only(events, "agent.tool_use")
    result = only(events, "agent.tool_result")
    assert (result.tool_use_id, result.is_error) == (call.id, False), f"{where}: {text(result)}"
    assert text(result).strip() == "finished", where
    assert text(only(events, "agent.message")).startswith("done: finished"), where
    assert only(events, "session.status_idle").stop_reason.type == "end_turn", where
    return events


def check_file(client: anthropic.Anthropic, session: str, where: str) -> None:
    """The command's side effect happened once; the session and its sandbox still work."""
    client.beta.sessions.events.send(session, events=message("wc -l < /workspace/log"))
    wait_until_idle(client, session)
    results = client.beta.sessions.events.list(session, types=["agent.tool_result"])
    assert text(list(results)[-1]).strip() == "1", where


# A model that takes its time leaves instants between the message and the call, and between the result and the answer.
@pytest.mark.parametrize("model_stub", [40], indirect=True, ids=["slow-model"])
@pytest.mark.parametrize(
    ("phase", "begin", "end"),
    [
        ("before", "sent", "agent.tool_use"),
        ("during", "agent.tool_use", "agent.tool_result"),
        ("after", "agent.tool_result", "session.status_idle"),
    ],
    ids=["before-dispatch", "during-the-call", "after-the-call"],
)
def test_crash_i1_i3_i4_the_session_goes_on_by_itself(server: Server, phase: str, begin: str, end: str) -> None:
    seed = int(os.environ.get("MANYHANDS_CRASH_SEED") or random.SystemRandom().randrange(2**32))
    print(f"\nkill -9 {phase} a bash call, {KILLS} times: MANYHANDS_CRASH_SEED={seed}")
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

    hits: collections.Counter[str] = collections.Counter()
    while hits[phase] < KILLS:
        assert hits.total() < TRIES, f"the instants miss their phase: {dict(hits)}"
        session = new_session()
        watch(server, session, until=begin)
        # The instant itself, not a wait for something.
        instant = dice.uniform(0, window)
        threading.Event().wait(instant)
        killed_at = datetime.now(timezone.utc)
        server.kill_and_start()

        client = connect(server)
        where = f"kill {hits.total()} at {instant * 1000:.1f} ms of {window * 1000:.1f} ms, session {session}"
        wait_until_idle(client, session)
        hit = phase_of(check_story(client, session, where), killed_at)
        hits[hit] += 1
        # Instants beyond the phase narrow the window, so that most of the next ones are inside.
        if (phase, hit) in (("before", "during"), ("before", "after"), ("during", "after")):
            window = max(instant, window / 4)
        check_file(client, session, where)
        client.beta.sessions.delete(session)
    print(f"kills by the phase that they hit: {dict(hits)}")
