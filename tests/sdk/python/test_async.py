"""Stories with the asynchronous client and its session tool runner, on each database."""

from __future__ import annotations

import asyncio

from anthropic import beta_async_tool
from anthropic.lib.sessions import accumulate_managed_agents_event
from stories import BUILT_IN, House, Story, allow, bash, call, custom, every, replies, say, text, toolset


def test_sq_10_the_sdks_tool_runner_answers_custom_tools(house: House) -> None:
    """SQ-9, SQ-10, SQ-18, CT-3: the runner answers what it owns; the server runs the built-in call itself."""
    story = Story(house, BUILT_IN, custom("lookup"))

    @beta_async_tool
    async def lookup(word: str) -> str:
        """Looks a word up.

        Args:
            word: The word.
        """
        if word == "trouble":
            raise ValueError("no such word")
        return f"{word} has five fingers"

    calls = call(("lookup", {"word": "hand"}), bash("echo beside it"), ("lookup", {"word": "trouble"}))
    story.send(replies(calls, say("Found.")))

    async def work() -> list:
        async with house.async_client() as client:
            runner = client.beta.sessions.events.tool_runner(story.id, tools=[lookup], max_idle=0.1)
            return [dispatched async for dispatched in runner]

    dispatched = asyncio.run(work())
    posted = {each.tool_use_id: each for each in dispatched if each.posted}
    first, second = every(story.listed(), "agent.custom_tool_use")
    assert {first.id, second.id} == set(posted)
    assert (posted[first.id].is_error, posted[second.id].is_error) == (False, True)
    listed = story.listed()
    results = {each.custom_tool_use_id: each for each in every(listed, "user.custom_tool_result")}
    assert text(results[first.id]) == "hand has five fingers" and results[second.id].is_error
    (bash_result,) = every(listed, "agent.tool_result")
    assert text(bash_result).strip() == "beside it"
    assert text(every(listed, "agent.message")[-1]) == "Found."
    assert listed[-1].stop_reason.type == "end_turn"
    story.close()


def test_sq_7_an_asynchronous_client_watches_deltas_and_confirms(house: House) -> None:
    """SQ-7, ST-10, TC-7: strict answers, accumulated as they come."""
    story = Story(house, toolset(bash="always_ask"))
    story.close()

    async def work() -> tuple[list, list]:
        async with house.async_client() as client:
            events = client.beta.sessions.events
            stream = await events.stream(story.id, event_deltas=["agent.message"])
            async with stream:
                ask = replies(call(bash("echo confirmed")), say("It was run.", split_into=4))
                await events.send(story.id, events=[ask])
                seen, snapshots, snapshot, pending = [], [], None, {}
                async for item in stream:
                    seen.append(item)
                    snapshot = accumulate_managed_agents_event(snapshot, item)
                    if item.type in ("event_start", "event_delta", "agent.message"):
                        snapshots.append(snapshot)
                    if item.type == "agent.tool_use":
                        pending[item.id] = item
                    if item.type != "session.status_idle":
                        continue
                    if item.stop_reason.type != "requires_action":
                        return seen, snapshots
                    answers = [allow(pending[each]) for each in item.stop_reason.event_ids]
                    await events.send(story.id, events=answers)
        raise AssertionError("the stream ended early")

    seen, snapshots = asyncio.run(work())
    (ran,) = [item for item in seen if item.type == "agent.tool_result"]
    assert text(ran).strip() == "confirmed"
    final = snapshots[-1]
    assert text(final) == "It was run."
    assert len({snapshot.id for snapshot in snapshots}) == 1
    assert all(text(final).startswith(text(snapshot)) for snapshot in snapshots)
    assert final.id in [event.id for event in story.listed()]


def test_sessions_of_many_clients_at_once_do_not_mix(house: House) -> None:
    """ST-2, LI-5: eight sessions, eight streams, one client of asyncio."""
    stories = [Story(house) for _ in range(8)]
    for story in stories:
        story.close()

    async def one(client, number: int, story: Story) -> list:
        events = client.beta.sessions.events
        async with await events.stream(story.id) as stream:
            ask = replies(call(bash(f"echo of {number}")), say(f"Answer {number}."))
            await events.send(story.id, events=[ask])
            seen = []
            async for item in stream:
                seen.append(item)
                if item.type == "session.status_idle":
                    return seen
        raise AssertionError("the stream ended early")

    async def work() -> list[list]:
        async with house.async_client() as client:
            return await asyncio.gather(*(one(client, number, story) for number, story in enumerate(stories)))

    for number, (story, seen) in enumerate(zip(stories, asyncio.run(work()))):
        (result,) = [event for event in seen if event.type == "agent.tool_result"]
        (message,) = [event for event in seen if event.type == "agent.message"]
        assert (text(result).strip(), text(message)) == (f"of {number}", f"Answer {number}.")
        assert seen[-1].id == story.listed()[-1].id
