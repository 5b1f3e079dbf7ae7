//! Reading a session's event stream (api §9.3, §9.4).

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use hyper::body::Incoming;
use serde_json::Value;
use sse_stream::{Sse, SseStream};

use crate::gate::PATIENCE;

/// The types of a turn's events in which the model says something and calls nothing, as a stream tells them.
pub const PLAIN_TURN: [&str; 10] = [
    "user.message",
    "session.thread_status_running",
    "session.status_running",
    "user.message",
    "span.model_request_start",
    "agent.message",
    "span.model_request_end",
    "session.thread_status_idle",
    "session.usage",
    "session.status_idle",
];

/// One frame that carries data.
#[derive(Clone, Debug)]
pub struct Event {
    /// The frame's `event:` name, empty if it has none.
    pub name: String,
    /// The frame's `id:`.
    pub id: Option<String>,
    /// The data line, parsed.
    pub data: Value,
}

impl Event {
    /// The `type` of the event.
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_default()
    }
}

type Frames = Pin<Box<dyn futures::Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// An open stream. Comments and pings are skipped.
pub struct EventStream {
    frames: Frames,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("EventStream")
    }
}

impl EventStream {
    /// Reads frames from the body of an answer.
    pub fn new(body: Incoming) -> Self {
        Self {
            frames: Box::pin(SseStream::new(body)),
        }
    }

    /// The next event, or `None` when the stream has ended or broken.
    ///
    /// # Panics
    /// When neither happens within `timeout`, or the data is not JSON.
    pub async fn next_event(&mut self, timeout: Duration) -> Option<Event> {
        let next = tokio::time::timeout(timeout, self.next());
        let next = next.await;
        next.unwrap_or_else(|_| panic!("no event on the stream within {timeout:?}"))
    }

    /// All events up to and with the first of this type, each within [`PATIENCE`] of the one before.
    ///
    /// # Panics
    /// When the stream ends or goes silent first.
    pub async fn until(&mut self, kind: &str) -> Vec<Event> {
        let mut events = vec![];
        loop {
            let next = tokio::time::timeout(PATIENCE, self.next()).await;
            let Ok(Some(event)) = next else {
                let why = if next.is_ok() { "ended" } else { "went silent" };
                let kinds: Vec<&str> = events.iter().map(Event::kind).collect();
                panic!("the stream {why} before {kind}, after {kinds:?}");
            };
            let last = event.kind() == kind;
            events.push(event);
            if last {
                return events;
            }
        }
    }

    /// All events up to and with `session.status_idle`.
    ///
    /// # Panics
    /// As [`EventStream::until`].
    pub async fn until_idle(&mut self) -> Vec<Event> {
        self.until("session.status_idle").await
    }

    /// The next event, however long it takes; `None` when the stream has ended or broken.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let frame = self.frames.next().await?.ok()?;
            let name = frame.event.unwrap_or_default();
            let Some(data) = frame.data.filter(|_| name != "ping") else {
                continue;
            };
            let data = serde_json::from_str(&data)
                .unwrap_or_else(|error| panic!("{error} in the event {data:?}"));
            return Some(Event {
                name,
                id: frame.id,
                data,
            });
        }
    }
}
