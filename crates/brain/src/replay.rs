//! Log entries → [`Transcript`] (pure, incremental): what the model has seen, and what is still open.

mod carried;
mod content;

use std::borrow::Cow;
use std::collections::VecDeque;

use indexmap::IndexMap;
use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::budget::Budget;
use manyhands_protocol::event::{Confirmation, EventBody};
use manyhands_protocol::{EventId, Timestamp};
use manyhands_store::{Entry, EntryKind};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::record::{
    self, CallKind, CallRecord, Flushed, ResponseRecord, Retry, StopRecord, ToolStarted,
};

pub(crate) use carried::{Carried, Compaction};
pub(crate) use content::{Json, texts};

/// A log that cannot be folded: damaged, or written by a newer version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoldError {
    /// Entries are not in sequence.
    #[error("entry {found} follows entry {position}")]
    Gap {
        /// The last folded position.
        position: i64,
        /// The one that came.
        found: i64,
    },
    /// A body is not of its form.
    #[error("entry {position} ({type_name}) cannot be read: {reason}")]
    Body {
        /// Which entry.
        position: i64,
        /// Its type.
        type_name: String,
        /// What is wrong.
        reason: String,
    },
}

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
    /// The agent's snapshot, when the log holds a newer one than the session began with.
    pub(crate) agent: Option<Box<SessionAgent>>,
    /// The snapshot that the next turn begins with: it came while this one was open (runtime UP-3, CC-6).
    pub(crate) next_agent: Option<Box<SessionAgent>>,
}

/// One turn of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    /// Who speaks.
    pub(crate) role: Role,
    /// Its blocks, as they go to the model.
    pub(crate) blocks: Vec<Json>,
}

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The user, and tools.
    User,
    /// The operator, in mid-conversation.
    System,
    /// The model.
    Assistant,
}

/// A call of the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// The provider's id.
    pub(crate) tool_use_id: String,
    /// The tool.
    pub(crate) name: String,
    /// Who runs it.
    pub(crate) kind: CallKind,
    /// Its input, as the model wrote it.
    pub(crate) input: Json,
    /// The client's answer, where it was asked whether the call may run.
    pub(crate) consent: Option<Consent>,
    /// The last intent to run it.
    pub(crate) started: Option<ToolStarted>,
    /// Its result, once there is one (invariant I3: exactly one).
    pub(crate) result: Option<CallResult>,
}

/// What the client said about a call that asked (runtime TC-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// It runs.
    Given,
    /// It does not run.
    Refused {
        /// Why, for the model.
        message: Option<String>,
    },
}

impl Call {
    /// Whether it is done, however it ended.
    pub(crate) fn is_settled(&self) -> bool {
        self.result.is_some()
    }

    /// Whether the client has to do something about it: its result, or a word whether it may run.
    pub(crate) fn waits_for_client(&self) -> bool {
        let waits = match self.kind {
            CallKind::Custom => true,
            CallKind::Asked => self.consent.is_none(),
            CallKind::Sandbox | CallKind::Refused => false,
        };
        waits && !self.is_settled()
    }
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallResult {
    /// At least one block.
    pub(crate) blocks: Vec<Json>,
    /// Whether it failed.
    pub(crate) is_error: bool,
}

/// A client event that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queued {
    /// The event.
    pub(crate) id: EventId,
    /// What it is.
    pub(crate) input: Input,
}

/// What a queued event is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    /// A message, as blocks for the model.
    Message(Vec<Json>),
    /// A system message, as blocks for the model.
    System(Vec<Json>),
    /// A stop.
    Interrupt,
}

/// Where a session is, as its log says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Nothing to do, or waiting for the client.
    #[default]
    Idle,
    /// A turn is running.
    Running,
    /// A turn waits to be tried again.
    Rescheduling,
    /// Over.
    Terminated,
}

impl Transcript {
    /// Takes the next entry.
    pub(crate) fn fold(&mut self, entry: &Entry) -> Result<(), FoldError> {
        if entry.position != self.position + 1 {
            return Err(FoldError::Gap {
                position: self.position,
                found: entry.position,
            });
        }
        let folded = match entry.kind {
            EntryKind::Event => self.event(entry),
            EntryKind::Processed => {
                self.take(&entry.event_id);
                Ok(())
            }
            EntryKind::Private => self.private(entry),
        };
        folded.map_err(|error| FoldError::Body {
            position: entry.position,
            type_name: entry.type_name.to_string(),
            reason: error.to_string(),
        })?;
        self.position = entry.position;
        Ok(())
    }

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
            + blocks(&self.fresh)
            + blocks(&self.fresh_system)
    }

    fn event(&mut self, entry: &Entry) -> Result<(), serde_json::Error> {
        let body = &*entry.body;
        match &*entry.type_name {
            "user.message" | "system.message" => {
                let Content { content } = serde_json::from_str(body)?;
                let content = content.unwrap_or_default();
                let input = if &*entry.type_name == "user.message" {
                    Input::Message(content::message(&content))
                } else {
                    Input::System(content::system(&content))
                };
                let id = entry.event_id.clone();
                self.queued.push_back(Queued { id, input });
                if entry.processed_at.is_some() {
                    self.take(&entry.event_id);
                }
            }
            "user.interrupt" if entry.processed_at.is_none() => self.queued.push_back(Queued {
                id: entry.event_id.clone(),
                input: Input::Interrupt,
            }),
            "user.custom_tool_result" => {
                let CustomResult { custom_tool_use_id } = serde_json::from_str(body)?;
                self.result(&custom_tool_use_id, body)?;
            }
            "user.tool_confirmation" => self.confirm(serde_json::from_str(body)?),
            "agent.tool_result" => {
                let ToolResult { tool_use_id } = serde_json::from_str(body)?;
                self.result(&tool_use_id, body)?;
            }
            "session.status_running" => self.status = Status::Running,
            "session.status_rescheduled" => self.status = Status::Rescheduling,
            "session.status_terminated" => self.status = Status::Terminated,
            "session.status_idle" => {
                let Idle { stop_reason } = serde_json::from_str(body)?;
                self.status = Status::Idle;
                self.retry = None;
                self.paused = stop_reason.kind == "budget_reached";
                if !stop_reason.goes_on() {
                    self.end_turn();
                }
                self.announced = stop_reason.event_ids.unwrap_or_default();
            }
            // Beyond the cap only the thread says whether its turn is over (runtime BU-5).
            "session.thread_status_idle" => {
                let Idle { stop_reason } = serde_json::from_str(body)?;
                if !stop_reason.goes_on() {
                    self.end_turn();
                }
            }
            "session.updated" => {
                let Updated { agent } = serde_json::from_str(body)?;
                if self.turn_is_open() && self.agent.is_some() {
                    self.next_agent = agent.or(self.next_agent.take());
                } else {
                    self.agent = agent.or(self.agent.take());
                }
            }
            "span.model_request_start" => self.open_span = Some(entry.event_id.clone()),
            "span.model_request_end" => self.open_span = None,
            _ => {}
        }
        Ok(())
    }

    /// Whether something is under way or owed: also while the client is waited for.
    fn turn_is_open(&self) -> bool {
        self.status != Status::Idle || self.owes_answer || self.open_calls().next().is_some()
    }

    fn end_turn(&mut self) {
        self.agent = self.next_agent.take().or(self.agent.take());
        self.owes_answer = false;
        self.ending = None;
        self.rounds = 0;
        self.compactions = 0;
        self.overflows = 0;
    }

    fn private(&mut self, entry: &Entry) -> Result<(), serde_json::Error> {
        let body = &*entry.body;
        match &*entry.type_name {
            record::RESPONSE => self.response(serde_json::from_str(body)?),
            record::TOOL_STARTED => {
                let started: ToolStarted = serde_json::from_str(body)?;
                if let Some(call) = self.calls.get_mut(&started.call) {
                    call.started = Some(started);
                }
            }
            record::AGENT_BEFORE if self.turn_is_open() && self.agent.is_none() => {
                self.agent = Some(serde_json::from_str(body)?);
            }
            record::RETRY => self.retry = Some(serde_json::from_str(body)?),
            record::WITHHELD => self.withhold(),
            record::COMPACTION => self.compact(serde_json::from_str(body)?),
            record::OVERFLOW => {
                self.retry = None;
                self.overflows += 1;
            }
            record::FLUSHED => {
                let Flushed { events } = serde_json::from_str(body)?;
                self.queued.retain(|queued| !events.contains(&queued.id));
            }
            _ => {}
        }
        Ok(())
    }

    fn response(&mut self, record: ResponseRecord<'_>) {
        self.retry = None;
        self.owes_answer = false;
        let kept = match record.stop {
            // What was refused must not be shown to the model again: it would refuse again.
            StopRecord::Refusal { .. } => Vec::new(),
            _ => content::replayable(&record.content),
        };
        self.ending = Some(record.stop);
        if kept.is_empty() {
            // No turn: the input stays open and the next message joins it, so that turns alternate.
            return;
        }
        self.turns.extend(self.tail());
        self.summary = None;
        self.fresh.clear();
        self.fresh_system.clear();
        self.measured = record.context_tokens;
        self.compactions = 0;
        self.overflows = 0;
        self.calls = record
            .calls
            .into_iter()
            .map(|call| open_call(call, &record.content))
            .collect();
        self.rounds += u32::from(!self.calls.is_empty());
        self.turns.push(Turn {
            role: Role::Assistant,
            blocks: kept,
        });
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
            blocks: self.fresh_system.clone(),
        };
        let system = Some(system).filter(|turn| !turn.blocks.is_empty());
        std::iter::once(user).chain(system)
    }

    fn result(&mut self, id: &EventId, body: &str) -> Result<(), serde_json::Error> {
        let ResultBody { content, is_error } = serde_json::from_str(body)?;
        let Some(call) = self.calls.get_mut(id).filter(|call| call.result.is_none()) else {
            return Ok(());
        };
        call.result = Some(CallResult {
            blocks: content::result(&content.unwrap_or_default()),
            is_error: is_error.unwrap_or(false),
        });
        if self.calls.values().all(Call::is_settled) {
            self.owes_answer = true;
        }
        Ok(())
    }

    /// The first answer counts (runtime SE-18).
    fn confirm(&mut self, answer: Answer) {
        let call = self.calls.get_mut(&answer.tool_use_id);
        if let Some(call) = call.filter(|call| call.waits_for_client()) {
            call.consent = Some(match answer.result {
                Confirmation::Allow => Consent::Given,
                Confirmation::Deny => Consent::Refused {
                    message: answer.deny_message,
                },
            });
        }
    }

    fn withhold(&mut self) {
        self.fresh.clear();
        self.fresh_system.clear();
        for call in self.calls.values_mut() {
            call.result = Some(content::withheld());
        }
    }
}

/// The cost cap that an entry sets (`Some(None)`: removes), if it does. The row of a session has the newest one, so
/// that a transcript need not: only a wake at work has to hear of changes (runtime BU-9, BU-10).
pub(crate) fn new_budget(entry: &Entry) -> Option<Option<Budget>> {
    if &*entry.type_name != "session.updated" {
        return None;
    }
    // An entry that cannot be read is refused where it is folded.
    match serde_json::from_str(&entry.body).ok()? {
        EventBody::SessionUpdated { budget, .. } => budget,
        _ => None,
    }
}

fn open_call(record: CallRecord, content: &[std::borrow::Cow<'_, RawValue>]) -> (EventId, Call) {
    let input = content
        .iter()
        .find_map(|raw| content::input_of(raw, &record.tool_use_id))
        .unwrap_or_else(|| "{}".into());
    let call = Call {
        tool_use_id: record.tool_use_id,
        name: record.name,
        kind: record.kind,
        input,
        consent: None,
        started: None,
        result: None,
    };
    (record.event_id, call)
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    content: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct ResultBody<'a> {
    #[serde(borrow)]
    content: Option<Vec<&'a RawValue>>,
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct CustomResult {
    custom_tool_use_id: EventId,
}

#[derive(Deserialize)]
struct Answer {
    tool_use_id: EventId,
    result: Confirmation,
    deny_message: Option<String>,
}

#[derive(Deserialize)]
struct ToolResult {
    tool_use_id: EventId,
}

#[derive(Deserialize)]
struct Idle<'a> {
    #[serde(borrow)]
    stop_reason: IdleReason<'a>,
}

#[derive(Deserialize)]
struct IdleReason<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    event_ids: Option<Vec<EventId>>,
}

impl IdleReason<'_> {
    /// Whether the turn only pauses.
    fn goes_on(&self) -> bool {
        matches!(&*self.kind, "requires_action" | "budget_reached")
    }
}

#[derive(Deserialize)]
struct Updated {
    agent: Option<Box<SessionAgent>>,
}

impl Retry {
    /// When to ask again.
    pub(crate) fn until(self) -> Timestamp {
        Timestamp::from_micros(self.until)
    }
}

#[cfg(test)]
mod tests;
