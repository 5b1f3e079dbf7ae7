"""Every managed-agents call of the Python SDK, with its synchronous and its asynchronous client, strict about every answer.

One set of cells serves both: the asynchronous client is driven call by call.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import io
import urllib.request
import zipfile
from collections.abc import Callable

import anthropic
import inventory
from anthropic import beta_async_tool
from anthropic.lib.sessions import accumulate_managed_agents_event
from cells import Cells, NotThere, is_later, reason
from stories import BUILT_IN, MODEL, House, call, custom, replies, say, text, text_message, types

LATER_ARGUMENTS = {
    "environment_id": "env_01none",
    "work_id": "work_01none",
    "metadata": {"a": "b"},
    "deployment_id": "depl_01none",
    "deployment_run_id": "drun_01none",
    "agent": "agent_01none",
    "initial_events": [text_message("hello")],
    "name": "later",
    "dream_id": "drm_01none",
    "inputs": [],
    "model": MODEL,
    "tunnel_id": "tnl_01none",
    "certificate_id": "tcrt_01none",
    "ca_certificate_pem": "none",
    "webhook_endpoint_id": "whe_01none",
    "enabled_events": ["external_key.created"],
    "url": "https://hooks.example.com",
}


class Blocking:
    """An asynchronous client, or a part of it, that can be used like the synchronous one."""

    def __init__(self, target, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str):
        member = getattr(self._target, name)
        if not callable(member):
            return Blocking(member, self._loop)

        @functools.wraps(member)
        def called(*given, **named):
            return self._finished(member(*given, **named))

        return called

    def _finished(self, result):
        if hasattr(result, "__aiter__") and inspect.isawaitable(result):
            return self._loop.run_until_complete(collected(result))
        if inspect.isawaitable(result):
            result = self._loop.run_until_complete(result)
        return BlockingStream(result, self._loop) if hasattr(result, "__aiter__") else result


class BlockingStream:
    """The same for a stream."""

    def __init__(self, stream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop

    def __enter__(self) -> BlockingStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._stream.close())

    def __iter__(self) -> BlockingStream:
        return self

    def __next__(self):
        try:
            return self._loop.run_until_complete(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None


async def collected(pages) -> list:
    """All items of all pages."""
    return [item async for item in pages]


def ids(items) -> list[str]:
    """The ids of items, over all pages."""
    return [item.id for item in items]


def told(session) -> tuple:
    """What a session has been told to be; its figures grow while one looks."""
    return (session.id, session.title, session.metadata, session.vault_ids, session.agent, session.environment_id)


def refused(kind: type[Exception], ask: Callable, *given, **named) -> Exception:
    """The error that a request must be refused with."""
    try:
        ask(*given, **named)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got an answer")


class PythonRun:
    """One run of one client."""

    def __init__(self, house: House, client, cells: Cells) -> None:
        self.house = house
        self.client = client
        self.beta = client.beta
        self.cell = cells.cell
        self.tell = cells.result
        self.name = cells.client

    def run(self) -> None:
        """All cells; each group makes what it needs."""
        beta, client = self.beta, self.client
        groups = {
            "agents": self.agents,
            "environments": self.environments,
            "beta files": lambda: self.files("beta.files", beta.files),
            "files": lambda: self.files("files", client.files),
            "vaults": self.vaults,
            "credentials": self.credentials,
            "sessions": self.sessions,
            "events": self.events,
            "threads": self.threads,
            "resources": self.resources,
            "beta models": lambda: self.models("beta.models", beta.models),
            "models": lambda: self.models("models", client.models),
            "beta user profiles": lambda: self.user_profiles("beta.user_profiles", beta.user_profiles),
            "user profiles": lambda: self.user_profiles("user_profiles", client.user_profiles),
            "memory stores": self.memory_stores,
            "memories": self.memories,
            "beta skills": lambda: self.skills("beta.skills", beta.skills),
            "skills": lambda: self.skills("skills", client.skills),
            "unknown fields": self.unknown_fields,
            "webhooks": self.webhooks,
        }
        for name, group in groups.items():
            try:
                group()
            except Exception as error:
                self.tell(f"what the cells of {name} need", "red", reason(error))

    def agents(self) -> None:
        agents, tools = self.beta.agents, [BUILT_IN, custom("lookup")]
        with self.cell("beta.agents.create"):
            made = agents.create(
                name="Cell", model=MODEL, description="of a table", system="Be brief.", tools=tools, metadata={"a": "b"}
            )
            assert (made.name, made.description, made.system, made.metadata) == (
                "Cell", "of a table", "Be brief.", {"a": "b"},
            )  # fmt: skip
            assert (made.model.id, made.version, [tool.type for tool in made.tools]) == (
                MODEL, 1, ["agent_toolset_20260401", "custom"],
            )  # fmt: skip
        with self.cell("beta.agents.retrieve"):
            assert agents.retrieve(made.id) == made
            refused(anthropic.NotFoundError, agents.retrieve, "agent_01none")
        with self.cell("beta.agents.update"):
            changed = agents.update(made.id, version=made.version, name="Other", metadata={"a": None, "c": "d"})
            assert (changed.name, changed.metadata, changed.version, changed.system) == (
                "Other", {"c": "d"}, 2, "Be brief.",
            )  # fmt: skip
            assert agents.retrieve(made.id) == changed
            assert agents.retrieve(made.id, version=1).name == "Cell"
            refused(anthropic.ConflictError, agents.update, made.id, version=1, name="Late")
            assert agents.retrieve(made.id) == changed
        with self.cell("beta.agents.versions.list"):
            assert [agent.version for agent in agents.versions.list(made.id, limit=1)] == [2, 1]
        with self.cell("beta.agents.list"):
            second = agents.create(name="Second", model=MODEL)
            listed = list(agents.list(limit=1))
            assert ids(listed)[:2] == [second.id, made.id] and changed in listed
        with self.cell("beta.agents.archive"):
            archived = agents.archive(second.id)
            assert archived.id == second.id and archived.archived_at is not None
            assert second.id not in ids(agents.list())
            assert second.id in ids(agents.list(include_archived=True))

    def environments(self) -> None:
        environments = self.beta.environments
        with self.cell("beta.environments.create"):
            limited = {"type": "limited", "allowed_hosts": ["api.example.com"]}
            config = {"type": "cloud", "networking": limited}
            made = environments.create(name="cell", description="of a table", config=config, metadata={"a": "b"})
            assert (made.name, made.description, made.metadata) == ("cell", "of a table", {"a": "b"})
            assert (made.config.networking.type, made.config.networking.allowed_hosts) == ("limited", ["api.example.com"])
        with self.cell("beta.environments.retrieve"):
            assert environments.retrieve(made.id) == made
        with self.cell("beta.environments.update"):
            changed = environments.update(made.id, name="other", metadata={"a": None})
            assert (changed.name, changed.metadata, changed.config) == ("other", {}, made.config)
            assert environments.retrieve(made.id) == changed
        with self.cell("beta.environments.list"):
            second = environments.create(name="second")
            assert ids(environments.list(limit=1))[:2] == [second.id, made.id]
        with self.cell("beta.environments.archive"):
            assert environments.archive(second.id).archived_at is not None
            assert second.id not in ids(environments.list())
            assert second.id in ids(environments.list(include_archived=True))
        with self.cell("beta.environments.delete"):
            deleted = environments.delete(second.id)
            assert (deleted.id, deleted.type) == (second.id, "environment_deleted")
            refused(anthropic.NotFoundError, environments.retrieve, second.id)

    def files(self, name: str, files) -> None:
        with self.cell(f"{name}.upload"):
            made = files.upload(file=("notes.txt", b"one line\n", "text/plain"), expires_in_seconds=7200)
            assert (made.filename, made.mime_type, made.size_bytes) == ("notes.txt", "text/plain", 9)
            assert made.expires_at is not None
        with self.cell(f"{name}.retrieve_metadata"):
            assert files.retrieve_metadata(made.id) == made
        with self.cell(f"{name}.list"):
            second = files.upload(file=("b.bin", b"\x00\x01"))
            assert ids(files.list(limit=1))[:2] == [second.id, made.id]
            assert ids(files.list(ids=[made.id])) == [made.id]
        with self.cell(f"{name}.download"):
            # What a client has uploaded is not given back: the refusal is the documented answer, and its code is read.
            error = refused(anthropic.BadRequestError, files.download, made.id)
            assert error.body["error"]["details"]["error_code"] == "file_not_downloadable"
        with self.cell(f"{name}.delete"):
            deleted = files.delete(made.id)
            assert (deleted.id, deleted.type) == (made.id, "file_deleted")
            refused(anthropic.NotFoundError, files.retrieve_metadata, made.id)

    def vaults(self) -> None:
        vaults = self.beta.vaults
        with self.cell("beta.vaults.create"):
            made = vaults.create(display_name="keys", metadata={"a": "b"})
            assert (made.display_name, made.metadata, made.archived_at) == ("keys", {"a": "b"}, None)
        with self.cell("beta.vaults.retrieve"):
            assert vaults.retrieve(made.id) == made
        with self.cell("beta.vaults.update"):
            changed = vaults.update(made.id, display_name="other", metadata={"a": None})
            assert (changed.display_name, changed.metadata) == ("other", {})
            assert vaults.retrieve(made.id) == changed
        with self.cell("beta.vaults.list"):
            second = vaults.create(display_name="second")
            assert ids(vaults.list(limit=1))[:2] == [second.id, made.id]
        with self.cell("beta.vaults.archive"):
            assert vaults.archive(second.id).archived_at is not None
            assert second.id not in ids(vaults.list())
            assert second.id in ids(vaults.list(include_archived=True))
        with self.cell("beta.vaults.delete"):
            deleted = vaults.delete(second.id)
            assert (deleted.id, deleted.type) == (second.id, "vault_deleted")
            refused(anthropic.NotFoundError, vaults.retrieve, second.id)

    def credentials(self) -> None:
        credentials, vault = self.beta.vaults.credentials, self.beta.vaults.create(display_name="keys").id
        token = {"type": "static_bearer", "mcp_server_url": "https://mcp.invalid/v1", "token": "cell-secret"}
        with self.cell("beta.vaults.credentials.create"):
            made = credentials.create(vault, auth=token, display_name="one", metadata={"a": "b"})
            assert (made.vault_id, made.auth.type, made.auth.mcp_server_url) == (
                vault, "static_bearer", "https://mcp.invalid/v1",
            )  # fmt: skip
            assert (made.display_name, made.metadata) == ("one", {"a": "b"})
            assert "cell-secret" not in made.to_json()
        with self.cell("beta.vaults.credentials.retrieve"):
            assert credentials.retrieve(made.id, vault_id=vault) == made
        with self.cell("beta.vaults.credentials.update"):
            changed = credentials.update(made.id, vault_id=vault, display_name="two", metadata={"a": None})
            assert (changed.display_name, changed.metadata, changed.auth) == ("two", {}, made.auth)
            assert credentials.retrieve(made.id, vault_id=vault) == changed
        with self.cell("beta.vaults.credentials.list"):
            variable = {
                "type": "environment_variable",
                "secret_name": "API_KEY",
                "secret_value": "cell-secret",
                "networking": {"type": "limited", "allowed_hosts": ["api.example.com"]},
            }
            second = credentials.create(vault, auth=variable)
            assert second.auth.networking.allowed_hosts == ["api.example.com"]
            assert ids(credentials.list(vault, limit=1)) == [second.id, made.id]
        with self.cell("beta.vaults.credentials.mcp_oauth_validate"):
            oauth = {"type": "mcp_oauth", "mcp_server_url": "https://oauth.invalid/mcp", "access_token": "cell-secret"}
            third = credentials.create(vault, auth=oauth)
            tried = credentials.mcp_oauth_validate(third.id, vault_id=vault)
            # The server of it does not exist, which says nothing about the credential.
            assert (tried.credential_id, tried.vault_id, tried.status) == (third.id, vault, "unknown")
            assert tried.has_refresh_token is False
        with self.cell("beta.vaults.credentials.archive"):
            assert credentials.archive(second.id, vault_id=vault).archived_at is not None
            assert second.id not in ids(credentials.list(vault))
            assert second.id in ids(credentials.list(vault, include_archived=True))
        with self.cell("beta.vaults.credentials.delete"):
            deleted = credentials.delete(second.id, vault_id=vault)
            assert (deleted.id, deleted.type) == (second.id, "vault_credential_deleted")
            refused(anthropic.NotFoundError, credentials.retrieve, second.id, vault_id=vault)

    def session(self, **more):
        """A session of an agent with a tool of the client's own."""
        agent = self.beta.agents.create(name="Cell", model=MODEL, tools=[custom("lookup")])
        environment = self.beta.environments.create(name=f"of {agent.id}")
        return self.beta.sessions.create(agent=agent.id, environment_id=environment.id, **more)

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
        with self.cell("beta.sessions.archive"):
            assert sessions.archive(second.id).archived_at is not None
            assert second.id not in ids(sessions.list())
            assert second.id in ids(sessions.list(include_archived=True))
        with self.cell("beta.sessions.delete"):
            deleted = sessions.delete(second.id)
            assert (deleted.id, deleted.type) == (second.id, "session_deleted")
            refused(anthropic.NotFoundError, sessions.retrieve, second.id)

    def turn(self, stream: Callable, send: Callable, end: str = "session.status_idle") -> list:
        """Opens the stream, sends, and reads to the rest."""
        with stream() as events:
            send()
            seen = []
            for event in events:
                seen.append(event)
                if event.type == end:
                    return seen
        raise AssertionError(f"the stream ended after {types(seen)}")

    def events(self) -> None:
        events, made = self.beta.sessions.events, self.session()
        sent = []
        with self.cell("beta.sessions.events.stream"):
            seen = self.turn(
                lambda: events.stream(made.id, event_deltas=["agent.message"]),
                lambda: sent.append(events.send(made.id, events=[replies(say("Two words.", split_into=2))])),
            )
            (message,) = [event for event in seen if event.type == "agent.message"]
            assert text(message) == "Two words."
            assert {"event_start", "event_delta", "session.status_running"} <= set(types(seen))
        with self.cell("beta.sessions.events.send"):
            (stored,) = sent[0].data
            assert stored.type == "user.message" and text(stored).startswith("reply: ")
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
        with self.cell("beta.sessions.resources.delete"):
            deleted = resources.delete(added.id, session_id=made.id)
            assert (deleted.id, deleted.type) == (added.id, "session_resource_deleted")
            assert added.id not in ids(resources.list(made.id))

    def models(self, name: str, models) -> None:
        with self.cell(f"{name}.list"):
            listed = list(models.list(limit=1))
            assert MODEL in ids(listed) and len(listed) == len(set(ids(listed))) > 1
            assert ids(models.list(after_id=listed[0].id))[0] == listed[1].id
            assert ids(models.list(lifecycle=["retired"])) == []
        with self.cell(f"{name}.retrieve"):
            (one,) = [model for model in listed if model.id == MODEL]
            assert models.retrieve(MODEL) == one
            refused(anthropic.NotFoundError, models.retrieve, "no-such-model")

    def user_profiles(self, name: str, profiles) -> None:
        given, beta = {"name": "Ada", "access_type": "passthrough", "metadata": {"a": "b"}}, name.startswith("beta.")
        if beta:
            given |= {"external_id": "u-1", "external_user_onboarded_at": "2026-01-01T00:00:00Z"}
        else:
            details = {"reference_id": "u-1", "country": "AT", "entity_type": "individual", "account_status": "active"}
            given |= {"external_user_details": details}
        with self.cell(f"{name}.create"):
            made = profiles.create(**given)
            assert (made.name, made.access_type, made.metadata) == ("Ada", "passthrough", {"a": "b"})
            if beta:
                assert made.external_id == "u-1" and made.external_user_onboarded_at.year == 2026
            else:
                shown = made.external_user_details
                assert {name: getattr(shown, name) for name in details} == details and shown.email_hash is None
                assert made.enforcement_status == "unrestricted"
        with self.cell(f"{name}.retrieve"):
            assert profiles.retrieve(made.id) == made
        with self.cell(f"{name}.update"):
            changed = profiles.update(made.id, name="Grace", metadata={"a": "", "c": "d"})
            assert (changed.name, changed.metadata, changed.access_type) == ("Grace", {"c": "d"}, "passthrough")
            assert profiles.retrieve(made.id) == changed
        with self.cell(f"{name}.list"):
            second = profiles.create(name="Aaron")
            assert ids(profiles.list(limit=1))[:2] == [second.id, made.id]
            names = [profile.name for profile in profiles.list(limit=1, order="asc", order_by="name") if profile.name]
            assert names == sorted(names) and {"Aaron", "Grace"} <= set(names)
        if beta:
            with self.cell(f"{name}.create_enrollment_url"):
                link = profiles.create_enrollment_url(made.id)
                assert link.url.startswith(f"{self.house.server.url}/enroll/") and link.expires_at > made.created_at
                assert "nothing to do" in self.page(link.url)
        with self.cell(f"{name}.action_urls.create"):
            link = profiles.action_urls.create(made.id, action={"type": "enroll_end_user"})
            assert link.type == "user_profile_action_url" and "nothing to do" in self.page(link.url)
        with self.cell(f"{name}.delete"):
            deleted = profiles.delete(second.id)
            assert (deleted.id, deleted.type) == (second.id, "user_profile_deleted")
            refused(anthropic.NotFoundError, profiles.retrieve, second.id)

    def page(self, url: str) -> str:
        """What a person sees who opens a link."""
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode()

    def memory_stores(self) -> None:
        stores = self.beta.memory_stores
        with self.cell("beta.memory_stores.create"):
            made = stores.create(name="notes", description="of cells", metadata={"a": "b"})
            assert (made.name, made.description, made.metadata) == ("notes", "of cells", {"a": "b"})
        with self.cell("beta.memory_stores.retrieve"):
            assert stores.retrieve(made.id) == made
        with self.cell("beta.memory_stores.update"):
            changed = stores.update(made.id, name="other", description="", metadata={"a": None})
            assert (changed.name, changed.description, changed.metadata) == ("other", "", {})
            assert stores.retrieve(made.id) == changed
        with self.cell("beta.memory_stores.list"):
            second = stores.create(name="second", description="")
            assert ids(stores.list(limit=1))[:2] == [second.id, made.id]
        with self.cell("beta.memory_stores.archive"):
            assert stores.archive(second.id).archived_at is not None
            assert second.id not in ids(stores.list())
            assert second.id in ids(stores.list(include_archived=True))
            refused(anthropic.BadRequestError, stores.update, second.id, name="late")
        with self.cell("beta.memory_stores.delete"):
            deleted = stores.delete(second.id)
            assert (deleted.id, deleted.type) == (second.id, "memory_store_deleted")
            refused(anthropic.NotFoundError, stores.retrieve, second.id)

    def memories(self) -> None:
        store = self.beta.memory_stores.create(name="cells", description="").id
        memories, versions = self.beta.memory_stores.memories, self.beta.memory_stores.memory_versions
        named = {"memory_store_id": store}
        digest = lambda content: hashlib.sha256(content.encode()).hexdigest()  # noqa: E731
        with self.cell("beta.memory_stores.memories.create"):
            made = memories.create(store, path="/a/one.md", content="ein Häuschen\n", view="full")
            assert (made.path, made.content, made.content_sha256, made.content_size_bytes) == (
                "/a/one.md", "ein Häuschen\n", digest("ein Häuschen\n"), 14,
            )  # fmt: skip
            taken = refused(anthropic.ConflictError, memories.create, store, path="/a/one.md", content="x")
            assert taken.body["error"]["type"] == "memory_path_conflict_error"
        with self.cell("beta.memory_stores.memories.retrieve"):
            assert memories.retrieve(made.id, **named) == made
            assert memories.retrieve(made.id, **named, view="basic").content is None
        with self.cell("beta.memory_stores.memories.update"):
            held = {"type": "content_sha256", "content_sha256": made.content_sha256}
            changed = memories.update(made.id, **named, content="zwei", path="/a/two.md", precondition=held, view="full")
            assert (changed.id, changed.path, changed.content) == (made.id, "/a/two.md", "zwei")
            assert memories.retrieve(made.id, **named) == changed
            late = refused(anthropic.ConflictError, memories.update, made.id, **named, content="x", precondition=held)
            assert late.body["error"]["type"] == "memory_precondition_failed_error"
        with self.cell("beta.memory_stores.memories.list"):
            top = memories.create(store, path="/top.md", content="t")
            assert [item.path for item in memories.list(store, limit=1, view="full")] == ["/a/two.md", "/top.md"]
            assert [(item.type, item.path) for item in memories.list(store, depth=1)] == [
                ("memory_prefix", "/a/"), ("memory", "/top.md"),
            ]  # fmt: skip
            assert ids(memories.list(store, path_prefix="/a/")) == [made.id]
        with self.cell("beta.memory_stores.memories.delete"):
            deleted = memories.delete(top.id, **named, expected_content_sha256=digest("t"))
            assert (deleted.id, deleted.type) == (top.id, "memory_deleted")
            refused(anthropic.NotFoundError, memories.retrieve, top.id, **named)
        with self.cell("beta.memory_stores.memory_versions.list"):
            listed = list(versions.list(store, memory_id=made.id, limit=1))
            assert [version.operation for version in listed] == ["modified", "created"]
            assert listed[0].id == changed.memory_version_id and listed[0].created_by.type == "api_actor"
            assert [version.memory_id for version in versions.list(store, operation="deleted")] == [top.id]
        with self.cell("beta.memory_stores.memory_versions.retrieve"):
            first = versions.retrieve(listed[1].id, **named)
            assert (first.content, first.path, first.id) == ("ein Häuschen\n", "/a/one.md", listed[1].id)
        with self.cell("beta.memory_stores.memory_versions.redact"):
            redacted = versions.redact(first.id, **named)
            assert (redacted.id, redacted.content, redacted.path) == (first.id, None, None)
            assert redacted.redacted_at is not None and versions.retrieve(first.id, **named) == redacted

    def skills(self, name: str, skills) -> None:
        slug = f"cell-{name.replace('.', '-')}-{self.name}"

        def folder(told: str) -> list:
            head = f"---\nname: {slug}\ndescription: {told}\n---\n{told}\n"
            return [(f"{slug}/SKILL.md", head.encode()), (f"{slug}/scripts/run.sh", b"echo hello\n")]

        with self.cell(f"{name}.create"):
            made = skills.create(display_name="A cell", files=folder("First."))
            assert (made.display_name, made.source.type) == ("A cell", "custom")
        with self.cell(f"{name}.retrieve"):
            assert skills.retrieve(made.id) == made
        with self.cell(f"{name}.list"):
            listed = list(skills.list(limit=1, source="custom"))
            assert made in listed and all(skill.source.type == "custom" for skill in listed)
        with self.cell(f"{name}.versions.create"):
            second = skills.versions.create(made.id, files=folder("Second."))
            assert (second.skill_id, second.name, second.description) == (made.id, slug, "Second.")
            assert skills.retrieve(made.id).latest_version_id == second.id
        with self.cell(f"{name}.versions.retrieve"):
            assert skills.versions.retrieve(second.id, skill_id=made.id) == second
            assert skills.versions.retrieve("latest", skill_id=made.id) == second
            first = skills.versions.retrieve(made.latest_version_id, skill_id=made.id)
            assert first.description == "First."
        with self.cell(f"{name}.versions.list"):
            assert set(ids(skills.versions.list(made.id, limit=1))) == {first.id, second.id}
        if name.startswith("beta."):
            with self.cell(f"{name}.versions.download"):
                packed = skills.versions.download(first.id, skill_id=made.id).read()
                packed = self.client._loop.run_until_complete(packed) if inspect.isawaitable(packed) else packed
                with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                    assert sorted(archive.namelist()) == sorted(path for path, _ in folder(""))
                    assert archive.read(f"{slug}/SKILL.md") == folder("First.")[0][1]
        with self.cell(f"{name}.versions.delete"):
            deleted = skills.versions.delete(first.id, skill_id=made.id)
            assert (deleted.id, deleted.type) == (first.id, "skill_version_deleted")
            assert ids(skills.versions.list(made.id)) == [second.id]
        with self.cell(f"{name}.delete"):
            deleted = skills.delete(made.id)
            assert (deleted.id, deleted.type) == (made.id, "skill_deleted")
            refused(anthropic.NotFoundError, skills.retrieve, made.id)

    def unknown_fields(self) -> None:
        with self.cell("unknown fields in a request"):
            body = {"of_the_future": {"a": [1]}}
            made = self.beta.agents.create(name="Future", model=MODEL, extra_body=body, extra_query={"of_the_future": "1"})
            assert self.beta.agents.retrieve(made.id) == made and made.name == "Future"

    def later(self, calls: list[str]) -> None:
        """Each call of what the server does not have answers 501 in the contract's envelope, and says not to retry."""
        for name in filter(is_later, calls):
            asked = self.client
            for part in name.split("."):
                asked = getattr(asked, part)
            with self.cell(name):
                if name.endswith((".poller", ".worker")):
                    # They would ask for work again and again; what they ask first is what is not there.
                    asked = self.beta.environments.work.poll
                parameters = inspect.signature(asked).parameters.values()
                given = {one.name: LATER_ARGUMENTS[one.name] for one in parameters if one.default is one.empty}
                error = refused(anthropic.InternalServerError, asked, **given)
                assert (error.status_code, error.body["error"]["type"]) == (501, "api_error")
                assert error.response.headers["x-should-retry"] == "false"
                raise NotThere

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

    def webhooks(self) -> None:
        for call_name in ("beta.webhooks.parse_unverified", "beta.webhooks.unwrap"):
            self.tell(call_name, "local", "")


def run_sync(house: House, tell: Callable[[dict], None]) -> list[str]:
    """All cells of the synchronous client; gives its calls."""
    client = house.client()
    run = PythonRun(house, client, Cells("python", tell))
    calls = inventory.python(client)
    run.run()
    run.later(calls)
    return calls


def run_async(house: House, tell: Callable[[dict], None]) -> list[str]:
    """All cells of the asynchronous client; gives its calls."""
    with asyncio.Runner() as runner:
        loop, client = runner.get_loop(), house.async_client()
        run = PythonRun(house, Blocking(client, loop), Cells("python-async", tell))
        calls = inventory.python(client)
        run.run()
        run.later(calls)
        run.tool_runner(client, loop)
        loop.run_until_complete(client.close())
    return calls
