//! One request as the scripted model saw it.

use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::Value;

use super::format::Format;

/// A recorded request for a message.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which one it was; the first is 1.
    pub number: usize,
    /// The form it came in.
    pub format: Format,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub raw: Bytes,
    /// Its body, parsed; `null` when it is not JSON.
    pub body: Value,
    /// What a strict endpoint would have refused it for; empty when it is well-formed.
    pub violations: Vec<String>,
}

/// A result of a tool that the last request brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The call it answers.
    pub tool_use_id: String,
    /// Its text blocks joined, or its content when that is a string.
    pub text: String,
    /// Whether it reports an error; a chat completions request says so only in the text.
    pub is_error: bool,
}

impl Request {
    /// A header's text, if it was sent and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The model asked for, empty if none.
    pub fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The system prompt's text, its blocks joined by newlines.
    pub fn system(&self) -> String {
        match (self.format, self.messages().first()) {
            (Format::Messages, _) => texts(&self.body["system"]),
            (Format::Chat, Some(first)) if first["role"] == "system" => texts(&first["content"]),
            (Format::Chat, _) => String::new(),
        }
    }

    /// The names of the tools offered, in order.
    pub fn tool_names(&self) -> Vec<&str> {
        let tools = self.body["tools"].as_array().map_or(&[][..], Vec::as_slice);
        let functions = tools.iter().map(|tool| match self.format {
            Format::Messages => tool,
            Format::Chat => &tool["function"],
        });
        functions.filter_map(|tool| tool["name"].as_str()).collect()
    }

    /// The text of the last user turn, its text blocks joined by newlines.
    pub fn last_user_text(&self) -> String {
        texts(self.last_user_content())
    }

    /// The tool results since the last turn of the model, in order.
    pub fn tool_results(&self) -> Vec<ToolResult> {
        if self.format == Format::Chat {
            let since = self.messages().iter().rev();
            let since = since.take_while(|message| message["role"] != "assistant");
            let mut results: Vec<ToolResult> = since
                .filter(|message| message["role"] == "tool")
                .map(|message| ToolResult {
                    tool_use_id: text(&message["tool_call_id"]),
                    text: texts(&message["content"]),
                    is_error: false,
                })
                .collect();
            results.reverse();
            return results;
        }
        let blocks = self.last_user_content().as_array();
        let blocks = blocks.map_or(&[][..], Vec::as_slice);
        let results = blocks.iter().filter(|block| block["type"] == "tool_result");
        results
            .map(|block| ToolResult {
                tool_use_id: text(&block["tool_use_id"]),
                text: texts(&block["content"]),
                is_error: block["is_error"] == true,
            })
            .collect()
    }

    /// What the tool results say, in order.
    pub fn result_texts(&self) -> Vec<String> {
        let results = self.tool_results().into_iter();
        results.map(|result| result.text).collect()
    }

    /// How many `cache_control` marks the request carries, anywhere.
    pub fn cache_marks(&self) -> usize {
        count_marks(&self.body)
    }

    fn last_user_content(&self) -> &Value {
        let mut turns = self.messages().iter().rev();
        let last = turns.find(|turn| turn["role"] == "user");
        last.map_or(&Value::Null, |turn| &turn["content"])
    }
}

/// Counts marks, but not inside tool inputs and schemas, where the word is only data.
pub(super) fn count_marks(value: &Value) -> usize {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match key.as_str() {
                "cache_control" => usize::from(!value.is_null()),
                "input" | "input_schema" => 0,
                _ => count_marks(value),
            })
            .sum(),
        Value::Array(items) => items.iter().map(count_marks).sum(),
        _ => 0,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter(|block| block["type"] == "text");
            let texts: Vec<&str> = texts.filter_map(|block| block["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}
