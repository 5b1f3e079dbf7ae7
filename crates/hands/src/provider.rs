//! The contract of a sandbox: provision, execute, release. All providers pass one suite.

mod builds;
pub mod checkpoint;
pub mod container;
mod door;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod hold;
mod link;
mod live;
mod lodge;
mod measure;
pub mod namespace;
mod places;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_protocol::environment::{Networking, Packages};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::memory::{Folder, Memories};
use crate::packages::Manager;
use crate::skills::Skill;
pub use checkpoint::{Checkpoint, Checkpoints, Origin};
pub use manyhands_sandboxd::frame::Variables;
pub use manyhands_sandboxd::output::{Block, Output, Source};

/// What a session's sandbox is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The session, `sesn_…`: one sandbox each (security SBX-1).
    pub session: String,
    /// The epoch of the lease that the caller holds: one lower than a session's sandbox has had is refused (security
    /// LEASE-1).
    pub epoch: i64,
    /// What the sandbox may use.
    pub limits: Limits,
    /// What it may reach.
    pub network: Network,
    /// What is installed in it (runtime EN-7).
    pub packages: Packages,
    /// Variables of its shell beside the usual ones: placeholders of secrets, never secrets (runtime VA-9).
    pub variables: Variables,
    /// The files it reads below `/mnt/session/uploads` (runtime FI-1).
    pub uploads: Vec<Upload>,
    /// The folders of the memory stores that it sees at `/mnt/memory` (runtime ME-13). They are a session's from its beginning to
    /// its end; what is in them is seen to by way of [`Provider::memories`].
    pub memory: Vec<Folder>,
    /// The skills that it reads at `/mnt/skills` (runtime SK-3). They are a session's from its beginning to its end.
    pub skills: Vec<Skill>,
    /// What an earlier sandbox of the session has written, where the host has nothing newer (runtime EN-17).
    pub checkpoint: Option<Checkpoint>,
    /// The session's environment, `env_…`: it may take one of the sandboxes that wait for that environment's sessions, where
    /// the provider keeps some. Without it, it takes none.
    pub environment_id: Option<String>,
}

impl Recipe {
    /// The recipe of a session for the owner with this epoch: the default limits, no packages, no files, everything
    /// reachable that the gate does not refuse.
    pub fn new(session: impl Into<String>, epoch: i64) -> Self {
        Self {
            session: session.into(),
            epoch,
            limits: Limits::default(),
            network: Network::default(),
            packages: Packages::default(),
            variables: Variables::default(),
            uploads: Vec::new(),
            memory: Vec::new(),
            skills: Vec::new(),
            checkpoint: None,
            environment_id: None,
        }
    }
}

/// What a sandbox may reach (security NET-1, runtime EN-10).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// As the environment says.
    pub networking: Networking,
    /// The hosts of the session's MCP servers, which count where the environment allows them.
    pub mcp_hosts: Vec<String>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            networking: Networking::Unrestricted {},
            mcp_hosts: Vec::new(),
        }
    }
}

/// A file that a sandbox reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Where, below `/mnt/session/uploads`: safe segments, relative (security INP-4).
    pub path: String,
    /// The name of its bytes among the blobs.
    pub blob: String,
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

/// An output of a session that was captured before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where it is, below the outputs.
    pub path: String,
    /// What told that it was written.
    pub stamp: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// An output that is new or was changed, among the blobs now (runtime FI-5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Where it is, below the outputs: text without control characters, whatever bytes its name has.
    pub path: String,
    /// Changes when it is written again.
    pub stamp: String,
    /// The name of its bytes among the blobs.
    pub blob: String,
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

/// What a look at a session's outputs has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// New or changed files.
    pub files: Vec<Captured>,
    /// Files that were written again with the content that was seen, and their new stamps.
    pub same: Vec<Seen>,
    /// Whether something was being written and has to be looked at again.
    pub unsteady: bool,
}

/// Files of a sandbox that are to be kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join<'a> {
    /// Where they are: an absolute path below `/workspace`, of plain segments.
    pub folder: &'a str,
    /// Their paths below it, of plain segments; at least one.
    pub files: &'a [&'a str],
    /// The fewest bytes of all of them that are worth keeping.
    pub least: u64,
    /// The most that they may have.
    pub cap: u64,
}

/// Files that are among the blobs now, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The name of their blob.
    pub blob: String,
    /// How many bytes it has.
    pub size: u64,
    /// How many of them are the first file's.
    pub head: u64,
    /// The SHA-256 of all, in hex.
    pub sha256: String,
}

/// The guarded way out of sandboxes (security NET-1). Without one there is none.
pub trait Gate: Send + Sync + 'static {
    /// Answers the connections of this session's sandbox on `socket` by this policy, until the door is dropped. A
    /// second door of the session takes the first one's place.
    ///
    /// # Errors
    /// When the socket cannot be served: the sandbox then has no way out.
    fn open(
        &self,
        session: &str,
        network: &Network,
        socket: std::os::unix::net::UnixListener,
    ) -> std::io::Result<Door>;

    /// The certificate that clients inside have to trust, as PEM: of the authority whose leaves the gate shows.
    fn authority(&self) -> String;
}

impl std::fmt::Debug for dyn Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

/// An open way out. Dropping it closes it.
pub type Door = Box<dyn Send + Sync>;

/// What a sandbox may use (security SBX-3, runtime EN-14). Which of these a host can hold is in its [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all processes together, in bytes.
    pub memory_bytes: u64,
    /// Disk space, in bytes; the largest size of any one file in any case.
    pub disk_bytes: u64,
    /// Processes and threads at once.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 8 << 30,
            disk_bytes: 10 << 30,
            processes: 512,
            open_files: 4096,
        }
    }
}

/// Who waits for packages hears of it here.
pub type Told = Arc<dyn Fn(&str) + Send + Sync>;

/// A way to make sandboxes.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The provider's name, for example `namespace`.
    fn name(&self) -> &'static str;

    /// What this host can give: strength, helper versions, which limits hold, what is missing (security SBX-2).
    async fn probe(&self) -> Probe;

    /// Whether environments may ask for packages of this manager, as far as this host decides that (runtime EN-7).
    ///
    /// # Errors
    /// What stands in the way, and what the operator should do.
    async fn installs(&self, manager: Manager) -> Result<(), Missing> {
        Err(Missing {
            what: format!("{manager} packages cannot be installed here"),
            why: format!("the {} provider installs no packages", self.name()),
            install: "use the namespace provider, or put the programs into the image".to_owned(),
        })
    }

    /// Makes ready what the sessions of an environment share: its packages, installed once and kept (runtime EN-7). May take
    /// minutes; who waits is told how far it is, as short texts. Single-flight, and it goes on when nobody waits any more.
    /// Does nothing when it is ready, or when the session has a live sandbox already.
    ///
    /// # Errors
    /// [`Error::Packages`] when they cannot be installed: the caller may go on without them (runtime EN-9).
    async fn furnish(&self, recipe: &Recipe, _told: &Told) -> Result<(), Error> {
        match Manager::ALL
            .iter()
            .find(|manager| !manager.list(&recipe.packages).is_empty())
        {
            Some(manager) => Err(Error::Packages {
                manager: manager.name(),
                why: "this server's sandboxes have no packages of environments".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Removes what was made ready for environments and is wanted by none of these any more, nor by a session.
    ///
    /// # Errors
    /// When something is left that should not be; the next time tries again.
    async fn unfurnish(&self, _wanted: &[Packages]) -> Result<(), Error> {
        Ok(())
    }

    /// Brings the files that the session's sandbox reads in line with these, whether it is live or rests (runtime FI-4). A
    /// session that has nothing here gets them with its next start.
    ///
    /// # Errors
    /// When a sandbox may still show what it should not, or lack what it should have; a start tries again.
    async fn lay(&self, _session: &str, _uploads: &[Upload]) -> Result<(), Error> {
        Ok(())
    }

    /// Brings what is new or changed of the session's outputs among the blobs: regular files below `/mnt/session/outputs`, each
    /// as large as a file may be. A session that has nothing here has none.
    ///
    /// # Errors
    /// When they cannot be looked at or kept; nothing is kept then, and trying again is fine.
    async fn capture(&self, _session: &str, _seen: &[Seen]) -> Result<Capture, Error> {
        Ok(Capture::default())
    }

    /// Brings files of the session's sandbox among the blobs, one behind the other in one blob, beside whatever runs there. `None`
    /// when one of them is not there, is no regular file or is written meanwhile, when they have fewer or more bytes than they
    /// should, or when the sandbox cannot be read without being started.
    ///
    /// # Errors
    /// When they cannot be kept; nothing is kept then.
    async fn join(&self, _session: &str, _files: &Join<'_>) -> Result<Option<Joined>, Error> {
        Ok(None)
    }

    /// The folders of the session's memory stores, whether its sandbox is alive or has ended. `None` when it has no files here.
    ///
    /// # Errors
    /// When they cannot be reached.
    async fn memories(&self, _session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        Ok(None)
    }

    /// Makes ready what every start needs, so that the first one is fast. Optional.
    ///
    /// # Errors
    /// As [`Provider::provision`] would.
    async fn prepare(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The session's live sandbox, started if there is none. Idempotent, single-flight per session, also among the
    /// processes that share what the provider keeps. From then on owners with a lower epoch are refused.
    ///
    /// # Errors
    /// [`Error::Unavailable`] names what is missing; there is no fallback to less isolation. [`Error::StaleEpoch`] when a
    /// newer owner has been here.
    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error>;

    /// The session's live sandbox, never started: for recovery. From then on owners with a lower epoch are refused.
    ///
    /// # Errors
    /// When it cannot be told whether there is one, and [`Error::StaleEpoch`] as in `provision`.
    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error>;

    /// The provider's checkpoints, if its sandboxes can be kept elsewhere (runtime EN-17).
    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        None
    }

    /// Ends the processes, keeps the writable layer (idle). Nothing to end is fine.
    ///
    /// # Errors
    /// When they may still run.
    async fn release(&self, session: &str) -> Result<(), Error>;

    /// Ends the processes and removes everything. Nothing to remove is fine.
    ///
    /// # Errors
    /// When something may be left; the next start's sweep tries again.
    async fn destroy(&self, session: &str) -> Result<(), Error>;

    /// The sessions that have something here: files, containers, control groups.
    ///
    /// # Errors
    /// When it cannot be told.
    async fn sessions(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Removes what is left of these sessions, which do not exist any more, and what was on its way out when a server
    /// stopped (security SBX-8). Other servers of the data directory may do the same at the same time.
    ///
    /// # Errors
    /// When the trash cannot be emptied. What cannot be removed is logged and left for the next time.
    async fn sweep(&self, _gone: &[String]) -> Result<(), Error> {
        Ok(())
    }

    /// Removes the sandboxes that wait for sessions, and starts no more of them. Those of sessions stay. For a server that
    /// stops; what it does not come to is removed by the next sweep.
    async fn close(&self) {}
}

/// A live sandbox.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Unique for each start of the sandbox's processes: another instance knows nothing of this one's calls.
    fn instance(&self) -> &str;

    /// What its files were when it was started, or got another owner, as long as no call has been executed since; `None` when
    /// a call of this owner has seen them already (runtime EN-19).
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// Runs a tool call, or attaches to the run its id already has; a call id is started at most once (invariant I4).
    ///
    /// # Errors
    /// [`Error::Lost`] leaves the outcome unknown; see [`Error::advice`] for the rest. A tool that fails is no error
    /// here but an [`Output`] with `is_error`.
    async fn execute(&self, call: &Call) -> Result<Output, Error>;

    /// Ends a call and its processes: its `execute` returns an error output. An unknown or finished call is fine.
    ///
    /// # Errors
    /// As `execute`.
    async fn kill(&self, call_id: &str, epoch: i64) -> Result<(), Error>;

    /// Drops the stored results of calls whose results are durable in the log.
    ///
    /// # Errors
    /// As `execute`.
    async fn forget(&self, call_ids: &[String], epoch: i64) -> Result<(), Error>;
}

/// One tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The id of the tool use.
    pub call_id: String,
    /// The epoch of the lease the caller holds (security LEASE-1).
    pub epoch: i64,
    /// The tool's name.
    pub name: String,
    /// The tool's input, as the model wrote it.
    pub input: serde_json::Value,
    /// The outer time limit, counted from the start of the call (runtime TL-20); see
    /// [`toolset::deadline`](crate::toolset::deadline).
    pub deadline: Duration,
}

/// What a provider can give on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The provider's name.
    pub provider: &'static str,
    /// How strong its isolation is.
    pub strength: Strength,
    /// The programs it leans on.
    pub helpers: Vec<Helper>,
    /// What becomes of each limit.
    pub limits: Vec<Limit>,
    /// What stands in the way; empty means that sandboxes can be made.
    pub missing: Vec<Missing>,
    /// What an operator should know, a sentence each.
    pub notes: Vec<String>,
}

impl Probe {
    /// Whether sandboxes can be made.
    pub fn usable(&self) -> bool {
        self.missing.is_empty()
    }
}

/// How a sandbox is kept apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Not at all: tests only.
    Fake,
    /// Name spaces, a system-call filter and no network of its own, on the host's kernel: not for hostile tenants.
    Namespace,
    /// The same on a kernel of its own: gVisor's, or a virtual machine's.
    Kernel,
}

/// A program that a provider leans on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Helper {
    /// For example `bubblewrap`.
    pub name: &'static str,
    /// What it says of itself.
    pub version: String,
    /// Where it is.
    pub path: String,
}

/// What becomes of one limit on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// For example `memory`.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: Holds,
    /// By what means.
    pub by: String,
}

/// Whether a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// For the sandbox as a whole.
    Hard,
    /// For each process or file alone.
    Soft,
    /// Not at all.
    No,
}

/// Something that stands in the way of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// For example `bubblewrap is missing`.
    pub what: String,
    /// What was seen.
    pub why: String,
    /// What the operator should do.
    pub install: String,
}

impl From<Missing> for Error {
    fn from(Missing { what, why, install }: Missing) -> Self {
        Self::Unavailable { what, why, install }
    }
}
