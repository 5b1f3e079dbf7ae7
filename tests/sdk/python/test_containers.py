"""Sessions whose sandboxes are containers, through the official SDK: the way out by a folder and over the engine's streams.

Acceptance scenario 20; runtime GH-2 to GH-4, GH-7, EN-14; security NET-1, NET-4, NET-8, CRED-9, SBX-7.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
import test_networking
from canary import Canaries
from containers import IMAGE, Engine
from test_networking import ASK, HELLO, LIMITED
from test_repositories import HOST, Session, a_clone_survives_its_server, repository

SETTINGS = """
[sandbox]
provider = "container"

[sandbox.container]
endpoint = "{socket}"
image = "{image}"
door = "{door}"
"""


class House(test_networking.House):
    """A server beside an engine, both inside of the internet of the test's own."""

    def __init__(self, folder: pathlib.Path, door: str) -> None:
        self.door = door
        super().__init__(folder)

    def sandboxes(self) -> str:
        self.engine = Engine(self.outside.prefix)
        return SETTINGS.format(socket=self.engine.socket, image=IMAGE, door=self.door)

    def remove(self) -> None:
        for session in self.client.beta.sessions.list():
            self.client.beta.sessions.delete(session.id)
        self.engine.remove()
        super().remove()


@pytest.fixture(scope="module", params=["folder", "streams"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from test_networking.shut_in(House(tmp_path_factory.mktemp("outside"), request.param))


def test_net_1_a_container_reaches_what_it_may_and_nothing_else(house: House) -> None:
    """NET-1, NET-4, NET-10: by the proxy alone, which refuses with 403 and says why, whichever way a container comes to it."""
    session = test_networking.Session(house, **LIMITED)
    reached, *refused = session.run(
        "curl -sS https://site.example.com/",
        f"{ASK} https://forbidden.example.net/",
        f"{ASK} http://forbidden.example.net/",
        f"{ASK} http://metadata.example.com/",
        f"{ASK} --noproxy '*' http://203.0.114.66/",
    )
    assert reached == HELLO
    statuses = ["000 403", "403 000", "403 000", "000 000"]
    assert [output[-7:] for output in refused] == statuses, refused
    assert house.refusals(session.id) == ["host_not_allowed", "host_not_allowed", "address_not_global"]
    assert set(house.engine.podman("ps", "--format", '{{index .Labels "manyhands.door"}}').split()) == {house.door}


def test_scenario_20_clone_commit_and_push_from_a_container(house: House) -> None:
    """GH-2 to GH-4, CRED-9, NET-4: as from any sandbox, before and after the server was killed; no token inside."""
    code, canaries = house.outside.code, Canaries()
    token = canaries.plant("token of a repository")
    code.add("acme/tools", [token], {"README": "tools of acme\n"})
    session = Session(house, repository("acme/tools", authorization_token=token))
    push = "cd /workspace/tools && echo {0} > {0} && git add {0} && git commit -q -m '{0}' && git push -q 2>&1 && echo pushed"
    readme, pushed = session.run("cat /workspace/tools/README", push.format("one"))
    assert (readme.strip(), pushed.strip()) == ("tools of acme", "pushed")
    assert code.log("acme/tools", "log", "-1", "--format=%s", "main") == "one"
    refused = f"curl -sS -o /dev/null -w '%{{http_code}}' {HOST}/"
    assert session.one(refused) == "403"
    house.server.kill_and_start()
    again, still, inside = session.run(
        push.format("two"),
        refused,
        "git -C /workspace/tools config --list; env; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'",
    )
    assert (again.strip(), still) == ("pushed", "403")
    assert code.log("acme/tools", "log", "-1", "--format=%s", "main") == "two"
    assert "code.example.com" in inside
    assert canaries.found("inside", inside) == []
    assert set(code.visits("acme/tools")) == {token}
    assert session.errors() == []


def test_gh_3_a_clone_in_a_container_survives_its_server(house: House) -> None:
    """GH-3, GH-7, SBX-7: a server that is killed in the middle of a clone leaves nothing half, and the next one finishes it."""
    a_clone_survives_its_server(house)
