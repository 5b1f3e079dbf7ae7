"""The OpenAPI document: what the server answers is what it says, to generated requests and to those of a session's life."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from programs import Server

# A generated request may end the key that the others need, a stream does not end, and what is not built answers 501.
LEFT_OUT = ["--exclude-operation-id", "revoke_key", "--exclude-path-regex", "stream$", "--exclude-by", "/x-not-built == true"]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
    "unsupported_method",
]
MANAGED_AGENTS = "managed-agents-2026-04-01"
MEMORY = "agent-memory-2026-07-22"


def test_generated_requests_are_answered_as_documented(server: Server, tmp_path: pathlib.Path) -> None:
    """security INP-1, INP-2, API-1, runtime HT-11"""
    generator = pathlib.Path(sys.executable).with_name("schemathesis")
    arguments = [
        *("run", f"{server.url}/openapi.json", "--seed", "1", "--max-examples", "5", "--no-shrink"),
        *("--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS), "--warnings", "off"),
        # How long a request takes to be thought of or answered is the machine's matter.
        *("--suppress-health-check", "too_slow", "--request-timeout", "60"),
        *("--continue-on-failure", "--header", f"Authorization: Bearer {server.key}"),
        *LEFT_OUT,
    ]
    ran = subprocess.run([generator, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
    assert "generated" in ran.stdout
    assert httpx2.get(f"{server.url}/readyz").json()["checks"]["store"] == "ok"


class Documented:
    """A client that holds each answer against the document."""

    def __init__(self, server: Server) -> None:
        self.http = httpx2.Client(base_url=server.url, headers={"x-api-key": server.key}, timeout=30)
        self.document = self.http.get("/openapi.json").json()
        self.held = 0

    def call(self, method: str, path: str, beta: str | None = MANAGED_AGENTS, **members: Any) -> Any:
        headers = {"anthropic-beta": beta} if beta else {}
        answer = self.http.request(method, path, headers=headers, **members)
        assert answer.status_code == 200, answer.text
        template = self.template(method, answer.request.url.path)
        content = self.document["paths"][template][method.lower()]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"] | {"components": self.document["components"]}
        jsonschema_rs.validator_for(schema).validate(answer.json())
        self.held += 1
        return answer.json()

    def template(self, method: str, path: str) -> str:
        segments = path.split("/")
        fitting = [
            template
            for template, operations in self.document["paths"].items()
            if method.lower() in operations
            and len(parts := template.split("/")) == len(segments)
            and all(part == given or part.startswith("{") for part, given in zip(parts, segments, strict=True))
        ]
        # `/work/poll` rather than `/work/{work_id}`.
        return min(fitting, key=lambda template: template.count("{"))


@pytest.fixture
def api(server: Server) -> Documented:
    return Documented(server)


def test_what_a_session_s_life_answers_is_as_documented(api: Documented) -> None:
    """runtime HT-11, LI-1"""
    tools = [
        {"type": "agent_toolset_20260401", "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}]},
        {"type": "custom", "name": "look", "description": "Looks.", "input_schema": {"type": "object"}},
        {"type": "mcp_toolset", "mcp_server_name": "docs"},
    ]
    servers = [{"type": "url", "name": "docs", "url": "https://mcp.example.com/"}]
    made = {"name": "a", "model": {"id": "claude-opus-5", "effort": "high"}, "tools": tools, "mcp_servers": servers}
    agent = api.call("POST", "/v1/agents", json=made)
    api.call("POST", f"/v1/agents/{agent['id']}", json={"system": "Be brief.", "metadata": {"a": "b"}})
    packages = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["example.com"]}}
    environment = api.call("POST", "/v1/environments", json={"name": "e", "config": packages})
    vault = api.call("POST", "/v1/vaults", json={"display_name": "v"})
    at = f"/v1/vaults/{vault['id']}/credentials"
    secret = {"type": "environment_variable", "secret_name": "KEY", "secret_value": "s3cret-value", "networking": {"type": "unrestricted"}}
    bearer = {"type": "static_bearer", "mcp_server_url": "https://mcp.example.com/", "token": "t0ken-value"}
    credential = api.call("POST", at, json={"auth": secret})
    api.call("POST", at, json={"auth": bearer, "display_name": "d"})
    api.call("POST", f"{at}/{credential['id']}", json={"metadata": {"a": "b"}})
    file = api.call("POST", "/v1/files", beta=None, files={"file": ("a.txt", b"text", "text/plain")})
    store = api.call("POST", "/v1/memory_stores", beta=MEMORY, json={"name": "notes"})
    memories = f"/v1/memory_stores/{store['id']}/memories"
    memory = api.call("POST", memories, beta=MEMORY, json={"path": "/a/b.md", "content": "text"})
    api.call("POST", f"{memories}/{memory['id']}", beta=MEMORY, json={"content": "more"})
    api.call("GET", memories, beta=MEMORY, params={"depth": 1})
    versions = api.call("GET", f"/v1/memory_stores/{store['id']}/memory_versions", beta=MEMORY, params={"view": "full"})
    api.call("POST", f"/v1/memory_stores/{store['id']}/memory_versions/{versions['data'][-1]['id']}/redact", beta=MEMORY)
    front = b"---\nname: greet\ndescription: Greets.\n---\nSay hello.\n"
    skill = api.call("POST", "/v1/skills", beta=None, files=[("files[]", ("greet/SKILL.md", front))])
    api.call("POST", f"/v1/skills/{skill['id']}/versions", beta=None, files=[("files[]", ("greet/SKILL.md", front + b"Twice.\n"))])
    api.call("GET", f"/v1/skills/{skill['id']}/versions/latest", beta=None)
    profile = api.call("POST", "/v1/user_profiles", beta=None, json={"name": "p"})
    resources = [{"type": "file", "file_id": file["id"]}, {"type": "memory_store", "memory_store_id": store["id"], "access": "read_only"}]
    session = api.call(
        "POST",
        "/v1/sessions",
        json={
            "agent": agent["id"],
            "environment_id": environment["id"],
            "title": "t",
            "resources": resources,
            "vault_ids": [vault["id"]],
        },
    )
    at = f"/v1/sessions/{session['id']}"
    api.call("POST", f"{at}/events", json={"events": [{"type": "user.message", "content": [{"type": "text", "text": "hello"}]}]})
    with api.http.stream("GET", f"{at}/events/stream", headers={"anthropic-beta": MANAGED_AGENTS, "last-event-id": "0"}) as stream:
        assert stream.status_code == 200
        for line in stream.iter_lines():
            if "session.status_idle" in line:
                break
    events = api.call("GET", f"{at}/events")
    assert {"user.message", "agent.tool_use", "session.status_idle"} <= {event["type"] for event in events["data"]}
    threads = api.call("GET", f"{at}/threads")
    api.call("GET", f"{at}/threads/{threads['data'][0]['id']}")
    api.call("GET", f"{at}/resources")
    api.call("POST", at, json={"title": None})
    for path in ["/v1/agents", "/v1/environments", "/v1/sessions", "/v1/vaults", f"/v1/agents/{agent['id']}/versions", at]:
        api.call("GET", path)
    for path in ["/v1/files", "/v1/models", "/v1/skills", "/v1/user_profiles", "/v1/manyhands/keys", "/healthz", "/readyz"]:
        api.call("GET", path, beta=None)
    api.call("GET", f"/v1/user_profiles/{profile['id']}", beta=None)
    api.call("GET", f"/v1/manyhands/sessions/{session['id']}/why", beta=None)
    api.call("POST", f"{at}/archive")
    api.call("DELETE", at)
    assert api.held > 40
