//! What the scripted model answers, and how it misbehaves while doing so.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::format::Format;
use super::pace::{Hold, Pace, Step};
use crate::gate::Gate;

/// One content block of a scripted message.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// Visible thinking and the signature that must come back byte for byte (security MODEL-4).
    Thinking {
        /// The thinking text.
        thinking: String,
        /// Its signature, opaque to the caller.
        signature: String,
    },
    /// Thinking that came back encrypted.
    RedactedThinking {
        /// The opaque payload.
        data: String,
    },
    /// A tool call.
    ToolUse {
        /// The provider's id of the call.
        id: String,
        /// The tool's name.
        name: String,
        /// The input as the exact JSON text to stream, valid or not. In a file it is a value.
        #[serde(deserialize_with = "as_text")]
        input: String,
    },
}

fn as_text<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Value::deserialize(value).map(|value| value.to_string())
}

/// Token counts of one message, as `message_start` and `message_delta` report them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read that no cache held.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens written to the prompt cache.
    pub cache_creation_input_tokens: u64,
    /// Tokens read from the prompt cache.
    pub cache_read_input_tokens: u64,
}

impl Default for Usage {
    /// 12 tokens in, 6 out, no cache: what a reply reports unless told otherwise.
    fn default() -> Self {
        Self {
            input_tokens: 12,
            output_tokens: 6,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 0,
        }
    }
}

/// The forms in which a rate-limited answer says when to come back (api §1.7, security MODEL-2).
#[derive(Clone, Debug)]
pub enum RetryAfter {
    /// No hint at all.
    Absent,
    /// `retry-after` in seconds, possibly fractional.
    Seconds(f64),
    /// `retry-after-ms` in milliseconds.
    Millis(u64),
    /// `retry-after` as an HTTP date, given as text.
    HttpDate(String),
    /// `retry-after` with any text, for hints that are nonsense.
    Text(String),
}

/// One scripted answer: a message or an error, and its faults.
///
/// Built by chaining: `Reply::thinking("hm", "sig").then_text("Hi").split_into(3)`. All byte
/// positions count in the response body, before chunked transfer encoding.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    pub(super) edits: Vec<Edit>,
    pace: Pace,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Message(Message),
    Error { kind: String, message: String },
    Raw(Bytes),
    HangUp,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) blocks: Vec<Block>,
    pub(super) stop_details: Option<Value>,
    pub(super) usage: Usage,
    pub(super) pieces: usize,
    stop_reason: Option<String>,
}

impl Message {
    /// The scripted reason, or what the hosted API would say of these blocks.
    pub(super) fn stop_reason(&self) -> &str {
        let calls = |block: &Block| matches!(block, Block::ToolUse { .. });
        match &self.stop_reason {
            Some(reason) => reason,
            None if self.blocks.iter().any(calls) => "tool_use",
            None => "end_turn",
        }
    }
}

/// A change to the frames of a complete message, applied in the order of the calls.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Insert {
        at: usize,
        frame: Bytes,
    },
    ErrorAfter {
        frames: usize,
        kind: String,
        message: String,
    },
    UnknownEvent,
    MalformedEvent,
    WithoutStop,
}

impl Reply {
    /// A message without blocks; add some with the `then_` methods.
    pub fn empty() -> Self {
        Self::with_body(
            200,
            Body::Message(Message {
                blocks: vec![],
                stop_details: None,
                usage: Usage::default(),
                pieces: 1,
                stop_reason: None,
            }),
        )
    }

    /// A message of one text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::empty().then_text(text)
    }

    /// A message that begins with a thinking block.
    pub fn thinking(thinking: impl Into<String>, signature: impl Into<String>) -> Self {
        Self::empty().then_thinking(thinking, signature)
    }

    /// A message that begins with a tool call.
    pub fn tool_use(id: impl Into<String>, name: impl Into<String>, input: Value) -> Self {
        Self::empty().then_tool_use(id, name, input)
    }

    /// Adds a text block.
    pub fn then_text(self, text: impl Into<String>) -> Self {
        self.then(Block::Text { text: text.into() })
    }

    /// Adds a thinking block.
    pub fn then_thinking(self, thinking: impl Into<String>, signature: impl Into<String>) -> Self {
        self.then(Block::Thinking {
            thinking: thinking.into(),
            signature: signature.into(),
        })
    }

    /// Adds a tool call.
    pub fn then_tool_use(
        self,
        id: impl Into<String>,
        name: impl Into<String>,
        input: Value,
    ) -> Self {
        self.then_tool_use_raw(id, name, input.to_string())
    }

    /// Adds a tool call whose input is streamed as exactly this text (key order, spaces, nonsense).
    pub fn then_tool_use_raw(
        self,
        id: impl Into<String>,
        name: impl Into<String>,
        input: impl Into<String>,
    ) -> Self {
        self.then(Block::ToolUse {
            id: id.into(),
            name: name.into(),
            input: input.into(),
        })
    }

    /// Adds any block.
    pub fn then(mut self, block: Block) -> Self {
        self.message().blocks.push(block);
        self
    }

    /// Says why the message stopped; by default `tool_use` if it calls a tool, else `end_turn`.
    pub fn stop_reason(mut self, reason: impl Into<String>) -> Self {
        self.message().stop_reason = Some(reason.into());
        self
    }

    /// Ends in a refusal of this category (runtime SQ-15).
    pub fn refusal(mut self, category: &str, explanation: &str) -> Self {
        let message = self.message();
        message.stop_reason = Some("refusal".to_owned());
        message.stop_details =
            Some(json!({"type": "refusal", "category": category, "explanation": explanation}));
        self
    }

    /// Reports these token counts.
    pub fn usage(mut self, usage: Usage) -> Self {
        self.message().usage = usage;
        self
    }

    /// Streams each text, thinking and input in `pieces` deltas instead of one.
    pub fn split_into(mut self, pieces: usize) -> Self {
        self.message().pieces = pieces;
        self
    }

    /// An error answer with the usual envelope.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        let (kind, message) = (kind.to_owned(), message.to_owned());
        Self::with_body(status, Body::Error { kind, message })
    }

    /// 400 `invalid_request_error`.
    pub fn bad_request(message: &str) -> Self {
        Self::error(400, "invalid_request_error", message)
    }

    /// 429 `rate_limit_error` with a hint.
    pub fn rate_limited(hint: RetryAfter) -> Self {
        Self::error(429, "rate_limit_error", "Too many requests").retry_after(hint)
    }

    /// 500 `api_error`.
    pub fn server_error() -> Self {
        Self::error(500, "api_error", "Internal server error")
    }

    /// 529 `overloaded_error`.
    pub fn overloaded() -> Self {
        Self::error(529, "overloaded_error", "Overloaded")
    }

    /// Any status and any bytes, for answers that do not come from the API at all (a proxy's page).
    pub fn raw(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::with_body(status, Body::Raw(body.into())).header("content-type", content_type)
    }

    /// Closes the connection instead of answering.
    pub fn hang_up() -> Self {
        Self::with_body(200, Body::HangUp)
    }

    /// Adds a response header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds the hint in the form asked for.
    pub fn retry_after(self, hint: RetryAfter) -> Self {
        match hint {
            RetryAfter::Absent => self,
            RetryAfter::Seconds(seconds) => self.header("retry-after", seconds.to_string()),
            RetryAfter::Millis(millis) => self.header("retry-after-ms", millis.to_string()),
            RetryAfter::HttpDate(text) | RetryAfter::Text(text) => self.header("retry-after", text),
        }
    }

    /// Ends the stream, cleanly as HTTP goes, before `message_stop`; of a chat completion, before its
    /// `finish_reason`.
    pub fn without_message_stop(mut self) -> Self {
        self.edits.push(Edit::WithoutStop);
        self
    }

    /// Sends only the first `frames` events and then an `error` event, after the 200.
    pub fn error_after(mut self, frames: usize, kind: &str, message: &str) -> Self {
        self.edits.push(Edit::ErrorAfter {
            frames,
            kind: kind.to_owned(),
            message: message.to_owned(),
        });
        self
    }

    /// Puts raw bytes before event number `at` (0 is before `message_start`).
    pub fn insert(mut self, at: usize, bytes: impl Into<Bytes>) -> Self {
        let frame = bytes.into();
        self.edits.push(Edit::Insert { at, frame });
        self
    }

    /// Puts an event of a type nobody knows after the first event; readers ignore it (MODEL-4).
    pub fn unknown_event(mut self) -> Self {
        self.edits.push(Edit::UnknownEvent);
        self
    }

    /// Puts an event whose data is not JSON after the first event.
    pub fn malformed_event(mut self) -> Self {
        self.edits.push(Edit::MalformedEvent);
        self
    }

    /// Puts one line of `bytes` bytes that never ends an event after the first event.
    pub fn giant_line(self, bytes: usize) -> Self {
        let mut line = b"data: ".to_vec();
        line.resize(bytes.max(line.len()), b'x');
        self.insert(1, line)
    }

    /// Waits before the status line is sent.
    pub fn delay_headers(mut self, delay: Duration) -> Self {
        self.pace.before_headers.push(Hold::Delay(delay));
        self
    }

    /// Sends nothing, not even the status line, until the gate opens.
    pub fn hold_headers(mut self, gate: &Gate) -> Self {
        self.pace.before_headers.push(Hold::Gate(gate.clone()));
        self
    }

    /// Waits before the first `content_block_delta`.
    pub fn delay_first_token(mut self, delay: Duration) -> Self {
        self.pace.first_token.push(Hold::Delay(delay));
        self
    }

    /// Goes silent before the first `content_block_delta` until the gate opens.
    pub fn hold_first_token(mut self, gate: &Gate) -> Self {
        self.pace.first_token.push(Hold::Gate(gate.clone()));
        self
    }

    /// Sends `at` bytes of the body and goes silent until the gate opens.
    pub fn hold_at(mut self, at: usize, gate: &Gate) -> Self {
        self.pace.at.push((at, Hold::Gate(gate.clone())));
        self
    }

    /// Goes silent before event number `frame` (0 is `message_start`) until the gate opens.
    pub fn hold_before(mut self, frame: usize, gate: &Gate) -> Self {
        self.pace
            .before_frame
            .push((frame, Hold::Gate(gate.clone())));
        self
    }

    /// Waits between any two chunks.
    pub fn delay_chunks(mut self, delay: Duration) -> Self {
        self.pace.between_chunks = Some(delay);
        self
    }

    /// Sends the body in chunks of `bytes` bytes instead of one chunk an event.
    pub fn in_chunks_of(mut self, bytes: usize) -> Self {
        self.pace.chunk = Some(bytes.max(1));
        self
    }

    /// A slow drip: `bytes` bytes at a time, `every` so often.
    pub fn drip(self, bytes: usize, every: Duration) -> Self {
        self.in_chunks_of(bytes).delay_chunks(every)
    }

    /// Sends exactly `at` bytes of the body and breaks the connection.
    pub fn cut_at(mut self, at: usize) -> Self {
        self.pace.cut = Some(at);
        self
    }

    /// The body as it goes over the wire for this model, edits applied, faults in time left out.
    /// Its length bounds [`Reply::cut_at`] and [`Reply::hold_at`].
    pub fn wire(&self, model: &str) -> Vec<u8> {
        self.wire_in(Format::Messages, model)
    }

    /// As [`Reply::wire`], in any of the forms.
    pub fn wire_in(&self, format: Format, model: &str) -> Vec<u8> {
        format.frames(self, 1, model).concat()
    }

    pub(super) fn before_headers(&self) -> &[Hold] {
        &self.pace.before_headers
    }

    /// What to do, in order, to send the body.
    ///
    /// # Errors
    /// When a fault lies beyond the end of the body, which is a mistake in the test.
    pub(super) fn plan(
        &self,
        format: Format,
        number: usize,
        model: &str,
    ) -> Result<Vec<Step>, String> {
        let frames = format.frames(self, number, model);
        self.pace.plan(&frames, format.first_token(&frames))
    }

    fn with_body(status: u16, body: Body) -> Self {
        Self {
            status,
            headers: vec![],
            body,
            edits: vec![],
            pace: Pace::default(),
        }
    }

    fn message(&mut self) -> &mut Message {
        match &mut self.body {
            Body::Message(message) => message,
            _ => panic!("only a message reply has blocks, usage and a stop reason"),
        }
    }
}
