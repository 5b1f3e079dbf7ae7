//! Starting bubblewrap: the one place where a new process prepares itself before it becomes another program.
#![expect(
    unsafe_code,
    reason = "a child must let go of what it inherits between fork and exec"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{
    LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

/// What the child does to itself before it becomes bubblewrap.
#[derive(Default)]
pub(super) struct Preparation<'a> {
    /// Descriptors that it keeps under their numbers; all others close.
    pub(super) keep: Vec<BorrowedFd<'a>>,
    /// Control-group files to enter through.
    pub(super) enter: Vec<BorrowedFd<'a>>,
    /// The unprivileged user of the host to become, when the server is root: a sandbox must never be its root.
    pub(super) user: Option<User<'a>>,
}

/// The user a root server's child becomes, and what it takes along.
pub(super) struct User<'a> {
    /// Its id; the group of the same number is its only one.
    pub(super) id: u32,
    /// What it could not reach by itself, because folders above are closed to it: shown at a stage that only this
    /// child and its children see.
    pub(super) stage: Option<Stage<'a>>,
    /// A user space of which it becomes root; from the host it is still the user above.
    pub(super) space: Option<BorrowedFd<'a>>,
}

/// Files and directories that appear below a directory, named `0`, `1` and so on.
pub(super) struct Stage<'a> {
    /// An existing directory, which is hidden by this.
    pub(super) point: CString,
    /// What appears.
    pub(super) shown: Vec<(BorrowedFd<'a>, Shown)>,
}

/// What something is that appears at a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// A file, by a mount made for the child.
    File,
    /// A directory, by a mount made for the child.
    Directory,
    /// A detached mount, which moves to the child.
    Mount,
}

/// Adds the preparation to a command. The descriptors must stay open until it has been started.
pub(super) fn prepare(command: &mut Command, preparation: Preparation<'_>) {
    let keep: Vec<RawFd> = preparation.keep.iter().map(AsRawFd::as_raw_fd).collect();
    let enter: Vec<RawFd> = preparation.enter.iter().map(AsRawFd::as_raw_fd).collect();
    let user = preparation.user.map(|user| RawUser {
        id: user.id,
        stage: user.stage.map(RawStage::of),
        space: user.space.map(|space| space.as_raw_fd()),
    });
    let mut trees = Vec::with_capacity(
        user.iter()
            .flat_map(|user| &user.stage)
            .map(|stage| stage.shown.len())
            .sum(),
    );
    // SAFETY: the closure runs in the child after fork. It allocates nothing (the one vector it fills has its room
    // already) and takes no lock: it makes system calls on numbers and names that were made before. All descriptors
    // are open there, as the child is a copy of this process.
    unsafe {
        command.pre_exec(move || detach(&keep, &enter, user.as_ref(), &mut trees));
    }
}

struct RawUser {
    id: u32,
    stage: Option<RawStage>,
    space: Option<RawFd>,
}

struct RawStage {
    point: CString,
    shown: Vec<(RawFd, Shown, CString)>,
}

impl RawStage {
    fn of(stage: Stage<'_>) -> Self {
        // Numbers hold no NUL.
        let name = |number: usize| CString::new(number.to_string()).unwrap_or_default();
        let shown = stage.shown.iter().enumerate();
        let shown = shown
            .map(|(number, (fd, kind))| (fd.as_raw_fd(), *kind, name(number)))
            .collect();
        Self {
            point: stage.point,
            shown,
        }
    }

    fn set(&self, trees: &mut Vec<OwnedFd>) -> io::Result<()> {
        for (fd, kind, _) in &self.shown {
            // SAFETY: open in this process, see `prepare`, and only borrowed for this call.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            trees.push(if *kind == Shown::Mount {
                fcntl_dupfd_cloexec(fd, 0)?
            } else {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::AT_EMPTY_PATH
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                open_tree(fd, c"", flags)?
            });
        }
        // SAFETY: this process has one thread, and its descriptors are not unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        // Nothing of this reaches the host.
        mount_change(
            c"/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(
            c"stage",
            self.point.as_c_str(),
            c"tmpfs",
            flags,
            c"mode=755",
        )?;
        rustix::process::chdir(self.point.as_c_str())?;
        for (tree, (_, kind, name)) in trees.drain(..).zip(&self.shown) {
            let name = name.as_c_str();
            match kind {
                Shown::Directory | Shown::Mount => mkdirat(CWD, name, Mode::from(0o755))?,
                Shown::File => mknodat(CWD, name, FileType::RegularFile, Mode::from(0o444), 0)?,
            }
            move_mount(
                &tree,
                c"",
                CWD,
                name,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )?;
        }
        Ok(rustix::process::chdir(c"/")?)
    }
}

fn detach(
    keep: &[RawFd],
    enter: &[RawFd],
    user: Option<&RawUser>,
    trees: &mut Vec<OwnedFd>,
) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from(0o022));
    rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    for fd in enter {
        // SAFETY: as above.
        rustix::io::write(unsafe { BorrowedFd::borrow_raw(*fd) }, b"0")?;
    }
    close_the_rest()?;
    for fd in keep {
        // SAFETY: as above.
        fcntl_setfd(unsafe { BorrowedFd::borrow_raw(*fd) }, FdFlags::empty())?;
    }
    if let Some(user) = user {
        if let Some(stage) = &user.stage {
            stage.set(trees)?;
        }
        let id = match user.space {
            // SAFETY: as above.
            Some(space) => enter_space(unsafe { BorrowedFd::borrow_raw(space) })?,
            None => user.id,
        };
        // Groups first, the user last: after that there is no right left to change the others.
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        if user.space.is_some() {
            forbid_spaces()?;
        }
    }
    Ok(())
}

/// Goes to a user space; its root.
fn enter_space(space: BorrowedFd<'_>) -> io::Result<u32> {
    move_into_link_name_space(space, Some(LinkNameSpaceType::User))?;
    Ok(0)
}

/// Makes that nothing in this user space makes another one below: with it would come rights that were given up.
fn forbid_spaces() -> io::Result<()> {
    let limit = rustix::fs::open(
        c"/proc/sys/user/max_user_namespaces",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(limit, b"0")?;
    Ok(())
}

/// Marks every descriptor above the standard ones to close on exec, also those that this server was started with.
fn close_the_rest() -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A handle on a process that becomes readable when the process has ended.
pub(super) fn waitable(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and is never replaced, for as long as the value that holds it lives.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}
