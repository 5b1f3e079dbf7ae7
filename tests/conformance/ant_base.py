"""How commands of `ant` are run, and the cells that most resources have."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

from outputs import Output
from recording import Recorder
from stories import House

SECONDS = 30
# All pages, of one item each: what only limits a page in some commands also ends the whole list in others.
PAGED = ("--limit", "1", "--max-items", "-1")


class Refused(Exception):
    """A command that ended with an error; its words are the server's."""


class Ant:
    """One run of the CLI."""

    def __init__(self, house: House, program: str, folder: pathlib.Path, cells: Recorder, output: Output) -> None:
        self.house = house
        self.output = output
        self.recorder = cells
        self.command = (program, "--base-url", cells.url)
        self.folder = folder
        self.cell = cells.cell
        self.tell = cells.result
        # Of the caller's environment it sees no more: profiles and keys of a developer must change nothing.
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "ANTHROPIC_API_KEY": house.server.key,
        }

    def raw(self, group: str, command: str, *flags: str, given: str = "", top: tuple[str, ...] = ("--format", "jsonl")) -> str:
        """What a command prints."""
        arguments = [*self.command, *top, group, command, *flags]
        done = subprocess.run(
            arguments, env=self.environment, input=given, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)
        return done.stdout

    def all(self, group: str, command: str, *flags: str, given: dict | None = None) -> list[dict]:
        """The items that a command prints, over all pages."""
        printed = self.raw(group, command, *flags, given=json.dumps(given) if given else "")
        return [json.loads(line) for line in printed.splitlines()]

    def one(self, group: str, command: str, *flags: str, given: dict | None = None) -> dict:
        """The one item that a command prints."""
        (item,) = self.all(group, command, *flags, given=given)
        return item

    def refused(self, status: int, group: str, command: str, *flags: str, given: dict | None = None) -> str:
        """The words of a refusal that a command must end with."""
        try:
            self.all(group, command, *flags, given=given)
        except Refused as error:
            assert f" {status} " in str(error), error
            return str(error)
        raise AssertionError(f"expected {status}, got an answer")

    def downloaded(self, group: str, *flags: str) -> bytes:
        """What a command writes to a file."""
        written = self.folder / "downloaded"
        self.raw(group, "download", *flags, "--output", str(written))
        return written.read_bytes()

    def lives(self, group: str, flag: str, given: dict, changes: dict, *, ends: tuple[str, ...] = ("archive", "delete")) -> dict:
        """The cells that most resources have: created, read, changed, listed, archived, deleted."""
        name = group.replace(":", ".").replace("-", "_")
        holds = lambda shown, wanted: {key: shown[key] for key in wanted} == wanted  # noqa: E731
        with self.cell(f"{name}.create"):
            made = self.one(group, "create", given=given)
            assert holds(made, given), made
        with self.cell(f"{name}.retrieve"):
            assert self.one(group, "retrieve", flag, made["id"]) == made
        with self.cell(f"{name}.update"):
            changed = self.one(group, "update", flag, made["id"], given=changes)
            assert holds(changed, changes), changed
            assert self.one(group, "retrieve", flag, made["id"]) == changed
        with self.cell(f"{name}.list"):
            second = self.one(group, "create", given=given)
            ids = [item["id"] for item in self.all(group, "list", *PAGED)]
            assert ids[0] == second["id"] and made["id"] in ids
        self.ends(group, second["id"], (flag,), ends=ends)
        return made

    def ends(self, group: str, item: str, flags: tuple[str, ...], ends: tuple[str, ...] = ("archive", "delete")) -> None:
        """The cells of how one of a kind ends; the last of the flags is followed by its id, those before are of a list as well."""
        name, one = group.replace(":", ".").replace("-", "_"), (*flags, item)
        listed = lambda *more: [item["id"] for item in self.all(group, "list", *flags[:-1], *more)]  # noqa: E731
        if "archive" in ends:
            with self.cell(f"{name}.archive"):
                archived = self.one(group, "archive", *one)
                assert archived["id"] == item and archived["archived_at"]
                assert self.one(group, "retrieve", *one)["archived_at"] == archived["archived_at"]
                assert item not in listed() and item in listed("--include-archived")
        if "delete" in ends:
            with self.cell(f"{name}.delete"):
                deleted = self.one(group, "delete", *one)
                assert deleted["id"] == item and deleted["type"].endswith("_deleted")
                self.refused(404, group, "retrieve", *one)
                assert item not in listed(*(["--include-archived"] if "archive" in ends else []))

    def file(self, path: str, text: str) -> str:
        """A file for a command to read."""
        written = self.folder / path
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text)
        return str(written)
