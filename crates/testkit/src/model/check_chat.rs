//! What a strict chat completions endpoint refuses with a 400, as one pure function.

use std::collections::HashSet;

use hyper::HeaderMap;
use serde_json::{Map, Value};

use super::check::{Violations, check_content_type, check_streamed_model};
use super::request::count_marks;

/// The members that are sent; another one is a mistake of ours.
const MEMBERS: [&str; 8] = [
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "reasoning_effort",
    "stream",
    "stream_options",
    "tools",
];

/// Everything wrong with a request, each with the path of the offending value; empty if nothing is.
///
/// Stricter than any one server: what some prompt template trips over is refused too.
pub fn check_chat(headers: &HeaderMap, body: &Value) -> Vec<String> {
    let mut found = Violations::default();
    let key = headers.get("authorization");
    let key = key.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    found.require(
        key.is_some_and(|key| !key.is_empty()),
        "authentication",
        "no bearer token",
    );
    check_content_type(headers, &mut found);
    match body.as_object() {
        Some(members) => check_body(members, &mut found),
        None => found.add("body", "must be a JSON object"),
    }
    found.require(
        count_marks(body) == 0,
        "cache_control",
        "is no member of this form",
    );
    found.0
}

fn check_body(body: &Map<String, Value>, found: &mut Violations) {
    for name in body.keys() {
        let known = MEMBERS.contains(&name.as_str());
        found.require(known, name, "is not sent to such an endpoint (HT-7)");
    }
    check_streamed_model(body, found);
    let usage = body
        .get("stream_options")
        .map(|options| &options["include_usage"]);
    found.require(
        usage == Some(&Value::Bool(true)),
        "stream_options.include_usage",
        "must be true, or no usage is reported",
    );
    for name in ["max_tokens", "max_completion_tokens"] {
        let legal = |limit: &Value| limit.as_u64().is_some_and(|limit| limit > 0);
        found.require(
            body.get(name).is_none_or(legal),
            name,
            "must be a positive integer",
        );
    }
    found.require(
        !(body.contains_key("max_tokens") && body.contains_key("max_completion_tokens")),
        "max_tokens",
        "excludes max_completion_tokens",
    );
    if let Some(tools) = body.get("tools") {
        check_tools(tools, found);
    }
    check_messages(body.get("messages").unwrap_or(&Value::Null), found);
}

fn check_tools(tools: &Value, found: &mut Violations) {
    let tools = match tools.as_array() {
        Some(tools) if !tools.is_empty() => tools,
        _ => return found.add("tools", "must be a list that is not empty"),
    };
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("tools.{index}");
        found.require(tool["type"] == "function", &path, "must be a function");
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        let legal = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        found.require(legal, &path, "the name must match [a-zA-Z0-9_-]{1,64}");
        found.require(names.insert(name), &path, "the name must be unique");
        found.require(
            function["parameters"]["type"] == "object",
            &path,
            "parameters must be a schema of type object",
        );
    }
}

fn check_messages(messages: &Value, found: &mut Violations) {
    let messages = match messages.as_array() {
        Some(messages) if !messages.is_empty() => messages,
        _ => return found.add("messages", "at least one message is required"),
    };
    let mut seen = HashSet::new();
    let mut open: Vec<&str> = vec![];
    let mut before = "";
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages.{index}");
        let role = message["role"].as_str().unwrap_or_default();
        if role != "tool" {
            for id in open.drain(..) {
                found.add(
                    &path,
                    &format!("the call {id:?} has no tool message before"),
                );
            }
        }
        match role {
            "system" => check_text(&path, &message["content"], found),
            "user" => {
                found.require(before != "user", &path, "two user messages in a row");
                check_content(&path, &message["content"], found);
            }
            "assistant" => {
                found.require(
                    before == "user" || before == "tool" || before == "system",
                    &path,
                    "must answer somebody",
                );
                open = check_assistant(&path, message, &mut seen, found);
            }
            "tool" => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                let asked = open.iter().position(|open| *open == id);
                match asked {
                    Some(place) => drop(open.remove(place)),
                    None => found.add(&path, &format!("no open call has the id {id:?}")),
                }
                check_text(&path, &message["content"], found);
            }
            _ => found.add(&path, "the role must be system, user, assistant or tool"),
        }
        before = role;
    }
    found.require(
        before != "assistant",
        "messages",
        "the conversation must not end with the assistant",
    );
    found.require(
        open.is_empty(),
        "messages",
        "the last calls have no tool messages",
    );
}

/// Checks a turn of the model and returns the ids of its calls.
fn check_assistant<'a>(
    path: &str,
    message: &'a Value,
    seen: &mut HashSet<&'a str>,
    found: &mut Violations,
) -> Vec<&'a str> {
    let calls = message["tool_calls"].as_array();
    let calls = calls.map_or(&[][..], Vec::as_slice);
    found.require(
        message["content"].is_string() || (message["content"].is_null() && !calls.is_empty()),
        path,
        "content must be text, or null beside calls",
    );
    found.require(
        message.get("tool_calls").is_none_or(|_| !calls.is_empty()),
        path,
        "tool_calls must not be empty",
    );
    let mut open = vec![];
    for call in calls {
        let id = call["id"].as_str().unwrap_or_default();
        found.require(
            !id.is_empty() && seen.insert(id),
            path,
            "ids of calls must be present and unique",
        );
        found.require(
            call["type"] == "function",
            path,
            "a call must be of a function",
        );
        let function = &call["function"];
        let named = function["name"]
            .as_str()
            .is_some_and(|name| !name.is_empty());
        found.require(named, path, "a call must name its function");
        let arguments = function["arguments"].as_str().unwrap_or_default();
        let object: Result<Map<String, Value>, _> = serde_json::from_str(arguments);
        found.require(
            object.is_ok(),
            path,
            "arguments must be the text of a JSON object",
        );
        open.push(id);
    }
    open
}

fn check_text(path: &str, content: &Value, found: &mut Violations) {
    let filled = content.as_str().is_some_and(|text| !text.trim().is_empty());
    found.require(filled, path, "content must be text that is not blank");
}

/// Text, or parts of which at least one is no text: templates that know only text must see only text.
fn check_content(path: &str, content: &Value, found: &mut Violations) {
    let Some(parts) = content.as_array() else {
        return check_text(path, content, found);
    };
    let plain = parts.iter().all(|part| part["type"] == "text");
    found.require(!plain, path, "text alone must not be in parts");
    for part in parts {
        let filled = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let inline = |value: &Value, scheme: &str| {
            value.as_str().is_some_and(|text| text.starts_with(scheme))
        };
        let legal = match part["type"].as_str() {
            Some("text") => filled(&part["text"]),
            Some("image_url") => {
                let url = &part["image_url"]["url"];
                inline(url, "data:image/") || inline(url, "http")
            }
            Some("file") => {
                let file = &part["file"];
                filled(&file["filename"]) && inline(&file["file_data"], "data:")
            }
            _ => false,
        };
        found.require(legal, path, &format!("not a legal part: {part}"));
    }
}

#[cfg(test)]
mod tests;
