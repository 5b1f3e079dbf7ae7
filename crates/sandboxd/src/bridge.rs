//! The way into a container, which shares no file with its host: a process that the container's engine starts inside
//! (`manyhands-sandboxd connect`) carries one connection between its standard streams and process 1.
//!
//! The socket has a name in the container's own network name space. The tools' processes see it too, so each side looks
//! at whom it has before it: [`Keeper`] takes connections of a user that no tool can become, and [`connect`] insists on
//! process 1.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;

/// The socket's name, in the abstract name space.
const NAME: &[u8] = b"manyhands-sandboxd";

/// Between two looks whether process 1 listens yet.
const PAUSE: Duration = Duration::from_millis(5);

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

/// Carries bytes between `input`, `output` and process 1 until one of them ends. Process 1 may still be starting: it gets
/// `limit` to listen.
///
/// # Errors
/// When process 1 does not listen, or something else does.
pub fn connect(
    mut input: impl Read + Send + 'static,
    mut output: impl Write,
    limit: Duration,
) -> io::Result<()> {
    let mut stream = reach(&SocketAddr::from_abstract_name(NAME)?, limit)?;
    let peer = socket_peercred(&stream)?;
    if !peer.pid.is_init() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "something else than process 1 listens",
        ));
    }
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

fn reach(address: &SocketAddr, limit: Duration) -> io::Result<UnixStream> {
    let started = Instant::now();
    loop {
        match UnixStream::connect_addr(address) {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && started.elapsed() < limit =>
            {
                thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// security SBX-5: the server's half of a connection never talks to a tool that took the name.
    #[test]
    fn sbx_5_only_process_1_is_spoken_to_and_only_the_keeper_is_heard() {
        let own = rustix::process::getuid().as_raw();
        let listener = Keeper(own).listen().unwrap();
        assert!(Keeper(own).listen().is_err(), "the name is taken");
        let refused = connect(io::empty(), io::sink(), Duration::from_secs(5)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let (stream, _) = listener.accept().unwrap();
        assert!(Keeper(own).is_at(&stream));
        assert!(!Keeper(own + 1).is_at(&stream));
        drop((listener, stream));
        let refused = connect(io::empty(), io::sink(), Duration::from_millis(20)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
