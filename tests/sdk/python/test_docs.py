"""The Python of the README and of the book does what it says, against the real server."""

from __future__ import annotations

import pathlib
import re

import pytest
from conftest import delete_sessions
from programs import ModelStub, Server
from stories import ABLE, CONFIG, MODEL

ROOT = pathlib.Path(__file__).parents[3]


def blocks(page: str) -> list[str]:
    """The Python of a page, block by block."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert found, page
    return found


@pytest.fixture
def priced_server(model_stub: ModelStub, tmp_path: pathlib.Path):
    """A server whose model calls bash once per turn, and has prices."""
    config = tmp_path / "manyhands.toml"
    config.write_text(CONFIG.format(model=MODEL, url=model_stub.url) + ABLE)
    server = Server({"MANYHANDS_CONFIG": str(config), "STORY_MODEL_KEY": "stub"})
    yield server
    delete_sessions(server)
    server.remove()


@pytest.mark.parametrize("page", ["README.md", "docs/src/sdk.md"])
def test_the_examples_run(page: str, priced_server: Server, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", priced_server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", priced_server.key)
    names: dict = {}
    for number, block in enumerate(blocks(page)):
        exec(compile(block, f"{page}, block {number + 1}", "exec"), names)
    client = names["client"]
    results = [
        event
        for session in client.beta.sessions.list()
        for event in client.beta.sessions.events.list(session.id, types=["agent.tool_result"])
    ]
    assert results, "no tool was run"
    printed = capsys.readouterr().out
    assert "session.status_idle" in printed
    if "stream" in names:
        names["stream"].close()
