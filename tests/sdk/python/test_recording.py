"""The kept requests of a client that is not there: a server that answers otherwise than it did is noticed."""

from __future__ import annotations

import http.client
import http.server
import json
import pathlib
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

sys.path.append(str(pathlib.Path(__file__).parents[2] / "conformance"))

from recording import Recorder, Replay  # noqa: E402

EVENTS = [{"type": "user.message", "text": "hello"}, {"type": "session.status_idle", "id": "sevt_01AAAAAAAAAAAAAAAAAAAAAA"}]
GIVEN = {"{output 1}": "sesn_01BBBBBBBBBBBBBBBBBBBBBB"}


class Thing:
    """A server with one kind of thing; `change` says how it answers otherwise than the first one did."""

    def __init__(self, number: int, change: Callable[[dict], object] = lambda answer: answer) -> None:
        self.id = f"thing_01{'CDEFG'[number] * 22}"
        self.change = change
        self.asked: list[tuple[str, str]] = []

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        """The status and the body of an answer."""
        self.asked.append((method, path))
        if method == "POST":
            return 200, {"id": self.id, "name": json.loads(body)["name"], "created_at": "2026-10-21T00:00:00Z", "size": 7}
        if path.endswith(self.id):
            return 200, {"id": self.id, "name": "one", "tags": [{"type": "a"}, {"type": "a"}]}
        return 404, {"type": "error", "error": {"type": "not_found_error", "message": path}}


@contextmanager
def served(thing: Thing) -> Iterator[types.SimpleNamespace]:
    """What stands for a house with this server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.path.endswith("/stream"):
                told = "".join(f"data: {json.dumps(thing.change(event))}\n\n" for event in EVENTS).encode()
                kind, status = "text/event-stream", 200
            else:
                status, answer = thing.answer(self.command, self.path, body)
                kind, told = "application/json", json.dumps(thing.change(answer)).encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        yield types.SimpleNamespace(server=types.SimpleNamespace(url=url, key="of-this-server"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(url: str, method: str, path: str, body: bytes = b"") -> bytes:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request(method, path, body, {"content-type": "application/json", "x-api-key": "of-the-client"})
    try:
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def steps() -> list[dict]:
    """A life of a thing, as it was recorded."""
    results: list[dict] = []
    with served(Thing(0)) as house:
        recorder = Recorder("old", results.append, house, GIVEN)
        try:
            with recorder.cell("things.create"):
                made = json.loads(ask(recorder.url, "POST", "/things", json.dumps({"name": "one"}).encode()))
            with recorder.cell("things.retrieve"):
                ask(recorder.url, "GET", f"/things/{made['id']}")
                ask(recorder.url, "GET", f"/things?of={GIVEN['{output 1}']}")
            with recorder.cell("things.stream"):
                assert b"session.status_idle" in ask(recorder.url, "GET", "/stream")
                recorder.stream_opens()
                recorder.passes("session.status_idle")
                recorder.end_streams()
        finally:
            steps = recorder.close()
    assert [line["result"] for line in results] == ["green"] * 3
    # As it is kept.
    return json.loads(json.dumps(steps))


def replayed(steps: list[dict], thing: Thing) -> dict[str, str]:
    with served(thing) as house:
        return Replay(house, steps, GIVEN).run()


def test_a_server_that_answers_alike_has_changed_nothing(steps: list[dict]) -> None:
    """Other ids, times and figures are no change; requests are made with the ids of the new answers, and keys are not kept."""
    thing = Thing(1, lambda answer: answer | {"size": 8} if "size" in answer else answer)
    assert replayed(steps, thing) == {}
    assert ("GET", f"/things/{thing.id}") in thing.asked and ("GET", f"/things?of={GIVEN['{output 1}']}") in thing.asked
    assert "of-the-client" not in json.dumps(steps)


def otherwise(**changes: object) -> Callable[[dict], dict]:
    """Answers that have these members also have these values."""

    def change(answer: dict) -> dict:
        kept = {name: value for name, value in answer.items() if changes.get(name, value) is not ...}
        return kept | {name: value for name, value in changes.items() if name in answer and value is not ...}

    return change


@pytest.mark.parametrize(
    ("change", "call", "why"),
    [
        (otherwise(created_at=...), "things.create", "created_at is gone"),
        (otherwise(size=None), "things.create", 'size was "<number>", is null'),
        (otherwise(created_at="yesterday"), "things.create", 'created_at was "<time>", is "<text>"'),
        # An echo is part of the shape.
        (otherwise(name="two"), "things.create", 'name was "= one", is "<text>"'),
        (otherwise(tags=[{"type": "b"}]), "things.retrieve", 'tags[].type was "= a", is "= b"'),
        (otherwise(id=...), "things.create", "there is no id"),
        (otherwise(error={"type": "other_error", "message": ""}), "things.retrieve", 'error.type was "= not_found_error"'),
        (otherwise(text=7), "things.stream", 'user.message: text was "<text>", is "<number>"'),
        (lambda answer: {"new": 1} | answer, "things.create", "new is new"),
    ],
)
def test_what_is_answered_otherwise_is_told(steps: list[dict], change: Callable[[dict], dict], call: str, why: str) -> None:
    """The call is named, and where its answer differs first."""
    assert why in replayed(steps, Thing(2, change))[call]


def test_another_status_is_told(steps: list[dict]) -> None:
    """Whatever the body is."""

    class Gone(Thing):
        def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
            status, answer = super().answer(method, path, body)
            return (410 if status == 404 else status), answer

    assert "status 404" in replayed(steps, Gone(3))["things.retrieve"]


def test_an_event_that_does_not_come_is_told(steps: list[dict]) -> None:
    """Each kept event must come again."""
    change = lambda answer: {"type": "ping"} if answer.get("type") == "session.status_idle" else answer  # noqa: E731
    assert "session.status_idle did not come" in replayed(steps, Thing(4, change))["things.stream"]
