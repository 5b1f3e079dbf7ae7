//! One command of a build, in a sandbox of its own: the same name spaces and system calls as a session's, with root inside
//! where a layer of the system is built (security SBX-1).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::fs::CWD;
use tokio::process::Command;

use super::super::arguments::{Access, Arguments, memory, open};
use super::super::bound::ReadOnly;
use super::super::launch::{HIDDEN, SANDBOXD, SYSTEM};
use super::super::process::{Preparation, User, prepare};
use crate::packages::plan::{CAPABILITIES, PREFIX};
use crate::provider::builds::each_line;
use crate::provider::door;

/// Everything one command needs.
pub(super) struct Run<'a> {
    pub(super) bwrap: &'a Path,
    pub(super) sandboxd: &'a Path,
    pub(super) filters: &'a [Vec<u8>],
    pub(super) read_only: &'a [ReadOnly],
    /// What is seen of the system.
    pub(super) place: Place<'a>,
    /// The host's user behind the one inside; `None` where the server has no other.
    pub(super) user: Option<u32>,
    /// The folder with the way out's own, and whom clients trust, where there is a way out.
    pub(super) way_out: Option<(&'a OwnedFd, &'a Path)>,
    pub(super) enter: Vec<File>,
    pub(super) words: &'a [String],
    pub(super) environment: &'a [(String, String)],
}

/// What a command sees of the system, and what it changes.
pub(super) enum Place<'a> {
    /// Root of a user space, over detached mounts and where they go.
    System {
        space: &'a OwnedFd,
        trees: Vec<(OwnedFd, String)>,
        root: &'a Path,
    },
    /// A plain user, and a folder that becomes [`PREFIX`].
    Prefix {
        folder: &'a OwnedFd,
        etc: &'a Path,
        root: &'a Path,
    },
}

/// Runs the command to its end; what it says goes to `said`, line by line. Dropping the future kills it.
pub(super) async fn run(run: Run<'_>, said: impl FnMut(&str)) -> io::Result<ExitStatus> {
    let mut arguments = Arguments::new(run.user.is_some())?;
    describe(&mut arguments, &run)?;
    let options = memory("options", arguments.bytes())?;
    let (output, output_theirs) = tokio::net::unix::pipe::pipe()
        .and_then(|(sender, receiver)| Ok((receiver, sender.into_blocking_fd()?)))?;
    let mut command = Command::new(run.bwrap);
    command.arg("--args").arg(options.as_raw_fd().to_string());
    command.arg("--");
    if run.way_out.is_some() {
        command.args([SANDBOXD, "run", "--door", door::SOCKET, "--"]);
    }
    command
        .args(run.words)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output_theirs.try_clone()?)
        .stderr(output_theirs)
        .kill_on_drop(true);
    let mut keep = vec![options.as_fd()];
    keep.extend(arguments.opened());
    let user = run.user.map(|id| User {
        id,
        stage: arguments.stage(),
        space: match &run.place {
            Place::System { space, .. } => Some(space.as_fd()),
            Place::Prefix { .. } => None,
        },
    });
    let enter = run.enter.iter().map(AsFd::as_fd).collect();
    prepare(&mut command, Preparation { keep, enter, user });
    let mut child = command.spawn()?;
    // With our copies gone, the pipe ends when the other side does.
    drop(command);
    each_line(output, said).await?;
    child.wait().await
}

fn describe(arguments: &mut Arguments, run: &Run<'_>) -> io::Result<()> {
    arguments.apart(run.filters)?;
    arguments.add(&["--die-with-parent"]);
    match &run.place {
        Place::System { trees, root, .. } => {
            for capability in CAPABILITIES {
                arguments.add(&["--cap-add", capability]);
            }
            for (tree, inside) in trees {
                arguments.mount(tree.try_clone()?, inside, Access::Write);
            }
            for path in SYSTEM {
                arguments.link(root, path)?;
            }
        }
        Place::Prefix { folder, etc, root } => {
            arguments.plain_user();
            for path in SYSTEM {
                arguments.system(root, path)?;
            }
            for path in HIDDEN
                .into_iter()
                .filter(|path| root.join(&path[1..]).is_dir())
            {
                arguments.add(&["--tmpfs", path, "--remount-ro", path]);
            }
            arguments.bind(open(CWD, etc)?, "/etc", Access::Read)?;
            arguments.bind(folder.try_clone()?, PREFIX, Access::Write)?;
        }
    }
    arguments.add(&["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]);
    arguments.add(&["--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]);
    arguments.add(&["--dir", "/tmp/home", "--dir", "/run/lock", "--dir", "/root"]);
    for ReadOnly { from, to } in run.read_only {
        let shown = std::fs::canonicalize(from).and_then(|path| open(CWD, &path))?;
        arguments.bind(shown, to, Access::Read)?;
    }
    arguments.bind(open(CWD, run.sandboxd)?, SANDBOXD, Access::Read)?;
    if let Some((folder, trust)) = run.way_out {
        arguments.way_out(folder, trust)?;
        // Node alone would not know what this host trusts beside the usual.
        let roots = format!("{}/roots.pem", door::TRUST);
        arguments.add(&["--setenv", "NODE_EXTRA_CA_CERTS", &roots]);
    }
    for (name, value) in run.environment {
        arguments.add(&["--setenv", name, value]);
    }
    arguments.add(&["--chdir", "/tmp"]);
    Ok(())
}
