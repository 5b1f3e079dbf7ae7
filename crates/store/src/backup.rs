//! Backup of a SQLite store while its server runs, and the way back (security STORE-5).
//!
//! A copy is made beside its place, forced to the disk, verified, and only then gets its name. What has the name is whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::db::{Beside, Held, Reader, Schema};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::verify::{self, Counts, Source};

/// The database's name in a data directory.
const DATABASE: &str = "manyhands.db";
/// The lock's.
const LOCK: &str = "lock";
/// How often it is told how much is copied.
const PAUSE: Duration = Duration::from_secs(1);

/// What is told while a copy is made and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// So much is copied.
    Copied {
        /// Bytes that are written.
        bytes: u64,
        /// About how many there will be.
        of: u64,
    },
    /// What the verification of the copy tells.
    Verified(verify::Told),
}

/// What to do with a copy in which something is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// Keep it: the damage is told, and the rest is whole.
    Keep,
    /// Remove it.
    Refuse,
}

/// Copies the database of a data directory, whose server may be running, to a new file that only its owner can read.
/// It has every write that was acknowledged before the call. A damaged item is copied as it is, and told.
///
/// # Errors
/// When there is no such database, the file exists, or it cannot be written; then nothing is left of it.
pub async fn backup(
    directory: &Path,
    file: &Path,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Result<Counts, Error> {
    let database = directory.join(DATABASE);
    let mut reader = Reader::sqlite(&database, Beside::Writers).await?;
    reader.require(Schema::Same).await?;
    let part = Part::beside(file)?;
    part.fill(reader, &database, tell).await?;
    part.finish(file, Damaged::Keep, tell).await
}

/// Puts a backup into a data directory that is new or empty, and brings its schema up to date.
///
/// # Errors
/// When the directory is in use or not empty, or the backup cannot be read or has a newer schema; [`Error::Damaged`] when
/// items in it are damaged and `damaged` does not allow it. Then no database is left in the directory.
pub async fn restore(
    file: &Path,
    directory: &Path,
    damaged: Damaged,
    tell: &mut (dyn FnMut(Told) + Send),
) -> Result<Counts, Error> {
    let mut reader = Reader::sqlite(file, Beside::Nobody).await?;
    reader.require(Schema::SameOrOlder).await?;
    // Looked at before the lock puts a file into it.
    require_empty(directory)?;
    let held = Held::take(directory)?;
    require_empty(directory)?;
    let database = directory.join(DATABASE);
    let part = Part::beside(&database)?;
    let filled = part.fill(reader, file, tell).await;
    filled.map_err(|error| unreadable(file, error))?;
    let migrated = held.migrate(&part.path).await;
    migrated.map_err(|error| unreadable(file, error))?;
    part.finish(&database, damaged, tell).await
}

/// Damage that stops the copying itself: accepting it does not help, unlike that of items in a whole copy.
fn unreadable(file: &Path, error: Error) -> Error {
    match error {
        Error::Damaged { reason, .. } => Error::Setup {
            operation: "reading the backup to its end",
            reason: format!("{}: {reason}", file.display()),
        },
        error => error,
    }
}

fn require_empty(directory: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("looking at the data directory", directory, &error)),
    };
    for entry in entries {
        let entry =
            entry.map_err(|error| failed("looking at the data directory", directory, &error))?;
        if entry.file_name() != LOCK {
            return Err(Error::NotEmpty {
                directory: directory.display().to_string(),
            });
        }
    }
    Ok(())
}

/// A file that has no name of its own yet; removed unless it gets one.
struct Part {
    path: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is gone when it got its name; else there is nothing more to be done about it than to try.
        for suffix in ["", "-journal"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            let _ = fs::remove_file(path);
        }
    }
}

impl Part {
    /// An empty file beside another, which must not exist, and which only the owner can read.
    fn beside(file: &Path) -> Result<Self, Error> {
        if file.symlink_metadata().is_ok() {
            return Err(exists(file));
        }
        let file = std::path::absolute(file).map_err(|error| failed(MAKING, file, &error))?;
        let mut path = file.clone().into_os_string();
        path.push(format!(".part-{:08x}", rand::random::<u32>()));
        let path = PathBuf::from(path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(MAKING, &file, &error))?;
        Ok(Self { path })
    }

    /// Writes what the reader sees now, and forces it to the disk.
    async fn fill(
        &self,
        mut reader: Reader,
        source: &Path,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<(), Error> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let Some(path) = self.path.to_str() else {
            return Err(Error::Setup {
                operation: MAKING,
                reason: format!("{} is not Unicode text; name another", self.path.display()),
            });
        };
        {
            let copy = reader.copy_into(path);
            tokio::pin!(copy);
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PAUSE, PAUSE);
            loop {
                tokio::select! {
                    copied = &mut copy => break copied?,
                    _ = ticks.tick() => tell(Told::Copied {
                        bytes: size(&self.path),
                        of: size(source),
                    }),
                }
            }
        }
        failpoint!("store::backup::copied");
        reader.close().await
    }

    /// Verifies it, forces it to the disk and gives it its name, which is still free.
    async fn finish(
        self,
        file: &Path,
        damaged: Damaged,
        tell: &mut (dyn FnMut(Told) + Send),
    ) -> Result<Counts, Error> {
        let source = Source::File(self.path.clone());
        let counts = verify::verify(&source, &mut |told| tell(Told::Verified(told))).await?;
        if counts.damaged > 0 && damaged == Damaged::Refuse {
            return Err(Error::Damaged {
                item: "the backup".to_owned(),
                reason: format!(
                    "{} of its items are, and it is not restored",
                    counts.damaged
                ),
            });
        }
        let (part, named) = (self.path.clone(), file.to_owned());
        tokio::task::spawn_blocking(move || name(&part, &named))
            .await
            .map_err(|error| Error::Unavailable {
                operation: MAKING,
                reason: error.to_string(),
            })??;
        Ok(counts)
    }
}

const MAKING: &str = "writing a copy of the database";

fn exists(file: &Path) -> Error {
    Error::Setup {
        operation: MAKING,
        reason: format!("{} exists already; name another file", file.display()),
    }
}

/// The copy is on the disk before it has its name, and the name is before this returns.
fn name(part: &Path, file: &Path) -> Result<(), Error> {
    let synced = File::open(part).and_then(|part| part.sync_all());
    synced.map_err(|error| failed(MAKING, part, &error))?;
    failpoint!("store::backup::before_rename");
    let renamed = match renameat_with(CWD, part, CWD, file, RenameFlags::NOREPLACE) {
        // Some file systems cannot keep what exists when they rename, but can when they link.
        Err(rustix::io::Errno::INVAL) => fs::hard_link(part, file),
        renamed => renamed.map_err(Into::into),
    };
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(file),
        _ => failed(MAKING, file, &error),
    })?;
    failpoint!("store::backup::after_rename");
    let folder = file.parent().filter(|path| !path.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed(MAKING, folder, &error))
}

fn failed(operation: &'static str, path: &Path, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::StorageFull {
        return Error::NoSpace { operation };
    }
    Error::Setup {
        operation,
        reason: format!("{}: {error}", path.display()),
    }
}
