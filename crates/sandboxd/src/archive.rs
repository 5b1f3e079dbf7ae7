//! The trees that sandboxes have written, as one stream and back: tar with pax attributes. It is the one format of
//! checkpoints, whatever provider made the tree and whatever host it returns on; the host that keeps one compresses it.
//!
//! Kept are folders, files with their holes, symbolic and hard links, queues, modes, times to the nanosecond and `user.`
//! attributes. Every file belongs to the sandbox's user (1000), so that a host with other user ids can restore it. Sockets
//! and devices are left out. Both ways work beneath handles on the tree's folders and follow no link (security SBX-4), and
//! what is read back counts as written by a stranger (security INP-3).

mod pack;
mod pax;
mod unpack;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

pub use pack::pack;
pub use unpack::{Owner, unpack};

/// The user and group that files have inside a sandbox.
const INSIDE: u64 = 1000;

/// How many folders may lie in each other.
const DEPTH: usize = 256;

/// The longest name that file systems have, in bytes.
const NAME: usize = 255;

/// The most that the attributes of one entry may take, in bytes.
const ATTRIBUTES: u64 = 1 << 20;

/// Pieces of a file with holes that are told apart; behind the last one, holes are kept as zeros.
const PIECES: usize = 4096;

/// A folder of a tree: its name in the stream, and a handle on it, wherever it is.
#[derive(Debug)]
pub struct Top<'a> {
    /// A single plain segment.
    pub name: &'a str,
    /// Open for reading its entries.
    pub folder: OwnedFd,
}

/// How much a tree may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of the stream.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

/// What a tree came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files, folders and links.
    pub entries: u64,
    /// Entries of kinds that are not kept.
    pub left_out: u64,
}

impl Totals {
    /// Counts one more entry.
    fn count(&mut self, bounds: &Bounds) -> io::Result<()> {
        self.entries += 1;
        if self.entries > bounds.entries {
            return Err(too_much("it has too many files"));
        }
        Ok(())
    }
}

fn too_much(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

fn damaged(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
