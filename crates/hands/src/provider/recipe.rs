//! What a sandbox is made from.

use manyhands_protocol::environment::{Networking, Packages};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, Variables};
use crate::memory::Folder;
use crate::skills::Skill;

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
    /// its end; what is in them is seen to by way of [`Provider::memories`](super::Provider::memories).
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

/// What a sandbox may use (security SBX-3, runtime EN-14). Which of these a host can hold is in its [`Probe`](super::Probe).
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
