//! When a conversation is summarised, and what the model is asked for (pure; runtime CC-1 to CC-4, ER-5).
//!
//! Either the next request is estimated to come near the model's window, or the provider has called a request too long.
//! The summary is asked for behind the conversation itself, so that prompt caches hit; a conversation that is too long
//! for that is asked about as a text, cut to fit.

use manyhands_protocol::agent::Definition;
use serde_json::json;

use crate::config::Config;
use crate::models::{Request, Resolved};
use crate::replay::{Input, Json, Transcript};
use crate::{context, transcribe};

/// How often a summary is asked for in smaller forms.
pub(crate) const TEXTS: u32 = 3;

/// The longest text of a conversation for a model whose window is not known, in bytes; each further try takes a quarter.
const UNKNOWN_TEXT: usize = 256 << 10;

/// The longest summary of a model whose window is not known, in bytes.
const UNKNOWN_SUMMARY: usize = 64 << 10;

/// Bytes that an image counts as: what the largest ones cost, 1,600 tokens.
const IMAGE: usize = 6_400;

/// Bytes of an encoded document that make one token: pages are dense in bytes, not in words.
const DOCUMENT: usize = 40;

/// What the model is asked for.
const WISH: &str = "This conversation is about to pass the limit of what you can read at once. Write the summary that takes its place: \
     you will go on from it alone, without anything above. Say, as far as it applies: what the user wants, in their own \
     words where the wording matters, with all conditions; what was done and what came of it, with the exact names, paths, \
     commands, ids, figures and error messages that may be needed again; what was decided, and why; what the latest tool \
     results say; what is half done and what has to be done next. Leave out what no longer matters. Call no tool. Answer \
     with the summary and nothing else.";

/// What stands before a summary in the conversation.
const PREFACE: &str = "The conversation so far was summarised to make room; the messages themselves are no longer shown to you. The summary:";

/// What stands behind it.
const POSTFACE: &str =
    "Go on from here. What follows, if anything, was said since and is complete.";

/// How much fits, for the model of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Tokens beyond which a request is not made but the conversation is summarised.
    pub(crate) threshold: u64,
    /// Tokens of the tools and the system prompt, when nobody has counted them yet.
    pub(crate) fixed: u64,
}

/// How a summary is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Behind the conversation.
    Conversation,
    /// About a text of the conversation; each attempt (from 1) with a shorter one.
    Text {
        /// Which.
        attempt: u32,
    },
}

/// What has to happen instead of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A summary first.
    Compact(Form),
    /// Summaries do not help: too many in a row (runtime ER-5).
    Limit,
}

/// The room of a model; `None` when its window is not known, and then only the provider can say what is too long.
pub(crate) fn room(
    config: &Config,
    agent: &Definition,
    model: &Resolved,
    transcript: &Transcript,
) -> Option<Room> {
    let window = model.context_window?;
    let threshold = beside_output(window, model.max_output) as f64 * config.compact_at;
    let fixed = match transcript.measured {
        0 => context::fixed_bytes(agent, transcript) as u64 / 4,
        _ => 0,
    };
    Some(Room {
        threshold: threshold as u64,
        fixed,
    })
}

/// What a window leaves for the request. A window that is smaller than the longest answer is halved.
fn beside_output(window: u64, max_output: u32) -> u64 {
    window - u64::from(max_output).min(window / 2)
}

/// Whether a summary is due before the next request, which would take all that is queued.
pub(crate) fn due(transcript: &Transcript, room: Option<Room>, in_a_row: u32) -> Option<Due> {
    if transcript.overflows > 0 {
        let attempt = transcript.overflows;
        return Some(Due::Compact(Form::Text { attempt }));
    }
    let room = room?;
    if estimate(transcript, room.fixed) <= room.threshold || !helps(transcript) {
        return None;
    }
    Some(if transcript.compactions >= in_a_row {
        Due::Limit
    } else {
        Due::Compact(Form::Conversation)
    })
}

/// Whether a summary is what a request that is too long calls for: only once, and not of nothing (security MODEL-4). Behind
/// a summary there are no turns before the model has answered.
pub(crate) fn answers_overflow(transcript: &Transcript) -> bool {
    !transcript.turns.is_empty()
}

/// Whether there is something that a summary could shorten: turns, or a summary that is itself most of what is left.
fn helps(transcript: &Transcript) -> bool {
    let summary = transcript.summary.as_deref().map_or(0, str::len);
    !transcript.turns.is_empty() || (transcript.compactions > 0 && summary > unanswered(transcript))
}

/// About how many tokens the next request has, with all that is queued: the provider's own count of the conversation up
/// to the last answer, and a quarter of the bytes since.
pub(crate) fn estimate(transcript: &Transcript, fixed: u64) -> u64 {
    let counted = match transcript.measured {
        0 => {
            let turns = transcript.turns.iter().flat_map(|turn| &turn.blocks);
            fixed + turns.map(|block| bytes(block)).sum::<usize>() as u64 / 4
        }
        measured => measured,
    };
    let results = transcript.calls.values().filter_map(|call| {
        let result = call.result.as_ref()?;
        Some(
            result
                .blocks
                .iter()
                .map(|block| bytes(block))
                .sum::<usize>(),
        )
    });
    let summary = transcript.summary.as_deref().map_or(0, str::len);
    let since = results.sum::<usize>() + summary + unanswered(transcript);
    counted + since as u64 / 4
}

/// Bytes of what the user and the operator said and the model has not answered.
fn unanswered(transcript: &Transcript) -> usize {
    let queued = transcript
        .queued
        .iter()
        .flat_map(|queued| match &queued.input {
            Input::Message(blocks) | Input::System(blocks) => &blocks[..],
            Input::Interrupt => &[],
        });
    let system = transcript
        .kept_system
        .iter()
        .chain(&transcript.fresh_system);
    let fresh = transcript.fresh.iter().chain(system);
    fresh.chain(queued).map(|block| bytes(block)).sum()
}

/// The length of a block, with what is encoded in it at the price of what it shows: four bytes are one token.
fn bytes(block: &str) -> usize {
    if !block.contains("\"base64\"") {
        return block.len();
    }
    let parsed: serde_json::Value = serde_json::from_str(block).unwrap_or_default();
    block.len().saturating_sub(encoded(&parsed))
}

/// How much of the encoded data in a block is not to be counted.
fn encoded(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(members) => {
            if let (Some(kind), Some(source)) = (members.get("type"), members.get("source"))
                && source["type"] == "base64"
            {
                let data = source["data"].as_str().map_or(0, str::len);
                let counts = if kind == "image" {
                    IMAGE
                } else {
                    data * 4 / DOCUMENT
                };
                return data.saturating_sub(counts);
            }
            members.values().map(encoded).sum()
        }
        serde_json::Value::Array(items) => items.iter().map(encoded).sum(),
        _ => 0,
    }
}

/// The request for a summary.
pub(crate) fn request(
    form: Form,
    agent: &Definition,
    model: &Resolved,
    transcript: &Transcript,
) -> Request {
    match form {
        Form::Conversation => {
            let mut asked = transcript.clone();
            asked.fresh.push(text_block(WISH));
            context::build(agent, model, &asked)
        }
        Form::Text { attempt } => {
            let most = text_budget(model, attempt);
            let text = transcribe::conversation(transcript, most);
            let asked = Transcript {
                fresh: vec![text_block(&text), text_block(WISH)],
                ..Transcript::default()
            };
            let agent = Definition {
                tools: Vec::new(),
                ..agent.clone()
            };
            context::build(&agent, model, &asked)
        }
    }
}

/// Bytes that a text of the conversation may have: half of what fits where a token has four bytes, for languages and
/// data where it has two.
fn text_budget(model: &Resolved, attempt: u32) -> usize {
    let first = model.context_window.map_or(UNKNOWN_TEXT, |window| {
        usize::try_from(beside_output(window, model.max_output) * 2).unwrap_or(usize::MAX)
    });
    first >> (2 * attempt.saturating_sub(1)).min(usize::BITS - 1)
}

/// The summary as it is kept: not longer than a quarter of the window, so that what it makes room for has room.
pub(crate) fn bounded(summary: &str, model: &Resolved) -> String {
    let most = model.context_window.map_or(UNKNOWN_SUMMARY, |window| {
        usize::try_from(window).unwrap_or(usize::MAX)
    });
    transcribe::cut(summary.trim(), most)
}

/// A summary as the first block of the conversation.
pub(crate) fn block(summary: &str) -> Json {
    text_block(&format!("{PREFACE}\n\n{summary}\n\n{POSTFACE}"))
}

fn text_block(text: &str) -> Json {
    json!({"type": "text", "text": text}).to_string().into()
}

#[cfg(test)]
mod tests;
