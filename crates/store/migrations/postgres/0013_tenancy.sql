-- In step with migrations/sqlite/0013_tenancy.sql.

-- What people call a workspace. Only the first one has the slot 'default'; the others' is their id.
ALTER TABLE workspaces ADD COLUMN body TEXT NOT NULL DEFAULT '{"name":"default"}';

-- What a key may do: admin, developer, read_only; or environment, then for one environment alone.
ALTER TABLE api_keys ADD COLUMN role TEXT NOT NULL DEFAULT 'admin';
ALTER TABLE api_keys ADD COLUMN environment_id TEXT;

-- Requests that their client may repeat. name: a hash of the client's key and the route. request: a hash of what was asked.
-- holder and run: which instance runs it, and which run of it. effect: whether it has written something. status and answer: how
-- it ended, null while it runs.
CREATE TABLE idempotent_requests (
    workspace  TEXT NOT NULL,
    name       BYTEA NOT NULL,
    request    BYTEA NOT NULL,
    holder     TEXT NOT NULL,
    run        TEXT NOT NULL,
    effect     BIGINT NOT NULL,
    status     BIGINT,
    answer     TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (workspace, name)
);
CREATE INDEX idempotent_requests_by_age ON idempotent_requests (created_at);
