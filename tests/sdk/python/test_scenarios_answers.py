"""Acceptance scenarios of calls that wait for the client, on each database."""

from __future__ import annotations

import uuid

import anthropic
import pytest
from stories import House, Story, allow, bash, blocking, call, custom, deny, every, only, replies, result, say, text
from stories import text_message, toolset, types

PAUSE = ["span.model_request_end", "session.thread_status_idle", "session.usage", "session.status_idle"]


def test_scenario_5_two_parallel_calls_one_of_which_asks(house: House) -> None:
    """Scenario 5: SQ-7, SQ-9, TC-3, TC-4, TC-7."""
    story = Story(house, toolset(write="always_ask"))
    mark = uuid.uuid4().hex
    write = ("write", {"file_path": "/workspace/a", "content": "x"})
    came = story.turn(replies(call(bash(f"echo ran {mark}"), write), say("I see."), say("Next.")))
    runs, asks = every(came, "agent.tool_use")
    assert (runs.name, runs.evaluated_permission, runs.evaluation.type) == ("bash", "allow", "always_allow")
    assert (asks.name, asks.evaluated_permission, asks.evaluation.type) == ("write", "ask", "always_ask")
    assert blocking(came[-1]) == [asks.id]
    finished = every(story.seen, "agent.tool_result") or [story.until("agent.tool_result")[-1]]
    assert [(each.tool_use_id, each.is_error) for each in finished] == [(runs.id, False)]

    came = story.turn(deny(asks, "Nothing is written here."))
    rejected = only(came, "agent.tool_result")
    assert (rejected.tool_use_id, rejected.is_error) == (asks.id, True)
    assert "Nothing is written here." in text(rejected)
    assert text(only(came, "agent.message")) == "I see."
    assert came[-1].stop_reason.type == "end_turn"
    seen_by_model = str(story.asked(mark)[-1]["messages"][-1])
    assert "Nothing is written here." in seen_by_model and f"ran {mark}" in seen_by_model
    assert text(only(story.turn(text_message("Go on.")), "agent.message")) == "Next."
    story.check_list_equals_stream()
    story.close()


def test_scenario_6_three_asks_answered_one_by_one(house: House) -> None:
    """Scenario 6: SQ-7, SQ-8, SE-4."""
    story = Story(house, toolset(bash="always_ask"))
    came = story.turn(replies(call(*(bash(f"echo {number}") for number in range(3))), say("All done.")))
    first, second, third = every(came, "agent.tool_use")
    assert types(came)[-4:] == PAUSE
    assert blocking(came[-1]) == [first.id, second.id, third.id]

    came = story.turn(allow(second))
    assert blocking(came[-1]) == [first.id, third.id]
    assert not {"session.status_running", "agent.tool_result"} & set(types(came))
    came = story.turn(allow(first))
    assert blocking(came[-1]) == [third.id]
    came = story.turn(deny(third))
    order = types(came)
    assert order.index("session.thread_status_running") < order.index("session.status_running")
    assert order.index("session.status_running") < order.index("agent.tool_result")
    results = {each.tool_use_id: each for each in every(came, "agent.tool_result")}
    assert text(results[first.id]).strip() == "0" and text(results[second.id]).strip() == "1"
    assert results[third.id].is_error
    assert text(only(came, "agent.message")) == "All done."
    confirmations = [event for event in story.seen if event.type == "user.tool_confirmation"]
    assert [event.processed_at is None for event in confirmations] == [True, False] * 3
    story.check_list_equals_stream()
    story.close()


def test_scenario_7_confirmations_that_are_refused_leave_nothing(house: House) -> None:
    """Scenario 7: SE-15, SE-16, SE-18, HT-15."""
    story = Story(house, toolset(write="always_ask"))
    write = ("write", {"file_path": "/workspace/a", "content": "x"})
    came = story.turn(replies(call(bash("echo allowed"), write), say("Done.")))
    if not every(story.seen, "agent.tool_result"):
        story.until("agent.tool_result")
    runs, asks = every(came, "agent.tool_use")
    before = story.listed()
    unknown = {"type": "user.tool_confirmation", "tool_use_id": "sevt_01none", "result": "allow"}
    for wrong in (allow(runs), unknown, allow(asks) | {"deny_message": "but"}):
        with pytest.raises(anthropic.BadRequestError):
            story.send(wrong)
        # All or nothing: a good answer beside a wrong one is not taken either.
        with pytest.raises(anthropic.BadRequestError):
            story.send(allow(asks), wrong)
    assert story.listed() == before

    (taken,) = story.send(allow(asks))
    assert text(only(story.until("session.status_idle"), "agent.message")) == "Done."
    # A late answer echoes the first one and has no effect.
    after = story.listed()
    (echoed,) = story.send(deny(asks, "too late"))
    assert (echoed.id, echoed.result) == (taken.id, "allow")
    assert story.listed() == after
    story.close()


def test_scenario_8_a_custom_result_may_come_before_the_idle_event(house: House) -> None:
    """Scenario 8: SQ-10, SE-3, SE-18, SE-20, TC-1."""
    story = Story(house, custom("lookup"))
    mark = uuid.uuid4().hex
    story.send(replies(call(("lookup", {"word": mark})), call(("lookup", {"word": "again"})), say("Found.")))
    use = story.until("agent.custom_tool_use")[-1]
    assert not hasattr(use, "evaluated_permission") and use.input == {"word": mark}
    (stored,) = story.send(result(use, "five fingers"))
    assert stored.processed_at is not None
    again = story.until("agent.custom_tool_use")[-1]
    # The same answer twice: the first one counts, and nothing runs twice.
    (twice,) = story.send(result(use, "six fingers"))
    assert twice.id == stored.id
    story.send({"type": "user.custom_tool_result", "custom_tool_use_id": again.id, "is_error": True})
    story.until("agent.message")
    idle = story.until("session.status_idle")[-1]
    assert idle.stop_reason.type == "end_turn"
    assert every(story.seen, "agent.tool_result") == []
    results = [
        block
        for message in story.asked(mark)[-1]["messages"]
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]
    assert "five fingers" in str(results[0]) and "six" not in str(results)
    assert results[1]["is_error"] is True
    story.check_list_equals_stream()
    story.close()
