//! What clients may send into a session, read and checked entry by entry (api §9.1, runtime SE-1). Pure.

use std::collections::HashMap;

use manyhands_brain::Attached;
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::Confirmation;
use manyhands_protocol::{EventId, ThreadId};
use serde::Deserialize;
use serde_json::Value;

use super::blocks::{Place, content};
use crate::api::error::ApiError;
use crate::api::json;

/// A checked event of a client, before anything is known about the session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    /// `user.message`.
    Message {
        /// At least one block.
        content: Vec<ContentBlock>,
        /// The bytes of blocks that name them elsewhere, once they were fetched.
        attached: Vec<Attached>,
    },
    /// `system.message`: the last of its request, alone or behind what it accompanies (runtime SE-8).
    System {
        /// 1 to 1000 text blocks.
        content: Vec<ContentBlock>,
    },
    /// `user.interrupt`.
    Interrupt {
        /// The thread it names.
        thread: Option<ThreadId>,
    },
    /// `user.custom_tool_result`.
    CustomToolResult {
        /// The tool-use event.
        call: EventId,
        /// What the tool gave.
        content: Option<Vec<ContentBlock>>,
        /// Whether it failed.
        is_error: Option<bool>,
        /// The bytes of blocks that name them elsewhere, once they were fetched.
        attached: Vec<Attached>,
    },
    /// `user.tool_confirmation`: whether it answers anything is for the session's state to say.
    Confirmation {
        /// The tool-use event.
        call: EventId,
        /// Run it or not.
        result: Confirmation,
        /// Why not; only with a denial (runtime SE-16).
        deny_message: Option<String>,
    },
}

impl Incoming {
    /// Its blocks, and where the bytes of those go that name them elsewhere.
    pub(crate) fn blocks(&mut self) -> Option<(&[ContentBlock], &mut Vec<Attached>)> {
        match self {
            Self::Message { content, attached } => Some((content, attached)),
            Self::CustomToolResult {
                content: Some(content),
                attached,
                ..
            } => Some((content, attached)),
            _ => None,
        }
    }

    /// The tool-use event it answers.
    pub(crate) fn call(&self) -> Option<&EventId> {
        match self {
            Self::CustomToolResult { call, .. } | Self::Confirmation { call, .. } => Some(call),
            Self::Message { .. } | Self::System { .. } | Self::Interrupt { .. } => None,
        }
    }
}

/// Reads the `events` of a send (runtime SE-1). One bad entry refuses all (runtime HT-15).
pub(crate) fn read_events(events: &[Value]) -> Result<Vec<Incoming>, ApiError> {
    if events.is_empty() {
        return Err(ApiError::field("events", "must not be empty"));
    }
    let numbered = events.iter().enumerate();
    let events = numbered
        .map(|(index, event)| read(event, &format!("events[{index}]")))
        .collect::<Result<Vec<Incoming>, ApiError>>()?;
    check_system(&events)?;
    check_verdicts(&events)?;
    Ok(events)
}

/// Reads the `initial_events` of a session create (runtime LC-6).
pub(crate) fn read_initial_events(events: &[Value]) -> Result<Vec<Incoming>, ApiError> {
    const MOST: usize = 50;
    if events.len() > MOST {
        let problem = format!("has {} events; at most {MOST} are allowed", events.len());
        return Err(ApiError::field("initial_events", problem));
    }
    let numbered = events.iter().enumerate();
    let read_one = |(index, event)| {
        let at = format!("initial_events[{index}]");
        match json::tag(event, &at)? {
            "user.message" | "user.define_outcome" => read(event, &at),
            _ => {
                let problem =
                    "a session starts with user.message or user.define_outcome events only";
                Err(ApiError::field(format!("{at}.type"), problem))
            }
        }
    };
    numbered.map(read_one).collect()
}

/// Where a system message may stand (runtime SE-8).
fn check_system(events: &[Incoming]) -> Result<(), ApiError> {
    let system = |event: &Incoming| matches!(event, Incoming::System { .. });
    let Some(first) = events.iter().position(system) else {
        return Ok(());
    };
    let refuse = |index: usize, problem| Err(ApiError::field(format!("events[{index}]"), problem));
    if let Some(second) = events[first + 1..].iter().position(system) {
        return refuse(
            first + 1 + second,
            "a request holds at most one system.message",
        );
    }
    if first + 1 < events.len() {
        return refuse(
            first,
            "system.message must be the last event of its request",
        );
    }
    match first.checked_sub(1).map(|before| &events[before]) {
        None | Some(Incoming::Message { .. } | Incoming::CustomToolResult { .. }) => Ok(()),
        Some(_) => refuse(
            first,
            "system.message stands alone or directly behind user.message, user.tool_result or \
             user.custom_tool_result",
        ),
    }
}

/// A call that one request both allows and denies is neither (security API-5).
fn check_verdicts(events: &[Incoming]) -> Result<(), ApiError> {
    let mut verdicts = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        if let Incoming::Confirmation { call, result, .. } = event
            && *verdicts.entry(call).or_insert(result) != result
        {
            return Err(ApiError::field(
                format!("events[{index}].result"),
                "the same request answers this call differently",
            ));
        }
    }
    Ok(())
}

fn read(event: &Value, at: &str) -> Result<Incoming, ApiError> {
    match json::tag(event, at)? {
        "user.message" => {
            let params: MessageParams = json::entry(event, at)?;
            let content = content(&params.content, at, Place::Message)?;
            if content.is_empty() {
                return Err(ApiError::field(
                    format!("{at}.content"),
                    "must not be empty",
                ));
            }
            Ok(Incoming::Message {
                content,
                attached: Vec::new(),
            })
        }
        "system.message" => {
            const MOST: usize = 1000;
            let params: MessageParams = json::entry(event, at)?;
            let blocks = params.content.len();
            if !(1..=MOST).contains(&blocks) {
                let problem = format!("has {blocks} blocks; 1 to {MOST} are allowed");
                return Err(ApiError::field(format!("{at}.content"), problem));
            }
            let content = content(&params.content, at, Place::System)?;
            Ok(Incoming::System { content })
        }
        "user.interrupt" => {
            let params: InterruptParams = json::entry(event, at)?;
            Ok(Incoming::Interrupt {
                thread: params.session_thread_id,
            })
        }
        "user.custom_tool_result" => {
            let params: CustomToolResultParams = json::entry(event, at)?;
            let content = params
                .content
                .map(|blocks| content(&blocks, at, Place::ToolResult))
                .transpose()?;
            Ok(Incoming::CustomToolResult {
                call: params.custom_tool_use_id,
                content,
                is_error: params.is_error,
                attached: Vec::new(),
            })
        }
        "user.tool_confirmation" => {
            let params: ConfirmationParams = json::entry(event, at)?;
            if params.deny_message.is_some() && params.result != Confirmation::Deny {
                return Err(ApiError::field(
                    format!("{at}.deny_message"),
                    "goes only with the result \"deny\"",
                ));
            }
            Ok(Incoming::Confirmation {
                call: params.tool_use_id,
                result: params.result,
                deny_message: params.deny_message,
            })
        }
        "user.tool_result" => {
            let problem =
                "only sessions in self-hosted environments take results of built-in tools";
            Err(ApiError::field(format!("{at}.type"), problem))
        }
        name @ "user.define_outcome" => Err(ApiError::not_built(format!("{at}.type"), name)),
        name => Err(ApiError::field(
            format!("{at}.type"),
            format!("{name:?} is not an event that clients send"),
        )),
    }
}

#[derive(Deserialize)]
struct MessageParams {
    content: Vec<Value>,
}

#[derive(Deserialize)]
struct InterruptParams {
    #[serde(default)]
    session_thread_id: Option<ThreadId>,
}

#[derive(Deserialize)]
struct CustomToolResultParams {
    custom_tool_use_id: EventId,
    #[serde(default)]
    content: Option<Vec<Value>>,
    #[serde(default)]
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct ConfirmationParams {
    tool_use_id: EventId,
    result: Confirmation,
    #[serde(default)]
    deny_message: Option<String>,
}

#[cfg(test)]
mod tests;
