"""What the stories share: a house with a server, and the model's answers as its messages dictate them."""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator

import anthropic
from programs import Program, Server, program

MODEL = "claude-opus-4-8"
# Its stub refuses longer requests, as a model whose context is full.
SMALL_MODEL = "small-window"
SMALL_WINDOW = 24_000
# Nobody knows its prices, and it takes no system messages within a conversation.
PLAIN_MODEL = "plain"
BUILT_IN = {"type": "agent_toolset_20260401"}
# How long a chore may take, on a machine that is busy with other things.
PATIENCE_SECONDS = 60

CONFIG = """
[[models]]
id = "{model}"
provider = "anthropic"
base_url = "{url}"
key = {{ env = "STORY_MODEL_KEY" }}
"""
ABLE = """
mid_conversation_system = true
prices = { input = 5, output = 25, cache_read = 0.5, cache_write = 6.25 }
"""


def told_stub(log: pathlib.Path, *flags: str) -> Program:
    """A model that answers what the user's message dictates."""
    stub = program("MANYHANDS_MODEL_STUB", "manyhands-model-stub")
    return Program([stub, "--listen", "127.0.0.1:0", "--mode", "told", "--check", *flags], {}, log)


class House:
    """A server with its models on one kind of database, shared by the stories of a run; each has its own sessions."""

    def __init__(self, database_url: str | None, more: str = "") -> None:
        """`more` is put behind its configuration."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manyhands-stories-"))
        self.stub = told_stub(self.folder / "stub.log")
        self.small_stub = told_stub(self.folder / "small.log", "--window", str(SMALL_WINDOW))
        config = self.folder / "manyhands.toml"
        models = [(MODEL, self.stub, ABLE), (SMALL_MODEL, self.small_stub, ABLE), (PLAIN_MODEL, self.stub, "")]
        config.write_text("".join(CONFIG.format(model=model, url=stub.url) + able for model, stub, able in models) + more)
        environment = {"MANYHANDS_CONFIG": str(config), "STORY_MODEL_KEY": "stub"}
        if database_url:
            environment["MANYHANDS_DATABASE_URL"] = database_url
        self.server = Server(environment)

    def client(self) -> anthropic.Anthropic:
        """The official client, strict about every answer."""
        return anthropic.Anthropic(
            base_url=self.server.url, api_key=self.server.key, timeout=30, _strict_response_validation=True
        )

    def async_client(self) -> anthropic.AsyncAnthropic:
        """The same for asyncio."""
        return anthropic.AsyncAnthropic(
            base_url=self.server.url, api_key=self.server.key, timeout=30, _strict_response_validation=True
        )

    def get(self, path: str):
        """An answer of the server's own routes, which the SDK does not know."""
        request = urllib.request.Request(f"{self.server.url}{path}", headers={"x-api-key": self.server.key})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def open_gate(self, name: str) -> None:
        """Lets the model go on that waits there."""
        request = urllib.request.Request(f"{self.stub.url}/gates/{name}", method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def asked(self, mark: str, small: bool = False) -> list[dict]:
        """The model requests that hold a text, in their order."""
        stub = self.small_stub if small else self.stub
        with urllib.request.urlopen(f"{stub.url}/requests", timeout=30) as answer:
            return [request for request in json.load(answer) if mark in json.dumps(request)]

    def refused(self) -> int:
        """Requests that the hosted API would have refused as malformed."""
        stubs = (self.stub, self.small_stub)
        answers = [urllib.request.urlopen(f"{stub.url}/stats", timeout=30) for stub in stubs]
        return sum(json.load(answer)["refused"] for answer in answers)

    def remove(self) -> None:
        """Ends all of its programs."""
        self.server.remove()
        for stub in (self.stub, self.small_stub):
            assert stub.terminate() == 0
        shutil.rmtree(self.folder)


def say(text: str, **more) -> dict:
    """A reply of the model: text."""
    return {"content": [{"type": "text", "text": text}], **more}


def call(*calls: tuple[str, dict], **more) -> dict:
    """A reply of the model: tool calls, each a name and an input."""
    # Ids of one conversation must differ from each other; stories never repeat a call with the same input.
    blocks = [
        {"type": "tool_use", "id": f"toolu_{abs(hash((name, json.dumps(given))))}", "name": name, "input": given}
        for name, given in calls
    ]
    return {"content": blocks, **more}


def bash(command: str) -> tuple[str, dict]:
    """A call of bash."""
    return ("bash", {"command": command})


def patient_bash(command: str) -> tuple[str, dict]:
    """A call of bash that is not stopped after two minutes, for what a busy machine may take longer for."""
    return ("bash", {"command": command, "timeout_ms": 600_000})


def text_message(text: str) -> dict:
    """A message of the user."""
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def replies(*wanted: dict) -> dict:
    """The message that makes the model give these replies, one a request."""
    return text_message(f"reply: {json.dumps(wanted)}")


def system(text: str) -> dict:
    """A message of the operator."""
    return {"type": "system.message", "content": [{"type": "text", "text": text}]}


def allow(call) -> dict:
    """Let it run."""
    return {"type": "user.tool_confirmation", "tool_use_id": call.id, "result": "allow"}


def deny(call, message: str | None = None) -> dict:
    """Do not."""
    why = {"deny_message": message} if message else {}
    return {"type": "user.tool_confirmation", "tool_use_id": call.id, "result": "deny", **why}


def result(call, text: str, **more) -> dict:
    """What a custom tool gave."""
    content = [{"type": "text", "text": text}]
    return {"type": "user.custom_tool_result", "custom_tool_use_id": call.id, "content": content, **more}


def custom(name: str) -> dict:
    """A tool that the client runs."""
    schema = {"type": "object", "properties": {"word": {"type": "string"}}}
    return {"type": "custom", "name": name, "description": f"Does {name}.", "input_schema": schema}


def toolset(**policies: str) -> dict:
    """The built-in tools, some with a policy of their own."""
    configs = [{"name": name, "permission_policy": {"type": policy}} for name, policy in policies.items()]
    return {**BUILT_IN, "configs": configs}


class Story:
    """One session, its stream, and all that was on it."""

    def __init__(
        self, house: House, *tools: dict, model: str = MODEL, agent=None, networking: dict | None = None, **more
    ) -> None:
        """A session of this agent, or of one with these tools."""
        self.house = house
        self.client = house.client()
        self.agent = agent or self.client.beta.agents.create(name="Story", model=model, tools=list(tools) or [BUILT_IN])
        config = {"type": "cloud", "networking": networking or {"type": "unrestricted"}}
        self.environment = self.client.beta.environments.create(name=f"story of {self.agent.id}", config=config)
        self.session = self.client.beta.sessions.create(
            agent=self.agent.id, environment_id=self.environment.id, **more
        )
        self.id = self.session.id
        self.events = self.client.beta.sessions.events
        self.seen: list = []
        self.stream = self.events.stream(self.id)
        self.items: Iterator = iter(self.stream)

    def send(self, *events: dict) -> list:
        """Sends events in one request; gives what was stored."""
        return self.events.send(self.id, events=list(events)).data

    def until(self, kind: str) -> list:
        """Reads the stream to the next event of a type; gives what came on the way, that event last."""
        came = []
        for event in self.items:
            self.seen.append(event)
            came.append(event)
            if event.type == kind:
                return came
        raise AssertionError(f"the stream ended before {kind}, after {types(came)}")

    def turn(self, *events: dict) -> list:
        """Sends events and reads to the session's next rest."""
        self.send(*events)
        return self.until("session.status_idle")

    def listed(self) -> list:
        """The whole list of events."""
        return list(self.events.list(self.id))

    def check_list_equals_stream(self) -> None:
        """runtime LI-5: the list is the last appearance of each event on the stream, in that order."""
        assert [event.id for event in self.listed()] == [event.id for event in last_appearances(self.seen)]

    def asked(self, mark: str) -> list[dict]:
        """The model requests of this story that hold a text."""
        return self.house.asked(mark)

    def close(self) -> None:
        """Leaves the stream."""
        self.stream.close()


def to_rest(stream: Iterable) -> list:
    """What a stream shows to the session's next rest."""
    seen = []
    for event in stream:
        seen.append(event)
        if event.type == "session.status_idle":
            return seen
    raise AssertionError(f"the stream ended before a rest, after {types(seen)}")


def until(what: str, found: Callable):
    """What a chore brings, asked for until it is there: nobody tells of it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (seen := found()):
        assert time.monotonic() < end, what
    return seen


def types(events: Iterable) -> list[str]:
    """The types of events."""
    return [event.type for event in events]


def last_appearances(events: list) -> list:
    """A client's event is on the stream twice, when it is stored and when it is processed; the second one counts."""
    last = {event.id: place for place, event in enumerate(events)}
    return [event for place, event in enumerate(events) if last[event.id] == place]


def only(events: list, kind: str):
    """The one event of a type."""
    found = [event for event in last_appearances(events) if event.type == kind]
    assert len(found) == 1, f"{len(found)} of type {kind} in {types(events)}"
    return found[0]


def every(events: list, kind: str) -> list:
    """All events of a type."""
    return [event for event in last_appearances(events) if event.type == kind]


def text(event) -> str:
    """The text of an event's content."""
    return "".join(block.text for block in event.content or [])


def blocking(idle) -> list[str]:
    """The calls that a rest waits for."""
    assert idle.stop_reason.type == "requires_action", idle
    return list(idle.stop_reason.event_ids)
