//! A session's disk: one sparse file that holds a file system of a fixed size, so that bytes and files are bounded for
//! the sandbox as a whole (security SBX-3). Only a root server on a host with loop devices makes them.
//!
//! It is mounted detached: nobody but the holders of the handle and the sandbox sees it, and when the last of them is
//! gone, also by `kill -9`, the kernel unmounts it and frees the device (security SBX-8). A file that two devices show
//! would be damaged. So the device's number is written beside the file before it is mounted, under the session's lock,
//! and whoever comes later asks that device first.

mod loops;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{MemfdFlags, Mode, OFlags, SeekFrom, memfd_create, openat, renameat, seek};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::is_root;
use loops::Loop;

/// The file's name in a session's folder.
pub(super) const NAME: &str = "disk";

/// The name of the file that holds the device's number.
const DEVICE: &str = "device";

/// Bytes of a block.
const BLOCK: u32 = 4096;

/// Bytes of space for each file that there can be.
const BYTES_PER_FILE: u32 = 16384;

/// The smallest file system that there is.
const LEAST: u64 = 1 << 20;

/// Where in the file the state of the file system is, and the bit that says "unmounted in order".
const STATE: (u64, u16) = (1024 + 58, 1);

/// Whether disks can be made here, and the empty ones of each size that they are copied from: in memory, made once.
#[derive(Default)]
pub(in crate::provider) struct Disks {
    usable: OnceLock<Result<PathBuf, String>>,
    empty: Mutex<HashMap<u64, Arc<File>>>,
}

impl Disks {
    /// Whether disks can be made here, tried once; else why not.
    pub(in crate::provider) fn usable(&self) -> Result<&Path, &str> {
        let found = self.usable.get_or_init(|| {
            if !is_root() {
                return Err("the server is not root".to_owned());
            }
            let mkfs = program("mkfs.ext4").ok_or("there is no program \"mkfs.ext4\"")?;
            let tried = empty(&mkfs, LEAST).and_then(|file| mount(&Loop::bind(&file)?));
            match tried {
                Ok(_) => Ok(mkfs),
                Err(error) => Err(format!("no loop device can be mounted: {error}")),
            }
        });
        match found {
            Ok(mkfs) => Ok(mkfs),
            Err(why) => Err(why),
        }
    }

    /// Makes the empty disk of this size, where there are disks, so that the first session need not wait for it.
    pub(super) fn ready(&self, bytes: u64) -> io::Result<()> {
        match self.usable() {
            Ok(_) => self.empty(bytes).map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Makes an empty disk of this size in a session's folder, under the lock on it.
    pub(super) fn make(&self, folder: &OwnedFd, bytes: u64) -> io::Result<OwnedFd> {
        let empty = self.empty(bytes)?;
        let aside = format!(".{NAME}");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file = openat(folder, &aside, flags | OFlags::CLOEXEC, Mode::from(0o600))?;
        copy(&empty, &File::from(file))?;
        renameat(folder, &aside, folder, NAME)?;
        open(folder)
    }

    fn empty(&self, bytes: u64) -> io::Result<Arc<File>> {
        let bytes = (bytes / u64::from(BLOCK) * u64::from(BLOCK)).max(LEAST);
        let mkfs = self.usable().map_err(io::Error::other)?;
        let mut known = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = known.get(&bytes) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(empty(mkfs, bytes)?);
        known.insert(bytes, Arc::clone(&file));
        Ok(file)
    }
}

/// Whether a session's folder holds a disk.
pub(super) fn is_in(folder: &OwnedFd) -> io::Result<bool> {
    super::writable::exists(folder, NAME)
}

/// A new, detached mount of the disk in a session's folder, whose lock the caller has. Mounts of one disk show the same
/// file system.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when it is damaged: a host that lost its power may leave one that cannot be mended.
pub(in crate::provider) fn open(folder: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(folder, NAME, flags, Mode::empty())?);
    if let Some(number) = device(folder)?
        && let Some(device) = Loop::find(number, &file)?
    {
        return mount(&device);
    }
    if !is_clean(&file)? {
        mend(&file)?;
    }
    let device = Loop::bind(&file)?;
    remember(folder, device.number())?;
    mount(&device)
}

/// The number of the device that may show the disk.
fn device(folder: &OwnedFd) -> io::Result<Option<u32>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut text = String::new();
    match openat(folder, DEVICE, flags, Mode::empty()) {
        Ok(file) => File::from(file).take(16).read_to_string(&mut text)?,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Half-written by a server that ended: then nothing was mounted yet.
    Ok(text.trim_end().parse().ok())
}

fn remember(folder: &OwnedFd, number: u32) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let file = openat(folder, DEVICE, flags | OFlags::CLOEXEC, Mode::from(0o600))?;
    File::from(file).write_all_at(format!("{number}\n").as_bytes(), 0)
}

fn mount(device: &Loop) -> io::Result<OwnedFd> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", device.path())?;
    // A sparse file's tables are zero already, and what is deleted inside is given back outside.
    for flag in ["noinit_itable", "discard"] {
        fsconfig_set_flag(&context, flag)?;
    }
    fsconfig_set_string(&context, "errors", "remount-ro")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// Whether it was unmounted in order.
fn is_clean(file: &File) -> io::Result<bool> {
    let (place, bit) = STATE;
    let mut state = [0; 2];
    file.read_exact_at(&mut state, place)?;
    Ok(u16::from_le_bytes(state) & bit != 0)
}

/// Repairs what a host that lost its power has left.
fn mend(file: &File) -> io::Result<()> {
    let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let program = program("e2fsck").ok_or_else(|| damaged("there is no e2fsck".to_owned()))?;
    let ended = run(Command::new(program).arg("-fy"), file)?;
    tracing::warn!(
        status = ended.code(),
        "a sandbox's disk was not unmounted in order and has been checked"
    );
    // 1: errors were corrected.
    match ended.code() {
        Some(0 | 1) => Ok(()),
        _ => Err(damaged("the disk cannot be mended".to_owned())),
    }
}

/// A new file in memory with an empty file system in it.
fn empty(mkfs: &Path, bytes: u64) -> io::Result<File> {
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC)?);
    file.set_len(bytes)?;
    let mut command = Command::new(mkfs);
    // No journal, since what outlives the host's memory are checkpoints; tables that nobody writes before they are used.
    command.args(["-q", "-F", "-b", &BLOCK.to_string(), "-I", "256", "-m", "0"]);
    command.args(["-i", &BYTES_PER_FILE.to_string()]);
    command.args(["-O", "^has_journal,^resize_inode"]);
    command.args([
        "-E",
        "lazy_itable_init=1,nodiscard,packed_meta_blocks=1,root_owner=0:0",
    ]);
    let ended = run(&mut command, &file)?;
    if ended.success() {
        Ok(file)
    } else {
        Err(io::Error::other(format!("mkfs.ext4 ended: {ended}")))
    }
}

/// Runs a program of ours on a file that it knows as its standard input.
fn run(command: &mut Command, file: &File) -> io::Result<std::process::ExitStatus> {
    command
        .arg("/proc/self/fd/0")
        .env_clear()
        .current_dir("/")
        .stdin(file.try_clone()?)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
}

/// Copies what is not a hole.
fn copy(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; 64 << 10];
    let mut place = 0;
    loop {
        // The position of the shared file is nobody's: what is read is read by place.
        place = match seek(from, SeekFrom::Data(place)) {
            Ok(place) => place,
            // No more data.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(place))?;
        while place < end {
            let part = buffer
                .len()
                .min(usize::try_from(end - place).unwrap_or(usize::MAX));
            from.read_exact_at(&mut buffer[..part], place)?;
            to.write_all_at(&buffer[..part], place)?;
            place += part as u64;
        }
    }
}

fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/local/sbin"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests;
