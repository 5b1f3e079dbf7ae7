"""The calls of each client, read from the client itself: a call without a result is shown, never hidden."""

from __future__ import annotations

import functools
import inspect
import re
import subprocess

import anthropic
from anthropic._resource import AsyncAPIResource, SyncAPIResource

# Resources of the SDK that are not about managed agents.
OTHERS = ("messages", "completions", "organization")


def walk(resource, path: list[str]) -> list[str]:
    """The dotted names of all calls below a resource of the Python SDK."""
    calls = []
    for name in dir(type(resource)):
        member = inspect.getattr_static(type(resource), name)
        if name.startswith(("_", "with_")):
            continue
        if isinstance(member, functools.cached_property) or type(member).__name__ == "cached_property":
            below = getattr(resource, name)
            if isinstance(below, (SyncAPIResource, AsyncAPIResource)) and name not in OTHERS:
                calls += walk(below, [*path, name])
        elif callable(member):
            calls.append(".".join([*path, name]))
    return calls


def python(client: anthropic.Anthropic | anthropic.AsyncAnthropic) -> list[str]:
    """The calls of managed agents, and of the resources beside them."""
    calls = walk(client.beta, ["beta"])
    calls += walk(client.beta.organization.webhooks, ["beta", "organization", "webhooks"])
    for name in ("files", "models", "skills", "user_profiles"):
        calls += walk(getattr(client, name), [name])
    return sorted(calls)


def ant(program: str) -> list[str]:
    """The commands of `ant`, in the words of the SDKs."""
    top = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    groups = [name for name in re.findall(r"^ +((?:beta:)?[a-z:-]+)(?: |$)", top, re.MULTILINE) if is_ours(name)]
    calls = []
    for group in groups:
        shown = subprocess.run([program, group, "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
        commands = shown.partition("COMMANDS:")[2].partition("OPTIONS:")[0]
        calls += [f"{group}:{name}" for name in re.findall(r"^ {3}([a-z-]+)  ", commands + "  ", re.MULTILINE)]
    return sorted(call.replace(":", ".").replace("-", "_") for call in calls)


def is_ours(group: str) -> bool:
    """Whether a group of commands is about managed agents."""
    return group == "models" or (group.startswith("beta:") and not group.startswith("beta:messages"))


def canonical(call: str) -> str:
    """A call of the TypeScript or Go SDK in the words of the Python SDK."""
    words = [re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word).lower() for word in call.split(".")]
    words = [word.replace("o_auth", "oauth").replace("action_ur_ls", "action_urls").replace("mcpoauth", "mcp_oauth") for word in words]
    renamed = {"new": "create", "get": "retrieve", "stream_events": "stream", "get_metadata": "retrieve_metadata"}
    renamed |= {"new_enrollment_url": "create_enrollment_url", "new_tool_runner": "tool_runner"}
    words[-1] = renamed.get(words[-1], words[-1])
    return ".".join(words)
