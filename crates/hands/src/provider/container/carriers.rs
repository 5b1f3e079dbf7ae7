//! The way out of a container that sees no folder of this server's: the near half of what
//! [`manyhands_sandboxd::door::carrier`] does inside (security NET-1, NET-8, SBX-5).
//!
//! A few programs that the engine has started inside wait for clients, each at the far end of streams of its own; what comes
//! on them goes to the session's socket, as if the client had come to it. More are started as they are needed. They end with
//! this server, and the next one starts its own. Nobody looks whether there is something to do. A connection that breaks off
//! ends its carrier, so how often more are started is bounded for each container: what is inside could break off all day.

mod counts;
mod starts;

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use manyhands_sandboxd::door::carrier::{HEAD, Mark, PIECE, WINDOW};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::engine::Engine;
use super::exec::Streams;
use super::spec::{KEEPER, SANDBOXD};
use crate::provider::door;
use crate::provider::namespace::at;
use counts::{Counts, State};
use starts::Starts;

/// How long one may take until it waits.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long one that could not be started keeps its place.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps carriers in a running container, for clients of the socket in this folder, until the container or what is given back
/// here is gone.
pub(super) fn start(engine: &Engine, name: &str, folder: OwnedFd) -> AbortOnDropHandle<()> {
    let inside = Inside {
        engine: engine.clone(),
        name: name.to_owned(),
    };
    let pool = Pool::new(name, Box::new(inside), folder);
    AbortOnDropHandle::new(tokio::spawn(Arc::new(pool).run()))
}

/// Who starts carriers.
#[async_trait]
trait Starter: Send + Sync {
    /// Starts one; its streams.
    async fn start(&self) -> Result<Streams, String>;

    /// Whether there is nothing any more to start one in.
    async fn is_over(&self) -> bool;
}

/// A running container.
struct Inside {
    engine: Engine,
    name: String,
}

#[async_trait]
impl Starter for Inside {
    async fn start(&self) -> Result<Streams, String> {
        let words = [SANDBOXD, "carry"];
        self.engine.run(&self.name, KEEPER, &words).await
    }

    async fn is_over(&self) -> bool {
        matches!(self.engine.runs(&self.name).await, Ok(Some(false) | None))
    }
}

struct Pool {
    /// The container's name.
    name: String,
    starter: Box<dyn Starter>,
    /// Where the session's socket is.
    folder: OwnedFd,
    counts: Mutex<Counts>,
    changed: Notify,
}

/// One carrier, counted for as long as it is there.
struct Place {
    pool: Arc<Pool>,
    state: State,
}

impl Place {
    fn new(pool: &Arc<Pool>) -> Self {
        let state = State::Starting;
        pool.change(|counts| *counts.of(state) += 1);
        Self {
            pool: Arc::clone(pool),
            state,
        }
    }

    fn is(&mut self, state: State) {
        let before = std::mem::replace(&mut self.state, state);
        self.pool.change(|counts| {
            *counts.of(before) -= 1;
            *counts.of(state) += 1;
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.change(|counts| *counts.of(self.state) -= 1);
    }
}

impl Pool {
    fn new(name: &str, starter: Box<dyn Starter>, folder: OwnedFd) -> Self {
        Self {
            name: name.to_owned(),
            starter,
            folder,
            counts: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    async fn run(self: Arc<Self>) {
        let mut carriers = JoinSet::new();
        let (mut starts, mut held) = (Starts::default(), false);
        loop {
            let mut pause = None;
            while pause.is_none() && self.counts().lacking() > 0 {
                pause = starts.take(Instant::now()).err();
                if pause.is_none() {
                    let place = Place::new(&self);
                    carriers.spawn(Arc::clone(&self).carrier(place));
                }
            }
            if pause.is_some() && !held {
                tracing::warn!(
                    name = self.name,
                    "connections out of a container break off so often that they are made slowly now"
                );
            }
            held = pause.is_some();
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                Some(ended) = carriers.join_next() => {
                    if matches!(ended, Ok(Ended::WithContainer)) {
                        return;
                    }
                }
            }
        }
    }

    /// Starts one and serves it to its end.
    async fn carrier(self: Arc<Self>, mut place: Place) -> Ended {
        let why = match self.serve(&mut place).await {
            Ok(()) => return Ended::Alone,
            Err(why) => why,
        };
        if place.state != State::Starting {
            // So end connections that one side breaks off.
            tracing::debug!(
                name = self.name,
                why,
                "a connection out of a container has ended"
            );
            return Ended::Alone;
        }
        if self.starter.is_over().await {
            return Ended::WithContainer;
        }
        tracing::warn!(
            name = self.name,
            why,
            "a way out of a container cannot be made"
        );
        sleep(PAUSE).await;
        Ended::Alone
    }

    async fn serve(&self, place: &mut Place) -> Result<(), String> {
        let mut streams = self.starter.start().await?;
        let served = self.clients(place, &mut streams).await;
        served.map_err(|error| format!("{error}: {}", streams.said()))
    }

    /// One client after the other, for as long as this carrier is needed.
    async fn clients(&self, place: &mut Place, streams: &mut Streams) -> io::Result<()> {
        let mut marks = Marks::new(&mut streams.output);
        loop {
            let waits = timeout(START_LIMIT, marks.expect(Mark::Waiting));
            waits.await.map_err(io::Error::from)??;
            place.is(State::Waiting);
            marks.expect(Mark::Begun).await?;
            place.is(State::Busy);
            let gate = UnixStream::connect(at(&self.folder, door::NAME)).await?;
            exchange(&mut marks, &mut streams.input, gate).await?;
            if !self.counts().keeps() {
                return Ok(());
            }
            say(&mut streams.input, &Mark::Stay.head()).await?;
        }
    }
}

/// What a carrier ended with.
enum Ended {
    Alone,
    WithContainer,
}

/// What a carrier says, which is data: whatever is not expected ends it.
struct Marks<R> {
    output: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Marks<R> {
    fn new(output: R) -> Self {
        let buffer = BytesMut::new();
        Self { output, buffer }
    }

    /// The next mark and the bytes that belong to it. Nothing is lost when nobody waits for it any more.
    async fn next(&mut self) -> io::Result<(Mark, Bytes)> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<HEAD>() {
                let mark = Mark::parse(*head).ok_or(io::ErrorKind::InvalidData)?;
                let length = match mark {
                    Mark::Bytes(length) => usize::from(length),
                    _ => 0,
                };
                if self.buffer.len() >= HEAD + length {
                    self.buffer.advance(HEAD);
                    return Ok((mark, self.buffer.split_to(length).freeze()));
                }
            }
            self.buffer.reserve(HEAD + PIECE);
            if self.output.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn expect(&mut self, mark: Mark) -> io::Result<()> {
        match self.next().await? {
            (said, _) if said == mark => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Carries bytes between a client and the gate until both have ended and all of them have passed.
///
/// # Errors
/// When the carrier ends before that, or says what it must not: then it is of no more use.
async fn exchange(
    marks: &mut Marks<impl AsyncRead + Unpin>,
    input: &mut (impl AsyncWrite + Unpin),
    gate: UnixStream,
) -> io::Result<()> {
    let (mut from, mut to) = gate.into_split();
    let input = tokio::sync::Mutex::new(input);
    let (sent, taken) = (Semaphore::new(WINDOW), Semaphore::new(WINDOW));
    let (queue, mut pieces) = mpsc::unbounded_channel::<Bytes>();
    // Waits for the carrier alone: what is stuck elsewhere must not stop its streams.
    let hearing = async {
        let mut queue = Some(queue);
        loop {
            match (marks.next().await?, &queue) {
                ((Mark::Bytes(length), bytes), Some(queue)) => {
                    let room = taken.try_acquire_many(length.into());
                    room.map_err(|_| io::ErrorKind::InvalidData)?.forget();
                    queue.send(bytes).map_err(io::Error::other)?;
                }
                ((Mark::Ended, _), Some(_)) => queue = None,
                ((Mark::Passed(length), _), _)
                    if sent.available_permits() + usize::from(length) <= WINDOW =>
                {
                    sent.add_permits(length.into());
                }
                _ => return Err(io::Error::from(io::ErrorKind::InvalidData)),
            }
        }
    };
    let out = async {
        let mut deaf = false;
        while let Some(bytes) = pieces.recv().await {
            // A gate that takes no more has still an answer for whoever asks.
            deaf = deaf || to.write_all(&bytes).await.is_err();
            let counted = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            taken.add_permits(bytes.len());
            say(&mut **input.lock().await, &Mark::Passed(counted).head()).await?;
        }
        // A gate that is gone is seen where it is read.
        let _ = to.shutdown().await;
        Ok(())
    };
    let back = async {
        let mut piece = vec![0; HEAD + PIECE];
        loop {
            // Not kept while reading: what is held would be missing where it is looked whether more has passed than was sent.
            drop(sent.acquire().await.map_err(io::Error::other)?);
            let room = sent.available_permits().min(PIECE);
            // So ends a gate that left some of the request unread.
            let read = from.read(&mut piece[HEAD..HEAD + room]).await;
            let length = read.unwrap_or(0);
            if length == 0 {
                break;
            }
            let counted = u16::try_from(length).map_err(io::Error::other)?;
            let used = sent.acquire_many(counted.into()).await;
            used.map_err(io::Error::other)?.forget();
            piece[..HEAD].copy_from_slice(&Mark::Bytes(counted).head());
            say(&mut **input.lock().await, &piece[..HEAD + length]).await?;
        }
        say(&mut **input.lock().await, &Mark::Ended.head()).await?;
        let all = sent.acquire_many(WINDOW as u32).await;
        all.map(drop).map_err(io::Error::other)
    };
    let ended = async { tokio::try_join!(out, back).map(drop) };
    let (hearing, ended) = (pin!(hearing), pin!(ended));
    tokio::select! {
        ended = hearing => ended,
        ended = ended => ended,
    }
}

async fn say(input: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    input.write_all(bytes).await?;
    input.flush().await
}

#[cfg(test)]
mod tests;
