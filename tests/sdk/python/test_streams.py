"""Stories of streams that break and of the primary thread, on each database."""

from __future__ import annotations

import json
import uuid

import anthropic
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event
from stories import House, Story, bash, call, custom, only, replies, result, say, text, text_message, types


def frames(story: Story, last_id: str | None, until: str) -> list[tuple[str | None, dict]]:
    """The stream as it is on the wire, with the ids of its frames, to the first event of a type."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with story.client.beta.sessions.events.with_streaming_response.stream(story.id, extra_headers=headers) as response:
        got = []
        for event in anthropic.Stream.raw_events(response.http_response):
            if event.event == "ping":
                continue
            got.append((event.id, json.loads(event.data)))
            if got[-1][1]["type"] == until:
                return got
    raise AssertionError(f"the stream ended before {until}")


def test_st_1_st_2_a_reconnecting_client_consolidates_the_list_and_the_new_stream(house: House) -> None:
    """ST-1, ST-2, LI-5: stream first, then the list, drop what was seen: nothing is missing, nothing is double."""
    story = Story(house, custom("lookup"))
    mark = uuid.uuid4().hex
    story.send(replies(call(("lookup", {"word": mark})), call(bash("echo between")), say("Done.")))
    use = story.until("agent.custom_tool_use")[-1]
    story.close()
    story.send(result(use, "while nobody listened"))
    with story.events.stream(story.id) as stream:
        known = {event.id: event for event in [*story.seen, *story.listed()]}
        story.send(text_message("One more."))
        for event in stream:
            known[event.id] = event
            # The further message joined the turn, or opened the next one: the end is the list's last event.
            listed = story.listed() if event.type == "session.status_idle" else []
            if listed and listed[-1].id == event.id:
                break
    assert {event.id for event in story.listed()} == set(known)
    assert [known[event.id] for event in story.listed()] == story.listed()


def test_last_event_id_goes_on_without_gap_or_double(house: House) -> None:
    """STREAM-1, ST-2: also after the server was killed."""
    story = Story(house, custom("lookup"))
    use = only(story.turn(replies(call(("lookup", {"word": "a"})), say("Found."))), "agent.custom_tool_use")
    whole = frames(story, "0", "session.status_idle")
    assert [frame["type"] for _, frame in whole] == types(story.seen)
    ids = [int(frame_id) for frame_id, _ in whole]
    assert ids == sorted(set(ids))
    for place in (0, 3, len(whole) - 2):
        assert frames(story, whole[place][0], "session.status_idle") == whole[place + 1 :]
    last_id = whole[-1][0]
    story.close()

    house.server.kill_and_start()
    story.client = house.client()
    story.events = story.client.beta.sessions.events
    assert frames(story, whole[2][0], "session.status_idle") == whole[3:]
    story.send(result(use, "after the restart"))
    rest = frames(story, last_id, "session.status_idle")
    assert [frame["type"] for _, frame in rest][0] == "user.custom_tool_result"
    assert int(rest[0][0]) > int(last_id)
    everything = {frame["id"] for _, frame in [*whole, *rest]}
    assert everything == {event.id for event in story.listed()}
    with pytest.raises(anthropic.BadRequestError):
        frames(story, "999999", "session.status_idle")


def test_st_6_st_7_the_primary_thread_reads_like_its_session(house: House) -> None:
    """ST-6, ST-7, LI-6, US-3, SQ-18: list, retrieve, events and stream with deltas of the one thread."""
    story = Story(house)
    threads = story.client.beta.sessions.threads
    (thread,) = threads.list(story.id)
    assert threads.retrieve(thread.id, session_id=story.id) == thread
    assert (thread.session_id, thread.status, thread.parent_thread_id) == (story.id, "idle", None)
    with threads.events.stream(thread.id, session_id=story.id, event_deltas=["agent.message"]) as stream:
        came = story.turn(replies(say("From the thread.", split_into=3)))
        seen, snapshot = [], None
        for item in stream:
            snapshot = accumulate_managed_agents_event(snapshot, item)
            if item.type not in ("event_start", "event_delta"):
                seen.append(item)
            if item.type == "session.status_idle":
                break
    assert [item.id for item in seen] == [event.id for event in came]
    assert text(snapshot) == "From the thread."
    assert only(came, "session.thread_status_running").session_thread_id == thread.id
    listed = list(threads.events.list(thread.id, session_id=story.id))
    assert [event.id for event in listed] == [event.id for event in story.listed()]
    after = threads.retrieve(thread.id, session_id=story.id)
    assert after.usage.output_tokens == only(came, "session.usage").usage.output_tokens
    story.close()


def test_st_8_what_cannot_be_previewed_is_refused(house: House) -> None:
    """ST-8."""
    story = Story(house)
    for wrong in (["agent.tool_use"], ["agent.message"] * 101):
        with pytest.raises(anthropic.BadRequestError) as refused:
            story.events.stream(story.id, event_deltas=wrong)
        assert "event_deltas" in refused.value.body["error"]["message"]
    story.close()


def test_what_a_session_waits_for_is_said_in_one_sentence(house: House) -> None:
    """I3, I8: a visible wait names who has to act."""
    story = Story(house, custom("lookup"))
    use = only(story.turn(replies(call(("lookup", {"word": "a"})), say("Found."))), "agent.custom_tool_use")
    why = house.get(f"/v1/manyhands/sessions/{story.id}/why")
    assert why["waiting_for"] == "client" and why["sentence"]
    assert [each["event_id"] for each in why["details"]["calls"]] == [use.id]
    story.turn(result(use, "x"))
    why = house.get(f"/v1/manyhands/sessions/{story.id}/why")
    assert why["details"].get("calls", []) == []
    story.close()
