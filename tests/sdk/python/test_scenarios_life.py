"""Acceptance scenarios of a session's life, on each database: budgets, updates, archive, delete, creation."""

from __future__ import annotations

import uuid

import anthropic
import pytest
from stories import BUILT_IN, MODEL, PLAIN_MODEL, House, Story, allow, bash, call, custom, every, only, replies
from stories import result, say, text, text_message, toolset, types


def budget(cents: int) -> dict:
    """A cap."""
    return {"type": "limit", "max_list_cost": {"amount": str(cents), "currency": "USD"}}


# 400 tokens of output at $25 a million are exactly one cent.
ONE_CENT = {"output_tokens": 400}


def test_scenario_11_a_budget_of_one_cent(house: House) -> None:
    """Scenario 11: BU-1, BU-3, BU-4, BU-6, BU-9, BU-10, IN-9, SQ-16, SQ-17, SE-20."""
    story = Story(house, custom("lookup"), budget=budget(1))
    assert story.session.budget.max_list_cost.amount == "1"
    mark = uuid.uuid4().hex
    story.send(replies(call(("lookup", {"word": mark}), usage=ONE_CENT), say("Found."), say("More."), say("Last.")))
    use = story.until("agent.custom_tool_use")[-1]
    idle = story.until("session.status_idle")[-1]
    assert idle.stop_reason.type == "requires_action"

    # The result is taken; the cap stands before the next model request.
    story.send(result(use, "five fingers"))
    came = story.until("session.status_idle")
    assert types(came)[-3:] == ["session.thread_status_idle", "session.usage", "session.status_idle"]
    assert [event.stop_reason.type for event in came[-3::2]] == ["budget_reached", "budget_reached"]
    assert came[-2].usage.list_cost.amount == "1" and came[-2].budget.max_list_cost.amount == "1"
    assert "span.model_request_start" not in types(came)

    with pytest.raises(anthropic.BadRequestError) as refused:
        story.send(text_message("More, please."))
    for accepted in ("user.tool_confirmation", "user.tool_result", "user.custom_tool_result", "user.interrupt"):
        assert accepted in refused.value.body["error"]["message"]
    before = story.listed()
    story.send(result(use, "again"))
    story.send({"type": "user.interrupt"})
    assert story.listed() == before

    update = story.client.beta.sessions.update
    with pytest.raises(anthropic.BadRequestError) as refused:
        update(story.id, budget=budget(1))
    assert "greater than the session's consumed list cost" in refused.value.body["error"]["message"]
    assert refused.value.body["error"]["details"]["error_code"] == "budget_not_raised"
    assert update(story.id, budget=budget(50)).budget.max_list_cost.amount == "50"
    came = story.until("session.status_idle")
    assert only(came, "session.updated").budget.max_list_cost.amount == "50"
    assert text(only(came, "agent.message")) == "Found."
    assert came[-1].stop_reason.type == "end_turn"

    assert update(story.id, budget=None).budget is None
    removed = story.until("session.updated")[-1]
    assert removed.budget is None
    with pytest.raises(anthropic.BadRequestError) as refused:
        update(story.id, budget=budget(100))
    assert refused.value.body["error"]["details"]["error_code"] == "budget_create_only"
    assert text(only(story.turn(text_message("And?")), "agent.message")) == "More."
    story.check_list_equals_stream()
    story.close()


def test_bu_5_the_request_that_crosses_the_cap_may_end_the_turn(house: House) -> None:
    """BU-5, BU-10: the thread ends its turn, the session says the budget is reached; removal lets it go on."""
    story = Story(house, budget=budget(1))
    came = story.turn(replies(say("Dear.", usage=ONE_CENT), say("Free.")))
    assert only(came, "session.thread_status_idle").stop_reason.type == "end_turn"
    assert came[-1].stop_reason.type == "budget_reached"
    story.client.beta.sessions.update(story.id, budget=None)
    story.until("session.updated")
    assert text(only(story.turn(text_message("And?")), "agent.message")) == "Free."
    story.close()


def test_bu_1_bu_2_budgets_that_cannot_hold_are_refused(house: House) -> None:
    """BU-1, BU-2, BU-10."""
    story = Story(house)
    create = story.client.beta.sessions.create
    reference = {"agent": story.agent.id, "environment_id": story.environment.id}
    for wrong in ("0", "01", "1.5", "-1", ""):
        with pytest.raises(anthropic.BadRequestError):
            create(**reference, budget={"type": "limit", "max_list_cost": {"amount": wrong, "currency": "USD"}})
    with pytest.raises(anthropic.BadRequestError):
        create(**reference, budget={"type": "limit", "max_list_cost": {"amount": "1", "currency": "EUR"}})
    unpriced = {"type": "agent_with_overrides", "id": story.agent.id, "model": PLAIN_MODEL}
    with pytest.raises(anthropic.BadRequestError) as refused:
        create(agent=unpriced, environment_id=story.environment.id, budget=budget(1))
    assert refused.value.body["error"]["details"]["error_code"] == "model_not_budgetable"
    with pytest.raises(anthropic.BadRequestError):
        story.client.beta.sessions.update(story.id, budget=budget(1))
    story.close()


def test_scenario_12_an_update_of_a_session(house: House) -> None:
    """Scenario 12: UP-1, UP-2, UP-3, UP-4, SQ-21, TC-11."""
    story = Story(house, toolset())
    update = story.client.beta.sessions.update
    story.send(replies(say("Half.", hold=True)))
    story.until("span.model_request_start")
    with pytest.raises(anthropic.BadRequestError):
        update(story.id, agent={"tools": [toolset(bash="always_ask")]})
    assert update(story.id, title="While it runs").title == "While it runs"
    assert story.until("session.updated")[-1].title == "While it runs"
    story.turn({"type": "user.interrupt"})

    updated = update(story.id, agent={"tools": [toolset(bash="always_ask"), custom("lookup")]}, metadata={"a": "b"})
    event = story.until("session.updated")[-1]
    assert event.agent == updated.agent and event.metadata == {"a": "b"}
    assert "title" not in event.model_fields_set
    assert [tool.type for tool in event.agent.tools] == ["agent_toolset_20260401", "custom"]
    agent = story.client.beta.agents.retrieve(story.agent.id)
    assert (agent.version, len(agent.tools)) == (1, 1)

    # Nothing changes, nothing is said: the next event of the stream is the next turn's.
    update(story.id, metadata={"a": "b"}, title="While it runs")
    came = story.turn(replies(call(bash("echo new policy")), say("Done.")))
    assert "session.updated" not in types(came)
    asks = only(came, "agent.tool_use")
    assert asks.evaluated_permission == "ask"
    story.turn(allow(asks))
    story.check_list_equals_stream()
    story.close()


def test_scenario_13_archive(house: House) -> None:
    """Scenario 13 without webhook and worker: UP-7, UP-11, SE-7, SQ-19, LC-2."""
    story = Story(house, toolset(bash="always_ask"))
    archive = story.client.beta.sessions.archive
    story.send(replies(say("Half.", hold=True)))
    story.until("span.model_request_start")
    with pytest.raises(anthropic.BadRequestError):
        archive(story.id)
    story.turn({"type": "user.interrupt"})
    asks = only(story.turn(replies(call(bash("echo never")), say("Never."))), "agent.tool_use")
    # A session that waits for an answer rests, so it can be archived.
    archived = archive(story.id)
    assert archived.status == "terminated" and archived.archived_at is not None
    came = story.until("session.status_terminated")
    assert types(came) == ["session.thread_status_terminated", "session.status_terminated"]
    for late in (text_message("Too late."), allow(asks), {"type": "user.interrupt"}):
        with pytest.raises(anthropic.BadRequestError):
            story.send(late)
    assert archive(story.id) == archived
    story.check_list_equals_stream()
    story.close()


def test_scenario_14_delete_closes_the_streams(house: House) -> None:
    """Scenario 14: UP-8, SQ-20, SE-7; the vault and the memory store remain."""
    client = house.client()
    vault = client.beta.vaults.create(display_name="stays")
    store = client.beta.memory_stores.create(name="Stays")
    memory = client.beta.memory_stores.memories.create(store.id, path="/kept.md", content="kept")
    story = Story(house, vault_ids=[vault.id], resources=[{"type": "memory_store", "memory_store_id": store.id}])
    delete = story.client.beta.sessions.delete
    story.send(replies(say("Half.", hold=True)))
    story.until("span.model_request_start")
    with pytest.raises(anthropic.BadRequestError):
        delete(story.id)
    story.turn({"type": "user.interrupt"})
    assert delete(story.id).type == "session_deleted"
    assert [event.type for event in story.items] == ["session.deleted"]
    for gone in (lambda: story.client.beta.sessions.retrieve(story.id), lambda: story.send(text_message("x"))):
        with pytest.raises(anthropic.NotFoundError):
            gone()
    assert client.beta.vaults.retrieve(vault.id) == vault
    assert client.beta.memory_stores.retrieve(store.id) == store
    assert client.beta.memory_stores.memories.retrieve(memory.id, memory_store_id=store.id).content == "kept"
    story.close()


def test_scenario_15_initial_events(house: House) -> None:
    """Scenario 15 without outcomes: LC-6, LC-7, LC-2, HT-15."""
    story = Story(house)
    create = story.client.beta.sessions.create
    reference = {"agent": story.agent.id, "environment_id": story.environment.id}
    before = [session.id for session in story.client.beta.sessions.list(agent_id=story.agent.id)]
    for wrong in (
        [text_message("x")] * 51,
        [text_message("x"), {"type": "user.interrupt"}],
        [{"type": "system.message", "content": [{"type": "text", "text": "x"}]}],
        [{"type": "user.message", "content": [{"type": "redacted"}]}],
    ):
        with pytest.raises(anthropic.BadRequestError):
            create(**reference, initial_events=wrong)
    assert [session.id for session in story.client.beta.sessions.list(agent_id=story.agent.id)] == before
    assert create(**reference, initial_events=[]).status == "idle"
    made = create(**reference, initial_events=[text_message("first"), replies(say("Begun."))])
    assert made.status == "running"
    with story.events.stream(made.id, extra_headers={"Last-Event-ID": "0"}) as stream:
        came = []
        for event in stream:
            came.append(event)
            if event.type == "session.status_idle":
                break
    assert text(only(came, "agent.message")) == "Begun."
    assert len(every(came, "user.message")) == 2
    story.close()


def test_lc_9_overrides_replace_clear_and_inherit(house: House) -> None:
    """LC-8, LC-9, LC-10, AG-13: absent inherits, a value replaces, null or empty clears."""
    client = house.client()
    agent = client.beta.agents.create(
        name="Base", model={"id": MODEL, "effort": "low"}, system="Be brief.", tools=[BUILT_IN, custom("lookup")]
    )
    environment = client.beta.environments.create(name=f"overrides of {agent.id}")

    def made(**overrides):
        reference = {"type": "agent_with_overrides", "id": agent.id, **overrides}
        return client.beta.sessions.create(agent=reference, environment_id=environment.id).agent

    same = made()
    assert (same.id, same.version, same.system, len(same.tools)) == (agent.id, 1, "Be brief.", 2)
    assert same.model.effort.type == "low"
    assert made(system="Be long.").system == "Be long."
    assert made(system=None).system is None
    assert made(tools=[]).tools == []
    assert [tool.type for tool in made(tools=[custom("other")]).tools] == ["custom"]
    other = made(model={"id": "claude-opus-4-8"})
    assert other.model.effort.type != "low"
    with pytest.raises(anthropic.BadRequestError) as refused:
        made(model=None)
    assert refused.value.body["error"]["details"]["error_code"] == "agent_model_required"
    assert client.beta.agents.retrieve(agent.id).version == 1
