//! Archives of systems, unpacked beneath a handle (security INP-3, SBX-4): plain files, folders and links, nobody's but the
//! server's, with no rights but to execute.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fchmod, linkat, mkdirat, openat, openat2,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::super::files;
use super::bad;

/// The most that an image may be: bytes and entries, and how deep.
const BYTES: u64 = 64 << 30;
const ENTRIES: u64 = 4_000_000;
const DEPTH: usize = 128;

/// What a file of a layer begins with that takes something of the layers below away, and the one that takes a folder's all.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A root that archives are unpacked to, one on top of the other.
pub(super) struct Unpack {
    root: OwnedFd,
    trash: PathBuf,
    bytes: u64,
    entries: u64,
}

impl Unpack {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        Ok(Self {
            trash: root.with_file_name("trash"),
            root: files::open_directory(root)?,
            bytes: 0,
            entries: 0,
        })
    }

    /// Unpacks one archive. As a layer it may take away what lies below.
    pub(super) fn layer(&mut self, tar: impl Read, is_layer: bool) -> io::Result<()> {
        let mut archive = Archive::new(tar);
        let mut seen = HashSet::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            self.entries += 1;
            self.bytes = self.bytes.saturating_add(entry.size());
            if self.entries > ENTRIES || self.bytes > BYTES {
                return Err(bad("the image is too large"));
            }
            if matches!(
                entry.header().entry_type(),
                EntryType::XGlobalHeader | EntryType::XHeader
            ) {
                continue;
            }
            let path = safe(&entry.path_bytes())?;
            let Some(name) = path.file_name().map(OsStr::to_owned) else {
                continue;
            };
            if is_layer && name.as_bytes().starts_with(WHITEOUT) {
                self.take_away(&path, name.as_bytes())?;
                continue;
            }
            let folder = entry.header().entry_type().is_dir();
            if !seen.insert(path.clone()) && !folder {
                return Err(bad(&format!("the image holds {} twice", path.display())));
            }
            self.entry(&mut entry, &path, &name)?;
        }
        Ok(())
    }

    /// Removes what layers have taken away.
    pub(super) fn finish(self) -> io::Result<()> {
        files::empty(&self.trash)?;
        match std::fs::remove_dir(&self.trash) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn entry(&self, entry: &mut Entry<'_, impl Read>, path: &Path, name: &OsStr) -> io::Result<()> {
        let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
        let header = entry.header();
        match header.entry_type() {
            EntryType::Directory => {
                // Where a folder is, also by way of a link, it stays: `lib` in a system whose libraries are in `usr`.
                match mkdirat(&parent, name, Mode::from(0o755)) {
                    Ok(()) => Ok(()),
                    Err(Errno::EXIST) if self.open(path, OFlags::DIRECTORY).is_ok() => Ok(()),
                    Err(Errno::EXIST) => {
                        self.remove(&parent, name)?;
                        Ok(mkdirat(&parent, name, Mode::from(0o755))?)
                    }
                    Err(error) => Err(error.into()),
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let executable = header.mode()? & 0o111 != 0;
                self.remove(&parent, name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = openat(&parent, name, flags | OFlags::CLOEXEC, Mode::from(0o600))?;
                let mut file = File::from(file);
                io::copy(entry, &mut file)?;
                Ok(fchmod(
                    &file,
                    Mode::from(if executable { 0o755 } else { 0o644 }),
                )?)
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| bad("a link leads nowhere"))?;
                self.remove(&parent, name)?;
                // Only what runs inside ever follows it.
                Ok(symlinkat(OsStr::from_bytes(&target), &parent, name)?)
            }
            EntryType::Link => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| bad("a link leads nowhere"))?;
                let target = safe(&target)?;
                let from = self.folder(target.parent().unwrap_or(Path::new("")))?;
                let target = target
                    .file_name()
                    .ok_or_else(|| bad("a link leads nowhere"))?;
                self.remove(&parent, name)?;
                Ok(linkat(&from, target, &parent, name, AtFlags::empty())?)
            }
            // Sandboxes have a /dev of their own.
            EntryType::Char | EntryType::Block | EntryType::Fifo if path.starts_with("dev") => {
                Ok(())
            }
            kind => Err(bad(&format!(
                "the image holds {}, which is no file, folder or link but {kind:?}",
                path.display()
            ))),
        }
    }

    /// Opens a folder of the image, made if there is none. Links on the way lead where they would lead inside.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path, OFlags::DIRECTORY) {
            Ok(folder) => Ok(folder),
            Err(Errno::NOENT) => {
                let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
                match mkdirat(&parent, name, Mode::from(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => Ok(self.open(path, OFlags::DIRECTORY)?),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    }

    /// Removes what has this name, whatever it is.
    fn remove(&self, parent: &impl AsFd, name: &OsStr) -> io::Result<()> {
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                files::private_directory(&self.trash)?;
                let trash = files::open_directory(&self.trash)?;
                Ok(rustix::fs::renameat(parent, name, &trash, files::unique())?)
            }
            Ok(_) => Ok(unlinkat(parent, name, AtFlags::empty())?),
        }
    }

    /// Obeys a layer that takes something away.
    fn take_away(&self, path: &Path, name: &[u8]) -> io::Result<()> {
        let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
        if name != OPAQUE {
            let name = OsStr::from_bytes(&name[WHITEOUT.len()..]);
            let plain = Path::new(name).components().eq([Component::Normal(name)]);
            return match plain {
                true => self.remove(&parent, name),
                false => Err(bad("a layer takes away what has no name")),
            };
        }
        for entry in rustix::fs::Dir::read_from(&parent)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                self.remove(&parent, OsStr::from_bytes(name.to_bytes()))?;
            }
        }
        Ok(())
    }
}

/// A path of an archive as plain segments.
fn safe(path: &[u8]) -> io::Result<PathBuf> {
    let given = Path::new(OsStr::from_bytes(path));
    let mut safe = PathBuf::new();
    for part in given.components() {
        match part {
            Component::Normal(part) => safe.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(bad("a path of the image leads out of it"));
            }
        }
    }
    if path.len() > 4096 || safe.components().count() > DEPTH || path.contains(&0) {
        return Err(bad("a path of the image is too long"));
    }
    Ok(safe)
}
