//! The words everyone speaks: ids, resources, events, errors and pages of the public wire contract.
//!
//! Data only. This room does no I/O, starts no task and knows no other room; everything here can be
//! built, compared and serialised in a table test. Start at [`event`]: the vocabulary of the session log
//! is the vocabulary of the stream.
//!
//! Conventions: *params* come in (`…Params`), *resources* go out (`Agent`, `Environment`, `Session`).
//! Unknown request fields are tolerated (the caller may log them); responses are exact.

pub mod agent;
pub mod budget;
pub mod content;
pub mod entry;
pub mod environment;
pub mod error;
pub mod event;
pub mod file;
pub mod id;
pub mod memory;
pub mod model;
pub mod number;
pub mod page;
pub mod patch;
pub mod repository;
pub mod session;
mod shorthand;
pub mod skill;
pub mod tag;
pub mod thread;
pub mod time;
pub mod user_profile;
pub mod vault;
pub mod web;

pub use id::{
    AgentId, CredentialId, EnvironmentId, EventId, FileId, MemoryId, MemoryStoreId,
    MemoryVersionId, ResourceId, SessionId, SkillVersionId, ThreadId, VaultId, WorkspaceId,
};
pub use skill::SkillId;
pub use time::Timestamp;

/// Metadata of a resource: at most 16 pairs, keys up to 64 and values up to 512 characters (api §29).
pub type Metadata = std::collections::BTreeMap<String, String>;
