//! Answers computed from the request alone, for a stub that keeps no state (pure).

use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::format::Format;
use super::reply::{Block, Reply};

const MODEL: &str = "claude-stub";

/// One frame of a session's stream, of the size a short message has.
pub const FRAME: &str = "event: user.message\nid: 1234\ndata: {\"type\":\"user.message\",\
    \"id\":\"sevt_01AbCdEfGhJkLmNpQrStUvWx\",\"content\":[{\"type\":\"text\",\
    \"text\":\"One more thing to keep in mind.\"}],\"processed_at\":null}\n\n";

/// `Hello from the stub.` in four deltas.
pub fn greeting(format: Format) -> Bytes {
    render(format, &Reply::text("Hello from the stub.").split_into(4))
}

/// The minimal `GET /v1/models`.
pub fn models() -> Value {
    json!({
        "data": [{
            "type": "model",
            "id": "claude-opus-5",
            "display_name": "Scripted",
            "created_at": "2026-01-01T00:00:00Z",
        }],
        "has_more": false,
        "first_id": "claude-opus-5",
        "last_id": "claude-opus-5",
    })
}

/// One `bash` call a turn: what follows `run:` in the user's text, or `echo hello`; once its
/// result is there, `done: ` and the result's first 200 characters.
///
/// # Errors
/// When the request is not JSON with messages.
pub fn bash(format: Format, request: &[u8]) -> Result<Bytes, String> {
    let conversation = Conversation::parse(request)?;
    let blocks = conversation.last_blocks()?;
    let reply = match blocks.iter().find(|block| block.kind == "tool_result") {
        Some(result) => {
            let text: String = result.content_text().chars().take(200).collect();
            Reply::text(format!("done: {text}"))
        }
        None => {
            let text = blocks.iter().rev().find(|block| block.kind == "text");
            let command = text.and_then(|block| block.text.as_deref()?.split_once("run:"));
            let command = command.map_or("echo hello", |(_, command)| command.trim());
            // Distinct within a conversation, the same again when the request is repeated.
            let id = format!("toolu_stub_{}", conversation.messages.len());
            Reply::tool_use(id, "bash", json!({"command": command}))
        }
    };
    Ok(render(format, &reply))
}

/// A list of replies, of which each model turn of a conversation takes the next.
///
/// The file is `{"replies": [{"content": [block, …], "stop_reason"?: "…", "split_into"?: 3}, …]}`
/// with blocks as in a Messages answer. The number of assistant turns in the request picks the
/// reply, counted from the start again after the last one.
pub struct Script {
    replies: Vec<Rendered>,
}

/// A reply in both forms.
struct Rendered {
    messages: Bytes,
    chat: Bytes,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// When the file cannot be read, is not of the form above, or has no replies.
    pub fn read(path: &Path) -> Result<Self, String> {
        let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| in_file(&error))?;
        Self::parse(&text).map_err(|error| in_file(&error))
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if file.replies.is_empty() {
            return Err("no replies".to_owned());
        }
        let replies = file.replies.into_iter().map(|reply| {
            let reply = reply.into();
            Rendered {
                messages: render(Format::Messages, &reply),
                chat: render(Format::Chat, &reply),
            }
        });
        Ok(Self {
            replies: replies.collect(),
        })
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// When the request is not JSON with messages.
    pub fn answer(&self, format: Format, request: &[u8]) -> Result<Bytes, String> {
        let conversation = Conversation::parse(request)?;
        let turns = conversation.messages.iter();
        let turns = turns.filter(|message| message.role == "assistant").count();
        let reply = &self.replies[turns % self.replies.len()];
        Ok(match format {
            Format::Messages => reply.messages.clone(),
            Format::Chat => reply.chat.clone(),
        })
    }
}

pub(super) fn render(format: Format, reply: &Reply) -> Bytes {
    Bytes::from(reply.wire_in(format, MODEL))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    replies: Vec<FileReply>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileReply {
    content: Vec<Block>,
    stop_reason: Option<String>,
    split_into: Option<usize>,
}

impl From<FileReply> for Reply {
    fn from(file: FileReply) -> Self {
        let mut reply = Reply::empty().split_into(file.split_into.unwrap_or(1));
        for block in file.content {
            reply = reply.then(block);
        }
        match file.stop_reason {
            Some(reason) => reply.stop_reason(reason),
            None => reply,
        }
    }
}

/// As much of a request as the stub needs: contents stay unparsed but for the last.
#[derive(Deserialize)]
pub(super) struct Conversation<'a> {
    #[serde(borrow)]
    pub(super) messages: Vec<Turn<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Turn<'a> {
    pub(super) role: &'a str,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Default, Deserialize)]
pub(super) struct SeenBlock {
    #[serde(rename = "type")]
    kind: String,
    pub(super) text: Option<String>,
    #[serde(default)]
    content: Value,
}

impl<'a> Conversation<'a> {
    pub(super) fn parse(request: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(request).map_err(|error| format!("messages: {error}"))
    }

    fn last_blocks(&self) -> Result<Vec<SeenBlock>, String> {
        self.messages.last().ok_or("messages: none")?.blocks()
    }
}

impl Turn<'_> {
    pub(super) fn blocks(&self) -> Result<Vec<SeenBlock>, String> {
        let content = self.content.get();
        if content.starts_with('"') {
            let text = serde_json::from_str(content).map_err(|error| error.to_string())?;
            // A result is a message of its own in a chat completions request.
            if self.role == "tool" {
                return Ok(vec![SeenBlock {
                    kind: "tool_result".to_owned(),
                    content: Value::String(text),
                    ..SeenBlock::default()
                }]);
            }
            let kind = "text".to_owned();
            return Ok(vec![SeenBlock {
                kind,
                text: Some(text),
                ..SeenBlock::default()
            }]);
        }
        serde_json::from_str(content).map_err(|error| format!("messages: {error}"))
    }
}

impl SeenBlock {
    fn content_text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(blocks) => {
                let texts = blocks.iter().filter_map(|block| block["text"].as_str());
                texts.collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_bash(messages: Value, expected: &str) {
        let request = json!({"messages": messages}).to_string();
        let body = bash(Format::Messages, request.as_bytes()).unwrap();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains(expected), "{body} has no {expected}");
    }

    #[test]
    fn bash_calls_what_it_is_told_and_then_reports() {
        check_bash(
            json!([{"role": "user", "content": "please run: ls -l"}]),
            r#""partial_json":"{\"command\":\"ls -l\"}""#,
        );
        check_bash(
            json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]),
            r#""partial_json":"{\"command\":\"echo hello\"}""#,
        );
        let result = json!([{"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": "out"}]}]);
        check_bash(json!([{"role": "user", "content": result}]), "done: out");
        let result = json!({"role": "tool", "tool_call_id": "x", "content": "out"});
        let request = json!({"messages": [result]}).to_string();
        let body = bash(Format::Chat, request.as_bytes()).unwrap();
        assert!(String::from_utf8_lossy(&body).contains("\"content\":\"done: out\""));
        assert!(bash(Format::Messages, b"{}").is_err());
    }

    #[test]
    fn a_script_takes_the_next_reply_each_model_turn() {
        let script = json!({"replies": [
            {"content": [{"type": "text", "text": "one"}]},
            {"content": [{"type": "tool_use", "id": "a", "name": "bash", "input": {"command": "ls"}}]},
        ]});
        let script = Script::parse(script.to_string().as_bytes()).unwrap();
        let user = json!({"role": "user", "content": "hi"});
        let model = json!({"role": "assistant", "content": "one"});
        let check = |messages: Value, expected: &str| {
            let request = json!({"messages": messages}).to_string();
            let body = script.answer(Format::Messages, request.as_bytes()).unwrap();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(expected), "{body} has no {expected}");
        };
        check(json!([user]), "\"text\":\"one\"");
        check(json!([user, model, user]), "\"stop_reason\":\"tool_use\"");
        check(json!([user, model, user, model, user]), "\"text\":\"one\"");
        assert!(Script::parse(br#"{"replies": []}"#).is_err());
        assert!(Script::parse(br#"{"replies": [{"contents": []}]}"#).is_err());
    }
}
