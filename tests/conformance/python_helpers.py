"""What the SDK does around its calls: pages by hand, answers as they are, uploads from many places, webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import pathlib
import tempfile
import time
from collections.abc import Iterator

import anthropic
from anthropic.lib import files_from_dir
from outputs import CONTENT, unpacked
from python_base import Run, ids, refused
from stories import MODEL

WEBHOOK_KEY = b"of the receiver of these deliveries"
# What a delivery says.
DELIVERED = {
    "type": "event",
    "id": "whevt_01none",
    "created_at": "2026-10-21T00:00:00Z",
    "data": {
        "type": "session.status_idled", "id": "sesn_01none", "organization_id": "org_01none", "workspace_id": "wrkspc_01none",
    },
}  # fmt: skip


def signed(body: str, key: bytes) -> dict[str, str]:
    """The headers of a delivery."""
    at = str(int(time.time()))
    mac = hmac.digest(key, f"msg_1.{at}.{body}".encode(), hashlib.sha256)
    return {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": f"v1,{base64.b64encode(mac).decode()}"}


def parts_of(asked) -> Iterator[bytes]:
    """An answer part by part."""
    with asked as answer:
        yield from answer.iter_bytes(chunk_size=64)


async def streamed(asked) -> list[bytes]:
    """The same of the asynchronous client."""
    async with asked as answer:
        return [part async for part in answer.iter_bytes(chunk_size=64)]


class Helpers(Run):
    """Their cells."""

    def helpers(self) -> None:
        """All of them but those of events."""
        agents = self.beta.agents
        made = [agents.create(name=f"Page {number}", model=MODEL) for number in range(3)]
        with self.cell("helper: pages by hand"):
            page, seen = self.finished(self.plain(agents).list(limit=2)), []
            while True:
                assert len(page.data) <= 2
                seen += ids(page.data)
                if not page.has_next_page():
                    break
                page = self.finished(page.get_next_page())
            assert seen[:3] == ids(made)[::-1] and seen == ids(agents.list(limit=100))
        with self.cell("helper: raw answers"):
            raw = agents.with_raw_response.retrieve(made[0].id)
            parsed = self.finished(raw.parse())
            assert parsed == made[0] and raw.status_code == 200
            assert raw.headers["request-id"] == raw.request_id and raw.headers["content-type"] == "application/json"
            refusal = refused(anthropic.NotFoundError, agents.with_raw_response.retrieve, "agent_01none")
            assert refusal.request_id == refusal.response.headers["request-id"] == refusal.body["request_id"]
        with self.cell("helper: streamed answers"):
            asked = self.plain(self.beta.files).with_streaming_response.download(self.output.file)
            parts = self.finished(streamed(asked)) if self.plain(self.client) is not self.client else list(parts_of(asked))
            assert len(parts) > 1 and b"".join(parts) == CONTENT
        self.uploads()

    def uploads(self) -> None:
        """A file from each place that the SDK takes one from, and a folder."""
        with tempfile.TemporaryDirectory(prefix="manyhands-helpers-") as name:
            path = pathlib.Path(name, "up.txt")
            path.write_bytes(b"up\n")
            with self.cell("helper: uploads from a path, bytes and a reader"):
                for given in (path, ("up.txt", b"up\n"), ("up.txt", io.BytesIO(b"up\n"), "text/plain")):
                    sent = self.beta.files.upload(file=given)
                    assert (sent.filename, sent.size_bytes) == ("up.txt", 3)
                    assert self.beta.files.retrieve_metadata(sent.id) == sent
            with self.cell("helper: a skill from a folder"):
                folder = pathlib.Path(name, f"cell-folder-{self.name}")
                (folder / "notes").mkdir(parents=True)
                (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: Of a folder.\n---\nRead on.\n")
                (folder / "notes/one.md").write_text("one\n")
                made = self.beta.skills.create(files=files_from_dir(folder))
                packed = self.beta.skills.versions.download(made.latest_version_id, skill_id=made.id)
                wanted = {f"{folder.name}/{part}": (folder / part).read_bytes() for part in ("SKILL.md", "notes/one.md")}
                assert unpacked(self.bytes_of(packed)) == wanted
                self.beta.skills.delete(made.id)

    def webhooks(self) -> None:
        """The check of a delivery needs no server: it takes what is signed with its key, and nothing else."""
        webhooks, body = self.client.beta.webhooks, json.dumps(DELIVERED)
        key = f"whsec_{base64.b64encode(WEBHOOK_KEY).decode()}"
        with self.cell("beta.webhooks.unwrap", good="local"):
            told = webhooks.unwrap(body, headers=signed(body, WEBHOOK_KEY), key=key)
            assert told.to_dict(mode="json") == DELIVERED
            for forged in (signed(body, b"of another"), signed(f"{body} ", WEBHOOK_KEY)):
                refused(Exception, webhooks.unwrap, body, headers=forged, key=key)
        with self.cell("beta.webhooks.parse_unverified", good="local"):
            assert webhooks.parse_unverified(body).to_dict(mode="json") == DELIVERED
