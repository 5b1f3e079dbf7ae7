-- In step with migrations/sqlite/0014_user_profiles.sql.

-- name: as in the body, empty where that has none; sorted by its bytes on every database.
CREATE TABLE user_profiles (
    id         TEXT PRIMARY KEY,
    workspace  TEXT NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    body       TEXT NOT NULL,
    checksum   BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX user_profiles_of_workspace ON user_profiles (workspace, created_at, id);
CREATE INDEX user_profiles_by_name ON user_profiles (workspace, name, id);

-- Links that were given out for profiles, by the SHA-256 of their secret part.
CREATE TABLE user_profile_links (
    hash       BYTEA PRIMARY KEY,
    profile_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX user_profile_links_of_profile ON user_profile_links (profile_id, expires_at);
