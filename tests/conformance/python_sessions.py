"""Sessions, and all that is of one."""

from __future__ import annotations

import asyncio

import anthropic
from anthropic import beta_async_tool
from anthropic.lib.sessions import accumulate_managed_agents_event
from python_base import Run, ids, refused, told
from stories import call, replies, say, text, types


class Sessions(Run):
    """Their cells."""

    def sessions(self) -> None:
        sessions = self.beta.sessions
        with self.cell("beta.sessions.create"):
            vault = self.beta.vaults.create(display_name="keys").id
            made = self.session(title="cell", metadata={"a": "b"}, vault_ids=[vault])
            assert (made.title, made.metadata, made.vault_ids, made.status) == ("cell", {"a": "b"}, [vault], "idle")
            assert (made.agent.name, made.agent.version) == ("Cell", 1)
        with self.cell("beta.sessions.retrieve"):
            assert told(sessions.retrieve(made.id)) == told(made)
        with self.cell("beta.sessions.update"):
            changed = sessions.update(made.id, title="other", metadata={"a": None, "c": "d"})
            assert (changed.title, changed.metadata) == ("other", {"c": "d"})
            assert told(sessions.retrieve(made.id)) == told(changed)
        with self.cell("beta.sessions.list"):
            second = self.session()
            assert ids(sessions.list(limit=1))[:2] == [second.id, made.id]
            assert ids(sessions.list(agent_id=made.agent.id, statuses=["idle"])) == [made.id]
            assert ids(sessions.list(agent_id=made.agent.id, statuses=["running"])) == []
        self.ends("beta.sessions", sessions, second)

    def events(self) -> None:
        events, made = self.beta.sessions.events, self.session()
        sent, text_sent = [], replies(say("Two words.", split_into=2))
        with self.cell("beta.sessions.events.stream"):
            seen = self.turn(
                lambda: events.stream(made.id, event_deltas=["agent.message"]),
                lambda: sent.append(events.send(made.id, events=[text_sent])),
            )
            (message,) = [event for event in seen if event.type == "agent.message"]
            assert text(message) == "Two words."
            assert {"event_start", "event_delta", "session.status_running"} <= set(types(seen))
        with self.cell("beta.sessions.events.send"):
            (stored,) = sent[0].data
            assert (stored.type, text(stored)) == ("user.message", text_sent["content"][0]["text"])
        with self.cell("beta.sessions.events.list"):
            listed = list(events.list(made.id, limit=2))
            assert [event.id for event in listed if event.type == "user.message"] == [stored.id]
            last = {event.id: event for event in seen if getattr(event, "id", None)}
            assert [last[event.id] for event in listed if event.id in last] == listed
            assert ids(events.list(made.id, order="desc")) == ids(listed)[::-1]
            assert ids(events.list(made.id, types=["agent.message"])) == [message.id]
        with self.cell("helper: accumulate_managed_agents_event"):
            snapshot = None
            for event in seen:
                snapshot = accumulate_managed_agents_event(snapshot, event)
                if event.type == "agent.message":
                    assert snapshot == event
            assert any(event.type == "event_delta" for event in seen)

    def threads(self) -> None:
        made, threads = self.session(), self.beta.sessions.threads
        with self.cell("beta.sessions.threads.list"):
            (primary,) = list(threads.list(made.id))
            assert primary.session_id == made.id and primary.status == "idle"
        with self.cell("beta.sessions.threads.retrieve"):
            assert threads.retrieve(primary.id, session_id=made.id) == primary
        with self.cell("beta.sessions.threads.events.stream"):
            seen = self.turn(
                lambda: threads.events.stream(primary.id, session_id=made.id),
                lambda: self.beta.sessions.events.send(made.id, events=[replies(say("Said."))]),
                end="session.thread_status_idle",
            )
            assert [text(event) for event in seen if event.type == "agent.message"] == ["Said."]
        with self.cell("beta.sessions.threads.events.list"):
            listed = list(threads.events.list(primary.id, session_id=made.id, limit=2))
            shown = {event.id for event in listed}
            assert shown >= {event.id for event in seen if event.type == "agent.message"}
            assert [text(event) for event in listed if event.type == "agent.message"] == ["Said."]
        with self.cell("beta.sessions.threads.archive"):
            # The one thread there is cannot be archived by itself; the session goes on.
            error = refused(anthropic.BadRequestError, threads.archive, primary.id, session_id=made.id)
            assert "session" in str(error)
            assert threads.retrieve(primary.id, session_id=made.id).status == "idle"

    def resources(self) -> None:
        resources = self.beta.sessions.resources
        repository = {
            "type": "github_repository",
            "url": "https://github.com/acme/tools",
            "authorization_token": "cell-secret",
        }
        made = self.session(resources=[repository])
        with self.cell("beta.sessions.resources.add"):
            file = self.beta.files.upload(file=("a.txt", b"a"))
            added = resources.add(made.id, type="file", file_id=file.id, mount_path="/mnt/data/a.txt")
            assert added.type == "file" and added.mount_path.endswith("/a.txt")
            # The session has a copy of its own.
            assert self.beta.files.retrieve_metadata(added.file_id).filename == "a.txt"
        with self.cell("beta.sessions.resources.list"):
            listed = list(resources.list(made.id, limit=1))
            assert {resource.type for resource in listed} == {"file", "github_repository"}
            (cloned,) = [resource for resource in listed if resource.type == "github_repository"]
            assert cloned.url == repository["url"] and "cell-secret" not in cloned.to_json()
        with self.cell("beta.sessions.resources.retrieve"):
            assert resources.retrieve(added.id, session_id=made.id) == added
        with self.cell("beta.sessions.resources.update"):
            changed = resources.update(cloned.id, session_id=made.id, authorization_token="cell-secret-2")
            assert (changed.id, changed.url) == (cloned.id, cloned.url)
            assert "cell-secret" not in changed.to_json()
            assert resources.retrieve(cloned.id, session_id=made.id) == changed
        with self.cell("beta.sessions.resources.delete"):
            deleted = resources.delete(added.id, session_id=made.id)
            assert (deleted.id, deleted.type) == (added.id, "session_resource_deleted")
            assert added.id not in ids(resources.list(made.id))

    def tool_runner(self, client: anthropic.AsyncAnthropic, loop: asyncio.AbstractEventLoop) -> None:
        """The helper that answers calls of the client's own tools."""
        with self.cell("beta.sessions.events.tool_runner"):
            made = self.session()

            @beta_async_tool
            async def lookup(word: str) -> str:
                """Looks a word up.

                Args:
                    word: The word.
                """
                return f"{word} has five fingers"

            async def work() -> list:
                ask = replies(call(("lookup", {"word": "hand"})), say("Found."))
                await client.beta.sessions.events.send(made.id, events=[ask])
                runner = client.beta.sessions.events.tool_runner(made.id, tools=[lookup], max_idle=0.1)
                return [dispatched async for dispatched in runner]

            (dispatched,) = loop.run_until_complete(work())
            assert dispatched.posted and not dispatched.is_error
            listed = list(self.beta.sessions.events.list(made.id))
            (answer,) = [event for event in listed if event.type == "user.custom_tool_result"]
            assert text(answer) == "hand has five fingers" and answer.custom_tool_use_id == dispatched.tool_use_id
            assert text([event for event in listed if event.type == "agent.message"][-1]) == "Found."
