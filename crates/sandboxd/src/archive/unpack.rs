//! A stream → a new tree. Nothing of what the stream says is believed: names are single segments below the expected
//! folders, no link is on the way to anything, kinds and sizes are bounded (security INP-3, SBX-4).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fsetxattr, ftruncate, futimens, linkat, mkdirat, mknodat,
    openat, symlinkat, utimensat,
};
use tar::EntryType;

use super::pax::Attributes;
use super::{ATTRIBUTES, Bounds, DEPTH, NAME, Top, Totals, damaged, too_much};

/// Who the files belong to on this host.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Fills the folders `tops`, which are empty. What it leaves after a failure is to be thrown away.
///
/// # Errors
/// Those of the tree and of `from`; [`io::ErrorKind::InvalidData`] for a stream that is no tree, and
/// [`io::ErrorKind::FileTooLarge`] for one beyond `bounds`.
pub fn unpack(
    tops: &[Top<'_>],
    from: impl Read,
    owner: Owner,
    bounds: Bounds,
) -> io::Result<Totals> {
    // One byte more than allowed, so that the end of what is allowed can be told from the end of the stream.
    let mut archive = tar::Archive::new(from.take(bounds.bytes.saturating_add(1)));
    let mut unpack = Unpack {
        tops,
        owner,
        bounds,
        totals: Totals::default(),
        last: None,
        folders: Vec::new(),
        left: bounds.bytes,
    };
    let mut attributes = None;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XHeader {
            if entry.size() > ATTRIBUTES {
                return Err(damaged("the attributes of an entry are too long"));
            }
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            attributes = Some(Attributes::decode(&text)?);
            continue;
        }
        let attributes = attributes.take();
        let attributes = attributes.ok_or_else(|| damaged("an entry has no attributes"))?;
        let (mode, size) = (entry.header().mode()?, entry.size());
        unpack.entry(kind, mode, size, &attributes, &mut entry)?;
    }
    unpack.finish()?;
    let totals = unpack.totals;
    let mut rest = archive.into_inner();
    // Whatever is behind the end belongs to the stream, and to its checksum.
    io::copy(&mut rest, &mut io::sink())?;
    if rest.limit() == 0 {
        return Err(too_much("it is too large"));
    }
    Ok(totals)
}

struct Unpack<'a> {
    tops: &'a [Top<'a>],
    owner: Owner,
    bounds: Bounds,
    totals: Totals,
    /// The folder that was opened last, and its path.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Modes and times of folders, which are set when all is in them.
    folders: Vec<(Vec<u8>, Mode, Timestamps)>,
    /// How many bytes of files there may still be, holes counted.
    left: u64,
}

impl Unpack<'_> {
    fn entry(
        &mut self,
        kind: EntryType,
        mode: u32,
        size: u64,
        attributes: &Attributes,
        content: &mut impl Read,
    ) -> io::Result<()> {
        self.totals.count(&self.bounds)?;
        let path = attributes
            .get("path")
            .ok_or_else(|| damaged("an entry has no path"))?;
        let times = times(attributes)?;
        let Owner { uid, gid } = self.owner;
        let left = self.left;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        if kind == EntryType::Directory {
            let folder = self.folder(path)?;
            extended(&folder, attributes)?;
            fchown(&folder, uid, gid)?;
            self.last = Some((path.to_vec(), folder));
            self.folders
                .push((path.to_vec(), Mode::from(mode & 0o3777), times));
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        let at_link = AtFlags::SYMLINK_NOFOLLOW;
        match kind {
            EntryType::Regular => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(openat(parent, name, flags, Mode::from(0o600))?);
                let whole = fill(&file, size, attributes, content, left)?;
                self.left = self.left.saturating_sub(whole);
                extended(&file, attributes)?;
                fchown(&file, uid, gid)?;
                // What sets users is of no use in a sandbox and could be of use outside.
                fchmod(&file, Mode::from(mode & 0o1777))?;
                futimens(&file, &times)?;
            }
            EntryType::Symlink => {
                symlinkat(target(attributes)?, parent, name)?;
                chownat(parent, name, uid, gid, at_link)?;
                utimensat(parent, name, &times, at_link)?;
            }
            EntryType::Fifo => {
                mknodat(parent, name, FileType::Fifo, Mode::from(0o600), 0)?;
                chownat(parent, name, uid, gid, at_link)?;
                chmodat(parent, name, Mode::from(mode & 0o777), AtFlags::empty())?;
                utimensat(parent, name, &times, at_link)?;
            }
            EntryType::Link => {
                let name = name.to_owned();
                let new = parent.try_clone_to_owned()?;
                let first = target(attributes)?.as_bytes().to_vec();
                let (parent, first) = self.parent(&first)?;
                linkat(parent, first, &new, &name, AtFlags::empty())?;
            }
            other => return Err(damaged(format!("it has an entry of the kind {other:?}"))),
        }
        Ok(())
    }

    /// A folder of the tree: one of the given ones, or a new one.
    fn folder(&mut self, path: &[u8]) -> io::Result<OwnedFd> {
        if let Some(top) = self.tops.iter().find(|top| top.name.as_bytes() == path) {
            return top.folder.try_clone();
        }
        let (parent, name) = self.parent(path)?;
        mkdirat(parent, name, Mode::from(0o700))?;
        open_folder(parent, name.as_bytes())
    }

    /// The folder that an entry goes to, which is there already, and the entry's name in it.
    fn parent<'p>(&mut self, path: &'p [u8]) -> io::Result<(BorrowedFd<'_>, &'p OsStr)> {
        let refused = || damaged("a path of it leads elsewhere");
        let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let plain = |segment: &[u8]| {
            !matches!(segment, b"" | b"." | b"..") && segment.len() <= NAME && !segment.contains(&0)
        };
        let [first, between @ .., name] = &segments[..] else {
            return Err(refused());
        };
        let top = self.tops.iter().find(|top| top.name.as_bytes() == *first);
        let top = top.ok_or_else(refused)?;
        if segments.len() > DEPTH + 1 || !segments.iter().all(|segment| plain(segment)) {
            return Err(refused());
        }
        let parent = &path[..path.len() - name.len() - 1];
        if self.last.as_ref().is_none_or(|(path, _)| path != parent) {
            let mut folder = top.folder.try_clone()?;
            for segment in between {
                folder = open_folder(folder.as_fd(), segment)?;
            }
            self.last = Some((parent.to_vec(), folder));
        }
        let (_, folder) = self.last.as_ref().ok_or_else(refused)?;
        Ok((folder.as_fd(), OsStr::from_bytes(name)))
    }

    /// Gives folders their modes and times, those below first.
    fn finish(&mut self) -> io::Result<()> {
        for (path, mode, times) in std::mem::take(&mut self.folders).into_iter().rev() {
            let top = self.tops.iter().find(|top| top.name.as_bytes() == path);
            let folder = match top {
                Some(top) => top.folder.try_clone()?,
                None => {
                    let (parent, name) = self.parent(&path)?;
                    open_folder(parent, name.as_bytes())?
                }
            };
            // Before the mode, which may forbid it.
            futimens(&folder, &times)?;
            fchmod(&folder, mode)?;
        }
        self.last = None;
        Ok(())
    }
}

fn open_folder(at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, OsStr::from_bytes(name), flags, Mode::empty())?)
}

fn target(attributes: &Attributes) -> io::Result<&OsStr> {
    let target = attributes
        .get("linkpath")
        .filter(|target| !target.contains(&0));
    Ok(OsStr::from_bytes(
        target.ok_or_else(|| damaged("a link has no target"))?,
    ))
}

fn extended(file: &impl AsFd, attributes: &Attributes) -> io::Result<()> {
    for (name, value) in attributes.below("SCHILY.xattr.") {
        if !name.starts_with(b"user.") {
            return Err(damaged("it sets an attribute that is not the user's"));
        }
        fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Writes a file's content where it belongs; its length.
fn fill(
    mut file: &File,
    size: u64,
    attributes: &Attributes,
    content: &mut impl Read,
    most: u64,
) -> io::Result<u64> {
    let number = |key: &str| -> io::Result<Option<u64>> {
        let text = attributes.get(key).map(std::str::from_utf8);
        let read = text.map(|text| text.ok()?.parse().ok());
        read.map(|number| number.ok_or_else(|| damaged(format!("{key} is no number"))))
            .transpose()
    };
    let whole = number("GNU.sparse.size")?.unwrap_or(size);
    // Holes cost nothing but count against the limit of file sizes.
    if size > most || whole > i64::MAX as u64 {
        return Err(too_much("it is too large"));
    }
    let Some(map) = attributes.get("GNU.sparse.map") else {
        io::copy(content, &mut file)?;
        return Ok(size);
    };
    ftruncate(file, whole)?;
    let map = std::str::from_utf8(map).map_err(|_| damaged("a map of holes is no text"))?;
    let mut numbers = map.split(',').filter(|text| !text.is_empty());
    while let Some(start) = numbers.next() {
        let (start, length) = (start.parse::<u64>(), numbers.next().map(str::parse::<u64>));
        let (Ok(start), Some(Ok(length))) = (start, length) else {
            return Err(damaged("a map of holes is not of its form"));
        };
        if start.checked_add(length).is_none_or(|end| end > whole) {
            return Err(damaged("a piece lies behind the end of its file"));
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
        let copied = io::copy(&mut content.take(length), &mut file)?;
        if copied < length {
            return Err(damaged("a piece of a file is missing"));
        }
    }
    file.flush()?;
    Ok(size)
}

fn times(attributes: &Attributes) -> io::Result<Timestamps> {
    let wrong = || damaged("a time of it cannot be read");
    let text = attributes.get("mtime").ok_or_else(wrong)?;
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let mut seconds: i64 = sign * seconds.parse::<i64>().map_err(|_| wrong())?;
    let mut nanos: i64 = format!("{fraction:0<9.9}").parse().map_err(|_| wrong())?;
    if sign < 0 && nanos > 0 {
        (seconds, nanos) = (seconds - 1, 1_000_000_000 - nanos);
    }
    Ok(Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        },
    })
}
