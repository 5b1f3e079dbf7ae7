//! The connection to the `sandboxd` of a sandbox: many requests at once, each answered in its own time.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_sandboxd::frame::{self, Answer, Op, PROTOCOL, Reply, Request};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};

/// An open connection.
pub(super) struct Link {
    shared: Arc<Shared>,
    writer: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
}

struct Shared {
    state: Mutex<State>,
    closed: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Requests without an answer yet.
    open: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The connection is gone.
    Closed,
    /// The request is too long to be sent.
    TooLong(usize),
}

/// Why a greeting has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The connection ended first.
    Closed,
    /// What is at the other end does not answer as it should.
    Mute(String),
}

impl Link {
    /// The connection over a stream's two halves.
    pub(super) fn over(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            closed: watch::Sender::new(false),
        });
        tokio::spawn(read(reader, Arc::clone(&shared)));
        Self {
            shared,
            writer: tokio::sync::Mutex::new(Box::new(writer)),
        }
    }

    /// Says hello; the instance that answers within `limit`.
    pub(super) async fn greet(&self, limit: Duration) -> Result<String, Unanswered> {
        let hello = self.ask(Op::Hello { protocol: PROTOCOL });
        match tokio::time::timeout(limit, hello).await {
            Ok(Ok(Answer::Hello { instance, .. })) => Ok(instance),
            Ok(Ok(other)) => Err(Unanswered::Mute(format!("it answered {other:?}"))),
            Ok(Err(Failed::Closed | Failed::TooLong(_))) => Err(Unanswered::Closed),
            Err(_) => Err(Unanswered::Mute("it did not answer in time".to_owned())),
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, op: Op) -> Result<Answer, Failed> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(Failed::Closed);
            }
            state.next += 1;
            let id = state.next;
            state.open.insert(id, sender);
            id
        };
        // However this ends, also when the caller gives up: an answer that nobody waits for is dropped.
        let _open = Open {
            shared: &self.shared,
            id,
        };
        let bytes = frame::encode(&Request { id, op }).map_err(|error| match error {
            frame::Error::TooLong(length) => Failed::TooLong(length),
            frame::Error::Io(_) | frame::Error::Shape(_) => Failed::Closed,
        })?;
        self.send(bytes).await?;
        answer.await.map_err(|_| Failed::Closed)
    }

    /// Writes a frame. One cut short, because the caller gave up, ends the connection: others ask again on a new one.
    async fn send(&self, bytes: Vec<u8>) -> Result<(), Failed> {
        let mut writer = self.writer.lock().await;
        let mut guard = Whole {
            shared: &self.shared,
            whole: false,
        };
        let sent = writer.write_all(&bytes).await;
        guard.whole = sent.is_ok();
        sent.map_err(|_| Failed::Closed)
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        *self.shared.closed.borrow()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.open.clear();
        drop(state);
        self.closed.send_replace(true);
    }
}

struct Open<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.id);
    }
}

struct Whole<'a> {
    shared: &'a Shared,
    whole: bool,
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.shared.close();
        }
    }
}

/// Hands out answers until the connection ends or says something out of shape.
async fn read(mut reader: impl AsyncRead + Unpin, shared: Arc<Shared>) {
    let mut closed = shared.closed.subscribe();
    loop {
        let reply = tokio::select! {
            reply = frame(&mut reader) => reply,
            _ = closed.wait_for(|closed| *closed) => break,
        };
        match reply {
            Ok(Reply { id, answer }) => {
                if let Some(sender) = shared.lock().open.remove(&id) {
                    // A caller that has given up needs no answer.
                    let _ = sender.send(answer);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the connection to a sandbox ended");
                break;
            }
        }
    }
    shared.close();
}

/// Reads one frame.
pub(super) async fn frame<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<T, frame::Error> {
    let mut head = [0; 4];
    reader.read_exact(&mut head).await?;
    let length = frame::body_length(head)?;
    let mut body = Vec::new();
    if reader.take(length as u64).read_to_end(&mut body).await? < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    frame::decode(&body)
}
