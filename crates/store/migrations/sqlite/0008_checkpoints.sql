-- In step with migrations/postgres/0008_checkpoints.sql. What sandboxes have written, kept among the blobs. A row is
-- written before its blob, and removed after it; one without a sum is not complete.
CREATE TABLE checkpoints (
    session_id         TEXT NOT NULL,
    number             INTEGER NOT NULL,
    blob               TEXT NOT NULL,
    epoch              INTEGER NOT NULL,
    position           INTEGER NOT NULL,
    begun_at           INTEGER NOT NULL,
    sandbox_created_at INTEGER,
    size               INTEGER,
    sha256             TEXT,
    PRIMARY KEY (session_id, number)
) STRICT;
