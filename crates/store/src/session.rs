//! A session's row, and what a write to a session consists of.

mod absent;
mod create;
mod purpose;
mod read;
mod running;
mod state;
mod write;

use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::budget::{Budget, Consumption, Cost};
use manyhands_protocol::session::{ServerToolUse, SessionStatus};
use manyhands_protocol::{
    EnvironmentId, EventId, Metadata, SessionId, ThreadId, Timestamp, VaultId, WorkspaceId,
};
use serde::{Deserialize, Serialize};

use crate::audit::Act;
use crate::entry::NewEntry;

pub use create::{Belongings, Created};
pub(crate) use read::{record_columns, record_of, record_tables};
pub use running::running_millis;
pub(crate) use running::{active_until, longest_stretch, transition};
pub(crate) use write::{publish_later, write_drafts};

/// Tokens a session used in all; cumulative (runtime US-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotals {
    /// Neither read from nor written to a cache.
    pub input_tokens: u64,
    /// Output.
    pub output_tokens: u64,
    /// Read from a cache.
    pub cache_read_input_tokens: u64,
    /// Written to a cache for five minutes.
    pub cache_creation_5m_input_tokens: u64,
    /// Written to a cache for an hour.
    pub cache_creation_1h_input_tokens: u64,
    /// What all these tokens cost at list prices, in 10⁻¹³ dollars (runtime US-6).
    #[serde(default)]
    pub token_cost: u64,
    /// Requests that a model without a list price served (runtime BU-11).
    #[serde(default)]
    pub unpriced_requests: u64,
    /// Searches of the web (runtime WB-12).
    #[serde(default)]
    pub web_search_requests: u64,
}

impl UsageTotals {
    /// What server-side tools were used for; fetches are not counted (runtime WB-12).
    pub fn server_tool_use(&self) -> ServerToolUse {
        ServerToolUse {
            web_search_requests: self.web_search_requests,
            web_fetch_requests: 0,
        }
    }

    /// What was consumed with so many milliseconds of running time.
    pub fn consumption(&self, active_millis: i64, at: Timestamp) -> Consumption {
        Consumption {
            at,
            cost: Cost::of_tokens(self.token_cost).plus_running(active_millis),
            unpriced: self.unpriced_requests > 0,
        }
    }
}

/// A session's row.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRecord {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Its id.
    pub id: SessionId,
    /// Its primary thread.
    pub thread_id: ThreadId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// Its snapshot of the agent.
    pub agent: SessionAgent,
    /// Its title.
    pub title: Option<String>,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// Where it is in its life.
    pub status: SessionStatus,
    /// Its cost cap.
    pub budget: Option<Budget>,
    /// Its vaults; of two that have a credential for the same thing, the first one's is taken (runtime VA-8).
    pub vault_ids: Vec<VaultId>,
    /// Tokens used.
    pub usage: UsageTotals,
    /// Milliseconds it was running, without the time after its last write (runtime US-4).
    pub active_millis: i64,
    /// Up to when its running is counted; `None` in any other status.
    pub running_since: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// When it became terminated.
    pub terminated_at: Option<Timestamp>,
    /// The position of the log's last entry; 0 when empty.
    pub last_position: i64,
    /// The position of the last entry that a client wrote and the brain has to read; 0 when there is none.
    pub input_position: i64,
    /// The epoch of the latest lease.
    pub epoch: i64,
}

impl SessionRecord {
    /// Milliseconds it was running until `now`, the present stretch included.
    pub fn active_millis_at(&self, now: Timestamp) -> i64 {
        self.active_millis
            + self
                .running_since
                .map_or(0, |since| running_millis(since, now))
    }

    /// What it consumed until `now`, the present stretch included (runtime BU-3).
    pub fn consumption_at(&self, now: Timestamp) -> Consumption {
        self.usage.consumption(self.active_millis_at(now), now)
    }

    /// Whether it may make no further model request (runtime BU-4, BU-11).
    pub fn at_cap(&self, now: Timestamp) -> bool {
        self.consumption_at(now).exhausts(self.budget.as_ref())
    }
}

/// A call that needs an answer of the client, and the answer when there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCall {
    /// The tool-use event.
    pub event_id: EventId,
    /// The wire type of the tool-use event (`agent.custom_tool_use`).
    pub type_name: String,
    /// The client's event that answered it first.
    pub answer: Option<EventId>,
}

/// What a client's write is decided on: read under the session's lock.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionState {
    /// The row.
    pub record: SessionRecord,
    /// All unanswered calls, and the answered ones among those the caller asked about.
    pub calls: Vec<OpenCall>,
    /// How many client events are queued and not processed.
    pub queued: u64,
    /// Whether a brain is wanted or at work: an idle session may be about to go on.
    pub wanted: bool,
    /// The store's time of this write.
    pub now: Timestamp,
}

/// The log part of a write: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Append {
    /// Entries, in order.
    pub entries: Vec<NewEntry>,
    /// The new status, in the same transaction as its event. Entering `running` starts the active clock, leaving it
    /// stops it; `terminated` freezes the duration.
    pub status: Option<SessionStatus>,
    /// The new totals.
    pub usage: Option<UsageTotals>,
    /// The running time that its `session.usage` shows, in milliseconds: no less is kept, whatever the clock did since
    /// it was computed (runtime US-4).
    pub active_millis: Option<i64>,
    /// Calls that now wait for the client: (tool-use event, its wire type).
    pub opened: Vec<(EventId, &'static str)>,
    /// Calls that are answered by this write: (tool-use event, answering event).
    pub answered: Vec<(EventId, EventId)>,
}

/// A client's write to a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// What goes to the log.
    pub append: Append,
    /// Whether the brain has work now. The entries then count as input that a resting brain must have read.
    pub wants_brain: bool,
    /// A new title (`Some(None)` clears).
    pub title: Option<Option<String>>,
    /// The whole new metadata.
    pub metadata: Option<Metadata>,
    /// The whole new agent snapshot.
    pub agent: Option<SessionAgent>,
    /// A new cost cap (`Some(None)` removes).
    pub budget: Option<Option<Budget>>,
    /// Marks the session archived now.
    pub archive: bool,
    /// Removes the session, its log and all that belongs to it. Streams get `session.deleted`.
    pub delete: bool,
    /// Rows of the audit log, written before all else (security OPS-3).
    pub acts: Vec<Act>,
}

/// A session to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSession {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Its id.
    pub id: SessionId,
    /// Its primary thread.
    pub thread_id: ThreadId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// Its snapshot of the agent.
    pub agent: SessionAgent,
    /// Its title.
    pub title: Option<String>,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// Its cost cap.
    pub budget: Option<Budget>,
    /// Its vaults, in the order in which credentials are looked for.
    pub vault_ids: Vec<VaultId>,
    /// Events that start the work at once; with a status of `running` when not empty.
    pub change: Change,
}
