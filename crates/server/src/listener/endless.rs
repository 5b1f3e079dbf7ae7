//! Answers that go on until one side ends them: event streams.
//!
//! An HTTP library keeps for every connection what the next request may need: two buffers of 8 KiB, a parser, a service.
//! A stream needs none of it, and a server holds thousands of them. So the library sends the head of such an answer;
//! then the socket is taken from it and the chunks are written here (RFC 9112 §7.1). Where that cannot be done (HTTP/1.0,
//! which has no chunks) the library sends the body as well.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONNECTION, HeaderValue};
use hyper::body::{Body, Frame};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;

/// What an answer is made of. It is pulled: the next chunk is asked for when the last one has been written.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// An answer of these chunks; the caller adds status and headers.
pub(crate) fn answer(chunks: Chunks) -> Response {
    let endless = Endless(Arc::new(Mutex::new(State::Sent(chunks))));
    let mut response = axum::body::Body::new(endless.clone()).into_response();
    response.extensions_mut().insert(endless);
    response
}

/// The body of such an answer, and its handle.
#[derive(Clone)]
pub(super) struct Endless(Arc<Mutex<State>>);

enum State {
    /// The library sends it.
    Sent(Chunks),
    /// It shall be taken when the head is written.
    Wanted(Chunks),
    /// The head is written, perhaps not sent. The library is kept waiting for a first chunk.
    Headed(Chunks),
    /// The head is sent, and all that came before it.
    Ready(Chunks),
    Taken,
}

impl Endless {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, step: impl FnOnce(State) -> State) {
        let mut state = self.state();
        let old = std::mem::replace(&mut *state, State::Taken);
        *state = step(old);
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let State::Sent(chunks) = &mut *self.state() {
            return chunks
                .poll_next_unpin(context)
                .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))));
        }
        // A body is asked for its first frame after the head went into the library's buffer. Nobody is to be woken:
        // the socket is taken before anything else happens.
        self.step(|state| match state {
            State::Wanted(chunks) => State::Headed(chunks),
            other => other,
        });
        Poll::Pending
    }
}

/// The endless answer of a connection, once there is one.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Endless>>>);

impl Slot {
    fn slot(&self) -> MutexGuard<'_, Option<Endless>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether an answer is endless, and if so has it taken from the library.
    pub(super) fn want(&self, response: &mut Response) {
        if let Some(endless) = response.extensions_mut().remove::<Endless>() {
            endless.step(|state| match state {
                State::Sent(chunks) => State::Wanted(chunks),
                other => other,
            });
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            *self.slot() = Some(endless);
        }
    }

    /// The library has nothing left to send.
    pub(super) fn flushed(&self) {
        if let Some(endless) = &*self.slot() {
            endless.step(|state| match state {
                State::Headed(chunks) => State::Ready(chunks),
                other => other,
            });
        }
    }

    /// The chunks, when the library has sent all that comes before them.
    pub(super) fn take(&self) -> Option<Chunks> {
        let mut slot = self.slot();
        let mut taken = None;
        slot.as_ref()?.step(|state| match state {
            State::Ready(chunks) => {
                taken = Some(chunks);
                State::Taken
            }
            other => other,
        });
        if taken.is_some() {
            *slot = None;
        }
        taken
    }
}

/// A socket as the library sees it, which tells its [`Slot`] when everything is sent: that is when it flushes.
pub(super) struct Socket {
    pub(super) io: TokioIo<TcpStream>,
    pub(super) slot: Slot,
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.slot.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }
}

/// Chunks that are written at once when they are there at once, as tokens of a fast model are.
const TOGETHER: usize = 16;

/// Writes the chunks until they end, the client goes, or a write fails.
pub(super) async fn send(mut stream: TcpStream, chunks: Chunks) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    let mut chunks = chunks.ready_chunks(TOGETHER);
    let write = async {
        while let Some(ready) = chunks.next().await {
            let chunk = ready.concat();
            // An empty chunk would be the end.
            if !chunk.is_empty() {
                let length = format!("{:x}\r\n", chunk.len());
                let framed = [length.as_bytes(), &chunk, b"\r\n"].concat();
                to.write_all(&framed).await?;
            }
        }
        to.write_all(b"0\r\n\r\n").await?;
        to.shutdown().await
    };
    tokio::select! {
        written = write => written,
        () = gone(&mut from) => Ok(()),
    }
}

/// Waits until the client closes. After "connection: close" it has nothing more to say; what it says is not read.
async fn gone(from: &mut ReadHalf<'_>) {
    if let Ok(1..) = from.read(&mut [0]).await {
        std::future::pending::<()>().await;
    }
}
