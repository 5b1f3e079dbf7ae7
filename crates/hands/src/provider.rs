//! The contract of a sandbox: provision, execute, release. All providers pass one suite.

#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod hold;
mod link;
mod live;
pub mod namespace;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_protocol::environment::{Networking, Packages};
use serde::{Deserialize, Serialize};

use crate::Error;
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
    /// The files it reads below `/mnt/session/uploads` (runtime FI-1).
    pub uploads: Vec<Upload>,
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
            uploads: Vec::new(),
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

/// A way to make sandboxes.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The provider's name, for example `namespace`.
    fn name(&self) -> &'static str;

    /// What this host can give: strength, helper versions, which limits hold, what is missing (security SBX-2).
    async fn probe(&self) -> Probe;

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
}

/// A live sandbox.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Unique for each start of the sandbox's processes: another instance knows nothing of this one's calls.
    fn instance(&self) -> &str;

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
    /// Name spaces, a system-call filter and no network, on the host's kernel: not for hostile tenants.
    Namespace,
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
