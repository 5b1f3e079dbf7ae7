//! The mounts of layers, made ready in this process and handed over as handles: overlays of folders, and folders whose files
//! belong to other users than on the disk.
#![expect(
    unsafe_code,
    reason = "name spaces and the owners of a mount are set by system calls that no safe wrapper has"
)]

use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change,
    move_mount, open_tree,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::super::arguments::stage_point;

/// How many user ids a build has.
pub(super) const IDS: u32 = 65_536;

/// Folders that lie on top of each other.
pub(super) struct Pile {
    /// From the topmost on; never written.
    pub(super) lowers: Vec<OwnedFd>,
    /// A folder with `upper` and `work` in it, when what is written is to be kept.
    pub(super) upper: Option<OwnedFd>,
}

/// A user space whose ids `0..IDS` are those of the host from `base` on.
pub(super) fn user_space(base: u32) -> io::Result<OwnedFd> {
    // A program that waits for its input keeps the space until there is a handle on it.
    let mut command = Command::new("/bin/cat");
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: one system call between fork and exec, which touches no memory.
    unsafe {
        command.pre_exec(|| Ok(unshare_unsafe(UnshareFlags::NEWUSER)?));
    }
    let mut child = command.spawn()?;
    let opened = (|| {
        for map in ["uid_map", "gid_map"] {
            std::fs::File::options()
                .write(true)
                .open(format!("/proc/{}/{map}", child.id()))?
                .write_all(format!("0 {base} {IDS}\n").as_bytes())?;
        }
        std::fs::File::open(format!("/proc/{}/ns/user", child.id()))
    })();
    drop(child.stdin.take());
    child.wait()?;
    Ok(opened?.into())
}

/// Mounts each of the piles, detached: whoever has the handle may attach it. With a user space, files that belong to 0 on
/// the disk belong to its root, and so on; without one the mounts are read-only.
pub(super) fn overlays(piles: Vec<Pile>, space: Option<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    // A thread of its own, because it leaves this process's view of the mounts and never comes back.
    let made = thread::Builder::new()
        .name("layers".to_owned())
        .spawn(move || pile_up(&piles, space.as_ref()))?;
    made.join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts layers failed")))
}

fn pile_up(piles: &[Pile], space: Option<&OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    let mut clones = Vec::new();
    for pile in piles {
        for lower in &pile.lowers {
            let clone = clone(lower)?;
            if let Some(space) = space {
                give(&clone, space)?;
            }
            clones.push(clone);
        }
        if let Some(upper) = &pile.upper {
            clones.push(clone(upper)?);
        }
    }
    let point = stage_point()?;
    // SAFETY: only this thread leaves; it shares descriptors, which are not unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    mount_change(
        c"/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"layers", point, c"tmpfs", flags, c"mode=700")?;
    for (number, clone) in clones.iter().enumerate() {
        let place = format!("{point}/{number}");
        mkdirat(CWD, &place, Mode::from(0o700))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(clone, c"", CWD, &place, flags)?;
    }
    let mut next = 0;
    piles
        .iter()
        .map(|pile| {
            let lowers = next..next + pile.lowers.len();
            next = lowers.end + usize::from(pile.upper.is_some());
            let lowers: Vec<_> = lowers.map(|number| format!("{point}/{number}")).collect();
            let upper = pile
                .upper
                .is_some()
                .then(|| format!("{point}/{}", next - 1));
            overlay(&lowers.join(":"), upper.as_deref())
        })
        .collect()
}

fn overlay(lowers: &str, upper: Option<&str>) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "lowerdir", lowers)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    match upper {
        Some(upper) => {
            fsconfig_set_string(&context, "upperdir", format!("{upper}/upper"))?;
            fsconfig_set_string(&context, "workdir", format!("{upper}/work"))?;
        }
        None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
    }
    fsconfig_create(&context)?;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

fn clone(folder: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(folder, c"", flags)?)
}

/// Lets the files of a mount belong to the users of a space, read-only.
fn give(mount: &OwnedFd, space: &OwnedFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP | libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: space.as_raw_fd() as u64,
    };
    // SAFETY: the attributes outlive the call, which reads as many bytes as it is told; the name is a string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A handle on a folder that a pile is made of.
pub(super) fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH
        | rustix::fs::OFlags::DIRECTORY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}
