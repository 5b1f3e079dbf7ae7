//! A tree → a stream.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, chmodat, fgetxattr, fgetxattr_query,
    flistxattr, flistxattr_query, openat, readlinkat, seek, statat,
};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::pax::Attributes;
use super::{ATTRIBUTES, Bounds, DEPTH, INSIDE, NAME, PIECES, Totals, too_much};

/// How hard the stream is compressed: the fastest there is; a checkpoint is made more often than it is read.
const LEVEL: i32 = 1;

/// Writes the folders `tops` of the tree, which nobody changes meanwhile.
///
/// # Errors
/// Those of the tree and of `into`; [`io::ErrorKind::FileTooLarge`] when it is beyond `bounds`.
pub(crate) fn pack(
    root: &impl AsFd,
    tops: &[&str],
    into: impl Write,
    bounds: Bounds,
) -> io::Result<Totals> {
    let bounded = Bounded {
        into: zstd::Encoder::new(into, LEVEL)?,
        left: bounds.bytes,
    };
    let mut pack = Pack {
        tar: tar::Builder::new(bounded),
        bounds,
        totals: Totals::default(),
        links: HashMap::new(),
    };
    for top in tops {
        let name = std::ffi::CString::new(*top)?;
        match statat(root, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => pack.walk(root, &name, &stat)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let bounded = pack.tar.into_inner()?;
    bounded.into.finish()?.flush()?;
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
    handle: OwnedFd,
    entries: Dir,
    /// The length of its path.
    path: usize,
}

impl<W: Write> Pack<W> {
    /// A folder with all that is below it, depth first.
    fn walk(&mut self, root: &impl AsFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let mut path = name.to_bytes().to_vec();
        let mut levels = vec![self.enter(root, name, &path, stat)?];
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
                let handle = level.handle.as_fd();
                self.leaf(&handle, name, &path, &stat)?;
                continue;
            }
            if levels.len() >= DEPTH {
                return Err(too_much("its folders are too deep"));
            }
            let handle = &levels[levels.len() - 1].handle;
            let entered = self.enter(handle, name, &path, &stat)?;
            levels.push(entered);
        }
        Ok(())
    }

    fn enter(
        &mut self,
        parent: &impl AsFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
    ) -> io::Result<Level> {
        let handle = open(parent, name, OFlags::DIRECTORY, 0o700)?;
        let mut attributes = Attributes::default();
        extended(&handle, &mut attributes)?;
        self.append(EntryType::Directory, path, stat, attributes, 0, io::empty())?;
        Ok(Level {
            entries: Dir::read_from(&handle)?,
            handle,
            path: path.len(),
        })
    }

    fn leaf(
        &mut self,
        parent: &impl AsFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
    ) -> io::Result<()> {
        let mut attributes = Attributes::default();
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(parent, name, path, stat),
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

    fn file(
        &mut self,
        parent: &impl AsFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
    ) -> io::Result<()> {
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
        let file = File::from(open(parent, name, OFlags::empty(), 0o400)?);
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

/// Opens for reading what is there, also where its mode forbids that to its owner.
fn open(parent: &impl AsFd, name: &CStr, kind: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let flags = kind | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags | OFlags::NONBLOCK, Mode::empty()) {
        Err(Errno::ACCESS) => {}
        other => return Ok(other?),
    }
    let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    let own = Mode::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode & 0o7777);
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    chmodat(CWD, &path, own | Mode::from(mode), AtFlags::empty())?;
    let opened = openat(CWD, &path, kind | OFlags::CLOEXEC, Mode::empty());
    // Set back whether or not it could be opened: the tree stays as it was.
    chmodat(CWD, &path, own, AtFlags::empty())?;
    Ok(opened?)
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

/// Counts what is written before it is compressed.
struct Bounded<W: Write> {
    into: zstd::Encoder<'static, W>,
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
