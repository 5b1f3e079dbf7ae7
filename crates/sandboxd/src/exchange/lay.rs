//! Files into a container.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fchmod, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::{DEEPEST, Laid, Lay, folder, join, names, segments};
use crate::frame;

/// What the name begins with under which a file is written before it gets its own; this process's number ends it.
const ASIDE: &str = ".aside-";

/// Brings the files below `root` in line with what is said on `input`.
///
/// # Errors
/// When that is out of shape, ends too early, or a file cannot be written: nothing is half-written under its own name.
pub fn lay(root: &Path, mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    let root = folder(CWD, root.as_os_str().as_bytes())?;
    let mut written = 0;
    loop {
        match next(&mut input)? {
            Lay::Keep { paths } => keep(&root, &paths)?,
            Lay::File {
                path,
                size,
                executable,
            } => {
                let mode = Mode::from(if executable { 0o555 } else { 0o444 });
                write(&root, &path, &mut input, size, mode)?;
                written += 1;
            }
            Lay::Done => {
                frame::write(&mut output, &Laid { written }).map_err(io::Error::other)?;
                return output.flush();
            }
        }
    }
}

fn next(input: &mut impl Read) -> io::Result<Lay> {
    let said = frame::read(input).map_err(io::Error::other)?;
    said.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Removes every file that is not listed, and the folders that are empty then.
fn keep(root: &OwnedFd, paths: &[String]) -> io::Result<()> {
    let kept: HashSet<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
    clear(root, &[], &kept, 0).map(drop)
}

/// Whether the folder is empty now.
fn clear(at: &OwnedFd, above: &[u8], kept: &HashSet<&[u8]>, depth: usize) -> io::Result<bool> {
    let mut empty = true;
    for name in names(at)? {
        let path = join(above, name.to_bytes());
        let stat = statat(at, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if depth == DEEPEST {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let below = folder(at, name.to_bytes())?;
            if clear(&below, &path, kept, depth + 1)? {
                unlinkat(at, &name, AtFlags::REMOVEDIR)?;
            } else {
                empty = false;
            }
        } else if kept.contains(path.as_slice()) {
            empty = false;
        } else {
            unlinkat(at, &name, AtFlags::empty())?;
        }
    }
    Ok(empty)
}

fn write(
    root: &OwnedFd,
    path: &str,
    input: &mut impl Read,
    size: u64,
    mode: Mode,
) -> io::Result<()> {
    let aside = format!("{ASIDE}{}", std::process::id());
    let put = fill(root, &aside, input, size, mode).and_then(|()| place(root, &aside, path));
    if put.is_err() {
        // The first error is the one to tell.
        let _ = unlinkat(root, &aside, AtFlags::empty());
    }
    put
}

fn fill(
    root: &OwnedFd,
    aside: &str,
    input: &mut impl Read,
    size: u64,
    mode: Mode,
) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(root, aside, flags, Mode::from(0o600))?);
    if io::copy(&mut input.take(size), &mut file)? < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(fchmod(&file, mode)?)
}

/// Gives a file its own name.
fn place(root: &OwnedFd, aside: &str, path: &str) -> io::Result<()> {
    let mut at = root.try_clone()?;
    let mut segments = segments(path.as_bytes())?;
    let last = segments.pop().ok_or(io::ErrorKind::InvalidInput)?;
    for segment in segments {
        match mkdirat(&at, OsStr::from_bytes(segment), Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = folder(&at, segment)?;
    }
    Ok(renameat(root, aside, &at, OsStr::from_bytes(last))?)
}
