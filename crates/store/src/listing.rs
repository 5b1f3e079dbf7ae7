//! Where a list page begins.

use manyhands_protocol::Timestamp;
use manyhands_protocol::page::Order;

/// A place in a list that is sorted by creation time, then id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Creation time of the item.
    pub created_at: Timestamp,
    /// Its id.
    pub id: String,
}

/// What part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Only items after this one, in list order; `None` from the beginning.
    pub after: Option<Key>,
    /// The direction.
    pub order: Order,
    /// How many at most.
    pub limit: u32,
}

/// Filters of the agents list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFilter {
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created at or before.
    pub created_to: Option<Timestamp>,
    /// Whether archived ones are shown too.
    pub include_archived: bool,
}

/// A place in a session's event list: listed events by list position, then queued ones by position
/// (architecture "Log entry", runtime LI-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKey {
    /// After the processed event whose list position this is.
    Processed(i64),
    /// After the queued event stored at this position.
    Queued(i64),
}

/// What part of a session's event list is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventRange {
    /// Only events after this one, in list order.
    pub after: Option<EventKey>,
    /// Newest first instead of oldest first (queued events then come first).
    pub descending: bool,
    /// How many at most.
    pub limit: u32,
    /// Only these types; empty means all.
    pub types: Vec<String>,
    /// `processed_at` after, at or after, before, at or before. Queued events match none of them.
    pub processed_after: Option<Timestamp>,
    /// At or after.
    pub processed_from: Option<Timestamp>,
    /// Before.
    pub processed_before: Option<Timestamp>,
    /// At or before.
    pub processed_to: Option<Timestamp>,
}
