//! The vocabulary of the log and of the stream (api §10): 41 persisted types, `session.deleted`, and the two
//! stream-only previews. Log entry and wire form are one type.

mod body;
mod names;
mod outcome;
mod permission;
mod preview;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EventId, Timestamp};

pub use body::EventBody;
pub use names::PERSISTED_TYPES;
pub use outcome::{RetryStatus, SessionError, SessionErrorType, StopDetails, StopReason};
pub use permission::{Confirmation, EvaluatedPermission, Evaluation, Judgement};
pub use preview::{Preview, PreviewDelta, PreviewKind, PreviewedEvent};

/// An event as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The same in list, stream and send response.
    pub id: EventId,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
    /// When it was processed; null while a client's event is queued (runtime SE-3).
    pub processed_at: Option<Timestamp>,
}

/// What one model request used (runtime US-5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelUsage {
    /// Input tokens that were neither read from nor written to a cache.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens written to a cache.
    pub cache_creation_input_tokens: u64,
    /// Input tokens read from a cache.
    pub cache_read_input_tokens: u64,
    /// Only in fast mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<crate::model::Speed>,
}

/// A phase of a workflow run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowPhase {
    /// The phase.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
}

/// Null and absent told apart, in both directions.
mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .as_ref()
            .and_then(Option::as_ref)
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::<T>::deserialize(deserializer).map(Some)
    }
}
