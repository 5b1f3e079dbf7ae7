//! What the hosted Messages API refuses with a 400, as one pure function.

use std::collections::HashSet;

use hyper::HeaderMap;
use serde_json::{Map, Value};

use super::request::count_marks;

/// The members a request may have; the hosted API refuses extra inputs.
const MEMBERS: [&str; 18] = [
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "thinking",
    "tool_choice",
    "tools",
];

/// Everything wrong with a request, each with the path of the offending value; empty if nothing is.
///
/// Sampling parameters and documents in assistant turns are refused as runtime HT-7 says; unpaired
/// tool calls are what security I3 must never let through.
pub fn check(headers: &HeaderMap, body: &Value) -> Vec<String> {
    let mut found = Violations::default();
    check_headers(headers, &mut found);
    match body.as_object() {
        Some(members) => check_body(members, &mut found),
        None => found.add("body", "must be a JSON object"),
    }
    let marks = count_marks(body);
    if marks > 4 {
        found.add("cache_control", &format!("at most 4 marks, got {marks}"));
    }
    found.0
}

#[derive(Default)]
pub(super) struct Violations(pub(super) Vec<String>);

impl Violations {
    pub(super) fn add(&mut self, path: &str, problem: &str) {
        self.0.push(format!("{path}: {problem}"));
    }

    pub(super) fn require(&mut self, holds: bool, path: &str, problem: &str) {
        if !holds {
            self.add(path, problem);
        }
    }
}

fn check_headers(headers: &HeaderMap, found: &mut Violations) {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let keyed = text("x-api-key").is_some_and(|key| !key.is_empty())
        || text("authorization").is_some_and(|value| value.len() > "Bearer ".len());
    found.require(keyed, "authentication", "no x-api-key and no bearer token");
    let version = text("anthropic-version").is_some_and(|version| !version.is_empty());
    found.require(version, "anthropic-version", "header is required");
    check_content_type(headers, found);
}

/// What all forms ask for: a model, and an answer bit by bit.
pub(super) fn check_streamed_model(body: &Map<String, Value>, found: &mut Violations) {
    let model = body.get("model").and_then(Value::as_str);
    found.require(
        model.is_some_and(|model| !model.is_empty()),
        "model",
        "is required",
    );
    found.require(
        body.get("stream") == Some(&Value::Bool(true)),
        "stream",
        "must be true",
    );
}

pub(super) fn check_content_type(headers: &HeaderMap, found: &mut Violations) {
    let kind = headers.get("content-type");
    let kind = kind.and_then(|value| value.to_str().ok());
    let json = kind.is_some_and(|kind| kind.starts_with("application/json"));
    found.require(json, "content-type", "must be application/json");
}

fn check_body(body: &Map<String, Value>, found: &mut Violations) {
    for name in ["temperature", "top_p", "top_k"] {
        found.require(
            !body.contains_key(name),
            name,
            "is not accepted by this model (HT-7)",
        );
    }
    for name in body.keys() {
        let sampling = ["temperature", "top_p", "top_k"].contains(&name.as_str());
        found.require(
            sampling || MEMBERS.contains(&name.as_str()),
            name,
            "Extra inputs are not permitted",
        );
    }
    check_streamed_model(body, found);
    let limit = body.get("max_tokens").and_then(Value::as_u64);
    found.require(
        limit.is_some_and(|limit| limit > 0),
        "max_tokens",
        "must be a positive integer",
    );
    if let Some(system) = body.get("system") {
        check_blocks("system", system, &["text"], found);
    }
    if let Some(tools) = body.get("tools") {
        check_tools(tools, found);
    }
    check_messages(body.get("messages").unwrap_or(&Value::Null), found);
}

fn check_tools(tools: &Value, found: &mut Violations) {
    let Some(tools) = tools.as_array() else {
        return found.add("tools", "must be an array");
    };
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("tools.{index}");
        let name = tool["name"].as_str().unwrap_or_default();
        let legal = (1..=128).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        found.require(
            legal,
            &format!("{path}.name"),
            "must match [a-zA-Z0-9_-]{1,128}",
        );
        found.require(
            names.insert(name),
            &format!("{path}.name"),
            "must be unique",
        );
        // A tool with a type of its own is one the API runs and knows the schema of.
        let own = matches!(tool["type"].as_str(), Some(kind) if kind != "custom");
        found.require(
            own || tool["input_schema"]["type"] == "object",
            &format!("{path}.input_schema"),
            "must be a schema of type object",
        );
    }
}

fn check_messages(messages: &Value, found: &mut Violations) {
    let messages = match messages.as_array() {
        Some(messages) if !messages.is_empty() => messages,
        _ => return found.add("messages", "at least one message is required"),
    };
    found.require(
        messages[0]["role"] == "user",
        "messages.0.role",
        "first message must use the \"user\" role",
    );
    let last = messages.iter().rfind(|message| message["role"] != "system");
    found.require(
        last.is_some_and(|message| message["role"] == "user"),
        "messages",
        "the conversation must end with a user message",
    );
    let mut seen = HashSet::new();
    let mut open: Vec<&str> = vec![];
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages.{index}");
        let content = &message["content"];
        let blocks = content.as_array().map_or(&[][..], Vec::as_slice);
        let pending = std::mem::take(&mut open);
        match message["role"].as_str() {
            Some("user") => {
                let kinds = ["text", "image", "document", "search_result", "tool_result"];
                check_blocks(&format!("{path}.content"), content, &kinds, found);
                check_results(&path, blocks, &pending, found);
            }
            Some("assistant") => {
                let kinds = ["text", "thinking", "redacted_thinking", "tool_use"];
                check_blocks(&format!("{path}.content"), content, &kinds, found);
                check_results(&path, &[], &pending, found);
                for block in blocks.iter().filter(|block| block["type"] == "tool_use") {
                    let id = block["id"].as_str().unwrap_or_default();
                    let new = !id.is_empty() && seen.insert(id);
                    found.require(new, &path, "`tool_use` ids must be present and unique");
                    open.push(id);
                }
            }
            // In the middle of a conversation, where the model takes them (SE-10).
            Some("system") => {
                check_blocks(&format!("{path}.content"), content, &["text"], found);
                found.require(
                    pending.is_empty(),
                    &path,
                    "a system message must not stand between `tool_use` and `tool_result`",
                );
                open = pending;
                let role = |at: Option<usize>| messages.get(at?)?["role"].as_str();
                let placed = role(index.checked_sub(1)) == Some("user")
                    && matches!(role(Some(index + 1)), None | Some("assistant"));
                found.require(
                    placed,
                    &path,
                    "a system message goes behind a user message, last or before an assistant's",
                );
            }
            _ => found.add(&format!("{path}.role"), "must be user, assistant or system"),
        }
    }
    found.require(
        open.is_empty(),
        "messages",
        "the last `tool_use` has no `tool_result`",
    );
}

/// The results of a turn: exactly those asked for in the turn before, each once, ahead of the rest.
fn check_results(path: &str, blocks: &[Value], pending: &[&str], found: &mut Violations) {
    let mut answered = vec![];
    let mut other = false;
    for block in blocks {
        if block["type"] != "tool_result" {
            other = true;
            continue;
        }
        found.require(
            !other,
            path,
            "`tool_result` blocks must come first in the turn",
        );
        let id = block["tool_use_id"].as_str().unwrap_or_default();
        found.require(
            pending.contains(&id),
            path,
            &format!("unexpected `tool_use_id` {id:?}: no such `tool_use` in the previous message"),
        );
        found.require(
            !answered.contains(&id),
            path,
            &format!("more than one `tool_result` for {id:?}"),
        );
        answered.push(id);
    }
    for id in pending.iter().filter(|id| !answered.contains(id)) {
        found.add(
            path,
            &format!("`tool_use` {id:?} has no `tool_result` immediately after"),
        );
    }
}

/// Content as a non-empty string or a non-empty list of blocks of the kinds allowed here.
fn check_blocks(path: &str, content: &Value, kinds: &[&str], found: &mut Violations) {
    match content {
        Value::String(text) => {
            found.require(!text.trim().is_empty(), path, "text must be non-empty");
        }
        Value::Array(blocks) => {
            found.require(!blocks.is_empty(), path, "content must be non-empty");
            for (index, block) in blocks.iter().enumerate() {
                check_block(&format!("{path}.{index}"), block, kinds, found);
            }
        }
        _ => found.add(path, "must be a string or a list of blocks"),
    }
}

fn check_block(path: &str, block: &Value, kinds: &[&str], found: &mut Violations) {
    let kind = block["type"].as_str().unwrap_or_default();
    if !kinds.contains(&kind) {
        return found.add(path, &format!("block type {kind:?} is not allowed here"));
    }
    let filled = |name: &str| block[name].as_str().is_some_and(|text| !text.is_empty());
    match kind {
        "text" => {
            let text = block["text"].as_str().unwrap_or_default();
            let problem = "text must contain non-whitespace characters";
            found.require(!text.trim().is_empty(), path, problem);
        }
        "thinking" => found.require(
            filled("signature") && block["thinking"].is_string(),
            path,
            "thinking and signature are required",
        ),
        "redacted_thinking" => found.require(filled("data"), path, "data is required"),
        "tool_use" => found.require(
            filled("name") && block["input"].is_object(),
            path,
            "name and an input object are required",
        ),
        "tool_result" => check_result_content(path, &block["content"], found),
        _ => found.require(
            block["source"].is_object() || block["source"].is_string(),
            path,
            "source is required",
        ),
    }
    if let Some(mark) = block.get("cache_control").filter(|mark| !mark.is_null()) {
        let lasting = matches!(mark["ttl"].as_str(), None | Some("5m" | "1h"));
        found.require(
            mark["type"] == "ephemeral" && lasting,
            path,
            "cache_control must be ephemeral, for 5m or 1h",
        );
        let thinking = kind == "thinking" || kind == "redacted_thinking";
        found.require(
            !thinking,
            path,
            "thinking blocks cannot carry cache_control",
        );
    }
}

/// A tool result may have no content member, but not an empty one.
fn check_result_content(path: &str, content: &Value, found: &mut Violations) {
    if !content.is_null() {
        let kinds = ["text", "image", "document", "search_result"];
        check_blocks(&format!("{path}.content"), content, &kinds, found);
    }
}

#[cfg(test)]
pub(super) mod tests;
