"""A proxy for the SDK's own tests: sample ids in what they send become ids of real resources, made anew for each request."""

from __future__ import annotations

import http.client
import http.server
import re
import threading
import urllib.parse
from collections.abc import Callable

import anthropic
from stories import MODEL, House

# Ids that the tests have made up, by what they are of. Words such as "file_id" stand for ids as well.
SAMPLES = re.compile(
    r"\b(?:(?:agent|env|sesn|sthr|sesrsc|vlt|vcrd|uprof|file|wrkspc)_01[0-9A-Za-z]{22}"
    r"|file_id|skill_id|memory_id|memory_store_id|memory_version_id|model_id)\b"
)
# The workspace is named in a header, the rest is the client's business.
DROPPED = {"host", "authorization", "x-api-key", "content-length", "connection", "anthropic-workspace-id", "accept-encoding"}


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


class Proxy:
    """Listens on a port of its own until it is closed."""

    def __init__(self, house: House) -> None:
        client = house.client()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body, fixtures = self.rfile.read(length), Fixtures(client)
                real = lambda text: SAMPLES.sub(lambda found: fixtures.id(found[0]), text)  # noqa: E731
                path, _, query = self.path.partition("?")
                is_upload = "multipart" in self.headers.get("content-type", "")
                # The version of a skill is a word in a path alone.
                path = re.sub(r"/versions/version\b", "/versions/latest", real(path))
                pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
                # Names of parameters stay; what they say may be a sample.
                query = urllib.parse.urlencode([(name, real(value)) for name, value in pairs])
                if not is_upload:
                    body = re.sub(r'(?<=")(?:[a-z]+_01[0-9A-Za-z]{22})(?=")', lambda found: real(found[0]), body.decode()).encode()
                headers = {name: value for name, value in self.headers.items() if name.lower() not in DROPPED}
                headers |= {"authorization": f"Bearer {house.server.key}", "content-length": str(len(body))}
                server = http.client.HTTPConnection(house.server.url.removeprefix("http://"), timeout=30)
                server.request(self.command, f"{path}?{query}" if query else path, body, headers)
                answer = server.getresponse()
                told = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)
                server.close()

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
