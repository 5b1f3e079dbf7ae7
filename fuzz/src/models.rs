//! What model endpoints send (security MODEL-1, MODEL-4).

use std::time::Duration;

use manyhands_brain::models::{Response, Stop, View, fuzzing};
use manyhands_protocol::Timestamp;

use crate::{pieces, sse, text, wait};

/// A stream is read as another reader reads it, however its bytes come.
pub(crate) fn stream(bytes: &[u8]) {
    let (pieces, whole) = pieces(bytes);
    let pieces = pieces.into_iter().map(<[u8]>::to_vec).collect();
    let (data, complete) = wait(fuzzing::sse(pieces, 1 << 20));
    let at_once = wait(fuzzing::sse(vec![whole.to_vec()], 1 << 20));
    assert_eq!((&data, complete), (&at_once.0, at_once.1), "in one piece");
    if let Some(expected) = sse::read(whole) {
        let expected: Vec<String> = expected.into_iter().map(|event| event.data).collect();
        assert!(complete, "it is text");
        assert_eq!(data, expected);
    }
    // Where lines are capped, what is read is the beginning of what there is.
    let (some, complete) = wait(fuzzing::sse(vec![whole.to_vec()], 16));
    assert!(at_once.0.starts_with(&some));
    assert!(!complete || some == at_once.0);
}

/// A message is complete and replayed as it was, or there is none.
pub(crate) fn message(bytes: &[u8]) {
    let Some(events) = text(bytes) else { return };
    let mut shown = fuzzing::Shown::default();
    let message = fuzzing::message(events.lines(), &mut shown);
    if let Some(message) = message {
        check(&message, &shown);
    }
}

/// The same of chat completions.
pub(crate) fn completion(bytes: &[u8]) {
    let Some(chunks) = text(bytes) else { return };
    let mut shown = fuzzing::Shown::default();
    let message = fuzzing::completion(chunks.lines(), &mut shown);
    if let Some(message) = message {
        check(&message, &shown);
    }
}

fn check(message: &Response, shown: &fuzzing::Shown) {
    assert!(message.blocks.len() <= shown.texts.len());
    assert!(message.blocks.len() <= 4096);
    let mut ids = std::collections::HashSet::new();
    for (block, shown) in message.blocks.iter().zip(&shown.texts) {
        let raw: serde_json::Value = serde_json::from_str(block.raw.get()).expect("JSON");
        assert!(raw.is_object());
        match &block.view {
            View::Text(text) => assert_eq!(text, shown, "previews are a prefix of what is said"),
            View::ToolUse { id, name, input } => {
                assert!(ids.insert(id.clone()) && !id.is_empty());
                assert_eq!(raw["id"], **id);
                assert_eq!(raw["name"], **name);
                assert!(raw["input"].is_object(), "endpoints take objects only");
                serde_json::from_str::<serde_json::Value>(input.get()).expect("JSON");
            }
            View::Thinking | View::Other => {}
        }
    }
    assert!(message.stop != Stop::ToolUse || !message.blocks.is_empty() || ids.is_empty());
}

/// A request in one form is one in the other, or it is refused.
pub(crate) fn translate(bytes: &[u8]) {
    if let Some(body) = fuzzing::translated(bytes) {
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert!(body["messages"].is_array());
    }
}

/// What an error says is short and on one line, and waits that it asks for are bounded (security MODEL-2).
pub(crate) fn refusal(bytes: &[u8]) {
    let Some((&status, rest)) = bytes.split_first() else {
        return;
    };
    let status = 400 + u16::from(status) % 200;
    let told = fuzzing::refused(status, rest);
    assert!(told.chars().count() <= 2_000, "{told}");
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    if let Some(wait) = fuzzing::wait(rest, now) {
        assert!(wait <= Duration::from_secs(3600));
    }
    if let Some(input) = text(rest) {
        let replayed = fuzzing::replayed(input);
        let replayed: serde_json::Value = serde_json::from_str(&replayed).expect("JSON");
        assert!(replayed.is_object());
    }
}

/// A script is read or refused.
pub(crate) fn script(bytes: &[u8]) {
    if let Some(Err(refusal)) = text(bytes).map(manyhands_brain::models::Scripted::parse) {
        assert!(!refusal.to_string().is_empty());
    }
}
