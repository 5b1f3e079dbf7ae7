//! Whether a session takes a client's events, and what that writes. Pure: decided on the session's locked state.
//!
//! All or nothing (runtime HT-15). Work on an idle session starts in the same write: behind the client's events come
//! `session.thread_status_running` and `session.status_running`.

mod blocks;
mod incoming;

use manyhands_brain::Attached;
use manyhands_protocol::event::{Event, EventBody};
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EventId, ThreadId};
use manyhands_store::{Change, NewEntry, OpenCall, SessionState};

use crate::api::agents::definition::Catalog;
use crate::api::error::ApiError;

pub(crate) use incoming::{Incoming, read_events, read_initial_events};

const CUSTOM_TOOL_USE: &str = "agent.custom_tool_use";
/// Calls that a confirmation can answer.
const ASKING: [&str; 2] = ["agent.tool_use", "agent.mcp_tool_use"];

/// What the answer to a send shows for one of its events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Echo {
    /// The entry of this write with this index.
    Stored(usize),
    /// An event that had answered the same call before: this one had no effect (runtime SE-18).
    Earlier(EventId),
    /// An event that is accepted and not recorded (runtime IN-9).
    Unrecorded(Box<Event>),
}

/// The write that creates a session with these events (runtime LC-6).
pub(crate) fn begin(thread: &ThreadId, agent_name: &str, events: Vec<Incoming>) -> Change {
    let mut change = Change::default();
    for event in events {
        if let Incoming::Message { content, attached } = event {
            push(
                &mut change,
                EventBody::UserMessage { content },
                true,
                attached,
            );
        }
    }
    if !change.append.entries.is_empty() {
        start_turn(&mut change, thread, agent_name);
    }
    change
}

/// The write that a send means for a session in this state, and what its answer shows, one echo per event.
pub(crate) fn admit(
    state: &SessionState,
    events: Vec<Incoming>,
    catalog: &dyn Catalog,
) -> Result<(Change, Vec<Echo>), ApiError> {
    let record = &state.record;
    if record.archived_at.is_some() || record.status == SessionStatus::Terminated {
        return Err(ApiError::invalid(
            "the session is archived or has ended, and takes no more events",
        ));
    }
    let open = state.calls.iter().filter(|call| call.answer.is_none());
    let open = open.count();
    let mut admission = Admission {
        state,
        catalog,
        idle: record.status == SessionStatus::Idle,
        waiting: open > 0,
        at_cap: record.at_cap(state.now),
        open,
        change: Change::default(),
        taken: Taken::default(),
    };
    let mut echoes = Vec::with_capacity(events.len());
    let mut behind_result = false;
    for (index, event) in events.into_iter().enumerate() {
        let at = format!("events[{index}]");
        let is_result = matches!(event, Incoming::CustomToolResult { .. });
        echoes.push(admission.take(event, &at, behind_result)?);
        behind_result = is_result;
    }
    Ok((admission.written(), echoes))
}

/// A request on its way in.
struct Admission<'s> {
    state: &'s SessionState,
    catalog: &'s dyn Catalog,
    idle: bool,
    /// Whether calls waited for the client before this request.
    waiting: bool,
    at_cap: bool,
    /// How many calls still wait.
    open: usize,
    change: Change,
    taken: Taken,
}

/// What was taken so far and matters to the brain.
#[derive(Default)]
struct Taken {
    messages: usize,
    answers: usize,
    interrupts: usize,
    queued_systems: usize,
}

impl Admission<'_> {
    fn take(&mut self, event: Incoming, at: &str, behind_result: bool) -> Result<Echo, ApiError> {
        match event {
            Incoming::Message { content, attached } => {
                self.check_cap(at)?;
                self.taken.messages += 1;
                let body = EventBody::UserMessage { content };
                Ok(push(&mut self.change, body, true, attached).1)
            }
            Incoming::System { content } => {
                self.check_cap(at)?;
                self.check_system(at, behind_result)?;
                let body = EventBody::SystemMessage { content };
                if self.idle && self.open == 0 && self.taken.messages + self.taken.answers == 0 {
                    // It opens no turn: the next one reads it.
                    return Ok(self.store(body).1);
                }
                self.taken.queued_systems += 1;
                Ok(self.queue(body))
            }
            Incoming::Interrupt { thread } => self.interrupt(thread, at),
            Incoming::CustomToolResult {
                call,
                content,
                is_error,
                attached,
            } => {
                let asked = self.asked(&call, &[CUSTOM_TOOL_USE]).ok_or_else(|| {
                    let problem = "the session has not called a custom tool with this id";
                    ApiError::field(format!("{at}.custom_tool_use_id"), problem)
                })?;
                if let Some(answer) = self.answer_to(asked) {
                    return Ok(Echo::Earlier(answer));
                }
                let body = EventBody::UserCustomToolResult {
                    custom_tool_use_id: call.clone(),
                    content,
                    is_error,
                    session_thread_id: None,
                };
                let (id, echo) = push(&mut self.change, body, false, attached);
                self.answered(call, id);
                Ok(echo)
            }
            Incoming::Confirmation {
                call,
                result,
                deny_message,
            } => {
                let asked = self.asked(&call, &ASKING).ok_or_else(|| {
                    let problem = "no call with this id has asked for a confirmation";
                    ApiError::field(format!("{at}.tool_use_id"), problem)
                })?;
                if let Some(answer) = self.answer_to(asked) {
                    return Ok(Echo::Earlier(answer));
                }
                let body = EventBody::UserToolConfirmation {
                    tool_use_id: call.clone(),
                    result,
                    deny_message,
                    session_thread_id: None,
                };
                // Queued and processed in one write: streams show it twice (runtime SE-4), the list once.
                let (id, _) = push(&mut self.change, body, true, Vec::new());
                let entries = &mut self.change.append.entries;
                entries.push(NewEntry::Processed {
                    event_id: id.clone(),
                });
                let echo = Echo::Stored(entries.len() - 1);
                self.answered(call, id);
                Ok(echo)
            }
        }
    }

    /// At the cap only answers and interrupts are taken (runtime BU-6).
    fn check_cap(&self, at: &str) -> Result<(), ApiError> {
        if !self.at_cap {
            return Ok(());
        }
        let problem = "the session has reached its budget and takes only user.tool_confirmation, user.tool_result, \
                       user.custom_tool_result and user.interrupt events";
        Err(ApiError::field(format!("{at}.type"), problem))
    }

    /// Whether the model and the session's state allow a system message (runtime SE-10, SE-11).
    fn check_system(&self, at: &str, behind_result: bool) -> Result<(), ApiError> {
        let model = &self.state.record.agent.definition.model.id;
        if !self.catalog.takes_system_messages(model) {
            let problem = format!("{model} does not take system messages in mid-conversation");
            let error = ApiError::field(format!("{at}.type"), problem);
            return Err(error.with_code("model_does_not_support_mid_conversation_system"));
        }
        if self.idle && self.waiting && !behind_result {
            return Err(ApiError::field(
                at,
                "while calls wait for the client, system.message goes only directly behind a tool result",
            ));
        }
        Ok(())
    }

    fn interrupt(&mut self, thread: Option<ThreadId>, at: &str) -> Result<Echo, ApiError> {
        let foreign = |thread: &ThreadId| *thread != self.state.record.thread_id;
        if thread.as_ref().is_some_and(foreign) {
            let problem = "the session has no such thread";
            return Err(ApiError::field(format!("{at}.session_thread_id"), problem));
        }
        let body = EventBody::UserInterrupt {
            session_thread_id: thread,
        };
        // An idle session whose brain is wanted may be about to go on with a turn that a budget had stopped.
        if !self.idle || self.waiting || self.state.wanted {
            self.taken.interrupts += 1;
            return Ok(self.queue(body));
        }
        if self.at_cap {
            // A full budget pause: accepted, not recorded, without effect (runtime IN-9).
            return Ok(Echo::Unrecorded(Box::new(Event {
                id: EventId::generate(),
                body,
                processed_at: Some(self.state.now),
            })));
        }
        // There is nothing to stop: it is processed here and now (runtime IN-8).
        Ok(self.store(body).1)
    }

    /// The call of one of these types that this event made, if it ever waited for the client (runtime SE-15).
    fn asked(&self, call: &EventId, types: &[&str]) -> Option<&OpenCall> {
        self.state
            .calls
            .iter()
            .find(|asked| asked.event_id == *call && types.contains(&&*asked.type_name))
    }

    /// The event that answered a call first, in this request or before; `None` while it waits.
    fn answer_to(&self, asked: &OpenCall) -> Option<EventId> {
        let now = self.change.append.answered.iter();
        let mut now = now.filter(|(call, _)| *call == asked.event_id);
        let now = now.next().map(|(_, answer)| answer);
        asked.answer.as_ref().or(now).cloned()
    }

    fn answered(&mut self, call: EventId, answer: EventId) {
        self.change.append.answered.push((call, answer));
        self.taken.answers += 1;
        self.open -= 1;
    }

    fn queue(&mut self, body: EventBody) -> Echo {
        push(&mut self.change, body, true, Vec::new()).1
    }

    fn store(&mut self, body: EventBody) -> (EventId, Echo) {
        push(&mut self.change, body, false, Vec::new())
    }

    /// The whole write: the events, and what makes the brain read them.
    fn written(mut self) -> Change {
        let Taken {
            messages,
            answers,
            interrupts,
            queued_systems,
        } = self.taken;
        if self.idle && self.open == 0 && messages + answers > 0 {
            let record = &self.state.record;
            let agent_name = &record.agent.definition.name;
            start_turn(&mut self.change, &record.thread_id, agent_name);
        } else {
            // A message behind pending calls waits for them (runtime SE-14), and is read all the same: the brain may be
            // about to close the calls for an interrupt, and its rest must not leave the message behind.
            self.change.wants_brain = messages + answers + interrupts + queued_systems > 0;
        }
        self.change
    }
}

fn push(
    change: &mut Change,
    body: EventBody,
    queued: bool,
    attached: Vec<Attached>,
) -> (EventId, Echo) {
    let entries = &mut change.append.entries;
    let id = EventId::generate();
    if !attached.is_empty() {
        entries.push(manyhands_brain::attached(&id, attached));
    }
    entries.push(NewEntry::Event {
        id: id.clone(),
        body,
        queued,
    });
    (id, Echo::Stored(entries.len() - 1))
}

fn start_turn(change: &mut Change, thread: &ThreadId, agent_name: &str) {
    let running = EventBody::SessionThreadStatusRunning {
        session_thread_id: thread.clone(),
        agent_name: agent_name.to_owned(),
    };
    let entries = &mut change.append.entries;
    entries.push(NewEntry::event(running));
    entries.push(NewEntry::event(EventBody::SessionStatusRunning {}));
    change.append.status = Some(SessionStatus::Running);
    change.wants_brain = true;
}

#[cfg(test)]
mod tests;
