//! The time that a session runs, kept by a wake as the store keeps it (runtime US-4).

use manyhands_protocol::Timestamp;
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Entry, EntryKind, SessionRecord};

/// The active time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    millis: i64,
    since: Option<Timestamp>,
    /// All entries up to here are counted.
    position: i64,
}

impl Active {
    /// As it was when the row was read.
    pub(super) fn of(record: &SessionRecord) -> Self {
        Self {
            millis: record.active_millis,
            since: record.running_since,
            position: record.last_position,
        }
    }

    /// Milliseconds until `now`.
    pub(super) fn until(self, now: Timestamp) -> i64 {
        self.millis + self.since.map_or(0, |since| now.millis_since(since))
    }

    /// The session has this status from now on.
    pub(super) fn enter(&mut self, status: SessionStatus, now: Timestamp) {
        if status == SessionStatus::Running {
            self.since.get_or_insert(now);
        } else {
            self.millis = self.until(now);
            self.since = None;
        }
    }

    /// Takes an entry of the log: a client may have started a turn beside the wake.
    pub(super) fn hear(&mut self, entry: &Entry) {
        if entry.position <= self.position || entry.kind != EntryKind::Event {
            return;
        }
        let status = match &*entry.type_name {
            "session.status_running" => SessionStatus::Running,
            "session.status_idle" => SessionStatus::Idle,
            "session.status_rescheduled" => SessionStatus::Rescheduling,
            "session.status_terminated" => SessionStatus::Terminated,
            _ => return,
        };
        self.enter(status, entry.created_at);
    }
}
