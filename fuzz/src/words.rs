//! The words that everyone speaks: ids, times, events.

use manyhands_protocol::event::EventBody;
use manyhands_protocol::{AgentId, SessionId, Timestamp};

use crate::{is_one_line, text};

/// An id is a prefix and plain letters, and stays itself.
pub(crate) fn id(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let ids = [
        (
            AgentId::PREFIX,
            AgentId::parse(text).map(|id| id.to_string()),
        ),
        (
            SessionId::PREFIX,
            SessionId::parse(text).map(|id| id.to_string()),
        ),
    ];
    for (prefix, id) in ids {
        let Ok(id) = id else { continue };
        assert_eq!(id, text);
        let tail = id.strip_prefix(prefix).expect("its prefix");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        assert!(!tail.is_empty() && tail.bytes().all(plain) && id.len() <= 128);
    }
}

/// A time is written in one form, in UTC, and is read as itself.
pub(crate) fn timestamp(bytes: &[u8]) {
    let Some(Ok(time)) = text(bytes).map(Timestamp::parse) else {
        return;
    };
    let written = time.to_string();
    assert!(is_one_line(&written) && written.ends_with('Z'), "{written}");
    assert_eq!(Timestamp::parse(&written), Ok(time), "{written}");
    assert_eq!(Timestamp::from_micros(time.as_micros()), time);
}

/// An event that is read is written as what it was read as, on one line.
pub(crate) fn event_body(bytes: &[u8]) {
    let Ok(event) = serde_json::from_slice::<EventBody>(bytes) else {
        return;
    };
    let written = serde_json::to_string(&event).expect("it can be written");
    assert!(!written.contains(['\n', '\r']), "{written}");
    let again: EventBody = serde_json::from_str(&written).expect("it can be read again");
    let [again, event] = [again, event].map(|event| serde_json::to_value(event).expect("JSON"));
    assert_eq!(again, event);
}
