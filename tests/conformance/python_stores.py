"""What is kept beside sessions: files, vaults, memory stores, skills, user profiles."""

from __future__ import annotations

import hashlib

import anthropic
import outputs
from outputs import unpacked
from python_base import Run, ids, refused


class Stores(Run):
    """Their cells."""

    def files(self, name: str, files) -> None:
        with self.cell(f"{name}.upload"):
            made = files.upload(file=("notes.txt", b"one line\n", "text/plain"), expires_in_seconds=7200)
            assert (made.filename, made.mime_type, made.size_bytes) == ("notes.txt", "text/plain", 9)
            assert made.expires_at is not None
        with self.cell(f"{name}.retrieve_metadata"):
            assert files.retrieve_metadata(made.id) == made
        with self.cell(f"{name}.list"):
            second = files.upload(file=("b.bin", b"\x00\x01"))
            assert ids(files.list(limit=1))[:2] == [second.id, made.id]
            assert ids(files.list(ids=[made.id])) == [made.id]
        with self.cell(f"{name}.download"):
            # What a client has uploaded is not given back: the refusal is the documented answer, and its code is read.
            error = refused(anthropic.BadRequestError, files.download, made.id)
            assert error.body["error"]["details"]["error_code"] == "file_not_downloadable"
            # What an agent has written is.
            of = {"scope_id": self.output.session} if name.startswith("beta.") else {"ids": [self.output.file]}
            (written,) = files.list(**of)
            assert (written.id, written.filename, written.downloadable) == (self.output.file, outputs.NAME, True)
            assert self.bytes_of(files.download(written.id)) == outputs.CONTENT
        with self.cell(f"{name}.delete"):
            deleted = files.delete(made.id)
            assert (deleted.id, deleted.type) == (made.id, "file_deleted")
            refused(anthropic.NotFoundError, files.retrieve_metadata, made.id)

    def vaults(self) -> None:
        vaults = self.beta.vaults
        with self.cell("beta.vaults.create"):
            made = vaults.create(display_name="keys", metadata={"a": "b"})
            assert (made.display_name, made.metadata, made.archived_at) == ("keys", {"a": "b"}, None)
        with self.cell("beta.vaults.retrieve"):
            assert vaults.retrieve(made.id) == made
        with self.cell("beta.vaults.update"):
            changed = vaults.update(made.id, display_name="other", metadata={"a": None})
            assert (changed.display_name, changed.metadata) == ("other", {})
            assert vaults.retrieve(made.id) == changed
        with self.cell("beta.vaults.list"):
            second = vaults.create(display_name="second")
            assert ids(vaults.list(limit=1))[:2] == [second.id, made.id]
        self.ends("beta.vaults", vaults, second)

    def credentials(self) -> None:
        credentials, vault = self.beta.vaults.credentials, self.beta.vaults.create(display_name="keys").id
        token = {"type": "static_bearer", "mcp_server_url": "https://mcp.invalid/v1", "token": "cell-secret"}
        with self.cell("beta.vaults.credentials.create"):
            made = credentials.create(vault, auth=token, display_name="one", metadata={"a": "b"})
            assert (made.vault_id, made.auth.type, made.auth.mcp_server_url) == (
                vault, "static_bearer", "https://mcp.invalid/v1",
            )  # fmt: skip
            assert (made.display_name, made.metadata) == ("one", {"a": "b"})
            assert "cell-secret" not in made.to_json()
        with self.cell("beta.vaults.credentials.retrieve"):
            assert credentials.retrieve(made.id, vault_id=vault) == made
        with self.cell("beta.vaults.credentials.update"):
            changed = credentials.update(made.id, vault_id=vault, display_name="two", metadata={"a": None})
            assert (changed.display_name, changed.metadata, changed.auth) == ("two", {}, made.auth)
            assert credentials.retrieve(made.id, vault_id=vault) == changed
        with self.cell("beta.vaults.credentials.list"):
            variable = {
                "type": "environment_variable",
                "secret_name": "API_KEY",
                "secret_value": "cell-secret",
                "networking": {"type": "limited", "allowed_hosts": ["api.example.com"]},
            }
            second = credentials.create(vault, auth=variable)
            assert second.auth.networking.allowed_hosts == ["api.example.com"]
            assert ids(credentials.list(vault, limit=1)) == [second.id, made.id]
        with self.cell("beta.vaults.credentials.mcp_oauth_validate"):
            oauth = {"type": "mcp_oauth", "mcp_server_url": "https://oauth.invalid/mcp", "access_token": "cell-secret"}
            third = credentials.create(vault, auth=oauth)
            tried = credentials.mcp_oauth_validate(third.id, vault_id=vault)
            # The server of it does not exist, which says nothing about the credential.
            assert (tried.credential_id, tried.vault_id, tried.status) == (third.id, vault, "unknown")
            assert tried.has_refresh_token is False
        self.ends("beta.vaults.credentials", credentials, second, vault, vault_id=vault)

    def user_profiles(self, name: str, profiles) -> None:
        given, beta = {"name": "Ada", "access_type": "passthrough", "metadata": {"a": "b"}}, name.startswith("beta.")
        if beta:
            given |= {"external_id": "u-1", "external_user_onboarded_at": "2026-01-01T00:00:00Z"}
        else:
            details = {"reference_id": "u-1", "country": "AT", "entity_type": "individual", "account_status": "active"}
            given |= {"external_user_details": details}
        with self.cell(f"{name}.create"):
            made = profiles.create(**given)
            assert (made.name, made.access_type, made.metadata) == ("Ada", "passthrough", {"a": "b"})
            if beta:
                assert made.external_id == "u-1" and made.external_user_onboarded_at.year == 2026
            else:
                shown = made.external_user_details
                assert {name: getattr(shown, name) for name in details} == details and shown.email_hash is None
                assert made.enforcement_status == "unrestricted"
        with self.cell(f"{name}.retrieve"):
            assert profiles.retrieve(made.id) == made
        with self.cell(f"{name}.update"):
            changed = profiles.update(made.id, name="Grace", metadata={"a": "", "c": "d"})
            assert (changed.name, changed.metadata, changed.access_type) == ("Grace", {"c": "d"}, "passthrough")
            assert profiles.retrieve(made.id) == changed
        with self.cell(f"{name}.list"):
            second = profiles.create(name="Aaron")
            assert ids(profiles.list(limit=1))[:2] == [second.id, made.id]
            names = [profile.name for profile in profiles.list(limit=1, order="asc", order_by="name") if profile.name]
            assert names == sorted(names) and {"Aaron", "Grace"} <= set(names)
        if beta:
            with self.cell(f"{name}.create_enrollment_url"):
                link = profiles.create_enrollment_url(made.id)
                assert link.url.startswith(f"{self.house.server.url}/enroll/") and link.expires_at > made.created_at
                assert "nothing to do" in self.page(link.url)
        with self.cell(f"{name}.action_urls.create"):
            link = profiles.action_urls.create(made.id, action={"type": "enroll_end_user"})
            assert link.type == "user_profile_action_url" and "nothing to do" in self.page(link.url)
        with self.cell(f"{name}.delete"):
            deleted = profiles.delete(second.id)
            assert (deleted.id, deleted.type) == (second.id, "user_profile_deleted")
            refused(anthropic.NotFoundError, profiles.retrieve, second.id)

    def memory_stores(self) -> None:
        stores = self.beta.memory_stores
        with self.cell("beta.memory_stores.create"):
            made = stores.create(name="notes", description="of cells", metadata={"a": "b"})
            assert (made.name, made.description, made.metadata) == ("notes", "of cells", {"a": "b"})
        with self.cell("beta.memory_stores.retrieve"):
            assert stores.retrieve(made.id) == made
        with self.cell("beta.memory_stores.update"):
            changed = stores.update(made.id, name="other", description="", metadata={"a": None})
            assert (changed.name, changed.description, changed.metadata) == ("other", "", {})
            assert stores.retrieve(made.id) == changed
            old = stores.archive(stores.create(name="old", description="").id)
            refused(anthropic.BadRequestError, stores.update, old.id, name="late")
        with self.cell("beta.memory_stores.list"):
            second = stores.create(name="second", description="")
            assert ids(stores.list(limit=1))[:2] == [second.id, made.id]
        self.ends("beta.memory_stores", stores, second)

    def memories(self) -> None:
        store = self.beta.memory_stores.create(name="cells", description="").id
        memories, versions = self.beta.memory_stores.memories, self.beta.memory_stores.memory_versions
        named = {"memory_store_id": store}
        digest = lambda content: hashlib.sha256(content.encode()).hexdigest()  # noqa: E731
        with self.cell("beta.memory_stores.memories.create"):
            made = memories.create(store, path="/a/one.md", content="ein Häuschen\n", view="full")
            assert (made.path, made.content, made.content_sha256, made.content_size_bytes) == (
                "/a/one.md", "ein Häuschen\n", digest("ein Häuschen\n"), 14,
            )  # fmt: skip
            taken = refused(anthropic.ConflictError, memories.create, store, path="/a/one.md", content="x")
            assert taken.body["error"]["type"] == "memory_path_conflict_error"
        with self.cell("beta.memory_stores.memories.retrieve"):
            assert memories.retrieve(made.id, **named) == made
            assert memories.retrieve(made.id, **named, view="basic").content is None
        with self.cell("beta.memory_stores.memories.update"):
            held = {"type": "content_sha256", "content_sha256": made.content_sha256}
            changed = memories.update(made.id, **named, content="zwei", path="/a/two.md", precondition=held, view="full")
            assert (changed.id, changed.path, changed.content) == (made.id, "/a/two.md", "zwei")
            assert memories.retrieve(made.id, **named) == changed
            late = refused(anthropic.ConflictError, memories.update, made.id, **named, content="x", precondition=held)
            assert late.body["error"]["type"] == "memory_precondition_failed_error"
        with self.cell("beta.memory_stores.memories.list"):
            top = memories.create(store, path="/top.md", content="t")
            assert [item.path for item in memories.list(store, limit=1, view="full")] == ["/a/two.md", "/top.md"]
            assert [(item.type, item.path) for item in memories.list(store, depth=1)] == [
                ("memory_prefix", "/a/"), ("memory", "/top.md"),
            ]  # fmt: skip
            assert ids(memories.list(store, path_prefix="/a/")) == [made.id]
        with self.cell("beta.memory_stores.memories.delete"):
            deleted = memories.delete(top.id, **named, expected_content_sha256=digest("t"))
            assert (deleted.id, deleted.type) == (top.id, "memory_deleted")
            refused(anthropic.NotFoundError, memories.retrieve, top.id, **named)
        with self.cell("beta.memory_stores.memory_versions.list"):
            listed = list(versions.list(store, memory_id=made.id, limit=1))
            assert [version.operation for version in listed] == ["modified", "created"]
            assert listed[0].id == changed.memory_version_id and listed[0].created_by.type == "api_actor"
            assert [version.memory_id for version in versions.list(store, operation="deleted")] == [top.id]
        with self.cell("beta.memory_stores.memory_versions.retrieve"):
            first = versions.retrieve(listed[1].id, **named)
            assert (first.content, first.path, first.id) == ("ein Häuschen\n", "/a/one.md", listed[1].id)
        with self.cell("beta.memory_stores.memory_versions.redact"):
            redacted = versions.redact(first.id, **named)
            assert (redacted.id, redacted.content, redacted.path) == (first.id, None, None)
            assert redacted.redacted_at is not None and versions.retrieve(first.id, **named) == redacted

    def skills(self, name: str, skills) -> None:
        slug = f"cell-{name.replace('.', '-')}-{self.name}"

        def folder(told: str) -> list:
            head = f"---\nname: {slug}\ndescription: {told}\n---\n{told}\n"
            return [(f"{slug}/SKILL.md", head.encode()), (f"{slug}/scripts/run.sh", b"echo hello\n")]

        with self.cell(f"{name}.create"):
            made = skills.create(display_name="A cell", files=folder("First."))
            assert (made.display_name, made.source.type) == ("A cell", "custom")
        with self.cell(f"{name}.retrieve"):
            assert skills.retrieve(made.id) == made
        with self.cell(f"{name}.list"):
            listed = list(skills.list(limit=1, source="custom"))
            assert made in listed and all(skill.source.type == "custom" for skill in listed)
        with self.cell(f"{name}.versions.create"):
            second = skills.versions.create(made.id, files=folder("Second."))
            assert (second.skill_id, second.name, second.description) == (made.id, slug, "Second.")
            assert skills.retrieve(made.id).latest_version_id == second.id
        with self.cell(f"{name}.versions.retrieve"):
            assert skills.versions.retrieve(second.id, skill_id=made.id) == second
            assert skills.versions.retrieve("latest", skill_id=made.id) == second
            first = skills.versions.retrieve(made.latest_version_id, skill_id=made.id)
            assert first.description == "First."
        with self.cell(f"{name}.versions.list"):
            assert set(ids(skills.versions.list(made.id, limit=1))) == {first.id, second.id}
        if name.startswith("beta."):
            with self.cell(f"{name}.versions.download"):
                packed = self.bytes_of(skills.versions.download(first.id, skill_id=made.id))
                assert unpacked(packed) == dict(folder("First."))
        with self.cell(f"{name}.versions.delete"):
            deleted = skills.versions.delete(first.id, skill_id=made.id)
            assert (deleted.id, deleted.type) == (first.id, "skill_version_deleted")
            assert ids(skills.versions.list(made.id)) == [second.id]
        with self.cell(f"{name}.delete"):
            deleted = skills.delete(made.id)
            assert (deleted.id, deleted.type) == (made.id, "skill_deleted")
            refused(anthropic.NotFoundError, skills.retrieve, made.id)
