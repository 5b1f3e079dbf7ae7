//! What a provider finds on its host.

use serde::Serialize;

use crate::Error;

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
