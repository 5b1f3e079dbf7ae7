//! Checkpoints: what a sandbox has written, kept among the blobs, so that another host or a later day goes on with it
//! (runtime EN-17). A provider packs and restores; which checkpoint a session has is written down by who asks it to.

mod keeper;
mod kept;
mod packing;
mod state;
mod stream;

use async_trait::async_trait;
use manyhands_protocol::Timestamp;

use crate::Error;
pub(super) use keeper::{Begin, Keeper, Stock};
pub(super) use kept::Kept;
pub(super) use packing::Packing;
pub(super) use state::{State, note, owner, used};
pub(super) use stream::{Pieces, Writer, bounds, open, restored};

/// What a session's sandbox had written when it came to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its blob's name.
    pub blob: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's SHA-256, in hex.
    pub sha256: String,
    /// The epoch with which its host owned the sandbox last: files that a host owned with this epoch or a higher one are not
    /// older than the checkpoint.
    pub epoch: i64,
    /// When the sandbox was made (runtime EN-18).
    pub sandbox_created_at: Timestamp,
}

/// What the files of a sandbox were when it was started, or when its owner changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// There were none.
    New {
        /// Those that there had been were too old to go on with (runtime EN-18).
        expired: bool,
    },
    /// Those of this host, which it owned with this epoch last.
    Kept {
        /// The epoch.
        epoch: i64,
    },
    /// Those of the recipe's checkpoint.
    Restored,
}

/// A sandbox at rest whose files have changed since they were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaved {
    /// The session.
    pub session: String,
    /// The epoch with which this host owned it last.
    pub epoch: i64,
    /// How often it was started here.
    pub starts: u64,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's SHA-256, in hex.
    pub sha256: String,
    /// When the sandbox was made.
    pub sandbox_created_at: Timestamp,
}

/// A provider whose sandboxes can be kept.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Returns when a sandbox may have come to rest, or been removed, since it was called last.
    async fn rested(&self);

    /// The sandboxes at rest here whose files have changed since they were kept, also those that an earlier server of this
    /// host has left.
    ///
    /// # Errors
    /// When it cannot be told which there are.
    async fn unsaved(&self) -> Result<Vec<Unsaved>, Error>;

    /// Packs what a sandbox has written into a blob of this name. `None` when it is no longer as `unsaved` says: whoever wants
    /// the sandbox goes first, and does not wait until all is packed.
    ///
    /// # Errors
    /// When it cannot be packed or stored. The files are as they were.
    async fn save(&self, unsaved: &Unsaved, blob: &str) -> Result<Option<Saved>, Error>;

    /// Notes that what was packed is written down, so that it need not be packed again.
    ///
    /// # Errors
    /// When it cannot be noted: it will be packed again.
    async fn saved(&self, unsaved: &Unsaved) -> Result<(), Error>;

    /// Removes files that are kept, the longest unused first, until `bytes` of the disk are free. How many sandboxes lost
    /// theirs; the next call restores them.
    ///
    /// # Errors
    /// When something could not be removed.
    async fn shed(&self, bytes: u64) -> Result<u64, Error>;
}
