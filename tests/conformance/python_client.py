"""Every managed-agents call of the Python SDK, with its synchronous and its asynchronous client, strict about every answer.

One set of cells serves both: the asynchronous client is driven call by call.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import anthropic
import inventory
from cells import Cells, NotThere, is_later, reason
from outputs import Output
from python_base import Blocking, ids, refused
from python_helpers import Helpers
from python_sessions import Sessions
from python_stores import Stores
from stories import BUILT_IN, MODEL, House, custom, text_message

LATER_ARGUMENTS = {
    "environment_id": "env_01none",
    "work_id": "work_01none",
    "metadata": {"a": "b"},
    "deployment_id": "depl_01none",
    "deployment_run_id": "drun_01none",
    "agent": "agent_01none",
    "initial_events": [text_message("hello")],
    "name": "later",
    "dream_id": "drm_01none",
    "inputs": [],
    "model": MODEL,
    "tunnel_id": "tnl_01none",
    "certificate_id": "tcrt_01none",
    "ca_certificate_pem": "none",
    "webhook_endpoint_id": "whe_01none",
    "enabled_events": ["external_key.created"],
    "url": "https://hooks.example.com",
}


class PythonRun(Sessions, Stores, Helpers):
    """All cells."""

    def run(self) -> None:
        """All cells; each group makes what it needs."""
        beta, client = self.beta, self.client
        groups = {
            "agents": self.agents,
            "environments": self.environments,
            "beta files": lambda: self.files("beta.files", beta.files),
            "files": lambda: self.files("files", client.files),
            "vaults": self.vaults,
            "credentials": self.credentials,
            "sessions": self.sessions,
            "events": self.events,
            "threads": self.threads,
            "resources": self.resources,
            "beta models": lambda: self.models("beta.models", beta.models),
            "models": lambda: self.models("models", client.models),
            "beta user profiles": lambda: self.user_profiles("beta.user_profiles", beta.user_profiles),
            "user profiles": lambda: self.user_profiles("user_profiles", client.user_profiles),
            "memory stores": self.memory_stores,
            "memories": self.memories,
            "beta skills": lambda: self.skills("beta.skills", beta.skills),
            "skills": lambda: self.skills("skills", client.skills),
            "unknown fields": self.unknown_fields,
            "webhooks": self.webhooks,
            "the helpers": self.helpers,
        }
        for name, group in groups.items():
            try:
                group()
            except Exception as error:
                self.tell(f"what the cells of {name} need", "red", reason(error))

    def agents(self) -> None:
        agents, tools = self.beta.agents, [BUILT_IN, custom("lookup")]
        with self.cell("beta.agents.create"):
            made = agents.create(
                name="Cell", model=MODEL, description="of a table", system="Be brief.", tools=tools, metadata={"a": "b"}
            )
            assert (made.name, made.description, made.system, made.metadata) == (
                "Cell", "of a table", "Be brief.", {"a": "b"},
            )  # fmt: skip
            assert (made.model.id, made.version, [tool.type for tool in made.tools]) == (
                MODEL, 1, ["agent_toolset_20260401", "custom"],
            )  # fmt: skip
        with self.cell("beta.agents.retrieve"):
            assert agents.retrieve(made.id) == made
            refused(anthropic.NotFoundError, agents.retrieve, "agent_01none")
        with self.cell("beta.agents.update"):
            changed = agents.update(made.id, version=made.version, name="Other", metadata={"a": None, "c": "d"})
            assert (changed.name, changed.metadata, changed.version, changed.system) == (
                "Other", {"c": "d"}, 2, "Be brief.",
            )  # fmt: skip
            assert agents.retrieve(made.id) == changed
            assert agents.retrieve(made.id, version=1).name == "Cell"
            refused(anthropic.ConflictError, agents.update, made.id, version=1, name="Late")
            assert agents.retrieve(made.id) == changed
        with self.cell("beta.agents.versions.list"):
            assert [agent.version for agent in agents.versions.list(made.id, limit=1)] == [2, 1]
        with self.cell("beta.agents.list"):
            second = agents.create(name="Second", model=MODEL)
            listed = list(agents.list(limit=1))
            assert ids(listed)[:2] == [second.id, made.id] and changed in listed
        self.ends("beta.agents", agents, second)

    def environments(self) -> None:
        environments = self.beta.environments
        with self.cell("beta.environments.create"):
            limited = {"type": "limited", "allowed_hosts": ["api.example.com"]}
            config = {"type": "cloud", "networking": limited}
            made = environments.create(name="cell", description="of a table", config=config, metadata={"a": "b"})
            assert (made.name, made.description, made.metadata) == ("cell", "of a table", {"a": "b"})
            assert (made.config.networking.type, made.config.networking.allowed_hosts) == ("limited", ["api.example.com"])
        with self.cell("beta.environments.retrieve"):
            assert environments.retrieve(made.id) == made
        with self.cell("beta.environments.update"):
            changed = environments.update(made.id, name="other", metadata={"a": None})
            assert (changed.name, changed.metadata, changed.config) == ("other", {}, made.config)
            assert environments.retrieve(made.id) == changed
        with self.cell("beta.environments.list"):
            second = environments.create(name="second")
            assert ids(environments.list(limit=1))[:2] == [second.id, made.id]
        self.ends("beta.environments", environments, second)

    def models(self, name: str, models) -> None:
        with self.cell(f"{name}.list"):
            listed = list(models.list(limit=1))
            assert MODEL in ids(listed) and len(listed) == len(set(ids(listed))) > 1
            assert ids(models.list(after_id=listed[0].id))[0] == listed[1].id
            assert ids(models.list(lifecycle=["retired"])) == []
        with self.cell(f"{name}.retrieve"):
            (one,) = [model for model in listed if model.id == MODEL]
            assert models.retrieve(MODEL) == one
            refused(anthropic.NotFoundError, models.retrieve, "no-such-model")

    def unknown_fields(self) -> None:
        with self.cell("unknown fields in a request"):
            body = {"of_the_future": {"a": [1]}}
            made = self.beta.agents.create(name="Future", model=MODEL, extra_body=body, extra_query={"of_the_future": "1"})
            assert self.beta.agents.retrieve(made.id) == made and made.name == "Future"

    def later(self, calls: list[str]) -> None:
        """Each call of what the server does not have answers 501 in the contract's envelope, and says not to retry."""
        for name in filter(is_later, calls):
            asked = self.client
            for part in name.split("."):
                asked = getattr(asked, part)
            with self.cell(name):
                if name.endswith((".poller", ".worker")):
                    # They would ask for work again and again; what they ask first is what is not there.
                    asked = self.beta.environments.work.poll
                parameters = inspect.signature(asked).parameters.values()
                given = {one.name: LATER_ARGUMENTS[one.name] for one in parameters if one.default is one.empty}
                error = refused(anthropic.InternalServerError, asked, **given)
                assert (error.status_code, error.body["error"]["type"]) == (501, "api_error")
                assert error.response.headers["x-should-retry"] == "false"
                raise NotThere


def run_sync(house: House, output: Output, tell: Callable[[dict], None]) -> list[str]:
    """All cells of the synchronous client; gives its calls."""
    client = house.client()
    run = PythonRun(house, client, Cells("python", tell), output)
    calls = inventory.python(client)
    run.run()
    run.later(calls)
    return calls


def run_async(house: House, output: Output, tell: Callable[[dict], None]) -> list[str]:
    """All cells of the asynchronous client; gives its calls."""
    with asyncio.Runner() as runner:
        loop, client = runner.get_loop(), house.async_client()
        run = PythonRun(house, Blocking(client, loop), Cells("python-async", tell), output)
        calls = inventory.python(client)
        run.run()
        run.later(calls)
        run.tool_runner(client, loop)
        loop.run_until_complete(client.close())
    return calls
