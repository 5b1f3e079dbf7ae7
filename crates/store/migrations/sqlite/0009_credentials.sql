-- In step with migrations/postgres/0009_credentials.sql.

-- Which master key wraps the data keys, by its fingerprint.
CREATE TABLE master_key (
    slot        TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL
) STRICT;

-- The key that seals a workspace's secrets, wrapped by the master key.
CREATE TABLE data_keys (
    id         TEXT PRIMARY KEY,
    workspace  TEXT NOT NULL UNIQUE,
    wrapped    TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE vaults (
    id          TEXT PRIMARY KEY,
    workspace   TEXT NOT NULL,
    body        TEXT NOT NULL,
    checksum    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    archived_at INTEGER
) STRICT;
CREATE INDEX vaults_of_workspace ON vaults (workspace, created_at, id);

-- match_key: what is looked for, a normalised URL or the name of a variable. Secrets in the body are sealed. The
-- generation goes up with every change.
CREATE TABLE credentials (
    id               TEXT PRIMARY KEY,
    vault_id         TEXT NOT NULL,
    workspace        TEXT NOT NULL,
    match_key        TEXT NOT NULL,
    body             TEXT NOT NULL,
    checksum         INTEGER NOT NULL,
    generation       INTEGER NOT NULL,
    refreshing_until INTEGER,
    created_at       INTEGER NOT NULL,
    archived_at      INTEGER
) STRICT;
CREATE INDEX credentials_of_vault ON credentials (vault_id, created_at, id);
CREATE UNIQUE INDEX credentials_by_key ON credentials (vault_id, match_key) WHERE archived_at IS NULL;

-- What a session's sandbox sees in the place of a secret.
CREATE TABLE placeholders (
    session_id    TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    placeholder   TEXT NOT NULL UNIQUE,
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (session_id, credential_id)
) STRICT;
CREATE INDEX placeholders_of_credential ON placeholders (credential_id);

-- Who did what with secrets. Rows are only ever added.
CREATE TABLE audit (
    id            TEXT PRIMARY KEY,
    at            INTEGER NOT NULL,
    workspace     TEXT NOT NULL,
    actor         TEXT NOT NULL,
    action        TEXT NOT NULL,
    object        TEXT,
    vault_id      TEXT,
    credential_id TEXT,
    session_id    TEXT,
    host          TEXT,
    outcome       TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at, id);
CREATE INDEX audit_of_session ON audit (session_id, at) WHERE session_id IS NOT NULL;
CREATE INDEX audit_of_vault ON audit (vault_id, at) WHERE vault_id IS NOT NULL;
CREATE INDEX audit_of_credential ON audit (credential_id, at) WHERE credential_id IS NOT NULL;
CREATE TRIGGER audit_keeps_its_rows BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'rows of the audit log are never removed'); END;
CREATE TRIGGER audit_changes_nothing BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'rows of the audit log are never changed'); END;
-- INSERT OR REPLACE removes without asking the trigger above.
CREATE TRIGGER audit_replaces_nothing BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'rows of the audit log are never changed'); END;
