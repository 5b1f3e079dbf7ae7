"""Runs every client against the real server and writes docs/compatibility.md; with --check only says whether it is up to date.

`ant` is run where it is: MANYHANDS_ANT, or on the PATH. Where it is not, its column stays what it was.
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
from collections.abc import Callable

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "tests/sdk/python")]

import ant_client  # noqa: E402
import own_tests  # noqa: E402
import python_client  # noqa: E402
import report  # noqa: E402
from stories import MODEL, House  # noqa: E402

PAGE = ROOT / "docs/compatibility.md"
# The last results of `ant`, for machines without it.
KEPT = HERE / "ant.json"
SECONDS = 180


def program(house: House, command: list[str], tell: Callable[[dict], None]) -> list[str]:
    """Runs a client's own program, which prints its calls and then its cells."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {
        "CONFORMANCE_URL": house.server.url,
        "CONFORMANCE_KEY": house.server.key,
        "CONFORMANCE_MODEL": MODEL,
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
    for client, version in installed.items():
        if pinned[client] != version:
            sys.exit(f"conformance: pins.toml says {client} {pinned[client]}, installed is {version}")
    return pinned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the page is not up to date")
    parser.add_argument("--go", required=True, help="the built program of tests/conformance/go")
    parser.add_argument("--typescript", required=True, help="the built main.js of the TypeScript cells")
    parser.add_argument("--own", type=pathlib.Path, required=True, help="the source distribution of the Python SDK")
    given = parser.parse_args()
    pinned = pins()
    results: list[dict] = []
    calls: dict[str, list[str]] = {}
    house = House(None)
    try:
        calls["python"] = python_client.run_sync(house, results.append)
        calls["python-async"] = python_client.run_async(house, results.append)
        calls["typescript"] = program(house, ["node", given.typescript], results.append)
        calls["go"] = program(house, [given.go], results.append)
        own = own_tests.run(house, given.own)
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"version": "", "calls": [], "results": []}
        ant = os.environ.get("MANYHANDS_ANT") or shutil.which("ant")
        if ant:
            told: list[dict] = []
            calls["ant"] = ant_client.run(house, ant, told.append)
            kept = {"version": ant_client.version(ant), "calls": calls["ant"], "results": told}
        calls["ant"] = kept["calls"]
        results += kept["results"]
    finally:
        house.remove()
    versions = {"python": pinned["python"], "python-async": pinned["python"], "typescript": pinned["typescript"]}
    versions |= {"go": pinned["go"], "ant": kept["version"] or "not run"}
    page = report.render(report.join(results, calls), versions, own)
    if given.check:
        told = difflib.unified_diff(PAGE.read_text().splitlines(), page.splitlines(), "committed", "measured", lineterm="")
        difference = "\n".join(told)
        if difference:
            sys.exit(f"{difference}\nconformance: docs/compatibility.md is not what this run gives; run \"make conformance\"")
    else:
        PAGE.write_text(page)
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    shown = [f"{line['client']} {line['call']}: {line['reason']}" for line in results if line["result"] == "red"]
    failed = sum(line["fail"] for line in own)
    shown.append(f"conformance: {len(results)} cells, {len(shown)} red; of the SDK's own tests {failed} fail")
    print("\n".join(shown))


if __name__ == "__main__":
    main()
