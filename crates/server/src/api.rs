//! The API's nouns, one file each, and what they share: errors, credentials, bodies, queries, cursors.

pub(crate) mod admission;
pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod attachments;
pub(crate) mod auth;
pub(crate) mod cursor;
pub(crate) mod environments;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod inspection;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod later;
pub(crate) mod models;
pub(crate) mod query;
pub(crate) mod resources;
pub(crate) mod sessions;
pub(crate) mod stream;
pub(crate) mod threads;
pub(crate) mod user_profiles;
pub(crate) mod vaults;
pub(crate) mod workspaces;
