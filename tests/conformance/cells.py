"""What all clients' runs share: a cell is a call and how it went."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Resources that the server answers 501 for; their calls are green when they say so, and are shown as what they are.
LATER = (
    "environments.work",
    "worker",
    "deployments",
    "deployment_runs",
    "dreams",
    "tunnels",
    "organization.webhooks",
)


class NotThere(Exception):
    """The server said 501, in the contract's envelope, and not to retry."""


class Cells:
    """The cells of one client."""

    def __init__(self, client: str, tell: Callable[[dict], None]) -> None:
        self.client = client
        self.tell = tell

    @contextmanager
    def cell(self, call: str, good: str = "green") -> Iterator[None]:
        """Runs what proves a call: `good`, which may also be "local", when nothing in it fails."""
        try:
            yield
        except NotThere:
            self.result(call, "not built", "")
        except Exception as error:
            self.result(call, "red", reason(error))
        else:
            self.result(call, good, "")

    def result(self, call: str, result: str, why: str) -> None:
        """Tells how a call went."""
        self.tell({"client": self.client, "call": call, "result": result, "reason": why})


def reason(error: BaseException) -> str:
    """An error in one line that is the same in every run."""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, AssertionError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{told}, at: {frame.line}"
    return plain(told)


def plain(text: str) -> str:
    """A text without what differs from run to run."""
    text = re.sub(r"\b([a-z]+_)01[1-9A-Za-z]{22}\b", r"\1…", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]00:00)", "…", text)
    text = re.sub(r"(0x|at )[0-9a-f]{8,}", r"\1…", text)
    return " ".join(text.split())[:300]


def is_later(call: str) -> bool:
    """Whether the server does not have what a call is of."""
    path = call.removeprefix("beta.")
    return any(path.startswith(f"{prefix}.") for prefix in LATER)
