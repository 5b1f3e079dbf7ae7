"""Skills through the official SDK: folders and archives, versions, what agents pin, and what a sandbox has of it."""

from __future__ import annotations

import asyncio
import io
import pathlib
import zipfile

import anthropic
import pytest
from anthropic.lib import files_from_dir
from stories import BUILT_IN, MODEL, House, Story, bash, call, every, replies, say, text

GREET = """---
name: greet
description: Greets people by name. Use it when somebody comes.
license: Apache-2.0
metadata:
  author: somebody
---
# Greet

Run `scripts/greet.sh NAME` and say what it prints.
"""
SCRIPT = "#!/bin/sh\necho \"Hello, $1, from $(dirname \"$0\")\"\n"


def folder(text: str = GREET) -> list:
    """The files of a skill, in no order."""
    return [
        ("greet/scripts/greet.sh", SCRIPT.encode(), "application/octet-stream"),
        ("greet/SKILL.md", text.encode(), "text/markdown"),
    ]


def archive(files: dict[str, tuple[str, int]]) -> bytes:
    """A zip of these files with their permissions."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, (content, mode) in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            made.writestr(entry, content)
    return packed.getvalue()


def opened(content: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(content))


@pytest.mark.parametrize("beta", [True, False])
def test_skills_are_sent_versioned_and_removed(house: House, beta: bool) -> None:
    """SK-1, api §19: both forms of the client, strict about every answer."""
    client = house.client()
    skills = client.beta.skills if beta else client.skills
    made = skills.create(files=folder(), display_name="Greeter")
    assert (made.type, made.display_name, made.source.type) == ("skill", "Greeter", "custom")
    assert skills.retrieve(made.id) == made
    assert made in list(skills.list(source="custom", limit=1000))
    first = skills.versions.retrieve("latest", skill_id=made.id)
    assert (first.id, first.name, first.skill_id) == (made.latest_version_id, "greet", made.id)
    assert first.description == "Greets people by name. Use it when somebody comes."
    assert skills.versions.retrieve(first.id, skill_id=made.id) == first
    # Only one form of the client reads contents.
    with opened(client.beta.skills.versions.download(first.id, skill_id=made.id).read()) as content:
        assert sorted(content.namelist()) == ["greet/SKILL.md", "greet/scripts/greet.sh"]
        assert content.read("greet/SKILL.md") == GREET.encode()
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in content.infolist()}
        assert modes == {"greet/SKILL.md": 0o644, "greet/scripts/greet.sh": 0o755}
    second = skills.versions.create(made.id, files=folder(GREET.replace("by name", "twice")))
    assert second.description.startswith("Greets people twice")
    assert [version.id for version in skills.versions.list(made.id, limit=1)] == [second.id, first.id]
    assert skills.retrieve(made.id).latest_version_id == second.id
    gone = skills.versions.delete(second.id, skill_id=made.id)
    assert (gone.id, gone.type) == (second.id, "skill_version_deleted")
    with pytest.raises(anthropic.BadRequestError):
        skills.versions.delete(first.id, skill_id=made.id)
    gone = skills.delete(made.id)
    assert (gone.id, gone.type) == (made.id, "skill_deleted")
    with pytest.raises(anthropic.NotFoundError):
        skills.retrieve(made.id)


def test_archives_keep_their_execute_bits(house: House) -> None:
    """INP-3, SK-3: an archive is taken, and reduced to plain files and the execute bit."""
    skills = house.client().beta.skills
    packed = archive({
        "greet/SKILL.md": (GREET, 0o100600),
        "greet/run": ("binary", 0o104777),
        "greet/notes.sh": (SCRIPT, 0o100644),
    })
    made = skills.create(files=[("greet.zip", packed, "application/zip")])
    with opened(skills.versions.download("latest", skill_id=made.id).read()) as content:
        modes = {entry.filename: entry.external_attr >> 16 for entry in content.infolist()}
    assert modes == {"greet/SKILL.md": 0o100644, "greet/run": 0o100755, "greet/notes.sh": 0o100644}
    skills.delete(made.id)
    link = archive({"greet/SKILL.md": (GREET, 0o100644), "greet/link": ("/etc/passwd", 0o120777)})
    with pytest.raises(anthropic.BadRequestError, match="neither a plain file nor a folder"):
        skills.create(files=[("greet.zip", link, "application/zip")])


def test_the_helper_for_folders_works(house: House, tmp_path: pathlib.Path) -> None:
    """SK-1: what the client reads from a disk, as it is."""
    (tmp_path / "greet" / "scripts").mkdir(parents=True)
    for name, content, _ in folder():
        (tmp_path / name).write_bytes(content)
    client = house.client()
    made = client.beta.skills.create(files=files_from_dir(tmp_path / "greet"))
    assert made.display_name == "greet"
    client.beta.skills.delete(made.id)


def test_old_clients_read_the_old_shape(house: House) -> None:
    """api §28: display_title, epoch versions, source as text."""
    client = house.client()
    made = client.beta.skills.create(files=folder(), display_name="Greeter")
    old = client.with_options(default_headers={"anthropic-beta": "skills-2025-10-02"})
    shown = old.get(f"/v1/skills/{made.id}", cast_to=object)
    assert (shown["display_title"], shown["source"]) == ("Greeter", "custom")
    version = old.get(f"/v1/skills/{made.id}/versions/{shown['latest_version']}", cast_to=object)
    assert (version["version"], version["directory"]) == (shown["latest_version"], "greet")
    listed = old.get(f"/v1/skills/{made.id}/versions", cast_to=object)
    assert (listed["data"], listed["has_more"]) == ([version], False)
    client.beta.skills.delete(made.id)


def test_a_skill_is_read_when_it_is_wanted(house: House) -> None:
    """Scenario of SK-1 to SK-3, SK-7, INP-7: pinned, told of, read with `read`, run with `bash`, and never written."""
    client = house.client()
    made = client.beta.skills.create(files=folder())
    first = made.latest_version_id
    agent = client.beta.agents.create(
        name="greeter",
        model=MODEL,
        tools=[BUILT_IN],
        skills=[{"type": "custom", "skill_id": made.id}, {"type": "anthropic", "skill_id": "docx"}],
    )
    pinned = {skill.skill_id: skill.version for skill in agent.skills}
    assert pinned[made.id] == first and pinned["docx"].startswith("skver_")
    story = Story(house, agent=agent)
    assert story.session.agent.skills == agent.skills
    # The session keeps what it has, whatever becomes of the skill.
    client.beta.skills.delete(made.id)
    story.turn(replies(call(("read", {"file_path": "/mnt/skills/greet/SKILL.md"})), say("Read.")))
    assert text(every(story.seen, "agent.tool_result")[-1]).strip() == GREET.strip()
    story.turn(replies(call(bash("/mnt/skills/greet/scripts/greet.sh Ada")), say("Greeted.")))
    assert text(every(story.seen, "agent.tool_result")[-1]) == "Hello, Ada, from /mnt/skills/greet/scripts"
    make = "printf '# Title\\n' > a.md && python3 /mnt/skills/docx/scripts/make.py a.md a.docx"
    story.turn(replies(call(bash(f"{make} && python3 /mnt/skills/docx/scripts/text.py a.docx")), say("Made.")))
    assert text(every(story.seen, "agent.tool_result")[-1]).strip() == "# Title"
    # Nothing inside can change them (INP-7).
    tries = [
        "echo x >> /mnt/skills/greet/SKILL.md",
        "rm -rf /mnt/skills/greet/scripts",
        "touch /mnt/skills/new",
        "chmod u+w /mnt/skills/greet/SKILL.md",
        "mv /mnt/skills/greet /mnt/skills/other",
        "mount -o remount,rw /mnt/skills",
    ]
    tried = "; ".join(f"({one}) 2>/dev/null && echo changed" for one in tries)
    story.turn(replies(call(bash(f"{tried}; ls /mnt/skills; head -2 /mnt/skills/greet/SKILL.md")), say("Tried.")))
    assert text(every(story.seen, "agent.tool_result")[-1]).split() == ["docx", "greet", "---", "name:", "greet"]
    story.close()


def test_a_session_with_an_agent_that_lost_its_skill_is_refused(house: House) -> None:
    """LC-5, AG-11, LC-9."""
    client = house.client()
    made = client.beta.skills.create(files=folder())
    with pytest.raises(anthropic.BadRequestError, match="read tool"):
        client.beta.agents.create(name="a", model=MODEL, skills=[{"type": "custom", "skill_id": made.id}])
    agent = client.beta.agents.create(
        name="a", model=MODEL, tools=[BUILT_IN], skills=[{"type": "custom", "skill_id": made.id}]
    )
    environment = client.beta.environments.create(name="plain")
    client.beta.skills.delete(made.id)
    with pytest.raises(anthropic.BadRequestError, match="does not exist any more"):
        client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
    with pytest.raises(anthropic.BadRequestError, match="there is no custom skill"):
        client.beta.agents.update(agent.id, version=1, skills=[{"type": "custom", "skill_id": made.id}])


def test_the_asynchronous_client_does_the_same(house: House) -> None:
    """SK-1: create, list, read and delete with the asynchronous client."""

    async def story() -> None:
        async with house.async_client() as client:
            made = await client.beta.skills.create(files=folder())
            version = await client.beta.skills.versions.create(made.id, files=folder())
            assert [one.id async for one in client.beta.skills.versions.list(made.id)][0] == version.id
            content = await client.beta.skills.versions.download("latest", skill_id=made.id)
            with opened(await content.read()) as packed:
                assert packed.read("greet/SKILL.md") == GREET.encode()
            listed = [one.id async for one in client.beta.skills.list(source="anthropic")]
            assert sorted(listed) == ["docx", "pdf", "pptx", "xlsx"]
            await client.beta.skills.delete(made.id)

    asyncio.run(story())
