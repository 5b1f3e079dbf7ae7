//! Files in and out of a container, over the standard streams of a process that the container's engine starts inside. So
//! they are looked at with the rights of the sandbox and in its own tree: whatever links it has made, they lead nowhere else
//! (security SBX-4).
//!
//! Messages are [`frame`](crate::frame)s; the bytes of a file follow the message that announces them.

mod lay;
mod show;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Dir, Mode, OFlags, Stat, openat};
use serde::{Deserialize, Serialize};

pub use lay::lay;
pub use show::show;

/// The deepest folder that is looked into.
const DEEPEST: usize = 64;

/// What a server says to [`lay`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Lay {
    /// Every other file goes. First, and once.
    Keep {
        /// Paths below the folder.
        paths: Vec<String>,
    },
    /// A file, whose bytes follow.
    File {
        /// Its path below the folder.
        path: String,
        /// How many bytes follow.
        size: u64,
        /// Whether it may be run.
        #[serde(default)]
        executable: bool,
    },
    /// That was all.
    Done,
}

/// What [`lay`] answers when everything is as was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Laid {
    /// How many files were written.
    pub written: u64,
}

/// What [`show`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Show {
    /// A regular file.
    Found {
        /// Its path below the folder, whatever bytes it has.
        path: Vec<u8>,
        /// Changes when it is written.
        stamp: String,
        /// How many bytes.
        size: u64,
    },
    /// There are no more; from here on it answers.
    All {
        /// How many were too deep or too many to be looked at.
        left_out: u64,
    },
    /// To [`Want`]: so many bytes follow, and then `After`.
    Bytes {
        /// How many.
        size: u64,
    },
    /// After the bytes: what tells that the file was written, now.
    After {
        /// As in `Found`.
        stamp: String,
    },
    /// To [`Want`]: there is no such regular file any more.
    Gone,
}

/// What a server asks [`show`] for: one file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// A path that was found.
    pub path: Vec<u8>,
}

/// The parts of a path that stays below where it starts.
fn segments(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    let segments: Vec<_> = path.split(|byte| *byte == b'/').collect();
    let fine = |segment: &&[u8]| !matches!(*segment, b"" | b"." | b"..");
    if segments.len() <= DEEPEST + 1 && segments.iter().all(fine) {
        Ok(segments)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

fn folder(at: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, OsStr::from_bytes(name), flags, Mode::empty())?)
}

fn names(at: &OwnedFd) -> io::Result<Vec<CString>> {
    let names = Dir::read_from(at)?.map(|entry| Ok(entry?.file_name().to_owned()));
    let names: io::Result<Vec<CString>> = names.collect();
    let own = |name: &CStr| matches!(name.to_bytes(), b"." | b"..");
    Ok(names?.into_iter().filter(|name| !own(name)).collect())
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    match above {
        [] => name.to_vec(),
        above => [above, b"/", name].concat(),
    }
}

/// What changes when a file is written: size, times and number.
pub fn stamp(stat: &Stat) -> String {
    format!(
        "{}-{}.{:09}-{}.{:09}-{}",
        stat.st_size,
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_ctime,
        stat.st_ctime_nsec,
        stat.st_ino
    )
}

#[cfg(test)]
mod tests;
