"""The requests of a client that is not on every machine, kept with the shapes of their answers, and made again without it.

A step is a request, its answer's status and shape, and what later steps need of the answer: ids and cursors, by the place where
they stand. In later requests they are written as `{agent 1}`.
"""

from __future__ import annotations

import base64
import json
import queue
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cells import Cells
from forward import Exchange, Forwarder, Request
from shapes import ID, body_shape, difference, shape, strings
from stories import House

SECONDS = 30
# What a request says beside its body; keys are never kept.
KEPT_HEADERS = re.compile(r"anthropic-.*|content-type|accept")
NAME = re.compile(r"\{[a-z]+ \d+\}")


def leaves(value: object, path: tuple = ()) -> Iterator[tuple[tuple, str]]:
    """Every text in a JSON value with the path to it."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from leaves(member, (*path, key))
    if isinstance(value, str):
        yield path, value


def kind_of(path: tuple, value: str) -> str:
    """What a later request may name this text as; nothing for other texts."""
    if found := ID.fullmatch(value):
        return found[1]
    last = path[-1] if path else ""
    if last == "next_page":
        return "page"
    # The old form of a skill's version.
    return "epoch" if last in ("version", "latest_version") and value.isdigit() else ""


def of_event(line: bytes) -> dict | None:
    """The event in a line of a stream."""
    return json.loads(line[5:]) if line.startswith(b"data:") else None


class Recorder(Cells):
    """The cells of a client whose requests go through it."""

    def __init__(self, client: str, tell: Callable[[dict], None], house: House, given: dict[str, str]) -> None:
        """`given` is what no answer tells before it is asked for, by its names."""
        super().__init__(client, tell)
        self._address = house.server.url
        self._steps: list[dict] = []
        self._call = ""
        self._names = {value: name for name, value in given.items()}
        self._sent: set[str] = set()
        self._streams: list[tuple[Exchange, threading.Event]] = []
        self._opened: queue.Queue[None] = queue.Queue()
        self._passed: queue.Queue[str] = queue.Queue()
        self._forwarder = Forwarder(self._answer)
        self.url = self._forwarder.url

    @contextmanager
    def cell(self, call: str, good: str = "green") -> Iterator[None]:
        """As of any client; the requests within are of this call."""
        outer, self._call = self._call, call
        with super().cell(call, good):
            try:
                yield
            finally:
                self._call = outer

    def stream_opens(self) -> None:
        """Waits until the server has answered the next stream."""
        self._opened.get(timeout=SECONDS)

    def passes(self, kind: str) -> None:
        """Waits until the stream that is open has shown an event of a type."""
        while self._passed.get(timeout=SECONDS) != kind:
            pass
        self._steps.append({"call": self._call, "passes": kind})

    def end_streams(self) -> None:
        """Ends the streams that are open: what was on them is what their step keeps."""
        for exchange, ended in self._streams:
            exchange.end()
            ended.wait(SECONDS)
        self._streams.clear()
        self._steps.append({"call": self._call, "end": True})

    def close(self) -> list[dict]:
        """Ends the recording; gives its steps, with the names alone that some later step uses."""
        self._forwarder.close()
        used = set(NAME.findall(json.dumps([[step.get("path"), step.get("body")] for step in self._steps])))
        for step in self._steps:
            if "names" in step:
                step["names"] = {name: path for name, path in step["names"].items() if name in used}
        return self._steps

    def _answer(self, request: Request) -> tuple[Exchange, Iterator[bytes]]:
        step = {"call": self._call, "method": request.method, "path": self._named(request.path, in_path=True)}
        step["headers"] = {name: value for name, value in request.headers.items() if KEPT_HEADERS.fullmatch(name)}
        self._steps.append(step)
        if request.body:
            step["body"] = self._body(request)
        exchange = Exchange(self._address, request)
        step["status"], step["answers"] = exchange.status, exchange.headers.get("content-type", "")
        if exchange.is_stream:
            ended = threading.Event()
            self._streams.append((exchange, ended))
            self._opened.put(None)
            return exchange, self._streamed(exchange, step, ended)
        body = exchange.read()
        step["shape"], step["names"] = body_shape(step["answers"], body, self._sent), {}
        if step["answers"].startswith("application/json"):
            self._learn(step, json.loads(body))
        return exchange, iter([body])

    def _streamed(self, exchange: Exchange, step: dict, ended: threading.Event) -> Iterator[bytes]:
        step["events"] = []
        for line in exchange.lines():
            yield line
            if event := of_event(line):
                if (found := shape(event, self._sent)) not in step["events"] and event["type"] != "ping":
                    step["events"].append(found)
                self._passed.put(event["type"])
        ended.set()

    def _body(self, request: Request) -> object:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return {"base64": base64.b64encode(request.body).decode()}
        body = self._named(request.body.decode(), in_path=False)
        self._sent |= strings(json.loads(body))
        return {"json": body}

    def _learn(self, step: dict, answer: object) -> None:
        for path, value in leaves(answer):
            if value not in self._names and (kind := kind_of(path, value)):
                number = 1 + sum(name.startswith(f"{{{kind} ") for name in self._names.values())
                self._names[value] = f"{{{kind} {number}}}"
                step["names"][self._names[value]] = list(path)

    def _named(self, text: str, in_path: bool) -> str:
        for value, name in self._names.items():
            text = text.replace(urllib.parse.quote(value, safe="") if in_path else value, name)
        return text


class Changed(Exception):
    """An answer is not what it was when the client was there."""


class Listening:
    """A stream that is read again: each event must be like a kept one, and each kept one must come."""

    def __init__(self, exchange: Exchange, wanted: list, sent: set[str]) -> None:
        self._exchange = exchange
        self._lines = exchange.lines()
        self._wanted = wanted
        self._left = list(wanted)
        self._sent = sent

    def read_to(self, kind: str) -> None:
        """Reads to the next event of a type."""
        self._read(lambda event: event["type"] == kind, kind)

    def end(self) -> None:
        """Reads what has not come yet, and ends it."""
        try:
            if self._left:
                self._read(lambda _: not self._left, self._left[0]["type"])
        finally:
            self._exchange.end()

    def _read(self, is_enough: Callable[[dict], bool], awaited: str) -> None:
        # A stream that stays silent must not keep this waiting for ever.
        bound = threading.Timer(SECONDS, self._exchange.end)
        bound.start()
        try:
            for line in self._lines:
                if (event := of_event(line)) and event["type"] != "ping":
                    self._compare(shape(event, self._sent))
                    if is_enough(event):
                        return
        finally:
            bound.cancel()
        raise Changed(f"the event {awaited.removeprefix('= ')} did not come")

    def _compare(self, found: dict) -> None:
        if found in self._left:
            self._left.remove(found)
        elif found not in self._wanted:
            alike = [one for one in self._wanted if one["type"] == found["type"]]
            kind = found["type"].removeprefix("= ")
            raise Changed(f"{kind}: {difference(alike[0], found)}" if alike else f"an event {kind} is new")


class Replay:
    """Makes kept steps again, each with what the server answers now."""

    def __init__(self, house: House, steps: list[dict], given: dict[str, str]) -> None:
        self._house = house
        self._steps = steps
        self._values = dict(given)
        self._sent: set[str] = set()
        self._streams: list[Listening] = []

    def run(self) -> dict[str, str]:
        """The calls whose answers have changed, and how."""
        changed: dict[str, str] = {}
        waiting = ""
        for step in self._steps:
            try:
                self._again(step)
            except Exception as error:
                asked = f"{step['method']} {step['path']}" if "path" in step else "the stream"
                waiting = waiting or f"{asked}: {error}"
            # What a cell needs is made before it, and is of the next call there is.
            if waiting and step["call"]:
                changed.setdefault(step["call"], waiting)
                waiting = ""
        if waiting:
            changed.setdefault("what the last cells need", waiting)
        return changed

    def _again(self, step: dict) -> None:
        if "passes" in step:
            for stream in self._streams:
                stream.read_to(step["passes"])
            return
        if "end" in step:
            self._end_streams()
            return
        headers = step["headers"] | {"x-api-key": self._house.server.key}
        path = self._valued(step["path"], in_path=True)
        exchange = Exchange(self._house.server.url, Request(step["method"], path, headers, self._body(step)))
        answers = exchange.headers.get("content-type", "")
        if (exchange.status, answers) != (step["status"], step["answers"]):
            exchange.end()
            raise Changed(f"status {step['status']} {step['answers']} was expected, not {exchange.status} {answers}")
        if exchange.is_stream:
            self._streams.append(Listening(exchange, step["events"], self._sent))
            return
        body = exchange.read()
        if answers.startswith("application/json"):
            self._learn(step, json.loads(body))
        if told := difference(step["shape"], body_shape(answers, body, self._sent)):
            raise Changed(told)

    def _body(self, step: dict) -> bytes:
        body = step.get("body", {})
        if "base64" in body:
            return base64.b64decode(body["base64"])
        text = body.get("json", "")
        if text:
            self._sent |= strings(json.loads(text))
        return self._valued(text, in_path=False).encode()

    def _learn(self, step: dict, answer: object) -> None:
        for name, path in step["names"].items():
            value = answer
            for key in path:
                try:
                    value = value[key]
                except (KeyError, IndexError, TypeError):
                    raise Changed(f"there is no {'.'.join(map(str, path))}") from None
            self._values[name] = str(value)

    def _valued(self, text: str, in_path: bool) -> str:
        def value(found: re.Match) -> str:
            known = self._values.get(found[0], found[0])
            return urllib.parse.quote(known, safe="") if in_path else known

        return NAME.sub(value, text)

    def _end_streams(self) -> None:
        try:
            for stream in self._streams:
                stream.end()
        finally:
            self._streams.clear()
