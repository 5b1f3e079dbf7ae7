-- In step with migrations/postgres/0003_remains.sql. Deleted sessions whose log is still being removed, piece by piece.
CREATE TABLE remains (
    session_id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
