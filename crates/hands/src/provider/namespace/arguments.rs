//! What bubblewrap is told, and the handles behind it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, MemfdFlags, Mode, OFlags, fstat, memfd_create, openat};

use super::process::{Shown, Stage};
use crate::provider::door;

/// Bubblewrap's options, each ended by a NUL, and the descriptors behind them.
pub(super) struct Arguments {
    bytes: Vec<u8>,
    /// Named in the options by their numbers.
    opened: Vec<OwnedFd>,
    /// Where what is bound is shown to a user that could not reach it.
    stage: Option<&'static str>,
    /// What is shown there.
    staged: Vec<(OwnedFd, Shown)>,
}

impl Arguments {
    /// No options yet, for a child that becomes another user or one that does not.
    pub(super) fn new(other_user: bool) -> io::Result<Self> {
        Ok(Self {
            bytes: Vec::new(),
            opened: Vec::new(),
            stage: other_user.then(stage_point).transpose()?,
            staged: Vec::new(),
        })
    }

    /// Name spaces of its own, a new session, no capabilities, and these filters of system calls (security SBX-1).
    pub(super) fn apart(&mut self, filters: &[Vec<u8>]) -> io::Result<()> {
        self.add(&[
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
        ]);
        self.add(&["--hostname", "sandbox", "--new-session"]);
        self.add(&["--cap-drop", "ALL"]);
        for filter in filters {
            self.with_fd("--add-seccomp-fd", memory("filter", filter)?);
        }
        Ok(())
    }

    /// A user space where the user is an ordinary one, which can make no more of them.
    pub(super) fn plain_user(&mut self) {
        self.add(&["--unshare-user", "--uid", "1000", "--gid", "1000"]);
        self.add(&["--disable-userns"]);
    }

    /// Shows the way out that lies in this folder, whom to trust there, and tells clients of it.
    pub(super) fn way_out(&mut self, folder: &OwnedFd, trust: &Path) -> io::Result<()> {
        self.bind(door::make(folder)?, door::INSIDE, Access::Read)?;
        self.bind(open(CWD, trust)?, door::TRUST, Access::Read)?;
        for (name, value) in door::ENVIRONMENT {
            self.add(&["--setenv", name, value]);
        }
        Ok(())
    }

    /// The options.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The descriptors that they name.
    pub(super) fn opened(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.opened.iter().map(AsFd::as_fd)
    }

    /// Where the stage is, if there is one.
    pub(super) fn point(&self) -> Option<&'static str> {
        self.stage
    }

    /// Puts something on the stage; its place there.
    pub(super) fn staged(&mut self, fd: OwnedFd, shown: Shown) -> String {
        let place = format!("{}/{}", self.stage.unwrap_or_default(), self.staged.len());
        self.staged.push((fd, shown));
        place
    }

    /// Shows a detached mount, which only a child that becomes another user can take along.
    pub(super) fn mount(&mut self, mount: OwnedFd, inside: &str, access: Access) {
        let place = self.staged(mount, Shown::Mount);
        self.add(&[access.by_path(), &place, inside]);
    }

    /// Makes the link anew that is at this place of a system, if it is one; whether it is.
    pub(super) fn link(&mut self, root: &Path, path: &str) -> io::Result<bool> {
        match std::fs::read_link(root.join(&path[1..])) {
            Ok(target) => {
                self.add(&["--symlink", &target.to_string_lossy(), path]);
                Ok(true)
            }
            Err(error) if is_no_link(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Shows a directory of a system, or makes the link anew that it is; nothing where there is nothing.
    pub(super) fn system(&mut self, root: &Path, path: &str) -> io::Result<()> {
        let source = root.join(&path[1..]);
        if self.link(root, path)? || !source.is_dir() {
            return Ok(());
        }
        // The host's own are open to everybody; those of an image may lie in a closed folder.
        if root == Path::new("/") {
            self.add(&["--ro-bind", path, path]);
            return Ok(());
        }
        self.bind(open(CWD, &source)?, path, Access::Read)
    }

    /// Shows what a handle is on. Bubblewrap goes by paths, also for descriptors, and would need every folder above
    /// to be open to its user; a root server shows it at the stage instead.
    pub(super) fn bind(&mut self, fd: OwnedFd, inside: &str, access: Access) -> io::Result<()> {
        if self.stage.is_some() {
            let kind = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
                FileType::Directory => Shown::Directory,
                _ => Shown::File,
            };
            let source = self.staged(fd, kind);
            self.add(&[access.by_path(), &source, inside]);
        } else {
            self.with_fd(access.by_handle(), fd);
            self.add(&[inside]);
        }
        Ok(())
    }

    pub(super) fn stage(&self) -> Option<Stage<'_>> {
        let point = CString::new(self.stage?).ok()?;
        let shown = self
            .staged
            .iter()
            .map(|(fd, kind)| (fd.as_fd(), *kind))
            .collect();
        Some(Stage { point, shown })
    }

    pub(super) fn with_fd(&mut self, option: &str, fd: OwnedFd) {
        let number = fd.as_raw_fd().to_string();
        self.add(&[option, &number]);
        self.opened.push(fd);
    }

    pub(super) fn add(&mut self, arguments: &[&str]) {
        for argument in arguments {
            self.bytes.extend_from_slice(argument.as_bytes());
            self.bytes.push(0);
        }
    }
}

/// What a sandbox may do with something that is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Access {
    fn by_path(self) -> &'static str {
        match self {
            Self::Read => "--ro-bind",
            Self::Write => "--bind",
        }
    }

    fn by_handle(self) -> &'static str {
        match self {
            Self::Read => "--ro-bind-fd",
            Self::Write => "--bind-fd",
        }
    }
}

fn is_no_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
    )
}

/// A handle on what is bound, reached with the server's own rights.
pub(super) fn open(directory: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(
        directory,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A file in memory, read from its beginning.
pub(super) fn memory(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// A directory of the host that nothing inside is made of, to show the stage at.
pub(super) fn stage_point() -> io::Result<&'static str> {
    let found = ["/mnt", "/media", "/srv", "/run"]
        .into_iter()
        .find(|path| Path::new(path).is_dir());
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}
