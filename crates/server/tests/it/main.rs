//! Stories told through HTTP, each on SQLite and on PostgreSQL.

mod agents;
mod app;
mod doors;
mod environments;
mod events;
mod first_start;
mod session_changes;
mod session_lists;
mod sessions;
mod streams;
