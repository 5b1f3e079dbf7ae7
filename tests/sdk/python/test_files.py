"""Files through the official SDK: sent, mounted, written by an agent, and gone with their session."""

from __future__ import annotations

import asyncio
import uuid

import anthropic
import pytest
from stories import BUILT_IN, MODEL, House, Story, bash, call, every, replies, say, text, told_stub, until

from programs import Server


def run(command: str) -> dict:
    """The message that has the model run a command."""
    return replies(call(bash(command)), say("Done."))


def test_files_are_sent_listed_and_removed(house: House) -> None:
    """HT-5, FI-8: both forms of the client, strict about every answer."""
    client = house.client()
    content = uuid.uuid4().bytes * 100
    for files in (client.beta.files, client.files):
        sent = files.upload(file=("data.csv", content, "text/csv"))
        assert (sent.type, sent.filename, sent.mime_type) == ("file", "data.csv", "text/csv")
        assert (sent.size_bytes, sent.downloadable, sent.expires_at) == (len(content), False, None)
        assert files.retrieve_metadata(sent.id) == sent
        assert sent.id in [file.id for file in files.list(limit=1000)]
        assert [file.id for file in files.list(ids=[sent.id, "file_01none"])] == [sent.id]
        with pytest.raises(anthropic.BadRequestError) as refused:
            files.download(sent.id)
        assert refused.value.body["error"]["details"]["error_code"] == "file_not_downloadable"
        assert files.delete(sent.id).id == sent.id
        with pytest.raises(anthropic.NotFoundError):
            files.retrieve_metadata(sent.id)
    kept = client.beta.files.upload(file=b"no name at all", expires_in_seconds=3600)
    assert kept.filename == "unnamed" and kept.expires_at is not None
    assert (kept.expires_at - kept.created_at).total_seconds() == 3600
    client.beta.files.delete(kept.id)


def test_old_clients_walk_by_ids(house: House) -> None:
    """runtime HT-5: the old beta value, and cursors that are ids."""
    client = house.client()
    sent = [client.beta.files.upload(file=(f"{n}.txt", b"x")).id for n in range(3)]
    path = f"/v1/files?limit=1&after_id={sent[2]}"
    old = client.with_options(default_headers={"anthropic-beta": "files-api-2025-04-14"})
    page = old.get(path, cast_to=object)
    assert (page["first_id"], page["last_id"], page["has_more"]) == (sent[1], sent[1], True)
    for file in sent:
        client.beta.files.delete(file)


def test_scenario_14_and_21_outputs_live_as_long_as_their_session(house: House) -> None:
    """FI-1, FI-2, FI-5, ID-3, UP-8, EN-16, EN-20: scenarios 14 and 21."""
    client = house.client()
    rows = "".join(f"{n},{n * n}\n" for n in range(1000)).encode()
    original = client.beta.files.upload(file=("squares.csv", rows, "text/csv"))
    story = Story(house, resources=[{"type": "file", "file_id": original.id, "mount_path": "/in/squares.csv"}])
    [resource] = story.session.resources
    assert resource.mount_path == "/mnt/session/uploads/in/squares.csv"
    assert resource.file_id != original.id
    assert client.beta.sessions.retrieve(story.id).resources == [resource]

    story.turn(run("sort -rn /mnt/session/uploads/in/squares.csv > /mnt/session/outputs/sorted.csv; echo sorted"))
    assert text(every(story.seen, "agent.tool_result")[-1]) == "sorted"
    story.turn(run("echo x > /mnt/session/uploads/in/squares.csv || echo refused"))
    assert "refused" in text(every(story.seen, "agent.tool_result")[-1])

    def outputs() -> list:
        return [file for file in client.beta.files.list(scope_id=story.id) if file.downloadable]

    [output] = until("the output is listed", outputs)
    assert (output.filename, output.mime_type) == ("sorted.csv", "text/csv")
    assert (output.scope.type, output.scope.id) == ("session", story.id)
    read = client.beta.files.download(output.id)
    assert read.read() == b"".join(sorted(rows.splitlines(keepends=True), key=lambda row: -int(row.split(b",")[0])))

    story.close()
    stream = client.beta.sessions.events.stream(story.id)
    client.beta.sessions.delete(story.id)
    assert [event.type for event in stream] == ["session.deleted"]
    for gone in (output.id, resource.file_id):
        with pytest.raises(anthropic.NotFoundError):
            client.beta.files.retrieve_metadata(gone)
    assert list(client.beta.files.list(scope_id=story.id)) == []
    assert client.beta.files.retrieve_metadata(original.id) == original
    client.beta.files.delete(original.id)


def test_resources_come_and_go_while_a_session_lives(house: House) -> None:
    """FI-4: added and removed in a live sandbox."""
    client = house.client()
    file = client.beta.files.upload(file=("note.txt", b"by hand\n"))
    story = Story(house)
    story.turn(run("ls /mnt/session/uploads; echo empty"))
    resources = client.beta.sessions.resources
    added = resources.add(story.id, type="file", file_id=file.id, mount_path="note.txt")
    assert added.mount_path == "/mnt/session/uploads/note.txt"
    assert [resource.id for resource in resources.list(story.id)] == [added.id]
    assert resources.retrieve(added.id, session_id=story.id) == added
    story.turn(run("cat /mnt/session/uploads/note.txt"))
    assert text(every(story.seen, "agent.tool_result")[-1]) == "by hand"
    with pytest.raises(anthropic.BadRequestError):
        resources.update(added.id, session_id=story.id, authorization_token="none")
    gone = resources.delete(added.id, session_id=story.id)
    assert (gone.id, gone.type) == (added.id, "session_resource_deleted")
    story.turn(run("ls -A /mnt/session/uploads | wc -l"))
    assert text(every(story.seen, "agent.tool_result")[-1]) == "0"
    with pytest.raises(anthropic.NotFoundError):
        resources.retrieve(added.id, session_id=story.id)
    story.close()
    client.beta.files.delete(file.id)


def test_the_async_client_sends_mounts_and_lists(house: House) -> None:
    """FI-1, FI-8 with the asynchronous client."""

    async def work() -> None:
        async with house.async_client() as client:
            file = await client.beta.files.upload(file=("a.txt", b"a"))
            agent = await client.beta.agents.create(name="Async", model=MODEL, tools=[BUILT_IN])
            environment = await client.beta.environments.create(name="async")
            session = await client.beta.sessions.create(
                agent=agent.id,
                environment_id=environment.id,
                resources=[{"type": "file", "file_id": file.id}],
            )
            [resource] = [resource async for resource in client.beta.sessions.resources.list(session.id)]
            assert resource.mount_path == f"/mnt/session/uploads/{resource.file_id}"
            scoped = [each.id async for each in client.beta.files.list(scope_id=session.id)]
            assert scoped == [resource.file_id]
            await client.beta.sessions.delete(session.id)
            await client.beta.files.delete(file.id)

    asyncio.run(work())


def test_fi_6_outputs_survive_a_kill_right_after_the_rest(tmp_path) -> None:
    """FI-6: whatever the killed server had of the capture, the next one makes it."""
    stub = told_stub(tmp_path / "stub.log")
    config = tmp_path / "manyhands.toml"
    config.write_text(
        f'[[models]]\nid = "{MODEL}"\nprovider = "anthropic"\nbase_url = "{stub.url}"\nkey = {{ env = "KEY" }}\n'
    )
    server = Server({"MANYHANDS_CONFIG": str(config), "KEY": "stub"})
    try:
        client = anthropic.Anthropic(base_url=server.url, api_key=server.key)
        agent = client.beta.agents.create(name="Survivor", model=MODEL, tools=[BUILT_IN])
        environment = client.beta.environments.create(name="survivor")
        for turn in range(3):
            session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
            size = 40_000_000 + turn
            with client.beta.sessions.events.stream(session.id) as stream:
                command = f"head -c {size} /dev/zero > /mnt/session/outputs/zeros"
                client.beta.sessions.events.send(session.id, events=[run(command)])
                for event in stream:
                    if event.type == "session.status_idle":
                        break
            server.kill_and_start()
            client = anthropic.Anthropic(base_url=server.url, api_key=server.key)
            [output] = until("the output is listed", lambda: list(client.beta.files.list(scope_id=session.id)))
            assert (output.filename, output.size_bytes) == ("zeros", size)
            assert client.beta.files.download(output.id).read() == bytes(size)
            client.beta.sessions.delete(session.id)
    finally:
        server.remove()
        assert stub.terminate() == 0
