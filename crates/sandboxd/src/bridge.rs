//! The way into a container, which shares no file with its host: a process that the container's engine starts inside
//! (`manyhands-sandboxd connect`) carries one connection between its standard streams and process 1.
//!
//! The socket has a name in the container's own network name space. The tools' processes see it too, so each side looks
//! at whom it has before it: [`Keeper`] takes connections of a user that no tool can become, and [`connect`] insists on
//! process 1.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;

/// The socket's name, in the abstract name space.
const NAME: &[u8] = b"manyhands-sandboxd";

/// Where process 1 of a container says that it listens, by a file that comes and goes: a folder that is empty when the
/// container starts, and that all of its users can look at.
pub const LOBBY: &str = "/var/tmp";

/// Whose connections are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeper(pub u32);

impl Keeper {
    /// Listens where [`connect`] looks.
    ///
    /// # Errors
    /// When the name is taken: then something runs that is not meant to.
    pub fn listen(self) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?)
    }

    /// Whether a connection is this user's: the kernel's word, not the peer's.
    pub fn is_at(self, stream: &UnixStream) -> bool {
        socket_peercred(stream).is_ok_and(|peer| peer.uid.as_raw() == self.0)
    }
}

/// Wakes whoever waits for process 1 to listen.
///
/// # Errors
/// When nothing can be written to `lobby`.
pub fn announce(lobby: &Path) -> io::Result<()> {
    let sign = lobby.join(format!(".listening-{}", std::process::id()));
    File::create_new(&sign)?;
    std::fs::remove_file(sign)
}

/// Carries bytes between `input`, `output` and process 1 until one of them ends. Process 1 may still be starting: it gets
/// `limit` to listen, and to [`announce`] it in `lobby`.
///
/// # Errors
/// When process 1 does not listen, or something else does.
pub fn connect(
    mut input: impl Read + Send + 'static,
    mut output: impl Write,
    lobby: &Path,
    limit: Duration,
) -> io::Result<()> {
    let mut stream = meet(NAME, lobby, limit)?;
    let mut onward = stream.try_clone()?;
    thread::Builder::new()
        .name("onward".to_owned())
        .spawn(move || {
            // However it ends, so does the connection: nobody is left to ask anything.
            let _ = io::copy(&mut input, &mut onward);
            let _ = onward.shutdown(Shutdown::Both);
        })?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                output.write_all(&buffer[..length])?;
                output.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A connection to process 1 at this abstract name; see [`connect`].
pub(crate) fn meet(name: &[u8], lobby: &Path, limit: Duration) -> io::Result<UnixStream> {
    let stream = reach(&SocketAddr::from_abstract_name(name)?, lobby, limit)?;
    if !socket_peercred(&stream)?.pid.is_init() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "something else than process 1 listens",
        ));
    }
    Ok(stream)
}

fn reach(address: &SocketAddr, lobby: &Path, limit: Duration) -> io::Result<UnixStream> {
    match UnixStream::connect_addr(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        other => return other,
    }
    let started = Instant::now();
    // Before another try: what is announced after it is heard.
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, lobby, WatchFlags::CREATE)?;
    loop {
        match UnixStream::connect_addr(address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let left = limit.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(error);
                }
                something(&watch, left)?;
            }
            other => return other,
        }
    }
}

/// Returns once something has come to the folder, or the time is over.
fn something(watch: &OwnedFd, limit: Duration) -> io::Result<()> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&limit)) {
        Ok(0) | Err(Errno::INTR) => Ok(()),
        Ok(_) => {
            // What it was does not matter.
            rustix::io::read(watch, &mut [0; 4096])?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// security SBX-5: the server's half of a connection never talks to a tool that took the name; it waits for as long as
    /// nobody has it.
    #[test]
    fn sbx_5_only_process_1_is_spoken_to_and_only_the_keeper_is_heard() {
        let own = rustix::process::getuid().as_raw();
        let lobby = tempfile::tempdir().unwrap();
        let at = lobby.path().to_owned();
        let late = thread::spawn(move || {
            let limit = Duration::from_secs(30);
            let refused = connect(io::empty(), io::sink(), &at, limit).unwrap_err();
            (refused.kind(), limit)
        });
        let started = Instant::now();
        let listener = Keeper(own).listen().unwrap();
        assert!(Keeper(own).listen().is_err(), "the name is taken");
        // Whether it came before the listener or after, and whatever else comes.
        while !late.is_finished() {
            announce(lobby.path()).unwrap();
            thread::yield_now();
        }
        let (refused, limit) = late.join().unwrap();
        assert_eq!(refused, io::ErrorKind::PermissionDenied);
        assert!(started.elapsed() < limit, "it was told");
        let (stream, _) = listener.accept().unwrap();
        assert!(Keeper(own).is_at(&stream));
        assert!(!Keeper(own + 1).is_at(&stream));
        drop((listener, stream));
        let limit = Duration::from_millis(20);
        let refused = connect(io::empty(), io::sink(), lobby.path(), limit).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(std::fs::read_dir(lobby.path()).unwrap().count(), 0);
    }
}
