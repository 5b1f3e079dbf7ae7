//! Whether a session takes a client's events, and what that writes. Pure: decided on the session's locked state.
//!
//! All or nothing (runtime HT-15). Work on an idle session starts in the same write: behind the client's events come
//! `session.thread_status_running` and `session.status_running`.

mod incoming;

use manyhands_protocol::EventId;
use manyhands_protocol::ThreadId;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Append, Change, NewEntry, SessionState};

use crate::api::error::ApiError;

pub(crate) use incoming::{Incoming, read_events, read_initial_events};

const CUSTOM_TOOL_USE: &str = "agent.custom_tool_use";

/// What the answer to a send shows for one of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// The entry of this write with this index.
    Stored(usize),
    /// An event that had answered the same call before: this one had no effect (runtime SE-18).
    Earlier(EventId),
}

/// The write that creates a session with these events (runtime LC-6).
pub(crate) fn begin(thread: &ThreadId, agent_name: &str, events: Vec<Incoming>) -> Change {
    let mut change = Change::default();
    for event in events {
        if let Incoming::Message { content } = event {
            queue(&mut change.append, EventBody::UserMessage { content });
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
) -> Result<(Change, Vec<Echo>), ApiError> {
    let record = &state.record;
    if record.archived_at.is_some() || record.status == SessionStatus::Terminated {
        return Err(ApiError::invalid(
            "the session is archived or has ended, and takes no more events",
        ));
    }
    let idle = record.status == SessionStatus::Idle;
    let mut open = state
        .calls
        .iter()
        .filter(|call| call.answer.is_none())
        .count();
    let waiting = open > 0;
    let mut change = Change::default();
    let mut echoes = Vec::with_capacity(events.len());
    let (mut messages, mut results, mut interrupts) = (0, 0, 0);
    for (index, event) in events.into_iter().enumerate() {
        let at = format!("events[{index}]");
        match event {
            Incoming::Message { content } => {
                messages += 1;
                echoes.push(queue(
                    &mut change.append,
                    EventBody::UserMessage { content },
                ));
            }
            Incoming::Interrupt { thread } => {
                if thread
                    .as_ref()
                    .is_some_and(|thread| *thread != record.thread_id)
                {
                    let problem = "the session has no such thread";
                    return Err(ApiError::field(format!("{at}.session_thread_id"), problem));
                }
                let body = EventBody::UserInterrupt {
                    session_thread_id: thread,
                };
                if idle && !waiting {
                    // There is nothing to stop: it is processed here and now (runtime IN-8).
                    echoes.push(store(&mut change.append, body).1);
                } else {
                    interrupts += 1;
                    echoes.push(queue(&mut change.append, body));
                }
            }
            Incoming::CustomToolResult {
                call,
                content,
                is_error,
            } => {
                if let Some(answer) = answer_to(state, &change.append, &call, CUSTOM_TOOL_USE, &at)?
                {
                    echoes.push(Echo::Earlier(answer));
                    continue;
                }
                let body = EventBody::UserCustomToolResult {
                    custom_tool_use_id: call.clone(),
                    content,
                    is_error,
                    session_thread_id: None,
                };
                let (id, echo) = store(&mut change.append, body);
                change.append.answered.push((call, id));
                echoes.push(echo);
                results += 1;
                open -= 1;
            }
            Incoming::Confirmation { .. } => {
                let problem = "no call with this id waits for a confirmation";
                return Err(ApiError::field(format!("{at}.tool_use_id"), problem));
            }
        }
    }
    if !idle {
        change.wants_brain = messages + results + interrupts > 0;
    } else if interrupts == 0 && open == 0 && messages + results > 0 {
        start_turn(
            &mut change,
            &record.thread_id,
            &record.agent.definition.name,
        );
    } else {
        // A message alone stays queued behind the pending calls (runtime SE-14); a part of the answers makes the
        // brain say which calls are left (runtime SQ-8), an interrupt makes it close them.
        change.wants_brain = results + interrupts > 0;
    }
    Ok((change, echoes))
}

/// The event that answered a call first, `None` when it still waits; refused when it never asked (runtime SE-15).
fn answer_to(
    state: &SessionState,
    append: &Append,
    call: &EventId,
    type_name: &str,
    at: &str,
) -> Result<Option<EventId>, ApiError> {
    let Some(asked) = state
        .calls
        .iter()
        .find(|asked| asked.event_id == *call && asked.type_name == type_name)
    else {
        let problem = "the session has not called a custom tool with this id";
        return Err(ApiError::field(format!("{at}.custom_tool_use_id"), problem));
    };
    let now = append
        .answered
        .iter()
        .find(|(answered, _)| answered == call)
        .map(|(_, answer)| answer);
    Ok(asked.answer.as_ref().or(now).cloned())
}

fn queue(append: &mut Append, body: EventBody) -> Echo {
    push(append, body, true).1
}

fn store(append: &mut Append, body: EventBody) -> (EventId, Echo) {
    push(append, body, false)
}

fn push(append: &mut Append, body: EventBody, queued: bool) -> (EventId, Echo) {
    let id = EventId::generate();
    append.entries.push(NewEntry::Event {
        id: id.clone(),
        body,
        queued,
    });
    (id, Echo::Stored(append.entries.len() - 1))
}

fn start_turn(change: &mut Change, thread: &ThreadId, agent_name: &str) {
    let running = EventBody::SessionThreadStatusRunning {
        session_thread_id: thread.clone(),
        agent_name: agent_name.to_owned(),
    };
    change.append.entries.push(NewEntry::event(running));
    change
        .append
        .entries
        .push(NewEntry::event(EventBody::SessionStatusRunning {}));
    change.append.status = Some(SessionStatus::Running);
    change.wants_brain = true;
}

#[cfg(test)]
mod tests;
