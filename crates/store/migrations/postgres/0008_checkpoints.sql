-- In step with migrations/sqlite/0008_checkpoints.sql. What sandboxes have written, kept among the blobs. A row is
-- written before its blob, and removed after it; one without a sum is not complete.
CREATE TABLE checkpoints (
    session_id         TEXT NOT NULL,
    number             BIGINT NOT NULL,
    blob               TEXT NOT NULL,
    epoch              BIGINT NOT NULL,
    position           BIGINT NOT NULL,
    begun_at           BIGINT NOT NULL,
    sandbox_created_at BIGINT,
    size               BIGINT,
    sha256             TEXT,
    PRIMARY KEY (session_id, number)
);
