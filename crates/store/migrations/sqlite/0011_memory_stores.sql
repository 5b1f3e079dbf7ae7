-- In step with migrations/postgres/0011_memory_stores.sql.

-- written_at: when the newest version was written. Of two versions of a store the later one's time is later.
CREATE TABLE memory_stores (
    id          TEXT PRIMARY KEY,
    workspace   TEXT NOT NULL,
    body        TEXT NOT NULL,
    checksum    INTEGER NOT NULL,
    written_at  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    archived_at INTEGER
) STRICT;
CREATE INDEX memory_stores_of_workspace ON memory_stores (workspace, created_at, id);

-- The content is that of the version. Paths are sorted by their bytes.
CREATE TABLE memories (
    id         TEXT PRIMARY KEY,
    store_id   TEXT NOT NULL,
    path       TEXT NOT NULL,
    version_id TEXT NOT NULL,
    body       TEXT NOT NULL,
    checksum   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX memories_by_path ON memories (store_id, path);

-- created_by: the id of whoever did it. The content is empty where the body has no hash of it. kept: one of the newest of a
-- memory that is there, which stays however old it gets.
CREATE TABLE memory_versions (
    id         TEXT PRIMARY KEY,
    store_id   TEXT NOT NULL,
    memory_id  TEXT NOT NULL,
    operation  TEXT NOT NULL,
    created_by TEXT,
    body       TEXT NOT NULL,
    checksum   INTEGER NOT NULL,
    content    BLOB NOT NULL,
    kept       INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX memory_versions_of_store ON memory_versions (store_id, created_at, id);
CREATE INDEX memory_versions_of_memory ON memory_versions (memory_id, created_at);
CREATE INDEX memory_versions_that_may_go ON memory_versions (created_at) WHERE kept = 0;

-- Stores that are deleted, of which something is left.
CREATE TABLE memory_remains (
    store_id TEXT PRIMARY KEY
) STRICT;

-- The stores that a session has, by their place in it. They stay when the store goes.
CREATE TABLE session_memory_stores (
    session_id TEXT NOT NULL,
    store_id   TEXT NOT NULL,
    workspace  TEXT NOT NULL,
    place      INTEGER NOT NULL,
    body       TEXT NOT NULL,
    checksum   INTEGER NOT NULL,
    PRIMARY KEY (session_id, store_id)
) STRICT;
CREATE INDEX sessions_of_memory_store ON session_memory_stores (store_id, session_id);
