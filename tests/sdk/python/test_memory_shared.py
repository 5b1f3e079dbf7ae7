"""Memory stores under contention and loss, through the official SDK: two sessions that write at once, a server that is killed between a
tool's write and its version, and a store that may only be read; in sandboxes of name spaces and in containers.

Runtime ME-8, ME-13 to ME-15, ME-17; security INP-7, LOG-3; invariants I3, I4.
"""

from __future__ import annotations

import os
import pathlib
import re
import signal
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
import test_containers
from conftest import lent
from containers import IMAGE, Engine, until
from stories import House, bash, call, every, only, replies, say, text, to_rest
from test_memory_mount import MOUNT, content, did, having, run, stores


class Containers(House):
    """A server whose sandboxes are containers of an engine of its own."""

    def __init__(self) -> None:
        self.engine = Engine(())
        super().__init__(None, test_containers.SETTINGS.format(socket=self.engine.socket, image=IMAGE, door="folder"))

    def remove(self) -> None:
        self.engine.remove()
        super().remove()


@pytest.fixture(scope="module", params=["sqlite", "postgres", "containers"])
def place(request: pytest.FixtureRequest) -> Iterator[House]:
    """A server on each database, and one with containers."""
    match request.param:
        case "sqlite":
            yield from lent(House(None), request)
        case "postgres":
            yield from lent(House(request.getfixturevalue("postgres").create_database()), request)
        case "containers":
            yield from lent(Containers(), request)


def waits(mark: str) -> str:
    """A command that waits until it is released, in a process that can be told from outside by its mark."""
    return f"bash -c 'exec 3<> <(:); read -r -u 3' {mark}"


def waiting(mark: str) -> int:
    """The process that waits in a sandbox with this mark, once it does."""
    found = []

    def look() -> list[int]:
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[:1] == [b"bash"] and words[-2:] == [mark.encode(), b""]:
                found.append(int(process.name))
        return found

    until(look)
    return found[0]


def release(process: int) -> None:
    # The one signal whose victims no shell reports.
    os.kill(process, signal.SIGPIPE)


def versions(place: House, store, path: str) -> list:
    """What was done at a path, oldest first, with the texts."""
    listed = place.client().beta.memory_stores.memory_versions.list(store.id, view="full")
    return [version for version in reversed(list(listed)) if version.path == path]


def test_me_15_of_two_sessions_that_write_at_once_both_texts_stay(place: House) -> None:
    """ME-8, ME-15, ME-17: one is the memory, the other one is kept and named in the result of who wrote it; versions tell no lie."""
    (notes,) = stores(place, "Both")
    place.client().beta.memory_stores.memories.create(notes.id, path="/plan.md", content="base\n")
    sessions = {name: having(place, (notes, "read_write", None)) for name in ("a", "b")}
    for name, story in sessions.items():
        write = f"echo 'from {name}' > {MOUNT}/both/plan.md"
        story.send(replies(call(bash(f"{waits(f'before-{story.id}')}; {write}; {waits(f'after-{story.id}')}; echo wrote")), say("Done.")))
    begun = [waiting(f"before-{story.id}") for story in sessions.values()]
    place.server.running.pause()
    try:
        for process in begun:
            release(process)
        # Both have written, and nobody has heard of either.
        written = [waiting(f"after-{story.id}") for story in sessions.values()]
    finally:
        place.server.running.resume()
    for process in written:
        release(process)
    results = {name: only(story.until("session.status_idle"), "agent.tool_result") for name, story in sessions.items()}
    assert all(text(result).startswith("wrote") and not result.is_error for result in results.values()), results
    _, new = versions(place, notes, "/plan.md")
    actors = {story.id: (name, f"from {name}\n") for name, story in sessions.items()}
    # What was taken is its writer's own.
    winner, taken = actors[new.created_by.session_id]
    assert new.content == content(place, notes, "/plan.md") == taken
    (loser,) = [name for name, result in results.items() if "changed elsewhere in the meantime" in text(result)]
    assert loser != winner
    said = text(results[loser])
    kept = re.search(r"/tmp/memory-kept-[\w.-]+\w", said)
    assert kept and f'"{MOUNT}/both/plan.md"' in said, said
    story = sessions[loser]
    assert run(story, f"cat {kept[0]}; cat {MOUNT}/both/plan.md") == f"from {loser}\nfrom {winner}"
    run(story, f"cat {kept[0]} >> {MOUNT}/both/plan.md; rm {kept[0]}")
    merged = f"from {winner}\nfrom {loser}\n"
    assert content(place, notes, "/plan.md") == merged
    assert run(sessions[winner], f"cat {MOUNT}/both/plan.md") == merged.strip()
    *_, last = versions(place, notes, "/plan.md")
    assert (last.content, last.created_by.session_id) == (merged, story.id)
    for story in sessions.values():
        story.close()


def test_log_3_a_write_outlives_a_server_that_has_not_seen_it(place: House) -> None:
    """LOG-3, ME-15, I3, I4: killed between a tool's write and its version, the next server saves it, once, as the session's."""
    (notes,) = stores(place, "Kept")
    story = having(place, (notes, "read_write", None))
    before, after = f"before-{story.id}", f"after-{story.id}"
    write = f"echo 'some text' > {MOUNT}/kept/note.md"
    story.send(replies(call(bash(f"{waits(before)}; {write}; {waits(after)}; echo ended")), say("Done.")))
    begun = waiting(before)
    port = place.server.port
    place.server.running.pause()
    try:
        release(begun)
        # Written, and the server did nothing since.
        process = waiting(after)
    finally:
        place.server.running.kill()
    killed_at = datetime.now(timezone.utc)
    place.server.start(port)
    # The call still runs.
    until(lambda: content(place, notes, "/note.md") is not None)
    release(process)
    with story.events.stream(story.id, extra_headers={"last-event-id": "0"}) as stream:
        result = only(to_rest(stream), "agent.tool_result")
    assert (text(result).strip(), result.is_error) == ("ended", False)
    assert content(place, notes, "/note.md") == "some text\n"
    (version,) = versions(place, notes, "/note.md")
    assert version.created_at > killed_at
    assert (version.operation, version.content) == ("created", "some text\n")
    assert version.created_by.type == "session_actor" and version.created_by.session_id == story.id
    story.close()


def test_me_14_a_store_that_may_only_be_read_stays_as_it_is(place: House) -> None:
    """ME-13, ME-14, INP-7: whichever way a tool tries; what clients write is seen, and the other store is written as ever."""
    rules, notes = stores(place, "Only Rules", "Notes Beside")
    memories = place.client().beta.memory_stores.memories
    memory = memories.create(rules.id, path="/deep/style.md", content="plain\n")
    story = having(place, (rules, "read_only", None), (notes, "read_write", None))
    folder = f"{MOUNT}/only-rules"
    for attempt in (
        f"echo x >> {folder}/deep/style.md",
        f"echo x > {folder}/new.md",
        f"rm -rf {folder}/deep",
        f"mv {folder}/deep {folder}/other",
        f"chmod -R u+w {folder} && echo x > {folder}/new.md",
        f"ln -sfn {MOUNT}/notes-beside {folder}",
        f"mkdir {MOUNT}/more",
    ):
        assert run(story, f"({attempt}) > /dev/null 2>&1 && echo done || echo refused") == "refused", attempt
    written = did(
        story,
        ("write", {"file_path": f"{folder}/new.md", "content": "x"}),
        ("edit", {"file_path": f"{folder}/deep/style.md", "old_string": "plain", "new_string": "x"}),
        ("write", {"file_path": f"{MOUNT}/notes-beside/mine.md", "content": "mine\n"}),
        ("read", {"file_path": f"{folder}/deep/style.md"}),
    )
    assert [result.is_error for result in written] == [True, True, False, False], [text(result) for result in written]
    assert "plain" in text(written[3])
    assert content(place, notes, "/mine.md") == "mine\n"
    memories.update(memory.id, memory_store_id=rules.id, content="fancy\n")
    assert run(story, f"cat {folder}/deep/style.md; find {folder} -type f | wc -l") == "fancy\n1"
    listed = place.client().beta.memory_stores.memory_versions.list(rules.id)
    assert [(version.operation, version.created_by.type) for version in listed] == [("modified", "api_actor"), ("created", "api_actor")]
    results = every(story.seen, "agent.tool_result")
    assert not any("memory-kept" in text(result) for result in results)
    story.close()
