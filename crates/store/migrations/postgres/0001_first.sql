-- In step with migrations/sqlite/0001_first.sql. Instants are microseconds since the Unix epoch.

CREATE TABLE workspaces (
    id         TEXT COLLATE "C" PRIMARY KEY,
    slot       TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id         TEXT COLLATE "C" PRIMARY KEY,
    workspace  TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL UNIQUE,
    body       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX api_keys_of_workspace ON api_keys (workspace, created_at, id);

CREATE TABLE agents (
    id          TEXT COLLATE "C" PRIMARY KEY,
    workspace   TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    archived_at BIGINT
);
CREATE INDEX agents_of_workspace ON agents (workspace, created_at, id);

CREATE TABLE agent_versions (
    agent_id  TEXT COLLATE "C" NOT NULL,
    version   BIGINT NOT NULL,
    workspace TEXT COLLATE "C" NOT NULL,
    body      TEXT NOT NULL,
    PRIMARY KEY (agent_id, version)
);

CREATE TABLE environments (
    id          TEXT COLLATE "C" PRIMARY KEY,
    workspace   TEXT COLLATE "C" NOT NULL,
    body        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    archived_at BIGINT
);
CREATE INDEX environments_of_workspace ON environments (workspace, created_at, id);

-- The part of a session that changes with every append: kept small, since it is rewritten each time.
CREATE TABLE sessions (
    id             TEXT COLLATE "C" PRIMARY KEY,
    workspace      TEXT COLLATE "C" NOT NULL,
    thread_id      TEXT COLLATE "C" NOT NULL,
    environment_id TEXT COLLATE "C" NOT NULL,
    agent_id       TEXT COLLATE "C" NOT NULL,
    agent_version  BIGINT NOT NULL,
    status         TEXT COLLATE "C" NOT NULL,
    usage          TEXT NOT NULL,
    active_millis  BIGINT NOT NULL,
    running_since  BIGINT,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    archived_at    BIGINT,
    terminated_at  BIGINT,
    last_position  BIGINT NOT NULL,
    input_position BIGINT NOT NULL,
    epoch          BIGINT NOT NULL,
    holder         TEXT COLLATE "C",
    wants_brain    BIGINT NOT NULL,
    wanted_since   BIGINT NOT NULL
);
CREATE INDEX sessions_of_workspace ON sessions (workspace, created_at, id);
CREATE INDEX sessions_of_agent ON sessions (agent_id, created_at, id);
CREATE INDEX sessions_of_environment ON sessions (environment_id);
CREATE INDEX sessions_wanting ON sessions (wanted_since, id) WHERE wants_brain = 1;
CREATE INDEX sessions_held ON sessions (holder) WHERE holder IS NOT NULL;

-- The part that hardly changes: agent snapshot, title, metadata, as JSON text.
CREATE TABLE session_profiles (
    session_id TEXT COLLATE "C" PRIMARY KEY,
    workspace  TEXT COLLATE "C" NOT NULL,
    body       TEXT NOT NULL
);

-- kind: 0 event, 1 processed (refers_to is the position of the event), 2 private.
CREATE TABLE log (
    session_id   TEXT COLLATE "C" NOT NULL,
    position     BIGINT NOT NULL,
    workspace    TEXT COLLATE "C" NOT NULL,
    kind         BIGINT NOT NULL,
    event_id     TEXT COLLATE "C" NOT NULL,
    type         TEXT COLLATE "C" NOT NULL,
    thread_id    TEXT COLLATE "C" NOT NULL,
    refers_to    BIGINT,
    body         TEXT NOT NULL,
    processed_at BIGINT,
    created_at   BIGINT NOT NULL,
    epoch        BIGINT NOT NULL,
    checksum     BIGINT NOT NULL,
    PRIMARY KEY (session_id, position)
);
-- Event ids grow with time, so this index grows at its end.
CREATE INDEX log_by_event ON log (event_id);
CREATE INDEX log_private ON log (session_id, type, position) WHERE kind = 2;

-- Client events that no brain has processed.
CREATE TABLE inbox (
    session_id TEXT COLLATE "C" NOT NULL,
    position   BIGINT NOT NULL,
    workspace  TEXT COLLATE "C" NOT NULL,
    event_id   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (session_id, position)
);

-- Tool-use events that the client has to answer, and their first answers.
CREATE TABLE calls (
    session_id TEXT COLLATE "C" NOT NULL,
    event_id   TEXT COLLATE "C" NOT NULL,
    workspace  TEXT COLLATE "C" NOT NULL,
    type       TEXT COLLATE "C" NOT NULL,
    answer     TEXT COLLATE "C",
    PRIMARY KEY (session_id, event_id)
);
CREATE INDEX calls_open ON calls (session_id) WHERE answer IS NULL;

-- Server processes that hold leases: they live until expires_at, by the database's clock.
CREATE TABLE instances (
    id         TEXT COLLATE "C" PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE VIEW living AS
    SELECT id FROM instances
    WHERE expires_at > (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT;
