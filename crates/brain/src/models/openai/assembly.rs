//! Chunks of a chat completion → a complete response in Messages form, or the reason why it is none (pure).
//!
//! Servers differ in how they number and name the calls of one answer: some repeat an index, some leave index or id
//! out. A new id always opens a new call; ids that are missing, used before, or not of the form that all providers take
//! are replaced.

mod reach;
mod wire;

use std::collections::HashSet;

use manyhands_protocol::id;
use serde_json::Value;
use serde_json::value::RawValue;

use super::request::Translated;
use crate::models::assembly::{MOST_BLOCKS, incomplete, malformed, parse};
use crate::models::error::{Error, ErrorKind};
use crate::models::input;
use crate::models::refusal::{self, Said};
use crate::models::{Block, BlockKind, Delta, Response, Sink, Stop, Usage, View, raw_json};
use reach::Reach;
use wire::{CallDelta, Choice, Chunk, Content, WireUsage};

/// Stands for thinking in the log: this wire form has nothing of it that could be sent back.
const THINKING: &str = r#"{"type":"redacted"}"#;

/// Bytes that count as a token where the endpoint reports no usage.
const BYTES_OF_TOKEN: usize = 4;

/// A message in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    id: String,
    model: String,
    blocks: Vec<Building>,
    finish: Option<String>,
    refusal: String,
    usage: Option<Usage>,
    thought: usize,
    done: bool,
}

#[derive(Debug)]
enum Building {
    Text(String),
    Thinking,
    Call(Call),
}

#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    /// How far the arguments have come.
    reach: Reach,
}

impl Assembly {
    /// Whether the other side said that it is done.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the data of one event. What is unknown is ignored (security MODEL-4).
    pub(super) fn event(&mut self, data: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Chunk = parse(data)?;
        if chunk.is_error() {
            let body: Value = parse(data)?;
            return Err(refusal::in_stream(&Said::of(&body).unwrap_or_default()));
        }
        if self.id.is_empty() {
            self.id = chunk.id.unwrap_or_default();
        }
        if self.model.is_empty() {
            self.model = chunk.model.unwrap_or_default();
        }
        for choice in chunk.choices.unwrap_or_default() {
            if choice.index.unwrap_or(0) == 0 {
                self.choice(choice, sink)?;
            }
        }
        if let Some(usage) = chunk.usage {
            self.count(usage.into(), sink);
        }
        Ok(())
    }

    fn choice(&mut self, choice: Choice, sink: &mut dyn Sink) -> Result<(), Error> {
        let delta = choice.delta.unwrap_or_default();
        if let Some(thinking) = delta.thinking() {
            self.think(thinking.len(), sink)?;
        }
        match delta.content {
            Some(Content::Text(text)) => self.say(&text, sink)?,
            Some(Content::Parts(parts)) => {
                for part in parts {
                    self.say(&part.text.unwrap_or_default(), sink)?;
                }
            }
            None => {}
        }
        self.refusal.push_str(&delta.refusal.unwrap_or_default());
        for call in delta.tool_calls.unwrap_or_default() {
            self.call(call, sink)?;
        }
        self.finish = choice.finish_reason.or(self.finish.take());
        Ok(())
    }

    fn think(&mut self, bytes: usize, sink: &mut dyn Sink) -> Result<(), Error> {
        self.thought += bytes;
        if !matches!(self.blocks.last(), Some(Building::Thinking)) {
            self.open(Building::Thinking, BlockKind::Thinking, sink)?;
        }
        Ok(())
    }

    fn say(&mut self, piece: &str, sink: &mut dyn Sink) -> Result<(), Error> {
        if piece.is_empty() {
            return Ok(());
        }
        if !matches!(self.blocks.last(), Some(Building::Text(_))) {
            self.open(Building::Text(String::new()), BlockKind::Text, sink)?;
        }
        let index = self.blocks.len() - 1;
        if let Some(Building::Text(text)) = self.blocks.last_mut() {
            text.push_str(piece);
        }
        sink.delta(Delta::Text { index, text: piece });
        Ok(())
    }

    fn call(&mut self, delta: CallDelta, sink: &mut dyn Sink) -> Result<(), Error> {
        let function = delta.function.unwrap_or_default();
        let id = delta.id.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let arguments = function.arguments.map(wire::text).unwrap_or_default();
        let place = match self.place(delta.index, &id, &name, &arguments) {
            Some(place) => place,
            None => {
                let call = Call {
                    index: delta.index,
                    ..Call::default()
                };
                self.open(Building::Call(call), BlockKind::ToolUse, sink)?;
                self.blocks.len() - 1
            }
        };
        if let Some(Building::Call(call)) = self.blocks.get_mut(place) {
            if call.id.is_empty() {
                call.id = id;
            }
            if call.name.is_empty() {
                call.name = name;
            }
            call.arguments.push_str(&arguments);
            call.reach.push(&arguments);
        }
        Ok(())
    }

    /// The call that a delta goes on with; `None` when it begins one.
    fn place(&self, index: Option<u64>, id: &str, name: &str, arguments: &str) -> Option<usize> {
        let mut calls = self.blocks.iter().enumerate().rev();
        let mut find = |fits: &dyn Fn(&Call) -> bool| {
            calls.find_map(|(place, block)| match block {
                Building::Call(call) if fits(call) => Some((place, call)),
                _ => None,
            })
        };
        let (place, call) = match (index, id) {
            (Some(_), _) => find(&|call| call.index == index)?,
            (None, "") => find(&|_| true)?,
            (None, id) => find(&|call| call.id == id)?,
        };
        let another_id = !id.is_empty() && !call.id.is_empty() && id != call.id;
        // Without ids, a name after complete arguments begins the next call.
        let complete = || call.reach.is_complete(&call.arguments);
        let another_name = id.is_empty() && !name.is_empty() && !arguments.is_empty() && complete();
        let unnamed_twin =
            index.is_none() && id.is_empty() && !name.is_empty() && !call.name.is_empty();
        (!another_id && !another_name && !unnamed_twin).then_some(place)
    }

    fn open(&mut self, block: Building, kind: BlockKind, sink: &mut dyn Sink) -> Result<(), Error> {
        let index = self.blocks.len();
        if index >= MOST_BLOCKS {
            return Err(malformed("it has too many parts"));
        }
        self.blocks.push(block);
        sink.delta(Delta::Start { index, kind });
        Ok(())
    }

    fn count(&mut self, usage: Usage, sink: &mut dyn Sink) {
        self.usage = Some(usage);
        sink.delta(Delta::Usage(usage));
    }

    /// The response, when it is complete and valid (security MODEL-1).
    pub(super) fn finish(
        mut self,
        request: &Translated,
        sink: &mut dyn Sink,
    ) -> Result<Response, Error> {
        let finish = self.finish.take().ok_or_else(incomplete)?;
        let cut = finish == "length";
        let usage = match self.usage {
            Some(usage) => usage,
            None => {
                let usage = self.estimate(request);
                tracing::debug!(model = %request.model, "the endpoint reports no usage: it is estimated");
                self.count(usage, sink);
                usage
            }
        };
        let mut ids = Ids {
            earlier: &request.call_ids,
            taken: HashSet::new(),
        };
        let count = self.blocks.len();
        let mut blocks = Vec::with_capacity(count);
        for (index, building) in self.blocks.into_iter().enumerate() {
            let last = index + 1 == count;
            match building {
                Building::Text(text) => blocks.push(Block::text(&text)),
                Building::Thinking => blocks.push(Block {
                    raw: raw_json(THINKING.to_owned()),
                    view: View::Thinking,
                }),
                // Cut at the output limit in the middle of a call: the call was never made.
                Building::Call(call) if cut && last && input::object(&call.arguments).is_none() => {
                }
                Building::Call(call) => blocks.push(call.finish(&mut ids)?),
            }
        }
        let calls = blocks
            .iter()
            .any(|block| matches!(block.view, View::ToolUse { .. }));
        Ok(Response {
            id: match self.id.is_empty() {
                true => id::generate("chatcmpl_"),
                false => self.id,
            },
            model: match self.model.is_empty() {
                true => request.model.clone(),
                false => self.model,
            },
            stop: stop(&finish, calls, self.refusal)?,
            blocks,
            usage,
        })
    }

    /// A token for every few bytes, for an endpoint that does not count.
    fn estimate(&self, request: &Translated) -> Usage {
        let output = self.blocks.iter().map(|block| match block {
            Building::Text(text) => text.len(),
            Building::Thinking => 0,
            Building::Call(call) => call.name.len() + call.arguments.len(),
        });
        let tokens = |bytes: usize| bytes.div_ceil(BYTES_OF_TOKEN) as u64;
        Usage {
            input_tokens: tokens(request.body.len().saturating_sub(request.attached)),
            output_tokens: tokens(output.sum::<usize>() + self.thought),
            ..Usage::default()
        }
    }
}

impl Call {
    /// The call as a block. Arguments that are no object are kept, for the model to see what it wrote, and the brain
    /// answers the call with an error.
    fn finish(self, ids: &mut Ids<'_>) -> Result<Block, Error> {
        if self.name.is_empty() {
            return Err(malformed("a tool call names no tool"));
        }
        let id = ids.own(self.id);
        let written = match self.arguments.trim().is_empty() {
            true => "{}".to_owned(),
            false => self.arguments,
        };
        let replayed = input::replayed(&written);
        let input = RawValue::from_string(written.clone())
            .unwrap_or_else(|_| raw_json(Value::from(written).to_string()));
        let raw = format!(
            r#"{{"type":"tool_use","id":{},"name":{},"input":{replayed}}}"#,
            Value::from(id.as_str()),
            Value::from(self.name.as_str()),
        );
        Ok(Block {
            raw: raw_json(raw),
            view: View::ToolUse {
                id,
                name: self.name,
                input,
            },
        })
    }
}

/// The ids of calls, which must differ in a whole conversation.
struct Ids<'a> {
    earlier: &'a HashSet<String>,
    taken: HashSet<String>,
}

impl Ids<'_> {
    /// This id, or another one in its place.
    fn own(&mut self, id: String) -> String {
        let legal = (1..=64).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        let id = match legal && !self.earlier.contains(&id) && !self.taken.contains(&id) {
            true => id,
            false => id::generate("call_"),
        };
        self.taken.insert(id.clone());
        id
    }
}

fn stop(finish: &str, calls: bool, refusal: String) -> Result<Stop, Error> {
    match finish {
        "length" => Ok(Stop::MaxTokens),
        "content_filter" => Ok(Stop::Refusal {
            category: Some("content_filter".to_owned()),
            explanation: Some(refusal).filter(|text| !text.is_empty()),
        }),
        "error" | "abort" | "insufficient_system_resource" => Err(Error::new(
            ErrorKind::Failed,
            format!("The model's answer ended with {finish:?}."),
        )),
        // Some servers say `stop` with calls, some `tool_calls` without.
        _ if calls => Ok(Stop::ToolUse),
        _ if !refusal.is_empty() => Ok(Stop::Refusal {
            category: None,
            explanation: Some(refusal),
        }),
        _ => Ok(Stop::EndTurn),
    }
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        let input = wire.prompt_tokens.unwrap_or(0);
        let details = wire.prompt_tokens_details.unwrap_or_default();
        let cached = details.cached_tokens.unwrap_or(0).min(input);
        Self {
            input_tokens: input - cached,
            output_tokens: wire.completion_tokens.unwrap_or(0),
            cache_read_input_tokens: cached,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests;
