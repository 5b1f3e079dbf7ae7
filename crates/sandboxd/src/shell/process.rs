//! The process of a shell: how it is started, fed and read.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, ioctl_fionread};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::variables::Variables;
use crate::reaper::Reaper;

/// Descriptors given to the shell start here, out of the way of what scripts use.
const FIRST_FD: i32 = 60;

/// What the shell and everything it starts may use (security SBX-3).
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Processes and threads of the sandbox's user at once.
    pub processes: Option<u64>,
    /// Open files of one process.
    pub open_files: Option<u64>,
    /// The largest file, in bytes.
    pub file_bytes: Option<u64>,
    /// The data of one process, in bytes: where nothing can bound the memory of all.
    pub data_bytes: Option<u64>,
}

/// A live shell.
pub(super) struct Shell {
    pid: Pid,
    /// A line here makes it take the next command.
    go: fs::File,
    /// The command.
    script: fs::File,
    /// Exit statuses, a line each.
    status: OwnedFd,
    unfinished_status: String,
    /// Standard output and error of everything it runs; `None` once all writers are gone.
    output: Option<OwnedFd>,
}

/// What came of reading a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Something.
    Some,
    /// Nothing for now.
    Nothing,
    /// All writers are gone.
    Ended,
}

impl Shell {
    pub(super) fn start(
        root: &Path,
        variables: &Variables,
        limits: &Limits,
        reaper: &Reaper,
        on_exit: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (go_theirs, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let (status, status_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, output_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let script = memfd_create("command", MemfdFlags::CLOEXEC)?;
        for fd in [&status, &output] {
            rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)?;
        }
        // Copies without close-on-exec. Only this thread starts processes, so nobody else inherits them.
        let [go_theirs, status_theirs, script_theirs, output_theirs] =
            [&go_theirs, &status_theirs, &script, &output_theirs].map(inheritable);
        let (go_theirs, status_theirs, script_theirs, output_theirs) =
            (go_theirs?, status_theirs?, script_theirs?, output_theirs?);
        let driver = driver(&go_theirs, &script_theirs, &status_theirs, &output_theirs);

        let mut command = Command::new("/bin/bash");
        command.args(["--noprofile", "--norc", "-c", &driver, "bash"]);
        command.current_dir(root).process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Runtime TL-13.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"ANTHROPIC_") {
                command.env_remove(name);
            }
        }
        command.env("TERM", "dumb");
        command.envs(&variables.0);
        let pid = reaper.spawn(&mut command, move |_| on_exit())?;
        restrict(pid, limits)?;
        Ok(Self {
            pid,
            go: go.into(),
            script: script.into(),
            status,
            unfinished_status: String::new(),
            output: Some(output),
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn kill(&self) {
        // It may have ended by itself.
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// Hands it a command; it must have none.
    pub(super) fn send(&mut self, command: &str) -> io::Result<()> {
        self.script.set_len(0)?;
        self.script.write_all_at(command.as_bytes(), 0)?;
        self.go.write_all(b"\n")
    }

    pub(super) fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.output
            .iter()
            .map(AsFd::as_fd)
            .chain([self.status.as_fd()])
    }

    /// How much output waits to be read, in bytes.
    pub(super) fn output_waiting(&self) -> usize {
        let waiting = self.output.as_ref().and_then(|fd| ioctl_fionread(fd).ok());
        waiting.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    pub(super) fn read_output(&mut self, take: impl FnMut(&[u8])) -> Read {
        let Some(output) = &self.output else {
            return Read::Ended;
        };
        let read = read_some(output, take);
        if read == Read::Ended {
            self.output = None;
        }
        read
    }

    /// The exit status of the command, once it has ended. A line that is no number counts as a failure.
    pub(super) fn read_status(&mut self) -> Option<i32> {
        let Self {
            status,
            unfinished_status,
            ..
        } = self;
        read_some(status, |bytes| {
            unfinished_status.push_str(&String::from_utf8_lossy(bytes))
        });
        let (line, _) = self.unfinished_status.split_once('\n')?;
        let status = line.parse().unwrap_or(1);
        self.unfinished_status.clear();
        Some(status)
    }

    /// Its output pipe, to be drained for what it left in the background.
    pub(super) fn into_output(self) -> Option<OwnedFd> {
        self.output
    }
}

/// A copy that a child inherits, numbered out of the way.
fn inheritable(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let copy = fcntl_dupfd_cloexec(fd, FIRST_FD)?;
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}

/// Reads once from a non-blocking descriptor.
pub(super) fn read_some(fd: &OwnedFd, mut take: impl FnMut(&[u8])) -> Read {
    let mut buffer = [0; 16 * 1024];
    match rustix::io::read(fd, &mut buffer) {
        Ok(0) => Read::Ended,
        Ok(length) => {
            take(&buffer[..length]);
            Read::Some
        }
        Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
        Err(_) => Read::Ended,
    }
}

/// What the shell runs, on one line so that line numbers in its messages are the command's own. First it makes
/// the memory killer prefer it over us, then it loops. `builtin` keeps it working when a command defines functions of those names; the redirections are undone after each
/// command, also after an `exec` that changed them.
fn driver(go: &OwnedFd, script: &OwnedFd, status: &OwnedFd, output: &OwnedFd) -> String {
    let [go, script, status, output] = [go, script, status, output].map(AsRawFd::as_raw_fd);
    format!(
        "echo 1000 >/proc/self/oom_score_adj || exit; while builtin read -r -u {go} _; do \
         IFS= builtin read -r -d '' __manyhands </proc/self/fd/{script}; :; \
         builtin eval \"$__manyhands\" </dev/null >&{output} 2>&1 {go}<&- {script}<&- {status}>&- {output}>&-; \
         builtin printf '%d\\n' \"$?\" >&{status}; done"
    )
}

/// Limits of a shell that waits for its first command.
fn restrict(pid: Pid, limits: &Limits) -> io::Result<()> {
    let wanted = [
        (Resource::Nproc, limits.processes),
        (Resource::Nofile, limits.open_files),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Data, limits.data_bytes),
        (Resource::Core, Some(0)),
    ];
    for (resource, limit) in wanted {
        if let Some(limit) = limit {
            prlimit(
                Some(pid),
                resource,
                Rlimit {
                    current: Some(limit),
                    maximum: Some(limit),
                },
            )?;
        }
    }
    Ok(())
}
