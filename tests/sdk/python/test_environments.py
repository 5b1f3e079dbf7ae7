"""Environments through the official SDK, strict about every answer: what they may say, and what their packages come to.

runtime EN-1 to EN-11; api §5.
"""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import anthropic
import pytest
from programs import Server
from test_networking import SHOWN, House, Session, shut_in

SOURCES = """
[environments.sources]
npm = "https://npm.example.org/"
pip = "https://pip.example.org/simple/"
"""
LIMITED = {"type": "limited", "allowed_hosts": ["api.example.com", "*.files.example.com"]}


@pytest.fixture
def client(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=server.url, api_key=server.key, timeout=30, _strict_response_validation=True
    )


def refused(client: anthropic.Anthropic, config: dict) -> str:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.create(name="refused", config=config)
    return caught.value.body["error"]["message"]


def test_en_3_networking_and_packages_are_shown_whole_and_merged(client: anthropic.Anthropic) -> None:
    packages = {"pip": ["requests==2.32.3"], "npm": ["typescript@5.6.3"]}
    networking = LIMITED | {"allow_package_managers": True}
    made = client.beta.environments.create(
        name="box", config={"type": "cloud", "networking": networking, "packages": packages}
    )
    assert made.config.networking.allowed_hosts == LIMITED["allowed_hosts"]
    assert made.config.networking.allow_mcp_servers is False
    assert made.config.networking.allow_package_managers is True
    assert made.config.packages.pip == ["requests==2.32.3"]
    assert made.config.packages.apt == made.config.packages.gem == []

    config = {"type": "cloud", "networking": {"type": "limited", "allow_mcp_servers": True}, "packages": {"pip": []}}
    changed = client.beta.environments.update(made.id, config=config)
    assert changed.config.networking.allowed_hosts == LIMITED["allowed_hosts"]
    assert changed.config.networking.allow_mcp_servers is True
    assert changed.config.networking.allow_package_managers is True
    assert (changed.config.packages.pip, changed.config.packages.npm) == ([], ["typescript@5.6.3"])
    assert client.beta.environments.retrieve(made.id) == changed

    # What is left after the merge must hold together.
    with pytest.raises(anthropic.BadRequestError, match="allow_package_managers: must be true"):
        closed = {"type": "limited", "allow_package_managers": False}
        client.beta.environments.update(made.id, config={"type": "cloud", "networking": closed})
    opened = client.beta.environments.update(
        made.id, config={"type": "cloud", "networking": {"type": "unrestricted"}}
    )
    assert opened.config.networking.type == "unrestricted"
    assert opened.config.packages.npm == ["typescript@5.6.3"]


def test_en_8_what_an_environment_cannot_be_is_refused_with_the_place(client: anthropic.Anthropic) -> None:
    def networking(**more) -> dict:
        return {"type": "cloud", "networking": {"type": "limited"} | more}

    closed = networking(allowed_hosts=["pip.example.org"]) | {"packages": {"pip": ["requests"]}}
    assert refused(client, closed).startswith("config.networking.allow_package_managers: must be true")
    for host in ["https://a.example.com", "a.example.com:443", "10.0.0.1", "*", "A.example.com", "a.example.com/x"]:
        message = refused(client, networking(allowed_hosts=["a.example.com", host]))
        assert message.startswith("config.networking.allowed_hosts[1]: must be a host like"), message
    for manager, package in [
        ("apt", "--allow-unauthenticated"),
        ("cargo", "--git=https://a.example.com/x"),
        ("gem", "./x.gem"),
        ("go", "../x"),
        ("npm", "git+https://a.example.com/x"),
        ("pip", "x @ https://a.example.com/x.whl"),
    ]:
        message = refused(client, {"type": "cloud", "packages": {manager: [package]}})
        assert message.startswith(f"config.packages.{manager}[0]: must be a name that {manager} knows"), message
    assert refused(client, {"type": "self_hosted"}).startswith("config.type: self_hosted is not supported")
    assert list(client.beta.environments.list()) == []


def test_en_5_archived_environments_say_so(client: anthropic.Anthropic) -> None:
    made = client.beta.environments.create(name="box")
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made.id, config={"type": "self_hosted"})
    assert caught.value.body["error"]["details"]["error_code"] == "invalid_config_type_change"
    assert client.beta.environments.archive(made.id).archived_at is not None
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.environments.update(made.id, name="other")
    assert caught.value.body["error"]["details"]["error_code"] == "environment_archived"
    assert client.beta.environments.delete(made.id).type == "environment_deleted"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from shut_in(House(tmp_path_factory.mktemp("environments"), SOURCES))


class Furnished(Session):
    """A session whose environment has packages."""

    def __init__(self, house: House, packages: dict, networking: dict) -> None:
        super().__init__(house, **networking)
        session = self.client.beta.sessions.retrieve(self.id)
        self.environment = session.environment_id
        self.client.beta.environments.update(self.environment, config={"type": "cloud", "packages": packages})

    def errors(self) -> list[str]:
        events = self.client.beta.sessions.events.list(self.id)
        return [event.error.message for event in events if event.type == "session.error"]


MANAGERS = {"type": "limited", "allowed_hosts": [], "allow_mcp_servers": False, "allow_package_managers": True}
HELLO = {"npm": ["hello-hands"], "pip": ["hello-hands"]}


def test_en_7_packages_come_through_the_gate_once_and_are_there_for_every_session(house: House) -> None:
    """Under limited networking the managers' hosts and no others are open to a build (EN-8, EN-11)."""
    for _ in range(2):
        session = Furnished(house, HELLO, MANAGERS)
        outputs = session.run("python3 -m hello_hands", "node -e \"require('hello-hands')\"")
        assert outputs == ["python says hello", "node says hello"]
        assert session.errors() == []
    layers = house.server.data_dir / "layers"
    assert len([path for path in pathlib.Path(layers).iterdir() if path.name.startswith("layer-")]) == 1


def test_en_9_packages_that_are_not_there_are_told_and_the_session_goes_on(house: House) -> None:
    session = Furnished(house, {"pip": ["no-such-hands"]}, MANAGERS)
    (first,) = session.run("echo works")
    assert "pip" in first and first.endswith("works") and "packages are not installed" in first
    (message,) = session.errors()
    assert "no-such-hands" in message
    (second,) = session.run("echo still works")
    assert second == "still works"
    assert len(session.errors()) == 1


PROGRAMS = """
[environments]
image = "{}"

[environments.sources]
cargo = "sparse+https://cargo.example.org/"
go = "https://go.example.org"
"""


def machine_with_compilers(folder: pathlib.Path) -> str:
    """Settings for sandboxes whose system is this machine's, with its Rust and Go where system packages would put them."""
    system = folder / "usr"
    (system / "local" / "bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    for path in pathlib.Path("/usr").iterdir():
        if path.name != "local":
            (system / path.name).symlink_to(pathlib.Path("/opt/usr") / path.name)
    for path in pathlib.Path("/").iterdir():
        if path.is_symlink() and str(path.readlink()).startswith("usr/"):
            (folder / path.name).symlink_to(path.readlink())
    programs = {"cargo": "/opt/rust/bin/cargo", "rustc": "/opt/rust/bin/rustc", "cc": "/usr/bin/gcc"}
    for name, place in programs.items():
        (system / "local" / "bin" / name).symlink_to(place)
    # An operator's own modules are in no public list of sums.
    go = system / "local" / "bin" / "go"
    go.write_text('#!/bin/sh\nGOSUMDB=off exec /opt/go/bin/go "$@"\n')
    go.chmod(0o755)
    root = subprocess.run(["go", "env", "GOROOT"], check=True, capture_output=True, text=True).stdout.strip()
    return PROGRAMS.format(folder) + SHOWN.format("/usr", "/opt/usr") + SHOWN.format(root, "/opt/go")


@pytest.fixture
def compilers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = machine_with_compilers(tmp_path_factory.mktemp("system"))
    yield from shut_in(House(tmp_path_factory.mktemp("compilers"), settings))


def test_en_7_programs_are_compiled_from_sources_that_come_through_the_gate(compilers: House) -> None:
    """EN-7, EN-8, EN-11: by cargo and by go, each from the operator's own place."""
    packages = {"cargo": ["hello-hands@1.0.0"], "go": ["example.com/hello-go@v1.0.0"]}
    session = Furnished(compilers, packages, MANAGERS)
    outputs = session.run("/usr/local/bin/hello-hands", "/usr/local/bin/hello-go")
    assert session.errors() == []
    assert outputs == ["rust says hello", "go says hello"]
