//! What is remembered: the session log, resources, keys and leases, in SQLite or PostgreSQL.
//!
//! This room knows no HTTP, no model and no sandbox. It answers three kinds of questions: what happened in a
//! session ([`entry`], [`session`]), what was configured ([`resources`](Store)), and who may write now
//! ([`lease`]). Every write is durable when the call returns (security LOG-1). Start at [`Store::change`] (how
//! clients write) and [`Store::append`] (how a brain writes).

mod agent;
pub mod audit;
pub mod backup;
mod body;
pub mod checkpoints;
mod claim;
mod db;
pub mod entry;
mod environment;
pub mod error;
mod events;
mod failpoint;
pub mod files;
mod folder;
pub mod idempotency;
pub mod key;
pub mod lease;
pub mod listing;
mod log;
pub mod memory;
pub mod quota;
mod remains;
pub mod replica;
pub mod repositories;
mod reserve;
mod resource;
pub mod session;
pub mod skills;
mod store;
mod strays;
pub mod tail;
mod together;
pub mod user_profiles;
pub mod vault;
pub mod verify;
pub mod workspace;

pub use claim::Backlog;
pub use db::{Conduct, Outcome, SharedMemory, Use};
pub use entry::{Entry, EntryKind, NewEntry};
pub use error::{AppendError, Error};
pub use files::{FileRecord, Origin};
pub use folder::make_folder;
pub use lease::{Lease, Nudge};
pub use replica::{Place, Replica, Role};
pub use session::{
    Append, Belongings, Change, Created, NewSession, OpenCall, SessionRecord, SessionState,
    UsageTotals, running_millis,
};
pub use store::{Config, Database, Store};
pub use tail::{Subscription, TailItem};
