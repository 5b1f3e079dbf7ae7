//! What providers share in laying files for sandboxes: where the bytes are, and the lists of what was laid, in the sessions' folders.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use manyhands_blobs::Blobs;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::Missing;
use crate::Error;

/// Where the bytes of files are.
pub(super) fn blobs(given: Option<&Blobs>) -> Result<&Blobs, Error> {
    given.ok_or_else(|| {
        Error::from(Missing {
            what: "files have no place".to_owned(),
            why: "this provider was made without blobs".to_owned(),
            install: "start a server that has them".to_owned(),
        })
    })
}

/// The list of this name in a session's folder. One that cannot be read says that nothing is known to be there.
pub(super) fn listed<L: DeserializeOwned + Default>(
    session: &OwnedFd,
    name: &str,
) -> io::Result<L> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(session, name, flags, Mode::empty()) {
        Ok(file) => Ok(serde_json::from_reader(File::from(file)).unwrap_or_default()),
        Err(Errno::NOENT) => Ok(L::default()),
        Err(error) => Err(error.into()),
    }
}
