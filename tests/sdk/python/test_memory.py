"""Memory stores, memories and versions through the official SDK, strict about every answer (api §17).

runtime HT-2, ME-1 to ME-13, LI-3, LI-9; scenarios 22 (what the API shows of it) and 29.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import unicodedata
import urllib.error
import urllib.request

import anthropic
import pytest
from anthropic.types.beta import BetaManagedAgentsMemoryStore
from anthropic.types.beta.memory_stores import BetaManagedAgentsMemory, BetaManagedAgentsMemoryVersion
from programs import Server

OLD = "managed-agents-2026-04-01"
NEW = "agent-memory-2026-07-22"


@pytest.fixture
def client(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=server.url, api_key=server.key, timeout=30, max_retries=0, _strict_response_validation=True
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ask(server: Server, path: str, **headers: str) -> tuple[int, dict]:
    """A request without the SDK: status and body of the answer."""
    request = urllib.request.Request(server.url + path, headers={"x-api-key": server.key} | headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def error_type(error: anthropic.APIStatusError) -> str:
    return error.response.json()["error"]["type"]


def test_me_1_a_store_lives(client: anthropic.Anthropic) -> None:
    stores = client.beta.memory_stores
    made = stores.create(name="notes", description="What they like.", metadata={"team": "a"})
    assert isinstance(made, BetaManagedAgentsMemoryStore)
    assert (made.type, made.name, made.description) == ("memory_store", "notes", "What they like.")
    assert (made.metadata, made.archived_at, made.updated_at) == ({"team": "a"}, None, made.created_at)
    assert made.id.startswith("memstore_")
    assert stores.retrieve(made.id) == made
    changed = stores.update(made.id, name="other", description="", metadata={"team": None, "for": "b"})
    assert (changed.name, changed.description, changed.metadata) == ("other", "", {"for": "b"})
    assert stores.retrieve(made.id) == changed
    others = [stores.create(name="other").id for _ in range(4)]
    assert [store.id for store in stores.list(limit=2)] == [*reversed(others), made.id]
    archived = stores.archive(others[0])
    assert archived.archived_at is not None
    assert stores.archive(others[0]) == archived
    assert [store.id for store in stores.list()] == [*reversed(others[1:]), made.id]
    assert others[0] in [store.id for store in stores.list(include_archived=True)]
    early = stores.list(created_at_lte=made.created_at)
    assert [store.id for store in early] == [made.id]
    late = stores.list(created_at_gte=made.created_at, limit=1)
    assert [store.id for store in late] == [*reversed(others[1:]), made.id]
    deleted = stores.delete(made.id)
    assert (deleted.id, deleted.type) == (made.id, "memory_store_deleted")
    for gone in (stores.retrieve, stores.delete, stores.archive, stores.update):
        with pytest.raises(anthropic.NotFoundError):
            gone(made.id)
    for wrong in ({"name": ""}, {"name": "x" * 256}, {"name": "a\nb"}, {"name": "x", "description": "x" * 1025}):
        with pytest.raises(anthropic.BadRequestError):
            stores.create(**wrong)


def test_me_2_a_memory_lives(client: anthropic.Anthropic) -> None:
    store = client.beta.memory_stores.create(name="notes")
    memories = client.beta.memory_stores.memories
    text = "line\r\ncafe\u0301 \U0001f600 \0 end"
    made = memories.create(store.id, path="/projects/foo.md", content=text)
    assert isinstance(made, BetaManagedAgentsMemory)
    assert (made.type, made.path, made.content) == ("memory", "/projects/foo.md", None)
    assert (made.content_sha256, made.content_size_bytes) == (sha256(text), len(text.encode()))
    assert made.memory_store_id == store.id
    found = memories.retrieve(made.id, memory_store_id=store.id)
    assert found.content == text
    assert memories.retrieve(made.id, memory_store_id=store.id, view="basic") == made
    assert memories.update(made.id, memory_store_id=store.id) == made
    changed = memories.update(made.id, memory_store_id=store.id, content="new", path="/foo.md", view="full")
    assert (changed.id, changed.path, changed.content) == (made.id, "/foo.md", "new")
    assert changed.memory_version_id != made.memory_version_id
    with pytest.raises(anthropic.NotFoundError):
        memories.retrieve(made.id, memory_store_id=client.beta.memory_stores.create(name="other").id)
    with pytest.raises(anthropic.BadRequestError):
        memories.create(store.id, path="/big", content="x" * 102_401)
    decomposed = unicodedata.normalize("NFD", "/café")
    for path in ("", "a", "/a/", "/a/../b", decomposed, "/s" * 21, "/" + "x" * 1024):
        with pytest.raises(anthropic.BadRequestError, match="path"):
            memories.create(store.id, path=path, content="")
    deleted = memories.delete(made.id, memory_store_id=store.id)
    assert (deleted.id, deleted.type) == (made.id, "memory_deleted")
    assert list(memories.list(store.id)) == []


def test_me_5_and_me_6_conflicts_are_told_apart(client: anthropic.Anthropic) -> None:
    store = client.beta.memory_stores.create(name="notes")
    memories = client.beta.memory_stores.memories
    first = memories.create(store.id, path="/a/b", content="one")
    second = memories.create(store.id, path="/z", content="two")
    for path in ("/a/b", "/a", "/a/b/c"):
        with pytest.raises(anthropic.ConflictError) as taken:
            memories.create(store.id, path=path, content="x")
        assert error_type(taken.value) == "memory_path_conflict_error"
        told = taken.value.response.json()["error"]
        assert (told["conflicting_memory_id"], told["conflicting_path"]) == (first.id, "/a/b")
        assert taken.value.response.headers["x-should-retry"] == "false"
        with pytest.raises(anthropic.ConflictError) as taken:
            memories.update(second.id, memory_store_id=store.id, path=path)
        assert error_type(taken.value) == "memory_path_conflict_error"
    wrong = {"type": "content_sha256", "content_sha256": sha256("two")}
    right = {"type": "content_sha256", "content_sha256": sha256("one")}
    with pytest.raises(anthropic.ConflictError) as failed:
        memories.update(first.id, memory_store_id=store.id, content="x", precondition=wrong)
    assert error_type(failed.value) == "memory_precondition_failed_error"
    assert memories.update(first.id, memory_store_id=store.id, content="one", precondition=wrong) == first
    with pytest.raises(anthropic.ConflictError) as failed:
        memories.delete(first.id, memory_store_id=store.id, expected_content_sha256=sha256("two"))
    assert error_type(failed.value) == "memory_precondition_failed_error"
    changed = memories.update(first.id, memory_store_id=store.id, content="two", precondition=right)
    assert changed.content_sha256 == sha256("two")
    memories.delete(first.id, memory_store_id=store.id, expected_content_sha256=sha256("two"))
    assert [memory.path for memory in memories.list(store.id)] == ["/z"]


def test_li_9_memories_are_listed_as_folders(client: anthropic.Anthropic) -> None:
    store = client.beta.memory_stores.create(name="notes")
    memories = client.beta.memory_stores.memories
    for path in ("/b", "/notes/1.md", "/notes/deep/2.md", "/notes/deep/3.md", "/notes-archive/4.md"):
        memories.create(store.id, path=path, content=path)
    for limit in (1, 2, 100):
        everything = list(memories.list(store.id, limit=limit, view="full"))
        assert [(memory.path, memory.content) for memory in everything] == [
            (path, path) for path in ("/b", "/notes-archive/4.md", "/notes/1.md", "/notes/deep/2.md", "/notes/deep/3.md")
        ]
        top = [(item.type, item.path) for item in memories.list(store.id, depth=1, limit=limit)]
        assert top == [("memory", "/b"), ("memory_prefix", "/notes-archive/"), ("memory_prefix", "/notes/")]
        within = [item.path for item in memories.list(store.id, depth=1, path_prefix="/notes/", limit=limit)]
        assert within == ["/notes/1.md", "/notes/deep/"]
    with pytest.raises(anthropic.BadRequestError):
        memories.list(store.id, depth=2)
    with pytest.raises(anthropic.BadRequestError):
        memories.list(store.id, path_prefix="/notes")


def test_me_8_and_me_10_every_change_is_a_version(client: anthropic.Anthropic, server: Server) -> None:
    store = client.beta.memory_stores.create(name="notes")
    memories, versions = client.beta.memory_stores.memories, client.beta.memory_stores.memory_versions
    made = memories.create(store.id, path="/a", content="secret")
    other = memories.create(store.id, path="/b", content="x")
    changed = memories.update(made.id, memory_store_id=store.id, content="public")
    memories.delete(other.id, memory_store_id=store.id)
    listed = list(versions.list(store.id, limit=1))
    assert [version.operation for version in listed] == ["deleted", "modified", "created", "created"]
    assert all(isinstance(version, BetaManagedAgentsMemoryVersion) for version in listed)
    assert listed[1].id == changed.memory_version_id
    keys = ask(server, "/v1/manyhands/keys")[1]["data"]
    (actor,) = {version.created_by.api_key_id for version in listed}
    assert actor in [key["id"] for key in keys]
    assert {version.created_by.type for version in listed} == {"api_actor"}
    assert [version.id for version in versions.list(store.id, memory_id=other.id)] == [listed[0].id, listed[2].id]
    assert [version.id for version in versions.list(store.id, operation="modified")] == [listed[1].id]
    assert len(list(versions.list(store.id, api_key_id=actor))) == 4
    assert list(versions.list(store.id, session_id="sesn_01none")) == []
    assert list(versions.list(store.id, service_account_id="svac_01none")) == []
    since = versions.list(store.id, created_at_gte=listed[1].created_at, created_at_lte=listed[1].created_at)
    assert [version.id for version in since] == [listed[1].id]
    whole = versions.list(store.id, view="full")
    assert [version.content for version in whole] == [None, "public", "x", "secret"]
    with pytest.raises(anthropic.BadRequestError):
        versions.redact(changed.memory_version_id, memory_store_id=store.id)
    redacted = versions.redact(made.memory_version_id, memory_store_id=store.id)
    gone = (redacted.path, redacted.content, redacted.content_sha256, redacted.content_size_bytes)
    assert gone == (None, None, None, None)
    assert redacted.redacted_at is not None and redacted.redacted_by.api_key_id == actor
    assert versions.retrieve(made.memory_version_id, memory_store_id=store.id) == redacted
    assert versions.retrieve(changed.memory_version_id, memory_store_id=store.id).content == "public"
    assert versions.retrieve(changed.memory_version_id, memory_store_id=store.id, view="basic").content is None


def test_scenario_22_what_a_session_has_and_who_wrote_what(client: anthropic.Anthropic) -> None:
    """ME-8, ME-10 to ME-13, LI-3: what the API shows; what the sandbox shows has stories of its own."""
    stores = client.beta.memory_stores
    shared = stores.create(name="Team Notes", description="Shared by all.")
    reference = stores.create(name="team notes")
    agent = client.beta.agents.create(
        name="helper", model="claude-opus-4-8", tools=[{"type": "agent_toolset_20260401"}]
    )
    environment = client.beta.environments.create(name="box")
    wanted = [
        {"type": "memory_store", "memory_store_id": shared.id, "instructions": "Write what you learn."},
        {"type": "memory_store", "memory_store_id": reference.id, "access": "read_only"},
    ]
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id, resources=wanted)
    one, two = session.resources
    assert (one.type, one.memory_store_id, one.access) == ("memory_store", shared.id, "read_write")
    assert (one.name, one.description, one.instructions) == ("Team Notes", "Shared by all.", "Write what you learn.")
    assert (one.mount_path, two.mount_path) == ("/mnt/memory/team-notes", "/mnt/memory/team-notes-2")
    assert (two.access, two.instructions, two.description) == ("read_only", None, "")
    assert not {"id", "created_at", "updated_at"} & set(one.to_dict())
    assert list(client.beta.sessions.resources.list(session.id)) == [one, two]
    stores.update(shared.id, name="renamed")
    assert client.beta.sessions.retrieve(session.id).resources == [one, two]
    plain = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    assert [found.id for found in client.beta.sessions.list(memory_store_id=shared.id)] == [session.id]
    made = stores.memories.create(shared.id, path="/a", content="x")
    stores.archive(shared.id)
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        client.beta.sessions.create(agent=agent.id, environment_id=environment.id, resources=wanted)
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        stores.memories.update(made.id, memory_store_id=shared.id, content="y")
    assert stores.memories.retrieve(made.id, memory_store_id=shared.id).content == "x"
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.create(agent=agent.id, environment_id=environment.id, resources=[wanted[1], wanted[1]])
    with pytest.raises(anthropic.NotFoundError):
        missing = [{"type": "memory_store", "memory_store_id": "memstore_01none"}]
        client.beta.sessions.create(agent=agent.id, environment_id=environment.id, resources=missing)
    for done in (session, plain):
        client.beta.sessions.delete(done.id)
    assert [memory.path for memory in stores.memories.list(shared.id)] == ["/a"]
    assert stores.delete(shared.id).type == "memory_store_deleted"


def test_scenario_29_beta_headers(client: anthropic.Anthropic, server: Server) -> None:
    """HT-1, HT-2, HT-6: no beta is 404, both of memory stores' values at once 400, both versions are taken."""

    def status(path: str, *betas: str, version: str = "2026-10-21") -> int:
        headers = {"anthropic-version": version}
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        return ask(server, path, **headers)[0]

    for version in ("2026-10-21", "2023-06-01"):
        assert status("/v1/memory_stores", NEW, version=version) == 200
        assert status("/v1/memory_stores", OLD, version=version) == 200
        assert status("/v1/agents", OLD, version=version) == 200
    for path in ("/v1/memory_stores", "/v1/agents", "/v1/sessions", "/v1/vaults"):
        assert status(path) == 404
        assert status(path, "something-else") == 404
    assert status("/v1/memory_stores", OLD, NEW) == 400
    assert status("/v1/memory_stores", NEW, OLD, "something-else") == 400
    assert status("/v1/sessions", OLD, NEW) == 200
    # The SDK adds its own value to a caller's.
    with pytest.raises(anthropic.BadRequestError):
        client.beta.memory_stores.list(betas=[OLD])
    assert list(client.beta.memory_stores.list(betas=[NEW])) == []
    assert list(client.beta.memory_stores.list(betas=["something-else"])) == []


def test_me_6_two_clients_lose_nothing(server: Server) -> None:
    """Each adds its lines to one memory, on the condition that nobody else has; whoever meets a conflict reads again."""
    each = 10

    async def work() -> tuple[str, list[str]]:
        async with anthropic.AsyncAnthropic(
            base_url=server.url, api_key=server.key, timeout=30, max_retries=0, _strict_response_validation=True
        ) as client:
            stores = client.beta.memory_stores
            store = await stores.create(name="log")
            memory = await stores.memories.create(store.id, path="/log", content="")

            async def write(name: str) -> None:
                for number in range(each):
                    while True:
                        now = await stores.memories.retrieve(memory.id, memory_store_id=store.id)
                        condition = {"type": "content_sha256", "content_sha256": now.content_sha256}
                        content = f"{now.content}{name}{number}\n"
                        try:
                            await stores.memories.update(
                                memory.id, memory_store_id=store.id, content=content, precondition=condition
                            )
                            break
                        except anthropic.ConflictError as conflict:
                            assert error_type(conflict) == "memory_precondition_failed_error"

            await asyncio.gather(write("a"), write("b"), write("c"))
            found = await stores.memories.retrieve(memory.id, memory_store_id=store.id)
            versions = [version async for version in stores.memory_versions.list(store.id, view="full")]
            return found.content or "", [version.content or "" for version in versions]

    content, versions = asyncio.run(work())
    lines = content.splitlines()
    assert sorted(lines) == sorted(f"{name}{number}" for name in "abc" for number in range(each))
    assert len(versions) == 3 * each + 1
    for later, earlier in zip(versions, versions[1:], strict=False):
        assert later.startswith(earlier) and len(later.splitlines()) == len(earlier.splitlines()) + 1
