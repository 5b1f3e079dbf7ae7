//! Runtime US-7: what the model served is counted once, whatever was killed.

use std::collections::HashMap;

use serde_json::Value;

use super::{Violation, content, kind, text};
use crate::counts::Counts;
use crate::plan;

const TOKENS: &str = "output_tokens";

/// Each request has one end; what it counts is what its answer was served with; the totals are the sums.
pub(super) fn check(listed: &[Value], counts: &mut Counts) -> Result<(), Violation> {
    let mut open: HashMap<&str, Option<u64>> = HashMap::new();
    let mut current = "";
    let mut sum = 0;
    for event in listed {
        match kind(event) {
            "span.model_request_start" => {
                current = text(event, "id");
                open.insert(current, None);
            }
            "agent.message" => {
                let served = served(&content(event));
                let Some(expected) = open.get_mut(current) else {
                    return Err(format!("US-7: {event} belongs to no request"));
                };
                *expected =
                    Some(served.ok_or_else(|| format!("US-7: the model never said {event}"))?);
            }
            "span.model_request_end" => {
                let start = text(event, "model_request_start_id");
                let Some(expected) = open.remove(start) else {
                    return Err(format!(
                        "US-7: {event} ends no request, or one that has ended"
                    ));
                };
                let counted = event["model_usage"][TOKENS].as_u64().unwrap_or(0);
                if let Some(expected) = expected {
                    counts.add("answers", 1);
                    if counted != expected {
                        return Err(format!(
                            "US-7: {event} counts an answer of {expected} tokens"
                        ));
                    }
                } else {
                    counts.add("requests without an answer", 1);
                }
                sum += counted;
            }
            "session.usage" => {
                let total = event["usage"][TOKENS].as_u64();
                if total != Some(sum) {
                    return Err(format!("US-7: {event} after requests of {sum} tokens"));
                }
            }
            _ => {}
        }
    }
    match open.keys().next() {
        None => Ok(()),
        Some(start) => Err(format!("US-7: the request {start} has no end")),
    }
}

/// The tokens with which the model served what it said.
fn served(said: &str) -> Option<u64> {
    let (message, step) = said.strip_prefix("said ")?.split_once('.')?;
    Some(plan::tokens(message.parse().ok()?, step.parse().ok()?))
}
