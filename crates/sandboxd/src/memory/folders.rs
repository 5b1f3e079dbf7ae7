//! What is done in the folders of memory stores.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid, fchmod, fchown, fstat, mkdirat, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::look::{self, Seen};
use super::{ASIDE, Answer, Ask, Over, Stamp, directory, is_file, parent, segment};

/// What the names begin with under which files are kept that a tool has written and its store has not taken.
const KEPT: &str = "memory-kept-";

/// The longest file that is copied to where such files are kept, where it cannot be moved there.
const COPIED: u64 = 16 << 20;

/// The folders of a sandbox's memory stores, by a handle on the folder above them.
#[derive(Debug)]
pub struct Folders {
    pub(super) above: OwnedFd,
    /// Where files are kept that no store has taken.
    keep: OwnedFd,
    /// Whose what tools write is; ours without it.
    owner: Option<(Uid, Gid)>,
    /// The mode of folders that tools write.
    mode: Mode,
}

impl Folders {
    /// The folders below `above`. Files that are kept go to `keep`. What tools write belongs to this user and group of the
    /// host, or, without them, to us and, at the top, to everybody.
    pub fn new(above: OwnedFd, keep: OwnedFd, owner: Option<(u32, u32)>) -> Self {
        let ids = |(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid));
        Self {
            above,
            keep,
            owner: owner.map(ids),
            mode: Mode::from(if owner.is_some() { 0o755 } else { 0o777 }),
        }
    }

    /// Does what is asked.
    pub fn answer(&self, ask: &Ask) -> Answer {
        let done = match ask {
            Ask::Look {
                folder, writable, ..
            } => self.look(folder, *writable).map(Answer::Seen),
            Ask::Read { folder, path, most } => self.read(folder, path, *most),
            Ask::Put {
                folder,
                path,
                text,
                over,
            } => self.put(folder, path, text, *over),
            Ask::Remove {
                folder,
                path,
                stamp,
            } => self.remove(folder, path, stamp),
            Ask::Clear { folder, path } => self.clear(folder, path),
        };
        done.unwrap_or_else(|error| match error.kind() {
            // Folders on the way went, or became something else.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Answer::Changed,
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Answer::Changed,
            _ => Answer::Failed {
                full: is_full(&error),
                why: error.to_string(),
            },
        })
    }

    /// Makes the folder of a store if it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or something else has its name.
    pub fn make(&self, name: &str, writable: bool) -> io::Result<OwnedFd> {
        segment(name.as_bytes())?;
        match mkdirat(&self.above, name, Mode::from(0o755)) {
            Ok(()) => {
                let folder = directory(&self.above, name.as_bytes())?;
                if writable {
                    self.give(&folder)?;
                    fchmod(&folder, self.mode)?;
                }
                Ok(folder)
            }
            Err(Errno::EXIST) => directory(&self.above, name.as_bytes()),
            Err(error) => Err(error.into()),
        }
    }

    fn look(&self, name: &str, writable: bool) -> io::Result<Seen> {
        let folder = self.make(name, writable)?;
        look::look(&folder)
    }

    fn read(&self, folder: &str, path: &str, most: u64) -> io::Result<Answer> {
        let (above, name) = self.above(folder, path.as_bytes())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(
            &above,
            OsStr::from_bytes(name),
            flags,
            Mode::empty(),
        )?);
        let stat = fstat(&file)?;
        if !is_file(&stat) {
            return Ok(Answer::Changed);
        }
        let stamp = Stamp::of(&stat);
        if stamp.size > most {
            return Ok(Answer::NoText { large: true, stamp });
        }
        let mut bytes = Vec::new();
        (&file).take(most + 1).read_to_end(&mut bytes)?;
        let is_steady = Stamp::of(&fstat(&file)?) == stamp && bytes.len() as u64 == stamp.size;
        Ok(match String::from_utf8(bytes) {
            _ if !is_steady => Answer::Changed,
            Ok(text) => Answer::Text { text, stamp },
            Err(_) => Answer::NoText {
                large: false,
                stamp,
            },
        })
    }

    fn put(&self, folder: &str, path: &str, text: &str, over: Over) -> io::Result<Answer> {
        // It would be cleared away by the next look.
        if path.starts_with(ASIDE) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the name is reserved",
            ));
        }
        let top = directory(&self.above, folder.as_bytes())?;
        let is_writable = self.is_writable(&top)?;
        let (above, name) = self.above_made(&top, path, is_writable)?;
        let aside = aside();
        let put = self
            .fill(&top, &aside, text, is_writable)
            .and_then(|file| self.place(&top, &aside, &above, name, &file, over));
        if put.is_err() {
            // The first error is the one to tell; what stays is removed by the next look.
            let _ = unlinkat(&top, &aside, AtFlags::empty());
        }
        put
    }

    fn fill(&self, top: &OwnedFd, aside: &str, text: &str, is_writable: bool) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(top, aside, flags, Mode::from(0o600))?);
        file.write_all(text.as_bytes())?;
        if is_writable {
            self.give(&file)?;
        }
        fchmod(&file, Mode::from(if is_writable { 0o644 } else { 0o444 }))?;
        Ok(file)
    }

    /// Gives a file that is written its place.
    fn place(
        &self,
        top: &OwnedFd,
        aside: &str,
        above: &OwnedFd,
        name: &[u8],
        file: &File,
        over: Over,
    ) -> io::Result<Answer> {
        let name = OsStr::from_bytes(name);
        let before = Stamp::of(&fstat(file)?);
        let undone = || -> io::Result<Answer> {
            unlinkat(top, aside, AtFlags::empty())?;
            Ok(Answer::Changed)
        };
        let stamp = || -> io::Result<Option<Stamp>> {
            let now = Stamp::of(&fstat(file)?);
            Ok(now.same_content(&before).then_some(now))
        };
        // An empty folder is nothing.
        let _ = unlinkat(above, name, AtFlags::REMOVEDIR);
        match renameat_with(top, aside, above, name, RenameFlags::NOREPLACE) {
            Ok(()) if matches!(over, Over::Nothing | Over::Kept) => {
                return Ok(Answer::Put { stamp: stamp()? });
            }
            // What it was to replace has gone.
            Ok(()) => {
                renameat(above, name, top, aside)?;
                return undone();
            }
            Err(Errno::EXIST) if over == Over::Nothing => return undone(),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        match renameat_with(top, aside, above, name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::NOENT) => return undone(),
            // Some file systems cannot: what is there is looked at just before it goes.
            Err(Errno::INVAL) => {
                let there = statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
                return match over {
                    Over::File { stamp: expected }
                        if is_file(&there) && Stamp::of(&there).same_content(&expected) =>
                    {
                        renameat(top, aside, above, name)?;
                        Ok(Answer::Put { stamp: stamp()? })
                    }
                    _ => undone(),
                };
            }
            Err(error) => return Err(error.into()),
        }
        let was = statat(top, aside, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_file(&was) {
            renameat_with(top, aside, above, name, RenameFlags::EXCHANGE)?;
            return undone();
        }
        match over {
            Over::File { stamp: expected } if Stamp::of(&was).same_content(&expected) => {
                unlinkat(top, aside, AtFlags::empty())?;
                Ok(Answer::Put { stamp: stamp()? })
            }
            _ => {
                let name = self.keep(top, aside.as_bytes(), name.as_bytes())?;
                let stamp = stamp()?;
                Ok(Answer::Aside { name, stamp })
            }
        }
    }

    fn remove(&self, folder: &str, path: &str, expected: &Stamp) -> io::Result<Answer> {
        let top = directory(&self.above, folder.as_bytes())?;
        let (above, name) = self.above(folder, path.as_bytes())?;
        let (aside, os) = (aside(), OsStr::from_bytes(name));
        let there = statat(&above, os, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_file(&there) {
            return Ok(Answer::Changed);
        }
        renameat_with(&above, os, &top, &aside, RenameFlags::NOREPLACE)?;
        let was = statat(&top, &aside, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_file(&was) || !Stamp::of(&was).same_content(expected) {
            return match renameat_with(&top, &aside, &above, os, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(Answer::Changed),
                // Written again at the same moment: both stay.
                Err(_) => {
                    let name = self.keep(&top, aside.as_bytes(), name)?;
                    Ok(Answer::Aside { name, stamp: None })
                }
            };
        }
        unlinkat(&top, &aside, AtFlags::empty())?;
        self.tidy(&top, path.as_bytes());
        Ok(Answer::Done)
    }

    /// Removes the folders above a path that are empty.
    fn tidy(&self, top: &OwnedFd, path: &[u8]) {
        let mut path = path;
        while let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            path = &path[..slash];
            let removed = parent(top, path).and_then(|(folder, name)| {
                let name = OsStr::from_bytes(name);
                Ok(unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
            });
            if removed.is_err() {
                return;
            }
        }
    }

    fn clear(&self, folder: &str, path: &[u8]) -> io::Result<Answer> {
        let top = directory(&self.above, folder.as_bytes())?;
        let (above, name) = self.above(folder, path)?;
        let os = OsStr::from_bytes(name);
        let there = statat(&above, os, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(there.st_mode) {
            FileType::Directory => Ok(Answer::Changed),
            FileType::RegularFile => {
                let name = self.keep(&above, name, name)?;
                self.tidy(&top, path);
                Ok(Answer::Aside { name, stamp: None })
            }
            _ => {
                unlinkat(&above, os, AtFlags::empty())?;
                self.tidy(&top, path);
                Ok(Answer::Done)
            }
        }
    }

    /// Moves a file to where such files are kept; its name there.
    fn keep(&self, from: &OwnedFd, name: &[u8], called: &[u8]) -> io::Result<String> {
        let kept = kept(called);
        let name = OsStr::from_bytes(name);
        match renameat_with(from, name, &self.keep, &kept, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(kept),
            Err(Errno::XDEV) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(from, name, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut copy = File::from(openat(&self.keep, &kept, flags, Mode::from(0o644))?);
        if is_file(&fstat(&file)?) {
            io::copy(&mut file.take(COPIED), &mut copy)?;
        }
        unlinkat(from, name, AtFlags::empty())?;
        Ok(kept)
    }

    /// The folder that a path below a store's folder is in, and its last segment.
    fn above<'p>(&self, folder: &str, path: &'p [u8]) -> io::Result<(OwnedFd, &'p [u8])> {
        segment(folder.as_bytes())?;
        parent(&directory(&self.above, folder.as_bytes())?, path)
    }

    /// As `above`, with the folders on the way made.
    fn above_made<'p>(
        &self,
        top: &OwnedFd,
        path: &'p str,
        is_writable: bool,
    ) -> io::Result<(OwnedFd, &'p [u8])> {
        let mut at = top.try_clone()?;
        let mut rest = path;
        while let Some((name, below)) = rest.split_once('/') {
            segment(name.as_bytes())?;
            let made = match mkdirat(&at, name, Mode::from(0o755)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(error.into()),
            };
            at = directory(&at, name.as_bytes())?;
            if made && is_writable {
                self.give(&at)?;
            }
            rest = below;
        }
        segment(rest.as_bytes())?;
        Ok((at, rest.as_bytes()))
    }

    /// Whether tools write in a folder: it belongs to them.
    fn is_writable(&self, folder: &OwnedFd) -> io::Result<bool> {
        let stat = fstat(folder)?;
        Ok(match self.owner {
            Some((uid, _)) => stat.st_uid == uid.as_raw(),
            None => stat.st_mode & 0o002 != 0,
        })
    }

    fn give(&self, thing: impl AsFd) -> io::Result<()> {
        match self.owner {
            Some((uid, gid)) => Ok(fchown(thing, Some(uid), Some(gid))?),
            None => Ok(()),
        }
    }
}

/// A name for something that is not in place yet.
pub(super) fn aside() -> String {
    format!("{ASIDE}{}", unique())
}

/// A name for a file that is kept, which tells what it was called: plain characters alone.
fn kept(called: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let name: String = called
        .iter()
        .take(64)
        .map(|byte| if plain(byte) { char::from(*byte) } else { '_' })
        .collect();
    format!("{KEPT}{}-{name}", unique())
}

/// Never the same twice: from the clock and a number that counts up. No secret, since names are created and never replaced.
fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}{:08x}{next:x}", now.tv_sec, now.tv_nsec)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
