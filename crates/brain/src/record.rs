//! The brain's private log entries: what a replay needs and no client sees. JSON text, written once, never changed.

use std::borrow::Cow;

use std::time::Duration;

use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::content::Source;
use manyhands_protocol::{EventId, Timestamp};
use manyhands_store::NewEntry;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::mcp::Target;
use crate::tools::Hand;

/// The complete answer of the model, beside the public events made from it. Replay builds assistant turns from these.
pub(crate) const RESPONSE: &str = "response";
/// The intent to run a tool, durable before its dispatch (security LOG-2).
pub const TOOL_STARTED: &str = "tool_started";
/// The intent to run a web tool, which needs no sandbox and changes no files there. Its body is as that of [`TOOL_STARTED`].
pub(crate) const WEB_STARTED: &str = "web_started";
/// The intent to call a tool of an MCP server, as [`WEB_STARTED`] is.
pub(crate) const MCP_STARTED: &str = "mcp_started";
/// What the MCP servers of the agent said about their tools when they were asked. Its body is
/// [`McpTools`](crate::mcp::McpTools).
pub(crate) const MCP_TOOLS: &str = "mcp_tools";
/// A failed model request that is tried again (runtime SQ-12).
pub(crate) const RETRY: &str = "retry";
/// The input of the last request is taken out of the context, because the provider refuses it.
pub(crate) const WITHHELD: &str = "withheld";
/// Queued messages that a dead turn takes with it (runtime SQ-13).
pub(crate) const FLUSHED: &str = "flushed";
/// A summary takes the place of all before it; replay may start here (runtime CC-1). Its body is
/// [`Compaction`](crate::replay::Compaction).
pub(crate) const COMPACTION: &str = "compaction";
/// The last request was too long, or its summary was none: a summary is asked for in the next shorter form.
pub(crate) const OVERFLOW: &str = "overflow";
/// The agent as it was before the session's update that follows: a turn that is open goes on with it (runtime UP-3,
/// CC-6). Its body is the snapshot.
pub(crate) const AGENT_BEFORE: &str = "agent_before";
/// What a [`session.error`](manyhands_protocol::event::EventBody::SessionError) begins with that tells that a sandbox is made
/// without the packages of its environment (runtime EN-9).
pub(crate) const UNFURNISHED: &str =
    "The environment's packages are not installed; the session goes on without them";
/// The bytes of blocks that the event behind it names by URL or file, as they were when it was sent (invariant I6).
pub(crate) const ATTACHED: &str = "attached";
/// A wake failed for a reason that lies in the session (security LOG-4).
pub(crate) const WAKE_FAILED: &str = "wake_failed";

/// Body of a [`RESPONSE`] entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ResponseRecord<'a> {
    /// The provider's id of the message.
    #[serde(borrow)]
    pub(crate) message_id: Cow<'a, str>,
    /// The model that answered.
    #[serde(borrow)]
    pub(crate) model: Cow<'a, str>,
    /// Why it stopped.
    pub(crate) stop: StopRecord,
    /// The blocks to replay, byte for byte.
    #[serde(borrow)]
    pub(crate) content: Vec<Cow<'a, RawValue>>,
    /// The calls among them, in order.
    pub(crate) calls: Vec<CallRecord>,
    /// Tokens of the request and the answer, as the provider counted them; 0 where it does not.
    #[serde(default)]
    pub(crate) context_tokens: u64,
}

/// Why a message stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum StopRecord {
    /// Said all.
    EndTurn,
    /// Waits for results.
    ToolUse,
    /// Cut at a limit.
    MaxTokens,
    /// Declined.
    Refusal {
        /// The provider's category.
        category: Option<String>,
        /// For people.
        explanation: Option<String>,
    },
}

/// One call of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallRecord {
    /// Our tool-use event: the call's id towards clients and hands.
    pub(crate) event_id: EventId,
    /// The provider's id, which results must name.
    pub(crate) tool_use_id: String,
    /// The tool.
    pub(crate) name: String,
    /// Who runs it.
    pub(crate) kind: CallKind,
    /// The tool of an MCP server that the model's name for it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mcp: Option<Target>,
}

impl CallRecord {
    /// Where it runs.
    pub(crate) fn hand(&self) -> Hand {
        Hand::of(&self.name, self.mcp.as_ref())
    }
}

/// Who runs a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallKind {
    /// We do: in the sandbox, or beside the server.
    Sandbox,
    /// We do, once the client has agreed.
    Asked,
    /// The client.
    Custom,
    /// Nobody: it is answered with an error in the same append.
    Refused,
}

/// Body of a [`TOOL_STARTED`] entry; its epoch is the entry's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolStarted {
    /// The tool-use event.
    pub(crate) call: EventId,
    /// The sandbox instance it goes to.
    pub(crate) instance: String,
    /// From 1; above it only for tools that may be repeated (invariant I4).
    pub(crate) attempt: u32,
}

/// Body of a [`RETRY`] entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retry {
    /// How many requests of this turn have failed in a row.
    pub(crate) attempt: u32,
    /// When to ask again, in microseconds since the epoch.
    pub(crate) until: i64,
    /// How long to wait before that, in microseconds.
    #[serde(default)]
    pub(crate) wait: i64,
    /// How long requests and waits have taken since the first of them failed, in microseconds.
    #[serde(default)]
    pub(crate) spent: i64,
}

impl Retry {
    /// When to ask again.
    pub(crate) fn until(self) -> Timestamp {
        Timestamp::from_micros(self.until)
    }

    /// How long to wait from `now` on. A clock that was set back since does not make it longer.
    pub(crate) fn left(self, now: Timestamp) -> Duration {
        let left = self.until.saturating_sub(now.as_micros()).min(self.wait);
        Duration::from_micros(u64::try_from(left).unwrap_or(0))
    }
}

/// Body of a [`FLUSHED`] entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flushed {
    /// The queued events.
    pub(crate) events: Vec<EventId>,
}

/// Body of a [`WAKE_FAILED`] entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WakeFailed {
    /// What failed; equal texts are the same failure.
    pub(crate) reason: String,
    /// How many times in a row.
    pub(crate) count: u32,
}

/// What belongs before a `session.updated` that changes the agent, in the same append: the snapshot so far.
pub fn agent_before(agent: &SessionAgent) -> NewEntry {
    private(AGENT_BEFORE, agent)
}

/// What a model reads in place of a block's `url` or `file` source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The block's place in the event's content, from 0.
    pub block: usize,
    /// Its source with the bytes in it: base64, or text of a document.
    pub source: Source,
}

/// Body of an [`ATTACHED`] entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttachedRecord {
    /// The event whose blocks they are.
    pub(crate) event: EventId,
    /// The blocks, in order.
    pub(crate) blocks: Vec<Attached>,
}

/// What belongs directly before a client's event that names bytes which are elsewhere, in the same append.
pub fn attached(event: &EventId, blocks: Vec<Attached>) -> NewEntry {
    let event = event.clone();
    private(ATTACHED, &AttachedRecord { event, blocks })
}

/// A private entry with this body.
pub(crate) fn private(type_name: &'static str, body: &impl Serialize) -> NewEntry {
    NewEntry::Private {
        type_name,
        // Plain structs of texts and numbers always serialise.
        body: serde_json::to_string(body).unwrap_or_else(|_| "{}".to_owned()),
    }
}
