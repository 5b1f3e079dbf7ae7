"""Stories of messages to a session at work, and of the operator's messages, on each database."""

from __future__ import annotations

import json
import uuid

import anthropic
import pytest
from stories import PLAIN_MODEL, House, Story, bash, call, custom, every, only, replies, result, say, system, text
from stories import text_message, types


def test_se_5_a_message_joins_the_turn_at_its_next_model_request(house: House) -> None:
    """SE-3, SE-4, SE-5, SQ-2: behind the results that are pending, in the same turn."""
    story = Story(house)
    gate = uuid.uuid4().hex
    story.send(replies(call(bash(f"echo {gate}"), gate=gate), say("Turning left.")))
    story.until("span.model_request_start")
    (stored,) = story.send(text_message("Turn left."))
    assert stored.processed_at is None
    house.open_gate(gate)
    came = story.until("session.status_idle")
    assert types(story.seen).count("session.status_running") == 1
    steering = [event for event in story.seen if event.id == stored.id]
    assert [event.processed_at is None for event in steering] == [True, False]
    order = types(came)
    assert order.index("agent.tool_result") < order.index("user.message", order.index("agent.tool_result"))
    last = story.asked(gate)[-1]["messages"][-1]
    kinds = [block["type"] for block in last["content"]]
    assert kinds == ["tool_result", "text"] and last["content"][1]["text"] == "Turn left."
    assert text(only(came, "agent.message")) == "Turning left."
    story.check_list_equals_stream()
    story.close()


def test_se_5_messages_that_miss_the_last_request_open_one_turn_together(house: House) -> None:
    """SE-5: what is queued during a turn is answered as one."""
    story = Story(house)
    gate = uuid.uuid4().hex
    story.send(replies(say(f"First {gate}.", gate=gate), say("Both.")))
    story.until("span.model_request_start")
    story.send(text_message("And this."))
    story.send(text_message("And that."))
    house.open_gate(gate)
    story.until("agent.message")
    while text(every(story.seen, "agent.message")[-1]) != "Both.":
        story.until("agent.message")
    story.until("session.status_idle")
    assert [text(event) for event in every(story.seen, "agent.message")] == [f"First {gate}.", "Both."]
    last = json.dumps(story.asked(gate)[-1])
    assert "And this." in last and "And that." in last
    story.check_list_equals_stream()
    story.close()


def test_se_14_a_message_waits_behind_a_pending_call(house: House) -> None:
    """SE-14: it does not answer the call; the next request has the result first."""
    story = Story(house, custom("lookup"))
    mark = uuid.uuid4().hex
    use = only(story.turn(replies(call(("lookup", {"word": mark})), say("Both."))), "agent.custom_tool_use")
    (stored,) = story.send(text_message("Meanwhile."))
    assert story.listed()[-1].id == stored.id and story.listed()[-1].processed_at is None
    came = story.turn(result(use, "found"))
    assert text(only(came, "agent.message")) == "Both."
    last = story.asked(mark)[-1]["messages"][-1]["content"]
    assert [block["type"] for block in last] == ["tool_result", "text"]
    story.check_list_equals_stream()
    story.close()


def test_se_8_se_9_a_system_message_is_a_turn_of_the_operator(house: House) -> None:
    """SE-8, SE-9, CC-6: behind its companion, for this turn and all later ones; the system prompt stays as it was."""
    story = Story(house)
    mark = uuid.uuid4().hex
    stored = story.send(replies(say("Yes."), say("Still.")), system(f"Say yes {mark}."))
    assert [event.type for event in stored] == ["user.message", "system.message"]
    came = story.until("session.status_idle")
    told = only(came, "system.message")
    assert told.processed_at == only(came, "user.message").processed_at is not None
    first = story.asked(mark)[-1]
    assert [message["role"] for message in first["messages"]][-2:] == ["user", "system"]
    assert mark not in json.dumps(first.get("system"))
    story.turn(text_message("Again."))
    second = story.asked(mark)[-1]
    assert [message["role"] for message in second["messages"]] == ["user", "system", "assistant", "user"]
    assert second.get("system") == first.get("system")
    # A lone one on an idle session is taken at once and opens no turn.
    (lone,) = story.send(system("Now say no."))
    assert lone.processed_at is not None or story.until("system.message")
    assert story.client.beta.sessions.retrieve(story.id).status == "idle"
    story.turn(text_message("And now?"))
    assert "Now say no." in json.dumps(story.asked(mark)[-1]["messages"])
    story.check_list_equals_stream()
    story.close()


def test_se_8_se_10_se_11_system_messages_that_are_refused(house: House) -> None:
    """SE-8, SE-10, SE-11, SE-12, HT-15: nothing of such a request is stored."""
    story = Story(house, custom("lookup"))
    use = only(story.turn(replies(call(("lookup", {"word": "x"})), say("Ok."))), "agent.custom_tool_use")
    before = story.listed()
    redacted = {"type": "user.message", "content": [{"type": "redacted"}]}
    for wrong in (
        [system("alone")],
        [text_message("x"), system("behind a message")],
        [result(use, "x"), system("one"), system("two")],
        [system("first"), result(use, "x")],
        [redacted],
    ):
        with pytest.raises(anthropic.BadRequestError):
            story.send(*wrong)
    assert story.listed() == before
    came = story.turn(result(use, "x"), system("Behind a result."))
    assert text(only(came, "agent.message")) == "Ok."
    story.close()

    plain = Story(house, model=PLAIN_MODEL)
    with pytest.raises(anthropic.BadRequestError) as refused:
        plain.send(text_message("x"), system("not here"))
    code = refused.value.body["error"]["details"]["error_code"]
    assert code == "model_does_not_support_mid_conversation_system"
    assert plain.listed() == []
    plain.close()


def test_in_6_in_8_an_interrupt_resolves_the_calls_that_wait(house: House) -> None:
    """IN-3, IN-6, IN-8: each with an error result, and without asking the model."""
    story = Story(house, custom("lookup"))
    mark = uuid.uuid4().hex
    story.turn(replies(call(("lookup", {"word": mark})), say("Never mind.")))
    requests = len(story.asked(mark))
    came = story.turn({"type": "user.interrupt"})
    assert came[-1].stop_reason.type == "end_turn"
    assert len(story.asked(mark)) == requests
    assert text(only(story.turn(text_message("Well?")), "agent.message")) == "Never mind."
    results = [block for block in story.asked(mark)[-1]["messages"][-1]["content"] if block["type"] == "tool_result"]
    assert results[0]["is_error"] is True
    story.check_list_equals_stream()
    story.close()
