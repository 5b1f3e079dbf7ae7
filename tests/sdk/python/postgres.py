"""A private PostgreSQL server for the stories: on a socket in a temporary folder and nowhere else."""

from __future__ import annotations

import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

ROLE = "manyhands"
START_SECONDS = 60


def programs() -> pathlib.Path:
    """The folder with initdb and its siblings, the newest version if there are several."""
    on_path = shutil.which("initdb")
    if on_path:
        return pathlib.Path(on_path).resolve().parent
    packaged = [pathlib.Path(initdb).parent for initdb in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    if not packaged:
        raise FileNotFoundError("PostgreSQL is not installed: run scripts/setup")
    return max(packaged, key=lambda folder: int(folder.parent.name))


def unprivileged() -> pwd.struct_passwd | None:
    """Whom it runs as when we are root, which initdb refuses to be."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name: user for user in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


class Postgres:
    """A cluster with the server's durable defaults; databases are made one by one."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="manyhands-sdk-postgres-"))
        self.programs = programs()
        self.user = unprivileged()
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self.databases = 0
        text = ["--auth", "trust", "--encoding", "UTF8", "--no-locale"]
        self.run("initdb", "--pgdata", "data", "--username", ROLE, *text, "--no-sync")
        options = f"-k {self.folder} -c listen_addresses= -c max_connections=100"
        wait = ["--wait", "--timeout", str(START_SECONDS)]
        self.run("pg_ctl", "start", "--pgdata", "data", *wait, "--log", "log", "--options", options)

    def run(self, name: str, *arguments: str) -> None:
        """Runs one of its programs as its user."""
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        ran = subprocess.run(
            [self.programs / name, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=START_SECONDS + 10,
            **who,
        )
        assert ran.returncode == 0, f"{name}: {ran.stderr}"

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        self.databases += 1
        name = f"stories_{self.databases}"
        self.run("createdb", "--host", str(self.folder), "--username", ROLE, "--template", "template0", name)
        return f"postgres://{ROLE}@localhost/{name}?host={self.folder}"

    def remove(self) -> None:
        """Ends it at once, since nobody reads its data again."""
        self.run("pg_ctl", "stop", "--pgdata", "data", "--mode", "immediate", "--wait")
        shutil.rmtree(self.folder)
