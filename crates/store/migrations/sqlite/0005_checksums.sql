-- In step with migrations/postgres/0005_checksums.sql. Rows that are older have no checksum until they are written again.

ALTER TABLE agent_versions ADD COLUMN checksum INTEGER;
ALTER TABLE environments ADD COLUMN checksum INTEGER;
ALTER TABLE session_profiles ADD COLUMN checksum INTEGER;
