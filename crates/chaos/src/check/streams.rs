//! I2 on streams: over all connections the stream is the log read aloud, and agrees with the list.

use std::collections::HashMap;

use serde_json::Value;

use super::{Frame, Violation, text};

/// Positions increase; the last appearance of each event, what is queued last, is the list.
pub(super) fn check(frames: &[Frame], listed: &[Value]) -> Result<(), Violation> {
    for pair in frames.windows(2) {
        if pair[1].position <= pair[0].position {
            return Err(format!(
                "I2: position {} was streamed behind {}: {}",
                pair[1].position, pair[0].position, pair[1].data
            ));
        }
    }
    let last: HashMap<&str, i64> = frames
        .iter()
        .map(|frame| (text(&frame.data, "id"), frame.position))
        .collect();
    let latest = |frame: &&Frame| last[text(&frame.data, "id")] == frame.position;
    let mut told: Vec<&Frame> = frames.iter().filter(latest).collect();
    told.sort_by_key(|frame| (frame.data["processed_at"].is_null(), frame.position));
    let mut told = told.into_iter().map(|frame| &frame.data);
    for event in listed {
        let heard = told.next();
        if heard != Some(event) {
            let heard = heard.map_or("nothing".to_owned(), Value::to_string);
            return Err(format!(
                "I2: the list has {event} where the stream told {heard}"
            ));
        }
    }
    match told.next() {
        None => Ok(()),
        Some(more) => Err(format!("I2: the stream told {more}, which is not listed")),
    }
}
