"""Runs every client against the real server and writes docs/compatibility.md; with --check only says whether it is up to date.

`ant` is run where it is: MANYHANDS_ANT, or on the PATH. Where it is not, what it asked when it last ran is asked again: a call
whose answer has changed since is red.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "tests/sdk/python")]

import ant_client  # noqa: E402
import outputs  # noqa: E402
import own_tests  # noqa: E402
import python_client  # noqa: E402
import report  # noqa: E402
from recording import Replay  # noqa: E402
from stories import MODEL, House  # noqa: E402

PAGE = ROOT / "docs/compatibility.md"
# The last results of `ant`, for machines without it, and what it asked for them: a step on each line.
KEPT, STEPS = HERE / "ant.json", HERE / "ant-steps.jsonl"
SECONDS = 300


@contextmanager
def lived_in() -> Iterator[tuple[House, outputs.Output]]:
    """A new server, and a file that an agent wrote there."""
    house = House(None)
    try:
        output = outputs.written(house)
        yield house, output
        # Its sandbox would outlive the server.
        house.client().beta.sessions.delete(output.session)
    finally:
        house.remove()


def program(house: House, output: outputs.Output, command: list[str], tell: Callable[[dict], None]) -> list[str]:
    """Runs a client's own program, which prints its calls and then its cells."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {
        "CONFORMANCE_URL": house.server.url,
        "CONFORMANCE_KEY": house.server.key,
        "CONFORMANCE_MODEL": MODEL,
        "CONFORMANCE_OUTPUT": output.file,
        "CONFORMANCE_OUTPUT_SESSION": output.session,
    }
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines[1:]:
        tell(line)
    return lines[0]["calls"]


def pins() -> dict[str, str]:
    """The pinned versions, checked against what is installed."""
    pinned = tomllib.loads((HERE / "pins.toml").read_text())
    package = json.loads((ROOT / "tests/sdk/typescript/node_modules/@anthropic-ai/sdk/package.json").read_text())
    go = re.search(r"anthropic-sdk-go/v2 v(\S+)", (HERE / "go/go.mod").read_text())
    installed = {
        "python": importlib.metadata.version("anthropic"),
        "typescript": package["version"],
        "go": go and go[1],
    }
    if ant := os.environ.get("MANYHANDS_ANT") or shutil.which("ant"):
        installed["ant"] = ant_client.version(ant)
    for client, version in installed.items():
        if pinned[client] != version:
            sys.exit(f"conformance: pins.toml says {client} {pinned[client]}, installed is {version}")
    return pinned


def ant() -> tuple[dict, list[dict]]:
    """What is known of `ant`, from a run of it or from the last one; and what it asked."""
    named = os.environ.get("MANYHANDS_ANT") or shutil.which("ant")
    if not named:
        return json.loads(KEPT.read_text()), [json.loads(line) for line in STEPS.read_text().splitlines()]
    results: list[dict] = []
    with lived_in() as (house, output):
        calls, steps = ant_client.run(house, output, named, results.append)
    return {"version": ant_client.version(named), "calls": calls, "results": results}, steps


def again(kept: dict, steps: list[dict]) -> list[dict]:
    """The results of `ant`, red where the server's answers are not those of its run any more."""
    with lived_in() as (house, output):
        changed = Replay(house, steps, ant_client.given(output)).run()
    results = [line for line in kept["results"] if line["call"] not in changed]
    for call, why in changed.items():
        results.append({"client": "ant", "call": call, "result": "red", "reason": f"answered otherwise than in its run: {why}"})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the page is not up to date")
    parser.add_argument("--go", required=True, help="the built program of tests/conformance/go")
    parser.add_argument("--typescript", required=True, help="the built main.js of the TypeScript cells")
    parser.add_argument("--own-python", type=pathlib.Path, required=True, help="the source distribution of the Python SDK")
    parser.add_argument("--own-go", type=pathlib.Path, required=True, help="the built tests of the Go SDK")
    parser.add_argument("--go-source", type=pathlib.Path, required=True, help="the folder of the Go SDK's module")
    given = parser.parse_args()
    pinned = pins()
    results: list[dict] = []
    calls: dict[str, list[str]] = {}
    with lived_in() as (house, output):
        calls["python"] = python_client.run_sync(house, output, results.append)
        calls["python-async"] = python_client.run_async(house, output, results.append)
        calls["typescript"] = program(house, output, ["node", given.typescript], results.append)
        calls["go"] = program(house, output, [given.go], results.append)
        own = own_tests.run(house, given.own_python, given.own_go, given.go_source)
    kept, steps = ant()
    calls["ant"] = kept["calls"]
    results += again(kept, steps)
    versions = {"python": pinned["python"], "python-async": pinned["python"], "typescript": pinned["typescript"]}
    versions |= {"go": pinned["go"], "ant": kept["version"]}
    page = report.render(report.join(results, calls), versions, pinned["ant"], own)
    if given.check:
        told = difflib.unified_diff(PAGE.read_text().splitlines(), page.splitlines(), "committed", "measured", lineterm="")
        difference = "\n".join(told)
        if difference:
            sys.exit(f"{difference}\nconformance: docs/compatibility.md is not what this run gives; run \"make conformance\"")
    else:
        PAGE.write_text(page)
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        STEPS.write_text("".join(f"{json.dumps(step, ensure_ascii=False)}\n" for step in steps))
    shown = [f"{line['client']} {line['call']}: {line['reason']}" for line in results if line["result"] == "red"]
    failed = sum(line["fail"] for line in own)
    shown.append(f"conformance: {len(results)} cells, {len(shown)} red; of the SDK's own tests {failed} fail")
    print("\n".join(shown))


if __name__ == "__main__":
    main()
