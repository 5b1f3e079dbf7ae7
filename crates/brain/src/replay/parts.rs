//! What a transcript is made of.

use manyhands_protocol::EventId;
use serde::{Deserialize, Serialize};

use super::Json;
use crate::mcp::Target;
use crate::record::{CallKind, ToolStarted};
use crate::tools::Hand;

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
    /// The tool of an MCP server, where it is one.
    pub(crate) mcp: Option<Target>,
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
    /// Where it runs.
    pub(crate) fn hand(&self) -> Hand {
        Hand::of(&self.name, self.mcp.as_ref())
    }

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
