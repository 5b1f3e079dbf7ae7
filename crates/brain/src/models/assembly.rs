//! Stream events of the Messages API → a complete response, or the reason why it is none (pure).

mod wire;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Error, ErrorKind};
use super::input;
use super::refusal::{self, Said};
use super::{Block, BlockKind, Delta, Response, Sink, Stop, Usage, View};
use wire::{
    BlockChange, BlockDelta, BlockStart, BlockStop, Kind, Members, MessageDelta, MessageStart,
    StopDelta, WireUsage,
};

/// More blocks than this in one message are no legal answer (security MODEL-5).
pub(super) const MOST_BLOCKS: usize = 4096;

/// A message in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    id: String,
    model: String,
    blocks: Vec<Building>,
    stop: Option<Stop>,
    usage: Usage,
    started: bool,
    finished: bool,
}

#[derive(Debug)]
struct Building {
    start: Members,
    kind: BlockKind,
    text: String,
    signature: String,
    input: String,
    citations: Vec<Box<RawValue>>,
    closed: bool,
}

impl Assembly {
    /// Whether the message is complete.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes the data of one event. Unknown events and unknown deltas are ignored (security MODEL-4).
    pub(super) fn event(&mut self, data: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        let Kind { kind } = parse(data)?;
        match kind.as_ref() {
            "message_start" => {
                let MessageStart { message } = parse(data)?;
                self.started = true;
                self.id = message.id;
                self.model = message.model;
                self.count(&message.usage.unwrap_or_default(), sink);
            }
            "content_block_start" => {
                let BlockStart {
                    index,
                    content_block,
                } = parse(data)?;
                self.start(index, content_block, sink)?;
            }
            "content_block_delta" => {
                let BlockDelta { index, delta } = parse(data)?;
                self.grow(index, delta, sink)?;
            }
            "content_block_stop" => {
                let BlockStop { index } = parse(data)?;
                self.block(index)?.closed = true;
            }
            "message_delta" => {
                let MessageDelta { delta, usage } = parse(data)?;
                self.stop = stop(delta).or(self.stop.take());
                self.count(&usage.unwrap_or_default(), sink);
            }
            "message_stop" => {
                if !self.started {
                    return Err(malformed("it ends before it begins"));
                }
                self.finished = true;
            }
            "error" => {
                let body: serde_json::Value = parse(data)?;
                return Err(refusal::in_stream(&Said::of(&body).unwrap_or_default()));
            }
            _ => {}
        }
        Ok(())
    }

    /// The response, when it is complete and valid (security MODEL-1).
    pub(super) fn finish(self) -> Result<Response, Error> {
        if !self.finished {
            return Err(incomplete());
        }
        let stop = self
            .stop
            .ok_or_else(|| malformed("it has no stop reason"))?;
        let count = self.blocks.len();
        let mut blocks = Vec::with_capacity(count);
        for (index, building) in self.blocks.into_iter().enumerate() {
            let last = index + 1 == count;
            let closed = building.closed;
            match building.finish() {
                Ok(block) if closed => blocks.push(block),
                // Cut at the output limit in the middle of a call: the call was never made.
                _ if last && stop == Stop::MaxTokens => {}
                Ok(_) => return Err(malformed("a block has no end")),
                Err(error) => return Err(error),
            }
        }
        let mut ids: Vec<&str> = blocks
            .iter()
            .filter_map(|block| match &block.view {
                View::ToolUse { id, .. } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        let calls = ids.len();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != calls || ids.first().is_some_and(|id| id.is_empty()) {
            return Err(malformed("its tool calls have no ids of their own"));
        }
        Ok(Response {
            id: self.id,
            model: self.model,
            stop,
            blocks,
            usage: self.usage,
        })
    }

    fn start(&mut self, index: usize, start: Members, sink: &mut dyn Sink) -> Result<(), Error> {
        if index != self.blocks.len() || index >= MOST_BLOCKS {
            return Err(malformed("its blocks are out of order"));
        }
        let kind = match start.text("type").as_deref() {
            Some("text") => BlockKind::Text,
            Some("thinking" | "redacted_thinking") => BlockKind::Thinking,
            Some("tool_use") => BlockKind::ToolUse,
            _ => BlockKind::Other,
        };
        let text = start
            .text("text")
            .or_else(|| start.text("thinking"))
            .unwrap_or_default();
        sink.delta(Delta::Start { index, kind });
        if kind == BlockKind::Text && !text.is_empty() {
            sink.delta(Delta::Text { index, text: &text });
        }
        self.blocks.push(Building {
            signature: start.text("signature").unwrap_or_default(),
            start,
            kind,
            text,
            input: String::new(),
            citations: Vec::new(),
            closed: false,
        });
        Ok(())
    }

    fn grow(&mut self, index: usize, delta: BlockChange, sink: &mut dyn Sink) -> Result<(), Error> {
        let block = self.block(index)?;
        if let Some(text) = delta.text.filter(|_| delta.kind == "text_delta") {
            block.text.push_str(&text);
            sink.delta(Delta::Text { index, text: &text });
        } else if let Some(text) = delta.thinking.filter(|_| delta.kind == "thinking_delta") {
            block.text.push_str(&text);
        } else if let Some(text) = delta.signature.filter(|_| delta.kind == "signature_delta") {
            block.signature.push_str(&text);
        } else if let Some(text) = delta
            .partial_json
            .filter(|_| delta.kind == "input_json_delta")
        {
            block.input.push_str(&text);
        } else if let Some(citation) = delta.citation {
            block.citations.push(citation);
        }
        Ok(())
    }

    fn block(&mut self, index: usize) -> Result<&mut Building, Error> {
        self.blocks
            .get_mut(index)
            .filter(|block| !block.closed)
            .ok_or_else(|| malformed("it speaks of a block that is not open"))
    }

    /// Figures that are there replace the ones before; later events repeat only some.
    fn count(&mut self, wire: &WireUsage, sink: &mut dyn Sink) {
        let usage = &mut self.usage;
        let set = |figure: &mut u64, value: Option<u64>| *figure = value.unwrap_or(*figure);
        set(&mut usage.input_tokens, wire.input_tokens);
        set(&mut usage.output_tokens, wire.output_tokens);
        set(
            &mut usage.cache_read_input_tokens,
            wire.cache_read_input_tokens,
        );
        if let Some(total) = wire.cache_creation_input_tokens {
            let hour = wire
                .cache_creation
                .as_ref()
                .and_then(|parts| parts.ephemeral_1h_input_tokens)
                .unwrap_or(0)
                .min(total);
            usage.cache_creation_1h_input_tokens = hour;
            usage.cache_creation_5m_input_tokens = total - hour;
        }
        sink.delta(Delta::Usage(self.usage));
    }
}

impl Building {
    fn finish(self) -> Result<Block, Error> {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        match self.kind {
            BlockKind::Text => {
                let mut parts = vec![("text", text(&self.text))];
                if !self.citations.is_empty() {
                    let list: Vec<&str> = self.citations.iter().map(|raw| raw.get()).collect();
                    parts.push(("citations", format!("[{}]", list.join(","))));
                }
                Ok(Block {
                    raw: self.start.with(&parts),
                    view: View::Text(self.text),
                })
            }
            BlockKind::Thinking => {
                let redacted = self.start.text("type").as_deref() == Some("redacted_thinking");
                let parts = if redacted {
                    vec![]
                } else {
                    vec![
                        ("thinking", text(&self.text)),
                        ("signature", text(&self.signature)),
                    ]
                };
                Ok(Block {
                    raw: self.start.with(&parts),
                    view: View::Thinking,
                })
            }
            BlockKind::ToolUse => {
                let id = self.start.text("id").unwrap_or_default();
                let name = self.start.text("name").unwrap_or_default();
                if name.is_empty() {
                    return Err(malformed("a tool call names no tool"));
                }
                let input = if self.input.trim().is_empty() {
                    let whole = self.start.raw("input").map(|raw| raw.get().to_owned());
                    whole.unwrap_or_else(|| "{}".to_owned())
                } else {
                    self.input
                };
                let parsed = RawValue::from_string(input)
                    .map_err(|_| malformed("a tool call's input is not JSON"))?;
                Ok(Block {
                    raw: self.start.with(&[("input", input::replayed(parsed.get()))]),
                    view: View::ToolUse {
                        id,
                        name,
                        input: parsed,
                    },
                })
            }
            BlockKind::Other => Ok(Block {
                raw: self.start.with(&[]),
                view: View::Other,
            }),
        }
    }
}

/// The answer ended before it was complete (security MODEL-1).
pub(super) fn incomplete() -> Error {
    Error::new(
        ErrorKind::Failed,
        "The model's answer broke off before its end.",
    )
}

/// The answer is not of the form it should have.
pub(super) fn malformed(what: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("The model's answer is not valid: {what}."),
    )
}

pub(super) fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, Error> {
    serde_json::from_str(data).map_err(|error| malformed(&error.to_string()))
}

fn stop(delta: StopDelta) -> Option<Stop> {
    Some(match delta.stop_reason?.as_str() {
        "tool_use" => Stop::ToolUse,
        "max_tokens" | "model_context_window_exceeded" => Stop::MaxTokens,
        "refusal" => {
            let details = delta.stop_details.unwrap_or_default();
            Stop::Refusal {
                category: details.category,
                explanation: details.explanation,
            }
        }
        _ => Stop::EndTurn,
    })
}

#[cfg(test)]
mod tests;
