//! Files out of a container.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, statat};

use super::{DEEPEST, Show, Want, folder, join, names, segments, stamp};
use crate::frame;

/// The most things that are looked at.
const MOST: u64 = 100_000;

/// Says which regular files are below `root`, then sends those that are asked for until `input` ends. No link is followed.
///
/// # Errors
/// When the folder cannot be read, or nobody takes what is said.
pub fn show(root: &Path, mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    let root = folder(CWD, root.as_os_str().as_bytes())?;
    let mut left_out = 0;
    let mut looked = 0;
    let mut open = vec![(root.try_clone()?, Vec::new(), 0)];
    while let Some((at, above, depth)) = open.pop() {
        for name in names(&at)? {
            looked += 1;
            let path = join(&above, name.to_bytes());
            // What goes meanwhile, or is closed to us, is not there.
            let Ok(stat) = statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory | FileType::RegularFile if looked > MOST => left_out += 1,
                FileType::Directory if depth == DEEPEST => left_out += 1,
                FileType::Directory => {
                    if let Ok(below) = folder(&at, name.to_bytes()) {
                        open.push((below, path, depth + 1));
                    }
                }
                FileType::RegularFile => {
                    let (stamp, size) = (stamp(&stat), u64::try_from(stat.st_size).unwrap_or(0));
                    say(&mut output, &Show::Found { path, stamp, size })?;
                }
                _ => {}
            }
        }
    }
    say(&mut output, &Show::All { left_out })?;
    output.flush()?;
    while let Some(Want { path }) = frame::read(&mut input).map_err(io::Error::other)? {
        match open_file(&root, &path) {
            Ok(file) => send(file, &mut output)?,
            Err(_) => say(&mut output, &Show::Gone)?,
        }
        output.flush()?;
    }
    Ok(())
}

fn say(output: &mut impl Write, what: &Show) -> io::Result<()> {
    frame::write(output, what).map_err(io::Error::other)
}

/// Sends as many bytes as were announced: a file that has shrunk meanwhile ends the exchange.
fn send(file: File, output: &mut impl Write) -> io::Result<()> {
    let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
    say(output, &Show::Bytes { size })?;
    if io::copy(&mut (&file).take(size), output)? < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let stamp = stamp(&fstat(&file)?);
    say(output, &Show::After { stamp })
}

/// Opens a regular file, no part of whose path is a link.
fn open_file(root: &OwnedFd, path: &[u8]) -> io::Result<File> {
    let mut at = root.try_clone()?;
    let mut segments = segments(path)?;
    let last = segments.pop().ok_or(io::ErrorKind::InvalidInput)?;
    for segment in segments {
        at = folder(&at, segment)?;
    }
    // Not waiting: it may be a pipe by now.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&at, OsStr::from_bytes(last), flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
