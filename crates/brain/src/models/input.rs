//! Inputs of tool calls as models write them: nearly always a JSON object (pure).

use serde_json::json;
use serde_json::value::RawValue;

/// The member under which an input that is no JSON object is sent back: endpoints take objects only, and the model
/// shall see what it wrote.
const UNPARSED: &str = "unparsed_arguments";

/// The text as JSON, if it is a JSON object.
pub(super) fn object(text: &str) -> Option<Box<RawValue>> {
    let raw: Box<RawValue> = serde_json::from_str(text).ok()?;
    raw.get().starts_with('{').then_some(raw)
}

/// The input as it is replayed: its own bytes, or an object that tells them.
pub(super) fn replayed(text: &str) -> String {
    match object(text) {
        Some(input) => input.get().to_owned(),
        None => json!({UNPARSED: text}).to_string(),
    }
}
