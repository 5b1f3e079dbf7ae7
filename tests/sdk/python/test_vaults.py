"""Vaults and credentials through the official SDK, strict about every answer (api §16).

runtime VA-1 to VA-5, VA-10, VA-11, VA-16; security CRED-1, CRED-2, OPS-3.
"""

from __future__ import annotations

import base64
import json
import pathlib
import stat
import subprocess

import anthropic
import httpx2
import pytest
from anthropic.types.beta import BetaManagedAgentsVault
from anthropic.types.beta.vaults import BetaManagedAgentsCredential
from programs import Server, program

CANARY = "canary-5b0e9d3c77"
MCP = "https://mcp.example.com/v1"


@pytest.fixture
def client(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=server.url, api_key=server.key, timeout=30, max_retries=0, _strict_response_validation=True
    )


def bearer(url: str = MCP) -> dict:
    return {"type": "static_bearer", "mcp_server_url": url, "token": CANARY}


def variable(name: str = "API_KEY", **more: object) -> dict:
    return {
        "type": "environment_variable",
        "secret_name": name,
        "secret_value": CANARY,
        "networking": {"type": "limited", "allowed_hosts": ["api.example.com", "*.example.org", "192.0.2.1"]},
    } | more


def oauth() -> dict:
    return {
        "type": "mcp_oauth",
        "mcp_server_url": "https://oauth.example.com/mcp",
        "access_token": CANARY,
        "expires_at": "2999-01-01T00:00:00Z",
        "refresh": {
            "client_id": "client",
            "refresh_token": CANARY,
            "token_endpoint": "https://auth.example.com/token",
            "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": CANARY},
            "scope": "read write",
            "resource": "https://oauth.example.com",
        },
    }


def manyhands(server: Server, *arguments: str) -> str:
    """What a command prints that is run on the server's data directory."""
    command = [program("MANYHANDS_BIN", "manyhands"), *arguments, "--data-dir", str(server.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def doctor(server: Server) -> dict[str, dict]:
    """What `manyhands doctor` finds, by what it looked at."""
    command = [program("MANYHANDS_BIN", "manyhands"), "doctor", "--json", "--data-dir", str(server.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment, check=False)
    report = json.loads(done.stdout)
    assert (done.returncode == 0) == report["ok"], done.stderr
    return {check["name"]: check for check in report["checks"]}


def trail(server: Server, *filters: str) -> list[dict]:
    return [json.loads(line) for line in manyhands(server, "audit", "--json", *filters).splitlines()]


def test_va_1_a_vault_lives(client: anthropic.Anthropic) -> None:
    vaults = client.beta.vaults
    made = vaults.create(display_name="keys", metadata={"team": "a"})
    assert isinstance(made, BetaManagedAgentsVault)
    assert (made.type, made.display_name, made.metadata, made.archived_at) == ("vault", "keys", {"team": "a"}, None)
    assert made.id.startswith("vlt_")
    assert vaults.retrieve(made.id) == made
    changed = vaults.update(made.id, display_name="other", metadata={"team": None, "for": "b"})
    assert (changed.display_name, changed.metadata) == ("other", {"for": "b"})
    others = [vaults.create(display_name=f"{n}").id for n in range(4)]
    assert [vault.id for vault in vaults.list(limit=2)] == [*reversed(others), made.id]
    archived = vaults.archive(others[0])
    assert archived.archived_at is not None
    assert [vault.id for vault in vaults.list(limit=2)] == [*reversed(others[1:]), made.id]
    assert others[0] in [vault.id for vault in vaults.list(include_archived=True)]
    deleted = vaults.delete(made.id)
    assert (deleted.id, deleted.type) == (made.id, "vault_deleted")
    for gone in (vaults.retrieve, vaults.delete, vaults.archive):
        with pytest.raises(anthropic.NotFoundError):
            gone(made.id)
    with pytest.raises(anthropic.BadRequestError, match="display_name"):
        vaults.create(display_name="")
    with pytest.raises(anthropic.BadRequestError, match="display_name"):
        vaults.create(display_name="x" * 256)


@pytest.mark.parametrize("auth", [bearer(), oauth(), variable()], ids=lambda auth: auth["type"])
def test_va_2_a_credential_of_each_kind_lives(client: anthropic.Anthropic, auth: dict) -> None:
    vault = client.beta.vaults.create(display_name="keys")
    credentials = client.beta.vaults.credentials
    made = credentials.create(vault.id, auth=auth, display_name="one", metadata={"a": "b"})
    assert isinstance(made, BetaManagedAgentsCredential)
    assert (made.type, made.vault_id, made.auth.type) == ("vault_credential", vault.id, auth["type"])
    assert (made.display_name, made.metadata, made.archived_at) == ("one", {"a": "b"}, None)
    assert CANARY not in made.to_json()
    assert credentials.retrieve(made.id, vault_id=vault.id) == made
    with pytest.raises(anthropic.ConflictError):
        credentials.create(vault.id, auth=auth)
    renamed = credentials.update(made.id, vault_id=vault.id, display_name="two", metadata={"a": None})
    assert (renamed.display_name, renamed.metadata, renamed.auth) == ("two", {}, made.auth)
    archived = credentials.archive(made.id, vault_id=vault.id)
    assert archived.archived_at is not None
    again = credentials.create(vault.id, auth=auth)
    assert [one.id for one in credentials.list(vault.id)] == [again.id]
    assert [one.id for one in credentials.list(vault.id, include_archived=True)] == [again.id, made.id]
    deleted = credentials.delete(again.id, vault_id=vault.id)
    assert (deleted.id, deleted.type) == (again.id, "vault_credential_deleted")
    with pytest.raises(anthropic.NotFoundError):
        credentials.retrieve(again.id, vault_id=vault.id)


def test_va_5_what_an_update_changes(client: anthropic.Anthropic) -> None:
    vault = client.beta.vaults.create(display_name="keys").id
    credentials = client.beta.vaults.credentials
    made = credentials.create(vault, auth=oauth())
    assert made.auth.refresh.token_endpoint_auth.type == "client_secret_basic"
    update = {
        "type": "mcp_oauth",
        "access_token": "new",
        "refresh": {"scope": "", "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "new"}},
    }
    changed = credentials.update(made.id, vault_id=vault, auth=update)
    assert changed.auth.expires_at == made.auth.expires_at, "a new token keeps the old expiry"
    assert changed.auth.refresh.scope is None
    assert changed.auth.refresh.token_endpoint_auth.type == "client_secret_basic", "the stored type stays"
    one = credentials.create(vault, auth=variable(injection_location={"header": True}))
    assert (one.auth.injection_location.header, one.auth.injection_location.body) == (True, False)
    update = {"type": "environment_variable", "injection_location": {"body": True}, "networking": {"type": "unrestricted"}}
    changed = credentials.update(one.id, vault_id=vault, auth=update)
    assert (changed.auth.injection_location.header, changed.auth.injection_location.body) == (True, True)
    assert changed.auth.networking.type == "unrestricted"


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ({"type": CANARY}, "auth.type"),
        (bearer() | {"token": ""}, "auth.token"),
        (bearer() | {"token": None}, "auth.token: is required"),
        (bearer() | {"token": [CANARY]}, "auth.token"),
        (bearer() | {"secret_value": CANARY}, "auth.secret_value"),
        (bearer(f"https://{CANARY}@x.example/"), "auth.mcp_server_url"),
        (oauth() | {"expires_at": "2001-01-01T00:00:00Z"}, "auth.expires_at"),
        (oauth() | {"refresh": {"client_id": CANARY}}, "auth.refresh.refresh_token"),
        (variable("1-BAD"), "auth.secret_name"),
        (variable("LD_PRELOAD"), "auth.secret_name"),
        (variable(networking={"type": "limited", "allowed_hosts": ["a.example"] * 17}), "auth.networking.allowed_hosts"),
        (variable(networking={"type": "limited", "allowed_hosts": ["::1"]}), r"auth.networking.allowed_hosts\[0\]"),
        (variable(networking={"type": "limited", "allowed_hosts": ["https://a.example"]}), r"allowed_hosts\[0\]"),
        (variable(injection_location=None), "auth.injection_location"),
        (variable(injection_location={}), "auth.injection_location"),
        (variable(injection_location={"header": False, "body": False}), "auth.injection_location"),
        (variable(injection_location={"header": None, "body": True}), "auth.injection_location.header"),
    ],
)
def test_va_4_what_is_refused_names_its_field_and_quotes_nothing(
    client: anthropic.Anthropic, server: Server, auth: dict, problem: str
) -> None:
    vault = client.beta.vaults.create(display_name="keys").id
    with pytest.raises(anthropic.BadRequestError, match=problem) as caught:
        client.beta.vaults.credentials.create(vault, auth=auth)
    assert CANARY not in str(caught.value.body)
    assert list(client.beta.vaults.credentials.list(vault, include_archived=True)) == []
    assert CANARY not in server.log.read_text()


def test_va_1_twenty_and_no_more(client: anthropic.Anthropic) -> None:
    vault = client.beta.vaults.create(display_name="keys").id
    credentials = client.beta.vaults.credentials
    made = [credentials.create(vault, auth=variable(f"NAME_{n}")).id for n in range(20)]
    with pytest.raises(anthropic.BadRequestError, match="20 credentials"):
        credentials.create(vault, auth=variable("ONE_MORE"))
    assert [one.id for one in credentials.list(vault, limit=7)] == made[::-1]
    client.beta.vaults.archive(vault)
    assert [one.archived_at is None for one in credentials.list(vault, include_archived=True)] == [False] * 20
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        credentials.create(vault, auth=variable())


def test_ops_3_the_audit_log_tells_who_did_what(client: anthropic.Anthropic, server: Server) -> None:
    vault = client.beta.vaults.create(display_name="keys").id
    credential = client.beta.vaults.credentials.create(vault, auth=variable()).id
    client.beta.vaults.credentials.update(credential, vault_id=vault, display_name="x")
    client.beta.vaults.delete(vault)
    rows = trail(server)
    key = rows[0]["object"]
    assert (rows[0]["action"], rows[0]["actor"]) == ("key.create", "server")
    assert [(row["action"], row["actor"], row["outcome"]) for row in rows[1:]] == [
        (action, key, "done")
        for action in ("vault.create", "credential.create", "credential.update", "vault.delete", "credential.delete")
    ]
    of_it = [row["action"] for row in trail(server, "--credential", credential)]
    assert of_it == ["credential.create", "credential.update", "credential.delete"]
    assert trail(server, "--vault", vault, "--since", rows[-1]["at"])[-1] == rows[-1]
    assert trail(server, "--session", "sesn_01none") == []
    text = manyhands(server, "audit")
    assert f"{key}  vault.create  done  vault={vault}" in text
    assert CANARY not in text + json.dumps(rows)


def test_cred_1_the_master_key_is_a_private_file_and_can_be_replaced(
    client: anthropic.Anthropic, server: Server, tmp_path: pathlib.Path
) -> None:
    """And without it the server starts sealed, and says so (security OPS-1)."""
    vault = client.beta.vaults.create(display_name="keys").id
    made = client.beta.vaults.credentials.create(vault, auth=variable())
    path = server.data_dir / "master-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    old = path.read_text()
    assert len(base64.b64decode(old, validate=False)) == 32
    copy = tmp_path / "copy.db"
    manyhands(server, "backup", str(copy))
    assert CANARY.encode() not in copy.read_bytes() and old.strip().encode() not in copy.read_bytes()

    server.running.terminate()
    printed = manyhands(server, "keys", "rotate-master")
    assert "data keys wrapped anew: 1" in printed and old.strip() not in printed
    assert path.read_text() != old
    server.start()
    opened = client.with_options(base_url=server.url).beta.vaults.credentials
    assert opened.retrieve(made.id, vault_id=vault) == made
    opened.update(made.id, vault_id=vault, auth={"type": "environment_variable", "secret_value": "new"})
    assert [row["actor"] for row in trail(server) if row["action"] == "master_key.rotate"] == ["operator"]

    server.running.terminate()
    path.rename(tmp_path / "kept")
    server.start()
    sealed = client.with_options(base_url=server.url).beta.vaults
    with pytest.raises(anthropic.InternalServerError, match="sealed") as caught:
        sealed.credentials.create(vault, auth=variable("OTHER"))
    assert caught.value.status_code == 503
    assert sealed.retrieve(vault).id == vault, "the rest works"
    assert not path.exists(), "no other key is made"
    ready = httpx2.get(f"{server.url}/readyz")
    assert ready.status_code == 200 and ready.json()["checks"]["vaults"].startswith("sealed: there is no master key at ")
    assert "\nmanyhands_vaults_sealed 1\n" in httpx2.get(f"{server.url}/metrics").text
    missing = doctor(server)["master key"]
    assert missing["verdict"] == "fail" and str(path) in missing["found"]

    (tmp_path / "kept").rename(path)
    assert httpx2.get(f"{server.url}/readyz").json()["checks"]["vaults"] == "ok", "nothing is restarted"
    assert "\nmanyhands_vaults_sealed 0\n" in httpx2.get(f"{server.url}/metrics").text
    assert "master key" not in doctor(server)
    sealed.credentials.create(vault, auth=variable("OTHER"))


def test_cred_2_a_crash_leaves_no_core(server: Server) -> None:
    limits = pathlib.Path(f"/proc/{server.running.process.pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["1", "1"]
