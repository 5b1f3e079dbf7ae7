//! What must be true of a session, whatever befell it (pure): of its list, its stream, the ledger and the plans.

mod answers;
mod calls;
mod kept;
mod streams;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::HashMap;

use manyhands_protocol::time::Timestamp;
use serde_json::Value;

use crate::counts::Counts;
use crate::ledger::Lines;
use crate::plan::Plan;

pub(crate) use kept::{goes_on, kept};

/// What is wrong, with the invariant's name.
pub(crate) type Violation = String;

/// An event that was answered with 2xx.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The id that the answer gave it.
    pub(crate) id: String,
    /// What was sent.
    pub(crate) body: Value,
}

/// An event as a stream told it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) position: i64,
    pub(crate) data: Value,
}

/// From when to when something was done to a session's sandbox, as the session's own times are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Harm(pub(crate) Timestamp);

/// All that is known of a session at rest.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    pub(crate) sent: &'a [Sent],
    /// Calls that the client did not want.
    pub(crate) denied: &'a [String],
    pub(crate) listed: &'a [Value],
    pub(crate) frames: &'a [Frame],
    pub(crate) plans: &'a HashMap<u32, Plan>,
    pub(crate) lines: &'a Lines,
    pub(crate) harms: &'a [Harm],
}

/// Checks a session at rest, and says what was seen in it.
pub(crate) fn check(story: &Story<'_>) -> Result<Counts, Violation> {
    let mut counts = Counts::default();
    kept(story.sent, story.listed)?;
    streams::check(story.frames, story.listed)?;
    calls::check(story, &mut counts)?;
    answers::check(story, &mut counts)?;
    usage::check(story.listed, &mut counts)?;
    Ok(counts)
}

fn text<'a>(event: &'a Value, member: &str) -> &'a str {
    event[member].as_str().unwrap_or_default()
}

fn kind(event: &Value) -> &str {
    text(event, "type")
}

/// The texts of an event's content.
fn content(event: &Value) -> String {
    let blocks = event["content"].as_array().into_iter().flatten();
    let texts: Vec<&str> = blocks.filter_map(|block| block["text"].as_str()).collect();
    texts.join("\n")
}
