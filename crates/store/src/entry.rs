//! Entries of the session log: immutable, in gapless positions, checksummed (architecture "Log entry").

use std::sync::Arc;

use manyhands_protocol::event::EventBody;
use manyhands_protocol::{EventId, ThreadId, Timestamp};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A public event, as first stored. A client's queued event has `processed_at` null here.
    Event,
    /// A queued client event was processed: its second appearance on streams (runtime SE-4).
    Processed,
    /// Only we need it; the API never lists it.
    Private,
}

/// One stored entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// From 1, without gaps, in commit order (security I2, LOG-6).
    pub position: i64,
    /// What it is.
    pub kind: EntryKind,
    /// The event's id; of a `Processed` entry, the id of the event that was processed; of a private one, its own.
    pub event_id: EventId,
    /// The wire type (`user.message`), or the private type's name.
    pub type_name: Arc<str>,
    /// The thread it belongs to.
    pub thread_id: ThreadId,
    /// JSON object text, byte for byte as stored. Events: `{"type":…,own members}` without id and
    /// `processed_at`; of a `Processed` entry, the body of the event it refers to.
    pub body: Arc<str>,
    /// When it was processed; `None` while queued.
    pub processed_at: Option<Timestamp>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// The epoch of the brain that wrote it; 0 for clients.
    pub epoch: i64,
}

impl Entry {
    /// The event as clients see it: the stored body with `id` and `processed_at` joined in.
    ///
    /// The body's bytes are kept as they are. Private entries have no such form.
    pub fn render(&self) -> String {
        let members = self.body.strip_prefix('{').unwrap_or("}");
        let mut text = String::with_capacity(self.body.len() + 120);
        text.push_str("{\"id\":\"");
        text.push_str(self.event_id.as_str());
        text.push_str("\",\"processed_at\":");
        match self.processed_at {
            Some(at) => {
                text.push('"');
                text.push_str(&at.to_string());
                text.push('"');
            }
            None => text.push_str("null"),
        }
        if !members.starts_with('}') {
            text.push(',');
        }
        text.push_str(members);
        text
    }

    /// Whether clients can see it.
    pub fn is_public(&self) -> bool {
        self.kind != EntryKind::Private
    }
}

/// An entry to be appended.
#[derive(Clone, Debug, PartialEq)]
pub enum NewEntry {
    /// A public event. `queued` events have no `processed_at` until a `Processed` entry names them.
    Event {
        /// Its id, made by the caller (previews announce it early).
        id: EventId,
        /// What happened.
        body: EventBody,
        /// Whether it waits for the brain (runtime SE-3).
        queued: bool,
    },
    /// A queued client event is processed now.
    Processed {
        /// Which.
        event_id: EventId,
    },
    /// A record of our own.
    Private {
        /// Its type's name, such as `response`.
        type_name: &'static str,
        /// JSON object text.
        body: String,
    },
}

impl NewEntry {
    /// A public event with a new id that is processed at once.
    pub fn event(body: EventBody) -> Self {
        Self::Event {
            id: EventId::generate(),
            body,
            queued: false,
        }
    }
}
