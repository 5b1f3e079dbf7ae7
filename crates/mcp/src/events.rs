//! Server-sent events of a server that is not trusted: each is bounded, and all together are (security INP-1).

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use reqwest::Response;
use sse_stream::{Sse, SseByteStream};
use tokio::time::timeout;

/// How long an answer that has said everything may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// Why there are no more events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("an event is longer than {0} bytes")]
    TooLarge(usize),
    #[error("the stream says too much")]
    Endless,
    #[error("the stream broke off")]
    Cut,
    #[error("the stream is not one of events")]
    Syntax,
}

/// The events of an answer.
pub(crate) struct Events(Pin<Box<dyn Stream<Item = Result<Sse, Broken>> + Send>>);

impl Events {
    /// Of events with at most `most` bytes each, and `total` together.
    pub(crate) fn new(response: Response, most: usize, total: usize) -> Self {
        let mut meter = Meter::new(most, total);
        let bytes = response.bytes_stream().map(move |piece| {
            let piece = piece.map_err(|_| Broken::Cut)?;
            meter.admit(&piece).map(|()| piece)
        });
        Self(Box::pin(SseByteStream::new(Box::pin(bytes)).map(|item| {
            item.map_err(|error| match error {
                sse_stream::Error::Body(cause) => match cause.downcast::<Broken>() {
                    Ok(broken) => *broken,
                    Err(_) => Broken::Cut,
                },
                _ => Broken::Syntax,
            })
        })))
    }

    /// The next one; `None` at the end of the answer.
    pub(crate) async fn next(&mut self) -> Option<Result<Sse, Broken>> {
        self.0.next().await
    }

    /// What was waited for is there: the answer may end by itself, which leaves its connection to the next request.
    pub(crate) fn leave(mut self) {
        tokio::spawn(async move { drop(timeout(ENDING, self.next()).await) });
    }
}

/// Counts bytes since the last empty line, and since the start.
struct Meter {
    most: usize,
    event: usize,
    /// What may still come.
    left: usize,
    line_is_empty: bool,
}

impl Meter {
    fn new(most: usize, total: usize) -> Self {
        Self {
            most,
            event: 0,
            left: total,
            line_is_empty: true,
        }
    }

    fn admit(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(Broken::Endless)?;
        for byte in bytes {
            let ends_line = matches!(byte, b'\n' | b'\r');
            self.event += 1;
            if self.event > self.most {
                return Err(Broken::TooLarge(self.most));
            }
            if ends_line && self.line_is_empty {
                self.event = 0;
            }
            self.line_is_empty = ends_line;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inp_1_an_event_is_bounded_and_so_are_all_together() {
        #[track_caller]
        fn check(pieces: &[&str], fits: bool) {
            let mut meter = Meter::new(20, 80);
            let refused = pieces
                .iter()
                .find_map(|piece| meter.admit(piece.as_bytes()).err());
            assert_eq!(refused.is_none(), fits, "{pieces:?}");
        }
        check(
            &["data: 1\n\n", "data: 2\r\n\r\n", "id: 1\ndata: 3\n\n"],
            true,
        );
        check(&["data:", " 123", "456", "789", "012", "345"], false);
        check(&["data: 123\ndata: 45\n", "data: 6"], false);
        check(&[":\n\n"; 26], true);
        check(&[":\n\n"; 27], false);
    }
}
