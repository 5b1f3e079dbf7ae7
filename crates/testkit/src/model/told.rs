//! Replies that the user's own message dictates, for a stub that keeps no state (pure).
//!
//! A message whose text begins with `reply:` carries a JSON list of replies. The first model request that sees it gets
//! the first one, and each model turn behind it the next; further messages of the user change nothing, unless they
//! begin with `reply:` themselves. A reply has `content` as in a Messages answer, and may have `stop_reason`,
//! `split_into`, `usage` and `refusal` (a category); or it is `{"error": {"status", "type", "message"}}`,
//! `{"silent": true}`, or holds back its end for ever with `"hold": true`. With `"gate": NAME` it comes once that gate
//! was opened.

use bytes::Bytes;
use serde::Deserialize;

use super::format::Format;
use super::reply::Block;
use super::reply::{Reply, Usage};
use super::script::{Conversation, render};

const MARK: &str = "reply:";

/// What a stub is to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Not before this gate is open.
    pub gate: Option<String>,
    /// The answer.
    pub answer: Answer,
}

/// A dictated answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send these bytes.
    Whole(Bytes),
    /// Send these bytes and neither end nor go on.
    Held(Bytes),
    /// Refuse the request.
    Error(ToldError),
    /// Do not answer.
    Silent,
}

/// A refusal, in the form of the request.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ToldError {
    /// The HTTP status.
    pub status: u16,
    /// Such as `overloaded_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub message: String,
}

/// What the message tells to do at this model turn; a short text where it tells nothing, or nothing more.
///
/// # Errors
/// When the request is not JSON with messages, or the dictated list is not of the form above.
pub fn told(format: Format, request: &[u8]) -> Result<Told, String> {
    let conversation = Conversation::parse(request)?;
    let mut replies = vec![];
    let mut turns = 0;
    for message in &conversation.messages {
        if message.role == "assistant" {
            turns += 1;
            continue;
        }
        let blocks = message.blocks()?;
        let texts = blocks.iter().filter_map(|block| block.text.as_deref());
        if let Some(list) = texts.filter_map(dictated).next_back() {
            replies = serde_json::from_str(list).map_err(|error| format!("{list}: {error}"))?;
            turns = 0;
        }
    }
    let reply: Option<FileReply> = replies.into_iter().nth(turns);
    let nothing = || Answer::Whole(render(format, &Reply::text("Nothing was dictated.")));
    Ok(Told {
        gate: reply.as_ref().and_then(|reply| reply.gate.clone()),
        answer: reply.map_or_else(nothing, |reply| reply.into_answer(format)),
    })
}

fn dictated(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix(MARK)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileReply {
    #[serde(default)]
    content: Vec<Block>,
    stop_reason: Option<String>,
    split_into: Option<usize>,
    usage: Option<FileUsage>,
    refusal: Option<String>,
    #[serde(default)]
    hold: bool,
    #[serde(default)]
    silent: bool,
    error: Option<ToldError>,
    gate: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
}

impl FileReply {
    fn into_answer(self, format: Format) -> Answer {
        if self.silent {
            return Answer::Silent;
        }
        if let Some(error) = self.error {
            return Answer::Error(error);
        }
        let mut reply = Reply::empty().split_into(self.split_into.unwrap_or(1));
        for block in self.content {
            reply = reply.then(block);
        }
        if let Some(reason) = self.stop_reason {
            reply = reply.stop_reason(reason);
        }
        if let Some(category) = self.refusal {
            reply = reply.refusal(&category, "as it was told");
        }
        if let Some(usage) = self.usage {
            reply = reply.usage(Usage {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                cache_creation_input_tokens: usage.cache_creation_input_tokens,
                cache_read_input_tokens: usage.cache_read_input_tokens,
            });
        }
        let whole = render(format, &reply);
        if !self.hold {
            return Answer::Whole(whole);
        }
        // All deltas are out, the block is not closed: a message that never becomes whole.
        let text = String::from_utf8_lossy(&whole);
        let end = text.rfind(match format {
            Format::Messages => "event: content_block_stop",
            Format::Chat => "data: {\"choices\":[{\"delta\":{},",
        });
        Answer::Held(whole.slice(..end.unwrap_or(whole.len())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ask(messages: Value) -> Result<Answer, String> {
        let told = told(
            Format::Messages,
            json!({"messages": messages}).to_string().as_bytes(),
        );
        told.map(|told| told.answer)
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": [{"type": "text", "text": text}]})
    }

    #[track_caller]
    fn check(messages: Value, expected: &str) {
        let Ok(Answer::Whole(bytes)) = ask(messages) else {
            panic!("no whole answer");
        };
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(expected), "{text} has no {expected}");
    }

    #[test]
    fn each_model_turn_takes_the_next_reply_and_other_messages_change_nothing() {
        let model = || json!({"role": "assistant", "content": "x"});
        let list = || {
            user(
                r#"reply: [{"content": [{"type": "text", "text": "one"}]},
                {"content": [{"type": "text", "text": "two"}], "usage": {"output_tokens": 7}}]"#,
            )
        };
        check(json!([user("before"), model(), list()]), "\"text\":\"one\"");
        check(json!([list(), model(), user("steer")]), "\"text\":\"two\"");
        check(
            json!([list(), model(), user("steer")]),
            "\"output_tokens\":7",
        );
        check(
            json!([list(), model(), user("a"), model(), user("b")]),
            "Nothing was dictated",
        );
        check(json!([list(), model(), list()]), "\"text\":\"one\"");
        check(json!([user("hello")]), "Nothing was dictated");
        assert!(ask(json!([user("reply: [{\"contents\": []}]")])).is_err());
        assert!(ask(json!([user("reply: what")])).is_err());
    }

    #[test]
    fn a_reply_can_be_an_error_silence_or_held_back() {
        let error =
            r#"reply: [{"error": {"status": 529, "type": "overloaded_error", "message": "full"}}]"#;
        let Ok(Answer::Error(error)) = ask(json!([user(error)])) else {
            panic!("no error");
        };
        assert_eq!(
            (error.status, error.kind.as_str()),
            (529, "overloaded_error")
        );
        assert_eq!(
            ask(json!([user("reply: [{\"silent\": true}]")])),
            Ok(Answer::Silent)
        );
        let held = r#"reply: [{"content": [{"type": "text", "text": "half"}], "hold": true}]"#;
        let Ok(Answer::Held(bytes)) = ask(json!([user(held)])) else {
            panic!("not held");
        };
        let text = String::from_utf8_lossy(&bytes);
        let gated = r#"reply: [{"content": [], "gate": "one"}]"#;
        let request = json!({"messages": [user(gated)]}).to_string();
        let gate = told(Format::Messages, request.as_bytes()).unwrap().gate;
        assert_eq!(gate.as_deref(), Some("one"));
        assert!(
            text.contains("half") && !text.contains("message_stop"),
            "{text}"
        );
    }
}
