"""What a workspace keeps of the repositories that its sessions have cloned, through the official SDK: the host does not send it again,
and nobody sees it whom the host does not let in.

Runtime GH-3, GH-7; security CRED-9, SBX-8, STORE-3, LOG-3.
"""

from __future__ import annotations

import base64
import copy
import functools
import os
import sqlite3
import subprocess

from canary import Canaries
from stories import until
from test_networking import House, house
from test_repositories import Session, canaries, kept, repository

# What cannot be packed smaller, and more of it than one is too small to be kept.
SIZE = 3_000_000
STATE = "git log --all --format='%H %D' | sort; git status --short --branch; git remote -v; cat .git/config; ls .git; git count-objects | cut -d, -f1"

__all__ = ["canaries", "house"]


def noise(size: int = SIZE) -> str:
    return base64.encodebytes(os.urandom(size)).decode()


def rows(house: House, name: str) -> list[tuple[str, int]]:
    """The blobs that are kept of a repository, and their sizes."""
    with sqlite3.connect(f"file:{house.server.data_dir / 'manyhands.db'}?mode=ro", uri=True) as database:
        found = database.execute("SELECT blob, size FROM kept_clones WHERE repository = ?", (f"code.example.com:443/{name}",))
        return found.fetchall()


def kept_of(house: House, name: str) -> tuple[str, int]:
    """Waits until something is kept of a repository."""
    (row,) = until(f"a clone of {name} is kept", lambda: rows(house, name))
    return row


def fresh(house: House, name: str, *commands: str, **more) -> tuple[list[str], int, Session]:
    """What commands say in a new session with this repository, and how much its host has sent for that."""
    before = house.outside.code.sent(name)
    session = Session(house, repository(name, **more))
    said = session.run(*commands)
    return said, house.outside.code.sent(name) - before, session


def commit(house: House, name: str, script: str) -> str:
    """Changes a repository at its host; the commit that is there then."""
    place = house.outside.code.folder / f"{name}.git"
    work = house.outside.code.folder / "elsewhere"
    lines = f"""set -e; export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
    git clone -q '{place}' '{work}'; cd '{work}'; git config user.name o; git config user.email o@example.com
    {script}
    git rev-parse HEAD; rm -rf '{work}'"""
    done = subprocess.run(["bash", "-c", lines], check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def test_gh_3_a_second_session_does_not_load_the_pack_again(house: House, canaries: Canaries) -> None:
    """GH-3, CRED-9: the same clone, in state and in place, of which the host has sent its references alone."""
    code, token = house.outside.code, canaries.plant("token of a kept repository")
    main, feature = code.add("kept/tools", [token], {"README": "tools\n", "DATA": noise()})
    show = f"cd /workspace/tools && {STATE}"
    (first,), sent, _ = fresh(house, "kept/tools", show, authorization_token=token)
    assert sent > SIZE and main in first and feature in first
    blob, size = kept_of(house, "kept/tools")
    assert blob.startswith("repositories/") and size > SIZE

    look = "find / -name '*.repositories*' -not -path '/proc/*' 2>/dev/null; ls -A /mnt/session/uploads; find /workspace -name '.cloning*'; echo none"
    check = "cd /workspace/tools && git fsck --full 2>&1 && cat .git/objects/info/alternates 2>&1; grep -rl -e cloning -e uploads .git; echo done"
    (second, left, sound), sent, session = fresh(house, "kept/tools", show, look, check, authorization_token=token)
    assert second == first
    assert sent < SIZE / 100, "the references alone"
    assert left.strip() == "none"
    assert "No such file" in sound and sound.strip().splitlines()[-1] == "done" and "kept" not in sound
    assert session.errors() == []
    assert set(code.visits("kept/tools")) == {token}
    (pushed,) = session.run("cd /workspace/tools && echo x > X && git add X && git commit -qm x && git push -q 2>&1 && git fetch -q && echo pushed")
    assert pushed.strip() == "pushed"
    assert kept(house, canaries) == []


def test_gh_3_what_is_new_at_the_host_is_fetched_and_what_is_gone_is_gone(house: House) -> None:
    """GH-3: the host decides what there is; what it has taken back is in no clone, although it was kept."""
    code = house.outside.code
    _, feature = code.add("kept/moving", None, {"README": "one\n", "DATA": noise()})
    fresh(house, "kept/moving", "true")
    blob, _ = kept_of(house, "kept/moving")
    new = commit(house, "kept/moving", "echo two > README; git commit -qam two; git push -q origin main")
    (said,), sent, _ = fresh(house, "kept/moving", "cd /workspace/moving && cat README && git rev-parse HEAD origin/main")
    assert said.split() == ["two", new, new] and sent < SIZE / 100
    assert kept_of(house, "kept/moving")[0] == blob, "little was missing: it is good for more"

    removed = commit(house, "kept/moving", "git push -q origin :feature")
    assert removed == new
    objects = "cd /workspace/moving && git branch -a && git cat-file --batch-all-objects --batch-check | cut -d' ' -f1"
    (said,), sent, _ = fresh(house, "kept/moving", objects)
    assert "feature" not in said and feature not in said and new in said
    assert sent < SIZE / 100
    until("what has more than the host shows is let go of", lambda: blob not in [row[0] for row in rows(house, "kept/moving")])


def test_cred_9_what_is_kept_is_for_those_whom_the_host_lets_in(house: House, canaries: Canaries) -> None:
    """CRED-9, GH-5, GH-7: no token, another one and one that was revoked get what they would get without anything kept."""
    code, token = house.outside.code, canaries.plant("token of a private repository")
    other = canaries.plant("token of another one")
    code.add("kept/private", [token], {"README": "private\n", "DATA": noise()})
    code.add("kept/theirs", [other], {"README": "theirs\n"})
    fresh(house, "kept/private", "true", authorization_token=token)
    kept_of(house, "kept/private")
    code.allow("kept/private", ["nobody's"])
    expected = {None: "authentication", "wrong": "authentication", other: "forbidden", token: "authentication"}
    for given, kind in expected.items():
        more = {"authorization_token": given} if given else {}
        (said,), sent, session = fresh(house, "kept/private", "ls -A /workspace /mnt/session/uploads; find / -name '*.pack' 2>/dev/null; echo end", **more)
        assert [error.type for error in session.errors()] == [f"repository_{kind}_error"], given
        assert "private is not at /workspace/private" in said.replace("kept/", "") and ".pack" not in said, said
        assert sent < SIZE / 100
    assert kept(house, canaries) == []


def elsewhere(house: House) -> House:
    """The same server, as another workspace sees it."""
    post = functools.partial(house.client.post, cast_to=object)
    workspace = post("/v1/manyhands/workspaces", body={"name": "elsewhere"})["id"]
    key = post("/v1/manyhands/keys", body={"name": "theirs", "role": "developer", "workspace_id": workspace})["key"]
    other = copy.copy(house)
    other.client = house.client.with_options(api_key=key)
    return other


def test_sbx_8_another_workspace_gets_nothing_of_it(house: House) -> None:
    """SBX-8, API-2: what one workspace keeps is as if it were not there for another, which keeps its own."""
    code, other = house.outside.code, elsewhere(house)
    main, _ = code.add("kept/walls", None, {"README": "walls\n", "DATA": noise()})
    fresh(house, "kept/walls", "true")
    own = kept_of(house, "kept/walls")
    show = "git -C /workspace/walls rev-parse HEAD"
    (said,), sent, theirs = fresh(other, "kept/walls", show)
    assert said.strip() == main and sent > SIZE, "all of it, from the host"
    until("each workspace has its own", lambda: len(rows(house, "kept/walls")) == 2)
    assert own in rows(house, "kept/walls")
    (said,), sent, again = fresh(other, "kept/walls", show)
    assert said.strip() == main and sent < SIZE / 100
    for session in (theirs, again):
        other.client.beta.sessions.delete(session.id)


def test_store_3_what_was_damaged_costs_a_clone_and_nothing_else(house: House) -> None:
    """STORE-3, GH-3: bytes that are not what was kept are not used, and others take their place."""
    code = house.outside.code
    main, _ = code.add("kept/damaged", None, {"README": "damaged\n", "DATA": noise()})
    fresh(house, "kept/damaged", "true")
    blob, _ = kept_of(house, "kept/damaged")
    place = house.server.data_dir / "blobs" / blob
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    (said,), sent, session = fresh(house, "kept/damaged", "cd /workspace/damaged && git rev-parse HEAD && git fsck 2>&1 && cat README")
    assert said.split()[0] == main and said.split()[-1] == "damaged" and sent > SIZE
    assert session.errors() == []
    until("another one takes its place", lambda: [row for row in rows(house, "kept/damaged") if row[0] != blob])
    (said,), sent, _ = fresh(house, "kept/damaged", "git -C /workspace/damaged rev-parse HEAD")
    assert said.strip() == main and sent < SIZE / 100


def test_log_3_a_server_that_is_killed_beside_a_kept_clone_leaves_nothing_half(house: House) -> None:
    """LOG-3, GH-3, I3: killed while a clone borrows, the next server ends it; what was shown is taken away."""
    code = house.outside.code
    main, _ = code.add("kept/slow", None, {"README": "slow\n", "DATA": noise()})
    fresh(house, "kept/slow", "true")
    kept_of(house, "kept/slow")
    session = Session(house, repository("kept/slow"))
    commands = "cat slow/README; git -C slow log -1 --format=%H; ls -A . /mnt/session/uploads; git -C slow fsck 2>&1"
    output = session.killed_in_clone(code.hold("kept/slow"), commands)
    assert output.split()[:2] == ["slow", main] and ".cloning" not in output and ".repositories" not in output, output
    assert session.errors() == []
