//! A tree → a stream.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, chmodat, fchmod, fgetxattr,
    fgetxattr_query, flistxattr, flistxattr_query, fstat, openat, readlinkat, seek, statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use tar::{EntryType, Header};

use super::pax::Attributes;
use super::{ATTRIBUTES, Bounds, DEPTH, INSIDE, NAME, PIECES, Top, Totals, too_much};

/// Writes the folders `tops` of the tree, which nobody changes meanwhile.
///
/// # Errors
/// Those of the tree and of `into`; [`io::ErrorKind::FileTooLarge`] when it is beyond `bounds`.
pub fn pack(tops: &[Top<'_>], into: impl Write, bounds: Bounds) -> io::Result<Totals> {
    let bounded = Bounded {
        into,
        left: bounds.bytes,
    };
    let mut pack = Pack {
        tar: tar::Builder::new(bounded),
        bounds,
        totals: Totals::default(),
        links: HashMap::new(),
    };
    for top in tops {
        pack.walk(top)?;
    }
    pack.tar.into_inner()?.into.flush()?;
    Ok(pack.totals)
}

struct Pack<W: Write> {
    tar: tar::Builder<Bounded<W>>,
    bounds: Bounds,
    totals: Totals,
    /// Where a file with several names was seen first.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// A folder on the way down.
struct Level {
    handle: Opened,
    entries: Dir,
    /// The length of its path.
    path: usize,
}

/// Something that is no folder, as it was found.
struct Leaf<'a> {
    parent: BorrowedFd<'a>,
    name: &'a CStr,
    /// Its whole path in the archive.
    path: &'a [u8],
    stat: &'a Stat,
}

impl<W: Write> Pack<W> {
    /// A folder with all that is below it, depth first.
    fn walk(&mut self, top: &Top<'_>) -> io::Result<()> {
        let mut path = top.name.as_bytes().to_vec();
        let handle = Opened::plain(top.folder.try_clone()?);
        let mut levels = vec![self.enter(handle, &path, &fstat(&top.folder)?)?];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path);
            let Some(entry) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
            let stat = statat(&level.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.leaf(&Leaf {
                    parent: level.handle.as_fd(),
                    name,
                    path: &path,
                    stat: &stat,
                })?;
                continue;
            }
            let handle = open(&level.handle, name, OFlags::DIRECTORY, 0o500)?;
            if levels.len() >= DEPTH {
                return Err(too_much("its folders are too deep"));
            }
            let entered = self.enter(handle, &path, &stat)?;
            levels.push(entered);
        }
        Ok(())
    }

    fn enter(&mut self, handle: Opened, path: &[u8], stat: &Stat) -> io::Result<Level> {
        let mut attributes = Attributes::default();
        extended(&handle, &mut attributes)?;
        self.append(EntryType::Directory, path, stat, attributes, 0, io::empty())?;
        Ok(Level {
            entries: Dir::read_from(&handle)?,
            handle,
            path: path.len(),
        })
    }

    fn leaf(&mut self, leaf: &Leaf<'_>) -> io::Result<()> {
        let Leaf {
            parent,
            name,
            path,
            stat,
        } = *leaf;
        let mut attributes = Attributes::default();
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(leaf),
            FileType::Symlink => {
                attributes.add(
                    "linkpath",
                    readlinkat(parent, name, Vec::new())?.into_bytes(),
                );
                EntryType::Symlink
            }
            FileType::Fifo => EntryType::Fifo,
            _ => {
                self.totals.left_out += 1;
                return Ok(());
            }
        };
        self.append(kind, path, stat, attributes, 0, io::empty())
    }

    fn file(&mut self, leaf: &Leaf<'_>) -> io::Result<()> {
        let (path, stat) = (leaf.path, leaf.stat);
        let mut attributes = Attributes::default();
        if stat.st_nlink > 1 {
            match self.links.entry((stat.st_dev, stat.st_ino)) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    attributes.add("linkpath", first.get().clone());
                    return self.append(EntryType::Link, path, stat, attributes, 0, io::empty());
                }
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert(path.to_vec());
                }
            }
        }
        let opened = open(&leaf.parent, leaf.name, OFlags::empty(), 0o400)?;
        let file = File::from(opened.handle.try_clone()?);
        extended(&file, &mut attributes)?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        let pieces = match blocks.saturating_mul(512) < size {
            true => pieces(&file, size)?,
            false => vec![(0, size)],
        };
        let length = pieces.iter().map(|(_, length)| length).sum();
        if length < size {
            let map: Vec<String> = pieces
                .iter()
                .map(|(start, length)| format!("{start},{length}"))
                .collect();
            attributes.add("GNU.sparse.size", size.to_string());
            attributes.add("GNU.sparse.numblocks", pieces.len().to_string());
            attributes.add("GNU.sparse.map", map.join(","));
        }
        let content = Pieces {
            file: &file,
            pieces: pieces.into_iter().collect(),
        };
        self.append(EntryType::Regular, path, stat, attributes, length, content)
    }

    fn append(
        &mut self,
        kind: EntryType,
        path: &[u8],
        stat: &Stat,
        mut attributes: Attributes,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        self.totals.count(&self.bounds)?;
        if path.len() > DEPTH * (NAME + 1) {
            return Err(too_much("a path of it is too long"));
        }
        attributes.add("path", path);
        attributes.add("mtime", time(stat));
        let attributes = attributes.encode();
        let length = attributes.len() as u64;
        if length > ATTRIBUTES {
            return Err(too_much("the attributes of a file are too long"));
        }
        // Paths are in the attributes alone: a header has room for short ones only.
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_path("attributes")?;
        header.set_size(length);
        header.set_cksum();
        self.tar.append(&header, attributes.as_slice())?;
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path("entry")?;
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(INSIDE);
        header.set_gid(INSIDE);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
        header.set_size(size);
        header.set_cksum();
        self.tar.append(&header, content)
    }
}

/// The time of the last change, as pax has it.
fn time(stat: &Stat) -> String {
    let (mut seconds, mut nanos) = (stat.st_mtime, stat.st_mtime_nsec);
    // Before 1970 the fraction counts forwards, and the text backwards.
    let sign = if seconds < 0 { "-" } else { "" };
    if seconds < 0 && nanos > 0 {
        (seconds, nanos) = (seconds + 1, 1_000_000_000 - nanos);
    }
    format!("{sign}{}.{nanos:09}", seconds.unsigned_abs())
}

/// What was opened for reading, also where its mode forbids that to its owner; it has its mode again when this is dropped.
struct Opened {
    handle: OwnedFd,
    mode: Option<Mode>,
}

impl Opened {
    fn plain(handle: OwnedFd) -> Self {
        let mode = None;
        Self { handle, mode }
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(mode) = self.mode {
            // The tree is its owner's, who can change it as well.
            let _ = fchmod(&self.handle, mode);
        }
    }
}

/// Opens what is there for its owner, who needs these rights for it.
fn open(parent: &impl AsFd, name: &CStr, kind: OFlags, needed: u32) -> io::Result<Opened> {
    let flags = kind | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if geteuid().is_root() {
        let handle = openat(parent, name, flags | OFlags::NONBLOCK, Mode::empty())?;
        return Ok(Opened::plain(handle));
    }
    let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    let own = fstat(&handle)?.st_mode & 0o7777;
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let reopen = || openat(CWD, &path, kind | OFlags::CLOEXEC, Mode::empty());
    if own & needed == needed {
        return Ok(Opened::plain(reopen()?));
    }
    let mode = Mode::from_raw_mode(own);
    chmodat(CWD, &path, mode | Mode::from(needed), AtFlags::empty())?;
    match reopen() {
        Ok(handle) => Ok(Opened {
            handle,
            mode: Some(mode),
        }),
        Err(error) => {
            // Set back whether or not it could be opened: the tree stays as it was.
            chmodat(CWD, &path, mode, AtFlags::empty())?;
            Err(error.into())
        }
    }
}

/// The `user.` attributes of a file.
fn extended(file: &impl AsFd, attributes: &mut Attributes) -> io::Result<()> {
    let length = match flistxattr_query(file) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut names = vec![0; length];
    flistxattr(file, &mut names[..])?;
    for name in names.split(|byte| *byte == 0) {
        if !name.starts_with(b"user.") {
            continue;
        }
        let shown = OsStr::from_bytes(name);
        let mut value = vec![0; fgetxattr_query(file, shown)?];
        fgetxattr(file, shown, &mut value[..])?;
        let key = [b"SCHILY.xattr.", name].concat();
        attributes.add(key, value);
    }
    Ok(())
}

/// Where a file has content: starts and lengths, in order.
fn pieces(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = match pieces.len() + 1 < PIECES {
            true => seek(file, SeekFrom::Hole(start))?.min(size),
            false => size,
        };
        pieces.push((start, end.saturating_sub(start)));
        at = end.max(start + 1);
    }
    Ok(pieces)
}

/// The content of a file without its holes.
struct Pieces<'a> {
    file: &'a File,
    pieces: std::collections::VecDeque<(u64, u64)>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((start, length)) = self.pieces.front_mut() {
            if *length == 0 {
                self.pieces.pop_front();
                continue;
            }
            let most = usize::try_from(*length).map_or(buffer.len(), |most| most.min(buffer.len()));
            let read = self.file.read_at(&mut buffer[..most], *start)?;
            if read == 0 && most > 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a file became shorter",
                ));
            }
            *start += read as u64;
            *length -= read as u64;
            return Ok(read);
        }
        Ok(0)
    }
}

/// Counts what is written.
struct Bounded<W: Write> {
    into: W,
    left: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.into.write(bytes)?;
        self.left = match self.left.checked_sub(written as u64) {
            Some(left) => left,
            None => return Err(too_much("it is too large")),
        };
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
