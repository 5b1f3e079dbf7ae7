//! One start of a sandbox: bubblewrap as a child of ours, and what is waited for.

mod layout;

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use tokio::process::{Child, Command};

use super::arguments::{Arguments, memory};
use super::at;
use super::bound::ReadOnly;
use super::layers::Furniture;
use super::process::{Preparation, User, prepare};
use super::writable::Writable;
use crate::Error;
use crate::memory::Folder;
use crate::provider::{Limits, Missing};
use layout::daemon_arguments;

/// How long a sandbox may take to come up.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Where `sandboxd` is inside.
pub(super) const SANDBOXD: &str = "/run/manyhands/sandboxd";

/// The directories of the host that a sandbox sees, read-only; links among them are made anew.
pub(super) const SYSTEM: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32",
];

/// Places below `/usr` where package managers keep their configuration, which may hold credentials.
pub(super) const HIDDEN: [&str; 2] = ["/usr/etc", "/usr/local/etc"];

/// The environment of everything inside. Packages go to the home, the one place a sandbox's user may install to.
pub(in crate::provider) const ENVIRONMENT: [(&str, &str); 10] = [
    (
        "PATH",
        "/home/agent/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/home/agent"),
    ("USER", "agent"),
    ("LOGNAME", "agent"),
    ("SHELL", "/bin/bash"),
    ("LANG", "C.UTF-8"),
    ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
    ("npm_config_prefix", "/home/agent/.local"),
    ("CARGO_INSTALL_ROOT", "/home/agent/.local"),
    ("GOBIN", "/home/agent/.local/bin"),
];

/// The folders of a session that its sandbox writes, and where they are inside. None lies below another, and no
/// mount lies below any of them: a link that a sandbox leaves in one is never on the way to a mount.
pub(in crate::provider) const FOLDERS: [(&str, &str); 4] = [
    ("workspace", "/workspace"),
    ("tmp", "/tmp"),
    ("home", "/home/agent"),
    ("outputs", "/mnt/session/outputs"),
];

/// Everything one start needs.
pub(super) struct Launch<'a> {
    pub(super) bwrap: &'a Path,
    pub(super) sandboxd: &'a Path,
    pub(super) base: &'a Path,
    pub(super) filters: &'a [Vec<u8>],
    pub(super) read_only: &'a [ReadOnly],
    /// The system that it sees, with the packages of its environment.
    pub(super) furniture: &'a Furniture,
    /// The session's folder, where the socket goes.
    pub(super) folder: &'a OwnedFd,
    /// What holds [`FOLDERS`].
    pub(super) writable: Writable,
    /// The folders of memory stores among them.
    pub(super) memory: &'a [Folder],
    pub(super) instance: &'a str,
    pub(super) user: Option<u32>,
    pub(super) limits: &'a Limits,
    /// Whether each process's data must be limited, for want of something better.
    pub(super) limit_data: bool,
    /// Whom clients inside trust, where there is a way out.
    pub(super) trust: Option<&'a Path>,
    pub(super) enter: Vec<File>,
}

/// Starts a sandbox and returns when its `sandboxd` listens. The process is bubblewrap's outer one.
pub(super) async fn launch(launch: Launch<'_>) -> Result<Child, Error> {
    let failed = |doing: &str, error: io::Error| Error::io(format!("{doing} for a sandbox"), error);
    let listener = listener(launch.folder).map_err(|error| failed("make a socket", error))?;
    let (ready, ready_theirs) = tokio::net::unix::pipe::pipe()
        .and_then(|(sender, receiver)| Ok((receiver, sender.into_blocking_fd()?)))
        .map_err(|error| failed("make a pipe", error))?;
    // What bubblewrap says on failure. Not a pipe: nobody may be there to read it.
    let mut said =
        File::from(memory("messages", &[]).map_err(|error| failed("make a file", error))?);
    let mut arguments =
        Arguments::new(launch.user.is_some()).map_err(|error| failed("find a stage", error))?;
    arguments
        .describe(&launch)
        .map_err(|error| failed("open what is bound", error))?;
    let options =
        memory("options", arguments.bytes()).map_err(|error| failed("write the options", error))?;

    let mut command = Command::new(launch.bwrap);
    command
        .arg("--args")
        .arg(options.as_raw_fd().to_string())
        .arg("--")
        .arg(SANDBOXD);
    for (name, value) in daemon_arguments(&launch, listener.as_raw_fd(), ready_theirs.as_raw_fd()) {
        command.arg(name).arg(value);
    }
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.stderr(
        said.try_clone()
            .map_err(|error| failed("copy a descriptor", error))?,
    );
    let mut keep = vec![listener.as_fd(), ready_theirs.as_fd(), options.as_fd()];
    keep.extend(arguments.opened());
    let user = launch.user.map(|id| User {
        id,
        stage: arguments.stage(),
        space: None,
    });
    let enter = launch.enter.iter().map(AsFd::as_fd).collect();
    prepare(&mut command, Preparation { keep, enter, user });
    let mut child = command
        .spawn()
        .map_err(|error| failed("start bubblewrap", error))?;
    // With our copy gone, the pipe ends when the other side does.
    drop(ready_theirs);

    let came_up = tokio::select! {
        ready = first_byte(&ready) => ready.map_err(|error| failed("wait", error)),
        status = child.wait() => Err(refused(status, &mut said)),
        () = tokio::time::sleep(START_LIMIT) => Err(Error::io("start a sandbox in time", io::ErrorKind::TimedOut)),
    };
    match came_up {
        Ok(()) => Ok(child),
        Err(error) => {
            // It has most likely ended; if not, the sandbox inside ends itself without a server.
            let _ = child.start_kill();
            Err(error)
        }
    }
}

/// Waits for the one byte that says "I listen".
async fn first_byte(pipe: &tokio::net::unix::pipe::Receiver) -> io::Result<()> {
    loop {
        pipe.readable().await?;
        match pipe.try_read(&mut [0]) {
            Ok(0) => std::future::pending().await,
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The error behind bubblewrap's last words.
fn refused(status: io::Result<ExitStatus>, said: &mut File) -> Error {
    let mut words = String::new();
    // Its words only help to explain; without them there is still its status.
    let _ = said
        .rewind()
        .and_then(|()| said.take(4096).read_to_string(&mut words));
    let words = words.trim();
    tracing::warn!(?status, words, "a sandbox did not start");
    if words.contains("No space left") {
        return Error::NoSpace {
            what: "to start a sandbox".to_owned(),
        };
    }
    let why = if words.is_empty() {
        format!("bubblewrap ended: {status:?}")
    } else {
        words.to_owned()
    };
    explain(&why).into()
}

/// What a failed start of bubblewrap means for the operator.
pub(super) fn explain(why: &str) -> Missing {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/sys/{name}"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let (what, install) = if read("kernel/unprivileged_userns_clone") == "0" {
        (
            "user namespaces are switched off",
            "allow them with \"sysctl -w kernel.unprivileged_userns_clone=1\"",
        )
    } else if read("user/max_user_namespaces") == "0" {
        (
            "user namespaces are switched off",
            "allow them with \"sysctl -w user.max_user_namespaces=15000\"",
        )
    } else if read("kernel/apparmor_restrict_unprivileged_userns") == "1" {
        (
            "user namespaces are restricted by AppArmor",
            "give bubblewrap an AppArmor profile that allows \"userns\", or allow them for all with \
             \"sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\"",
        )
    } else {
        (
            "bubblewrap cannot start a sandbox",
            "run \"manyhands doctor\"; in a container, allow user namespaces and an unmasked /proc",
        )
    };
    Missing {
        what: what.to_owned(),
        why: why.to_owned(),
        install: install.to_owned(),
    }
}

/// A socket with a name in the session's folder. `sandboxd` listens on it itself, which makes it the peer we see.
fn listener(folder: &OwnedFd) -> io::Result<OwnedFd> {
    match rustix::fs::unlinkat(folder, super::SOCKET, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let listener = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&listener, &SocketAddrUnix::new(at(folder, super::SOCKET))?)?;
    Ok(listener)
}
