"""Joins the results of all clients with the calls they have, and writes docs/compatibility.md. The same results give the same text."""

from __future__ import annotations

import inventory
from cells import plain

CLIENTS = {
    "python": "Python",
    "python-async": "Python, async",
    "typescript": "TypeScript",
    "go": "Go",
    "ant": "`ant`",
}
# From the worst on: of a call with several results the worst one is shown.
RESULTS = ["red", "missing", "not built", "local", "green"]
SHOWN = {"green": "✓", "not built": "501", "local": "local"}

HEAD = """# Compatibility

Every managed-agents call of the official clients, unmodified, against the release binary of this server, whose model is scripted.
`make conformance` runs them and writes this page; `make test` fails when it is not what a run gives.

| mark | means |
|---|---|
| ✓ | the answer was compared with what was sent, and read back with another call where there is one |
| 501 | the server does not have this resource yet and says so: the contract's error envelope, and `x-should-retry: false` |
| local | the call does its work without a server, and was tried: a signed webhook is taken, a forged one is not |
| — | this client does not have the call |
| ✗ | not so: the note says what is wrong |

The calls are read from the clients themselves, so a call that no test makes is shown as ✗ and not left out. Where the documented
answer is a refusal, that refusal and what stays as it was are what is compared: the primary thread cannot be archived, and a file
that a client has uploaded is not given back. The files that are downloaded are written by an agent, and compared byte for byte.
"""
ANT = """`ant` is run on machines that have it: `scripts/setup` installs version {pinned} where its module can be had, and `MANYHANDS_ANT`
names another binary of it. Its column is of {version}. That is the newest whose source could be had; newer ones exist, and
nothing is claimed of them. On machines without it, every request of that run is made again as it was recorded, and each answer must
have the status and the shape that it had then, what was sent included: a call whose answers have changed since is shown as ✗.
"""


def join(results: list[dict], calls: dict[str, list[str]]) -> dict[str, dict[str, tuple[str, str]]]:
    """By call and client: the result, and why it is not green."""
    table: dict[str, dict[str, tuple[str, str]]] = {}
    for client, names in calls.items():
        for name in names:
            table.setdefault(inventory.canonical(name), {})[client] = ("missing", "no test makes this call")
    for line in results:
        row = table.setdefault(inventory.canonical(line["call"]), {})
        new, old = (line["result"], plain(line["reason"])), row.get(line["client"])
        if old is None or old[0] == "missing" or RESULTS.index(new[0]) < RESULTS.index(old[0]):
            row[line["client"]] = new
    return table


def group(call: str) -> str:
    """The heading a call stands under."""
    if " " in call:
        return "helpers and the rest"
    return call.removeprefix("beta.").rpartition(".")[0]


def render(table: dict[str, dict[str, tuple[str, str]]], versions: dict[str, str], pinned: str, own: list[dict]) -> str:
    """The page; `pinned` is the version of `ant` that is asked for."""
    parts = [HEAD, ANT.format(pinned=pinned, version=versions["ant"])]
    parts.append("| client | version |\n|---|---|\n" + "".join(f"| {CLIENTS[one]} | {versions[one]} |\n" for one in CLIENTS))
    parts.append(totals(table))
    notes: list[str] = []
    groups = sorted({group(call) for call in table})
    for name in groups:
        parts.append(f"## {name}\n\n| call |{''.join(f' {shown} |' for shown in CLIENTS.values())}\n|---|{'---|' * len(CLIENTS)}\n")
        for call in sorted(call for call in table if group(call) == name):
            cells = "".join(f" {mark(table[call].get(client), notes)} |" for client in CLIENTS)
            parts[-1] += f"| `{call}` |{cells}\n"
    if own:
        parts.append(own_tests(own))
    if notes:
        parts.append("## Notes\n\n" + "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1)))
    return "\n".join(parts)


def mark(cell: tuple[str, str] | None, notes: list[str]) -> str:
    """What a cell shows."""
    if cell is None:
        return "—"
    result, why = cell
    if result in SHOWN:
        return SHOWN[result]
    if why not in notes:
        notes.append(why)
    return f"✗ {notes.index(why) + 1}"


def totals(table: dict[str, dict[str, tuple[str, str]]]) -> str:
    """How many cells of each client are what."""
    text = "| client | ✓ | 501 | local | ✗ |\n|---|---|---|---|---|\n"
    for client, shown in CLIENTS.items():
        results = [row[client][0] for row in table.values() if client in row]
        counts = [results.count("green"), results.count("not built"), results.count("local")]
        text += f"| {shown} |{''.join(f' {count} |' for count in counts)} {len(results) - sum(counts)} |\n"
    return text


def own_tests(own: list[dict]) -> str:
    """The second table: the SDKs' own generated tests."""
    text = """## The SDKs' own tests

The tests that the SDKs' maintainers generate for these resources, unchanged: those of Python from its source distribution, with the
synchronous and the asynchronous client (that one over both of its transports), strict about answers; those of Go from its module.
They use fixed sample ids and send every optional parameter at once; a proxy puts ids of real resources in the place of sample ids.
Left out are streams, which have no end, and downloads, which play the server themselves. A cell says how many passed, and how many
were answered 501 (of resources that the server does not have yet), refused, or failed. What is refused is mostly a sample that is
no legal value, such as a cursor `page`, else something that this server does not have: the reasons stand below. The npm package of
the TypeScript SDK and `ant` bring no tests.

"""
    for client in dict.fromkeys(line["client"] for line in own):
        text += f"| {CLIENTS[client]} | passed | 501 | refused | failed |\n|---|---|---|---|---|\n"
        lines = [line for line in own if line["client"] == client]
        for line in lines:
            text += f"| {line['file']} | {line['passed']} | {line['later']} | {line['refused']} | {line['fail']} |\n"
        counts = [sum(line[kind] for line in lines) for kind in ("passed", "later", "refused", "fail")]
        text += f"| all |{''.join(f' {count} |' for count in counts)}\n\n"
    files: dict[str, set[str]] = {}
    for line in own:
        for why in line["reasons"]:
            files.setdefault(why, set()).add(f"`{line['file']}`")
    return text + "".join(f"- {why}: {', '.join(sorted(files[why]))}\n" for why in sorted(files))
