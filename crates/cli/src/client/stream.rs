//! A session's stream: frames in, events and previews out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use manyhands_protocol::error::ErrorBody;
use manyhands_protocol::event::{Event, Preview};
use serde_json::Value;
use sse_stream::SseStream;

use super::Error;

/// The log's own cap on an event is far below.
const FRAME_BYTES: usize = 64 * 1024 * 1024;

/// One thing on the event stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// A logged event.
    Event(Box<Event>),
    /// A part of one that is being made.
    Preview(Preview),
    /// Of a type that this client does not know yet.
    Unknown,
}

type Frames = Pin<Box<dyn Stream<Item = Result<sse_stream::Sse, sse_stream::Error>> + Send>>;

/// An open event stream.
pub(crate) struct EventStream {
    frames: Frames,
    unframed: Arc<AtomicUsize>,
    last_id: Option<String>,
    last_data: String,
}

impl EventStream {
    /// Reads the frames of a body.
    pub(super) fn new<E: std::error::Error + Send + Sync + 'static>(
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Self {
        let unframed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&unframed);
        let capped = body.map(move |chunk| {
            let chunk = chunk.map_err(std::io::Error::other)?;
            if count.fetch_add(chunk.len(), Relaxed) > FRAME_BYTES {
                return Err(std::io::Error::other("an event larger than 64 MiB"));
            }
            Ok(chunk)
        });
        Self {
            frames: Box::pin(SseStream::from_bytes_stream(capped)),
            unframed,
            last_id: None,
            last_data: String::new(),
        }
    }

    /// The `id:` of the last frame that had one.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The last item as it came, on one line of JSON.
    pub(crate) fn last_data(&self) -> &str {
        &self.last_data
    }

    /// The next event or preview; pings are skipped.
    pub(crate) async fn next(&mut self) -> Result<Item, Error> {
        loop {
            let frame = match self.frames.next().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    return Err(Error::StreamBroke {
                        reason: innermost(&error),
                    });
                }
                None => {
                    return Err(Error::StreamBroke {
                        reason: "the server ended it".to_owned(),
                    });
                }
            };
            self.unframed.store(0, Relaxed);
            if let Some(id) = frame.id {
                self.last_id = Some(id);
            }
            let name = frame.event.unwrap_or_default();
            let Some(data) = frame.data.filter(|_| name != "ping") else {
                continue;
            };
            if name == "error" {
                let reason = serde_json::from_str::<ErrorBody>(&data)
                    .map_or(data, |body| body.error.message);
                return Err(Error::StreamBroke { reason });
            }
            let item = read_item(&data);
            self.last_data = data;
            return item;
        }
    }
}

fn read_item(data: &str) -> Result<Item, Error> {
    let malformed = |source| Error::Malformed {
        what: "the event stream",
        source,
    };
    let value: Value = serde_json::from_str(data).map_err(malformed)?;
    let kind = value["type"].as_str().unwrap_or_default();
    if matches!(kind, "event_start" | "event_delta") {
        // Previews are a courtesy: one that cannot be read is left out, the whole event follows.
        return Ok(serde_json::from_value(value).map_or(Item::Unknown, Item::Preview));
    }
    let known =
        kind == "session.deleted" || manyhands_protocol::event::PERSISTED_TYPES.contains(&kind);
    if !known {
        return Ok(Item::Unknown);
    }
    serde_json::from_value(value)
        .map(|event| Item::Event(Box::new(event)))
        .map_err(malformed)
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
