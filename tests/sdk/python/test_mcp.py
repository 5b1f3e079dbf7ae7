"""MCP servers and the credentials for them through the official SDK, against a real authorization server.

Runtime MC-1 to MC-3, MC-6, MC-7, VA-6 to VA-8, VA-17, AG-9; scenarios 16 and 17 (without the webhook).
"""

from __future__ import annotations

import base64
import json
import pathlib
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anthropic
import pytest
from postgres import Postgres
from programs import Program, program
from replicas import Cluster
from stories import MODEL, House, Story, call, every, only, replies, say, text

ALLOWED = {"default_config": {"permission_policy": {"type": "always_allow"}}}
SETTINGS = """
[egress]
allow_addresses = ["127.0.0.1/32", "::1/128"]
ports = {ports}

[mcp]
tokens_in_plain_http = true

"""


class Login(Program):
    """The authorization server, and the MCP server that admits its tokens."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__([program("MANYHANDS_OAUTH_STUB", "manyhands-oauth-stub")], {}, folder / "login.log")

    def ask(self, path: str = "/") -> dict:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return json.load(answer)

    @property
    def settings(self) -> str:
        """What a server needs to be allowed to reach them."""
        return SETTINGS.format(ports=self.ask()["ports"])

    def oauth(self, url: str | None = None) -> dict:
        """The `auth` of a credential with a new grant."""
        told, grant = self.ask(), self.ask("/grant")
        client = {"type": "client_secret_basic", "client_secret": "client & secret"}
        refresh = {
            "client_id": "manyhands",
            "refresh_token": grant["refresh_token"],
            "token_endpoint": told["token_endpoint"],
            "token_endpoint_auth": client,
        }
        token = {"mcp_server_url": url or told["mcp"], "access_token": grant["access_token"]}
        return {"type": "mcp_oauth", **token, "refresh": refresh}

    def check(self) -> None:
        """Nobody asked otherwise than the RFC has it, and no refresh token came twice."""
        assert self.ask()["problems"] == []


@pytest.fixture
def login(tmp_path: pathlib.Path) -> Iterator[Login]:
    login = Login(tmp_path)
    yield login
    assert login.terminate() == 0


@pytest.fixture
def office(login: Login) -> Iterator[House]:
    """A server that may reach them."""
    office = House(None, login.settings)
    yield office
    refused = office.refused()
    office.remove()
    assert refused == 0, "the model was asked what the hosted API refuses"


def agent_of(client: anthropic.Anthropic, url: str):
    """An agent with that MCP server, whose tools need no consent."""
    return client.beta.agents.create(
        name="Office",
        model=MODEL,
        tools=[{"type": "mcp_toolset", "mcp_server_name": "office", **ALLOWED}],
        mcp_servers=[{"type": "url", "name": "office", "url": url}],
    )


def vault_with(client: anthropic.Anthropic, *auths: dict):
    vault = client.beta.vaults.create(display_name="mine")
    return vault, [client.beta.vaults.credentials.create(vault.id, auth=auth) for auth in auths]


def echo(word: str) -> tuple[str, dict]:
    return ("mcp__office__echo", {"say": word})


def finish(story: Story) -> None:
    story.close()
    story.client.beta.sessions.delete(story.id)


def test_mc_1_mc_2_mc_3_servers_and_toolsets_are_checked_and_resolved(office: House) -> None:
    client = office.client()
    server = {"type": "url", "name": "docs", "url": "https://mcp.example.com/mcp"}
    configs = [{"name": "read"}, {"name": "write", "enabled": False, "permission_policy": {"type": "auto"}}]
    toolset = {"type": "mcp_toolset", "mcp_server_name": "docs", "configs": configs}
    agent = client.beta.agents.create(name="Reader", model=MODEL, tools=[toolset], mcp_servers=[server])
    assert agent.mcp_servers[0].to_dict() == server
    ask = {"type": "always_ask"}
    assert agent.tools[0].to_dict() == {
        "type": "mcp_toolset",
        "mcp_server_name": "docs",
        "configs": [
            {"name": "read", "enabled": True, "permission_policy": ask},
            {"name": "write", "enabled": False, "permission_policy": {"type": "auto"}},
        ],
        "default_config": {"enabled": True, "permission_policy": ask},
    }
    moved = {**server, "url": "https://mcp.example.com/v2"}
    agent = client.beta.agents.update(agent.id, version=1, mcp_servers=[moved])
    assert (agent.version, agent.mcp_servers[0].url, len(agent.tools)) == (2, moved["url"], 1)
    unreachable = client.beta.environments.create(name="any")
    override = {"type": "agent_with_overrides", "id": agent.id, "mcp_servers": [server]}
    session = client.beta.sessions.create(agent=override, environment_id=unreachable.id)
    assert (session.agent.mcp_servers[0].url, session.agent.version) == (server["url"], 2)
    session = client.beta.sessions.update(session.id, agent={"tools": [], "mcp_servers": []})
    assert (session.agent.mcp_servers, session.agent.tools) == ([], [])
    client.beta.sessions.delete(session.id)
    wrong = [
        ({"tools": [toolset]}, "tools[0].mcp_server_name"),
        ({"mcp_servers": [server]}, "mcp_servers[0].name"),
        ({"tools": [toolset], "mcp_servers": [server, server]}, "mcp_servers[1].name"),
        ({"tools": [toolset, toolset], "mcp_servers": [server]}, "tools[1].mcp_server_name"),
        ({"tools": [toolset], "mcp_servers": [{**server, "url": "https://me@mcp.example.com"}]}, "mcp_servers[0].url"),
        ({"tools": [{**toolset, "configs": [{"name": ""}]}], "mcp_servers": [server]}, "tools[0].configs[0].name"),
    ]
    for body, field in wrong:
        with pytest.raises(anthropic.BadRequestError) as refusal:
            client.beta.agents.create(name="Wrong", model=MODEL, **body)
        assert refusal.value.body["error"]["message"].startswith(f"{field}: "), refusal.value.body


def test_scenario_16_the_first_vault_with_the_servers_url_wins(login: Login, office: House) -> None:
    client, told = office.client(), login.ask()
    url = told["mcp"]
    spelled = url.replace("http://localhost", "HTTP://LocalHost") + "/"
    other, _ = vault_with(client, login.oauth(url + "/other"))
    first, _ = vault_with(client, auth := login.oauth(spelled))
    second, _ = vault_with(client, login.oauth(url))
    agent = agent_of(client, url)
    story = Story(office, agent=agent, vault_ids=[other.id, first.id, second.id])
    assert story.session.vault_ids == [other.id, first.id, second.id]
    came = story.turn(replies(call(echo("hello")), say("Done.")))
    assert text(only(came, "agent.mcp_tool_result")) == "echo: hello"
    assert set(login.ask()["tokens"]) == {auth["access_token"]}
    finish(story)
    # Another path is another server: it is asked without a token, and refuses that.
    story = Story(office, agent=agent, vault_ids=[other.id])
    came = story.turn(replies(say("Without it.")))
    error = only(came, "session.error").error
    assert (error.type, error.mcp_server_name) == ("mcp_authentication_failed_error", "office")
    assert text(only(came, "agent.message")) == "Without it."
    assert login.ask()["tokens"][-1] is None
    finish(story)
    for vault in (other, first, second):
        client.beta.vaults.delete(vault.id)


def test_scenario_17_calls_at_once_do_one_refresh_and_a_refusal_is_told(login: Login, office: House) -> None:
    client = office.client()
    vault, (credential,) = vault_with(client, login.oauth())
    story = Story(
        office,
        agent=agent_of(client, login.ask()["mcp"]),
        networking={"type": "limited", "allowed_hosts": [], "allow_mcp_servers": True},
        vault_ids=[vault.id],
    )
    words = [f"word {number}" for number in range(8)]
    story.send(replies(call(*map(echo, words), gate="expired"), say("Done.")))
    story.until("span.model_request_start")
    # The tools are listed, the model thinks; its calls come with a token that has ended.
    login.ask("/expire")
    office.open_gate("expired")
    came = story.until("session.status_idle")
    results = every(came, "agent.mcp_tool_result")
    assert sorted(map(text, results)) == sorted(f"echo: {word}" for word in words)
    assert not any(result.is_error for result in results)
    told = login.ask()
    assert (told["asked"], told["granted"]) == (1, 1)
    login.check()

    # A rotated secret is used by the running session.
    fresh = login.oauth()
    auth = {"type": "mcp_oauth", "access_token": fresh["access_token"]}
    refresh = {"refresh_token": fresh["refresh"]["refresh_token"]}
    client.beta.vaults.credentials.update(credential.id, vault_id=vault.id, auth={**auth, "refresh": refresh})
    story.turn(replies(call(echo("rotated")), say("Done.")))
    assert login.ask()["tokens"][-1] == fresh["access_token"]

    # A grant that is gone is told, and the session goes on.
    login.ask("/revoke")
    came = story.turn(replies(say("Without it.")))
    error = only(came, "session.error").error
    assert (error.type, error.retry_status.type) == ("mcp_authentication_failed_error", "retrying")
    assert "invalid_grant" in error.message
    assert text(only(came, "agent.message")) == "Without it."
    seen = json.dumps([event.to_dict() for event in story.listed()], default=str)
    assert not any(secret in seen for secret in ("access-", "+&=%/", "client & secret"))
    finish(story)


def test_va_17_a_credential_is_tried_out(login: Login, office: House) -> None:
    client = office.client()
    vault, (credential,) = vault_with(client, login.oauth())

    def validate():
        return client.beta.vaults.credentials.mcp_oauth_validate(credential.id, vault_id=vault.id)

    report = validate()
    assert (report.status, report.has_refresh_token, report.mcp_probe, report.refresh) == ("valid", True, None, None)
    login.ask("/expire")
    report = validate()
    assert (report.status, report.refresh.status, report.mcp_probe) == ("valid", "succeeded", None)
    login.ask("/revoke")
    report = validate()
    assert (report.status, report.refresh.status) == ("invalid", "failed")
    assert (report.refresh.http_response.status_code, report.refresh.http_response.body) == (
        400,
        '{"error":"invalid_grant"}',
    )
    assert (report.mcp_probe.method, report.mcp_probe.http_response.status_code) == ("initialize", 401)


def test_va_6_two_servers_do_one_refresh(login: Login, postgres: Postgres) -> None:
    cluster = Cluster(postgres, login.settings)
    cluster.environment["MANYHANDS_MASTER_KEY"] = base64.b64encode(bytes(range(32))).decode()
    first = cluster.start()
    servers = [first, cluster.start()]
    clients = [cluster.client(server) for server in servers]
    vault, _ = vault_with(clients[0], login.oauth())
    agent = agent_of(clients[0], login.ask()["mcp"])
    environment = clients[0].beta.environments.create(name="shared")
    login.ask("/expire")

    def work(number: int) -> list[str]:
        """One session, made and driven at one of the two."""
        client = clients[number % 2]
        session = client.beta.sessions.create(
            agent=agent.id, environment_id=environment.id, vault_ids=[vault.id]
        )
        with client.beta.sessions.events.stream(session.id) as stream:
            message = replies(call(*(echo(f"{number} {word}") for word in "abc")), say("Done."))
            client.beta.sessions.events.send(session.id, events=[message])
            results = []
            for event in stream:
                assert event.type != "session.error", event
                if event.type == "agent.mcp_tool_result":
                    results.append(text(event))
                if event.type == "session.status_idle":
                    break
        return sorted(results)

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(work, range(6)))
    assert done == [[f"echo: {number} {word}" for word in "abc"] for number in range(6)]
    told = login.ask()
    assert (told["asked"], told["granted"]) == (1, 1)
    login.check()
    cluster.remove()
