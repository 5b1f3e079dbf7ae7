//! I3 and I4: each call has one result, ran at most once, and its result says what the ledger says.

use std::collections::HashMap;

use manyhands_protocol::time::Timestamp;
use serde_json::Value;

use super::{Story, Violation, content, kind, text};
use crate::counts::Counts;
use crate::plan;

/// How long before a call its sandbox may have been killed without anybody noticing.
const UNNOTICED_MICROS: i64 = 1_000_000;

struct Use<'a> {
    event: &'a Value,
    /// Where in the list it is.
    place: usize,
    result: Option<&'a Value>,
}

pub(super) fn check(story: &Story<'_>, counts: &mut Counts) -> Result<(), Violation> {
    let mut uses: HashMap<&str, Use<'_>> = HashMap::new();
    for (place, event) in story.listed.iter().enumerate() {
        let call = match kind(event) {
            "agent.tool_use" | "agent.custom_tool_use" => {
                let made = Use {
                    event,
                    place,
                    result: None,
                };
                uses.insert(text(event, "id"), made);
                continue;
            }
            "agent.tool_result" => text(event, "tool_use_id"),
            "user.custom_tool_result" => text(event, "custom_tool_use_id"),
            _ => continue,
        };
        let Some(made) = uses.get_mut(call) else {
            return Err(format!("I3: {event} comes before the call it answers"));
        };
        if made.result.replace(event).is_some() {
            return Err(format!(
                "I3: the call {call} has two results, the second is {event}"
            ));
        }
    }
    for made in uses.values() {
        let Some(result) = made.result else {
            return Err(format!("I3: {} has no result", made.event));
        };
        counts.add("calls", 1);
        if kind(made.event) == "agent.tool_use" {
            ran(story, made, result, counts)?;
        }
    }
    Ok(())
}

/// Invariant I4: the ledger and the result agree.
fn ran(
    story: &Story<'_>,
    made: &Use<'_>,
    result: &Value,
    counts: &mut Counts,
) -> Result<(), Violation> {
    let said = content(result);
    let key = plan::key_of(&made.event["input"]);
    let lines = key
        .and_then(|key| story.lines.get(key))
        .copied()
        .unwrap_or(0);
    let told = || {
        format!(
            "{} with {lines} lines in the ledger and {result}",
            made.event
        )
    };
    if lines > 1 {
        return Err(format!("I4: it ran twice: {}", told()));
    }
    if story.denied.iter().any(|id| id == text(made.event, "id")) {
        counts.add("calls denied", 1);
        // An interrupt may have come before the denial; either way nothing ran.
        return match lines == 0 && result["is_error"] == true {
            true => Ok(()),
            false => Err(format!("I4: it was denied: {}", told())),
        };
    }
    let succeeded = match key {
        Some(key) => said.lines().any(|line| line == format!("ran {key}")),
        None => result["is_error"] != true,
    };
    if succeeded {
        counts.add("calls that succeeded", 1);
        return match key.is_none() || lines == 1 {
            true => Ok(()),
            false => Err(format!("I4: the result says that it ran: {}", told())),
        };
    }
    if said.starts_with("Tool execution was interrupted") {
        counts.add("calls interrupted", 1);
        let later = &story.listed[made.place..];
        return match later.iter().any(|event| kind(event) == "user.interrupt") {
            true => Ok(()),
            false => Err(format!("I4: nobody interrupted: {}", told())),
        };
    }
    if said.contains("restart required") {
        counts.add("calls of a shell that was killed", 1);
        // The shell stays as it is until the model asks for another, which this model does not.
        return match harmed(story, story.listed.first(), result) {
            true => Ok(()),
            false => Err(format!("I4: its shell was left alone: {}", told())),
        };
    }
    let unknown = said.contains("whether the call took effect is unknown");
    counts.add(
        if unknown {
            "calls with unknown outcome"
        } else {
            "calls that failed"
        },
        1,
    );
    match harmed(story, Some(made.event), result) {
        true => Ok(()),
        false => Err(format!("I4: its sandbox was left alone: {}", told())),
    }
}

/// Whether somebody killed something of the sandbox between these two events.
fn harmed(story: &Story<'_>, since: Option<&Value>, until: &Value) -> bool {
    let at =
        |event: &Value| Timestamp::parse(text(event, "processed_at")).map(Timestamp::as_micros);
    let (Some(Ok(from)), Ok(to)) = (since.map(at), at(until)) else {
        return false;
    };
    let times = story.harms.iter().map(|harm| harm.0.as_micros());
    times
        .into_iter()
        .any(|time| (from - UNNOTICED_MICROS..=to).contains(&time))
}
