//! The contract of a model: one request in final bytes, deltas as they come, one complete response.
//!
//! The inside speaks Messages content blocks. A [`Response`] keeps each block as the bytes the provider sent, beside a
//! view of what the brain needs to know, so that thinking signatures and tool inputs are replayed as they came
//! (security MODEL-4). Nothing is acted on before the message is complete (security MODEL-1).

mod anthropic;
mod assembly;
mod endpoint;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod input;
mod openai;
mod prices;
mod refusal;
pub mod registry;
mod retry_after;
mod scripted;
mod sse;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use manyhands_protocol::event::ModelUsage;
use manyhands_store::UsageTotals;
use serde_json::value::RawValue;

pub use anthropic::Anthropic;
pub use endpoint::Timeouts;
pub use error::{Advice, Error, ErrorKind};
pub use openai::{Dialect, OpenAi, OutputLimit};
pub use prices::{Price, Prices};
pub use registry::{
    ModelSpec, ProviderSpec, Registry, RegistryError, Resolved, Thinking, default_specs,
};
pub use scripted::{ScriptError, Scripted};

/// A way to ask a model.
#[async_trait]
pub trait Model: Send + Sync + 'static {
    /// Sends one request. Deltas go to the sink as they come; the response is returned once it is complete and valid.
    ///
    /// Dropping the future cuts the request off (runtime IN-2).
    ///
    /// # Errors
    /// Sorted by [`Error::advice`].
    async fn sample(&self, request: &Request, sink: &mut dyn Sink) -> Result<Response, Error>;

    /// The longest silence after which [`sample`](Self::sample) ends by itself. Whoever waits longer may give it up.
    fn patience(&self) -> Duration {
        Duration::from_secs(300)
    }
}

/// A request as it goes out: the JSON body of a streaming Messages request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The body.
    pub body: Bytes,
}

/// What becomes known before the response is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta<'a> {
    /// A block begins.
    Start {
        /// Its place in the message, from 0.
        index: usize,
        /// What it is.
        kind: BlockKind,
    },
    /// More text of a text block.
    Text {
        /// The block's place.
        index: usize,
        /// The fragment.
        text: &'a str,
    },
    /// What the request used so far; each replaces the one before.
    Usage(Usage),
}

/// The kinds of blocks that deltas tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Text for the user.
    Text,
    /// Thinking, readable or not.
    Thinking,
    /// A tool call.
    ToolUse,
    /// A block of a type that only the provider knows.
    Other,
}

/// Where deltas go. Must not block.
pub trait Sink: Send {
    /// Takes one delta.
    fn delta(&mut self, delta: Delta<'_>);

    /// Something came that is no delta: the answer gets on.
    fn alive(&mut self) {}
}

/// A complete, valid message of the model.
#[derive(Clone, Debug)]
pub struct Response {
    /// The provider's id of the message.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// Why it stopped.
    pub stop: Stop,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
    /// What it used.
    pub usage: Usage,
}

/// Why a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Said all; also every reason that only a feature we do not use can cause (`pause_turn`, `stop_sequence`).
    EndTurn,
    /// Waits for tool results.
    ToolUse,
    /// Cut at the output limit or at the end of the context window.
    MaxTokens,
    /// Declined.
    Refusal {
        /// The provider's category, an open set.
        category: Option<String>,
        /// For people.
        explanation: Option<String>,
    },
}

/// One block of a response.
#[derive(Clone, Debug)]
pub struct Block {
    /// The block as it is replayed, byte for byte.
    pub raw: Box<RawValue>,
    /// What the brain needs to know of it.
    pub view: View,
}

/// What the brain needs to know of a block.
#[derive(Clone, Debug)]
pub enum View {
    /// Text for the user.
    Text(String),
    /// Thinking, readable or not.
    Thinking,
    /// A tool call.
    ToolUse {
        /// The provider's id of the call.
        id: String,
        /// The tool.
        name: String,
        /// The input as the model wrote it: valid JSON, not always an object.
        input: Box<RawValue>,
    },
    /// Something that only the provider knows; replayed as it is.
    Other,
}

impl Block {
    /// A text block.
    pub fn text(text: &str) -> Self {
        let raw = serde_json::json!({"type": "text", "text": text}).to_string();
        Self {
            raw: raw_json(raw),
            view: View::Text(text.to_owned()),
        }
    }
}

/// Tokens that one request used (runtime US-5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input that was neither read from nor written to a cache.
    pub input_tokens: u64,
    /// Output.
    pub output_tokens: u64,
    /// Input read from a cache.
    pub cache_read_input_tokens: u64,
    /// Input written to a cache for five minutes.
    pub cache_creation_5m_input_tokens: u64,
    /// Input written to a cache for an hour.
    pub cache_creation_1h_input_tokens: u64,
}

impl Usage {
    /// The form of `span.model_request_end`.
    pub fn for_span(self) -> ModelUsage {
        ModelUsage {
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_creation_input_tokens: self
                .cache_creation_5m_input_tokens
                .saturating_add(self.cache_creation_1h_input_tokens),
            cache_read_input_tokens: self.cache_read_input_tokens,
            speed: None,
        }
    }

    /// Tokens of the request and the answer together.
    pub fn context(self) -> u64 {
        [
            self.input_tokens,
            self.output_tokens,
            self.cache_read_input_tokens,
            self.cache_creation_5m_input_tokens,
            self.cache_creation_1h_input_tokens,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// The session's totals with this request in them (runtime US-1). A provider's figures are untrusted: no overflow.
    ///
    /// `cost` is what the request costs in 10⁻¹³ dollars, absent when the model has no list price.
    pub fn added_to(self, totals: UsageTotals, cost: Option<u64>) -> UsageTotals {
        let unpriced = cost.is_none() && self != Self::default();
        UsageTotals {
            input_tokens: totals.input_tokens.saturating_add(self.input_tokens),
            output_tokens: totals.output_tokens.saturating_add(self.output_tokens),
            cache_read_input_tokens: totals
                .cache_read_input_tokens
                .saturating_add(self.cache_read_input_tokens),
            cache_creation_5m_input_tokens: totals
                .cache_creation_5m_input_tokens
                .saturating_add(self.cache_creation_5m_input_tokens),
            cache_creation_1h_input_tokens: totals
                .cache_creation_1h_input_tokens
                .saturating_add(self.cache_creation_1h_input_tokens),
            token_cost: totals.token_cost.saturating_add(cost.unwrap_or_default()),
            unpriced_requests: totals.unpriced_requests + u64::from(unpriced),
            ..totals
        }
    }
}

/// Text that we made and know to be JSON.
pub(crate) fn raw_json(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
