//! The way out, seen from inside (security NET-1): a port of the loop, and behind it the socket of the egress proxy.
//!
//! Clients speak to a proxy at [`ADDRESS`]; each of their connections becomes one to the socket, byte for byte, and nothing
//! of it is understood here. Where nobody answers at the socket, connections end at once. One thread serves them all.
//! Where no socket of the server's can be seen inside, a [`porch`] has the port and [`carrier`]s have the connections.

pub mod carrier;
pub mod porch;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Where clients inside find their proxy.
pub const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);

/// Connections at once; more wait until one ends.
const CONNECTIONS: usize = 256;

/// Bytes on their way in one direction of one connection.
const ROOM: usize = 16 << 10;

/// Bytes of one connection before the next one's turn, in rooms.
const TURN: usize = 4;

/// How long the port rests after a connection could not be taken, for want of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// The port, not served yet.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    socket: PathBuf,
}

impl Door {
    /// Listens at `address` for what goes to `socket`, which need not be there yet and may be replaced at any time.
    ///
    /// # Errors
    /// When the port is taken, or there is no loop.
    pub fn bind(address: SocketAddrV4, socket: impl Into<PathBuf>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let socket = socket.into();
        Ok(Self { listener, socket })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections in a thread of its own, for as long as the process lives.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn serve(self) -> io::Result<()> {
        let named = thread::Builder::new().name("door".to_owned());
        named.spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        let mut pairs: Vec<Pair> = Vec::new();
        let mut resting = false;
        loop {
            let listening = !resting && pairs.len() < CONNECTIONS;
            let Ok(ready) = self.wait(&pairs, listening, resting) else {
                thread::sleep(REST);
                continue;
            };
            let mut ready = ready.into_iter();
            let called = ready.next().unwrap_or_default();
            pairs.retain_mut(|pair| !ready.next().unwrap_or_default() || pair.turn());
            resting = called && self.accept(&mut pairs).is_err();
        }
    }

    /// Waits until something can be done; the first answer is about the port, then there is one for each pair.
    fn wait(&self, pairs: &[Pair], listening: bool, resting: bool) -> io::Result<Vec<bool>> {
        let (mut polled, mut whose) = (Vec::new(), Vec::new());
        if listening {
            polled.push(PollFd::new(&self.listener, PollFlags::IN));
            whose.push(0);
        }
        for (number, pair) in pairs.iter().enumerate() {
            for (fd, flags) in pair.wishes() {
                // One that nothing is wanted from would still be told to have hung up, again and again.
                if !flags.is_empty() {
                    polled.push(PollFd::from_borrowed_fd(fd, flags));
                    whose.push(number + 1);
                }
            }
        }
        let limit = Timespec::try_from(REST).ok().filter(|_| resting);
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = vec![false; pairs.len() + 1];
        for (fd, number) in polled.iter().zip(whose) {
            ready[number] |= !fd.revents().is_empty();
        }
        Ok(ready)
    }

    /// Takes the connections that wait, as far as there is room.
    fn accept(&self, pairs: &mut Vec<Pair>) -> io::Result<()> {
        for _ in pairs.len()..CONNECTIONS {
            match self.listener.accept() {
                // Where nobody answers, dropping it tells the client.
                Ok((client, _)) => pairs.extend(Pair::new(client, &self.socket).ok()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It is over already, or something else was the matter for a moment.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A client's connection and the one to the proxy.
struct Pair {
    client: TcpStream,
    proxy: UnixStream,
    out: Way,
    back: Way,
    /// The proxy takes no more: what the client still sends is dropped, so that it gets to read the answer.
    unheard: bool,
}

impl Pair {
    fn new(client: TcpStream, socket: &Path) -> io::Result<Self> {
        client.set_nonblocking(true)?;
        client.set_nodelay(true)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let proxy = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&proxy, &SocketAddrUnix::new(socket)?)?;
        Ok(Self {
            client,
            proxy: proxy.into(),
            out: Way::new(),
            back: Way::new(),
            unheard: false,
        })
    }

    fn wishes(&self) -> [(BorrowedFd<'_>, PollFlags); 2] {
        let reading = |way: &Way| match way.wants_more() {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
        let writing = |way: &Way| match way.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::OUT,
        };
        [
            (
                self.client.as_fd(),
                reading(&self.out) | writing(&self.back),
            ),
            (self.proxy.as_fd(), reading(&self.back) | writing(&self.out)),
        ]
    }

    /// Moves what can be moved; whether there is anything left to do.
    fn turn(&mut self) -> bool {
        let sent = match self.unheard {
            true => self.out.pass(&mut self.client, &mut io::sink()),
            false => self.out.pass(&mut self.client, &mut self.proxy),
        };
        match sent {
            Ok(()) => {}
            Err(Failed::Writing) => {
                self.unheard = true;
                self.out.clear();
            }
            Err(Failed::Reading) => return false,
        }
        match self.back.pass(&mut self.proxy, &mut self.client) {
            Ok(()) => {}
            // So ends a proxy that left some of the request unread.
            Err(Failed::Reading) => self.back.ended = true,
            Err(Failed::Writing) => return false,
        }
        if self.out.is_over() && !std::mem::replace(&mut self.out.told, true) {
            // A proxy that is gone is seen where it is read.
            let _ = self.proxy.shutdown(Shutdown::Write);
        }
        if self.back.is_over() && !std::mem::replace(&mut self.back.told, true) {
            // A client that is gone is seen where it is read.
            let _ = self.client.shutdown(Shutdown::Write);
        }
        !(self.out.told && self.back.told)
    }
}

/// One direction of a connection.
struct Way {
    room: Box<[u8]>,
    /// What of the room is still to be written.
    from: usize,
    to: usize,
    /// Nothing more comes.
    ended: bool,
    /// The other side knows that.
    told: bool,
}

/// Which side of a way failed.
enum Failed {
    Reading,
    Writing,
}

impl Way {
    fn new() -> Self {
        Self {
            room: vec![0; ROOM].into(),
            from: 0,
            to: 0,
            ended: false,
            told: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    fn wants_more(&self) -> bool {
        self.is_empty() && !self.ended
    }

    fn is_over(&self) -> bool {
        self.is_empty() && self.ended
    }

    fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// Moves bytes until a side would block, the source ends, or it is the next one's turn.
    fn pass(&mut self, source: &mut impl Read, target: &mut impl Write) -> Result<(), Failed> {
        for _ in 0..TURN {
            if self.wants_more() {
                match source.read(&mut self.room) {
                    Ok(0) => self.ended = true,
                    Ok(length) => (self.from, self.to) = (0, length),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Err(Failed::Reading),
                }
            }
            if !self.is_empty() {
                match target.write(&self.room[self.from..self.to]) {
                    Ok(length) => self.from += length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Err(Failed::Writing),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
