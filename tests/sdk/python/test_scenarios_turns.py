"""Acceptance scenarios of a turn, on each database: order, previews, interrupts, headers, compaction."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid

import anthropic
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event
from stories import BUILT_IN, MODEL, SMALL_MODEL, House, Story, bash, call, every, last_appearances, only, replies, say, system
from stories import text, text_message, types

A_SIMPLE_TURN = [
    "session.thread_status_running",
    "session.status_running",
    "user.message",
    "span.model_request_start",
    "agent.message",
    "span.model_request_end",
    "session.thread_status_idle",
    "session.usage",
    "session.status_idle",
]


def test_scenario_1_a_simple_turn_in_its_exact_order(house: House) -> None:
    """Scenario 1: SQ-1, SQ-2, SQ-3, SQ-17, SQ-18, SE-2, SE-4, LI-5."""
    story = Story(house)
    (stored,) = story.send(replies(say("Hello.", usage={"input_tokens": 11, "output_tokens": 7})))
    assert stored.processed_at is None
    came = story.until("session.status_idle")
    assert types(came) == ["user.message", *A_SIMPLE_TURN]
    first, second = came[0], came[3]
    assert (first.id, first.processed_at) == (stored.id, None)
    assert second.id == stored.id and second.processed_at is not None
    start, end = only(came, "span.model_request_start"), only(came, "span.model_request_end")
    assert (end.model_request_start_id, end.is_error) == (start.id, False)
    assert (end.model_usage.input_tokens, end.model_usage.output_tokens) == (11, 7)
    assert text(only(came, "agent.message")) == "Hello."
    usage = only(came, "session.usage").usage
    assert (usage.input_tokens, usage.output_tokens) == (11, 7)
    assert only(came, "session.status_idle").stop_reason.type == "end_turn"
    assert story.listed() == last_appearances(came)
    assert story.client.beta.sessions.retrieve(story.id).status == "idle"
    story.close()


def test_scenario_2_deltas_are_a_prefix_and_only_for_who_asks(house: House) -> None:
    """Scenario 2: ST-8, ST-9, ST-10, ST-11, LI-4a, with the SDK's own accumulator."""
    story = Story(house)
    with story.events.stream(story.id, event_deltas=["agent.message"]) as previewed:
        came = story.turn(replies(say("Hello, here I am.", split_into=4)))
        items = []
        for item in previewed:
            items.append(item)
            if item.type == "session.status_idle":
                break
    message = only(came, "agent.message")
    starts = [item.event.id for item in items if item.type == "event_start"]
    fragments = [item.delta.content.text for item in items if item.type == "event_delta"]
    assert starts == [message.id]
    assert fragments and text(message).startswith("".join(fragments))
    snapshot, partial = None, []
    for item in items:
        snapshot = accumulate_managed_agents_event(snapshot, item)
        if item.type == "event_delta":
            partial.append(text(snapshot))
    assert snapshot == message
    assert all(text(message).startswith(part) for part in partial)
    # Without the parameter: the whole events only, on the stream and in the list.
    assert not {"event_start", "event_delta"} & set(types(came))
    assert [item for item in items if item.type not in ("event_start", "event_delta")] == came
    assert story.listed() == last_appearances(came)
    story.close()


def test_scenario_9_an_interrupt_cuts_the_model_and_the_message_with_it_opens_the_next_turn(house: House) -> None:
    """Scenario 9: SQ-11, IN-2, IN-3, IN-4, IN-5, SE-6, ST-13."""
    story = Story(house)
    mark = uuid.uuid4().hex
    with story.events.stream(story.id, event_deltas=["agent.message"]) as previewed:
        story.send(replies(say(f"Half a thought {mark}", split_into=3, hold=True)))
        cut = next(item for item in previewed if item.type == "event_delta")
    story.until("span.model_request_start")
    story.send({"type": "user.interrupt"}, replies(say("The next turn.")))
    first = story.until("session.status_idle")
    assert every(first, "agent.message") == []
    assert cut.event_id not in [event.id for event in first]
    processed = last_appearances(first)
    order = [event.type for event in processed if event.processed_at is not None]
    assert order[-5:] == [
        "span.model_request_end",
        "user.interrupt",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ]
    assert only(first, "session.status_idle").stop_reason.type == "end_turn"
    second = story.until("session.status_idle")
    assert types(second) == A_SIMPLE_TURN
    assert text(only(second, "agent.message")) == "The next turn."
    (asked,) = [request for request in story.asked(mark) if "The next turn." in json.dumps(request)]
    assert "interrupt" not in json.dumps(asked["messages"])
    story.check_list_equals_stream()
    story.close()


def test_scenario_27_cursors_of_the_session_list(house: House) -> None:
    """Scenario 27: LI-1, LI-2."""
    client = house.client()
    agent = client.beta.agents.create(name="Listed", model=MODEL)
    environment = client.beta.environments.create(name=f"listed {agent.id}")
    made = [client.beta.sessions.create(agent=agent.id, environment_id=environment.id).id for _ in range(5)]
    first = client.beta.sessions.list(agent_id=agent.id, limit=2)
    assert [session.id for session in first.data] == [made[4], made[3]]
    assert first.prev_page is None and first.next_page
    second = client.beta.sessions.list(agent_id=agent.id, limit=2, page=first.next_page)
    assert [session.id for session in second.data] == [made[2], made[1]]
    back = client.beta.sessions.list(agent_id=agent.id, limit=2, page=second.prev_page)
    assert [session.id for session in back.data] == [session.id for session in first.data]
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.list(agent_id=agent.id, limit=2, order="asc", page=first.next_page)
    assert [session.id for session in client.beta.sessions.list(agent_id=agent.id, limit=2, order="asc")] == made


def test_scenario_29_headers(house: House) -> None:
    """Scenario 29: HT-1, HT-6, HT-9; memory stores' own header has its test among memory's."""
    beta = {"anthropic-beta": "managed-agents-2026-04-01"}

    def status(headers: dict[str, str], query: str = "") -> int:
        request = urllib.request.Request(f"{house.server.url}/v1/agents{query}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code

    key = {"x-api-key": house.server.key}
    assert status(key) == 404
    assert status(key | beta) == 200
    for version in ("2023-06-01", "2026-10-21"):
        assert status(key | beta | {"anthropic-version": version}, "?beta=true") == 200
    assert status(beta | {"authorization": f"Bearer {house.server.key}"}) == 200
    assert status(beta) == 401
    assert status(key | {"anthropic-beta": "other-2026-01-01, managed-agents-2026-04-01"}) == 200


def test_scenario_30_a_full_context_is_compacted_and_the_system_message_survives(house: House) -> None:
    """Scenario 30: CC-1, CC-2, CC-3, SQ-22, MODEL-4."""
    story = Story(house, BUILT_IN, model=SMALL_MODEL)
    mark = uuid.uuid4().hex
    story.turn(replies(say("I will remember.")), system(f"The word of the day is {mark}."))
    filler = "All work and no play makes a long context. " * 230
    turns = 0
    while not every(story.seen, "agent.thread_context_compacted"):
        turns += 1
        assert turns < 12, "the context never got full"
        idle = story.turn(text_message(f"Read this: {filler}"))[-1]
        assert idle.stop_reason.type == "end_turn", types(story.seen)
    came = story.turn(replies(call(bash("echo after it")), say("Still here.")))
    assert text(only(came, "agent.tool_result")).strip() == "after it"
    assert text(every(came, "agent.message")[-1]) == "Still here."
    # What the model is asked after it holds the operator's words, and not the conversation that was summed up.
    last = house.asked(mark, small=True)[-1]
    assert "after it" in json.dumps(last)
    assert json.dumps(last).count(filler.strip()) < turns
    # The log stays whole.
    listed = story.listed()
    assert len(every(listed, "user.message")) == turns + 2
    assert sum(filler.strip() in text(message) for message in every(listed, "user.message")) == turns
    compacted = types(listed).index("agent.thread_context_compacted")
    assert "span.model_request_start" in types(listed)[compacted:]
    story.check_list_equals_stream()
    story.close()
