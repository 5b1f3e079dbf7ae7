//! Sandboxes on this host: bubblewrap around `sandboxd`, on the host's kernel, with no network.
//!
//! What a session leaves behind lies in a folder of its own below the data directory; the processes come and go. A
//! sandbox knows nothing of the server that started it and outlives it: the next one finds it by the record and the
//! socket in the folder. See `docs/design/sandbox.md`.

mod arguments;
mod base;
pub(in crate::provider) mod binary;
mod bound;
mod cgroup;
mod checkpoint;
pub(in crate::provider) mod disk;
mod end;
pub(in crate::provider) mod files;
mod host;
mod image;
pub(in crate::provider) mod joined;
pub(in crate::provider) mod launch;
mod layers;
mod live;
mod lodge;
mod masked;
pub(in crate::provider) mod memory;
pub(crate) mod outputs;
mod parts;
mod peer;
mod pool;
mod probe;
mod process;
mod provide;
pub(in crate::provider) mod record;
pub(in crate::provider) mod seccomp;
mod skills;
mod uploads;
mod users;
pub mod writable;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use manyhands_blobs::Blobs;

use crate::Error;
use crate::provider::Gate;
pub use bound::ReadOnly;
use host::Host;
pub use image::Image;
pub use layers::Sources;
pub use writable::Tree;

/// The socket's name in a session's folder.
const SOCKET: &str = "socket";

/// Settings of the provider.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's data directory.
    pub data: PathBuf,
    /// The first of the host's user ids that a root server gives to sandboxes.
    pub first_uid: u32,
    /// How many there are.
    pub uids: u32,
    /// How long a sandbox's processes stay without a running call.
    pub idle: Duration,
    /// Beyond a call's own limit, how long its answer may take before the sandbox counts as lost (security TOOL-3).
    pub grace: Duration,
    /// A `bwrap` other than the one on the path.
    pub bwrap: Option<PathBuf>,
    /// A `sandboxd` other than the built-in one or the one beside this program.
    pub sandboxd: Option<PathBuf>,
    /// Files and folders of the host that every sandbox sees read-only, as [`ReadOnly::check`] allows.
    pub read_only: Vec<ReadOnly>,
    /// The system that sandboxes see in the place of the host's, as [`Image::check`] allows.
    pub image: Option<PathBuf>,
    /// Whether packages go below a prefix of their own, although they could go among the system's.
    pub below_prefix: bool,
    /// Where package managers go; what is absent is read from the host's own configuration, without credentials.
    pub sources: Sources,
    /// The guarded way out; without one sandboxes reach nothing (security NET-1).
    pub gate: Option<Arc<dyn Gate>>,
    /// Where files are; without it sandboxes read and hand over none.
    pub blobs: Option<Blobs>,
    /// How long after it was made a sandbox's files are gone on with (runtime EN-18).
    pub retention: Duration,
    /// How many started sandboxes wait for the sessions of an environment that is in use; 0 for none.
    pub warm: usize,
}

impl Config {
    /// The default settings for a data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            first_uid: 2_000_000,
            uids: 1_000_000,
            idle: Duration::from_secs(300),
            grace: Duration::from_secs(10),
            bwrap: None,
            sandboxd: None,
            read_only: Vec::new(),
            image: None,
            below_prefix: false,
            sources: Sources::default(),
            gate: None,
            blobs: None,
            retention: Duration::from_secs(30 * 24 * 3600),
            warm: 0,
        }
    }
}

/// The provider. Clones share everything.
#[derive(Clone)]
pub struct Namespace {
    host: Arc<Host>,
}

impl Namespace {
    /// The provider for a data directory. Nothing is looked at before it is needed.
    pub fn new(config: Config) -> Self {
        Self {
            host: Arc::new(Host::new(config)),
        }
    }

    /// Returns once as many sandboxes wait for sessions as should, or no more can be started now.
    pub async fn refilled(&self) {
        self.host.refilled().await;
    }

    /// A handle on the files of a session's sandbox, whether that is alive or not; `None` when it has none here.
    ///
    /// # Errors
    /// When they cannot be reached.
    pub async fn writable(&self, session: &str) -> Result<Option<Tree>, Error> {
        let slot = self.host.places.at(session)?;
        let place = slot.0.lock().await;
        let tree = match self.host.hold(session).await? {
            Some((folder, _held)) => self.host.writable(session, &folder)?,
            None => None,
        };
        drop(place);
        self.host.places.vacate(session, &slot);
        Ok(tree)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A path to something in an open directory that is short whatever the directory's own path is.
pub(in crate::provider) fn at(directory: &impl AsFd, name: &str) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    if !name.is_empty() {
        path.push(name);
    }
    path
}

/// FNV-1a: tells contents apart where nobody means harm.
pub(in crate::provider) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// An error and its causes on one line.
pub(in crate::provider) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(in crate::provider) async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let failing = doing.to_owned();
    aside(doing, move || {
        work().map_err(|error| Error::io(failing, error))
    })
    .await
}

/// As [`blocking`], for work that says itself what has failed.
pub(in crate::provider) async fn aside<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::io(doing, io::Error::other(error))))
}
