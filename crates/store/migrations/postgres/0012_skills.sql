-- In step with migrations/sqlite/0012_skills.sql.

-- A skill. Those that come with the server belong to no workspace, which is the empty one.
CREATE TABLE skills (
    id         TEXT PRIMARY KEY,
    workspace  TEXT NOT NULL,
    body       TEXT NOT NULL,
    checksum   BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX skills_of_workspace ON skills (workspace, created_at, id);

-- A version of a skill, whose files are the blob. One that is deleted stays as long as a session has it.
CREATE TABLE skill_versions (
    id         TEXT PRIMARY KEY,
    skill_id   TEXT NOT NULL,
    workspace  TEXT NOT NULL,
    epoch      BIGINT NOT NULL,
    blob       TEXT NOT NULL,
    size       BIGINT NOT NULL,
    body       TEXT NOT NULL,
    checksum   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    UNIQUE (skill_id, epoch)
);
CREATE INDEX skill_versions_of_skill ON skill_versions (skill_id, created_at, id);
CREATE INDEX skill_versions_of_blob ON skill_versions (blob);

-- The versions that a session has.
CREATE TABLE session_skills (
    session_id TEXT NOT NULL,
    version_id TEXT NOT NULL,
    PRIMARY KEY (session_id, version_id)
);
CREATE INDEX session_skills_by_version ON session_skills (version_id);
