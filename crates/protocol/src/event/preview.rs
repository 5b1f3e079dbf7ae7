//! Previews of events that are being made: on streams only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EventId;
use crate::content::ContentBlock;

/// Stream-only previews (api §10.8): never stored, never listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Preview {
    /// An event is being made.
    EventStart {
        /// Which.
        event: PreviewedEvent,
    },
    /// More of it.
    EventDelta {
        /// The event that was announced.
        event_id: EventId,
        /// The fragment.
        delta: PreviewDelta,
    },
}

/// The event a preview announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewedEvent {
    /// `agent.message` or `agent.thinking`.
    #[serde(rename = "type")]
    pub kind: PreviewKind,
    /// The id of the later, whole event.
    pub id: EventId,
}

/// The types that are previewed; also the legal values of `event_deltas[]` (runtime ST-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PreviewKind {
    /// Start and deltas.
    #[serde(rename = "agent.message")]
    AgentMessage,
    /// Start only (runtime ST-12).
    #[serde(rename = "agent.thinking")]
    AgentThinking,
}

/// A fragment of an announced event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PreviewDelta {
    /// Text that belongs to the end of `content[index].text`.
    ContentDelta {
        /// Which content block.
        #[serde(default)]
        index: u32,
        /// The text, as a text block.
        content: ContentBlock,
    },
}

impl Preview {
    /// The wire name: `event_start` or `event_delta`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::EventStart { .. } => "event_start",
            Self::EventDelta { .. } => "event_delta",
        }
    }
}
