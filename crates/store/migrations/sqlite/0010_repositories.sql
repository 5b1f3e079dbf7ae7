-- In step with migrations/postgres/0010_repositories.sql.

-- A repository of a session has a row like a file's, whose file is empty. Its token, sealed; none where the repository is public.
ALTER TABLE session_resources ADD COLUMN token TEXT;
