//! Which folders are synced: the way to a new data directory has to be on the disk as well as what is in it.
//!
//! Folders are not made through SQLite, so its file system does not hear of them. This binary brings its own `fsync`
//! instead, by which the standard library and SQLite reach the disk.
#![expect(unsafe_code, reason = "it stands in for a function of C")]

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static SYNCED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Forces a file to the disk, as its namesake does, and remembers which folder it was.
///
/// # Safety
/// As for C's: the descriptor is open.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    // SAFETY: the caller has it open during this call.
    let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let done = rustix::fs::fsync(file);
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
    if let (Ok(()), Ok(path)) = (done, path)
        && path.is_dir()
    {
        let mut synced = SYNCED.lock().unwrap_or_else(PoisonError::into_inner);
        synced.insert(path);
    }
    if done.is_ok() { 0 } else { -1 }
}

/// Whether a folder, by its real path, was synced since this process began.
pub(crate) fn are_synced(folder: &Path) -> bool {
    let synced = SYNCED.lock().unwrap_or_else(PoisonError::into_inner);
    synced.contains(folder)
}
