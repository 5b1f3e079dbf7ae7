//! What was asked of the store and what it acknowledged, beside the places in the journal where that happened.

use std::collections::BTreeSet;

use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EventId, SessionId, WorkspaceId};
use manyhands_store::{Entry, EntryKind, UsageTotals};

/// From when to when something was in the store's hands, in places of the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) asked: usize,
    pub(crate) acknowledged: usize,
}

impl Span {
    /// Whether a disk that was cut off at a place must have it.
    pub(crate) fn must_be_there(self, cut: usize) -> bool {
        self.acknowledged <= cut
    }

    /// Whether such a disk may have it.
    pub(crate) fn may_be_there(self, cut: usize) -> bool {
        self.asked < cut
    }
}

/// One write to a session that added entries.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) span: Span,
    /// As the store gave them back.
    pub(crate) entries: Vec<Entry>,
    pub(crate) status: Option<SessionStatus>,
    pub(crate) usage: Option<UsageTotals>,
    pub(crate) title: Option<String>,
    /// Whether it is input that wants a brain.
    pub(crate) wants: bool,
    /// Whether the brain rested with it.
    pub(crate) rests: bool,
    pub(crate) opened: Option<EventId>,
    pub(crate) answered: Option<EventId>,
}

impl Step {
    /// A step that did nothing but add entries.
    pub(crate) fn of(span: Span, entries: Vec<Entry>) -> Self {
        Self {
            span,
            entries,
            status: None,
            usage: None,
            title: None,
            wants: false,
            rests: false,
            opened: None,
            answered: None,
        }
    }
}

/// A session's life.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) id: SessionId,
    pub(crate) steps: Vec<Step>,
    /// The leases that were granted, with their epochs.
    pub(crate) grants: Vec<(Span, i64)>,
    pub(crate) deleted: Option<Span>,
}

/// Everything that was asked and acknowledged in one recording.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) workspace: (Span, WorkspaceId),
    pub(crate) agent: (Span, Agent),
    pub(crate) environment: (Span, Environment),
    pub(crate) histories: Vec<History>,
}

/// What a session's row has to say when its log ends after some step.
#[derive(Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) last_position: i64,
    pub(crate) input_position: i64,
    pub(crate) status: SessionStatus,
    pub(crate) usage: UsageTotals,
    pub(crate) title: Option<String>,
    pub(crate) wants: bool,
    /// Client events that wait for a brain.
    pub(crate) queued: BTreeSet<EventId>,
    /// Calls that wait for the client.
    pub(crate) open: BTreeSet<EventId>,
}

impl History {
    /// Puts the steps into the order in which they were committed. Panics when the store has acknowledged positions
    /// that are not gapless: then there is nothing to compare with.
    pub(crate) fn seal(&mut self) {
        self.steps.sort_by_key(|step| step.entries[0].position);
        for (index, entry) in self.entries().enumerate() {
            assert_eq!(usize::try_from(entry.position), Ok(index + 1));
        }
    }

    /// Its log, as far as its steps were acknowledged.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.steps.iter().flat_map(|step| &step.entries)
    }

    /// How many of the steps make up a log of so many entries; `None` when it ends within a step or has more.
    pub(crate) fn steps_of(&self, entries: usize) -> Option<usize> {
        let mut sum = 0;
        for (index, step) in self.steps.iter().enumerate() {
            if sum == entries {
                return Some(index);
            }
            sum += step.entries.len();
        }
        (sum == entries).then_some(self.steps.len())
    }

    /// The row after so many steps.
    pub(crate) fn summary(&self, steps: usize) -> Summary {
        let mut row = Summary {
            last_position: 0,
            input_position: 0,
            status: SessionStatus::Idle,
            usage: UsageTotals::default(),
            title: None,
            wants: false,
            queued: BTreeSet::new(),
            open: BTreeSet::new(),
        };
        for step in &self.steps[..steps] {
            for entry in &step.entries {
                row.last_position = entry.position;
                match (entry.kind, entry.processed_at) {
                    (EntryKind::Event, None) => drop(row.queued.insert(entry.event_id.clone())),
                    (EntryKind::Processed, _) => drop(row.queued.remove(&entry.event_id)),
                    (EntryKind::Event | EntryKind::Private, _) => {}
                }
            }
            row.status = step.status.unwrap_or(row.status);
            row.usage = step.usage.unwrap_or(row.usage);
            row.title = step.title.clone().or(row.title);
            row.wants = !step.rests && (step.wants || row.wants);
            if step.wants {
                row.input_position = row.last_position;
            }
            row.open.extend(step.opened.clone());
            if let Some(call) = &step.answered {
                row.open.remove(call);
            }
        }
        row
    }
}
