-- In step with migrations/sqlite/0003_remains.sql. Deleted sessions whose log is still being removed, piece by piece.
CREATE TABLE remains (
    session_id TEXT PRIMARY KEY
);
