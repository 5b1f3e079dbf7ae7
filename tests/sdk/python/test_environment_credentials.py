"""Environment credentials through the official SDK, against a host of the test's own that gives back all that it is told.

Acceptance scenario 18; runtime VA-3, VA-7 to VA-14; security CRED-2 to CRED-8, OPS-3.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time

import pytest
import test_networking
from canary import Canaries
from programs import program
from test_networking import House, house

ECHO = "https://echo.example.com"
PLACEHOLDER = re.compile(r"mhp_[a-z2-7]{32}")
LIMITED = {
    "type": "limited",
    "allowed_hosts": ["echo.example.com", "site.example.com"],
    "allow_mcp_servers": False,
    "allow_package_managers": False,
}


class Session(test_networking.Session):
    """A session with a vault of its own, and the planted secrets in it."""

    def __init__(self, house: House, **networking) -> None:
        super().__init__(house, **(networking or LIMITED))
        self.house, self.canaries = house, Canaries()
        self.vault = self.client.beta.vaults.create(display_name="keys").id
        self.credentials: dict[str, str] = {}

    def plant(self, name: str, *hosts: str, **location: bool) -> str:
        """A credential for these hosts, or for all; its secret."""
        secret = self.canaries.plant(name)
        limited = {"type": "limited", "allowed_hosts": list(hosts)}
        auth = {
            "type": "environment_variable",
            "secret_name": name,
            "secret_value": secret,
            "networking": limited if hosts else {"type": "unrestricted"},
        }
        if location:
            auth["injection_location"] = location
        made = self.client.beta.vaults.credentials.create(self.vault, auth=auth)
        self.credentials[name] = made.id
        return secret

    def begin(self) -> None:
        """Makes the session anew, with the vault."""
        bare = self.client.beta.sessions.retrieve(self.id)
        self.client.beta.sessions.delete(self.id)
        made = self.client.beta.sessions.create(
            agent=bare.agent.id, environment_id=bare.environment_id, vault_ids=[self.vault]
        )
        assert made.vault_ids == [self.vault]
        self.id = made.id

    def told(self) -> str:
        """All that the host was told."""
        path = self.house.outside.folder / "echoed"
        return path.read_text(errors="replace") if path.exists() else ""

    def leaks(self) -> list[str]:
        """The planted in the session's events, in the vaults' answers, and in what the server has written down readably."""
        client = self.client.beta
        shown = [event.model_dump_json() for event in client.sessions.events.list(self.id)]
        shown += [client.sessions.retrieve(self.id).model_dump_json()]
        shown += [it.model_dump_json() for it in client.vaults.credentials.list(self.vault)]
        seen = self.canaries.found("answers of the API", "\n".join(shown))
        server = self.house.server
        files = [path for path in server.data_dir.iterdir() if path.is_file()]
        assert any(path.suffix == ".db" for path in files)
        for path in [*files, server.log]:
            seen += self.canaries.found(path.name, path.read_bytes())
        return seen

    def audited(self) -> list[dict]:
        """The releases to this session's sandbox, as `manyhands audit` tells them."""
        command = [program("MANYHANDS_BIN", "manyhands"), "audit", "--session", self.id, "--json"]
        command += ["--data-dir", str(self.house.server.data_dir)]
        prefix = self.house.outside.prefix
        told = subprocess.run([*prefix, *command], check=True, capture_output=True, text=True).stdout
        rows = [json.loads(line) for line in told.splitlines()]
        return [row for row in rows if row["action"] == "credential.release"]


def test_va_9_scenario_18_a_sandbox_uses_a_secret_that_it_never_sees(house: House) -> None:
    """VA-3, VA-9 to VA-13, CRED-3 to CRED-6: a header to an allowed host carries it; the body, another host and the sandbox do not."""
    session = Session(house)
    secret = session.plant("API_KEY", "echo.example.com", header=True)
    session.begin()
    shown = session.one("env | grep ^API_KEY=").strip()
    assert PLACEHOLDER.fullmatch(shown.removeprefix("API_KEY="))
    placeholder = shown.removeprefix("API_KEY=")
    header, body, other, url, echoed = session.run(
        f'curl -sS -H "Authorization: Bearer $API_KEY" {ECHO}/in-header',
        f'curl -sS -d "key=$API_KEY" {ECHO}/in-body',
        'curl -sS -H "Authorization: Bearer $API_KEY" -d "key=$API_KEY" https://site.example.com/',
        f'curl -sS "{ECHO}/in-url?key=$API_KEY"',
        f'curl -sS -A "$API_KEY" -e "https://x.example/$API_KEY" {ECHO}/in-log',
    )
    told = session.told()
    assert f"Bearer {secret}" in told
    assert f"key={placeholder}" in told
    assert told.count(secret) == 1
    # It came back, and was taken out on its way.
    assert "Bearer ****" in header and secret not in header
    assert f"key={placeholder}" in body and other == f"key={placeholder}"
    assert placeholder in url and placeholder in echoed
    # In every other form, too.
    forms = session.run(
        *(f'curl -sS -i -H "X-Api-Key: $API_KEY" {ECHO}/{way}' for way in ("base64", "gzip", "error")),
        f'curl -sS -i -r 0-30 -H "X-Api-Key: $API_KEY" {ECHO}/range',
        f'curl -sS -X TRACE -H "X-Api-Key: $API_KEY" {ECHO}/trace',
    )
    assert session.canaries.found("answers inside", "\n".join(forms)) == []
    assert "not_inspectable" in forms[1] and "Refused by the egress proxy" in forms[4]
    assert session.leaks() == []
    rows = session.audited()
    assert {row["host"] for row in rows} == {"echo.example.com"}
    assert {row["credential_id"] for row in rows} == {session.credentials["API_KEY"]}
    assert secret not in json.dumps(rows) and placeholder not in json.dumps(rows)


# A key from the environment, as programs use it: what the host must be told with the secret in it.
JSON_BODY = f"""python3 -c "
import json, os, urllib.request as r
body = json.dumps(dict(key=os.environ['BODY_KEY'])).encode()
r.urlopen(r.Request('{ECHO}/', body, dict(X='urllib'))).read()" """
FORM_BODY = f"""python3 -c "
import os; from pip._vendor import requests
requests.post('{ECHO}/', data=dict(a='b', form=os.environ['BODY_KEY']), headers=dict(X='form')).raise_for_status()" """
REQUESTS = f"""python3 -c "
import os; from pip._vendor import requests
requests.get('{ECHO}/', headers=dict(Authorization='Bearer requests ' + os.environ['API_KEY'])).raise_for_status()" """
HTTPX = f"""PYTHONPATH=/opt/sdk python3 -c "
import os, httpx2
httpx2.get('{ECHO}/', headers=dict(Authorization='Bearer httpx ' + os.environ['API_KEY'])).raise_for_status()" """
FETCH = f"""node -e "
fetch('{ECHO}/', {{headers: {{Authorization: 'Bearer fetch ' + process.env.API_KEY}}}}).then(a => a.text())" """
BASIC = f'curl -sS -u "user:$API_KEY" {ECHO}/basic'
GIT = f'git -c "http.extraHeader=Authorization: Bearer git $API_KEY" ls-remote {ECHO}/a.git 2>&1 | head -n 1'


@pytest.mark.parametrize("networking", [LIMITED, {"type": "unrestricted"}], ids=["limited", "unrestricted"])
def test_va_14_usual_programs_use_a_key_of_the_environment(house: House, networking: dict) -> None:
    """VA-9, VA-14, CRED-5: curl, git, Python's urllib, requests and httpx, Node's fetch, in headers, as Basic, in JSON and in forms; under
    `unrestricted` the same, as TLS is opened with the credential's hosts."""
    session = Session(house, **networking)
    key = session.plant("API_KEY", "echo.example.com")
    # A form is percent-encoded by its program: the placeholder is not, and the secret stands there verbatim (VA-13).
    body = session.plant("BODY_KEY", "*.example.com", body=True)
    session.begin()
    outputs = session.run(JSON_BODY, FORM_BODY, REQUESTS, HTTPX, FETCH, BASIC, GIT)
    told = session.told()
    for wanted in (f'"key": "{body}"', f"form={body}", f"requests {key}", f"httpx {key}", f"fetch {key}", f"git {key}"):
        assert wanted in told, (wanted, outputs)
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    assert f"Basic {basic}" in told, outputs
    assert session.canaries.found("outputs", "\n".join(outputs)) == []
    assert session.leaks() == []


def test_cred_8_changes_reach_a_session_that_runs(house: House) -> None:
    """VA-7, VA-11, CRED-8: a rotation, another location and an archive count from the next request on, without a restart."""
    session = Session(house)
    first = session.plant("API_KEY", "echo.example.com")
    session.begin()
    ask = f'curl -sS -o /dev/null -H "Authorization: Bearer $API_KEY" {ECHO}/rotation'
    vaults, own = session.client.beta.vaults, session.credentials["API_KEY"]

    def change(**auth) -> None:
        vaults.credentials.update(own, vault_id=session.vault, auth={"type": "environment_variable", **auth})

    session.one(f"{ask} -H 'X-Turn: 1'")
    assert f"Bearer {first}" in session.told()
    second = session.canaries.plant("rotated")
    change(secret_value=second)
    session.one(f"{ask} -H 'X-Turn: 2'")
    assert f"Bearer {second}" in session.told()
    change(injection_location={"header": False, "body": True})
    session.one(f"{ask} -H 'X-Turn: 3'")
    change(injection_location={"header": True}, networking={"type": "limited", "allowed_hosts": ["site.example.com"]})
    session.one(f"{ask} -H 'X-Turn: 4'")
    change(networking={"type": "unrestricted"})
    # What is taken away is gone at once; what is given may take some seconds.
    deadline = time.monotonic() + 60
    while session.told().count(second) < 2:
        assert time.monotonic() < deadline
        session.one(f"{ask} -H 'X-Turn: 5'")
    told = session.told()
    vaults.credentials.archive(own, vault_id=session.vault)
    session.one(f"{ask} -H 'X-Turn: 6'")
    assert len(PLACEHOLDER.findall(session.told()[len(told) :])) == 1
    assert (told.count(first), session.told().count(second)) == (1, 2)
    assert session.leaks() == []
