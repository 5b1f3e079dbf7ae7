"""What the acceptance tests share: a bounded time, a model stub, a server."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import anthropic
import pytest
from programs import ModelStub, Server

TEST_SECONDS = 120


@pytest.fixture(autouse=True)
def bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test waits for ever: after its time the main thread is interrupted, wherever it waits."""

    def ring(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"{request.node.name} took more than {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def model_stub(tmp_path, request: pytest.FixtureRequest) -> Iterator[ModelStub]:
    """An instant model, or one that takes the milliseconds of the test's indirect parameter."""
    stub = ModelStub(tmp_path / "stub.log", delay_millis=getattr(request, "param", 0))
    yield stub
    assert stub.terminate() == 0


@pytest.fixture
def server(model_stub: ModelStub, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of its own, with an empty data directory, whose `claude-*` is the stub."""
    server = Server(model_stub.environment)
    yield server
    delete_sessions(server)
    log = server.log.read_text()
    server.remove()
    if request.session.testsfailed:
        print(log)


def delete_sessions(server: Server) -> None:
    """Sandboxes outlive their server by design; those of deleted sessions are gone at once."""
    client = anthropic.Anthropic(base_url=server.url, api_key=server.key)
    for session in client.beta.sessions.list():
        if session.status in ("running", "rescheduling"):
            client.beta.sessions.events.send(session.id, events=[{"type": "user.interrupt"}])
            wait_until_idle(client, session.id)
        client.beta.sessions.delete(session.id)


def wait_until_idle(client: anthropic.Anthropic, session: str) -> None:
    """Waits for the end of the turn, whether it lies ahead or behind."""
    with client.beta.sessions.events.stream(session) as stream:
        if client.beta.sessions.retrieve(session).status == "idle":
            return
        for event in stream:
            if event.type == "session.status_idle":
                return
    raise AssertionError("the stream ended before the session was idle")
