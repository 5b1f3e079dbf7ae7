-- In step with migrations/postgres/0002_stranded.sql. Holds no row as long as all is well: whoever is at work wants a brain.
CREATE INDEX sessions_stranded ON sessions (id) WHERE wants_brain = 0 AND status IN ('running', 'rescheduling');
