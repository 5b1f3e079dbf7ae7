"""The two clients of the Python SDK as one, and what all groups of cells share."""

from __future__ import annotations

import asyncio
import functools
import inspect
import urllib.request
from collections.abc import Callable

import anthropic
from cells import Cells
from outputs import Output
from stories import MODEL, House, custom, types


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


class Run:
    """One run of one client."""

    def __init__(self, house: House, client, cells: Cells, output: Output) -> None:
        self.house = house
        self.output = output
        self.client = client
        self.beta = client.beta
        self.cell = cells.cell
        self.tell = cells.result
        self.name = cells.client

    def session(self, **more):
        """A session of an agent with a tool of the client's own."""
        agent = self.beta.agents.create(name="Cell", model=MODEL, tools=[custom("lookup")])
        environment = self.beta.environments.create(name=f"of {agent.id}")
        return self.beta.sessions.create(agent=agent.id, environment_id=environment.id, **more)

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

    def ends(self, name: str, group, item, *above: str, **of: str) -> None:
        """The cells of how one of a kind ends: `above` is what a list of them is below, `of` what a call of one is told of it."""
        with self.cell(f"{name}.archive"):
            archived = group.archive(item.id, **of)
            assert archived.id == item.id and archived.archived_at is not None
            assert group.retrieve(item.id, **of).archived_at == archived.archived_at
            assert item.id not in ids(group.list(*above))
            assert item.id in ids(group.list(*above, include_archived=True))
        if not hasattr(group, "delete"):
            return
        with self.cell(f"{name}.delete"):
            deleted = group.delete(item.id, **of)
            assert deleted.id == item.id and deleted.type.endswith("_deleted")
            refused(anthropic.NotFoundError, group.retrieve, item.id, **of)
            assert item.id not in ids(group.list(*above, include_archived=True))

    def plain(self, part):
        """A part of the client as its users have it, without what makes an asynchronous one wait."""
        return part._target if isinstance(part, Blocking) else part

    def finished(self, result):
        """What a call of a plain part gives in the end."""
        return self.client._loop.run_until_complete(result) if inspect.isawaitable(result) else result

    def bytes_of(self, answer) -> bytes:
        """The whole body of an answer that is no JSON."""
        return self.finished(answer.read())

    def page(self, url: str) -> str:
        """What a person sees who opens a link."""
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode()
