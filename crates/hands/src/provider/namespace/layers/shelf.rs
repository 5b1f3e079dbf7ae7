//! The folder of all layers of a data directory: what is there, who builds, what nobody wants any more.
//!
//! A layer appears in one step under a name made from what decides its content, and never changes. Whoever builds one has a
//! lock on that name; whoever takes one for a session writes its name into the session's folder first. Both are respected by
//! other servers of the data directory, also after this one was killed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::files;

/// The file in a session's folder that names its layer.
const REFERENCE: &str = "layer";

/// What folders of builds begin with.
const BUILDING: &str = ".building-";

/// What names of layers begin with.
pub(super) const LAYER: &str = "layer-";

/// How many builds there may be at once, each with user ids of its own.
pub(super) const BUILDS: u32 = 8;

/// Between two tries for a lock.
const PAUSE: Duration = Duration::from_millis(100);

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub(super) folder: PathBuf,
}

/// A lock, given up when dropped.
#[derive(Debug)]
pub(in crate::provider::namespace) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Said aloud: a child that was forked just now has a copy of the descriptor until it executes a program.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// A place where a layer is built, which goes away with whoever builds.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) path: PathBuf,
    trash: PathBuf,
    _lock: Lock,
}

impl Site {
    pub(super) fn trash(&self) -> &Path {
        &self.trash
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Nothing to tell: what stays is removed at the next start.
        let _ = files::discard(&self.path, &self.trash);
    }
}

impl Shelf {
    /// Where a layer is, or will be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.folder.join(".trash")
    }

    /// Makes the folder, and removes what builds have left whose server has ended.
    pub(super) fn open(&self) -> io::Result<()> {
        files::private_directory(&self.folder)?;
        let _all = self.lock(".lock", FlockOperation::LockExclusive)?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with(BUILDING) {
                continue;
            }
            let alive = match File::open(entry.path().join("lock")) {
                Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(),
                Err(_) => false,
            };
            if !alive {
                files::discard(&entry.path(), &self.trash())?;
            }
        }
        files::empty(&self.trash())
    }

    /// A new place to build at.
    pub(super) fn site(&self) -> io::Result<Site> {
        let _all = self.lock(".lock", FlockOperation::LockShared)?;
        let path = self
            .folder
            .join(format!("{BUILDING}{}", &files::unique()[1..]));
        files::private_directory(&path)?;
        let lock = File::create_new(path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Site {
            path,
            trash: self.trash(),
            _lock: Lock(lock),
        })
    }

    /// Waits for the right to build this layer.
    pub(super) async fn build(&self, name: &str) -> io::Result<Lock> {
        loop {
            match self.lock(
                &format!(".lock-{name}"),
                FlockOperation::NonBlockingLockExclusive,
            ) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// Waits for a range of user ids that no other build has; its number.
    pub(super) async fn range(&self) -> io::Result<(u32, Lock)> {
        loop {
            for number in 0..BUILDS {
                if let Some(lock) = self.free(number)? {
                    return Ok((number, lock));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The range of this number, when no build has it.
    pub(super) fn free(&self, number: u32) -> io::Result<Option<Lock>> {
        match self.lock(
            &format!(".range-{number}"),
            FlockOperation::NonBlockingLockExclusive,
        ) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes in a session's folder that it has this layer; whether the layer is there.
    pub(super) fn take(&self, name: &str, session: &Path) -> io::Result<bool> {
        let _all = self.lock(".lock", FlockOperation::LockShared)?;
        if !self.path(name).is_dir() {
            return Ok(false);
        }
        files::replace(&session.join(REFERENCE), name.as_bytes(), 0o600)?;
        Ok(true)
    }

    /// As long as it is held, no layer is removed.
    pub(super) fn keep(&self) -> io::Result<Lock> {
        self.lock(".lock", FlockOperation::LockShared)
    }

    /// Removes the layers that are neither wanted nor had by a session below `sandboxes`, and the bases but the named one.
    pub(super) fn prune(
        &self,
        wanted: &HashSet<String>,
        base: &str,
        sandboxes: &Path,
    ) -> io::Result<()> {
        let all = self.lock(".lock", FlockOperation::LockExclusive)?;
        let mut kept = wanted.clone();
        for session in fs::read_dir(sandboxes).into_iter().flatten().flatten() {
            kept.extend(fs::read_to_string(session.path().join(REFERENCE)).ok());
        }
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let unwanted = name.starts_with(LAYER) && !kept.contains(&name);
            if unwanted {
                tracing::info!(layer = name, "removing packages that no environment wants");
            }
            // A base lies under the sandboxes that are alive: it goes with the last layer that was built on it.
            let stale = name.starts_with("base-") && name != base && kept.is_empty();
            if unwanted || stale {
                files::discard(&entry.path(), &self.trash())?;
            }
        }
        drop(all);
        files::empty(&self.trash())
    }

    fn lock(&self, name: &str, operation: FlockOperation) -> io::Result<Lock> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.folder.join(name))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Lock(file)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf {
            folder: home.path().join("layers"),
        };
        shelf.open().unwrap();
        (home, shelf)
    }

    #[test]
    fn sbx_8_what_an_ended_build_has_left_is_removed_and_a_running_one_is_not() {
        let (_home, shelf) = shelf();
        let running = shelf.site().unwrap();
        let ended = shelf.folder.join(".building-x");
        fs::create_dir(&ended).unwrap();
        fs::write(ended.join("lock"), "").unwrap();
        fs::write(ended.join("half"), "x").unwrap();
        shelf.open().unwrap();
        assert!(running.path.is_dir() && !ended.exists());
        let path = running.path.clone();
        drop(running);
        assert!(!path.exists());
    }

    #[test]
    fn en_2_layers_stay_for_environments_and_sessions_and_go_after_them() {
        let (home, shelf) = shelf();
        let session = home.path().join("sandboxes/sesn_a");
        fs::create_dir_all(&session).unwrap();
        let sandboxes = home.path().join("sandboxes");
        for name in ["layer-1", "layer-2", "layer-3"] {
            fs::create_dir(shelf.path(name)).unwrap();
        }
        assert!(shelf.take("layer-1", &session).unwrap());
        assert!(!shelf.take("layer-4", &session).unwrap(), "never built");
        let wanted = HashSet::from(["layer-2".to_owned()]);
        shelf.prune(&wanted, "base", &sandboxes).unwrap();
        let there = |name: &str| shelf.path(name).exists();
        assert_eq!(
            ["layer-1", "layer-2", "layer-3"].map(there),
            [true, true, false]
        );
        fs::remove_dir_all(&session).unwrap();
        shelf.prune(&HashSet::new(), "base", &sandboxes).unwrap();
        assert_eq!(["layer-1", "layer-2"].map(there), [false, false]);
    }

    #[tokio::test]
    async fn en_7_one_build_of_a_layer_at_a_time_and_no_range_twice() {
        let (_home, shelf) = shelf();
        let first = shelf.build("layer-1").await.unwrap();
        let other = shelf.build("layer-2").await.unwrap();
        let mut second = std::pin::pin!(shelf.build("layer-1"));
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop((first, other));
        second.await.unwrap();
        let (one, _held) = shelf.range().await.unwrap();
        let (two, _held_too) = shelf.range().await.unwrap();
        assert_ne!(one, two);
    }
}
