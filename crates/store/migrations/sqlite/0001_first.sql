-- In step with migrations/postgres/0001_first.sql. Instants are microseconds since the Unix epoch.

CREATE TABLE workspaces (
    id         TEXT PRIMARY KEY,
    slot       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    workspace  TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    body       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX api_keys_of_workspace ON api_keys (workspace, created_at, id);

CREATE TABLE agents (
    id          TEXT PRIMARY KEY,
    workspace   TEXT NOT NULL,
    version     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    archived_at INTEGER
) STRICT;
CREATE INDEX agents_of_workspace ON agents (workspace, created_at, id);

CREATE TABLE agent_versions (
    agent_id  TEXT NOT NULL,
    version   INTEGER NOT NULL,
    workspace TEXT NOT NULL,
    body      TEXT NOT NULL,
    PRIMARY KEY (agent_id, version)
) STRICT;

CREATE TABLE environments (
    id          TEXT PRIMARY KEY,
    workspace   TEXT NOT NULL,
    body        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    archived_at INTEGER
) STRICT;
CREATE INDEX environments_of_workspace ON environments (workspace, created_at, id);

-- The part of a session that changes with every append: kept small, since it is rewritten each time.
CREATE TABLE sessions (
    id             TEXT PRIMARY KEY,
    workspace      TEXT NOT NULL,
    thread_id      TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    agent_id       TEXT NOT NULL,
    agent_version  INTEGER NOT NULL,
    status         TEXT NOT NULL,
    usage          TEXT NOT NULL,
    active_millis  INTEGER NOT NULL,
    running_since  INTEGER,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    archived_at    INTEGER,
    terminated_at  INTEGER,
    last_position  INTEGER NOT NULL,
    input_position INTEGER NOT NULL,
    epoch          INTEGER NOT NULL,
    holder         TEXT,
    wants_brain    INTEGER NOT NULL,
    wanted_since   INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_of_workspace ON sessions (workspace, created_at, id);
CREATE INDEX sessions_of_agent ON sessions (agent_id, created_at, id);
CREATE INDEX sessions_of_environment ON sessions (environment_id);
CREATE INDEX sessions_wanting ON sessions (wanted_since, id) WHERE wants_brain = 1;
CREATE INDEX sessions_held ON sessions (holder) WHERE holder IS NOT NULL;

-- The part that hardly changes: agent snapshot, title, metadata, as JSON text.
CREATE TABLE session_profiles (
    session_id TEXT PRIMARY KEY,
    workspace  TEXT NOT NULL,
    body       TEXT NOT NULL
) STRICT;

-- kind: 0 event, 1 processed (refers_to is the position of the event), 2 private.
CREATE TABLE log (
    session_id   TEXT NOT NULL,
    position     INTEGER NOT NULL,
    workspace    TEXT NOT NULL,
    kind         INTEGER NOT NULL,
    event_id     TEXT NOT NULL,
    type         TEXT NOT NULL,
    thread_id    TEXT NOT NULL,
    refers_to    INTEGER,
    body         TEXT NOT NULL,
    processed_at INTEGER,
    created_at   INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    checksum     INTEGER NOT NULL,
    PRIMARY KEY (session_id, position)
) STRICT;
-- Event ids grow with time, so this index grows at its end.
CREATE INDEX log_by_event ON log (event_id);
CREATE INDEX log_private ON log (session_id, type, position) WHERE kind = 2;

-- Client events that no brain has processed.
CREATE TABLE inbox (
    session_id TEXT NOT NULL,
    position   INTEGER NOT NULL,
    workspace  TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    PRIMARY KEY (session_id, position)
) STRICT, WITHOUT ROWID;

-- Tool-use events that the client has to answer, and their first answers.
CREATE TABLE calls (
    session_id TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    workspace  TEXT NOT NULL,
    type       TEXT NOT NULL,
    answer     TEXT,
    PRIMARY KEY (session_id, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX calls_open ON calls (session_id) WHERE answer IS NULL;

-- Server processes that hold leases. The data directory's lock admits one: whoever is listed lives.
CREATE TABLE instances (
    id         TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE VIEW living AS SELECT id FROM instances;
