//! Files in and out of a container, over the standard streams of a process that the container's engine starts inside. So
//! they are looked at with the rights of the sandbox and in its own tree: whatever links it has made, they lead nowhere else
//! (security SBX-4).
//!
//! Messages are [`frame`](crate::frame)s; the bytes of a file follow the message that announces them.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::frame;

/// The deepest folder that is looked into.
const DEEPEST: usize = 64;

/// The most things that are looked at.
const MOST: u64 = 100_000;

/// What the name begins with under which a file is written before it gets its own; this process's number ends it.
const ASIDE: &str = ".aside-";

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
            let Ok(stat) = rustix::fs::statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW) else {
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

fn next(input: &mut impl Read) -> io::Result<Lay> {
    let said = frame::read(input).map_err(io::Error::other)?;
    said.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
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
        let stat = rustix::fs::statat(at, &name, AtFlags::SYMLINK_NOFOLLOW)?;
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

/// What changes when a file is written.
fn stamp(stat: &Stat) -> String {
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
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn said(messages: &[(Lay, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (message, content) in messages {
            frame::write(&mut bytes, message).unwrap();
            bytes.extend(*content);
        }
        bytes
    }

    fn file(path: &str, content: &'static [u8]) -> (Lay, &'static [u8]) {
        let (path, size) = (path.to_owned(), content.len() as u64);
        let executable = path.ends_with(".sh");
        let file = Lay::File {
            path,
            size,
            executable,
        };
        (file, content)
    }

    fn kept(paths: &[&str]) -> (Lay, &'static [u8]) {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        (Lay::Keep { paths }, b"")
    }

    /// runtime FI-1, FI-4
    #[test]
    fn fi_4_files_are_laid_kept_and_taken_away() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        let done = (Lay::Done, &b""[..]);
        let mut answer = Vec::new();
        let first = said(&[
            kept(&[]),
            file("a/b/one", b"1"),
            file("two", b"22"),
            done.clone(),
        ]);
        lay(home.path(), &first[..], &mut answer).unwrap();
        assert_eq!(
            frame::read::<Laid>(&mut &answer[..]).unwrap(),
            Some(Laid { written: 2 })
        );
        assert_eq!(fs::read(at("a/b/one")).unwrap(), b"1");
        let mode = fs::metadata(at("two")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
        let second = said(&[kept(&["two"]), file("c/three", b"3"), done]);
        lay(home.path(), &second[..], io::sink()).unwrap();
        assert!(!at("a").exists() && at("two").exists() && at("c/three").exists());
    }

    /// security INP-4, SBX-4
    #[test]
    fn inp_4_what_leads_elsewhere_or_ends_early_is_not_laid() {
        let home = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), home.path().join("link")).unwrap();
        let check = |messages: &[(Lay, &[u8])]| {
            lay(home.path(), &said(messages)[..], io::sink()).unwrap_err();
        };
        check(&[file("../up", b"x")]);
        check(&[file("/etc/x", b"x")]);
        check(&[file("", b"x")]);
        check(&[file("link/x", b"x")]);
        let short = Lay::File {
            path: "short".to_owned(),
            size: 9,
            executable: false,
        };
        check(&[(short, b"1234")]);
        let left: Vec<_> = fs::read_dir(home.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "the link alone: {left:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    /// runtime FI-5, security SBX-4
    #[test]
    fn fi_5_regular_files_are_shown_and_no_link_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        fs::create_dir(home.path().join("d")).unwrap();
        fs::write(home.path().join("d/f"), "content").unwrap();
        symlink(outside.path(), home.path().join("link")).unwrap();
        symlink(outside.path().join("secret"), home.path().join("file")).unwrap();
        let mut wants = Vec::new();
        for path in ["d/f", "file", "link/secret", "../x", "none"] {
            let want = Want {
                path: path.as_bytes().to_vec(),
            };
            frame::write(&mut wants, &want).unwrap();
        }
        let mut answer = Vec::new();
        show(home.path(), &wants[..], &mut answer).unwrap();
        let mut answer = &answer[..];
        let mut next = || frame::read::<Show>(&mut answer).unwrap();
        let Some(Show::Found { path, stamp, size }) = next() else {
            panic!("nothing is found");
        };
        assert_eq!((path.as_slice(), size), (&b"d/f"[..], 7));
        assert_eq!(next(), Some(Show::All { left_out: 0 }));
        assert_eq!(next(), Some(Show::Bytes { size: 7 }));
        let (content, rest) = answer.split_at(7);
        assert_eq!(content, b"content");
        answer = rest;
        let mut next = || frame::read::<Show>(&mut answer).unwrap();
        assert_eq!(next(), Some(Show::After { stamp }));
        for _ in 0..4 {
            assert_eq!(next(), Some(Show::Gone));
        }
        assert_eq!(next(), None);
    }
}
