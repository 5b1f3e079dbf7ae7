//! What was heard, beside the log.

use std::collections::HashMap;

use super::{Problem, Row};
use crate::frames::{Frame, RECONNECTED};

/// The stream is the log, read aloud, each event once, in order and byte for byte, over all its connections.
pub fn check_stream(rows: &[Row], frames: &[Frame]) -> Result<(), Problem> {
    let mut heard = frames.iter().filter(|frame| frame.position.is_some());
    for row in rows.iter().filter(|row| row.entry.is_public()) {
        let Some(frame) = heard.next() else {
            return Err(format!("event {} was not streamed", row.entry.position));
        };
        let same = frame.position == Some(row.entry.position)
            && frame.name == row.kind()
            && frame.text == row.entry.render();
        if !same {
            return Err(format!(
                "{frame:?} was streamed in place of {}",
                row.entry.render()
            ));
        }
    }
    match heard.next() {
        Some(more) => Err(format!("{more:?} was streamed and is not in the log")),
        None => Ok(()),
    }
}

/// Previews are announced once, told in order, and end with the event they announce or with the request
/// (runtime ST-9 to ST-13).
pub fn check_previews(frames: &[Frame]) -> Result<(), Problem> {
    let mut open: HashMap<String, String> = HashMap::new();
    let mut announced: HashMap<String, usize> = HashMap::new();
    for frame in frames {
        match &*frame.name {
            "event_start" => {
                let id = frame.data["event"]["id"].as_str().unwrap_or_default();
                // Each connection may be told of an event once, and a request lives on one connection.
                if announced.insert(id.to_owned(), 1).is_some() {
                    return Err(format!("{id} is announced twice (ST-10)"));
                }
                open.insert(id.to_owned(), String::new());
            }
            "event_delta" => {
                let id = frame.data["event_id"].as_str().unwrap_or_default();
                let Some(text) = open.get_mut(id) else {
                    return Err(format!("a delta of {id}, which is not open (ST-10)"));
                };
                text.push_str(
                    frame.data["delta"]["content"]["text"]
                        .as_str()
                        .unwrap_or_default(),
                );
            }
            "agent.message" | "agent.thinking" => {
                let content = frame.data["content"].as_array();
                let whole: String = content
                    .into_iter()
                    .flatten()
                    .filter_map(|block| block["text"].as_str())
                    .collect();
                if let Some(text) = open.remove(frame.id())
                    && !whole.starts_with(&text)
                {
                    return Err(format!("{text:?} was told of {whole:?} (ST-11)"));
                }
            }
            "span.model_request_end" | RECONNECTED => open.clear(),
            _ => {}
        }
    }
    Ok(())
}
