"""Workspaces, roles, keys of environments, limits and repeatable requests through the official SDK (architecture "Keys").

runtime HT-9, HT-10, RL-1, SC-6; security API-1, API-2, API-3, API-6, OPS-3.
"""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import anthropic
import pytest
from postgres import Postgres
from programs import ModelStub, Server, program
from replicas import Cluster

MODEL = "claude-opus-4-8"


def client(server: Server, key: str, **more: object) -> anthropic.Anthropic:
    more = {"timeout": 30, "max_retries": 0, "_strict_response_validation": True} | more
    return anthropic.Anthropic(base_url=server.url, api_key=key, **more)


def manyhands(server: Server, *arguments: str) -> str:
    """What a command prints that is run on the server's data directory."""
    command = [program("MANYHANDS_BIN", "manyhands"), *arguments, "--data-dir", str(server.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def agent(maker: anthropic.Anthropic, name: str = "a", **more: object):
    return maker.beta.agents.create(name=name, model=MODEL, **more)


def names(lister: anthropic.Anthropic) -> list[str]:
    return [one.name for one in lister.beta.agents.list()]


def test_api_2_two_workspaces_know_nothing_of_each_other(server: Server) -> None:
    first = client(server, server.key)
    workspace = manyhands(server, "workspaces", "create", "team blue")
    second = client(server, manyhands(server, "keys", "create", "lead", "admin", "--workspace", workspace))
    mine = agent(first, "mine")
    agent(second, "theirs")
    assert (names(first), names(second)) == (["mine"], ["theirs"])
    with pytest.raises(anthropic.NotFoundError) as foreign:
        second.beta.agents.retrieve(mine.id)
    with pytest.raises(anthropic.NotFoundError) as missing:
        second.beta.agents.retrieve(mine.id[:-1] + ("1" if mine.id[-1] != "1" else "2"))
    assert foreign.value.body["error"] == missing.value.body["error"]
    second.beta.agents.list(extra_headers={"anthropic-workspace-id": workspace})
    with pytest.raises(anthropic.AuthenticationError):
        first.beta.agents.list(extra_headers={"anthropic-workspace-id": workspace})
    with pytest.raises(anthropic.AuthenticationError):
        first.beta.agents.list(extra_headers={"x-api-key": second.api_key})
    manyhands(server, "workspaces", "rename", workspace, "team green")
    assert "team green" in manyhands(server, "workspaces", "list")
    rows = [json.loads(line) for line in manyhands(server, "audit", "--json").splitlines()]
    told = [(row["action"], row["workspace_id"] == workspace) for row in rows[1:]]
    assert told == [("workspace.create", True), ("key.create", True), ("workspace.rename", True)]


def test_api_1_roles(server: Server) -> None:
    reader = client(server, manyhands(server, "keys", "create", "r", "read_only"))
    developer = client(server, manyhands(server, "keys", "create", "d"))
    made = agent(developer)
    assert reader.beta.agents.retrieve(made.id) == made
    with pytest.raises(anthropic.PermissionDeniedError, match="read_only"):
        agent(reader)
    with pytest.raises(anthropic.PermissionDeniedError):
        developer.get("/v1/manyhands/keys", cast_to=object)
    listed = manyhands(server, "keys", "list").splitlines()
    assert [line.split()[3] for line in listed] == ["admin", "read_only", "developer"]


def test_api_1_the_key_of_an_environment(server: Server) -> None:
    admin = client(server, server.key)
    made = agent(admin)
    environments = [admin.beta.environments.create(name=name).id for name in ("one", "two")]
    sessions = [admin.beta.sessions.create(agent=made.id, environment_id=environment).id for environment in environments]
    worker = client(server, manyhands(server, "environment-keys", "create", environments[0], "worker"))
    assert worker.beta.sessions.retrieve(sessions[0]).id == sessions[0]
    worker.beta.sessions.events.send(sessions[0], events=[{"type": "user.interrupt"}])
    assert [event.type for event in worker.beta.sessions.events.list(sessions[0])] == ["user.interrupt"]
    with worker.beta.sessions.events.stream(sessions[0]) as stream:
        assert stream.response.status_code == 200
    with pytest.raises(anthropic.NotFoundError):
        worker.beta.sessions.retrieve(sessions[1])
    with pytest.raises(anthropic.PermissionDeniedError):
        worker.beta.sessions.list()
    with pytest.raises(anthropic.PermissionDeniedError):
        worker.beta.agents.retrieve(made.id)
    key = manyhands(server, "environment-keys", "list").split()[0]
    manyhands(server, "environment-keys", "revoke", key)
    with pytest.raises(anthropic.AuthenticationError):
        worker.beta.sessions.retrieve(sessions[0])


@pytest.fixture
def cluster(postgres: Postgres) -> Iterator[Cluster]:
    cluster = Cluster(postgres)
    yield cluster
    cluster.remove()


def test_sc_5_a_revocation_is_seen_at_once_by_two_servers(cluster: Cluster) -> None:
    one, two = cluster.start(), cluster.start()
    admin = cluster.client(one)
    made = admin.post("/v1/manyhands/keys", body={"name": "k"}, cast_to=object)
    clients = [client(server, made["key"]) for server in (one, two)]
    for each in clients:
        assert names(each) == []
    admin.delete(f"/v1/manyhands/keys/{made['id']}", cast_to=object)
    for each in clients:
        with pytest.raises(anthropic.AuthenticationError):
            names(each)


@pytest.fixture
def limited(model_stub: ModelStub, tmp_path) -> Iterator[Server]:
    """A server that takes sixty reads a minute: one a second, once they are used up."""
    config = tmp_path / "manyhands.toml"
    config.write_text("[limits]\nreads_per_minute = 60\n[limits.quotas]\nagents = 1\n")
    server = Server(model_stub.environment | {"MANYHANDS_CONFIG": str(config)})
    yield server
    server.remove()


def test_rl_1_the_sdk_waits_as_long_as_it_is_told(limited: Server) -> None:
    eager, patient = client(limited, limited.key), client(limited, limited.key, max_retries=3)
    refused = None
    for _ in range(200):
        try:
            names(eager)
        except anthropic.RateLimitError as error:
            refused = error
            break
    assert refused is not None
    assert int(refused.response.headers["retry-after"]) == 1
    assert refused.response.headers["anthropic-ratelimit-requests-limit"] == "60"
    # The next one may be there by now: asks until it has to wait.
    answers = (patient.beta.agents.with_raw_response.list() for _ in range(200))
    waited = next((answer for answer in answers if answer.retries_taken), None)
    assert waited is not None, "it was refused, waited, and asked again"
    assert list(waited.parse()) == []


def test_store_4_a_quota_is_an_error_that_says_so(limited: Server) -> None:
    maker = client(limited, limited.key)
    agent(maker)
    with pytest.raises(anthropic.BadRequestError, match="1 of the 1 agents") as refused:
        agent(maker)
    assert refused.value.body["error"]["details"]["error_code"] == "storage_quota_exceeded"


def test_api_6_an_idempotency_key_makes_a_create_safe_to_repeat(server: Server) -> None:
    maker = client(server, server.key)
    once = {"Idempotency-Key": "order-4711"}
    made = agent(maker, "once", extra_headers=once)
    assert agent(maker, "once", extra_headers=once) == made
    with pytest.raises(anthropic.UnprocessableEntityError):
        agent(maker, "twice", extra_headers=once)
    server.kill_and_start()
    maker = client(server, server.key)
    raw = maker.beta.agents.with_raw_response.create(name="once", model=MODEL, extra_headers=once)
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.parse() == made
    assert names(maker) == ["once"]
    with pytest.raises(anthropic.BadRequestError, match="idempotency-key"):
        maker.beta.files.upload(file=("f.txt", b"text"), extra_headers=once)


def test_api_3_no_key_no_answer(server: Server) -> None:
    request = urllib.request.Request(f"{server.url}/v1/files")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 401
    with pytest.raises(anthropic.AuthenticationError):
        names(client(server, "mh_key_unknown"))
    with pytest.raises(anthropic.AuthenticationError):
        names(client(server, "mh_env_unknown"))
