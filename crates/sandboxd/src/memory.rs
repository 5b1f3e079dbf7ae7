//! The folders of memory stores in a sandbox, one memory a file: looked at, read, laid and cleared while the sandbox may be
//! writing there (runtime ME-13 to ME-17).
//!
//! Everything is beneath the handle of a store's folder and follows no link; what is found is looked at when it is used (security
//! SBX-4). A file is replaced in one step, and what is taken out of the place is looked at afterwards: what a tool has written
//! in between is never lost, it is [`Answer::Aside`] or still there.
//!
//! The host calls this for a sandbox of name spaces. In a container [`watch::serve`] does, for a server at its standard streams.

mod folders;
mod look;
pub mod watch;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{FileType, Mode, OFlags, Stat, openat};
use serde::{Deserialize, Serialize};

pub use folders::Folders;
pub use look::{Odd, Oddity, Seen};

/// Where the stores' folders are inside.
pub const MOUNT: &str = "/mnt/memory";

/// What the names of files begin with that are not in place yet. Nothing else in a store's folder can be called so: what is left
/// there under such a name is removed.
const ASIDE: &str = ".memory-aside-";

/// What tells that a file was written. That of another file, or of the same one written since, is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    inode: u64,
    size: u64,
    /// Of its content, in nanoseconds of Unix time.
    modified: i64,
    /// Of anything about it, in nanoseconds of Unix time.
    changed: i64,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// How many bytes it had.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When it was changed last, in nanoseconds of Unix time.
    pub fn changed(&self) -> i64 {
        self.changed
    }

    /// Whether this is the same content: a name that changes is no matter.
    fn same_content(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
    }
}

fn nanoseconds(seconds: i64, rest: impl TryInto<i64>) -> i64 {
    let rest = rest.try_into().unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// What is to be in a place for something to be put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "over", rename_all = "snake_case")]
pub enum Over {
    /// Nothing.
    Nothing,
    /// This file.
    File {
        /// As it was seen.
        stamp: Stamp,
    },
    /// Whatever file is there: it is kept.
    Kept,
}

/// What is asked of a store's folder. Paths are below it, without a slash at their beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// All that is there. The folder is made when it is missing.
    Look {
        /// The store's folder.
        folder: String,
        /// Whether tools write it.
        writable: bool,
        /// Whether it is the first folder of a look at all of them: changes from here on are [`Answer::Stirred`] again.
        first: bool,
    },
    /// The text of a file.
    Read {
        /// The store's folder.
        folder: String,
        /// The file.
        path: String,
        /// The most bytes that are read.
        most: u64,
    },
    /// A file gets this text.
    Put {
        /// The store's folder.
        folder: String,
        /// The file.
        path: String,
        /// Its text.
        text: String,
        /// In whose place it comes.
        over: Over,
    },
    /// A file goes, and the folders above it that are empty then.
    Remove {
        /// The store's folder.
        folder: String,
        /// The file.
        path: String,
        /// As it was seen.
        stamp: Stamp,
    },
    /// What is there, and no folder, goes; a regular file is kept.
    Clear {
        /// The store's folder.
        folder: String,
        /// Whatever bytes it has.
        path: Vec<u8>,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To a look.
    Seen(Seen),
    /// The text of a file.
    Text {
        /// The text.
        text: String,
        /// As it was when it was read.
        stamp: Stamp,
    },
    /// A file that has no text: other bytes than UTF-8, or too many.
    NoText {
        /// Whether it is too large.
        large: bool,
        /// As it was when it was read.
        stamp: Stamp,
    },
    /// The file is in place; `None` when it was written again at the same moment.
    Put {
        /// As it is now.
        stamp: Option<Stamp>,
    },
    /// It is done, and what a tool had written there is kept under this name in the folder for such files.
    Aside {
        /// The name.
        name: String,
        /// Of the file in its place, as with `Put`.
        stamp: Option<Stamp>,
    },
    /// It is done.
    Done,
    /// What is there is not what was expected; nothing was done.
    Changed,
    /// Something in a folder watched has changed since the last look. Unasked, and from [`watch::serve`] alone.
    Stirred,
    /// It could not be done.
    Failed {
        /// Why.
        why: String,
        /// Whether there is no space for it.
        full: bool,
    },
}

/// The folder that a path is in, reached by no link, and its last segment.
fn parent<'p>(top: &OwnedFd, path: &'p [u8]) -> io::Result<(OwnedFd, &'p [u8])> {
    let mut at = top.try_clone()?;
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = segments.next() {
        segment(name)?;
        if segments.peek().is_none() {
            return Ok((at, name));
        }
        at = directory(&at, name)?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// Refuses what is no name.
fn segment(name: &[u8]) -> io::Result<()> {
    match name {
        b"" | b"." | b".." => Err(io::ErrorKind::InvalidInput.into()),
        name if name.contains(&b'/') || name.contains(&0) => {
            Err(io::ErrorKind::InvalidInput.into())
        }
        _ => Ok(()),
    }
}

fn directory(at: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, OsStr::from_bytes(name), flags, Mode::empty())?)
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

#[cfg(test)]
mod tests;
