"""The official Python SDK, unmodified and strict about every answer, against the real server."""

from __future__ import annotations

import json
import urllib.request

import anthropic
import pytest
from conftest import wait_until_idle
from programs import ModelStub, Server
from stories import BUILT_IN, MODEL, last_appearances, text

TOOLS = [BUILT_IN]


class Counted:
    """A strict client that counts the requests that really go out, retries included."""

    def __init__(self, server: Server) -> None:
        self.requests: list[str] = []
        self.http = anthropic.DefaultHttpxClient(event_hooks={"request": [self.count]})
        self.client = anthropic.Anthropic(
            base_url=server.url,
            api_key=server.key,
            http_client=self.http,
            timeout=30,
            _strict_response_validation=True,
        )

    def count(self, request) -> None:
        self.requests.append(f"{request.method} {request.url.path}")


@pytest.fixture
def counted(server: Server):
    counted = Counted(server)
    yield counted
    counted.http.close()


@pytest.fixture
def client(counted: Counted) -> anthropic.Anthropic:
    return counted.client


def prompt(command: str) -> list[dict]:
    return [{"type": "user.message", "content": [{"type": "text", "text": f"Please run: {command}"}]}]


def start(client: anthropic.Anthropic, **more):
    agent = client.beta.agents.create(name="Acceptance", model=MODEL, tools=TOOLS)
    environment = client.beta.environments.create(name="acceptance")
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id, **more)
    return agent, environment, session


def take_turn(client: anthropic.Anthropic, session: str, command: str, **how) -> list:
    """Opens the stream, sends, and reads to the end of the turn: everything that was on the stream."""
    seen = []
    with client.beta.sessions.events.stream(session, **how) as stream:
        client.beta.sessions.events.send(session, events=prompt(command))
        for event in stream:
            seen.append(event)
            if event.type == "session.status_idle":
                return seen
    raise AssertionError(f"the stream ended early, after {[event.type for event in seen]}")


def test_a_turn_with_a_real_bash_call_and_list_equals_stream(client: anthropic.Anthropic) -> None:
    agent, environment, session = start(client, title="Story", metadata={"of": "acceptance"})
    assert (agent.version, session.status, session.agent.version) == (1, "idle", 1)
    assert (session.title, session.metadata) == ("Story", {"of": "acceptance"})
    assert session.environment_id == environment.id

    seen = take_turn(client, session.id, "echo out of $((6 * 7)); pwd")

    # runtime SQ-2, SQ-17, SQ-18: the exact order of a turn with one tool call.
    assert [event.type for event in last_appearances(seen)] == [
        "session.thread_status_running",
        "session.status_running",
        "user.message",
        "span.model_request_start",
        "agent.tool_use",
        "span.model_request_end",
        "agent.tool_result",
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ]
    by_type = {event.type: event for event in seen}
    assert by_type["user.message"].processed_at is not None
    call, result = by_type["agent.tool_use"], by_type["agent.tool_result"]
    assert (call.name, call.input["command"]) == ("bash", "echo out of $((6 * 7)); pwd")
    assert call.evaluated_permission == "allow"
    assert (result.tool_use_id, result.is_error) == (call.id, False)
    assert text(result).split() == ["out", "of", "42", "/workspace"]
    assert text(by_type["agent.message"]).startswith("done: out of 42")
    assert by_type["session.status_idle"].stop_reason.type == "end_turn"
    assert by_type["session.usage"].usage.output_tokens > 0

    listed = list(client.beta.sessions.events.list(session.id))
    assert listed == last_appearances(seen)
    in_pages = list(client.beta.sessions.events.list(session.id, limit=2))
    assert in_pages == listed
    backwards = list(client.beta.sessions.events.list(session.id, order="desc"))
    assert backwards == listed[::-1]
    only = list(client.beta.sessions.events.list(session.id, types=["agent.tool_use", "agent.tool_result"]))
    assert only == [call, result]

    after = client.beta.sessions.retrieve(session.id)
    assert after.status == "idle"
    assert after.usage.output_tokens == by_type["session.usage"].usage.output_tokens


def test_previews_are_a_prefix_of_the_message(client: anthropic.Anthropic) -> None:
    _, _, session = start(client)
    seen = take_turn(client, session.id, "echo previewed", event_deltas=["agent.message"])
    starts = [event.event.id for event in seen if event.type == "event_start"]
    message = next(event for event in seen if event.type == "agent.message")
    assert starts == [message.id]
    fragments = [event.delta.content.text for event in seen if event.type == "event_delta"]
    assert fragments and text(message).startswith("".join(fragments))
    order = [event.type for event in seen]
    assert order.index("event_start") < order.index("event_delta") < order.index("agent.message")
    assert list(client.beta.sessions.events.list(session.id)) == last_appearances(
        [event for event in seen if event.type not in ("event_start", "event_delta")]
    )


def test_initial_events_start_the_session_at_once(client: anthropic.Anthropic) -> None:
    _, _, session = start(client, initial_events=prompt("echo from the start"))
    assert session.status == "running"
    wait_until_idle(client, session.id)
    listed = list(client.beta.sessions.events.list(session.id))
    assert text(next(event for event in listed if event.type == "agent.tool_result")).strip() == "from the start"
    assert listed[-1].type == "session.status_idle"


def test_an_update_makes_version_2_while_the_running_session_keeps_1(client: anthropic.Anthropic) -> None:
    agent, environment, session = start(client)
    with client.beta.sessions.events.stream(session.id) as stream:
        # The sandboxed reader waits for a writer that never comes, so the session runs until it is interrupted.
        client.beta.sessions.events.send(session.id, events=prompt("mkfifo gate && cat gate"))
        events = iter(stream)
        call = next(event for event in events if event.type == "agent.tool_use")

        updated = client.beta.agents.update(agent.id, version=1, system="Be brief.")
        assert (updated.version, updated.system) == (2, "Be brief.")
        running = client.beta.sessions.retrieve(session.id)
        assert (running.status, running.agent.version, running.agent.system) == ("running", 1, None)

        client.beta.sessions.events.send(session.id, events=[{"type": "user.interrupt"}])
        rest = []
        for event in events:
            rest.append(event)
            if event.type == "session.status_idle":
                break
    result = next(event for event in rest if event.type == "agent.tool_result")
    assert (result.tool_use_id, result.is_error) == (call.id, True)
    assert rest[-1].stop_reason.type == "end_turn"

    assert [version.version for version in client.beta.agents.versions.list(agent.id)] == [2, 1]
    assert client.beta.agents.retrieve(agent.id, version=1).system is None
    pinned = client.beta.sessions.create(
        agent={"type": "agent", "id": agent.id, "version": 1}, environment_id=environment.id
    )
    assert (pinned.agent.version, pinned.agent.system) == (1, None)
    newest = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    assert (newest.agent.version, newest.agent.system) == (2, "Be brief.")


def test_a_wrong_version_gets_409_after_exactly_one_request(counted: Counted) -> None:
    client = counted.client
    agent = client.beta.agents.create(name="Acceptance", model=MODEL)
    client.beta.agents.update(agent.id, version=1, name="Renamed")
    counted.requests.clear()
    with pytest.raises(anthropic.ConflictError) as refused:
        client.beta.agents.update(agent.id, version=1, name="Renamed again")
    assert counted.requests == [f"POST /v1/agents/{agent.id}"]
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert refused.value.body["error"]["type"] == "conflict_error"
    assert refused.value.request_id.startswith("req_")
    assert client.beta.agents.retrieve(agent.id).name == "Renamed"


def test_resources_are_an_empty_list(client: anthropic.Anthropic) -> None:
    _, _, session = start(client)
    assert session.resources == []
    page = client.beta.sessions.resources.list(session.id)
    assert (page.data, page.next_page) == ([], None)


def test_archive_and_delete(client: anthropic.Anthropic) -> None:
    agent, environment, session = start(client)
    take_turn(client, session.id, "echo before the end")

    archived = client.beta.sessions.archive(session.id)
    assert archived.status == "terminated" and archived.archived_at is not None
    assert session.id not in [each.id for each in client.beta.sessions.list()]
    assert session.id in [each.id for each in client.beta.sessions.list(include_archived=True)]
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.events.send(session.id, events=prompt("echo too late"))

    with client.beta.sessions.events.stream(session.id) as stream:
        deleted = client.beta.sessions.delete(session.id)
        assert (deleted.id, deleted.type) == (session.id, "session_deleted")
        assert [event.type for event in stream] == ["session.deleted"]
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.retrieve(session.id)

    assert client.beta.agents.archive(agent.id).archived_at is not None
    gone = client.beta.environments.archive(environment.id)
    assert gone.archived_at is not None
    with pytest.raises(anthropic.BadRequestError):
        client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    assert client.beta.environments.delete(environment.id).type == "environment_deleted"


def test_lists_walk_all_pages(client: anthropic.Anthropic) -> None:
    made = [client.beta.agents.create(name=f"Agent {number}", model=MODEL).id for number in range(5)]
    assert sorted(agent.id for agent in client.beta.agents.list(limit=2)) == sorted(made)
    environment = client.beta.environments.create(name="acceptance")
    assert [each.id for each in client.beta.environments.list()] == [environment.id]
    sessions = [client.beta.sessions.create(agent=made[0], environment_id=environment.id).id for _ in range(5)]
    assert [each.id for each in client.beta.sessions.list(limit=2)] == sessions[::-1]
    assert [each.id for each in client.beta.sessions.list(limit=2, order="asc")] == sessions
    assert MODEL in [model.id for model in client.models.list()]


def test_refusals_have_the_sdks_own_types(client: anthropic.Anthropic, server: Server) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.beta.agents.retrieve("agent_011CZkZAtmR3yMPDzynEDxu7")
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.beta.agents.create(name="x", model="no-such-model")
    assert MODEL in refused.value.body["error"]["message"]
    stranger = anthropic.Anthropic(base_url=server.url, api_key="not-a-key", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        stranger.beta.agents.list()


def test_the_model_was_never_asked_what_the_hosted_api_refuses(
    client: anthropic.Anthropic, model_stub: ModelStub
) -> None:
    _, _, session = start(client)
    for number in range(3):
        take_turn(client, session.id, f"echo {number}")
    with urllib.request.urlopen(f"{model_stub.url}/stats", timeout=10) as answer:
        stats = json.load(answer)
    assert (stats["hits"], stats["refused"]) == (6, 0)
