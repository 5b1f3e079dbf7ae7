//! Where an instance is, and that it is alive there: a lock in the data directory that ends with the process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::Place;
use crate::db::{Scope, values};
use crate::error::Error;
use crate::lease::Nudge;
use crate::store::{Inner, Store};
use crate::strays::place_of;

/// How often an instance looks whether those beside it are alive.
const LOOK: Duration = Duration::from_millis(500);

/// An instance's place, held for as long as this lives.
pub(crate) struct Home {
    name: String,
    lock: Option<Lock>,
}

/// The file `instances/<id>`, locked.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Home {
    /// Finds out the name of the place and, in a data directory, takes this instance's lock in it. Before anything else
    /// is said of the instance: whoever reads of it finds the lock taken.
    pub(crate) fn take(place: &Place, instance: &str) -> Result<Self, Error> {
        let directory = match place {
            Place::Alone => {
                let name = format!("{:032x}", rand::random::<u128>());
                return Ok(Self { name, lock: None });
            }
            Place::Named(name) => {
                return Ok(Self {
                    name: name.clone(),
                    lock: None,
                });
            }
            Place::Directory(directory) => directory,
        };
        let take = || {
            let name = name_of(directory)?;
            let lock = Some(Lock::take(&directory.join("instances"), instance)?);
            Ok(Self { name, lock })
        };
        take().map_err(|error: io::Error| Error::Setup {
            operation: "taking a place in the data directory",
            reason: format!("{}: {error}", directory.display()),
        })
    }

    /// The name of the place.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder with the locks of the instances at this place.
    pub(crate) fn neighbours(&self) -> Option<&Path> {
        self.lock.as_ref().and_then(|lock| lock.path.parent())
    }

    /// Removes the lock's file: nothing is left of this instance that others would have to care for.
    pub(crate) fn leave(&self) {
        if let Some(lock) = &self.lock
            && let Err(error) = fs::remove_file(&lock.path)
        {
            tracing::debug!(%error, "an instance's lock file stays for the others to remove");
        }
    }
}

/// A directory's own name, and the boot in which it is used: processes and their sockets do not outlive that.
fn name_of(directory: &Path) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let path = directory.join("place");
    if !path.try_exists()? {
        // Written aside and linked, so that it is whole; of several instances one is the first.
        let new = directory.join(format!("place.{:032x}", rand::random::<u128>()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{:032x}", rand::random::<u128>())?;
        file.sync_all()?;
        let linked = fs::hard_link(&new, &path);
        fs::remove_file(&new)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => File::open(directory)?.sync_all()?,
        }
    }
    let name = fs::read_to_string(&path)?;
    Ok(format!("{}-{}", name.trim(), boot.trim()))
}

impl Lock {
    fn take(folder: &Path, instance: &str) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let path = folder.join(instance);
        // It gets its name when it is locked: a file with an instance's name and no lock is one of the dead.
        let new = folder.join(format!(".{instance}"));
        // Closed in every program that this one starts; between fork and exec such a child holds it for a moment.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&new, &path)?;
        Ok(Self { path, _file: file })
    }
}

/// An instance that is no more. Its lock is held while this lives, so that only one of the others deals with it.
struct Dead {
    instance: String,
    path: PathBuf,
    _file: File,
}

/// The instances of a folder that do not live any more.
fn dead(folder: &Path) -> io::Result<Vec<Dead>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            found.push(Dead {
                instance: name.to_owned(),
                path,
                _file: file,
            });
        }
    }
    Ok(found)
}

impl Store {
    /// Voids the leases of instances in the same data directory that have died, without waiting until nobody believes
    /// in them any more (security LEASE-1). Says how many there were. Happens by itself all the time.
    pub async fn void_dead_neighbours(&self) -> Result<usize, Error> {
        let Some(folder) = self.inner.home.neighbours().map(Path::to_owned) else {
            return Ok(0);
        };
        let found = tokio::task::spawn_blocking(move || dead(&folder)).await;
        let found = found.map_err(io::Error::other).and_then(|found| found);
        let found = found.map_err(|error| Error::Unavailable {
            operation: "looking for dead instances",
            reason: error.to_string(),
        })?;
        let count = found.len();
        for dead in found {
            let sessions = self.inner.void(dead.instance.clone()).await?;
            tracing::warn!(instance = %dead.instance, sessions, "an instance beside this one has died; its leases are void");
            if let Err(error) = fs::remove_file(&dead.path) {
                tracing::warn!(%error, "the lock file of a dead instance cannot be removed");
            }
        }
        Ok(count)
    }
}

impl Inner {
    /// Voids all leases of an instance that is known to be dead; says how many.
    async fn void(&self, dead: String) -> Result<usize, Error> {
        let freed = self
            .db
            .write(Scope::default(), move |tx| {
                Box::pin(async move {
                    let rows = tx
                        .all(
                            "UPDATE sessions SET epoch = epoch + 1, holder = NULL WHERE holder = $1
                             RETURNING workspace, id, wants_brain",
                            values![dead.as_str()],
                        )
                        .await?;
                    tx.run(
                        "DELETE FROM instances WHERE id = $1",
                        values![dead.as_str()],
                    )
                    .await?;
                    rows.iter()
                        .map(|row| Ok((place_of(row)?, row.int(2)? == 1)))
                        .collect::<Result<Vec<_>, Error>>()
                })
            })
            .await?;
        let count = freed.len();
        for ((workspace, session), wanted) in freed {
            if wanted {
                self.call(Nudge {
                    workspace,
                    session,
                    lease: None,
                });
            }
        }
        Ok(count)
    }
}

/// Looks for dead instances beside this one as long as the store is open.
pub(crate) async fn void_dead_neighbours(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = (Store { inner }).void_dead_neighbours().await {
            tracing::warn!(%error, "the leases of dead instances cannot be voided yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = dead(folder)
            .unwrap()
            .into_iter()
            .map(|dead| dead.instance)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn instances_of_one_directory_are_at_one_place() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::Directory(directory.path().join("data"));
        let homes: Vec<Home> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|n| {
                    let place = &place;
                    scope.spawn(move || Home::take(place, &format!("i{n}")).unwrap())
                })
                .collect();
            let homes = starts.into_iter().map(|start| start.join().unwrap());
            homes.collect()
        });
        assert!(homes.iter().all(|home| home.name() == homes[0].name()));
        let mut left: Vec<_> = fs::read_dir(directory.path().join("data"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["instances", "place"]);
        let other = tempfile::tempdir().unwrap();
        let other = Home::take(&Place::Directory(other.path().to_owned()), "i0").unwrap();
        assert_ne!(other.name(), homes[0].name());
        let alone = Home::take(&Place::Alone, "i0").unwrap();
        assert_ne!(alone.name(), homes[0].name());
    }

    #[test]
    fn lease_1_who_has_died_is_seen_by_its_lock_and_by_one_neighbour_only() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::Directory(directory.path().to_owned());
        let [living, dying, leaving] =
            ["living", "dying", "leaving"].map(|name| Home::take(&place, name).unwrap());
        let folder = living.neighbours().unwrap();
        assert_eq!(names(folder), [""; 0]);
        leaving.leave();
        drop((dying, leaving));
        let found = dead(folder).unwrap();
        assert_eq!(found[0].instance, "dying");
        assert_eq!(names(folder), [""; 0], "somebody deals with it");
        drop(found);
        assert_eq!(names(folder), ["dying"], "and did not get to the end");
    }
}
