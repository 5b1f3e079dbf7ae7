"""The SDK's own generated tests of the resources of managed agents, from its source distribution, against this server."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

from cells import plain
from sample_ids import Proxy
from stories import House

HERE = pathlib.Path(__file__).parent
SECONDS = 300
# Below tests/api_resources.
FILES = [
    "beta/test_agents.py", "beta/agents", "beta/test_environments.py", "beta/environments", "beta/test_sessions.py",
    "beta/sessions", "beta/test_vaults.py", "beta/vaults", "beta/test_memory_stores.py", "beta/memory_stores",
    "beta/test_files.py", "test_files.py", "beta/test_skills.py", "beta/skills", "test_skills.py", "skills",
    "beta/test_models.py", "test_models.py", "beta/test_user_profiles.py", "beta/user_profiles", "test_user_profiles.py",
    "user_profiles", "beta/test_deployments.py", "beta/test_deployment_runs.py", "beta/test_dreams.py", "beta/test_tunnels.py",
    "beta/tunnels",
]  # fmt: skip


def run(house: House, source: pathlib.Path) -> list[dict]:
    """How many tests of each file went how, and why the ones did not pass that did not."""
    with tempfile.TemporaryDirectory(prefix="manyhands-own-") as name:
        folder = pathlib.Path(name)
        with tarfile.open(source) as packed:
            packed.extractall(folder, filter="data")
        (unpacked,) = [path for path in folder.iterdir() if path.is_dir()]
        # Its settings and its conftest want programs that only its makers run.
        (unpacked / "pyproject.toml").unlink()
        shutil.copy(HERE / "own_conftest.py", unpacked / "tests/conftest.py")
        shutil.rmtree(unpacked / "src")
        # Tests of downloads play the server themselves, with this; they are left out.
        (unpacked / "respx.py").write_text("MockRouter = object\n")
        results = folder / "results"
        proxy = Proxy(house)
        try:
            environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TEST_API_BASE_URL": proxy.url}
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not Async and not download and not _stream", "--tb=no"]
            command += [f"tests/api_resources/{path}" for path in FILES if (unpacked / "tests/api_resources" / path).exists()]
            done = subprocess.run(
                command, cwd=unpacked, env=environment | {"OWN_RESULTS": str(results)}, timeout=SECONDS, check=False,
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        finally:
            proxy.close()
        if not results.exists():
            raise AssertionError(done.stdout)
        return summed([json.loads(line) for line in results.read_text().splitlines()])


def summed(results: list[dict]) -> list[dict]:
    """One line for each file of tests."""
    lines = {}
    for one in results:
        line = lines.setdefault(one["file"], {"file": one["file"], "pass": 0, "later": 0, "refused": 0, "fail": 0, "reasons": []})
        if one["result"] in line:
            line[one["result"]] += 1
        if one["result"] in ("refused", "fail"):
            line["reasons"].append(f"`{one['file']}`: {plain(one['reason'])}")
    return [lines[name] for name in sorted(lines)]
