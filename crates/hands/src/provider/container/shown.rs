//! A container's disk: where this server is root beside the engine, what a sandbox writes lies in a file system of its own,
//! of bounded bytes and files (security SBX-3), like that of a sandbox of name spaces.
//!
//! The engine binds folders by their paths, so the disk is mounted for as long as a start takes and no longer: the container
//! keeps it from then on, and it goes with the last process inside. An engine that does not see the mount finds no folder in
//! its place and starts nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::spec::{KEEPER, USER};
use crate::provider::namespace::disk::{self, Disks};
use crate::provider::namespace::{at, writable};

/// Where the disk is mounted in a session's folder.
const NAME: &str = "shown";

/// The folder on the disk with those of memory stores.
pub(super) const MEMORY: &str = "memory";

/// A disk that is mounted where an engine finds it, until this is dropped.
pub(super) struct Shown(OwnedFd);

impl Drop for Shown {
    fn drop(&mut self) {
        if let Err(error) = hide(&self.0) {
            tracing::warn!(%error, "a container's disk stays mounted until its next start or its end");
        }
    }
}

/// Makes the disk of a session, whose folder is held, and gives the place that it is shown at.
pub(super) fn make(
    session: &Path,
    folder: &OwnedFd,
    disks: &Disks,
    bytes: u64,
) -> io::Result<PathBuf> {
    let tree = writable::open_or_make(folder, disks, bytes, || Ok(USER), |_, _| Ok(()))?;
    match mkdirat(&tree, MEMORY, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    writable::give(&openat(&tree, MEMORY, flags, Mode::empty())?, KEEPER)?;
    match mkdirat(folder, NAME, Mode::from(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(std::fs::canonicalize(session)?.join(NAME))
}

/// Shows the disk of a session, whose folder is held; `None` where its container has none.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when it is gone or damaged.
pub(super) fn show(folder: &OwnedFd) -> io::Result<Option<Shown>> {
    if !writable::exists(folder, NAME)? {
        return Ok(None);
    }
    // What a server that ended has left.
    hide(folder)?;
    let disk = disk::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::InvalidData, "there is no disk"),
        _ => error,
    })?;
    let shown = Shown(folder.try_clone()?);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(folder, NAME, flags, Mode::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&disk, "", &place, "", flags)?;
    Ok(Some(shown))
}

/// Takes away what is mounted in a session's folder. Whoever uses it keeps it.
pub(super) fn hide(folder: &OwnedFd) -> io::Result<()> {
    loop {
        match unmount(
            at(folder, NAME),
            UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
        ) {
            Ok(()) => {}
            // Nothing is mounted there, or nothing can be.
            Err(Errno::INVAL | Errno::NOENT | Errno::PERM) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
