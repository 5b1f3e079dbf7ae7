//! A live sandbox of name spaces: its process, its folder, and how it is reached.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::peer::{self, Absent, Peer};
use super::process::waitable;
use super::{SOCKET, at, checkpoint};
use crate::Error;
use crate::provider::link::Link;
use crate::provider::live::{self, Body};

/// How long ending a sandbox may take.
const END_LIMIT: Duration = Duration::from_secs(10);

pub(super) type Live = live::Live<Process>;

/// What a sandbox of name spaces is made of.
pub(in crate::provider) struct Process {
    uid: u32,
    folder: OwnedFd,
    process: AsyncFd<OwnedFd>,
}

impl Live {
    /// Connects to the sandbox of a session if `instance` of it runs. Another instance, which no record is about, and
    /// one that does not answer are ended.
    pub(super) async fn attach(
        session: &str,
        folder: OwnedFd,
        uid: u32,
        instance: &str,
        owner: i64,
        grace: Duration,
    ) -> Result<Option<Arc<Self>>, Error> {
        let fail = |error| Error::io(format!("reach the sandbox of {session}"), error);
        let unwanted = |process: &OwnedFd, why: &str| {
            tracing::warn!(
                session.id = session,
                why,
                "ending a sandbox that cannot be used"
            );
            // It may be ending by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        };
        match peer::open(&at(&folder, SOCKET), uid).await {
            Ok(Peer {
                link,
                instance: found,
                process,
            }) if found == instance => {
                let process = waitable(process).map_err(fail)?;
                let body = Process {
                    uid,
                    folder,
                    process,
                };
                let live = Self::new(session, found, owner, grace, link, body);
                Ok(Some(Arc::new(live)))
            }
            Ok(Peer { process, .. }) => {
                unwanted(&process, "it is another instance than the recorded one");
                Ok(None)
            }
            Err(Absent::Mute { process, why }) => {
                unwanted(&process, &why);
                Ok(None)
            }
            Err(Absent::Nobody) => Ok(None),
            Err(Absent::Stranger { uid }) => {
                tracing::warn!(
                    session.id = session,
                    uid,
                    "a process of another user listens in the sandbox's place"
                );
                Ok(None)
            }
            Err(Absent::Io(error)) => Err(fail(error)),
        }
    }
}

#[async_trait]
impl Body for Process {
    fn used(&self, epoch: i64) {
        checkpoint::used(&self.folder, epoch);
    }

    fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    fn is_up(&self) -> bool {
        let mut polled = [rustix::event::PollFd::new(
            self.process.get_ref(),
            rustix::event::PollFlags::IN,
        )];
        let at_once = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut polled, Some(&at_once)), Ok(0))
    }

    async fn ended(&self) {
        // A wait that fails cannot be told from an end; whoever acts on it looks again.
        let _ = self.process.readable().await;
    }

    async fn end(&self) -> io::Result<()> {
        match pidfd_send_signal(self.process.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        match tokio::time::timeout(END_LIMIT, self.ended()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn connect(&self) -> Result<(Link, String), String> {
        match peer::open(&at(&self.folder, SOCKET), self.uid).await {
            Ok(Peer { link, instance, .. }) => Ok((link, instance)),
            Err(absent) => Err(format!("{absent:?}")),
        }
    }
}
