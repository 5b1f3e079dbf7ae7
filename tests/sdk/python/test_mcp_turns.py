"""Turns with tools of MCP servers, made with the official Python package, through the official SDK.

Runtime MC-2 to MC-5, MC-7 to MC-10, TL-3, TC-7; scenario 28.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest
from stories import BUILT_IN, MODEL, House, Story, allow, bash, blocking, call, deny, every, only, replies, say, text

SERVER = pathlib.Path(__file__).with_name("mcp_server.py")
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
PYTHON = pathlib.Path(os.environ.get("MANYHANDS_MCP_PYTHON") or f"{CACHE}/manyhands/mcp-python") / "bin" / "python"


class Peer:
    """An MCP server of its own, on a port of its choice."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.letters = folder / "letters"
        self.process = subprocess.Popen(
            [PYTHON, SERVER, str(self.letters)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/mcp"

    def sent(self) -> list[str]:
        """The letters that were sent, in their order."""
        return self.letters.read_text().splitlines() if self.letters.exists() else []

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    peer = Peer(tmp_path_factory.mktemp("mcp"))
    yield peer
    peer.end()


@pytest.fixture(scope="module")
def office(peer: Peer) -> Iterator[House]:
    """A server that may talk to the MCP server."""
    egress = f'[egress]\nallow_addresses = ["127.0.0.1/32", "::1/128"]\nports = [{peer.port}]\n'
    office = House(None, egress)
    yield office
    refused = office.refused()
    office.remove()
    assert refused == 0, "the model was asked what the hosted API refuses"


def offer(policy: str | None = None, **configs: dict) -> dict:
    """The toolset of the server, under this policy."""
    toolset: dict = {"type": "mcp_toolset", "mcp_server_name": "office"}
    if policy:
        toolset["default_config"] = {"permission_policy": {"type": policy}}
    toolset["configs"] = [{"name": name, **config} for name, config in configs.items()]
    return toolset


@contextlib.contextmanager
def session(office: House, url: str, *tools: dict, networking: dict | None = None) -> Iterator[Story]:
    """A session whose agent has these tools and the server."""
    client = office.client()
    server = {"type": "url", "name": "office", "url": url}
    agent = client.beta.agents.create(name="Office", model=MODEL, tools=list(tools), mcp_servers=[server])
    story = Story(office, agent=agent, networking=networking)
    yield story
    story.close()
    client.beta.sessions.delete(story.id)


def send(letter: str) -> tuple[str, dict]:
    """A call of the tool that sends letters."""
    return ("mcp__office__send", {"letter": letter})


def offered(story: Story, mark: str) -> list[str]:
    """The names of the server's tools in the last model request with this mark."""
    tools = story.asked(mark)[-1].get("tools", [])
    return [tool["name"] for tool in tools if tool["name"].startswith("mcp__")]


def test_a_call_asks_first_and_runs_once_it_is_allowed(office: House, peer: Peer) -> None:
    """MC-2, MC-4, MC-5, TC-1, TC-7, SQ-7"""
    with session(office, peer.url, offer()) as story:
        came = story.turn(replies(call(send("first"), send("second")), say("Both are done.")))
        uses = every(came, "agent.mcp_tool_use")
        assert [(use.mcp_server_name, use.name, use.evaluated_permission) for use in uses] == [
            ("office", "send", "ask")
        ] * 2
        assert uses[0].evaluation.type == "always_ask" and uses[0].input == {"letter": "first"}
        assert blocking(came[-1]) == [use.id for use in uses]
        assert "first" not in peer.sent()
        came = story.turn(allow(uses[0]), deny(uses[1], "not to them"))
        results = {result.mcp_tool_use_id: result for result in every(came, "agent.mcp_tool_result")}
        assert text(results[uses[0].id]) == "sent first" and not results[uses[0].id].is_error
        assert "not to them" in text(results[uses[1].id]) and results[uses[1].id].is_error
        assert text(only(came, "agent.message")) == "Both are done."
        assert peer.sent().count("first") == 1 and "second" not in peer.sent()
        assert "mcp__office__send" in offered(story, "Both are done.")
        story.check_list_equals_stream()


def test_settings_of_tools(office: House, peer: Peer) -> None:
    """MC-2, MC-3, TC-2, TL-5: what is switched off is not offered, and refused."""
    allowed = {"permission_policy": {"type": "always_allow"}}
    toolset = offer("always_ask", send=allowed, long={"enabled": False})
    with session(office, peer.url, toolset) as story:
        wanted = call(send("third"), ("mcp__office__long", {"characters": 5}))
        came = story.turn(replies(wanted, say("The third.")))
        assert [use.evaluated_permission for use in every(came, "agent.mcp_tool_use")] == ["allow", "deny"]
        results = [(text(result), result.is_error) for result in every(came, "agent.mcp_tool_result")]
        assert ("sent third", False) in results and len([1 for _, failed in results if failed]) == 1
        assert "mcp__office__long" not in offered(story, "The third.")


def test_a_failing_tool_is_news_for_the_model(office: House, peer: Peer) -> None:
    """MC-9, ER-11"""
    with session(office, peer.url, offer("always_allow")) as story:
        came = story.turn(replies(call(("mcp__office__fail", {})), say("It failed.")))
        result = only(came, "agent.mcp_tool_result")
        assert result.is_error and "out of stamps" in text(result)
        assert not every(came, "session.error")


def test_scenario_28_a_long_result_is_whole_in_the_sandbox(office: House, peer: Peer) -> None:
    """Scenario 28; TL-3, MC-9: preview and path, and the file is complete."""
    with session(office, peer.url, BUILT_IN, offer("always_allow")) as story:
        came = story.turn(replies(call(("mcp__office__long", {"characters": 100_001})), say("It is long.")))
        result = only(came, "agent.mcp_tool_result")
        assert not result.is_error and len(text(result)) < 21_000
        assert text(result).startswith("0123456789" * 2_000)
        path = text(result).rpartition("The whole output is in ")[2].removesuffix(".]")
        assert path.startswith("/"), text(result)[-300:]
        came = story.turn(replies(call(bash(f"wc -c < {path}; tail -c 11 {path}")), say("Counted.")))
        assert text(only(came, "agent.tool_result")).split() == ["100001", "01234567890"]
        # Right at the limit there is no file.
        came = story.turn(replies(call(("mcp__office__long", {"characters": 100_000})), say("Less long.")))
        assert len(text(only(came, "agent.mcp_tool_result"))) == 100_000


def test_a_server_that_is_not_there_stops_no_turn(office: House, peer: Peer) -> None:
    """MC-7, MC-8, ER-9: told once a turn, tried again with the next."""
    with session(office, "http://localhost:9/mcp", offer()) as story:
        for turn in ("one", "two"):
            came = story.turn(replies(say(f"Turn {turn}.")))
            error = only(came, "session.error").error
            assert (error.type, error.mcp_server_name) == ("mcp_connection_failed_error", "office")
            assert error.retry_status.type == "retrying"
            assert text(only(came, "agent.message")) == f"Turn {turn}."
            assert came[-1].stop_reason.type == "end_turn"
            assert offered(story, f"Turn {turn}.") == []


@pytest.mark.parametrize("open_to_servers", [False, True])
def test_a_limited_environment(office: House, peer: Peer, open_to_servers: bool) -> None:
    """MC-10"""
    networking = {"type": "limited", "allowed_hosts": [], "allow_mcp_servers": open_to_servers}
    with session(office, peer.url, offer("always_allow"), networking=networking) as story:
        mark = f"limited {open_to_servers}"
        came = story.turn(replies(call(send(mark)), say(f"{mark}.")))
        assert (mark in peer.sent()) == open_to_servers
        assert only(came, "agent.mcp_tool_result").is_error != open_to_servers
        errors = [event.error for event in every(came, "session.error")]
        assert [error.type for error in errors] == ([] if open_to_servers else ["mcp_connection_failed_error"])
