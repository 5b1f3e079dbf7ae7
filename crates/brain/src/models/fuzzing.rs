//! Doors for the fuzz targets to what is private here (security INP-6). No part of the server.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use manyhands_protocol::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

pub use super::openai::fuzzing::{completion, translated};
use super::sse::{Caps, events};
use super::{Delta, Response, Sink, assembly, input, refusal, retry_after};

/// The data of each event of a stream that comes in these pieces, and whether it was read to its end; with caps of `line`
/// bytes a line, twice that an event, and four times that in all.
pub async fn sse(pieces: Vec<Vec<u8>>, line: usize) -> (Vec<String>, bool) {
    let caps = Caps {
        line,
        event: 2 * line,
        total: 4 * line,
    };
    let pieces = pieces
        .into_iter()
        .map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
    let patience = Duration::from_secs(60);
    let events = events(futures::stream::iter(pieces), caps, patience, patience);
    let mut events = std::pin::pin!(events);
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(data) => all.push(data),
            Err(_) => return (all, false),
        }
    }
    (all, true)
}

/// The texts of an answer as they become known, by their blocks.
#[derive(Debug, Default)]
pub struct Shown {
    /// The text of each block that was announced.
    pub texts: Vec<String>,
}

impl Sink for Shown {
    fn delta(&mut self, delta: Delta<'_>) {
        match delta {
            Delta::Start { index, .. } => {
                assert_eq!(index, self.texts.len(), "blocks begin in their order");
                self.texts.push(String::new());
            }
            Delta::Text { index, text } => self.texts[index].push_str(text),
            Delta::Usage(_) => {}
        }
    }
}

/// The message that these events of the Messages API are, if they are one.
pub fn message<'d>(events: impl Iterator<Item = &'d str>, shown: &mut Shown) -> Option<Response> {
    let mut message = assembly::Assembly::default();
    for event in events {
        message.event(event, shown).ok()?;
        if message.is_finished() {
            break;
        }
    }
    message.finish().ok()
}

/// How long the answer with this `retry-after` asks to wait.
pub fn wait(value: &[u8], now: Timestamp) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_bytes(value).ok()?);
    retry_after::hint(&headers, now)
}

/// What a client reads of an error with this body.
pub fn refused(status: u16, body: &[u8]) -> String {
    let said = refusal::Said::parse(body);
    refusal::of_status(status, &said, "https://models.example").to_string()
}

/// A tool's input as it is replayed.
pub fn replayed(text: &str) -> String {
    input::replayed(text)
}
