"""Every managed-agents command of the official `ant` CLI, as people and scripts use it: YAML on standard input, flags, `--transform`
and `--format`, streams."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import queue
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Callable

import inventory
from cells import Cells, NotThere, is_later, reason
from stories import MODEL, House, replies, say

SECONDS = 30
# All pages, of one item each: what only limits a page in some commands also ends the whole list in others.
PAGED = ("--limit", "1", "--max-items", "-1")
# How often a stream is told something, and how long its silence may be each time.
TURNS, SILENCE = 10, 2

# What commands of later resources ask for beside ids.
LATER = {
    "--agent": "agent_01none",
    "--initial-event": "{type: user.message, content: [{type: text, text: hello}]}",
    "--name": "later",
    "--input": "{type: memory_store, memory_store_id: memstore_01none}",
    "--model": MODEL,
    "--metadata": "{a: b}",
    "--ca-certificate-pem": "none",
}


class Refused(Exception):
    """A command that ended with an error; its words are the server's."""


class AntRun:
    """One run of the CLI."""

    def __init__(self, house: House, program: str, folder: pathlib.Path, cells: Cells) -> None:
        self.house = house
        self.command = (program, "--base-url", house.server.url)
        self.folder = folder
        self.cell = cells.cell
        self.tell = cells.result
        # Of the caller's environment it sees no more: profiles and keys of a developer must change nothing.
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "ANTHROPIC_API_KEY": house.server.key,
        }

    def raw(self, group: str, command: str, *flags: str, given: str = "", top: tuple[str, ...] = ("--format", "jsonl")) -> str:
        """What a command prints."""
        arguments = [*self.command, *top, group, command, *flags]
        done = subprocess.run(
            arguments, env=self.environment, input=given, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)
        return done.stdout

    def all(self, group: str, command: str, *flags: str, given: dict | None = None) -> list[dict]:
        """The items that a command prints, over all pages."""
        printed = self.raw(group, command, *flags, given=json.dumps(given) if given else "")
        return [json.loads(line) for line in printed.splitlines()]

    def one(self, group: str, command: str, *flags: str, given: dict | None = None) -> dict:
        """The one item that a command prints."""
        (item,) = self.all(group, command, *flags, given=given)
        return item

    def refused(self, status: int, group: str, command: str, *flags: str, given: dict | None = None) -> str:
        """The words of a refusal that a command must end with."""
        try:
            self.all(group, command, *flags, given=given)
        except Refused as error:
            assert f" {status} " in str(error), error
            return str(error)
        raise AssertionError(f"expected {status}, got an answer")

    def run(self, calls: list[str]) -> None:
        """All cells; each group makes what it needs."""
        groups: list[Callable[[], None]] = [
            self.agents, self.environments, self.sessions, self.events, self.threads, self.resources, self.files,
            self.vaults, self.credentials, self.memory_stores, self.memories, self.skills, self.user_profiles, self.models,
        ]  # fmt: skip
        for group in groups:
            try:
                group()
            except Exception as error:
                self.tell(f"what the cells of {group.__name__} need", "red", reason(error))
        self.later(calls)

    def lives(self, group: str, flag: str, given: dict, changes: dict, *, ends: tuple[str, ...] = ("archive", "delete")) -> dict:
        """The cells that most resources have: created, read, changed, listed, archived, deleted."""
        name = group.replace(":", ".").replace("-", "_")
        holds = lambda shown, wanted: {key: shown[key] for key in wanted} == wanted  # noqa: E731
        with self.cell(f"{name}.create"):
            made = self.one(group, "create", given=given)
            assert holds(made, given), made
        with self.cell(f"{name}.retrieve"):
            assert self.one(group, "retrieve", flag, made["id"]) == made
        with self.cell(f"{name}.update"):
            changed = self.one(group, "update", flag, made["id"], given=changes)
            assert holds(changed, changes), changed
            assert self.one(group, "retrieve", flag, made["id"]) == changed
        with self.cell(f"{name}.list"):
            second = self.one(group, "create", given=given)
            ids = [item["id"] for item in self.all(group, "list", *PAGED)]
            assert ids[0] == second["id"] and made["id"] in ids
        if "archive" in ends:
            with self.cell(f"{name}.archive"):
                assert self.one(group, "archive", flag, second["id"])["archived_at"]
                assert second["id"] not in [item["id"] for item in self.all(group, "list")]
                assert second["id"] in [item["id"] for item in self.all(group, "list", "--include-archived")]
        if "delete" in ends:
            with self.cell(f"{name}.delete"):
                deleted = self.one(group, "delete", flag, second["id"])
                assert deleted["id"] == second["id"] and deleted["type"].endswith("_deleted")
                self.refused(404, group, "retrieve", flag, second["id"])
        return made

    def agents(self) -> None:
        group, flag = "beta:agents", "--agent-id"
        made = self.agent()
        with self.cell("beta.agents.retrieve"):
            assert self.one(group, "retrieve", flag, made["id"]) == made
        with self.cell("beta.agents.update"):
            changed = self.one(group, "update", flag, made["id"], "--version", "1", "--name", "Other")
            assert (changed["name"], changed["version"], changed["system"]) == ("Other", 2, made["system"])
            assert self.one(group, "retrieve", flag, made["id"]) == changed
        with self.cell("helper: update with the version lock"):
            assert "conflict_error" in self.refused(409, group, "update", flag, made["id"], "--version", "1", "--name", "Late")
            assert self.one(group, "retrieve", flag, made["id"]) == changed
        with self.cell("beta.agents.versions.list"):
            listed = self.all("beta:agents:versions", "list", flag, made["id"], *PAGED)
            assert [agent["version"] for agent in listed] == [2, 1]
        second = self.agent()
        with self.cell("beta.agents.list"):
            ids = [agent["id"] for agent in self.all(group, "list", *PAGED)]
            assert ids[0] == second["id"] and made["id"] in ids
        with self.cell("helper: list with --transform and --format"):
            told = self.raw(group, "list", *PAGED, top=("--format", "yaml", "--transform", "{id,name}"))
            assert f"id: {made['id']}\nname: Other\n" in told, told
            told = self.raw(group, "retrieve", flag, made["id"], top=("--transform", "name", "--raw-output"))
            assert told == "Other\n"
        with self.cell("beta.agents.archive"):
            assert self.one(group, "archive", flag, second["id"])["archived_at"]
            assert second["id"] not in [agent["id"] for agent in self.all(group, "list")]

    def agent(self) -> dict:
        """An agent, created from YAML on standard input."""
        yaml = f"""
name: Cell
model: {MODEL}
system: |
  Be brief.
  Say so.
metadata: {{a: b}}
tools:
  - type: custom
    name: lookup
    description: Looks a word up.
    input_schema: {{type: object, properties: {{word: {{type: string}}}}}}
"""
        with self.cell("beta.agents.create"):
            made = json.loads(self.raw("beta:agents", "create", given=yaml))
            assert (made["name"], made["system"], made["metadata"]) == ("Cell", "Be brief.\nSay so.\n", {"a": "b"})
            assert (made["model"]["id"], made["tools"][0]["name"]) == (MODEL, "lookup")
        return made

    def environments(self) -> None:
        given = {"name": "cell-ant", "description": "of a table", "metadata": {"a": "b"}}
        self.lives("beta:environments", "--environment-id", given, {"name": "other-ant", "description": "changed"})

    def session(self, **more: object) -> dict:
        """A session of an agent with a tool of the client's own."""
        agent = self.agent()
        environment = self.one("beta:environments", "create", given={"name": f"of {agent['id']}"})
        return self.one("beta:sessions", "create", given={"agent": agent["id"], "environment_id": environment["id"], **more})

    def sessions(self) -> None:
        group, flag = "beta:sessions", "--session-id"
        given = lambda session: {key: session[key] for key in ("id", "title", "metadata", "agent", "vault_ids")}  # noqa: E731
        with self.cell("beta.sessions.create"):
            made = self.session(title="cell", metadata={"a": "b"})
            assert (made["title"], made["metadata"], made["status"]) == ("cell", {"a": "b"}, "idle")
        with self.cell("beta.sessions.retrieve"):
            assert given(self.one(group, "retrieve", flag, made["id"])) == given(made)
        with self.cell("beta.sessions.update"):
            changed = self.one(group, "update", flag, made["id"], "--title", "other")
            assert changed["title"] == "other"
            assert given(self.one(group, "retrieve", flag, made["id"])) == given(changed)
        second = self.session()
        with self.cell("beta.sessions.list"):
            ids = [session["id"] for session in self.all(group, "list", *PAGED)]
            assert ids[0] == second["id"] and made["id"] in ids
        with self.cell("beta.sessions.archive"):
            assert self.one(group, "archive", flag, second["id"])["archived_at"]
            assert second["id"] not in [session["id"] for session in self.all(group, "list")]
        with self.cell("beta.sessions.delete"):
            assert self.one(group, "delete", flag, second["id"])["type"] == "session_deleted"
            self.refused(404, group, "retrieve", flag, second["id"])

    def streamed(self, group: str, flags: tuple[str, ...], session: str, end: str) -> tuple[list[dict], dict]:
        """What a stream prints of a turn, from an answer to its end; and what the sending gave."""
        arguments = [*self.command, "--format", "jsonl", group, "stream", *flags]
        process = subprocess.Popen(arguments, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout
        reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
        reader.start()
        try:
            # It does not say when it listens, and shows only what happens from then on: so it is told again.
            for _ in range(TURNS):
                sent = self.one("beta:sessions:events", "send", "--session-id", session, given={"events": [replies(say("Two words."))]})
                seen: list[dict] = []
                while not seen or seen[-1]["type"] != end:
                    try:
                        seen.append(json.loads(lines.get(timeout=SILENCE)))
                    except queue.Empty:
                        break
                if said(seen) and seen[-1]["type"] == end:
                    return seen, sent
            raise AssertionError("the stream shows nothing")
        finally:
            process.kill()
            process.wait()
            reader.join()

    def events(self) -> None:
        made, group = self.session(), "beta:sessions:events"
        flags = ("--session-id", made["id"])
        with self.cell("beta.sessions.events.stream"):
            seen, sent = self.streamed(group, flags, made["id"], "session.status_idle")
            assert set(said(seen)) == {"Two words."}
        with self.cell("beta.sessions.events.send"):
            (stored,) = sent["data"]
            assert stored["content"] == replies(say("Two words."))["content"]
        with self.cell("beta.sessions.events.list"):
            listed = self.all(group, "list", *flags, *PAGED)
            last = {event["id"]: event for event in seen if "id" in event}
            both = [event for event in listed if event["id"] in last]
            assert both and [last[event["id"]] for event in both] == both
            assert set(said(listed)) == {"Two words."} and seen[-1]["id"] in last

    def threads(self) -> None:
        made, group = self.session(), "beta:sessions:threads"
        flags = ("--session-id", made["id"])
        with self.cell("beta.sessions.threads.list"):
            (primary,) = self.all(group, "list", *flags)
            assert primary["session_id"] == made["id"]
        of = (*flags, "--thread-id", primary["id"])
        with self.cell("beta.sessions.threads.retrieve"):
            assert self.one(group, "retrieve", *of) == primary
        with self.cell("beta.sessions.threads.events.stream"):
            seen, _ = self.streamed(f"{group}:events", of, made["id"], "session.thread_status_idle")
            assert set(said(seen)) == {"Two words."}
        with self.cell("beta.sessions.threads.events.list"):
            assert set(said(self.all(f"{group}:events", "list", *of, *PAGED))) == {"Two words."}
        with self.cell("beta.sessions.threads.archive"):
            # The one thread there is cannot be archived by itself; the session goes on.
            self.refused(400, group, "archive", *of)
            assert self.one(group, "retrieve", *of)["status"] == "idle"

    def resources(self) -> None:
        group, url = "beta:sessions:resources", "https://github.com/acme/tools"
        made = self.session(resources=[{"type": "github_repository", "url": url, "authorization_token": "cell-secret"}])
        flags = ("--session-id", made["id"])
        with self.cell("beta.sessions.resources.add"):
            file = self.one("beta:files", "upload", "--file", self.file("a.txt", "a"))
            given = {"type": "file", "file_id": file["id"], "mount_path": "/mnt/data/a.txt"}
            added = self.one(group, "add", *flags, given=given)
            assert added["type"] == "file" and added["mount_path"].endswith("/a.txt")
        with self.cell("beta.sessions.resources.list"):
            listed = self.all(group, "list", *flags)
            (cloned,) = [resource for resource in listed if resource["type"] == "github_repository"]
            assert len(listed) == 2 and cloned["url"] == url and "cell-secret" not in json.dumps(listed)
        with self.cell("beta.sessions.resources.retrieve"):
            assert self.one(group, "retrieve", *flags, "--resource-id", added["id"]) == added
        with self.cell("beta.sessions.resources.update"):
            token = {"authorization_token": "cell-secret-2"}
            changed = self.one(group, "update", *flags, "--resource-id", cloned["id"], given=token)
            assert (changed["id"], changed["url"]) == (cloned["id"], url) and "cell-secret" not in json.dumps(changed)
        with self.cell("beta.sessions.resources.delete"):
            assert self.one(group, "delete", *flags, "--resource-id", added["id"])["id"] == added["id"]
            assert [resource["id"] for resource in self.all(group, "list", *flags)] == [cloned["id"]]

    def file(self, path: str, text: str) -> str:
        """A file for a command to read."""
        written = self.folder / path
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text)
        return str(written)

    def files(self) -> None:
        group, flag = "beta:files", "--file-id"
        with self.cell("beta.files.upload"):
            made = self.one(group, "upload", "--file", self.file("notes.txt", "one line\n"))
            assert (made["filename"], made["size_bytes"]) == ("notes.txt", 9)
        with self.cell("beta.files.retrieve_metadata"):
            assert self.one(group, "retrieve-metadata", flag, made["id"]) == made
        with self.cell("beta.files.list"):
            second = self.one(group, "upload", "--file", self.file("b.bin", "b"))
            ids = [file["id"] for file in self.all(group, "list", *PAGED)]
            assert ids[0] == second["id"] and made["id"] in ids
        with self.cell("beta.files.download"):
            # What a client has uploaded is not given back: the refusal is the documented answer.
            assert "file_not_downloadable" in self.refused(400, group, "download", flag, made["id"], "--output", "-")
        with self.cell("beta.files.delete"):
            assert self.one(group, "delete", flag, made["id"])["type"] == "file_deleted"
            self.refused(404, group, "retrieve-metadata", flag, made["id"])

    def vaults(self) -> None:
        given = {"display_name": "keys", "metadata": {"a": "b"}}
        self.lives("beta:vaults", "--vault-id", given, {"display_name": "other"})

    def credentials(self) -> None:
        vault = self.one("beta:vaults", "create", given={"display_name": "keys"})["id"]
        group, flags = "beta:vaults:credentials", ("--vault-id", vault)
        url = "https://mcp.invalid/v1"
        with self.cell("beta.vaults.credentials.create"):
            auth = {"type": "static_bearer", "mcp_server_url": url, "token": "cell-secret"}
            made = self.one(group, "create", *flags, given={"auth": auth, "display_name": "one"})
            assert made["auth"] == {"type": "static_bearer", "mcp_server_url": url} and made["display_name"] == "one"
        one = (*flags, "--credential-id", made["id"])
        with self.cell("beta.vaults.credentials.retrieve"):
            assert self.one(group, "retrieve", *one) == made
        with self.cell("beta.vaults.credentials.update"):
            changed = self.one(group, "update", *one, "--display-name", "two")
            assert changed["display_name"] == "two" and self.one(group, "retrieve", *one) == changed
        with self.cell("beta.vaults.credentials.mcp_oauth_validate"):
            auth = {"type": "mcp_oauth", "mcp_server_url": "https://oauth.invalid/mcp", "access_token": "cell-secret"}
            second = self.one(group, "create", *flags, given={"auth": auth})
            tried = self.one(group, "mcp-oauth-validate", *flags, "--credential-id", second["id"])
            # The server of it does not exist, which says nothing about the credential.
            assert (tried["credential_id"], tried["status"]) == (second["id"], "unknown")
        with self.cell("beta.vaults.credentials.list"):
            assert [item["id"] for item in self.all(group, "list", *flags, *PAGED)] == [second["id"], made["id"]]
        with self.cell("beta.vaults.credentials.archive"):
            assert self.one(group, "archive", *flags, "--credential-id", second["id"])["archived_at"]
            assert [item["id"] for item in self.all(group, "list", *flags)] == [made["id"]]
        with self.cell("beta.vaults.credentials.delete"):
            assert self.one(group, "delete", *one)["type"] == "vault_credential_deleted"
            self.refused(404, group, "retrieve", *one)

    def memory_stores(self) -> None:
        given = {"name": "notes", "description": "of cells", "metadata": {"a": "b"}}
        self.lives("beta:memory-stores", "--memory-store-id", given, {"name": "other"})

    def memories(self) -> None:
        store = self.one("beta:memory-stores", "create", given={"name": "cells"})["id"]
        group, flags = "beta:memory-stores:memories", ("--memory-store-id", store)
        digest = lambda content: hashlib.sha256(content.encode()).hexdigest()  # noqa: E731
        with self.cell("beta.memory_stores.memories.create"):
            given = {"path": "/a/one.md", "content": "ein Häuschen\n"}
            made = self.one(group, "create", *flags, "--view", "full", given=given)
            assert {key: made[key] for key in given} == given and made["content_sha256"] == digest(given["content"])
            assert "memory_path_conflict_error" in self.refused(409, group, "create", *flags, given=given)
        one = (*flags, "--memory-id", made["id"])
        with self.cell("beta.memory_stores.memories.retrieve"):
            assert self.one(group, "retrieve", *one) == made
        with self.cell("beta.memory_stores.memories.update"):
            held = {"type": "content_sha256", "content_sha256": made["content_sha256"]}
            changes = {"path": "/a/two.md", "content": "zwei"}
            changed = self.one(group, "update", *one, "--view", "full", given={**changes, "precondition": held})
            assert {key: changed[key] for key in changes} == changes
            assert self.one(group, "retrieve", *one) == changed
            late = self.refused(409, group, "update", *one, given={"content": "x", "precondition": held})
            assert "memory_precondition_failed_error" in late
        with self.cell("beta.memory_stores.memories.list"):
            top = self.one(group, "create", *flags, given={"path": "/top.md", "content": "t"})
            paths = lambda *more: [item["path"] for item in self.all(group, "list", *flags, *more)]  # noqa: E731
            assert paths(*PAGED) == ["/a/two.md", "/top.md"] and paths("--depth", "1") == ["/a/", "/top.md"]
        with self.cell("beta.memory_stores.memories.delete"):
            deleted = self.one(group, "delete", *flags, "--memory-id", top["id"])
            assert (deleted["id"], deleted["type"]) == (top["id"], "memory_deleted")
            self.refused(404, group, "retrieve", *flags, "--memory-id", top["id"])
        group = "beta:memory-stores:memory-versions"
        with self.cell("beta.memory_stores.memory_versions.list"):
            listed = self.all(group, "list", *flags, "--memory-id", made["id"], *PAGED)
            assert [version["operation"] for version in listed] == ["modified", "created"]
        first = (*flags, "--memory-version-id", listed[1]["id"])
        with self.cell("beta.memory_stores.memory_versions.retrieve"):
            version = self.one(group, "retrieve", *first)
            assert (version["path"], version["content"]) == ("/a/one.md", "ein Häuschen\n")
        with self.cell("beta.memory_stores.memory_versions.redact"):
            redacted = self.one(group, "redact", *first)
            assert redacted["redacted_at"] and not redacted.get("content")
            assert self.one(group, "retrieve", *first) == redacted

    def skill_folder(self, told: str) -> list[str]:
        """The flags that upload a skill."""
        # It sends no more of a path than its last part, so that a folder goes as a zip.
        with zipfile.ZipFile(self.folder / f"{told}.zip", "w") as packed:
            packed.writestr("cell-ant/SKILL.md", f"---\nname: cell-ant\ndescription: {told}\n---\n{told}\n")
        return ["--file", str(self.folder / f"{told}.zip")]

    def skills(self) -> None:
        group, versions = "beta:skills", "beta:skills:versions"
        with self.cell("beta.skills.create"):
            made = self.one(group, "create", "--display-title", "A cell", *self.skill_folder("First"))
            assert (made["display_title"], made["source"]) == ("A cell", "custom")
        flags = ("--skill-id", made["id"])
        with self.cell("beta.skills.retrieve"):
            assert self.one(group, "retrieve", *flags) == made
        with self.cell("beta.skills.list"):
            assert made["id"] in [skill["id"] for skill in self.all(group, "list", *PAGED)]
        with self.cell("beta.skills.versions.create"):
            second = self.one(versions, "create", *flags, *self.skill_folder("Second"))
            assert (second["skill_id"], second["name"], second["description"]) == (made["id"], "cell-ant", "Second")
        one = (*flags, "--version", made["latest_version"])
        with self.cell("beta.skills.versions.retrieve"):
            assert self.one(versions, "retrieve", *flags, "--version", second["version"]) == second
            first = self.one(versions, "retrieve", *one)
            assert first["description"] == "First"
        with self.cell("beta.skills.versions.list"):
            listed = self.all(versions, "list", *flags, *PAGED)
            assert {version["version"] for version in listed} == {first["version"], second["version"]}
        with self.cell("beta.skills.versions.download"):
            packed = self.folder / "skill.zip"
            self.raw(versions, "download", *one, "--output", str(packed))
            assert b"cell-ant/SKILL.md" in packed.read_bytes()
        with self.cell("beta.skills.versions.delete"):
            self.one(versions, "delete", *one)
            assert [version["version"] for version in self.all(versions, "list", *flags)] == [second["version"]]
        with self.cell("beta.skills.delete"):
            assert self.one(group, "delete", *flags)["id"] == made["id"]
            self.refused(404, group, "retrieve", *flags)

    def user_profiles(self) -> None:
        given = {"name": "Ada", "external_id": "u-1", "relationship": "resold", "metadata": {"a": "b"}}
        group, flag = "beta:user-profiles", "--user-profile-id"
        made = self.lives(group, flag, given, {"name": "Grace", "relationship": "internal"}, ends=())
        with self.cell("beta.user_profiles.create_enrollment_url"):
            link = self.one(group, "create-enrollment-url", flag, made["id"])
            assert link["url"].startswith(f"{self.house.server.url}/enroll/")

    def models(self) -> None:
        for group in ("models", "beta:models"):
            name = group.replace(":", ".")
            with self.cell(f"{name}.list"):
                ids = [model["id"] for model in self.all(group, "list", *PAGED)]
                assert MODEL in ids and len(ids) == len(set(ids)) > 1
            with self.cell(f"{name}.retrieve"):
                assert self.one(group, "retrieve", "--model-id", MODEL)["id"] == MODEL
                self.refused(404, group, "retrieve", "--model-id", "no-such-model")

    def later(self, calls: list[str]) -> None:
        """Each command of what the server does not have ends with 501."""
        for name in calls:
            if not is_later(name):
                continue
            # The worker would ask for work again and again; what it asks first is what is not there.
            asked = "beta.environments.work.poll" if name.startswith("beta.worker.") else name
            group, _, command = asked.replace(".", ":").replace("_", "-").rpartition(":")
            with self.cell(name):
                shown = self.raw(group, command, "--help", top=())
                words = dict.fromkeys(word for word in shown.split() if word.startswith("--"))
                flags = {word: LATER.get(word, "01none") for word in words if word in LATER or word.endswith("-id")}
                told = self.refused(501, group, command, *(part for flag in flags.items() for part in flag), given={"name": "x"})
                assert '"api_error"' in told and "not implemented" in told
                raise NotThere


def said(events: list[dict]) -> list[str]:
    """What the agent said."""
    return [event["content"][0]["text"] for event in events if event["type"] == "agent.message"]


def version(program: str) -> str:
    """Such as 1.20.0."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    return told.split()[-1]


def run(house: House, program: str, tell: Callable[[dict], None]) -> list[str]:
    """All cells; gives the commands there are."""
    calls = inventory.ant(program)
    with tempfile.TemporaryDirectory(prefix="manyhands-ant-") as folder:
        AntRun(house, program, pathlib.Path(folder), Cells("ant", tell)).run(calls)
    return calls
