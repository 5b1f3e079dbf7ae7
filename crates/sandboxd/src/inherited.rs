//! Descriptors that the server left open for us.
#![expect(
    unsafe_code,
    reason = "an inherited descriptor is only a number until somebody takes it"
)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// Takes descriptor `number`, and keeps it from our own children.
pub(crate) fn take(number: u64) -> Result<OwnedFd, String> {
    let raw = RawFd::try_from(number).ok().filter(|fd| *fd > 2);
    let raw = raw.ok_or_else(|| format!("{number} cannot be an inherited descriptor"))?;
    // SAFETY: only called for the numbers on the command line, before anything else opens descriptors, so nobody
    // else owns it; a number that is not open is found by the next line before it is used.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    match fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        Ok(()) => Ok(fd),
        Err(error) => {
            // Closing what is not open would end the process.
            std::mem::forget(fd);
            Err(format!("descriptor {number} is not open: {error}"))
        }
    }
}
