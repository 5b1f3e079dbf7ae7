//! Which files a sandbox is started with: those that are here, those of a checkpoint, or none.
//!
//! In the session's folder lies `tree.json`. It is written before a sandbox is used, so that a server that dies leaves a tree
//! that counts as changed, and says how new the tree is: by the epoch of its last owner here (security LEASE-1).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use manyhands_protocol::Timestamp;
use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, Unsaved};
use crate::provider::namespace::{at, files};

/// The name of the state's file in a session's folder.
pub(super) const NAME: &str = "tree.json";

/// What is known of a session's tree here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::provider) struct State {
    /// When the sandbox was made, here or elsewhere.
    pub(super) made_at: Timestamp,
    /// The epoch of the last owner here.
    pub(super) epoch: i64,
    /// How often it was started here.
    pub(super) starts: u64,
    /// Whether it may have changed since it was kept.
    pub(super) unsaved: bool,
}

impl State {
    /// Whether nothing was started and nobody became the owner since.
    pub(super) fn is(&self, unsaved: &Unsaved) -> bool {
        (self.epoch, self.starts) == (unsaved.epoch, unsaved.starts)
    }
}

/// What a start begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan<'a> {
    Keep(State),
    Restore(&'a Checkpoint),
    Fresh { expired: bool },
}

/// Decides what a start begins with (pure). Sandboxes made before `oldest` are not gone on with (runtime EN-18).
pub(super) fn plan<'a>(
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

/// Notes that the tree of a session is about to be changed by this owner.
pub(in crate::provider) fn note(
    folder: &Path,
    made_at: Timestamp,
    epoch: i64,
    before: Option<State>,
) -> io::Result<()> {
    let state = State {
        made_at,
        epoch,
        starts: before.map_or(0, |before| before.starts) + 1,
        unsaved: true,
    };
    write(folder, &state)
}

/// The last owner whose calls have used the tree of a session; `None` when nothing is known of it.
pub(in crate::provider) fn owner(folder: &OwnedFd) -> Option<i64> {
    read(folder).ok().flatten().map(|state| state.epoch)
}

/// Notes that the owner of this epoch uses a living sandbox: the tree is as new as any other from now on.
pub(in crate::provider) fn used(folder: &OwnedFd, epoch: i64) {
    let noted = read(folder).and_then(|state| match state {
        Some(state) if state.epoch < epoch => write(&at(folder, ""), &State { epoch, ..state }),
        _ => Ok(()),
    });
    if let Err(error) = noted {
        // It counts as older than it is: at worst it is not packed before the next start.
        tracing::warn!(%error, "the owner of a sandbox could not be noted");
    }
}

pub(super) fn read(folder: &OwnedFd) -> io::Result<Option<State>> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder.as_fd(), NAME, flags, Mode::empty()) {
        Ok(file) => Ok(serde_json::from_reader(std::fs::File::from(file)).ok()),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn write(folder: &Path, state: &State) -> io::Result<()> {
    files::replace(&folder.join(NAME), &serde_json::to_vec(state)?, 0o600)
}

/// Removes what is known.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(folder.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
}
