//! Log entries → [`Transcript`] (pure, incremental): what the model has seen, and what is still open.

mod carried;
mod content;
mod fold;
mod forms;
mod parts;

use std::collections::{BTreeSet, VecDeque};

use indexmap::IndexMap;
use manyhands_protocol::EventId;
use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::memory::MemoryStoreResource;

use crate::mcp::Listings;
use crate::record::{AttachedRecord, Retry, StopRecord};
use crate::repositories::Cloned;
use crate::skills::{Announced, Found};

pub(crate) use carried::{Carried, Compaction};
pub(crate) use content::{Json, texts};
pub(crate) use fold::{FoldError, new_budget};
pub(crate) use parts::{Call, CallResult, Consent, Input, Queued, Role, Status, Turn};

/// A conversation and its state, folded from a log. Equal logs give equal transcripts (invariant I6).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transcript {
    /// The last folded position.
    pub(crate) position: i64,
    /// Turns that are answered or answers: user and assistant in alternation, the user first; a system turn only
    /// between a user's and the model's.
    pub(crate) turns: Vec<Turn>,
    /// The provider's count of all tokens up to the last answer; 0 when there is none.
    pub(crate) measured: u64,
    /// The summary of all before, until an answer makes it part of a turn.
    pub(crate) summary: Option<Json>,
    /// The blocks of the system messages before it: as long, and no refusal takes them away (runtime CC-3).
    pub(crate) kept_system: Vec<Json>,
    /// The calls of the last assistant turn, in the model's order; their results open the next user turn.
    pub(crate) calls: IndexMap<EventId, Call>,
    /// The rest of the next user turn: blocks of messages taken since the last assistant turn.
    pub(crate) fresh: Vec<Json>,
    /// The system turn behind it: blocks of system messages taken since then (runtime SE-9).
    pub(crate) fresh_system: Vec<Json>,
    /// Client events that wait to be taken, in order.
    pub(crate) queued: VecDeque<Queued>,
    /// Where the session is.
    pub(crate) status: Status,
    /// The calls that the last idle event said the session waits for.
    pub(crate) announced: Vec<EventId>,
    /// The last idle event said that the budget is reached.
    pub(crate) paused: bool,
    /// The model has not answered what is in `calls` and `fresh`.
    pub(crate) owes_answer: bool,
    /// How the last response ended.
    pub(crate) ending: Option<StopRecord>,
    /// A model request that began and did not end.
    pub(crate) open_span: Option<EventId>,
    /// Model responses with calls in this turn.
    pub(crate) rounds: u32,
    /// Summaries in this turn without an answer in between.
    pub(crate) compactions: u32,
    /// Requests since then that were too long.
    pub(crate) overflows: u32,
    /// The last failure, while it is tried again.
    pub(crate) retry: Option<Retry>,
    /// The bytes that belong to the next event.
    pub(crate) attached: Option<AttachedRecord>,
    /// What the client was last told about packages that are not installed (runtime EN-9).
    pub(crate) unfurnished: Option<String>,
    /// What is cloned into the sandbox.
    pub(crate) repositories: Vec<Cloned>,
    /// The skills that the session was made with.
    pub(crate) skills: Vec<Announced>,
    /// Those of its repositories that the model was told of in this conversation.
    pub(crate) skills_found: Vec<Found>,
    /// Those it was told of before the summary: it is told of them with all that it is told of first.
    pub(crate) skills_known: Vec<Found>,
    /// The memory stores that the sandbox has.
    pub(crate) memory: Vec<MemoryStoreResource>,
    /// What the client was told about those that are not there (runtime GH-7).
    pub(crate) absent: BTreeSet<String>,
    /// The credentials of which the client was told that their hosts are closed here (runtime ER-7).
    pub(crate) unreachable: BTreeSet<String>,
    /// What is known of the tools of the agent's MCP servers.
    pub(crate) mcp: Listings,
    /// The agent's snapshot, when the log holds a newer one than the session began with.
    pub(crate) agent: Option<Box<SessionAgent>>,
    /// The snapshot that the next turn begins with: it came while this one was open (runtime UP-3, CC-6).
    pub(crate) next_agent: Option<Box<SessionAgent>>,
}

impl Transcript {
    /// Moves a queued event into the conversation. One that is not queued (any more) changes nothing, so that a
    /// request can be built while the entry that says so is being written.
    pub(crate) fn take(&mut self, id: &EventId) {
        let Some(at) = self.queued.iter().position(|queued| queued.id == *id) else {
            return;
        };
        match self.queued.remove(at).map(|queued| queued.input) {
            Some(Input::Message(blocks)) => {
                self.fresh.extend(blocks);
                self.owes_answer = true;
            }
            // It waits for a turn to follow: by itself it asks for nothing (runtime SE-8).
            Some(Input::System(blocks)) => self.fresh_system.extend(blocks),
            Some(Input::Interrupt) | None => {}
        }
    }

    /// Calls without a result, in the model's order.
    pub(crate) fn open_calls(&self) -> impl Iterator<Item = (&EventId, &Call)> {
        self.calls.iter().filter(|(_, call)| !call.is_settled())
    }

    /// Queued messages of the user and the system, in order.
    pub(crate) fn inputs(&self) -> Vec<EventId> {
        self.queued_that(|input| !matches!(input, Input::Interrupt))
    }

    /// Queued interrupts.
    pub(crate) fn interrupts(&self) -> Vec<EventId> {
        self.queued_that(|input| matches!(input, Input::Interrupt))
    }

    /// Whether a message of the user waits: system messages alone open no turn (runtime SE-8).
    pub(crate) fn has_message(&self) -> bool {
        let message = |queued: &Queued| matches!(queued.input, Input::Message(_));
        self.queued.iter().any(message)
    }

    /// Whether the client wants the turn stopped.
    pub(crate) fn is_interrupted(&self) -> bool {
        let interrupt = |queued: &Queued| matches!(queued.input, Input::Interrupt);
        self.queued.iter().any(interrupt)
    }

    fn queued_that(&self, wanted: impl Fn(&Input) -> bool) -> Vec<EventId> {
        let found = self.queued.iter().filter(|queued| wanted(&queued.input));
        found.map(|queued| queued.id.clone()).collect()
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let blocks = |blocks: &[Json]| blocks.iter().map(|block| block.len() + 32).sum::<usize>();
        let turns: usize = self
            .turns
            .iter()
            .map(|turn| blocks(&turn.blocks) + 64)
            .sum();
        let calls = self.calls.values().map(|call| {
            let result = call
                .result
                .as_ref()
                .map_or(0, |result| blocks(&result.blocks));
            result + call.input.len() + 256
        });
        let queued = self.queued.iter().map(|queued| match &queued.input {
            Input::Message(content) | Input::System(content) => blocks(content) + 64,
            Input::Interrupt => 64,
        });
        512 + turns
            + calls.sum::<usize>()
            + queued.sum::<usize>()
            + self.summary.as_deref().map_or(0, str::len)
            + blocks(&self.kept_system)
            + blocks(&self.fresh)
            + blocks(&self.fresh_system)
            + self.mcp.bytes()
    }

    /// The turns that the next request ends with: the user's with results in the model's order, then messages; and
    /// behind it the system's, if there is one. Models take a system turn only between a user's and their own, so
    /// that it moves behind messages which join a request that got no answer.
    pub(crate) fn tail(&self) -> impl Iterator<Item = Turn> + use<> {
        let results = self.calls.values().map(content::tool_result);
        let user = Turn {
            role: Role::User,
            blocks: results
                .chain(self.summary.iter().cloned())
                .chain(self.fresh.iter().cloned())
                .collect(),
        };
        let system = Turn {
            role: Role::System,
            blocks: self
                .kept_system
                .iter()
                .chain(&self.fresh_system)
                .cloned()
                .collect(),
        };
        let system = Some(system).filter(|turn| !turn.blocks.is_empty());
        std::iter::once(user).chain(system)
    }
}

#[cfg(test)]
mod tests;
