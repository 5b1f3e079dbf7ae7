//! What each entry means for a transcript.

use std::borrow::Cow;

use manyhands_protocol::EventId;
use manyhands_protocol::budget::Budget;
use manyhands_protocol::event::{Confirmation, EventBody};
use manyhands_store::{Entry, EntryKind};
use serde_json::value::RawValue;

use super::forms::{
    Answer, Content, CustomResult, Idle, McpResult, ResultBody, Told, ToolResult, Updated,
};
use super::{Call, CallResult, Consent, Input, Queued, Role, Status, Transcript, Turn, content};
use crate::record::{self, Attached, CallRecord, Flushed, ResponseRecord, StopRecord, ToolStarted};
use crate::repositories::REPOSITORIES;
use crate::skills::{self, SKILLS, SKILLS_FOUND};
use manyhands_store::memory::MEMORY_STORES;

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

    fn event(&mut self, entry: &Entry) -> Result<(), serde_json::Error> {
        let body = &*entry.body;
        match &*entry.type_name {
            "user.message" | "system.message" => {
                let Content { content } = serde_json::from_str(body)?;
                let content = self.with_attached(&entry.event_id, content.unwrap_or_default());
                let content: Vec<&RawValue> = content.iter().map(|raw| &**raw).collect();
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
                self.result(&custom_tool_use_id, &entry.event_id, body)?;
            }
            "user.tool_confirmation" => self.confirm(serde_json::from_str(body)?),
            "agent.tool_result" => {
                let ToolResult { tool_use_id } = serde_json::from_str(body)?;
                self.result(&tool_use_id, &entry.event_id, body)?;
            }
            "agent.mcp_tool_result" => {
                let McpResult { mcp_tool_use_id } = serde_json::from_str(body)?;
                self.result(&mcp_tool_use_id, &entry.event_id, body)?;
            }
            "session.error" => {
                let Told { error } = serde_json::from_str(body)?;
                if let Some(server) = &error.mcp_server_name {
                    self.mcp.failure_told(server);
                }
                if let Some(credential) = error.credential_id {
                    self.unreachable.insert(credential);
                } else if error.repository_url.is_some() {
                    self.absent.insert(error.message);
                } else if error.message.starts_with(record::UNFURNISHED) {
                    self.unfurnished = Some(error.message);
                }
            }
            "session.status_running" => self.run(),
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

    /// The session runs from now on; behind an idle, its MCP servers are asked again (runtime MC-8).
    fn run(&mut self) {
        if self.status == Status::Idle {
            if self.turn_is_open() {
                self.mcp.turn_resumes();
            } else {
                self.mcp.turn_begins();
            }
        }
        self.status = Status::Running;
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
            record::TOOL_STARTED | record::WEB_STARTED | record::MCP_STARTED => {
                let started: ToolStarted = serde_json::from_str(body)?;
                if let Some(call) = self.calls.get_mut(&started.call) {
                    call.started = Some(started);
                }
            }
            record::MCP_TOOLS => self.mcp.fold(serde_json::from_str(body)?),
            record::AGENT_BEFORE if self.turn_is_open() && self.agent.is_none() => {
                self.agent = Some(serde_json::from_str(body)?);
            }
            MEMORY_STORES => self.memory = serde_json::from_str(body)?,
            REPOSITORIES => self.repositories = serde_json::from_str(body)?,
            SKILLS => self.skills = serde_json::from_str(body)?,
            SKILLS_FOUND => {
                let found = serde_json::from_str(body)?;
                self.fresh.extend(skills::block(&found));
                self.skills_found.push(found);
            }
            record::ATTACHED => self.attached = Some(serde_json::from_str(body)?),
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
        self.kept_system.clear();
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

    fn result(
        &mut self,
        id: &EventId,
        event: &EventId,
        body: &str,
    ) -> Result<(), serde_json::Error> {
        let ResultBody { content, is_error } = serde_json::from_str(body)?;
        let content = self.with_attached(event, content.unwrap_or_default());
        let content: Vec<&RawValue> = content.iter().map(|raw| &**raw).collect();
        let Some(call) = self.calls.get_mut(id).filter(|call| call.result.is_none()) else {
            return Ok(());
        };
        call.result = Some(CallResult {
            blocks: content::result(&content),
            is_error: is_error.unwrap_or(false),
        });
        if self.calls.values().all(Call::is_settled) {
            self.owes_answer = true;
        }
        Ok(())
    }

    /// The blocks of an event, with the bytes that were attached to it.
    fn with_attached<'a>(
        &mut self,
        event: &EventId,
        content: Vec<&'a RawValue>,
    ) -> Vec<Cow<'a, RawValue>> {
        let mut content: Vec<_> = content.into_iter().map(Cow::Borrowed).collect();
        let attached = self
            .attached
            .take()
            .filter(|attached| attached.event == *event);
        for Attached { block, source } in attached.into_iter().flat_map(|attached| attached.blocks)
        {
            if let Some(raw) = content.get_mut(block)
                && let Some(whole) = content::with_source(raw, &source)
            {
                *raw = Cow::Owned(whole);
            }
        }
        content
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

    /// What the operator said stays in force: it is text, and nobody who can send a message may take it away.
    fn withhold(&mut self) {
        self.fresh.clear();
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
        mcp: record.mcp,
        kind: record.kind,
        input,
        consent: None,
        started: None,
        result: None,
    };
    (record.event_id, call)
}
