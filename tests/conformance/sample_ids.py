"""A proxy for the SDK's own tests: sample ids in what they send become ids of real resources, made anew for each request that may change them."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator

import anthropic
from forward import Exchange, Forwarder, Request
from stories import MODEL, House

# Ids that the tests have made up, by what they are of. Words such as "file_id" stand for ids as well.
SAMPLES = re.compile(
    r"\b(?:(?:agent|env|sesn|sthr|sesrsc|vlt|vcrd|uprof|file|wrkspc)_01[0-9A-Za-z]{22}"
    r"|file_id|skill_id|memory_id|memory_store_id|memory_version_id|model_id)\b"
)
# In a body only whole texts are ids.
IN_BODY = re.compile(rb'(?<=")(?:[a-z]+_01[0-9A-Za-z]{22})(?=")')
# The key is the server's own, and the workspace is that of the key.
DROPPED = {"authorization", "x-api-key", "anthropic-workspace-id"}


class Fixtures:
    """What one request refers to, made when it is first needed."""

    def __init__(self, client: anthropic.Anthropic) -> None:
        self.beta = client.beta
        self.made: dict[str, str] = {}

    def id(self, sample: str) -> str:
        """The id of a real resource in the place of a sample."""
        kind = sample if sample.endswith("_id") else sample.partition("_")[0]
        return getattr(self, f"_{kind}")()

    def _once(self, kind: str, make: Callable[[], str]) -> str:
        if kind not in self.made:
            self.made[kind] = make()
        return self.made[kind]

    def _agent(self) -> str:
        return self._once("agent", lambda: self.beta.agents.create(name="Sample", model=MODEL).id)

    def _env(self) -> str:
        return self._once("env", lambda: self.beta.environments.create(name=f"of {self._agent()}").id)

    def _sesn(self) -> str:
        repository = {"type": "github_repository", "url": "https://github.com/acme/tools", "authorization_token": "t"}
        return self._once(
            "sesn",
            lambda: self.beta.sessions.create(agent=self._agent(), environment_id=self._env(), resources=[repository]).id,
        )

    def _sthr(self) -> str:
        return self._once("sthr", lambda: next(iter(self.beta.sessions.threads.list(self._sesn()))).id)

    def _sesrsc(self) -> str:
        return self._once("sesrsc", lambda: next(iter(self.beta.sessions.resources.list(self._sesn()))).id)

    def _vlt(self) -> str:
        return self._once("vlt", lambda: self.beta.vaults.create(display_name="Sample").id)

    def _vcrd(self) -> str:
        auth = {"type": "mcp_oauth", "mcp_server_url": "https://mcp.invalid/", "access_token": "t"}
        return self._once("vcrd", lambda: self.beta.vaults.credentials.create(self._vlt(), auth=auth).id)

    def _uprof(self) -> str:
        return self._once("uprof", lambda: self.beta.user_profiles.create().id)

    def _file(self) -> str:
        return self._once("file", lambda: self.beta.files.upload(file=("sample.txt", b"sample")).id)

    _file_id = _file

    def _wrkspc(self) -> str:
        return "wrkspc_01none"

    def _model_id(self) -> str:
        return MODEL

    def _skill_id(self) -> str:
        head = b"---\nname: sample\ndescription: Sample.\n---\n"
        return self._once("skill", lambda: self.beta.skills.create(files=[("sample/SKILL.md", head)]).id)

    def _memory_store_id(self) -> str:
        return self._once("store", lambda: self.beta.memory_stores.create(name="Sample", description="").id)

    def _memory_id(self) -> str:
        create = self.beta.memory_stores.memories.create
        return self._once("memory", lambda: create(self._memory_store_id(), path="/sample", content="").id)

    def _memory_version_id(self) -> str:
        store, memory = self._memory_store_id(), self._memory_id()
        # The first of two: the newest of a memory cannot be redacted.
        self.beta.memory_stores.memories.update(memory, memory_store_id=store, content="changed")
        return [version.id for version in self.beta.memory_stores.memory_versions.list(store)][-1]


def real(request: Request, fixtures: Fixtures, key: str) -> Request:
    """A request of the tests as one that a client of this server would make."""
    replaced = lambda text: SAMPLES.sub(lambda found: fixtures.id(found[0]), text)  # noqa: E731
    path, _, query = request.path.partition("?")
    # The version of a skill is a word in a path alone.
    path = re.sub(r"/versions/version\b", "/versions/latest", replaced(path))
    # Names of parameters stay; what they say may be a sample.
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    query = urllib.parse.urlencode([(name, replaced(value)) for name, value in pairs])
    body = request.body
    if "multipart" not in request.headers.get("content-type", ""):
        body = IN_BODY.sub(lambda found: replaced(found[0].decode()).encode(), body)
    headers = {name: value for name, value in request.headers.items() if name not in DROPPED}
    return Request(request.method, f"{path}?{query}" if query else path, headers | {"authorization": f"Bearer {key}"}, body)


def proxy(house: House) -> Forwarder:
    """Stands before the server until it is closed."""
    client = house.client()
    # What is only looked at stays as it is.
    kept = threading.local()

    def answer(request: Request) -> tuple[Exchange, Iterator[bytes]]:
        if request.method == "GET" and not hasattr(kept, "fixtures"):
            kept.fixtures = Fixtures(client)
        fixtures = kept.fixtures if request.method == "GET" else Fixtures(client)
        exchange = Exchange(house.server.url, real(request, fixtures, house.server.key))
        return exchange, exchange.lines() if exchange.is_stream else iter([exchange.read()])

    return Forwarder(answer)
