//! The tree that a session's sandbox writes: the one way for the host to its files (security SBX-4).
//!
//! It is the root of the session's disk, or, where this host has none, the plain folder `writable`. Either way the
//! folder `writable` belongs to the sandbox's user: its owner is the record of who that is.

mod walk;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, fchmod, fchown, fstat, mkdirat,
    openat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::disk::{self, Disks};
use super::launch::FOLDERS;
pub use walk::{Entry, Walked};

/// The folder's name in a session's.
const NAME: &str = "writable";

/// A handle on the root of what a sandbox writes. What is opened by it lies beneath it, is reached without following a
/// link, and is looked at when it is used (security SBX-4).
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    uid: u32,
    bounded: bool,
}

impl Tree {
    /// What a start shows to the sandbox. The caller has the lock on the session's folder.
    pub(super) fn shown(&self, session: &OwnedFd) -> io::Result<Writable> {
        Ok(if self.bounded {
            Writable::Mount(disk::open(session)?)
        } else {
            Writable::Folder(self.root.try_clone()?)
        })
    }

    /// The user of the host that everything in it belongs to.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether it is a file system of its own, with bounds of bytes and files that hold.
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// Opens what is at a relative path of plain segments. Waits for nobody: a pipe without a writer opens as well, so
    /// look at the type of what was opened before anything is read, or use [`Tree::open_file`].
    ///
    /// # Errors
    /// Of `openat2`: `ELOOP` when a link is on the way, `EXDEV` when the path leads out of the tree.
    pub fn open_beneath(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.create_beneath(path, flags, Mode::empty())
    }

    /// As [`Tree::open_beneath`], with the mode of a file that `flags` may create. What is created is the server's until it
    /// is given to [`Tree::uid`].
    ///
    /// # Errors
    /// As [`Tree::open_beneath`].
    pub fn create_beneath(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        Ok(openat2(&self.root, path, flags, mode, resolve)?)
    }

    /// Opens a regular file for reading, with what the kernel knows of it.
    ///
    /// # Errors
    /// As [`Tree::open_beneath`], and [`io::ErrorKind::InvalidInput`] for anything but a regular file.
    pub fn open_file(&self, path: &Path) -> io::Result<(File, Stat)> {
        let file = self.open_beneath(path, OFlags::RDONLY)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((File::from(file), stat))
    }
}

/// The tree as a start hands it over.
pub(super) enum Writable {
    /// A detached mount of the disk, of which nothing else is made.
    Mount(OwnedFd),
    /// The plain folder.
    Folder(OwnedFd),
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// The user that the session's files belong to.
pub(in crate::provider) fn owner(session: &OwnedFd) -> io::Result<u32> {
    Ok(statat(session, NAME, AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
}

/// The tree of a session, whose lock the caller has; `None` when there is none yet.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when it is damaged.
pub(super) fn open(session: &OwnedFd) -> io::Result<Option<Tree>> {
    let uid = match owner(session) {
        Ok(uid) => uid,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bounded = disk::is_in(session)?;
    let root = if bounded {
        disk::open(session)?
    } else {
        directory(session, NAME)?
    };
    Ok(Some(Tree { root, uid, bounded }))
}

/// What a session's folder has of trees, whole or half-made.
pub(in crate::provider) const PARTS: [&str; 4] = [NAME, ".writable", disk::NAME, ".disk"];

/// The tree of a session, whose lock the caller has, made for this user and of this size if there is none yet. One that is
/// made is filled before it gets its name.
pub(in crate::provider) fn open_or_make(
    session: &OwnedFd,
    disks: &Disks,
    bytes: u64,
    uid: impl FnOnce() -> io::Result<u32>,
    fill: impl FnOnce(&OwnedFd, u32) -> io::Result<()>,
) -> io::Result<Tree> {
    if let Some(tree) = open(session)? {
        return Ok(tree);
    }
    let uid = uid()?;
    let aside = format!(".{NAME}");
    make_directory(session, &aside)?;
    let (root, bounded) = match disks.usable() {
        Ok(_) => (disks.make(session, bytes)?, true),
        Err(_) => (directory(session, &aside)?, false),
    };
    if bounded {
        match unlinkat(&root, "lost+found", AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (name, _) in FOLDERS {
        make_directory(&root, name)?;
        let folder = directory(&root, name)?;
        give(&folder, uid)?;
        fchmod(
            &folder,
            Mode::from(if name == "tmp" { 0o1777 } else { 0o755 }),
        )?;
    }
    fill(&root, uid)?;
    // Owned by its user from the moment it has its name: whoever finds it finds all.
    give(&directory(session, &aside)?, uid)?;
    renameat(session, &aside, session, NAME)?;
    Ok(Tree { root, uid, bounded })
}

/// Puts the folders of a session that an earlier edition has laid out where they are now; its sandbox may be alive.
pub(super) fn adopt(session: &OwnedFd) -> io::Result<()> {
    let (last, _) = FOLDERS[0];
    if exists(session, NAME)? || !exists(session, last)? {
        return Ok(());
    }
    let uid = statat(session, last, AtFlags::SYMLINK_NOFOLLOW)?.st_uid;
    let aside = format!(".{NAME}");
    make_directory(session, &aside)?;
    let into = directory(session, &aside)?;
    // The one that tells of the others goes last.
    for (name, _) in FOLDERS.iter().rev() {
        match renameat(session, *name, &into, *name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    give(&into, uid)?;
    Ok(renameat(session, &aside, session, NAME)?)
}

/// Whether there is something of this name, a link counting as itself.
pub(in crate::provider) fn exists(folder: &OwnedFd, name: &str) -> io::Result<bool> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn make_directory(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match mkdirat(folder, name, Mode::from(0o755)) {
        // Left by a server that ended here.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn directory(folder: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

/// Makes a user the owner, with the group that goes with it: the same number for those given to sandboxes, our own for
/// ourselves.
pub(in crate::provider) fn give(thing: &impl AsFd, uid: u32) -> io::Result<()> {
    let gid = gid(uid);
    Ok(fchown(
        thing,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
    )?)
}

/// The group that goes with a user.
pub(super) fn gid(uid: u32) -> u32 {
    if uid == rustix::process::getuid().as_raw() {
        rustix::process::getgid().as_raw()
    } else {
        uid
    }
}

#[cfg(test)]
mod tests;
