//! Content blocks on their way from the log to the model: raw JSON texts, touched only where the model's API demands it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use manyhands_protocol::content::Source;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Call, CallResult};

/// A JSON text. Cheap to clone.
pub(crate) type Json = std::sync::Arc<str>;

/// What the model reads in place of a result or message without content (runtime TL-4).
const NO_OUTPUT: &str = r#"{"type":"text","text":"(no output)"}"#;
const EMPTY_MESSAGE: &str = r#"{"type":"text","text":"(empty message)"}"#;
const WITHHELD: &str = r#"{"type":"text","text":"(The result is withheld: the model's API refused a request that carried it.)"}"#;

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

fn view(raw: &RawValue) -> Option<Block<'_>> {
    serde_json::from_str(raw.get()).ok()
}

/// Blocks the API takes: no blank text, no placeholder of withheld content.
fn accepted(raw: &RawValue) -> bool {
    match view(raw) {
        Some(block) if block.kind == "text" => {
            block.text.is_some_and(|text| !text.trim().is_empty())
        }
        Some(block) => block.kind != "redacted",
        None => false,
    }
}

fn or_else(blocks: Vec<Json>, placeholder: &str) -> Vec<Json> {
    if blocks.is_empty() {
        vec![placeholder.into()]
    } else {
        blocks
    }
}

/// A block with another source; `None` when it is no object.
pub(super) fn with_source(raw: &RawValue, source: &Source) -> Option<Box<RawValue>> {
    let mut members: BTreeMap<Cow<'_, str>, Cow<'_, RawValue>> =
        serde_json::from_str(raw.get()).ok()?;
    let source = serde_json::value::to_raw_value(source).ok()?;
    members.insert(Cow::Borrowed("source"), Cow::Owned(source));
    serde_json::value::to_raw_value(&members).ok()
}

/// The blocks of a user message; at least one.
pub(super) fn message(content: &[&RawValue]) -> Vec<Json> {
    let kept = content.iter().filter(|raw| accepted(raw));
    or_else(kept.map(|raw| raw.get().into()).collect(), EMPTY_MESSAGE)
}

/// The blocks of a system message; none when all are blank.
pub(super) fn system(content: &[&RawValue]) -> Vec<Json> {
    let kept = content.iter().filter(|raw| accepted(raw));
    kept.map(|raw| raw.get().into()).collect()
}

/// The texts of an event that has content.
pub(crate) fn texts(body: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow, default)]
        content: Vec<&'a RawValue>,
    }
    let content =
        serde_json::from_str::<Content<'_>>(body).map_or_else(|_| Vec::new(), |body| body.content);
    let texts = content
        .into_iter()
        .filter_map(view)
        .filter_map(|block| block.text);
    texts.map(Cow::into_owned).collect()
}

/// The blocks of a tool result; at least one.
pub(super) fn result(content: &[&RawValue]) -> Vec<Json> {
    let kept = content.iter().filter(|raw| accepted(raw));
    or_else(kept.map(|raw| raw.get().into()).collect(), NO_OUTPUT)
}

/// What stands in for a result that a provider refuses.
pub(super) fn withheld() -> CallResult {
    CallResult {
        blocks: vec![WITHHELD.into()],
        is_error: true,
    }
}

/// The blocks of a response as they are replayed, byte for byte; none when there is nothing to build on. A call whose
/// input is no object is replayed without it: no provider takes it back.
pub(super) fn replayable(content: &[Cow<'_, RawValue>]) -> Vec<Json> {
    let kept: Vec<&Cow<'_, RawValue>> = content.iter().filter(|raw| accepted(raw)).collect();
    let thinking = |raw: &&Cow<'_, RawValue>| {
        view(raw).is_some_and(|block| block.kind == "thinking" || block.kind == "redacted_thinking")
    };
    if kept.iter().all(thinking) {
        return Vec::new();
    }
    kept.into_iter().map(|raw| call_with_object(raw)).collect()
}

fn call_with_object(raw: &RawValue) -> Json {
    let is_object = |input: &RawValue| input.get().starts_with('{');
    match view(raw).filter(|block| block.kind == "tool_use") {
        Some(Block {
            id,
            name,
            input: Some(input),
            ..
        }) if !is_object(input) => {
            serde_json::json!({"type": "tool_use", "id": id, "name": name, "input": {}})
                .to_string()
                .into()
        }
        _ => raw.get().into(),
    }
}

/// The input of the tool call with this provider id, if the block is it.
pub(super) fn input_of(raw: &RawValue, tool_use_id: &str) -> Option<Json> {
    let block = view(raw)?;
    let this = block.kind == "tool_use" && block.id.as_deref() == Some(tool_use_id);
    block.input.filter(|_| this).map(|raw| raw.get().into())
}

/// The `tool_result` block of a call.
pub(super) fn tool_result(call: &Call) -> Json {
    let missing = CallResult {
        blocks: vec![NO_OUTPUT.into()],
        is_error: true,
    };
    let result = call.result.as_ref().unwrap_or(&missing);
    let id = serde_json::Value::from(call.tool_use_id.as_str());
    let mut text = format!("{{\"type\":\"tool_result\",\"tool_use_id\":{id},\"content\":[");
    text.push_str(&result.blocks.join(","));
    text.push(']');
    if result.is_error {
        text.push_str(",\"is_error\":true");
    }
    text.push('}');
    text.into()
}
