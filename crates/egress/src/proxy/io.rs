//! A client's connection: read with limits on bytes and time, written whole.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use crate::proxy::Timeouts;
use crate::proxy::head::{self, Framing, Malformed};
use crate::scrub;

/// A stream of bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Any stream: the door's socket, or TLS over it.
pub(crate) type Stream = Box<dyn Io>;

/// Most trailers, in bytes.
const TRAILERS: usize = 16 << 10;
/// Bytes asked for at once.
const PIECE: usize = 16 << 10;

/// What is read from a client.
pub(crate) struct Reader {
    half: ReadHalf<Stream>,
    /// Read and not yet used.
    buffer: BytesMut,
    timeouts: Timeouts,
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum NoHead {
    /// The client has ended, or stays silent between two requests: nothing to say.
    Ended,
    /// It began a head and did not end it in time.
    Slow,
    /// No head begins like this.
    Malformed(Malformed),
}

/// How the reading of a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// The body is whole, and the next byte is the next request's.
    Whole,
    /// Nobody wants the rest.
    Unwanted,
    /// The client went away or fell silent.
    Ended,
    /// The client's bytes are no body.
    Malformed(Malformed),
}

/// A body that ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the client's body is not whole")]
pub(crate) struct Broken;

impl Reader {
    pub(crate) fn new(half: ReadHalf<Stream>, timeouts: Timeouts) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            timeouts,
        }
    }

    /// The half, and what was read from it and not used.
    pub(crate) fn into_parts(self) -> (ReadHalf<Stream>, Bytes) {
        (self.half, self.buffer.freeze())
    }

    /// Reads more; false when the client has ended or said nothing until the deadline.
    async fn fill(&mut self, deadline: Instant) -> bool {
        self.buffer.reserve(PIECE);
        let read = timeout_at(deadline, self.half.read_buf(&mut self.buffer)).await;
        matches!(read, Ok(Ok(count)) if count > 0)
    }

    /// The bytes of the next head.
    pub(crate) async fn head(&mut self) -> Result<Bytes, NoHead> {
        if self.buffer.is_empty() && !self.fill(Instant::now() + self.timeouts.idle).await {
            return Err(NoHead::Ended);
        }
        // From the first byte on the whole head has one limit, however slowly it comes.
        let deadline = Instant::now() + self.timeouts.head;
        let mut seen = 0;
        loop {
            let end = head::find_end(&self.buffer, &mut seen).map_err(NoHead::Malformed)?;
            if let Some(end) = end {
                return Ok(self.buffer.split_to(end).freeze());
            }
            if !self.fill(deadline).await {
                return Err(NoHead::Slow);
            }
        }
    }

    /// The size of the next chunk.
    pub(crate) async fn chunk_size(&mut self) -> Result<u64, Pumped> {
        let line = self.line(32).await?;
        head::read_chunk_size(&line).map_err(Pumped::Malformed)
    }

    /// A line without its CRLF.
    async fn line(&mut self, longest: usize) -> Result<Bytes, Pumped> {
        let deadline = Instant::now() + self.timeouts.silence;
        loop {
            match self.buffer.iter().position(|&byte| byte == b'\n') {
                Some(at) if at > 0 && self.buffer[at - 1] == b'\r' && at <= longest => {
                    let line = self.buffer.split_to(at - 1).freeze();
                    self.buffer.advance(2);
                    return match line
                        .iter()
                        .any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
                    {
                        true => Err(Pumped::Malformed(Malformed("a control character"))),
                        false => Ok(line),
                    };
                }
                Some(_) => {
                    return Err(Pumped::Malformed(Malformed(
                        "a line of a chunk is malformed",
                    )));
                }
                None if self.buffer.len() > longest => {
                    return Err(Pumped::Malformed(Malformed(
                        "a line of a chunk is too long",
                    )));
                }
                None => {}
            }
            if !self.fill(deadline).await {
                return Err(Pumped::Ended);
            }
        }
    }

    /// Passes a body on, piece by piece; `first` is the size of the first chunk where it was read already.
    pub(crate) async fn pump(
        &mut self,
        framing: Framing,
        first: Option<u64>,
        to: mpsc::Sender<Result<Frame<Bytes>, Broken>>,
    ) -> Pumped {
        let pumped = match framing {
            Framing::Empty => Ok(()),
            Framing::Length(length) => self.pass(length, &to).await,
            Framing::Chunked => self.pass_chunks(first, &to).await,
        };
        match pumped {
            Ok(()) => Pumped::Whole,
            Err(ended) => {
                // The request that was begun ends visibly unfinished.
                drop(to.send(Err(Broken)).await);
                ended
            }
        }
    }

    async fn pass(
        &mut self,
        mut left: u64,
        to: &mpsc::Sender<Result<Frame<Bytes>, Broken>>,
    ) -> Result<(), Pumped> {
        while left > 0 {
            if self.buffer.is_empty() && !self.fill(Instant::now() + self.timeouts.silence).await {
                return Err(Pumped::Ended);
            }
            let count = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let piece = self.buffer.split_to(count).freeze();
            left -= count as u64;
            send(to, Frame::data(piece)).await?;
        }
        Ok(())
    }

    async fn pass_chunks(
        &mut self,
        mut first: Option<u64>,
        to: &mpsc::Sender<Result<Frame<Bytes>, Broken>>,
    ) -> Result<(), Pumped> {
        loop {
            let size = match first.take() {
                Some(size) => size,
                None => self.chunk_size().await?,
            };
            if size == 0 {
                break;
            }
            self.pass(size, to).await?;
            if !self.line(2).await?.is_empty() {
                return Err(Pumped::Malformed(Malformed(
                    "a chunk is longer than its size",
                )));
            }
        }
        let mut lines = Vec::new();
        let mut left = TRAILERS;
        loop {
            let line = self.line(left).await?;
            if line.is_empty() {
                break;
            }
            left = left.saturating_sub(line.len() + 2);
            lines.push(line);
        }
        let trailers =
            head::read_headers(lines.iter().map(|line| &line[..])).map_err(Pumped::Malformed)?;
        if FORBIDDEN_IN_TRAILERS
            .iter()
            .any(|name| trailers.contains_key(*name))
        {
            return Err(Pumped::Malformed(Malformed(
                "a trailer that belongs into the head",
            )));
        }
        match trailers.is_empty() {
            true => Ok(()),
            false => send(to, Frame::trailers(trailers)).await,
        }
    }

    /// Reads what the client still sends and throws it away, so that it can read the last answer. Bounded.
    pub(crate) async fn drain(mut self) {
        let mut left = 1_usize << 20;
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            left = left.saturating_sub(self.buffer.len());
            self.buffer.clear();
            if left == 0 || !self.fill(deadline).await {
                break;
            }
        }
    }
}

/// What a request is routed and framed by is never learned after its body.
const FORBIDDEN_IN_TRAILERS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

async fn send(
    to: &mpsc::Sender<Result<Frame<Bytes>, Broken>>,
    frame: Frame<Bytes>,
) -> Result<(), Pumped> {
    to.send(Ok(frame)).await.map_err(|_| Pumped::Unwanted)
}

/// What is written to a client.
pub(crate) struct Writer {
    half: WriteHalf<Stream>,
    timeouts: Timeouts,
}

impl Writer {
    pub(crate) fn new(half: WriteHalf<Stream>, timeouts: Timeouts) -> Self {
        Self { half, timeouts }
    }

    pub(crate) fn into_half(self) -> WriteHalf<Stream> {
        self.half
    }

    /// Writes all of it. A client that does not read for too long is given up.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(self.timeouts.silence, async {
            self.half.write_all(bytes).await?;
            self.half.flush().await
        })
        .await?
    }

    /// Says that nothing more comes.
    pub(crate) async fn end(&mut self) {
        // Who has gone away needs not be told.
        drop(timeout(self.timeouts.head, self.half.shutdown()).await);
    }

    /// Writes a body until its end, as chunks or as it is; one that is searched for secrets without them, and without trailers.
    ///
    /// # Errors
    /// When the client goes away, or the body breaks off: the connection must then be closed, unfinished.
    pub(crate) async fn body(
        &mut self,
        mut body: hyper::body::Incoming,
        chunked: bool,
        mut searched: Option<scrub::Stream>,
    ) -> io::Result<()> {
        let mut trailers = HeaderMap::new();
        while let Some(frame) = timeout(self.timeouts.answer, body.frame()).await? {
            match (frame.map_err(io::Error::other)?.into_data(), &mut searched) {
                (Ok(data), None) => self.piece(&data, chunked).await?,
                (Ok(data), Some(searched)) => {
                    let clean = search(searched, &data).await;
                    self.piece(&clean, chunked).await?;
                }
                (Err(frame), None) => trailers.extend(frame.into_trailers().unwrap_or_default()),
                (Err(_), Some(_)) => {}
            }
        }
        if let Some(mut searched) = searched {
            self.piece(&searched.finish(), chunked).await?;
        }
        if chunked {
            let mut last = b"0\r\n".to_vec();
            super::answer::write_headers(&mut last, &trailers);
            last.extend_from_slice(b"\r\n");
            self.write(&last).await?;
        }
        Ok(())
    }

    async fn piece(&mut self, data: &[u8], chunked: bool) -> io::Result<()> {
        // An empty chunk would be the last one.
        if data.is_empty() {
            return Ok(());
        }
        if !chunked {
            return self.write(data).await;
        }
        let mut piece = BytesMut::with_capacity(data.len() + 20);
        piece.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        piece.extend_from_slice(data);
        piece.extend_from_slice(b"\r\n");
        self.write(&piece).await
    }
}

/// What of a body can be passed on, without secrets. A long secret takes its time, and others have their turn meanwhile.
async fn search(searched: &mut scrub::Stream, data: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(data.len());
    for (number, part) in data.chunks(searched.stride()).enumerate() {
        if number > 0 {
            yield_now().await;
        }
        clean.extend(searched.push(part));
    }
    clean
}
