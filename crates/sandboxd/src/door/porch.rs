//! The way out where no file of the server's can be seen inside: process 1's half (security NET-1, NET-8).
//!
//! Process 1 has the port, and a name where [carriers](super::carrier) wait. It hands them clients as open descriptors and
//! touches no byte. Tools see the name too: only the keeper's user is taken, which no tool can become, and a carrier goes on
//! only if it finds process 1 there (SBX-5).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::REST;
use crate::bridge::Keeper;

/// Where carriers wait, in the abstract name space.
pub(super) const NAME: &[u8] = b"manyhands-door";

/// Carriers at once.
pub const CARRIERS: usize = 64;

/// Clients that the kernel keeps, at most.
const BACKLOG: usize = 4096;

/// How long a client waits while there is no carrier at all: until the server, or the next one, has started some.
const ALONE: Duration = Duration::from_secs(10);

/// The port and the name, not served yet.
#[derive(Debug)]
pub struct Porch {
    port: TcpListener,
    name: UnixListener,
    keeper: Keeper,
    alone: Duration,
}

impl Porch {
    /// Listens for clients at `address`, and for carriers of this keeper.
    ///
    /// # Errors
    /// When the port or the name is taken: then something runs that is not meant to.
    pub fn bind(address: SocketAddrV4, keeper: Keeper) -> io::Result<Self> {
        Self::named(address, NAME, keeper, ALONE)
    }

    pub(super) fn named(
        address: SocketAddrV4,
        name: &[u8],
        keeper: Keeper,
        alone: Duration,
    ) -> io::Result<Self> {
        let port = TcpListener::bind(address)?;
        port.set_nonblocking(true)?;
        let name = UnixListener::bind_addr(&UnixAddress::from_abstract_name(name)?)?;
        name.set_nonblocking(true)?;
        Ok(Self {
            port,
            name,
            keeper,
            alone,
        })
    }

    /// Where clients come.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.port.local_addr()
    }

    /// Hands over clients in a thread of its own, for as long as the process lives.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn serve(self) -> io::Result<()> {
        let named = thread::Builder::new().name("porch".to_owned());
        named.spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        let mut guests = Guests::default();
        loop {
            if self.turn(&mut guests).is_err() {
                // For want of descriptors or memory.
                thread::sleep(REST);
            }
        }
    }

    /// Waits until something has happened, and does what it asks for.
    fn turn(&self, guests: &mut Guests) -> io::Result<()> {
        let ready = self.wait(guests)?;
        let mut heard = ready.carriers.into_iter();
        guests
            .carriers
            .retain_mut(|carrier| !heard.next().unwrap_or_default() || carrier.hear());
        if ready.name {
            self.admit(guests)?;
        }
        if ready.port
            && let Some(client) = taken(self.port.accept())?
        {
            guests.client = Some(client);
        }
        if guests.settle(self.alone) {
            // Those who came after the one that waited.
            for _ in 0..BACKLOG {
                if taken(self.port.accept())?.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn wait(&self, guests: &Guests) -> io::Result<Ready> {
        let mut polled = vec![PollFd::new(&self.name, PollFlags::IN)];
        for carrier in &guests.carriers {
            polled.push(PollFd::from_borrowed_fd(carrier.fd(), PollFlags::IN));
        }
        // One client at a time: the next ones wait where the kernel keeps them.
        if guests.client.is_none() {
            polled.push(PollFd::new(&self.port, PollFlags::IN));
        }
        let limit = guests.since.map(|since| {
            let left = self.alone.saturating_sub(since.elapsed());
            Timespec::try_from(left).unwrap_or_default()
        });
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut called = polled.iter().map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            name: called.next().unwrap_or_default(),
            carriers: called.by_ref().take(guests.carriers.len()).collect(),
            port: called.next().unwrap_or_default(),
        })
    }

    /// Takes a carrier that has come.
    fn admit(&self, guests: &mut Guests) -> io::Result<()> {
        if let Some(stream) = taken(self.name.accept())?
            && self.keeper.is_at(&stream)
            && guests.carriers.len() < CARRIERS
        {
            stream.set_nonblocking(true)?;
            guests.carriers.push(Carrier {
                stream,
                waits: true,
            });
        }
        Ok(())
    }
}

/// Who can be heard.
struct Ready {
    name: bool,
    carriers: Vec<bool>,
    port: bool,
}

/// Who is there.
#[derive(Default)]
struct Guests {
    carriers: Vec<Carrier>,
    /// The next one to be handed over.
    client: Option<TcpStream>,
    /// Since when it waits while there is no carrier at all.
    since: Option<Instant>,
}

impl Guests {
    /// Hands over the client, keeps it waiting, or drops it, which tells it that there is no way out: whether that.
    fn settle(&mut self, limit: Duration) -> bool {
        while let Some(client) = &self.client
            && let Some(at) = self.carriers.iter().position(|carrier| carrier.waits)
        {
            match self.carriers[at].hand(client) {
                Ok(()) => self.client = None,
                // Somebody else takes it.
                Err(_) => drop(self.carriers.swap_remove(at)),
            }
        }
        if self.client.is_none() || !self.carriers.is_empty() {
            self.since = None;
            return false;
        }
        let given_up = self.since.get_or_insert_with(Instant::now).elapsed() >= limit;
        if given_up {
            (self.client, self.since) = (None, None);
        }
        given_up
    }
}

/// One that carries, as process 1 sees it.
struct Carrier {
    stream: UnixStream,
    waits: bool,
}

impl Carrier {
    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Hears that it waits again; `false` when it is gone.
    fn hear(&mut self) -> bool {
        match self.stream.read(&mut [0; 8]) {
            Ok(0) => false,
            Ok(_) => {
                self.waits = true;
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn hand(&mut self, client: &TcpStream) -> io::Result<()> {
        client.set_nonblocking(false)?;
        let fds = [client.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut handed = SendAncillaryBuffer::new(&mut space);
        handed.push(SendAncillaryMessage::ScmRights(&fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.stream, &[IoSlice::new(&[0])], &mut handed, flags)?;
        self.waits = false;
        Ok(())
    }
}

/// The client that process 1 hands over next, to a carrier; `None` when it does not any more.
pub(super) fn receive(porch: &UnixStream) -> io::Result<Option<TcpStream>> {
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
        Some(client) => Ok(Some(client.into())),
        None => Err(io::Error::new(ErrorKind::InvalidData, "no client came")),
    }
}

/// Whoever has come, where nobody has gone again meanwhile.
fn taken<T, A>(accepted: io::Result<(T, A)>) -> io::Result<Option<T>> {
    match accepted {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests;
