//! Chores: idempotent, on a nudge and on a timer, so that the good day and the bad one go the same way.

pub(crate) mod blobs;
pub(crate) mod captures;
pub(crate) mod checkpoints;
pub(crate) mod memory_versions;
