//! Room that is kept on the disk for the end of work (security STORE-4).
//!
//! While the disk has little room, nothing new is begun, and what ends work takes the room that a file has kept. When
//! there is enough again, the file is made anew and all goes on, without a restart.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::error::Error;

/// What a write needs the disk for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The write itself says which of the others it is. One that says nothing is made and does not touch the reserve.
    #[default]
    Depends,
    /// New work: refused while room is short.
    Begins,
    /// The end of work, or what frees room: takes the reserve.
    Ends,
}

/// What the file keeps, bytes.
const KEPT: u64 = 8 << 20;
/// Room that must be left beside the file, bytes: more than one group of writes takes in SQLite's log and then in the
/// database.
const LEFT: u64 = 8 << 20;
/// More room than that, bytes, makes room short no longer, so that it does not change with every write.
const MARGIN: u64 = 1 << 20;

/// The file that keeps room, and whether room is short. Only one thread moves it; any may look.
pub(crate) struct Reserve {
    directory: PathBuf,
    kept: AtomicBool,
    short: AtomicBool,
}

impl Reserve {
    /// Looks at a data directory, whose lock the caller holds, and keeps room in it. Where there is none, the room that was
    /// kept before is given up: opening a database takes some.
    pub(crate) fn open(directory: &Path) -> Self {
        let reserve = Self {
            directory: directory.to_owned(),
            kept: AtomicBool::new(false),
            short: AtomicBool::new(false),
        };
        let kept = reserve.file().metadata();
        // A sparse file, as some copies are, keeps nothing.
        let kept = kept.is_ok_and(|file| file.blocks() * 512 >= KEPT);
        reserve.kept.store(kept, Ordering::Relaxed);
        reserve.look(0);
        if reserve.is_short() {
            reserve.give_up();
        }
        reserve
    }

    /// Whether room is short.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Looks how much room there is before so many bytes are written.
    pub(crate) fn look(&self, bytes: usize) {
        let needed = LEFT.saturating_add(bytes as u64);
        let was_short = self.is_short();
        let margin = if was_short { MARGIN } else { 0 };
        let mut room = self.room();
        if !self.kept.load(Ordering::Relaxed) && room >= KEPT + needed + margin {
            match self.keep() {
                Ok(()) => {
                    self.kept.store(true, Ordering::Relaxed);
                    room = self.room();
                }
                // A quota, which the file system's figures do not tell.
                Err(error) => {
                    tracing::debug!(%error, "no room can be kept");
                    room = 0;
                }
            }
        }
        let short = !self.kept.load(Ordering::Relaxed) || room < needed + margin;
        self.short.store(short, Ordering::Relaxed);
        let directory = self.directory.display();
        match (was_short, short) {
            (false, true) => tracing::error!(
                %directory,
                "the disk is nearly full: new work is refused until there is room; what is stored can be read, and interrupts work"
            ),
            (true, false) => {
                tracing::info!(%directory, "the disk has room again: new work is taken")
            }
            _ => {}
        }
    }

    /// A write met a full disk.
    pub(crate) fn met_the_end(&self) {
        if !self.short.swap(true, Ordering::Relaxed) {
            let directory = self.directory.display();
            tracing::error!(%directory, "the disk is full: new work is refused until there is room");
        }
        self.give_up();
    }

    /// Whether a write may be made. One that ends work gets the reserve.
    pub(crate) fn admit(&self, purpose: Purpose) -> Result<(), Error> {
        match (self.is_short(), purpose) {
            (false, _) | (true, Purpose::Depends) => Ok(()),
            (true, Purpose::Begins) => Err(Error::NoSpace {
                operation: "beginning new work",
            }),
            (true, Purpose::Ends) => {
                self.give_up();
                Ok(())
            }
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    /// How many bytes this user can still write.
    fn room(&self) -> u64 {
        match statvfs(&self.directory) {
            Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
            Err(error) => {
                tracing::debug!(%error, "the file system does not tell its room");
                u64::MAX
            }
        }
    }

    fn keep(&self) -> io::Result<()> {
        let kept = self.allocate();
        if kept.is_err() {
            self.remove();
        }
        kept
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.file())?;
        match fallocate(&file, FallocateFlags::empty(), 0, KEPT) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&mut file),
            Err(error) => Err(error.into()),
        }
    }

    fn give_up(&self) {
        if self.kept.swap(false, Ordering::Relaxed) {
            tracing::warn!("what ends work takes the room that was kept for it");
            self.remove();
        }
    }

    fn remove(&self) {
        match std::fs::remove_file(self.file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the reserve cannot be given up");
            }
            _ => {}
        }
    }
}

/// Where room cannot be had without writing.
fn fill(file: &mut File) -> io::Result<()> {
    let zeros = [0; 1 << 16];
    for _ in 0..KEPT / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(reserve: &Reserve) -> u64 {
        let file = reserve.file().metadata();
        file.map_or(0, |file| file.blocks() * 512)
    }

    #[test]
    fn store_4_room_is_kept_given_up_for_the_end_of_work_and_kept_again() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(folder.path());
        assert!(!reserve.is_short() && kept(&reserve) >= KEPT);
        for purpose in [Purpose::Begins, Purpose::Depends, Purpose::Ends] {
            assert_eq!(reserve.admit(purpose), Ok(()));
            assert!(kept(&reserve) >= KEPT, "{purpose:?}");
        }

        // More than any disk has.
        reserve.look(usize::MAX);
        assert!(reserve.is_short());
        assert!(matches!(
            reserve.admit(Purpose::Begins),
            Err(Error::NoSpace { .. })
        ));
        assert_eq!(reserve.admit(Purpose::Depends), Ok(()));
        assert!(kept(&reserve) >= KEPT, "nobody has ended anything");
        assert_eq!(reserve.admit(Purpose::Ends), Ok(()));
        assert_eq!(kept(&reserve), 0);

        reserve.look(0);
        assert!(!reserve.is_short() && kept(&reserve) >= KEPT);
        reserve.met_the_end();
        assert!(reserve.is_short() && kept(&reserve) == 0);
        reserve.look(0);
        assert!(!reserve.is_short());
    }

    #[test]
    fn store_4_a_file_that_keeps_nothing_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let sparse = File::create(folder.path().join("reserve")).unwrap();
        sparse.set_len(KEPT).unwrap();
        let reserve = Reserve::open(folder.path());
        assert!(!reserve.is_short() && kept(&reserve) >= KEPT);
        let again = Reserve::open(folder.path());
        assert!(!again.is_short() && kept(&again) >= KEPT);
    }

    #[test]
    fn store_4_where_room_cannot_be_allocated_it_is_written() {
        let mut file = tempfile::tempfile().unwrap();
        fill(&mut file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), KEPT);
    }
}
