"""Repositories of sessions through the official SDK, against a git host of the test's own that knows its users by tokens.

Acceptance scenario 20; runtime GH-1 to GH-8, LC-5, LC-12, ER-6; security CRED-2, CRED-6, CRED-9.
"""

from __future__ import annotations

import json
import pathlib
import sqlite3
import subprocess

import anthropic
import pytest
import test_networking
from canary import Canaries
from programs import program
from stories import BUILT_IN, MODEL, bash, call, only, replies, say, text, to_rest
from test_networking import House, house

HOST = "https://code.example.com"
# No host is listed: what is attached is all there is.
LIMITED = {"type": "limited", "allowed_hosts": [], "allow_mcp_servers": False, "allow_package_managers": False}


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


def kept(house: House, canaries: Canaries) -> list[str]:
    """The planted that the server has written down readably: in its database, its logs, its journals. Disks of sandboxes are
    looked at from inside."""
    files = [path for path in house.server.data_dir.iterdir() if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    return [leak for path in [*files, house.server.log] for leak in canaries.found(path.name, path.read_bytes())]


def audited(house: House, session: str) -> list[dict]:
    """What `manyhands audit` tells of a session."""
    command = [program("MANYHANDS_BIN", "manyhands"), "audit", "--session", session, "--json"]
    command += ["--data-dir", str(house.server.data_dir)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in told.splitlines()]


def repository(name: str, **more) -> dict:
    return {"type": "github_repository", "url": f"{HOST}/{name}", **more}


class Session(test_networking.Session):
    """A session that has resources, and the events of its turns."""

    def __init__(self, house: House, *resources: dict, **networking) -> None:
        super().__init__(house, **(networking or LIMITED))
        self.house = house
        bare = self.client.beta.sessions.retrieve(self.id)
        self.client.beta.sessions.delete(self.id)
        self.made = self.client.beta.sessions.create(
            agent=bare.agent.id, environment_id=bare.environment_id, resources=list(resources)
        )
        self.id = self.made.id

    def killed_in_clone(self, gate: pathlib.Path, command: str) -> str:
        """What a first command says when the server is killed while a clone is held at this gate, and started again."""
        events = self.client.beta.sessions.events
        events.send(self.id, events=[replies(call(bash(command)), say("Done."))])
        # Opening waits until the clone has come to the host.
        with gate.open("w"):
            gate.unlink()
            self.house.server.running.kill()
        self.house.server.start(port=test_networking.API_PORT)
        with events.stream(self.id, extra_headers={"last-event-id": "0"}) as stream:
            return text(only(to_rest(stream), "agent.tool_result"))

    def errors(self) -> list:
        """What failed in the session so far."""
        return [event.error for event in self.client.beta.sessions.events.list(self.id) if event.type == "session.error"]


def test_scenario_20_push_without_a_token_inside(house: House, canaries: Canaries) -> None:
    """Scenario 20: GH-2 to GH-5, GH-8, CRED-6, CRED-9. Clone, commit and push work, and nothing else of the host; no token inside."""
    code, token = house.outside.code, canaries.plant("token of a repository")
    code.add("acme/tools", [token], {"README": "tools of acme\n"})
    code.add("acme/other", [token], {"README": "another one\n"})
    session = Session(house, repository("acme/tools", authorization_token=token))

    (resource,) = session.made.resources
    assert resource.type == "github_repository" and resource.id.startswith("sesrsc_")
    assert (resource.url, resource.mount_path) == (f"{HOST}/acme/tools", "/workspace/tools")
    assert resource.checkout is None

    readme, pushed = session.run(
        "cat /workspace/tools/README",
        "cd /workspace/tools && echo more > MORE && git add MORE && git commit -q -m 'by the agent' && git push -q 2>&1 && echo pushed",
    )
    assert (readme.strip(), pushed.strip()) == ("tools of acme", "pushed")
    assert code.log("acme/tools", "log", "-1", "--format=%s", "main") == "by the agent"
    assert set(code.visits("acme/tools")) == {token}

    elsewhere = session.run(
        f"git clone -q {HOST}/acme/other 2>&1; echo $?",
        f"cd /workspace/tools && git push -q {HOST}/acme/other HEAD:stolen 2>&1; echo $?",
        f"curl -sS -o /dev/null -w '%{{http_code}}' '{HOST}/acme/tools/../other/info/refs?service=git-upload-pack' --path-as-is",
        f"curl -sS -o /dev/null -w '%{{http_code}}' '{HOST}/acme/%74ools/info/refs?service=git-upload-pack'",
        f"curl -sS -o /dev/null -w '%{{http_code}}' {HOST}/",
    )
    assert [output.strip().splitlines()[-1] for output in elsewhere] == ["128", "128", "403", "403", "403"], elsewhere
    assert code.visits("acme/other") == [] and "stolen" not in code.log("acme/other", "branch", "--list")

    inside = session.run(
        "git -C /workspace/tools remote -v; git -C /workspace/tools config --list; env; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'",
        "git -C /workspace/tools credential fill <<< $'protocol=https\\nhost=code.example.com\\n' 2>&1 < /dev/null",
        f"GIT_CURL_VERBOSE=1 GIT_TRACE_CURL=1 GIT_TRACE_REDACT=0 git -C /workspace/tools fetch 2>&1; cat /workspace/tools/.git/config",
        # The host repeats what it was told.
        f"curl -sS -i {HOST}/acme/tools.git/info/lfs/said",
        f"curl -sS -i --compressed -u someone:else {HOST}/acme/tools/info/lfs/said",
    )
    assert all("code.example.com" in output or "HTTP/1.1" in output for output in (inside[0], inside[3])), inside
    said = [event.to_json() for event in session.client.beta.sessions.events.list(session.id)]
    shown = session.client.beta.sessions.retrieve(session.id).to_json()
    found = canaries.found("events", "\n".join([*said, *inside, shown])) + kept(house, canaries)
    assert found == []
    assert session.errors() == []
    uses = audited(house, session.id)
    assert {(use["action"], use["object"], use["host"]) for use in uses} == {("repository.use", resource.id, "code.example.com")}


@pytest.mark.parametrize("owner", ["open", "listed"])
def test_gh_5_other_repositories_get_no_token_where_their_host_is_reachable(house: House, canaries: Canaries, owner: str) -> None:
    """GH-5, CRED-9: who reaches the host reaches the owner's other repositories as anybody does."""
    code, token = house.outside.code, canaries.plant(f"token of {owner}")
    code.add(f"{owner}/mine", [token], {"README": "mine\n"})
    code.add(f"{owner}/theirs", [token], {"README": "theirs\n"})
    code.add(f"{owner}/public", None, {"README": "everybody's\n"})
    networking = {"open": {"type": "unrestricted"}, "listed": LIMITED | {"allowed_hosts": ["*.example.com"]}}[owner]
    session = Session(house, repository(f"{owner}/mine", authorization_token=token), **networking)
    mine, theirs, public = session.run(
        "cat /workspace/mine/README",
        f"git clone -q {HOST}/{owner}/theirs 2>&1",
        f"git clone -q {HOST}/{owner}/public && cat public/README",
    )
    assert (mine.strip(), public.strip()) == ("mine", "everybody's")
    assert "could not read Username" in theirs
    assert set(code.visits(f"{owner}/mine")) == {token}
    assert set(code.visits(f"{owner}/theirs")) == set(code.visits(f"{owner}/public")) == {"-"}


def test_gh_3_what_is_checked_out_and_where(house: House) -> None:
    """GH-2, GH-3, CONFLICT-13: branches, commits, the default branch, places; without a token where everybody may read."""
    code = house.outside.code
    main, feature = code.add("acme/public", None, {"README": "public\n"}, {"passwd": "/etc/passwd", "up": "../../.."})
    bare = code.folder / "acme/empty.git"
    code.add("acme/empty", None, {"x": "x"})
    for branch in ("main", "feature"):
        code.log("acme/empty", "update-ref", "-d", f"refs/heads/{branch}")
    assert bare.is_dir()
    session = Session(
        house,
        repository("acme/public"),
        repository("acme/public", checkout={"type": "branch", "name": "feature"}, mount_path="/workspace/a/branch"),
        repository("acme/public.git", checkout={"type": "commit", "sha": feature}, mount_path="/workspace/a b/it's"),
        repository("acme/empty"),
    )
    show = "git log -1 --format=%H && git status --short --branch && ls"
    default, branch, commit, empty, author = session.run(
        f"cd /workspace/public && {show}",
        f"cd /workspace/a/branch && {show}",
        f"cd \"/workspace/a b/it's\" && {show}",
        "cd /workspace/empty && git remote -v | head -n 1 && ls -A",
        "cd /workspace/public && git config --local --list | grep ^user && find /workspace -name '.cloning*'",
    )
    assert default.split() == [main, "##", "main...origin/main", "README", "passwd", "up"]
    assert branch.split() == [feature, "##", "feature...origin/feature", "FEATURE", "README", "passwd", "up"]
    assert commit.split() == [feature, "##", "HEAD", "(no", "branch)", "FEATURE", "README", "passwd", "up"]
    assert empty.split() == ["origin", f"{HOST}/acme/empty", "(fetch)", ".git"]
    assert author.split() == ["user.name=Agent", "user.email=agent@sandbox.invalid"]
    assert session.errors() == []
    checkouts = {resource.mount_path: resource.checkout for resource in session.made.resources}
    assert checkouts["/workspace/a/branch"].name == "feature" and checkouts["/workspace/a b/it's"].sha == feature


def test_gh_6_a_rotated_token_counts_at_once(house: House, canaries: Canaries) -> None:
    """GH-6, CRED-8: a new token reaches a running session; repositories neither come nor go."""
    code = house.outside.code
    first, second = canaries.plant("first token"), canaries.plant("second token")
    code.add("acme/rotated", [first], {"README": "x\n"})
    session = Session(house, repository("acme/rotated", authorization_token=first))
    fetch = "git -C /workspace/rotated fetch -q 2>&1 && echo fetched"
    assert session.one(fetch).strip() == "fetched"
    code.allow("acme/rotated", [second])
    assert "could not read Username" in session.one(fetch)

    resources = session.client.beta.sessions.resources
    (resource,) = session.made.resources
    updated = resources.update(resource.id, session_id=session.id, authorization_token=second)
    assert (updated.id, updated.url, updated.mount_path) == (resource.id, resource.url, resource.mount_path)
    assert updated.created_at == resource.created_at and updated.updated_at > resource.updated_at
    assert session.one(fetch).strip() == "fetched"
    assert code.visits("acme/rotated")[-1] == second
    assert resources.retrieve(resource.id, session_id=session.id) == updated
    assert list(resources.list(session.id)) == [updated]

    with pytest.raises(anthropic.BadRequestError, match="cannot be removed"):
        resources.delete(resource.id, session_id=session.id)
    with pytest.raises(anthropic.BadRequestError, match="when the session is created"):
        resources.add(session.id, type="github_repository", file_id="", extra_body={"url": f"{HOST}/acme/rotated"})
    for given in ("", 5, None, "a\nb"):
        with pytest.raises(anthropic.BadRequestError, match="authorization_token"):
            resources.update(resource.id, session_id=session.id, authorization_token=given)
    assert kept(house, canaries) == []


def test_gh_7_what_cannot_be_cloned_is_told_once(house: House, canaries: Canaries) -> None:
    """GH-7, ER-6, LC-5: each failure by its type, the session goes on without, and its model knows."""
    code, token = house.outside.code, canaries.plant("token that reaches one repository")
    code.add("acme/private", ["theirs"], {"README": "x\n"})
    code.add("acme/known", [token], {"README": "known\n"})
    code.add("acme/branches", None, {"README": "x\n"})
    wanted = {
        f"{HOST}/acme/private": "repository_authentication_error",
        f"{HOST}/acme/private.git": "repository_authentication_error",
        f"{HOST}/acme/none": "repository_not_found_error",
        f"{HOST}/acme/branches": "repository_checkout_error",
        f"{HOST}/acme/branches.git": "repository_checkout_error",
        "https://nowhere.example.com/acme/tools": "repository_clone_error",
    }
    session = Session(
        house,
        repository("acme/private", mount_path="/workspace/without"),
        repository("acme/private.git", mount_path="/workspace/wrong", authorization_token="nobody's"),
        repository("acme/none"),
        repository("acme/branches", checkout={"type": "branch", "name": "nope"}, mount_path="/workspace/branch"),
        repository("acme/branches.git", checkout={"type": "commit", "sha": "0123456789" * 4}, mount_path="/workspace/commit"),
        {"type": "github_repository", "url": "https://nowhere.example.com/acme/tools"},
        repository("acme/known", authorization_token=token),
    )
    there, again = session.run("ls -A /workspace", "echo goes on")
    assert there.count("is not at /workspace/") == len(wanted) and there.strip().endswith("]known"), there
    assert again.strip() == "goes on"
    errors = session.errors()
    assert {error.repository_url: error.type for error in errors} == wanted
    assert len(errors) == len(wanted) and {error.retry_status.type for error in errors} == {"retrying"}
    # Also in a later turn, and by another server.
    assert session.one("echo still").strip() == "still"
    house.server.kill_and_start()
    assert session.one("echo there").strip() == "there"
    assert len(session.errors()) == len(wanted)

    forbidden = Session(house, repository("acme/private", authorization_token=token))
    forbidden.one("true")
    (error,) = forbidden.errors()
    assert error.type == "repository_forbidden_error"
    assert kept(house, canaries) == []


def a_clone_survives_its_server(house: House) -> None:
    """Whatever its sandbox is: the server is killed in the middle of the clone, and the next one begins it anew."""
    code = house.outside.code
    main, _ = code.add("acme/slow", None, {"README": "slow\n"})
    session = Session(house, repository("acme/slow"))
    output = session.killed_in_clone(code.hold("acme/slow"), "cat slow/README; git -C slow log -1 --format=%H; ls -A")
    assert output.split() == ["slow", main, "slow"]
    assert session.errors() == []


def test_gh_3_a_clone_survives_its_server(house: House) -> None:
    """GH-3, GH-7, I3: a server that is killed in the middle of a clone leaves nothing half, and the next one finishes it."""
    a_clone_survives_its_server(house)


def test_gh_1_what_no_repository_can_be_is_refused(house: House) -> None:
    """GH-1, GH-3, INP-4: 400 by the member's name, and no session."""
    client = house.client
    agent = client.beta.agents.create(name="Refused", model=MODEL, tools=[BUILT_IN])
    environment = client.beta.environments.create(name="refused", config={"type": "cloud", "networking": {"type": "unrestricted"}})
    before = len(list(client.beta.sessions.list(limit=100)))
    for member, resources in {
        "resources[0].url": [{"type": "github_repository", "url": "git@github.com:acme/tools.git"}],
        "resources[1].url": [repository("acme/tools"), {"type": "github_repository", "url": "https://github.com/acme/tools.git"}],
        "resources[0].mount_path": [repository("acme/tools", mount_path="/etc/tools")],
        "resources[1].mount_path": [repository("acme/tools"), repository("other/tools")],
        "resources[0].checkout.name": [repository("acme/tools", checkout={"type": "branch", "name": "-x"})],
        "resources[0].checkout.sha": [repository("acme/tools", checkout={"type": "commit", "sha": "abc"})],
        "resources[0].authorization_token": [repository("acme/tools", authorization_token=["a token"])],
    }.items():
        with pytest.raises(anthropic.BadRequestError) as refused:
            client.beta.sessions.create(agent=agent.id, environment_id=environment.id, resources=resources)
        assert member in str(refused.value) and "a token" not in str(refused.value)
    assert len(list(client.beta.sessions.list(limit=100))) == before


def test_gh_3_the_model_is_told_where_its_repositories_are(house: House) -> None:
    """GH-3, I6: in every request of the session, in the same words."""
    house.outside.code.add("acme/told", None, {"README": "x\n"})
    session = Session(house, repository("acme/told", mount_path="/workspace/here"))
    session.run("true", "true")
    requests = [request for request in asked(house) if f"/workspace/here from {HOST}/acme/told" in str(request["system"])]
    assert len(requests) == 3 and len({str(request["system"]) for request in requests}) == 1


def asked(house: House) -> list[dict]:
    """The requests that came to the model."""
    curl = ["curl", "-sS", "--noproxy", "*", f"{house.stub.url}/requests"]
    said = subprocess.run([*house.outside.prefix, *curl], check=True, capture_output=True, text=True)
    return json.loads(said.stdout)


def test_sk_6_skills_of_a_repository_are_found_once(house: House) -> None:
    """SK-6: exactly the documented place of a clone, written down once for the prompt, and read with the ordinary tools."""
    skill = "---\nname: greet\ndescription: Greets people.\n---\nSay hello.\n"
    places = ("greet", "nested/deep", "../../skills/other")
    files = {f".claude/skills/{place}/SKILL.md": skill for place in places} | {"README": "skilled\n"}
    house.outside.code.add("acme/skilled", None, files)
    session = Session(house, repository("acme/skilled"))
    path = "/workspace/skilled/.claude/skills/greet/SKILL.md"
    assert session.one(f"cat {path}").strip() == skill.strip()
    session.one("true")
    with sqlite3.connect(f"file:{house.server.data_dir}/manyhands.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT body FROM log WHERE session_id = ? AND type = 'skills_found'", (session.id,)).fetchall()
    [found] = [json.loads(body) for (body,) in rows]
    told = {"name": "greet", "description": "Greets people.", "path": path}
    assert found == {"mount_path": "/workspace/skilled", "skills": [told]}
