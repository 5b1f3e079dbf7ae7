//! What travels between instances. Losing any of it costs time or previews, never an event.

use std::borrow::Cow;

use manyhands_protocol::{SessionId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::tail::remote::Numbered;

/// A message's subject; on PostgreSQL the channel it is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// A session wants a brain.
    Wish,
    /// A session's log has grown, or is gone.
    Log,
    /// Who listens to what.
    Interest,
    /// Previews.
    Preview,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Wish, Self::Log, Self::Interest, Self::Preview];

    /// Its name on PostgreSQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wish => "manyhands_wish",
            Self::Log => "manyhands_log",
            Self::Interest => "manyhands_interest",
            Self::Preview => "manyhands_preview",
        }
    }
}

/// One message, to all instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Message {
    /// A session wants a brain, and the instance that wrote to it could not grant the lease to itself.
    Wish {
        instance: String,
        workspace: WorkspaceId,
        session: SessionId,
        /// A place with a living brain that goes first; anybody without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
        /// The living instance that holds the session: it has new input.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holder: Option<String>,
    },
    /// A session's log has entries up to a position.
    Log { session: SessionId, last: i64 },
    /// A session was deleted; with the rendered event.
    Deleted { session: SessionId, event: String },
    /// From now on an instance has listeners of these sessions, or none any more.
    Interest {
        instance: String,
        sessions: Vec<SessionId>,
        on: bool,
    },
    /// An instance hears others from now on, and what it said of its interest before is void.
    Hello { instance: String },
    /// Messages of an instance were lost: whoever listens to something looks at the log.
    Lost { instance: String },
    /// A preview of a session, shown by an instance to its own listeners already.
    Preview {
        instance: String,
        session: SessionId,
        #[serde(flatten)]
        numbered: Numbered,
    },
}

/// The longest payload that PostgreSQL carries has 7,999 bytes.
pub(crate) const LONGEST: usize = 7_900;

impl Message {
    pub(crate) fn channel(&self) -> Channel {
        match self {
            Self::Wish { .. } => Channel::Wish,
            Self::Log { .. } | Self::Deleted { .. } | Self::Lost { .. } => Channel::Log,
            Self::Interest { .. } | Self::Hello { .. } => Channel::Interest,
            Self::Preview { .. } => Channel::Preview,
        }
    }

    /// Its text; `None` when it is too long to be sent.
    pub(crate) fn payload(&self) -> Option<String> {
        let text = serde_json::to_string(self).ok()?;
        (text.len() <= LONGEST).then_some(text)
    }

    /// Reads a text. What a newer program says and this one does not know is ignored.
    pub(crate) fn read(payload: &str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    /// The session of which only the newest such message matters.
    pub(crate) fn replaces(&self) -> Option<Cow<'_, SessionId>> {
        match self {
            Self::Log { session, .. } => Some(Cow::Borrowed(session)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::EventId;
    use manyhands_protocol::content::ContentBlock;
    use manyhands_protocol::event::{Preview, PreviewDelta};

    use super::*;

    fn preview(text: &str) -> Message {
        Message::Preview {
            instance: "a".to_owned(),
            session: SessionId::generate(),
            numbered: Numbered {
                after: 3,
                number: 1,
                preview: Preview::EventDelta {
                    event_id: EventId::generate(),
                    delta: PreviewDelta::ContentDelta {
                        index: 0,
                        content: ContentBlock::text(text.to_owned()),
                    },
                },
            },
        }
    }

    #[test]
    fn what_was_sent_is_read() {
        let (session, instance) = (SessionId::generate(), "a".to_owned());
        for message in [
            Message::Wish {
                instance: instance.clone(),
                workspace: WorkspaceId::generate(),
                session: session.clone(),
                place: Some("here".to_owned()),
                holder: None,
            },
            Message::Log {
                session: session.clone(),
                last: 7,
            },
            Message::Deleted {
                session: session.clone(),
                event: "{\"type\":\"session.deleted\"}".to_owned(),
            },
            Message::Interest {
                instance: instance.clone(),
                sessions: vec![session],
                on: true,
            },
            Message::Hello {
                instance: instance.clone(),
            },
            Message::Lost { instance },
            preview("a \"fragment\" with a \0"),
        ] {
            let payload = message.payload().unwrap();
            assert_eq!(Message::read(&payload), Some(message), "{payload}");
        }
        assert_eq!(Message::read(r#"{"is":"of_a_newer_program"}"#), None);
    }

    #[test]
    fn a_fragment_that_is_too_long_is_not_sent() {
        assert!(preview(&"x".repeat(LONGEST / 2)).payload().is_some());
        assert_eq!(preview(&"x".repeat(LONGEST)).payload(), None);
        let escaped = preview(&"\u{1}".repeat(LONGEST / 2));
        assert_eq!(escaped.payload(), None, "its length as sent counts");
    }
}
