-- In step with migrations/sqlite/0005_checksums.sql. Rows that are older have no checksum until they are written again.

ALTER TABLE agent_versions ADD COLUMN checksum BIGINT;
ALTER TABLE environments ADD COLUMN checksum BIGINT;
ALTER TABLE session_profiles ADD COLUMN checksum BIGINT;
