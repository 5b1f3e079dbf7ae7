-- In step with migrations/sqlite/0004_replicas.sql. Where an instance's sandboxes are, and whether it wakes sessions.
ALTER TABLE instances ADD COLUMN place TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN role TEXT COLLATE "C" NOT NULL DEFAULT 'all';
CREATE VIEW brains AS
    SELECT i.id AS id, i.place AS place FROM instances i JOIN living l ON l.id = i.id WHERE i.role IN ('all', 'brain');
-- Where its brain was last.
ALTER TABLE sessions ADD COLUMN place TEXT COLLATE "C";
