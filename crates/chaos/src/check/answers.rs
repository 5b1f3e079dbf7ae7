//! I8 and the promise of the product: each message is answered once, or the log says why not.

use std::collections::HashSet;

use serde_json::Value;

use super::{Story, Violation, content, kind, text};
use crate::counts::Counts;
use crate::plan;

pub(super) fn check(story: &Story<'_>, counts: &mut Counts) -> Result<(), Violation> {
    let mut said = HashSet::new();
    for event in story.listed {
        if kind(event) == "agent.message" && !said.insert(content(event)) {
            return Err(format!("I8: {event} was said twice"));
        }
        if kind(event).starts_with("user.") && event["processed_at"].is_null() {
            return Err(format!("I8: {event} waits in a session at rest"));
        }
    }
    let last = story
        .listed
        .iter()
        .rev()
        .find(|event| kind(event).starts_with("session.status_"));
    let reason = last.map_or("", |event| text(&event["stop_reason"], "type"));
    if last.is_some_and(|event| kind(event) != "session.status_idle") || reason == "requires_action"
    {
        return Err(format!(
            "I8: the session rests with {}",
            last.unwrap_or(&Value::Null)
        ));
    }
    for (place, event) in story.listed.iter().enumerate() {
        if kind(event) == "user.message"
            && let Some(message) = plan::message_of(&content(event))
        {
            let behind = &story.listed[place + 1..];
            answered(story, message, behind, &said, counts)?;
        }
    }
    Ok(())
}

/// One message, and what is behind it in the list.
fn answered(
    story: &Story<'_>,
    message: u32,
    behind: &[Value],
    said: &HashSet<String>,
    counts: &mut Counts,
) -> Result<(), Violation> {
    counts.add("messages", 1);
    let last = story
        .plans
        .get(&message)
        .map_or(0, |plan| plan.steps.len() - 1);
    let end = plan::said(message, last);
    if said.contains(&end) {
        counts.add("messages answered", 1);
        let here = behind
            .iter()
            .any(|event| kind(event) == "agent.message" && content(event) == end);
        return match here {
            true => Ok(()),
            false => Err(format!(
                "I8: message {message} was answered before it was taken"
            )),
        };
    }
    // A later message takes the turn over: the model looks at the last one. Errors that end a turn are told.
    let explains = |event: &Value| match kind(event) {
        "user.interrupt" => Some("messages interrupted"),
        "user.message" => Some("messages overtaken"),
        "session.error" if text(&event["error"]["retry_status"], "type") != "retrying" => {
            Some("messages given up")
        }
        _ => None,
    };
    match behind.iter().find_map(explains) {
        Some(why) => {
            counts.add(why, 1);
            Ok(())
        }
        None => Err(format!(
            "I8: message {message} has no answer and nothing says why"
        )),
    }
}
