//! Who listens on a sandbox's socket: the kernel's word on it, then its own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use manyhands_sandboxd::frame::HANDSHAKE_LIMIT;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use crate::provider::link::{Link, Unanswered};

/// What is at the other end.
pub(super) struct Peer {
    /// The connection.
    pub(super) link: Link,
    /// What it says its instance is.
    pub(super) instance: String,
    /// Its process, which is process 1 of the sandbox: ending it ends everything inside.
    pub(super) process: OwnedFd,
}

/// Why there is no peer.
#[derive(Debug)]
pub(super) enum Absent {
    /// Nobody listens.
    Nobody,
    /// A process listens that is not the sandbox's.
    Stranger { uid: u32 },
    /// The sandbox's process listens but does not answer as it should.
    Mute { process: OwnedFd, why: String },
    /// It could not be tried.
    Io(io::Error),
}

/// Connects to the socket at `path` if the process behind it runs as `uid` (security SBX-5).
pub(super) async fn open(path: &Path, uid: u32) -> Result<Peer, Absent> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                // Reset: whoever listened ended meanwhile.
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotFound
            ) =>
        {
            return Err(Absent::Nobody);
        }
        Err(error) => return Err(Absent::Io(error)),
    };
    // The kernel's word on who listens, not the peer's own.
    let peer = stream.peer_cred().map_err(Absent::Io)?;
    if peer.uid() != uid {
        return Err(Absent::Stranger { uid: peer.uid() });
    }
    let pid = peer.pid().and_then(Pid::from_raw).ok_or(Absent::Nobody)?;
    let process = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Err(Absent::Nobody),
        Err(error) => return Err(Absent::Io(error.into())),
    };
    // An answer now proves that the process was alive when it was opened, so its id had not been given anew.
    let (reader, writer) = stream.into_split();
    let link = Link::over(reader, writer);
    match link.greet(HANDSHAKE_LIMIT).await {
        Ok(instance) => Ok(Peer {
            link,
            instance,
            process,
        }),
        Err(Unanswered::Mute(why)) => Err(Absent::Mute { process, why }),
        Err(Unanswered::Closed) => Err(Absent::Nobody),
    }
}
