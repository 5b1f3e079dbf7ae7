"""What is kept beside sessions: files, vaults, memory stores, skills, user profiles."""

from __future__ import annotations

import hashlib
import zipfile

import outputs
from ant_base import PAGED, Ant


class Stores(Ant):
    """Their cells."""

    def files(self) -> None:
        group, flag = "beta:files", "--file-id"
        with self.cell("beta.files.upload"):
            made = self.one(group, "upload", "--file", self.file("notes.txt", "one line\n"))
            assert (made["filename"], made["size_bytes"]) == ("notes.txt", 9)
        with self.cell("beta.files.retrieve_metadata"):
            assert self.one(group, "retrieve-metadata", flag, made["id"]) == made
        with self.cell("beta.files.list"):
            second = self.one(group, "upload", "--file", self.file("b.bin", "b"))
            ids = [file["id"] for file in self.all(group, "list", *PAGED)]
            assert ids[0] == second["id"] and made["id"] in ids
        with self.cell("beta.files.download"):
            # What a client has uploaded is not given back: the refusal is the documented answer.
            assert "file_not_downloadable" in self.refused(400, group, "download", flag, made["id"], "--output", "-")
            # What an agent has written is.
            (written,) = self.all(group, "list", "--scope-id", self.output.session)
            assert (written["filename"], written["downloadable"]) == (outputs.NAME, True)
            assert self.downloaded(group, flag, written["id"]) == outputs.CONTENT
        with self.cell("beta.files.delete"):
            assert self.one(group, "delete", flag, made["id"])["type"] == "file_deleted"
            self.refused(404, group, "retrieve-metadata", flag, made["id"])

    def vaults(self) -> None:
        given = {"display_name": "keys", "metadata": {"a": "b"}}
        self.lives("beta:vaults", "--vault-id", given, {"display_name": "other"})

    def credentials(self) -> None:
        vault = self.one("beta:vaults", "create", given={"display_name": "keys"})["id"]
        group, flags = "beta:vaults:credentials", ("--vault-id", vault)
        url = "https://mcp.invalid/v1"
        with self.cell("beta.vaults.credentials.create"):
            auth = {"type": "static_bearer", "mcp_server_url": url, "token": "cell-secret"}
            made = self.one(group, "create", *flags, given={"auth": auth, "display_name": "one"})
            assert made["auth"] == {"type": "static_bearer", "mcp_server_url": url} and made["display_name"] == "one"
        one = (*flags, "--credential-id", made["id"])
        with self.cell("beta.vaults.credentials.retrieve"):
            assert self.one(group, "retrieve", *one) == made
        with self.cell("beta.vaults.credentials.update"):
            changed = self.one(group, "update", *one, "--display-name", "two")
            assert changed["display_name"] == "two" and self.one(group, "retrieve", *one) == changed
        with self.cell("beta.vaults.credentials.mcp_oauth_validate"):
            auth = {"type": "mcp_oauth", "mcp_server_url": "https://oauth.invalid/mcp", "access_token": "cell-secret"}
            second = self.one(group, "create", *flags, given={"auth": auth})
            tried = self.one(group, "mcp-oauth-validate", *flags, "--credential-id", second["id"])
            # The server of it does not exist, which says nothing about the credential.
            assert (tried["credential_id"], tried["status"]) == (second["id"], "unknown")
        with self.cell("beta.vaults.credentials.list"):
            assert [item["id"] for item in self.all(group, "list", *flags, *PAGED)] == [second["id"], made["id"]]
        self.ends(group, second["id"], (*flags, "--credential-id"))

    def memory_stores(self) -> None:
        given = {"name": "notes", "description": "of cells", "metadata": {"a": "b"}}
        self.lives("beta:memory-stores", "--memory-store-id", given, {"name": "other"})

    def memories(self) -> None:
        store = self.one("beta:memory-stores", "create", given={"name": "cells"})["id"]
        group, flags = "beta:memory-stores:memories", ("--memory-store-id", store)
        digest = lambda content: hashlib.sha256(content.encode()).hexdigest()  # noqa: E731
        with self.cell("beta.memory_stores.memories.create"):
            given = {"path": "/a/one.md", "content": "ein Häuschen\n"}
            made = self.one(group, "create", *flags, "--view", "full", given=given)
            assert {key: made[key] for key in given} == given and made["content_sha256"] == digest(given["content"])
            assert "memory_path_conflict_error" in self.refused(409, group, "create", *flags, given=given)
        one = (*flags, "--memory-id", made["id"])
        with self.cell("beta.memory_stores.memories.retrieve"):
            assert self.one(group, "retrieve", *one) == made
        with self.cell("beta.memory_stores.memories.update"):
            held = {"type": "content_sha256", "content_sha256": made["content_sha256"]}
            changes = {"path": "/a/two.md", "content": "zwei"}
            changed = self.one(group, "update", *one, "--view", "full", given={**changes, "precondition": held})
            assert {key: changed[key] for key in changes} == changes
            assert self.one(group, "retrieve", *one) == changed
            late = self.refused(409, group, "update", *one, given={"content": "x", "precondition": held})
            assert "memory_precondition_failed_error" in late
        with self.cell("beta.memory_stores.memories.list"):
            top = self.one(group, "create", *flags, given={"path": "/top.md", "content": "t"})
            paths = lambda *more: [item["path"] for item in self.all(group, "list", *flags, *more)]  # noqa: E731
            assert paths(*PAGED) == ["/a/two.md", "/top.md"] and paths("--depth", "1") == ["/a/", "/top.md"]
        with self.cell("beta.memory_stores.memories.delete"):
            deleted = self.one(group, "delete", *flags, "--memory-id", top["id"])
            assert (deleted["id"], deleted["type"]) == (top["id"], "memory_deleted")
            self.refused(404, group, "retrieve", *flags, "--memory-id", top["id"])
        group = "beta:memory-stores:memory-versions"
        with self.cell("beta.memory_stores.memory_versions.list"):
            listed = self.all(group, "list", *flags, "--memory-id", made["id"], *PAGED)
            assert [version["operation"] for version in listed] == ["modified", "created"]
        first = (*flags, "--memory-version-id", listed[1]["id"])
        with self.cell("beta.memory_stores.memory_versions.retrieve"):
            version = self.one(group, "retrieve", *first)
            assert (version["path"], version["content"]) == ("/a/one.md", "ein Häuschen\n")
        with self.cell("beta.memory_stores.memory_versions.redact"):
            redacted = self.one(group, "redact", *first)
            assert redacted["redacted_at"] and not redacted.get("content")
            assert self.one(group, "retrieve", *first) == redacted

    def skill_folder(self, told: str) -> list[str]:
        """The flags that upload a skill."""
        # It sends no more of a path than its last part, so that a folder goes as a zip.
        with zipfile.ZipFile(self.folder / f"{told}.zip", "w") as packed:
            packed.writestr("cell-ant/SKILL.md", f"---\nname: cell-ant\ndescription: {told}\n---\n{told}\n")
        return ["--file", str(self.folder / f"{told}.zip")]

    def skills(self) -> None:
        group, versions = "beta:skills", "beta:skills:versions"
        with self.cell("beta.skills.create"):
            made = self.one(group, "create", "--display-title", "A cell", *self.skill_folder("First"))
            assert (made["display_title"], made["source"]) == ("A cell", "custom")
        flags = ("--skill-id", made["id"])
        with self.cell("beta.skills.retrieve"):
            assert self.one(group, "retrieve", *flags) == made
        with self.cell("beta.skills.list"):
            assert made["id"] in [skill["id"] for skill in self.all(group, "list", *PAGED)]
        with self.cell("beta.skills.versions.create"):
            second = self.one(versions, "create", *flags, *self.skill_folder("Second"))
            assert (second["skill_id"], second["name"], second["description"]) == (made["id"], "cell-ant", "Second")
        one = (*flags, "--version", made["latest_version"])
        with self.cell("beta.skills.versions.retrieve"):
            assert self.one(versions, "retrieve", *flags, "--version", second["version"]) == second
            first = self.one(versions, "retrieve", *one)
            assert first["description"] == "First"
        with self.cell("beta.skills.versions.list"):
            listed = self.all(versions, "list", *flags, *PAGED)
            assert {version["version"] for version in listed} == {first["version"], second["version"]}
        with self.cell("beta.skills.versions.download"):
            wanted = (self.folder / "First.zip").read_bytes()
            assert outputs.unpacked(self.downloaded(versions, *one)) == outputs.unpacked(wanted)
        with self.cell("beta.skills.versions.delete"):
            self.one(versions, "delete", *one)
            assert [version["version"] for version in self.all(versions, "list", *flags)] == [second["version"]]
        with self.cell("beta.skills.delete"):
            assert self.one(group, "delete", *flags)["id"] == made["id"]
            self.refused(404, group, "retrieve", *flags)

    def user_profiles(self) -> None:
        given = {"name": "Ada", "external_id": "u-1", "relationship": "resold", "metadata": {"a": "b"}}
        group, flag = "beta:user-profiles", "--user-profile-id"
        made = self.lives(group, flag, given, {"name": "Grace", "relationship": "internal"}, ends=())
        with self.cell("beta.user_profiles.create_enrollment_url"):
            link = self.one(group, "create-enrollment-url", flag, made["id"])
            assert link["url"].startswith(f"{self.house.server.url}/enroll/")
