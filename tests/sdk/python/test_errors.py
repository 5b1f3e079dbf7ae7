"""Stories of what goes wrong in a turn, on each database: the strict client reads every shape of it."""

from __future__ import annotations

import base64
import uuid

import anthropic
import pytest
from stories import House, Story, allow, bash, blocking, call, every, only, replies, say, text, text_message, toolset, types


def error(status: int, kind: str, message: str = "as it was told") -> dict:
    """A reply of the model's endpoint: an error."""
    return {"error": {"status": status, "type": kind, "message": message}}


def test_sq_15_a_refusal_says_what_it_is_about(house: House) -> None:
    """SQ-15, SQ-24: and the next message is answered."""
    story = Story(house)
    idle = story.turn(replies(say("No.", refusal="cyber")))[-1]
    assert idle.stop_reason.type == "refusal"
    assert (idle.stop_details.type, idle.stop_details.category) == ("refusal", "cyber")
    assert text(only(story.turn(replies(say("Yes."))), "agent.message")) == "Yes."
    assert story.seen[-1].stop_details is None
    story.check_list_equals_stream()
    story.close()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(400, "invalid_request_error"), "model_request_failed_error"),
        (error(402, "billing_error"), "billing_error"),
        (error(401, "authentication_error"), "model_request_failed_error"),
    ],
    ids=["bad-request", "billing", "wrong-key"],
)
def test_sq_13_what_a_retry_cannot_help_ends_the_turn_and_not_the_session(house: House, reply: dict, kind: str) -> None:
    """SQ-3, SQ-13, ER-1, ER-2, ER-3, ER-8."""
    story = Story(house)
    came = story.turn(replies(reply))
    failed = only(came, "session.error")
    assert (failed.error.type, failed.error.retry_status.type) == (kind, "exhausted")
    assert only(came, "span.model_request_end").is_error is True
    assert types(came)[-3:] == ["session.thread_status_idle", "session.usage", "session.status_idle"]
    assert [event.stop_reason.type for event in came[-3::2]] == ["retries_exhausted"] * 2
    assert text(only(story.turn(replies(say("Well again."))), "agent.message")) == "Well again."
    story.check_list_equals_stream()
    story.close()


def test_sq_12_an_interrupt_ends_the_wait_for_the_next_try(house: House) -> None:
    """SQ-12, IN-2, LC-2: rescheduling is no place to get stuck in."""
    story = Story(house)
    story.send(replies(error(529, "overloaded_error")))
    came = story.until("session.status_rescheduled")
    failed = only(came, "session.error")
    assert (failed.error.type, failed.error.retry_status.type) == ("model_overloaded_error", "retrying")
    order = types(came)
    assert order.index("session.error") < order.index("session.thread_status_rescheduled") < len(order) - 1
    came = story.turn({"type": "user.interrupt"})
    assert came[-1].stop_reason.type == "end_turn"
    assert text(only(story.turn(replies(say("Room again."))), "agent.message")) == "Room again."
    story.check_list_equals_stream()
    story.close()


def test_tl_5_an_unknown_tool_and_a_failing_one_are_news_for_the_model(house: House) -> None:
    """TL-5, TC-5, TL-12, ER-11: error results, and the turn goes on."""
    story = Story(house)
    mark = uuid.uuid4().hex
    came = story.turn(replies(call(("teleport", {"to": mark}), bash("echo broken; exit 3")), say("I see.")))
    unknown, failing = every(came, "agent.tool_use")
    assert unknown.evaluated_permission == "deny" and unknown.evaluation is None
    results = {each.tool_use_id: each for each in every(came, "agent.tool_result")}
    assert results[unknown.id].is_error and results[failing.id].is_error
    assert "broken" in text(results[failing.id])
    assert "session.error" not in types(came)
    assert text(only(came, "agent.message")) == "I see."
    story.check_list_equals_stream()
    story.close()


def test_tc_8_auto_without_a_judge_asks(house: House) -> None:
    """TC-4, TC-8: the evaluation says that it was not determined."""
    story = Story(house, toolset(bash="auto"))
    came = story.turn(replies(call(bash("echo judged")), say("Done.")))
    asks = only(came, "agent.tool_use")
    assert (asks.evaluated_permission, asks.evaluation.type) == ("ask", "auto")
    judged = asks.evaluation.evaluated_permission
    assert (judged.type, judged.reason_code) == ("ask", "indeterminate")
    assert blocking(came[-1]) == [asks.id]
    assert text(only(story.turn(allow(asks)), "agent.tool_result")).strip() == "judged"
    story.close()


def test_se_13_images_and_documents_reach_the_model_and_addresses_are_refused(house: House) -> None:
    """SE-12, SE-13, HT-15."""
    story = Story(house)
    mark = uuid.uuid4().hex
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n" + mark.encode()).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": pixel}}
    note = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": mark}, "title": "Note"}
    shown = {"type": "user.message", "content": [image, note, *replies(say("Seen."))["content"]]}
    assert text(only(story.turn(shown), "agent.message")) == "Seen."
    asked = story.asked(mark)[-1]["messages"][-1]["content"]
    assert [block["type"] for block in asked] == ["image", "document", "text"]
    assert asked[0]["source"]["data"] == pixel
    before = story.listed()
    address = {"type": "url", "url": "https://example.com/x.png"}
    for wrong in ({"type": "image", "source": address}, {"type": "document", "source": address}):
        with pytest.raises(anthropic.BadRequestError) as refused:
            story.send(text_message("x"), {"type": "user.message", "content": [wrong]})
        assert "source" in refused.value.body["error"]["message"]
    assert story.listed() == before
    story.close()
