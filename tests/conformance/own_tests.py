"""The SDKs' own generated tests of the resources of managed agents, unchanged, against this server: those of Python and of Go."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable

from cells import plain
from sample_ids import proxy
from stories import House

HERE = pathlib.Path(__file__).parent
SECONDS = 600
# Below tests/api_resources of the Python SDK.
FILES = [
    "beta/test_agents.py", "beta/agents", "beta/test_environments.py", "beta/environments", "beta/test_sessions.py",
    "beta/sessions", "beta/test_vaults.py", "beta/vaults", "beta/test_memory_stores.py", "beta/memory_stores",
    "beta/test_files.py", "test_files.py", "beta/test_skills.py", "beta/skills", "test_skills.py", "skills",
    "beta/test_models.py", "test_models.py", "beta/test_user_profiles.py", "beta/user_profiles", "test_user_profiles.py",
    "user_profiles", "beta/test_deployments.py", "beta/test_deployment_runs.py", "beta/test_dreams.py", "beta/test_tunnels.py",
    "beta/tunnels", "beta/test_webhooks.py", "beta/organization/test_webhooks.py",
]  # fmt: skip
# The error of a call as the Go SDK words it.
GO_ERROR = re.compile(r'[A-Z]+ "[^"]*": (\d{3}) [^{\n]*(\{.*\})')


def run(house: House, python: pathlib.Path, go: pathlib.Path, go_source: pathlib.Path) -> list[dict]:
    """How many tests of each file went how, and why the ones did not pass that did not.

    `python` is the SDK's source distribution; `go` the built tests of `go_source`, the folder of the SDK's module.
    """
    stands = proxy(house)
    try:
        return summed([*of_python(stands.url, python), *of_go(stands.url, go, go_source)])
    finally:
        stands.close()


def of_python(url: str, source: pathlib.Path) -> Iterable[dict]:
    """Each test of the Python SDK, of its synchronous and its asynchronous client."""
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
        environment = {"PATH": os.environ["PATH"], "HOME": name, "TEST_API_BASE_URL": url, "OWN_RESULTS": str(results)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "--tb=no"]
        command += ["-k", "not download and not _stream and not loose", *(f"tests/api_resources/{path}" for path in FILES)]
        done = subprocess.run(
            command, cwd=unpacked, env=environment, timeout=SECONDS, check=False, stdout=subprocess.PIPE, text=True
        )
        if not results.exists():
            raise AssertionError(done.stdout)
        for line in results.read_text().splitlines():
            told = json.loads(line)
            yield told | {"client": "python-async" if "TestAsync" in told["test"] else "python"}


def of_go(url: str, program: pathlib.Path, source: pathlib.Path) -> Iterable[dict]:
    """Each test of the Go SDK."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "TEST_API_BASE_URL": url}
    command = ["go", "tool", "test2json", str(program), "-test.v=test2json", "-test.skip", "Download"]
    done = subprocess.run(command, env=environment, timeout=SECONDS, check=False, stdout=subprocess.PIPE, text=True)
    said: dict[str, str] = {}
    files = {}
    for name in (HERE / "go/sdk_tests.txt").read_text().split():
        files |= dict.fromkeys(re.findall(r"^func (Test\w+)", (source / name).read_text(), re.MULTILINE), name)
    for line in done.stdout.splitlines():
        event = json.loads(line)
        test = event.get("Test", "")
        if event["Action"] == "output":
            said[test] = said.get(test, "") + event["Output"]
        elif test and event["Action"] in ("pass", "fail", "skip"):
            refusal = GO_ERROR.search(said[test])
            told = {"client": "go", "test": test, "file": files[test], "result": "passed", "status": 0, "reason": ""}
            if event["Action"] != "pass":
                told |= {"result": "failed", "reason": said[test]}
            if refusal:
                told |= {"status": int(refusal[1]), "reason": json.loads(refusal[2])["error"]["message"]}
            yield told


def kind(told: dict) -> str:
    """What became of a test."""
    if told["result"] != "failed":
        return told["result"]
    return {501: "later", 400: "refused", 404: "refused", 409: "refused"}.get(told["status"], "fail")


def summed(results: Iterable[dict]) -> list[dict]:
    """One line for each client and file of tests."""
    lines: dict[tuple[str, str], dict] = {}
    for one in results:
        new = {"client": one["client"], "file": one["file"], "passed": 0, "later": 0, "refused": 0, "fail": 0, "reasons": []}
        line = lines.setdefault((one["client"], one["file"]), new)
        line[kind(one)] += 1
        if kind(one) in ("refused", "fail"):
            line["reasons"].append(plain(one["reason"]))
    return [lines[name] for name in sorted(lines)]
