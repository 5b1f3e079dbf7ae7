//! Which files a sandbox is started with: those of this host, those of a checkpoint, or none.
//!
//! Beside the tree lies `tree.json`. It is written before a start, so that a server that dies leaves a tree that counts as
//! changed, and says how new the tree is: by the epoch of its last owner here (security LEASE-1). A checkpoint is restored
//! into a new tree, which gets its name when all is in it; what was there before is moved away first, never written over.

mod packing;
mod save;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use manyhands_blobs::Stored;
use manyhands_protocol::Timestamp;
use manyhands_protocol::time::{Clock as _, SystemClock};
use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::host::Host;
use super::launch::FOLDERS;
use super::writable::{self, Tree};
use super::{at, chain, files};
use crate::Error;
use crate::archive::{self, Bounds, Owner};
use crate::failpoint::failpoint;
use crate::provider::{Checkpoint, Limits, Missing, Origin, Recipe};
pub(super) use packing::Packing;

/// The name of the state's file in a session's folder.
const NAME: &str = "tree.json";

/// The most files, folders and links of a tree.
const ENTRIES: u64 = 4_000_000;

/// What the stream has beside the content of each entry, at most, on average.
const FRAME: u64 = 4096;

/// What is known of a session's tree on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// When the sandbox was made, on this host or another.
    made_at: Timestamp,
    /// The epoch of the last owner here.
    epoch: i64,
    /// How often it was started here.
    starts: u64,
    /// Whether it may have changed since it was kept.
    unsaved: bool,
}

/// What a start begins with.
#[derive(Debug, PartialEq, Eq)]
enum Plan<'a> {
    Keep(State),
    Restore(&'a Checkpoint),
    Fresh { expired: bool },
}

/// Decides what a start begins with (pure). Sandboxes made before `oldest` are not gone on with (runtime EN-18).
fn plan<'a>(
    state: Option<State>,
    has_tree: bool,
    checkpoint: Option<&'a Checkpoint>,
    now: Timestamp,
    oldest: Timestamp,
) -> Plan<'a> {
    let kept = state.filter(|_| has_tree);
    // A tree without a state was not used since it was made, or is of an edition that kept no states.
    let newer =
        checkpoint.filter(|checkpoint| kept.is_none_or(|kept| checkpoint.epoch > kept.epoch));
    match (newer, kept) {
        (Some(checkpoint), _) if checkpoint.sandbox_created_at < oldest => {
            Plan::Fresh { expired: true }
        }
        (Some(checkpoint), _) => Plan::Restore(checkpoint),
        (None, Some(kept)) if kept.made_at < oldest => Plan::Fresh { expired: true },
        (None, Some(kept)) => Plan::Keep(kept),
        (None, None) if has_tree => Plan::Keep(State {
            made_at: now,
            epoch: 0,
            starts: 0,
            unsaved: true,
        }),
        (None, None) => Plan::Fresh { expired: false },
    }
}

impl Host {
    /// The tree that a start shows to the sandbox, and where it comes from. The folder is held and no process runs.
    pub(super) async fn tree(
        self: &Arc<Self>,
        recipe: &Recipe,
        folder: &OwnedFd,
    ) -> Result<(Tree, Origin), Error> {
        let session = &recipe.session;
        let fail = |error| Error::io(format!("look at the files of {session}"), error);
        let now = SystemClock.now();
        let retention = i64::try_from(self.config.retention.as_micros()).unwrap_or(i64::MAX);
        let oldest = Timestamp::from_micros(now.as_micros().saturating_sub(retention));
        let state = read(folder).map_err(fail)?;
        let mut has_tree = writable::owner(folder).is_ok();
        let mut checkpoint = recipe.checkpoint.as_ref();
        loop {
            let (made, made_at, origin) = match plan(state, has_tree, checkpoint, now, oldest) {
                Plan::Keep(kept) => {
                    let origin = Origin::Kept { epoch: kept.epoch };
                    let made = self.lay_out(recipe, folder, |_, _| Ok(()));
                    has_tree = false;
                    (made, kept.made_at, origin)
                }
                Plan::Restore(from) => {
                    self.clear(session)?;
                    let made = self.restore(recipe, folder, from).await;
                    (has_tree, checkpoint) = (false, None);
                    (made, from.sandbox_created_at, Origin::Restored)
                }
                Plan::Fresh { expired } => {
                    self.clear(session)?;
                    let tree = self.lay_out(recipe, folder, |_, _| Ok(()))?;
                    failpoint!("hands::after_tree");
                    self.note(session, now, recipe.epoch, state)?;
                    return Ok((tree, Origin::New { expired }));
                }
            };
            match made {
                Ok(tree) => {
                    failpoint!("hands::after_tree");
                    self.note(session, made_at, recipe.epoch, state)?;
                    return Ok((tree, origin));
                }
                // What is left is lost. The next best is taken, and the model will be told (runtime EN-19).
                Err(error) if is_damaged(&error) => tracing::error!(
                    session.id = session,
                    error = chain(&error),
                    "the files of a sandbox are damaged"
                ),
                Err(error) => return Err(error),
            }
        }
    }

    /// Notes that the tree is about to be changed by this owner.
    fn note(
        &self,
        session: &str,
        made_at: Timestamp,
        epoch: i64,
        before: Option<State>,
    ) -> Result<(), Error> {
        let state = State {
            made_at,
            epoch,
            starts: before.map_or(0, |before| before.starts) + 1,
            unsaved: true,
        };
        write(&self.folder(session), &state)
            .map_err(|error| Error::io(format!("note the start of {session}"), error))
    }

    /// Moves away what is left of earlier trees.
    fn clear(&self, session: &str) -> Result<(), Error> {
        let (folder, trash) = (self.folder(session), self.trash());
        for name in writable::PARTS {
            files::discard(&folder.join(name), &trash).map_err(|error| {
                Error::io(format!("put the old files of {session} away"), error)
            })?;
        }
        Ok(())
    }

    /// A new tree with what a checkpoint holds.
    async fn restore(
        self: &Arc<Self>,
        recipe: &Recipe,
        folder: &OwnedFd,
        checkpoint: &Checkpoint,
    ) -> Result<Tree, Error> {
        let session = &recipe.session;
        let fail = |error| Error::io(format!("restore the files of {session}"), error);
        let Some(blobs) = &self.config.blobs else {
            return Err(Error::from(Missing {
                what: "the session's files are in a checkpoint".to_owned(),
                why: "this provider has no blobs".to_owned(),
                install: "give it the place of the blobs".to_owned(),
            }));
        };
        let stored = Stored {
            size: checkpoint.size,
            sha256: checkpoint.sha256.clone(),
        };
        let started = std::time::Instant::now();
        let reader = blobs.get(&checkpoint.blob, &stored).await;
        let reader = reader.map_err(|error| fail(of_blob(error)))?;
        let stream = Box::pin(reader.into_stream().map_err(of_blob));
        let bridge = SyncIoBridge::new(StreamReader::new(stream));
        let (host, recipe) = (Arc::clone(self), recipe.clone());
        let folder = folder.try_clone().map_err(fail)?;
        let unpacked = tokio::task::spawn_blocking(move || {
            let bounds = bounds(&recipe.limits);
            host.lay_out(&recipe, &folder, |root, uid| {
                let gid = writable::gid(uid);
                let totals = archive::unpack(root, &tops(), bridge, Owner { uid, gid }, bounds)?;
                tracing::debug!(entries = totals.entries, "unpacked a checkpoint");
                Ok(())
            })
        });
        let tree = unpacked
            .await
            .unwrap_or_else(|error| Err(fail(io::Error::other(error))))?;
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("manyhands_checkpoint_restore_seconds").record(seconds);
        tracing::info!(session.id = session, seconds, "restored a checkpoint");
        Ok(tree)
    }
}

/// The last owner whose calls have used the tree of a session; `None` when nothing is known of it.
pub(super) fn owner(folder: &OwnedFd) -> Option<i64> {
    read(folder).ok().flatten().map(|state| state.epoch)
}

/// Notes that the owner of this epoch uses a living sandbox: the tree is as new as any other from now on.
pub(super) fn used(folder: &OwnedFd, epoch: i64) {
    let noted = read(folder).and_then(|state| match state {
        Some(state) if state.epoch < epoch => write(&at(folder, ""), &State { epoch, ..state }),
        _ => Ok(()),
    });
    if let Err(error) = noted {
        // It counts as older than it is: at worst it is not packed before the next start.
        tracing::warn!(%error, "the owner of a sandbox could not be noted");
    }
}

/// The folders of a tree that are kept.
fn tops() -> [&'static str; FOLDERS.len()] {
    FOLDERS.map(|(name, _)| name)
}

fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        bytes: limits.disk_bytes.saturating_add(ENTRIES * FRAME),
        entries: ENTRIES,
    }
}

/// A blob's error as one of reading: whether another try may help is in its kind.
fn of_blob(error: manyhands_blobs::Error) -> io::Error {
    use manyhands_blobs::Error as Blob;
    let kind = match &error {
        Blob::Missing { .. } | Blob::Damaged { .. } => io::ErrorKind::InvalidData,
        Blob::NoSpace { .. } => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

/// Whether what was to be read can never be: not for a reason that lies in the host or on the way.
fn is_damaged(error: &Error) -> bool {
    let Error::Io { source, .. } = error else {
        return false;
    };
    use io::ErrorKind as Kind;
    match source.kind() {
        Kind::InvalidData | Kind::FileTooLarge | Kind::UnexpectedEof => true,
        Kind::AlreadyExists | Kind::NotADirectory => true,
        // What the decompression says.
        Kind::Other => source.raw_os_error().is_none(),
        _ => false,
    }
}

fn read(folder: &OwnedFd) -> io::Result<Option<State>> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder.as_fd(), NAME, flags, Mode::empty()) {
        Ok(file) => Ok(serde_json::from_reader(std::fs::File::from(file)).ok()),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write(folder: &Path, state: &State) -> io::Result<()> {
    files::replace(&folder.join(NAME), &serde_json::to_vec(state)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn state(made_at: i64, epoch: i64) -> State {
        State {
            made_at: at(made_at),
            epoch,
            starts: 1,
            unsaved: false,
        }
    }

    fn checkpoint(made_at: i64, epoch: i64) -> Checkpoint {
        Checkpoint {
            blob: "checkpoints/a".to_owned(),
            size: 1,
            sha256: String::new(),
            epoch,
            sandbox_created_at: at(made_at),
        }
    }

    /// runtime EN-17, EN-18, security LEASE-1: the newest files that are not too old.
    #[test]
    fn en_17_a_start_begins_with_the_newest_files() {
        const NOW: i64 = 1000;
        const OLDEST: i64 = 500;
        #[track_caller]
        fn check(state: Option<State>, tree: bool, from: Option<Checkpoint>, expected: Plan<'_>) {
            let planned = plan(state, tree, from.as_ref(), at(NOW), at(OLDEST));
            assert_eq!(planned, expected, "{state:?}, tree {tree}, {from:?}");
        }
        let fresh = |expired| Plan::Fresh { expired };
        let young = checkpoint(900, 5);
        let old = checkpoint(499, 5);
        check(None, false, None, fresh(false));
        check(Some(state(900, 5)), true, None, Plan::Keep(state(900, 5)));
        check(Some(state(499, 5)), true, None, fresh(true));
        // Gone, or removed for want of space.
        check(Some(state(900, 5)), false, None, fresh(false));
        check(
            Some(state(900, 7)),
            false,
            Some(young.clone()),
            Plan::Restore(&young),
        );
        check(None, false, Some(young.clone()), Plan::Restore(&young));
        check(None, false, Some(old.clone()), fresh(true));
        // The host that owned it last has the newest files, even if they were packed by it.
        check(
            Some(state(900, 5)),
            true,
            Some(young.clone()),
            Plan::Keep(state(900, 5)),
        );
        check(
            Some(state(900, 6)),
            true,
            Some(young.clone()),
            Plan::Keep(state(900, 6)),
        );
        check(
            Some(state(900, 4)),
            true,
            Some(young.clone()),
            Plan::Restore(&young),
        );
        check(Some(state(900, 4)), true, Some(old.clone()), fresh(true));
        // Unused, or cut short while it was restored.
        check(None, true, Some(young.clone()), Plan::Restore(&young));
        let unused = State {
            starts: 0,
            unsaved: true,
            ..state(NOW, 0)
        };
        check(None, true, None, Plan::Keep(unused));
    }

    #[test]
    fn en_19_only_what_can_never_be_read_counts_as_lost() {
        #[track_caller]
        fn check(source: io::Error, damaged: bool) {
            assert_eq!(is_damaged(&Error::io("restore", source)), damaged);
        }
        let blob = |error| of_blob(error);
        let name = || "checkpoints/a".to_owned();
        check(blob(manyhands_blobs::Error::Missing { name: name() }), true);
        let damaged = manyhands_blobs::Error::Damaged {
            name: name(),
            reason: "cut".to_owned(),
        };
        check(blob(damaged), true);
        let unavailable = manyhands_blobs::Error::Unavailable {
            operation: "reading",
            reason: "it is down".to_owned(),
        };
        check(blob(unavailable), false);
        check(io::Error::from_raw_os_error(5), false);
        check(io::Error::from_raw_os_error(28), false);
        check(io::Error::other("no frame"), true);
    }
}
