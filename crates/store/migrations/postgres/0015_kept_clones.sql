-- In step with migrations/sqlite/0015_kept_clones.sql.

-- What the first session of a workspace has cloned of a repository, for the next ones: its references, then its pack, in one blob.
-- The blob is written before the row; what removes the row notes it down as loose.
CREATE TABLE kept_clones (
    workspace  TEXT NOT NULL,
    repository TEXT NOT NULL,
    blob       TEXT NOT NULL,
    size       BIGINT NOT NULL,
    head       BIGINT NOT NULL,
    sha256     TEXT NOT NULL,
    made_at    BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    PRIMARY KEY (workspace, repository)
);
CREATE INDEX kept_clones_by_blob ON kept_clones (blob);
