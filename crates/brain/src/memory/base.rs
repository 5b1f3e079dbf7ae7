//! What was last the same in a store and in its copy: kept beside the copy, so that it goes with it, and across servers. It is on
//! disk: members are added, never renamed or removed.

use std::collections::BTreeMap;

use manyhands_hands::memory::Stamp;
use serde::{Deserialize, Serialize};

use super::told::Told;

/// A file that was changed so shortly before it was looked at may be changed again without another time.
const TICK_NANOS: i64 = 20_000_000;

/// What was the same, and what the model has still to be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Base {
    /// By the store's id, and the path of the memory.
    pub(super) stores: BTreeMap<String, BTreeMap<String, Known>>,
    /// For the next result.
    pub(super) told: Vec<Told>,
}

/// A memory that was the same on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The hash of its text.
    pub(super) sha256: String,
    /// The file with that text; `None` when the file has to be read to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamp: Option<Stamp>,
    /// It could not be laid: there is no file.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) unshown: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Known {
    /// A text, and the file that had it at `now`, in nanoseconds of Unix time.
    pub(super) fn new(sha256: String, stamp: Option<Stamp>, now: i64) -> Self {
        let is_sure = |stamp: &Stamp| stamp.changed().saturating_add(TICK_NANOS) < now;
        Self {
            sha256,
            stamp: stamp.filter(is_sure),
            unshown: false,
        }
    }
}
