//! A session's folder belongs to one process at a time: whoever holds its lock starts, finds or ends the sandbox. The lock's
//! file keeps the highest epoch that did so, so that an owner that was paused and replaced starts nothing (LEASE-1).
//!
//! The kernel gives the lock up with the process. The epoch is not forced to the disk: what could obey an older owner does
//! not outlive the host's memory either.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, openat};
use rustix::io::Errno;

use super::namespace::files;
use crate::Error;

/// The file's name in a session's folder.
const NAME: &str = "lock";

/// How long another process may take with a session's folder: longer than a start.
const LIMIT: Duration = Duration::from_secs(15);

/// Between two tries. Only servers that share a data directory and turn to one session at the same moment ever wait.
const PAUSE: Duration = Duration::from_millis(5);

/// The lock on a session's folder, given up when dropped.
pub(super) struct Hold {
    file: File,
    seen: i64,
}

/// A session's folder, and the lock on it.
pub(super) type Held = (OwnedFd, Hold);

impl Hold {
    /// Locks the folder that is at `path` now; `None` when there is none.
    pub(super) async fn take(path: &Path) -> io::Result<Option<(OwnedFd, Self)>> {
        loop {
            let folder = match files::open_directory(path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let hold = Self::of(&folder).await?;
            // While this waited, the folder may have been removed, and another made in its place.
            if files::open_directory(path).is_ok_and(|now| same(&now, &folder)) {
                return Ok(Some((folder, hold)));
            }
        }
    }

    /// Locks the folder of a session, which is at `path`; `None` when there is none.
    pub(super) async fn of_session(path: &Path, session: &str) -> Result<Option<Held>, Error> {
        let held = Self::take(path).await;
        held.map_err(|error| Error::io(format!("take hold of the sandbox of {session}"), error))
    }

    /// As `of_session`, with the folder made if there is none.
    pub(super) async fn of_session_made(path: &Path, session: &str) -> Result<Held, Error> {
        loop {
            files::private_directory(path)
                .map_err(|error| Error::io(format!("make the folder of {session}"), error))?;
            if let Some(held) = Self::of_session(path, session).await? {
                return Ok(held);
            }
        }
    }

    /// Locks the folder at `path` if nobody else has it; `None` when somebody has, or there is none any more.
    pub(super) fn take_free(path: &Path) -> io::Result<Option<(OwnedFd, Self)>> {
        let folder = match files::open_directory(path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let file = open(&folder)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let hold = Self::locked(file)?;
        let there = files::open_directory(path).is_ok_and(|now| same(&now, &folder));
        Ok(there.then_some((folder, hold)))
    }

    /// Locks an open folder, wherever it is.
    pub(super) async fn of(folder: &OwnedFd) -> io::Result<Self> {
        let file = open(folder)?;
        let started = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if started.elapsed() < LIMIT => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    let problem = "another server of this data directory does not let go of it";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Self::locked(file)
    }

    /// The lock that is on this file.
    fn locked(file: File) -> io::Result<Self> {
        // From here on a drop unlocks.
        let mut hold = Self { file, seen: 0 };
        let mut epoch = [0; 8];
        match hold.file.read_exact_at(&mut epoch, 0) {
            Ok(()) => hold.seen = i64::from_le_bytes(epoch),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        Ok(hold)
    }

    /// The highest epoch that has owned the sandbox.
    pub(super) fn seen(&self) -> i64 {
        self.seen
    }

    /// Makes `epoch` the owner; `false`, and nothing is changed, when a newer one has been.
    pub(super) fn raise(&mut self, epoch: i64) -> io::Result<bool> {
        if epoch > self.seen {
            self.file.write_all_at(&epoch.to_le_bytes(), 0)?;
            self.seen = epoch;
        }
        Ok(epoch == self.seen)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Said aloud: a child that was forked just now has a copy of the descriptor until it executes a program.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(%error, "a session's folder stays locked until this server ends");
        }
    }
}

fn open(folder: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, NAME, flags, Mode::from(0o600))?))
}

/// Whether two handles are on one thing.
pub(super) fn same(one: &impl AsFd, other: &impl AsFd) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lease_1_the_highest_epoch_is_kept_and_no_lower_one_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let raise = async |epoch| {
            let (_, mut hold) = Hold::take(home.path()).await.unwrap().expect("a folder");
            (hold.raise(epoch).unwrap(), hold.seen())
        };
        assert_eq!(raise(3).await, (true, 3));
        assert_eq!(raise(3).await, (true, 3));
        assert_eq!(raise(2).await, (false, 3));
        assert_eq!(raise(4).await, (true, 4));
        assert!(
            Hold::take(&home.path().join("none"))
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn sbx_8_what_somebody_holds_is_not_taken_for_left_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("waits");
        assert!(Hold::take_free(&path).unwrap().is_none(), "none there");
        std::fs::create_dir(&path).unwrap();
        let (_, mut held) = Hold::take(&path).await.unwrap().expect("a folder");
        assert!(held.raise(7).unwrap());
        assert!(Hold::take_free(&path).unwrap().is_none(), "it is held");
        drop(held);
        let (_, free) = Hold::take_free(&path).unwrap().expect("nobody has it");
        assert_eq!(free.seen(), 7);
    }

    #[tokio::test]
    async fn lease_1_one_at_a_time_also_across_a_removal() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sesn");
        std::fs::create_dir(&path).unwrap();
        let (_, mut first) = Hold::take(&path).await.unwrap().expect("a folder");
        assert!(first.raise(7).unwrap());
        let mut second = std::pin::pin!(Hold::take(&path));
        assert!(futures::poll!(second.as_mut()).is_pending());
        // The folder that it waits for goes, and another comes in its place.
        std::fs::rename(&path, home.path().join("removed")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        let (folder, second) = second.await.unwrap().expect("a folder");
        assert_eq!(second.seen(), 0, "another session's life");
        assert!(same(&folder, &files::open_directory(&path).unwrap()));
    }
}
