//! Memory stores, the memories in them, and every change of them as a version (runtime ME-1 to ME-11).
//!
//! A change and its version are one transaction under the lock of the store, so limits and conflicts are exact however many
//! write (security API-4). A text is stored once, byte for byte, with the version that wrote it.

mod attached;
mod change;
mod read;
mod rows;
mod stores;
mod upkeep;
mod versions;

pub use attached::{Attach, AttachRefusal, MEMORY_STORES};
pub(crate) use attached::{attach_all, detach_all};
pub use change::{Changed, Mutation, Which};
pub use read::{Depth, MemoryRange};
pub use rows::sha256;
pub(crate) use rows::{memory_of, memory_store_of, resource_of, version_of, whole};
pub use stores::StoreChange;
pub(crate) use upkeep::purge_piece;
pub use versions::{Redacted, VersionFilter};
