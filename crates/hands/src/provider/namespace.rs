//! Sandboxes on this host: bubblewrap around `sandboxd`, on the host's kernel, with no network.
//!
//! What a session leaves behind lies in a folder of its own below the data directory; the processes come and go. A
//! sandbox knows nothing of the server that started it and outlives it: the next one finds it by the record and the
//! socket in the folder. See `docs/design/sandbox.md`.

mod base;
mod binary;
mod bound;
mod cgroup;
pub(in crate::provider) mod files;
mod host;
mod launch;
mod live;
mod peer;
mod probe;
mod process;
mod record;
mod seccomp;
mod users;
mod watch;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::Error;
use crate::provider::{Helper, Holds, Limit, Missing, Probe, Provider, Recipe, Sandbox, Strength};
pub use bound::ReadOnly;
use cgroup::Cgroups;
use host::Host;
use live::Live;

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

    /// Makes ready what every start needs, so that the first one is fast. Optional.
    ///
    /// # Errors
    /// As [`Provider::provision`] would.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.host
            .bubblewrap
            .bubblewrap(self.host.config.bwrap.as_deref())
            .await?;
        self.host.cgroups().await;
        self.host.parts().await.map(drop)
    }

    /// The sessions that have something on this host: files, or a control group.
    ///
    /// # Errors
    /// When the folder of all sandboxes cannot be read.
    pub async fn sessions(&self) -> Result<Vec<String>, Error> {
        let folder = self.host.sandboxes();
        let mut sessions: Vec<String> = match std::fs::read_dir(&folder) {
            Ok(entries) => entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(format!("list {}", folder.display()), error)),
        };
        let prefix = self.host.groups();
        let groups = self.host.cgroups().await.named(&prefix);
        sessions.extend(
            groups
                .iter()
                .filter_map(|group| Some(group.strip_prefix(&prefix)?.to_owned())),
        );
        sessions.retain(|session| is_name(session));
        sessions.sort();
        sessions.dedup();
        Ok(sessions)
    }

    /// Removes what is left of these sessions, which do not exist any more, and what was on its way out when a server
    /// stopped (security SBX-8). Other servers of the data directory may do the same at the same time.
    ///
    /// # Errors
    /// When the trash cannot be emptied. What cannot be removed is logged and left for the next time.
    pub async fn sweep(&self, gone: &[String]) -> Result<(), Error> {
        for session in gone {
            tracing::info!(
                session.id = session,
                "removing the sandbox of a session that is gone"
            );
            if let Err(error) = self.destroy(session).await {
                tracing::warn!(
                    session.id = session,
                    error = chain(&error),
                    "a sandbox could not be removed"
                );
            }
        }
        let has_files = |session: &str| is_name(session) && self.host.folder(session).exists();
        self.host
            .users()
            .sweep(has_files)
            .map_err(|error| Error::io("free user ids of the host", error))?;
        let trash = self.host.trash();
        blocking("empty the trash", move || files::empty(&trash)).await
    }
}

#[async_trait]
impl Provider for Namespace {
    fn name(&self) -> &'static str {
        "namespace"
    }

    async fn probe(&self) -> Probe {
        let (mut helpers, mut missing, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        match self
            .host
            .bubblewrap
            .bubblewrap(self.host.config.bwrap.as_deref())
            .await
        {
            Ok(bwrap) => {
                helpers.push(bwrap.helper());
                notes.extend(bwrap.note());
                missing.extend(bwrap.try_it(self.host.spare_uid()).await.err());
            }
            Err(lacking) => missing.push(lacking),
        }
        match self.host.parts().await {
            Ok(parts) => helpers.push(Helper {
                name: "sandboxd",
                version: env!("CARGO_PKG_VERSION").to_owned(),
                path: parts.sandboxd.display().to_string(),
            }),
            Err(Error::Unavailable { what, why, install }) => {
                missing.push(Missing { what, why, install })
            }
            Err(error) => missing.push(Missing {
                what: "the parts of a sandbox cannot be made".to_owned(),
                why: chain(&error),
                install: "make the data directory writable and give it space".to_owned(),
            }),
        }
        let cgroups = self.host.cgroups().await;
        if !cgroups.bounds_memory() {
            notes.push(
                "No control group can be made, so memory is bounded for each process only."
                    .to_owned(),
            );
        }
        notes.push("Sandboxes have no network yet.".to_owned());
        notes.push(
            "Sandboxes share the host's kernel: they are not meant for hostile tenants.".to_owned(),
        );
        Probe {
            provider: "namespace",
            strength: Strength::Namespace,
            helpers,
            limits: limits(cgroups),
            missing,
            notes,
        }
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        let slot = self.host.slot(&recipe.session)?;
        let mut place = slot.0.lock().await;
        if let Some(live) = owned(&place, recipe.epoch) {
            live.touch();
            return Ok(live);
        }
        let mut held = match self.host.hold(&recipe.session).await? {
            Some(held) => held,
            None => {
                // Where no sandbox can be made, nothing else is.
                self.prepare().await?;
                self.host.hold_or_make(&recipe.session).await?
            }
        };
        let found = self
            .host
            .own(&mut place, &recipe.session, &mut held, recipe.epoch)
            .await?;
        let live = match found {
            Some(live) => live,
            None => {
                let live = self.host.start(recipe, &held.0).await?;
                self.host.settle(&mut place, &live);
                live
            }
        };
        live.touch();
        Ok(live)
    }

    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        let slot = self.host.slot(session)?;
        let mut place = slot.0.lock().await;
        if let Some(live) = owned(&place, epoch) {
            return Ok(Some(live));
        }
        let found = match self.host.hold(session).await? {
            Some(mut held) => self.host.own(&mut place, session, &mut held, epoch).await?,
            None => None,
        };
        drop(place);
        if found.is_none() {
            self.host.vacate(session, &slot);
        }
        Ok(found.map(|live| live as Arc<dyn Sandbox>))
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        let slot = self.host.slot(session)?;
        let mut place = slot.0.lock().await;
        let live = place.take();
        let ended = match self.host.hold(session).await {
            Ok(Some(held)) => self.host.end(session, &held, live).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        drop(place);
        self.host.vacate(session, &slot);
        ended
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        let slot = self.host.slot(session)?;
        let mut place = slot.0.lock().await;
        let live = place.take();
        let removed = async {
            let Some(held) = self.host.hold(session).await? else {
                self.host.remove_group(session).await;
                return Ok(());
            };
            self.host.end(session, &held, live).await?;
            self.host.remove(session, &held).await
        };
        let removed = removed.await;
        drop(place);
        self.host.vacate(session, &slot);
        removed
    }
}

/// The live sandbox in a place, when this server has it for this epoch already.
fn owned(place: &Option<Arc<Live>>, epoch: i64) -> Option<Arc<Live>> {
    let live = place.as_ref()?;
    (live.is_up() && live.owner() == epoch).then(|| Arc::clone(live))
}

fn limits(cgroups: &Cgroups) -> Vec<Limit> {
    let mut limits = cgroups.limits();
    let each = |name, by: &str| Limit {
        name,
        holds: Holds::Soft,
        by: by.to_owned(),
    };
    limits.push(each("open files", "the limit of each process"));
    limits.push(each("disk", "the size limit of each file"));
    limits
}

/// Names are used as file names: one plain segment.
fn is_name(session: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=128).contains(&session.len()) && session.bytes().all(plain)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A path to something in an open directory that is short whatever the directory's own path is.
fn at(directory: &impl AsFd, name: &str) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    if !name.is_empty() {
        path.push(name);
    }
    path
}

/// FNV-1a: tells contents apart where nobody means harm.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| Error::io(doing, error))
}
