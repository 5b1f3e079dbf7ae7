//! The way out where no file of the server's can be seen inside: its far half (security NET-1, SBX-5).
//!
//! The server has a few programs started inside a container (`manyhands-sandboxd carry`), each at the far end of standard
//! streams that the server holds. They wait at process 1, which hands each client to one of them; that one carries the
//! client's bytes over its streams, and waits again when both directions have ended. So one pair of streams has one
//! connection at a time, and no connection waits for another one's reader. Whatever else happens to a connection ends its
//! carrier, and with it both ends.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::porch::NAME;
use crate::bridge;

/// The length of a [`Mark`], in bytes.
pub const HEAD: usize = 3;

/// The most bytes that one mark announces.
pub const PIECE: usize = 32 << 10;

/// What a carrier and its server say to each other. Each mark is a byte for its kind and a big-endian length, which is 0 but
/// for [`Mark::Bytes`].
///
/// A carrier says [`Waiting`](Mark::Waiting), then for each client [`Begun`](Mark::Begun), bytes and
/// [`Ended`](Mark::Ended); the server says bytes and `Ended`, and when both have, [`Stay`](Mark::Stay). One that is not to
/// stay has its streams closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// From the carrier: it is ready for a client.
    Waiting,
    /// From the carrier: a client has come.
    Begun,
    /// So many bytes follow, from 1 to [`PIECE`].
    Bytes(u16),
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
            (b'd', length) if (1..=PIECE).contains(&usize::from(length)) => {
                Some(Self::Bytes(length))
            }
            (b'e', 0) => Some(Self::Ended),
            (b's', 0) => Some(Self::Stay),
            _ => None,
        }
    }
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
pub(super) fn carry_from(porch: UnixStream, input: File, mut output: File) -> io::Result<()> {
    let (back, stays) = Back::start(&porch, input)?;
    let mut piece = vec![0; HEAD + PIECE];
    loop {
        output.write_all(&Mark::Waiting.head())?;
        let Some(client) = receive(&porch)? else {
            return Ok(());
        };
        let client = Arc::new(client);
        back.has(Some(&client));
        output.write_all(&Mark::Begun.head())?;
        send(&client, &mut output, &mut piece)?;
        if back.broken.load(Ordering::Acquire) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        output.write_all(&Mark::Ended.head())?;
        if stays.recv().is_err() {
            return Ok(());
        }
        back.has(None);
        (&porch).write_all(&[0])?;
    }
}

/// Sends what the client says, until it says no more.
fn send(mut client: &TcpStream, output: &mut File, piece: &mut [u8]) -> io::Result<()> {
    loop {
        match client.read(&mut piece[HEAD..]) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                let counted = u16::try_from(length).map_err(io::Error::other)?;
                piece[..HEAD].copy_from_slice(&Mark::Bytes(counted).head());
                output.write_all(&piece[..HEAD + length])?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The client that process 1 hands over next; `None` when it does not any more.
fn receive(porch: &UnixStream) -> io::Result<Option<TcpStream>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut handed = RecvAncillaryBuffer::new(&mut space);
    let told = loop {
        let into = &mut [IoSliceMut::new(&mut byte)];
        match recvmsg(porch, into, &mut handed, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if told.bytes == 0 {
        return Ok(None);
    }
    let client = handed.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut all) => all.next(),
        _ => None,
    });
    match client {
        Some(client) if !told.flags.contains(ReturnFlags::CTRUNC) => {
            let client = TcpStream::from(client);
            client.set_nodelay(true)?;
            Ok(Some(client))
        }
        _ => Err(io::Error::new(ErrorKind::InvalidData, "no client came")),
    }
}

/// The direction from the server to clients, in a thread of its own: so the server's end is noticed whatever else is waited
/// for.
struct Back {
    client: Arc<Mutex<Option<Arc<TcpStream>>>>,
    /// The client has gone before it was told everything.
    broken: Arc<AtomicBool>,
}

impl Back {
    fn start(porch: &UnixStream, input: File) -> io::Result<(Self, Receiver<()>)> {
        let (tell, stays) = channel();
        let back = Self {
            client: Arc::default(),
            broken: Arc::default(),
        };
        let own = Self {
            client: Arc::clone(&back.client),
            broken: Arc::clone(&back.broken),
        };
        let porch = porch.try_clone()?;
        thread::Builder::new()
            .name("back".to_owned())
            .spawn(move || {
                // However it ends, so does the rest: nobody is left to carry for.
                let _ = own.run(BufReader::with_capacity(PIECE, input), &tell);
                own.broken.store(true, Ordering::Release);
                if let Some(client) = own.now() {
                    let _ = client.shutdown(Shutdown::Both);
                }
                let _ = porch.shutdown(Shutdown::Both);
            })?;
        Ok((back, stays))
    }

    fn has(&self, client: Option<&Arc<TcpStream>>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client.map(Arc::clone);
    }

    fn now(&self) -> Option<Arc<TcpStream>> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone()
    }

    fn run(&self, mut input: impl Read, tell: &Sender<()>) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let (mut head, mut ended) = ([0; HEAD], false);
        loop {
            input.read_exact(&mut head)?;
            match (Mark::parse(head), self.now()) {
                (Some(Mark::Bytes(length)), Some(client)) if !ended => {
                    let piece = &mut piece[..usize::from(length)];
                    input.read_exact(piece)?;
                    (&*client).write_all(piece)?;
                }
                (Some(Mark::Ended), Some(client)) if !ended => {
                    ended = true;
                    // A client that is gone is seen where it is read.
                    let _ = client.shutdown(Shutdown::Write);
                }
                (Some(Mark::Stay), Some(_)) if ended => {
                    ended = false;
                    tell.send(()).map_err(io::Error::other)?;
                }
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }
}
