"""Every managed-agents command of the official `ant` CLI, as people and scripts use it: YAML on standard input, flags, `--transform`
and `--format`, streams."""

from __future__ import annotations

import json
import pathlib
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable

import inventory
from ant_base import PAGED, SECONDS
from ant_stores import Stores
from cells import NotThere, is_later, reason
from outputs import Output
from recording import Recorder
from stories import MODEL, House, replies, say

# As many turns as fill a screen.
TURNS = 3
SAID = replies(say("Two words."))
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


class AntRun(Stores):
    """All cells."""

    def run(self, calls: list[str]) -> None:
        """All cells; each group makes what it needs."""
        groups: list[Callable[[], None]] = [
            self.agents, self.environments, self.sessions, self.events, self.threads, self.resources, self.files,
            self.vaults, self.credentials, self.memory_stores, self.memories, self.skills, self.user_profiles, self.models,
            self.unknown_fields,
        ]  # fmt: skip
        for group in groups:
            try:
                group()
            except Exception as error:
                self.tell(f"what the cells of {group.__name__} need", "red", reason(error))
        self.later(calls)

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
        self.ends(group, second["id"], (flag,), ends=("archive",))

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
        self.ends(group, second["id"], (flag,))

    def streamed(self, group: str, flags: tuple[str, ...], session: str, message: dict, end: str) -> tuple[list[dict], dict]:
        """What a stream prints of the first of the turns that a message starts; and what its sending gave."""
        arguments = [*self.command, "--format", "jsonl", group, "stream", *flags]
        process = subprocess.Popen(arguments, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout
        reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
        reader.start()
        try:
            # It does not say itself when it listens, and keeps its first lines until there are more than a screen holds.
            self.recorder.stream_opens()
            sent = []
            for _ in range(TURNS):
                sent.append(self.one("beta:sessions:events", "send", "--session-id", session, given={"events": [message]}))
                self.recorder.passes(end)
            seen: list[dict] = []
            while not seen or seen[-1]["type"] != end:
                seen.append(json.loads(lines.get(timeout=SECONDS)))
            return seen, sent[0]
        finally:
            process.kill()
            process.wait()
            reader.join()
            self.recorder.end_streams()

    def events(self) -> None:
        made, group = self.session(), "beta:sessions:events"
        flags = ("--session-id", made["id"])
        with self.cell("beta.sessions.events.stream"):
            seen, sent = self.streamed(group, flags, made["id"], SAID, "session.status_idle")
            assert said(seen) == ["Two words."]
        with self.cell("beta.sessions.events.send"):
            (stored,) = sent["data"]
            assert (stored["type"], stored["content"]) == (SAID["type"], SAID["content"])
        with self.cell("beta.sessions.events.list"):
            listed = self.all(group, "list", *flags, *PAGED)
            last = {event["id"]: event for event in seen if "id" in event}
            both = [event for event in listed if event["id"] in last]
            assert both and [last[event["id"]] for event in both] == both
            assert said(listed) == ["Two words."] * TURNS and [event["id"] for event in listed].count(stored["id"]) == 1

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
            seen, _ = self.streamed(f"{group}:events", of, made["id"], SAID, "session.thread_status_idle")
            assert said(seen) == ["Two words."]
        with self.cell("beta.sessions.threads.events.list"):
            assert said(self.all(f"{group}:events", "list", *of, *PAGED)) == ["Two words."] * TURNS
        with self.cell("beta.sessions.threads.archive"):
            # The one thread there is cannot be archived by itself; the session goes on.
            self.refused(400, group, "archive", *of)
            assert self.one(group, "retrieve", *of)["status"] == "idle"

    def unknown_fields(self) -> None:
        with self.cell("unknown fields in a request"):
            given = {"name": "Future", "model": MODEL, "of_the_future": {"a": [1]}}
            made = self.one("beta:agents", "create", given=given)
            assert made["name"] == "Future"
            assert self.one("beta:agents", "retrieve", "--agent-id", made["id"]) == made

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
            assert self.one(group, "retrieve", *flags, "--resource-id", cloned["id"]) == changed
        with self.cell("beta.sessions.resources.delete"):
            assert self.one(group, "delete", *flags, "--resource-id", added["id"])["id"] == added["id"]
            assert [resource["id"] for resource in self.all(group, "list", *flags)] == [cloned["id"]]

    def models(self) -> None:
        for group in ("models", "beta:models"):
            name = group.replace(":", ".")
            with self.cell(f"{name}.list"):
                ids = [model["id"] for model in self.all(group, "list", *PAGED)]
                assert MODEL in ids and len(ids) == len(set(ids)) > 1
            with self.cell(f"{name}.retrieve"):
                (listed,) = [model for model in self.all(group, "list") if model["id"] == MODEL]
                assert self.one(group, "retrieve", "--model-id", MODEL) == listed
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


def given(output: Output) -> dict[str, str]:
    """What its requests name that it has not been answered before."""
    return {"{output 1}": output.session}


def version(program: str) -> str:
    """Such as 1.20.0."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    return told.split()[-1]


def run(house: House, output: Output, program: str, tell: Callable[[dict], None]) -> tuple[list[str], list[dict]]:
    """All cells; gives the commands there are, and what was asked of the server."""
    calls = inventory.ant(program)
    recorder = Recorder("ant", tell, house, given(output))
    try:
        with tempfile.TemporaryDirectory(prefix="manyhands-ant-") as folder:
            AntRun(house, program, pathlib.Path(folder), recorder, output).run(calls)
    finally:
        steps = recorder.close()
    return calls, steps
