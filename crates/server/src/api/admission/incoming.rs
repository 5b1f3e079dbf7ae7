//! What clients may send into a session, read and checked entry by entry (api §9.1, runtime SE-1, SE-12, SE-13).

use manyhands_protocol::content::{ContentBlock, Source};
use manyhands_protocol::{EventId, ThreadId};
use serde::Deserialize;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::json;

const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";
const PLAIN: &str = "text/plain";

/// A checked event of a client, before anything is known about the session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    /// `user.message`.
    Message {
        /// At least one block.
        content: Vec<ContentBlock>,
    },
    /// `user.interrupt`.
    Interrupt {
        /// The thread it names.
        thread: Option<ThreadId>,
    },
    /// `user.custom_tool_result`.
    CustomToolResult {
        /// The tool-use event.
        call: EventId,
        /// What the tool gave.
        content: Option<Vec<ContentBlock>>,
        /// Whether it failed.
        is_error: Option<bool>,
    },
    /// `user.tool_confirmation`: whether it answers anything is for the session's state to say.
    Confirmation {
        /// The tool-use event.
        call: EventId,
    },
}

impl Incoming {
    /// The tool-use event it answers.
    pub(crate) fn call(&self) -> Option<&EventId> {
        match self {
            Self::CustomToolResult { call, .. } | Self::Confirmation { call } => Some(call),
            Self::Message { .. } | Self::Interrupt { .. } => None,
        }
    }
}

/// Reads the `events` of a send (runtime SE-1). One bad entry refuses all (runtime HT-15).
pub(crate) fn read_events(events: &[Value]) -> Result<Vec<Incoming>, ApiError> {
    if events.is_empty() {
        return Err(ApiError::field("events", "must not be empty"));
    }
    let numbered = events.iter().enumerate();
    numbered
        .map(|(index, event)| read(event, &format!("events[{index}]")))
        .collect()
}

/// Reads the `initial_events` of a session create (runtime LC-6).
pub(crate) fn read_initial_events(events: &[Value]) -> Result<Vec<Incoming>, ApiError> {
    const MOST: usize = 50;
    if events.len() > MOST {
        let problem = format!("has {} events; at most {MOST} are allowed", events.len());
        return Err(ApiError::field("initial_events", problem));
    }
    let numbered = events.iter().enumerate();
    let read_one = |(index, event)| {
        let at = format!("initial_events[{index}]");
        match json::tag(event, &at)? {
            "user.message" | "user.define_outcome" => read(event, &at),
            _ => {
                let problem =
                    "a session starts with user.message or user.define_outcome events only";
                Err(ApiError::field(format!("{at}.type"), problem))
            }
        }
    };
    numbered.map(read_one).collect()
}

fn read(event: &Value, at: &str) -> Result<Incoming, ApiError> {
    match json::tag(event, at)? {
        "user.message" => {
            let params: MessageParams = json::entry(event, at)?;
            let content = content(&params.content, at, Place::Message)?;
            if content.is_empty() {
                return Err(ApiError::field(
                    format!("{at}.content"),
                    "must not be empty",
                ));
            }
            Ok(Incoming::Message { content })
        }
        "user.interrupt" => {
            let params: InterruptParams = json::entry(event, at)?;
            Ok(Incoming::Interrupt {
                thread: params.session_thread_id,
            })
        }
        "user.custom_tool_result" => {
            let params: CustomToolResultParams = json::entry(event, at)?;
            let content = params
                .content
                .map(|blocks| content(&blocks, at, Place::ToolResult))
                .transpose()?;
            Ok(Incoming::CustomToolResult {
                call: params.custom_tool_use_id,
                content,
                is_error: params.is_error,
            })
        }
        "user.tool_confirmation" => {
            let params: ConfirmationParams = json::entry(event, at)?;
            if params.deny_message.is_some() && params.result != "deny" {
                return Err(ApiError::field(
                    format!("{at}.deny_message"),
                    "goes only with the result \"deny\"",
                ));
            }
            Ok(Incoming::Confirmation {
                call: params.tool_use_id,
            })
        }
        "user.tool_result" => {
            let problem =
                "only sessions in self-hosted environments take results of built-in tools";
            Err(ApiError::field(format!("{at}.type"), problem))
        }
        name @ ("user.define_outcome" | "system.message") => {
            Err(ApiError::not_built(format!("{at}.type"), name))
        }
        name => Err(ApiError::field(
            format!("{at}.type"),
            format!("{name:?} is not an event that clients send"),
        )),
    }
}

#[derive(Deserialize)]
struct MessageParams {
    content: Vec<Value>,
}

#[derive(Deserialize)]
struct InterruptParams {
    #[serde(default)]
    session_thread_id: Option<ThreadId>,
}

#[derive(Deserialize)]
struct CustomToolResultParams {
    custom_tool_use_id: EventId,
    #[serde(default)]
    content: Option<Vec<Value>>,
    #[serde(default)]
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct ConfirmationParams {
    tool_use_id: EventId,
    result: String,
    #[serde(default)]
    deny_message: Option<String>,
}

/// Where content stands: messages hold no search results.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Message,
    ToolResult,
}

fn content(blocks: &[Value], at: &str, place: Place) -> Result<Vec<ContentBlock>, ApiError> {
    let numbered = blocks.iter().enumerate();
    let read_one = |(index, block)| {
        let at = format!("{at}.content[{index}]");
        let block: ContentBlock = json::entry(block, &at)?;
        check(&block, &at, place).map(|()| block)
    };
    numbered.map(read_one).collect()
}

fn check(block: &ContentBlock, at: &str, place: Place) -> Result<(), ApiError> {
    match block {
        ContentBlock::Text { text } if text.trim().is_empty() => {
            Err(ApiError::field(format!("{at}.text"), "must not be empty"))
        }
        ContentBlock::Text { .. } => Ok(()),
        ContentBlock::Image { source } => check_source(source, at, &IMAGES, false),
        ContentBlock::Document { source, .. } => check_source(source, at, &[PDF], true),
        ContentBlock::SearchResult { .. } if place == Place::ToolResult => Ok(()),
        ContentBlock::SearchResult { .. } => Err(ApiError::field(
            format!("{at}.type"),
            "a message holds text, image and document blocks",
        )),
        ContentBlock::Redacted => Err(ApiError::field(
            format!("{at}.type"),
            "clients cannot send redacted blocks",
        )),
    }
}

fn check_source(
    source: &Source,
    at: &str,
    media_types: &[&str],
    text: bool,
) -> Result<(), ApiError> {
    let at = format!("{at}.source");
    match source {
        Source::Base64 { data, media_type } => {
            if !media_types.contains(&media_type.as_str()) {
                let problem = format!("{media_type:?} is not one of {}", media_types.join(", "));
                return Err(ApiError::field(format!("{at}.media_type"), problem));
            }
            let decoded = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data);
            if decoded.is_ok_and(|bytes| !bytes.is_empty()) {
                return Ok(());
            }
            Err(ApiError::field(
                format!("{at}.data"),
                "is not base64 of some bytes",
            ))
        }
        Source::Text { data, media_type } if text => {
            if media_type != PLAIN {
                return Err(ApiError::field(
                    format!("{at}.media_type"),
                    format!("expected {PLAIN:?}"),
                ));
            }
            if data.trim().is_empty() {
                return Err(ApiError::field(format!("{at}.data"), "must not be empty"));
            }
            Ok(())
        }
        Source::Text { .. } => Err(ApiError::field(
            format!("{at}.type"),
            "an image has no text source",
        )),
        Source::Url { .. } => Err(ApiError::not_built(format!("{at}.type"), "a url source")),
        Source::File { .. } => Err(ApiError::not_built(format!("{at}.type"), "a file source")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(event: Value, message: &str) {
        let error = read_events(&[json!({"type": "user.interrupt"}), event]).expect_err("refused");
        assert!(error.message().starts_with(message), "{}", error.message());
    }

    fn message(block: Value) -> Value {
        json!({"type": "user.message", "content": [block]})
    }

    #[test]
    fn se_1_se_12_se_13_what_cannot_be_sent_is_refused_by_name() {
        refused(json!("hello"), "events[1]: expected an object");
        refused(json!({"content": []}), "events[1].type: is required");
        refused(
            json!({"type": "user.shout"}),
            "events[1].type: \"user.shout\" is not an event that clients send",
        );
        refused(
            json!({"type": "agent.message", "content": []}),
            "events[1].type: \"agent.message\" is not",
        );
        refused(
            json!({"type": "user.message", "content": []}),
            "events[1].content: must not be empty",
        );
        refused(
            json!({"type": "user.message"}),
            "events[1]: missing field `content`",
        );
        refused(
            json!({"type": "user.message", "content": "hi"}),
            "events[1].content: invalid type: string",
        );
        refused(
            message(json!({"type": "text", "text": " \n"})),
            "events[1].content[0].text: must not be empty",
        );
        refused(message(json!({"type": "hologram"})), "events[1].content[0]");
        refused(
            message(json!({"type": "redacted"})),
            "events[1].content[0].type: clients cannot send redacted",
        );
        let search = json!({"type": "search_result", "source": "s", "title": "t", "content": []});
        refused(
            message(search),
            "events[1].content[0].type: a message holds text",
        );
        let url =
            json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}});
        refused(
            message(url),
            "events[1].content[0].source.type: a url source is not supported",
        );
        let file = json!({"type": "document", "source": {"type": "file", "file_id": "file_01"}});
        refused(
            message(file),
            "events[1].content[0].source.type: a file source is not supported",
        );
        let odd = json!({"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "aGk="}});
        refused(
            message(odd),
            "events[1].content[0].source.media_type: \"image/tiff\" is not one of",
        );
        let broken = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a"}});
        refused(
            message(broken),
            "events[1].content[0].source.data: is not base64",
        );
        refused(
            json!({"type": "user.tool_result", "tool_use_id": "sevt_01a"}),
            "events[1].type: only sessions in",
        );
        refused(
            json!({"type": "user.define_outcome"}),
            "events[1].type: user.define_outcome is not supported",
        );
        refused(
            json!({"type": "system.message"}),
            "events[1].type: system.message is not supported",
        );
    }

    #[test]
    fn id_4_a_result_names_an_event() {
        let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": "toolu_01"});
        refused(
            result,
            "events[1].custom_tool_use_id: expected an id that starts with \"sevt_\"",
        );
    }

    #[test]
    fn se_16_a_deny_message_goes_only_with_a_denial() {
        let event = json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_01a", "result": "allow",
            "deny_message": "no"});
        refused(event, "events[1].deny_message: goes only with");
    }

    #[test]
    fn lc_6_initial_events_are_messages_and_at_most_fifty() {
        let one = json!({"type": "user.message", "content": [{"type": "text", "text": "hi"}]});
        assert_eq!(
            read_initial_events(&vec![one.clone(); 50])
                .expect("fifty fit")
                .len(),
            50
        );
        let error = read_initial_events(&vec![one.clone(); 51]).expect_err("refused");
        assert_eq!(
            error.message(),
            "initial_events: has 51 events; at most 50 are allowed"
        );
        let error =
            read_initial_events(&[one, json!({"type": "user.interrupt"})]).expect_err("refused");
        assert!(
            error
                .message()
                .starts_with("initial_events[1].type: a session starts with")
        );
        assert_eq!(read_initial_events(&[]).expect("empty equals omitted"), []);
    }

    #[test]
    fn se_20_a_result_may_be_empty_and_failed() {
        let event = json!({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_01a", "is_error": true,
            "session_thread_id": "sthr_01old"});
        let expected = Incoming::CustomToolResult {
            call: EventId::parse("sevt_01a").expect("an id"),
            content: None,
            is_error: Some(true),
        };
        assert_eq!(read_events(&[event]).expect("accepted"), [expected]);
    }
}
