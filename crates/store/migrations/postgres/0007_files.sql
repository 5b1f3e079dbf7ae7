-- In step with migrations/sqlite/0007_files.sql.

-- A file: what a client sent, a session's copy of it, or what a sandbox wrote (then with its path below the outputs). An empty
-- blob is one that has expired.
CREATE TABLE files (
    id         TEXT PRIMARY KEY,
    workspace  TEXT NOT NULL,
    session_id TEXT,
    path       TEXT,
    blob       TEXT NOT NULL,
    size       BIGINT NOT NULL,
    body       TEXT NOT NULL,
    checksum   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX files_of_workspace ON files (workspace, created_at, id);
CREATE INDEX files_of_session ON files (session_id, created_at, id) WHERE session_id IS NOT NULL;
CREATE UNIQUE INDEX files_written ON files (session_id, path) WHERE path IS NOT NULL;
CREATE INDEX files_of_blob ON files (blob);
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;

-- Files that a session's sandbox reads.
CREATE TABLE session_resources (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    workspace  TEXT NOT NULL,
    file_id    TEXT NOT NULL,
    mount_path TEXT NOT NULL,
    body       TEXT NOT NULL,
    checksum   BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX session_resources_by_path ON session_resources (session_id, mount_path);

-- Blobs whose last row may be gone: to be removed.
CREATE TABLE loose_blobs (
    blob TEXT PRIMARY KEY
);

-- Sessions whose outputs may have changed since they were last captured; the number tells wishes apart.
CREATE TABLE captures (
    session_id TEXT PRIMARY KEY,
    workspace  TEXT NOT NULL,
    wish       BIGINT NOT NULL
);
