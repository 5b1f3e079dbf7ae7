//! The two wire forms that a reply can take (pure).

use bytes::Bytes;
use serde_json::json;

use super::reply::{Body, Edit, Reply};
use super::{chat, wire};

/// A wire form of requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Messages API: `POST /v1/messages`.
    Messages,
    /// Chat completions: `POST /v1/chat/completions`.
    Chat,
}

impl Format {
    /// The path that requests of this form are posted to.
    pub fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::Chat => "/v1/chat/completions",
        }
    }

    /// The frames of the answer to request `number`, edits applied.
    pub(super) fn frames(self, reply: &Reply, number: usize, model: &str) -> Vec<Bytes> {
        let mut frames = match &reply.body {
            Body::Message(message) => match self {
                Self::Messages => wire::frames(message, &message_id("msg_01", number), model),
                Self::Chat => chat::frames(message, &message_id("chatcmpl-01", number), model),
            },
            Body::Error { kind, message } => vec![self.error_body(kind, message, number)],
            Body::Raw(bytes) => vec![bytes.clone()],
            Body::HangUp => vec![],
        };
        for edit in &reply.edits {
            self.edit(edit, &mut frames);
        }
        frames
    }

    fn edit(self, edit: &Edit, frames: &mut Vec<Bytes>) {
        let mut insert = |at: usize, frame: Bytes| frames.insert(at.min(frames.len()), frame);
        match (edit, self) {
            (Edit::Insert { at, frame }, _) => insert(*at, frame.clone()),
            (Edit::UnknownEvent, Self::Messages) => {
                let data = json!({"type": "weather_report", "sky": "clear"});
                insert(1, wire::frame("weather_report", &data));
            }
            (Edit::UnknownEvent, Self::Chat) => {
                insert(
                    1,
                    chat::frame(&json!({"object": "weather.report", "sky": "clear"})),
                );
            }
            (Edit::MalformedEvent, Self::Messages) => insert(
                1,
                Bytes::from_static(
                    b"event: content_block_start\ndata: {\"type\":\"content_block_st\n\n",
                ),
            ),
            (Edit::MalformedEvent, Self::Chat) => {
                insert(1, Bytes::from_static(b"data: {\"choices\":[{\"ind\n\n"));
            }
            (
                Edit::ErrorAfter {
                    frames: kept,
                    kind,
                    message,
                },
                _,
            ) => {
                frames.truncate(*kept);
                frames.push(match self {
                    Self::Messages => wire::error_frame(kind, message),
                    Self::Chat => chat::error_frame(kind, message),
                });
            }
            (Edit::WithoutStop, Self::Messages) => drop(frames.pop()),
            (Edit::WithoutStop, Self::Chat) => {
                frames.truncate(frames.len().saturating_sub(chat::CLOSING_FRAMES));
            }
        }
    }

    /// The place of the first frame with something the model says.
    pub(super) fn first_token(self, frames: &[Bytes]) -> Option<usize> {
        frames.iter().position(|frame| match self {
            Self::Messages => frame.starts_with(b"event: content_block_delta"),
            Self::Chat => chat::is_token(frame),
        })
    }

    /// The body of a refused request.
    pub(super) fn error_body(self, kind: &str, message: &str, number: usize) -> Bytes {
        match self {
            Self::Messages => wire::error_body(kind, message, &request_id(number)),
            Self::Chat => chat::error_body(kind, message),
        }
    }
}

/// Fixed width, so that byte positions do not depend on how many requests came before.
fn message_id(prefix: &str, number: usize) -> String {
    format!("{prefix}scripted{number:08}")
}

/// The `request-id` of the answer to request `number`.
pub(super) fn request_id(number: usize) -> String {
    format!("req_01scripted{number:08}")
}
