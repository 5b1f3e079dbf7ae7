//! Following a session's stream as cheaply as can be: names of events, no JSON.

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// The event names a bench waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// `event_delta`: a token has arrived.
    Delta,
    /// `session.status_idle`: the turn is over.
    Idle,
    /// `user.message`: something was sent, or taken up.
    Message,
    /// `session.error`: the turn went wrong.
    Error,
    /// Any other.
    Other,
}

/// An open stream.
pub(crate) struct Tail {
    body: Incoming,
    lines: Lines,
}

impl Tail {
    /// Follows the body of a stream's answer.
    pub(crate) fn new(body: Incoming) -> Self {
        Self {
            body,
            lines: Lines::default(),
        }
    }

    /// Waits for an event of this name.
    ///
    /// # Errors
    /// When the stream ends, or the turn goes wrong first.
    pub(crate) async fn until(&mut self, wanted: Name) -> Result<()> {
        loop {
            while let Some(name) = self.lines.next() {
                if name == wanted {
                    return Ok(());
                }
                if name == Name::Error {
                    bail!("a session.error on the stream");
                }
            }
            let frame = self.body.frame().await.context("the stream ended")?;
            if let Ok(data) = frame?.into_data() {
                self.lines.push(&data);
            }
        }
    }
}

/// Finds `event:` lines in bytes that come in any pieces.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
}

impl Lines {
    fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    fn next(&mut self) -> Option<Name> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
            let line = self.buffer.split_to(end + 1);
            if let Some(name) = line.strip_prefix(b"event:") {
                return Some(match name.trim_ascii() {
                    b"event_delta" => Name::Delta,
                    b"session.status_idle" => Name::Idle,
                    b"user.message" => Name::Message,
                    b"session.error" => Name::Error,
                    _ => Name::Other,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_names_however_the_bytes_are_cut() {
        let text = b": hi\n\nevent: event_delta\nid: 1\ndata: {\"event\": 1}\n\nevent:session.status_idle\r\ndata: x\n\nevent: agent.message\n\nevent: user.message\n\nevent: session.error\n\n";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut names = vec![];
            for piece in text.chunks(size) {
                lines.push(piece);
                names.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(
                names,
                [
                    Name::Delta,
                    Name::Idle,
                    Name::Other,
                    Name::Message,
                    Name::Error
                ]
            );
        }
    }
}
