"""Memory stores in sandboxes, through the official SDK: what one session writes another one reads, and nothing is lost or forged.

Scenario 22; runtime ME-13 to ME-17, ME-20; security INP-7, SBX-4.
"""

from __future__ import annotations

import anthropic
import pytest
from stories import House, Story, bash, call, every, replies, say, text

MOUNT = "/mnt/memory"


def stores(house: House, *names: str) -> list:
    """New stores of these names."""
    memory_stores = house.client().beta.memory_stores
    return [memory_stores.create(name=name, description=f"What {name} is for.") for name in names]


def having(house: House, *attached: tuple, **more) -> Story:
    """A session that has these stores, each with its access and instructions."""
    resources = [
        {"type": "memory_store", "memory_store_id": store.id, "access": access, "instructions": instructions}
        for store, access, instructions in attached
    ]
    return Story(house, resources=resources, **more)


def did(story: Story, *calls: tuple[str, dict]) -> list:
    """The results of calls, one a round, in a turn of their own."""
    events = story.turn(replies(*(call(it) for it in calls), say("Done.")))
    return every(events, "agent.tool_result")


def run(story: Story, command: str) -> str:
    """What a command that does not fail says."""
    (result,) = did(story, bash(command))
    assert not result.is_error, text(result)
    return text(result).strip()


def content(house: House, store, path: str) -> str | None:
    """The text of a memory."""
    memories = house.client().beta.memory_stores.memories
    found = [item for item in memories.list(store.id, view="full") if item.type == "memory" and item.path == path]
    return found[0].content if found else None


def test_scenario_22_two_sessions_share_a_store(house: House) -> None:
    """Scenario 22: a write in A is visible in B, its version shows the session, read_only rejects, preconditions and heads hold."""
    client = house.client()
    notes, rules = stores(house, "Team Notes", "Rules")
    client.beta.memory_stores.memories.create(rules.id, path="/style.md", content="plain\n")
    a = having(house, (notes, "read_write", "Keep it short."), (rules, "read_only", None))
    b = having(house, (notes, "read_write", None))

    written = did(
        a,
        ("write", {"file_path": f"{MOUNT}/team-notes/plans/one.md", "content": "first\n"}),
        ("read", {"file_path": f"{MOUNT}/rules/style.md"}),
        ("edit", {"file_path": f"{MOUNT}/team-notes/plans/one.md", "old_string": "first", "new_string": "second"}),
    )
    assert [result.is_error for result in written] == [False] * 3, [text(result) for result in written]
    assert "plain" in text(written[1])
    assert run(b, f"cat {MOUNT}/team-notes/plans/one.md") == "second"
    assert run(b, f"echo third > {MOUNT}/team-notes/plans/one.md; mkdir {MOUNT}/team-notes/d; cd {MOUNT}/team-notes; mv plans/one.md d/two.md; ls") == "d\nplans"
    assert run(a, f"cd {MOUNT}/team-notes; find . -type f; cat d/two.md") == "./d/two.md\nthird"

    versions = list(client.beta.memory_stores.memory_versions.list(notes.id))
    by = {a.id: [], b.id: []}
    for version in reversed(versions):
        assert version.created_by.type == "session_actor"
        by[version.created_by.session_id].append((version.operation, version.path))
    assert by[a.id] == [("created", "/plans/one.md"), ("modified", "/plans/one.md")]
    assert sorted(by[b.id]) == [("created", "/d/two.md"), ("deleted", "/plans/one.md")]

    for attempt in (
        f"echo x >> {MOUNT}/rules/style.md",
        f"rm -f {MOUNT}/rules/style.md",
        f"echo x > {MOUNT}/rules/new.md",
        f"mv {MOUNT}/rules {MOUNT}/other",
        f"echo x > {MOUNT}/elsewhere.md",
        f"mount -o remount,rw {MOUNT}/rules",
        f"umount {MOUNT}",
        f"ln -sfn /tmp {MOUNT}/rules",
        f"ln -sf /etc/passwd {MOUNT}/rules/style.md",
    ):
        assert run(a, f"({attempt}) > /dev/null 2>&1 && echo done || echo refused") == "refused", attempt
    (refused,) = did(a, ("write", {"file_path": f"{MOUNT}/rules/new.md", "content": "x"}))
    assert refused.is_error and "denied" in text(refused).lower(), text(refused)
    assert content(house, rules, "/style.md") == "plain\n"
    assert len(list(client.beta.memory_stores.memories.list(rules.id))) == 1

    (memory,) = [item for item in client.beta.memory_stores.memories.list(notes.id) if item.type == "memory"]
    with pytest.raises(anthropic.ConflictError):
        stale = {"type": "content_sha256", "content_sha256": "0" * 64}
        client.beta.memory_stores.memories.update(memory.id, memory_store_id=notes.id, content="x", precondition=stale)
    with pytest.raises(anthropic.APIStatusError) as head:
        client.beta.memory_stores.memory_versions.redact(memory.memory_version_id, memory_store_id=notes.id)
    assert 400 <= head.value.status_code < 500

    (request, *_) = a.asked("Keep it short.")
    prompt = str(request["system"])
    for part in (f"{MOUNT}/team-notes (read and write)", "Team Notes", "What Team Notes is for.", f"{MOUNT}/rules (read only)", "never outrank"):
        assert part in prompt
    for story in (a, b):
        story.check_list_equals_stream()
        story.close()


def test_me_17_what_cannot_be_saved_is_undone_and_told(house: House) -> None:
    """ME-2, ME-3, ME-17, SBX-4: a file error in the result, and the file is as it was; what was written is kept."""
    (notes,) = stores(house, "Limits")
    house.client().beta.memory_stores.memories.create(notes.id, path="/a.md", content="first\n")
    story = having(house, (notes, "read_write", None))
    commands = f"""cd {MOUNT}/limits; head -c 102401 /dev/zero | tr '\\0' x > a.md; ln -s /etc/passwd link; mkfifo pipe
        printf '\\377' > bytes; touch "$(printf 'new\\nline')"; head -c 102400 /dev/zero | tr '\\0' x > fits.md; echo done"""
    (result,) = did(story, bash(commands))
    said = text(result)
    assert result.is_error and said.startswith("done")
    for file, why in (("a.md", "at most 102400 bytes"), ("link", "no link"), ("pipe", "regular file"), ("bytes", "UTF-8"), ("new\\nline", "control")):
        assert any(f'/limits/{file}" was not saved' in line and why in line for line in said.splitlines()), (file, said)
    assert run(story, f"cd {MOUNT}/limits; ls; cat a.md; ls /tmp/memory-kept-* | wc -l") == "a.md\nfits.md\nfirst\n3"
    assert content(house, notes, "/a.md") == "first\n"
    story.close()


def test_me_15_a_session_sees_another_ones_write_while_its_call_runs(house: House) -> None:
    """ME-15: almost immediately, and a session that only looks makes no version."""
    (notes,) = stores(house, "Shared")
    a, b = (having(house, (notes, "read_write", None)) for _ in range(2))
    assert run(a, f"echo first | tee {MOUNT}/shared/a.md") == "first"
    assert run(b, f"cat {MOUNT}/shared/a.md") == "first"
    a.send(replies(call(bash(f"cd {MOUNT}/shared; until grep -q second a.md; do :; done; cat a.md")), say("Done.")))
    assert run(b, f"echo second | tee {MOUNT}/shared/a.md") == "second"
    (seen,) = every(a.until("session.status_idle"), "agent.tool_result")
    assert text(seen).strip() == "second"
    for story in (a, b):
        story.close()
    versions = list(house.client().beta.memory_stores.memory_versions.list(notes.id))
    assert [version.operation for version in versions] == ["modified", "created"]


def test_me_11_a_session_goes_on_without_its_store(house: House) -> None:
    """ME-11: archived, its memories are read; deleted, the folder is empty; both refuse what is written."""
    client = house.client()
    (notes,) = stores(house, "Ending")
    story = having(house, (notes, "read_write", None))
    assert run(story, f"echo first | tee {MOUNT}/ending/a.md") == "first"
    client.beta.memory_stores.archive(notes.id)
    (result,) = did(story, bash(f"cat {MOUNT}/ending/a.md; echo second > {MOUNT}/ending/a.md"))
    assert result.is_error and "the store is archived" in text(result)
    assert run(story, f"cat {MOUNT}/ending/a.md") == "first"
    client.beta.memory_stores.delete(notes.id)
    assert run(story, f"ls {MOUNT}/ending | wc -l") == "0"
    (result,) = did(story, bash(f"echo third > {MOUNT}/ending/a.md"))
    assert result.is_error and "the store is gone" in text(result)
    story.close()
