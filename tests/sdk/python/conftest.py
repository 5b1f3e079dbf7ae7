"""What the acceptance tests share: a bounded time, a model stub, a server."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import anthropic
import pytest
from postgres import Postgres
from programs import ModelStub, Server
from stories import House

TEST_SECONDS = 600


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL server."""
    postgres = Postgres()
    yield postgres
    postgres.remove()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    """A server on each database in turn, whose models answer what messages dictate."""
    cluster = request.getfixturevalue("postgres") if request.param == "postgres" else None
    yield from lent(House(cluster.create_database() if cluster else None), request)


def lent(house: House, request: pytest.FixtureRequest) -> Iterator[House]:
    """A house for tests, removed after them; what it said is shown when one has failed."""
    yield house
    delete_sessions(house.server)
    log = house.server.log.read_text()
    refused = house.refused()
    house.remove()
    if request.session.testsfailed:
        print(log)
    assert refused == 0, "the model was asked what the hosted API refuses"


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
