"""Web tools, long outputs, and blocks by file id, through the official SDK.

Runtime WB-2 to WB-9, WB-12, TL-3; api 10.1.
"""

from __future__ import annotations

import base64

import anthropic
import pytest
from stories import BUILT_IN, MODEL, House, Story, bash, call, every, replies, say, text

PNG = b"\x89PNG\r\n\x1a\nrest"


def web(name: str, **settings) -> dict:
    """The built-in tools with settings of a web tool."""
    return {**BUILT_IN, "configs": [{"name": name, **settings}]}


def test_settings_are_kept_and_shown(house: House) -> None:
    """WB-2, WB-7: the object form in answers, whatever form was sent."""
    client = house.client()
    agent = client.beta.agents.create(
        name="Web",
        model=MODEL,
        tools=[
            {
                **BUILT_IN,
                "configs": [
                    {
                        "name": "web_fetch",
                        "allowed_domains": ["Docs.Example.com/", "example.org"],
                        "max_content_tokens": 5000,
                        "url_sources": {"user_input": "all", "client_tool_results": "none"},
                    },
                    {
                        "name": "web_search",
                        "blocked_domains": ["ads.example.com/tracker"],
                        "user_location": {"type": "approximate", "country": "AT", "timezone": "Europe/Vienna"},
                    },
                ],
            }
        ],
    )
    fetch, search = client.beta.agents.retrieve(agent.id).tools[0].configs
    assert fetch.allowed_domains == ["docs.example.com", "example.org"]
    assert fetch.blocked_domains is None and fetch.max_content_tokens == 5000
    assert fetch.url_sources.client_tool_results.type == "none"
    assert fetch.url_sources.user_input.type == "all" and fetch.url_sources.server_tool_results is None
    assert search.blocked_domains == ["ads.example.com/tracker"]
    assert search.user_location.country == "AT" and search.user_location.city is None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"allowed_domains": []}, "Empty list of domains is ambiguous. Provide at least one domain or null."),
        ({"allowed_domains": ["a.com"], "blocked_domains": ["b.com"]}, "Only one of allowed_domains or blocked_domains may be set."),
        ({"allowed_domains": ["127.0.0.1"]}, "allowed_domains.0: "),
        ({"url_sources": {"user_input": "none", "client_tool_results": "none", "server_tool_results": "none"}}, "url_sources"),
    ],
)
def test_settings_that_mean_nothing_are_refused(house: House, settings: dict, problem: str) -> None:
    """WB-3, WB-5, WB-7"""
    with pytest.raises(anthropic.BadRequestError) as refused:
        house.client().beta.agents.create(name="Web", model=MODEL, tools=[web("web_fetch", **settings)])
    assert problem in refused.value.message


def test_a_limited_environment_bounds_the_web_tools(house: House) -> None:
    """WB-9: at create, and at run time."""
    client = house.client()
    limited = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["example.org"]}}
    environment = client.beta.environments.create(name="Limited web", config=limited)
    wide = client.beta.agents.create(name="Wide", model=MODEL, tools=[web("web_fetch", allowed_domains=["example.com"])])
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.beta.sessions.create(agent=wide.id, environment_id=environment.id)
    assert "not within the allowed_hosts" in refused.value.message
    agent = client.beta.agents.create(name="Web", model=MODEL, tools=[BUILT_IN])
    session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    with client.beta.sessions.events.stream(session.id) as stream:
        fetch = ("web_fetch", {"url": "https://example.com/"})
        client.beta.sessions.events.send(session.id, events=[replies(call(fetch), say("Done."))])
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "session.status_idle":
                break
    (result,) = every(seen, "agent.tool_result")
    assert result.is_error and "url_not_allowed" in text(result)
    (usage,) = every(seen, "session.usage")
    assert (usage.usage.server_tool_use.web_search_requests, usage.usage.server_tool_use.web_fetch_requests) == (0, 0)


def test_addresses_are_never_fetched_and_search_says_that_nobody_does(house: House) -> None:
    """NET-9, WB-1"""
    story = Story(house)
    calls = [
        ("web_fetch", {"url": "http://127.0.0.1:1/"}),
        ("web_fetch", {"url": "http://169.254.169.254/latest/meta-data"}),
        ("web_fetch", {"url": "http://localhost/"}),
        ("web_search", {"query": "anything"}),
    ]
    came = story.turn(replies(call(*calls), say("Done.")))
    results = {result.tool_use_id: result for result in every(came, "agent.tool_result")}
    told = [results[use.id] for use in every(came, "agent.tool_use")]
    assert [result.is_error for result in told] == [True] * 4
    assert all("url_not_allowed" in text(result) for result in told[:3]), [text(result) for result in told]
    assert "not configured" in text(told[3])


def test_a_long_output_of_bash_goes_to_a_file(house: House) -> None:
    """TL-3: the model gets a part of it and the file's name; the file has all of it."""
    story = Story(house)
    came = story.turn(replies(call(bash("seq 1 40000")), say("Done.")))
    (result,) = every(came, "agent.tool_result")
    shown = text(result)
    assert len(shown) <= 105_000 and "39999\n40000" in shown and "\n1\n2\n3\n" not in shown
    (path,) = {word.strip("[].,:;") for word in shown.split() if word.startswith("/tmp/tool-output/")}
    came = story.turn(replies(call(bash(f"sha256sum < {path}; seq 1 40000 | sha256sum")), say("Done.")))
    (result,) = every(came, "agent.tool_result")
    first, second = text(result).split("\n")[:2]
    assert first == second, text(result)


def test_blocks_name_uploaded_files(house: House) -> None:
    """api 10.1: what the model sees is what the file was when the message was sent."""
    story = Story(house)
    picture = story.client.beta.files.upload(file=("a.png", PNG, "image/png"))
    block = {"type": "image", "source": {"type": "file", "file_id": picture.id}}
    dictated = replies(say("I see."))
    (sent,) = story.send({"type": "user.message", "content": [*dictated["content"], block]})
    assert sent.content[1].source.file_id == picture.id
    story.until("session.status_idle")
    story.client.beta.files.delete(picture.id)
    story.turn(replies(say("Still.")))
    requests = house.asked(base64.b64encode(PNG).decode())
    assert len(requests) == 2
    with pytest.raises(anthropic.NotFoundError):
        story.send({"type": "user.message", "content": [block]})
