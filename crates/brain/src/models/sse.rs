//! Server-sent events of an upstream that is not trusted: bounded in line, event, total and idle time (security MODEL-4).

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use sse_stream::SseByteStream;

/// How much of an answer is read before it counts as broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    /// Bytes of one line.
    pub(super) line: usize,
    /// Bytes of one event.
    pub(super) event: usize,
    /// Bytes in all.
    pub(super) total: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            line: 8 << 20,
            event: 8 << 20,
            total: 64 << 20,
        }
    }
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// Nothing came for too long.
    #[error("nothing came for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// More than a cap allows.
    #[error("{0} is longer than any legal one")]
    TooLong(&'static str),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// The data of each event, in order. Events without data are left out; an unfinished last event is dropped. The first
/// bytes may take `first`, all others `idle`.
pub(super) fn events<S, E>(
    bytes: S,
    caps: Caps,
    first: Duration,
    idle: Duration,
) -> impl Stream<Item = Result<String, ReadError>> + Send
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: std::error::Error + 'static,
{
    let mut meter = Meter::new(caps);
    let begin = Some((Box::pin(bytes), first));
    let timed = stream::unfold(begin, move |state| async move {
        let (mut bytes, limit) = state?;
        match tokio::time::timeout(limit, bytes.next()).await {
            Err(_) => Some((Err(ReadError::Silent(limit)), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(ReadError::Broken(chain(&error))), None)),
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some((bytes, idle)))),
        }
    });
    let capped = timed.map(move |item| item.and_then(|bytes| meter.admit(&bytes).map(|()| bytes)));
    SseByteStream::new(Box::pin(capped)).filter_map(|item| async {
        match item {
            Ok(event) => event.data.map(Ok),
            Err(sse_stream::Error::Body(cause)) => Some(Err(match cause.downcast::<ReadError>() {
                Ok(error) => *error,
                Err(other) => ReadError::Broken(other.to_string()),
            })),
            Err(other) => Some(Err(ReadError::Broken(other.to_string()))),
        }
    })
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Counts bytes since the last line end, the last empty line, and the start.
struct Meter {
    caps: Caps,
    line: usize,
    event: usize,
    total: usize,
}

impl Meter {
    fn new(caps: Caps) -> Self {
        Self {
            caps,
            line: 0,
            event: 0,
            total: 0,
        }
    }

    fn admit(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.total += bytes.len();
        if self.total > self.caps.total {
            return Err(ReadError::TooLong("the answer"));
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n' || *byte == b'\r') {
            let ended = piece.ends_with(b"\n") || piece.ends_with(b"\r");
            let content = piece.len() - usize::from(ended);
            self.line += content;
            self.event += content;
            if self.line > self.caps.line {
                return Err(ReadError::TooLong("a line"));
            }
            if self.event > self.caps.event {
                return Err(ReadError::TooLong("an event"));
            }
            if ended {
                if self.line == 0 {
                    self.event = 0;
                }
                self.line = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_4_lines_events_and_answers_are_bounded() {
        #[track_caller]
        fn check(chunks: &[&str], expected: Option<&str>) {
            let mut meter = Meter::new(Caps {
                line: 10,
                event: 16,
                total: 60,
            });
            let found = chunks
                .iter()
                .find_map(|chunk| meter.admit(chunk.as_bytes()).err());
            match (found, expected) {
                (Some(ReadError::TooLong(what)), Some(expected)) => assert_eq!(what, expected),
                (None, None) => {}
                (found, expected) => panic!("{found:?} is not {expected:?}"),
            }
        }
        check(&["data: 1\n\n", "data: 2\n\n"], None);
        check(&["data:", " 123", "456"], Some("a line"));
        check(&["data: 12\ndata: 3\n", "data: 4\n"], Some("an event"));
        check(&["data: 12\n\ndata: 3\n\ndata: 4\n\n"], None);
        check(&["data: 12\r\n\r\ndata: 3\r\n\r\n"], None);
        check(&[": 3456789\n\n"; 7], Some("the answer"));
    }
}
