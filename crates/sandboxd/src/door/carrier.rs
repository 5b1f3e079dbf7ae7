//! The way out where no file of the server's can be seen inside: its far half (security NET-1, SBX-5).
//!
//! The server has a few programs started inside a container (`manyhands-sandboxd carry`), each at the far end of standard
//! streams that the server holds. They wait at process 1, which hands each client to one of them; that one carries the
//! client's bytes over its streams, and waits again when both directions have ended. So one pair of streams has one
//! connection at a time, and no connection waits for another one's reader. Whatever else happens to a connection ends its
//! carrier, and with it both ends.
//!
//! Engines pass on both directions of a program's streams in one loop: while one direction is stuck, so is the other. So both
//! sides always read all that comes, and neither sends more than a [`WINDOW`] ahead of what the other has passed on.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::porch::{NAME, receive};
use crate::bridge;

/// The length of a [`Mark`], in bytes.
pub const HEAD: usize = 3;

/// The most bytes that one mark announces.
pub const PIECE: usize = 32 << 10;

/// How many bytes of one direction may be on their way, in bytes.
pub const WINDOW: usize = 128 << 10;

/// What a carrier and its server say to each other. Each mark is a byte for its kind and a big-endian number, which is 0 but
/// for bytes.
///
/// A carrier says [`Waiting`](Mark::Waiting), then for each client [`Begun`](Mark::Begun), bytes and
/// [`Ended`](Mark::Ended); the server says bytes and `Ended`. Each says [`Passed`](Mark::Passed) of what the other has sent.
/// When both have ended and all bytes have passed, the server says [`Stay`](Mark::Stay), or closes the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// From the carrier: it is ready for a client.
    Waiting,
    /// From the carrier: a client has come.
    Begun,
    /// So many bytes follow, from 1 to [`PIECE`].
    Bytes(u16),
    /// So many bytes of the other direction have gone where they belong, from 1 to [`PIECE`].
    Passed(u16),
    /// Nothing more follows in this direction of the connection.
    Ended,
    /// From the server: wait for the next client.
    Stay,
}

impl Mark {
    /// As it is sent.
    pub fn head(self) -> [u8; HEAD] {
        let (kind, length) = match self {
            Self::Waiting => (b'w', 0),
            Self::Begun => (b'b', 0),
            Self::Bytes(length) => (b'd', length),
            Self::Passed(length) => (b'p', length),
            Self::Ended => (b'e', 0),
            Self::Stay => (b's', 0),
        };
        let [high, low] = length.to_be_bytes();
        [kind, high, low]
    }

    /// What was sent; `None` when it is no mark.
    pub fn parse([kind, high, low]: [u8; HEAD]) -> Option<Self> {
        match (kind, u16::from_be_bytes([high, low])) {
            (b'w', 0) => Some(Self::Waiting),
            (b'b', 0) => Some(Self::Begun),
            (b'd', length) if is_piece(length) => Some(Self::Bytes(length)),
            (b'p', length) if is_piece(length) => Some(Self::Passed(length)),
            (b'e', 0) => Some(Self::Ended),
            (b's', 0) => Some(Self::Stay),
            _ => None,
        }
    }
}

fn is_piece(length: u16) -> bool {
    (1..=PIECE).contains(&usize::from(length))
}

/// Carries clients of the port inside, one after the other, between process 1 and a server at `input` and `output`, until one
/// of them goes. Process 1 may still be starting; see [`bridge::connect`].
///
/// # Errors
/// When process 1 does not listen or something else does; when a connection broke off, or the server says what it must not.
pub fn carry(input: File, output: File, lobby: &Path, limit: Duration) -> io::Result<()> {
    carry_from(bridge::meet(NAME, lobby, limit)?, input, output)
}

/// As [`carry`], from a connection to whoever hands over clients.
pub(super) fn carry_from(porch: UnixStream, input: File, output: File) -> io::Result<()> {
    let shared = Arc::new(Shared {
        porch: porch.try_clone()?,
        output: Mutex::new(output),
        client: Mutex::default(),
        window: Window::default(),
        over: AtomicBool::new(false),
    });
    let stays = shared.listen(input)?;
    let mut piece = vec![0; HEAD + PIECE];
    loop {
        shared.say(&Mark::Waiting.head())?;
        let Some(client) = receive(&porch)? else {
            return Ok(());
        };
        client.set_nodelay(true)?;
        let client = Arc::new(client);
        *shared.client() = Some(Arc::clone(&client));
        if shared.over.load(Ordering::Acquire) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        shared.say(&Mark::Begun.head())?;
        shared.send(&client, &mut piece)?;
        shared.say(&Mark::Ended.head())?;
        if stays.recv().is_err() {
            return Ok(());
        }
        *shared.client() = None;
        (&porch).write_all(&[0])?;
    }
}

/// What the threads of a carrier share: one reads the client, one the server, and one writes to the client.
struct Shared {
    porch: UnixStream,
    output: Mutex<File>,
    client: Mutex<Option<Arc<TcpStream>>>,
    window: Window,
    /// One of them has failed: the rest is of no use.
    over: AtomicBool,
}

/// What goes to a client: bytes, or their end.
type ToClient = (Arc<TcpStream>, Option<Vec<u8>>);

impl Shared {
    fn client(&self) -> MutexGuard<'_, Option<Arc<TcpStream>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, bytes: &[u8]) -> io::Result<()> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(bytes)
    }

    /// Sends what the client says, until it says no more.
    fn send(&self, mut client: &TcpStream, piece: &mut [u8]) -> io::Result<()> {
        loop {
            let room = self.window.room().min(PIECE);
            let read = client.read(&mut piece[HEAD..HEAD + room]);
            if self.over.load(Ordering::Acquire) {
                return Err(ErrorKind::BrokenPipe.into());
            }
            match read {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    self.window.take(length);
                    let counted = u16::try_from(length).map_err(io::Error::other)?;
                    piece[..HEAD].copy_from_slice(&Mark::Bytes(counted).head());
                    self.say(&piece[..HEAD + length])?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hears the server in threads of their own: so its end is noticed whatever else is waited for. What comes back is told
    /// when the carrier is to stay.
    fn listen(self: &Arc<Self>, input: File) -> io::Result<Receiver<()>> {
        let (tell, stays) = channel();
        let (to_client, pieces) = channel();
        let (hearing, writing) = (Arc::clone(self), Arc::clone(self));
        thread::Builder::new()
            .name("writing".to_owned())
            .spawn(move || writing.ends_with(writing.write(&pieces)))?;
        thread::Builder::new()
            .name("hearing".to_owned())
            .spawn(move || {
                let input = BufReader::with_capacity(PIECE, input);
                hearing.ends_with(hearing.hear(input, &to_client, &tell));
            })?;
        Ok(stays)
    }

    /// However a thread ends, so does the rest: nobody is left to carry for, and nobody to tell.
    fn ends_with(&self, _ended: io::Result<()>) {
        self.over.store(true, Ordering::Release);
        self.window.open();
        if let Some(client) = &*self.client() {
            let _ = client.shutdown(Shutdown::Both);
        }
        let _ = self.porch.shutdown(Shutdown::Both);
    }

    fn hear(
        &self,
        mut input: impl Read,
        to_client: &Sender<ToClient>,
        tell: &Sender<()>,
    ) -> io::Result<()> {
        let (mut head, mut ended) = ([0; HEAD], false);
        let gone = || io::Error::from(ErrorKind::BrokenPipe);
        loop {
            input.read_exact(&mut head)?;
            let client = self.client().clone();
            match (Mark::parse(head), client) {
                (Some(Mark::Bytes(length)), Some(client)) if !ended => {
                    let mut piece = vec![0; usize::from(length)];
                    input.read_exact(&mut piece)?;
                    to_client.send((client, Some(piece))).map_err(|_| gone())?;
                }
                (Some(Mark::Ended), Some(client)) if !ended => {
                    ended = true;
                    to_client.send((client, None)).map_err(|_| gone())?;
                }
                (Some(Mark::Passed(length)), Some(_)) => self.window.give(length.into()),
                (Some(Mark::Stay), Some(_)) if ended => {
                    ended = false;
                    tell.send(()).map_err(|_| gone())?;
                }
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    fn write(&self, pieces: &Receiver<ToClient>) -> io::Result<()> {
        while let Ok((client, piece)) = pieces.recv() {
            let Some(piece) = piece else {
                // A client that is gone is seen where it is read.
                let _ = client.shutdown(Shutdown::Write);
                continue;
            };
            (&*client).write_all(&piece)?;
            let counted = u16::try_from(piece.len()).map_err(io::Error::other)?;
            self.say(&Mark::Passed(counted).head())?;
        }
        Ok(())
    }
}

/// How many bytes may still be sent before others have passed.
struct Window {
    room: Mutex<usize>,
    changed: Condvar,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            room: Mutex::new(WINDOW),
            changed: Condvar::new(),
        }
    }
}

impl Window {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is some.
    fn room(&self) -> usize {
        let room = self.changed.wait_while(self.lock(), |room| *room == 0);
        *room.unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, length: usize) {
        *self.lock() -= length;
    }

    fn give(&self, length: usize) {
        *self.lock() += length;
        self.changed.notify_one();
    }

    /// Lets everybody on.
    fn open(&self) {
        self.give(WINDOW);
    }
}
