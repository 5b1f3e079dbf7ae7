//! What is read of the events in a log, and no more of them.

use std::borrow::Cow;

use manyhands_protocol::EventId;
use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::event::Confirmation;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct ResultBody<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Vec<&'a RawValue>>,
    pub(super) is_error: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Told {
    pub(super) error: Message,
}

#[derive(Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    pub(super) message: String,
    pub(super) mcp_server_name: Option<String>,
    pub(super) repository_url: Option<String>,
    pub(super) credential_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CustomResult {
    pub(super) custom_tool_use_id: EventId,
}

#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) tool_use_id: EventId,
    pub(super) result: Confirmation,
    pub(super) deny_message: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ToolResult {
    pub(super) tool_use_id: EventId,
}

#[derive(Deserialize)]
pub(super) struct McpResult {
    pub(super) mcp_tool_use_id: EventId,
}

#[derive(Deserialize)]
pub(super) struct Idle<'a> {
    #[serde(borrow)]
    pub(super) stop_reason: IdleReason<'a>,
}

#[derive(Deserialize)]
pub(super) struct IdleReason<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    pub(super) event_ids: Option<Vec<EventId>>,
}

impl IdleReason<'_> {
    /// Whether the turn only pauses.
    pub(super) fn goes_on(&self) -> bool {
        matches!(&*self.kind, "requires_action" | "budget_reached")
    }
}

#[derive(Deserialize)]
pub(super) struct Updated {
    pub(super) agent: Option<Box<SessionAgent>>,
}
