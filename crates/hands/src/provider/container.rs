//! Sandboxes in containers: `sandboxd` as process 1 of a container of Docker's or Podman's, with the engine's choice of
//! run time (runc, crun, gVisor, Kata).
//!
//! A session's container stays for as long as the session; its processes come and go. What they write is in volumes of the
//! container, the rest of it cannot be written. The engine is all that this server needs of the other side: `sandboxd`
//! comes in by an image made from the operator's, and connections by programs that the engine starts inside, also those of the
//! way out where it sees no folder of this host. See `docs/design/container.md`.

mod carriers;
mod contained;
mod doorway;
mod engine;
mod exec;
mod files;
mod host;
mod id;
mod image;
mod joined;
mod layers;
mod lodge;
mod memory;
mod parts;
mod probe;
mod shown;
mod site;
mod skills;
mod spec;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_blobs::Blobs;
use manyhands_protocol::environment::Packages;

use super::checkpoint::Keeper as _;
use super::lodge::{Lodge, There, destroy_all, names};
use super::namespace::{blocking, files::empty};
use super::places::is_name;
use super::{
    Capture, Checkpoints, Gate, Helper, Join, Joined, Missing, Probe, Provider, Recipe, Sandbox,
    Seen, Strength, Told, Upload,
};
use crate::Error;
use crate::memory::Memories;
use crate::packages::Manager;
use crate::packages::sources::Sources;
pub use doorway::Doorway;
use doorway::Passage;
use host::Host;
use probe::{lacking, limits, strength};

/// Settings of the provider.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's data directory.
    pub data: PathBuf,
    /// The engine's socket, a path or `unix://PATH`; without one the usual places are tried.
    pub endpoint: Option<String>,
    /// The image that containers are made from. The engine has it already; nothing is pulled.
    pub image: Option<String>,
    /// The engine's name for another run time than its own choice: `runc`, `crun`, `runsc`, `kata`.
    pub runtime: Option<String>,
    /// The engine's name for how a container's users are mapped, for example `auto` with Podman.
    pub userns: Option<String>,
    /// How many processors a sandbox may keep busy; without it, all of them when nobody else wants them.
    pub cpus: Option<f64>,
    /// Whether the engine finds this server's folders at the same paths.
    pub shared_folders: bool,
    /// How clients inside get to the way out.
    pub door: Doorway,
    /// How long a sandbox's processes stay without a running call.
    pub idle: Duration,
    /// Beyond a call's own limit, how long its answer may take before the sandbox counts as lost (security TOOL-3).
    pub grace: Duration,
    /// A `sandboxd` other than the built-in one or the one beside this program: for the engine's processors.
    pub sandboxd: Option<PathBuf>,
    /// The guarded way out. Without one there is none (invariant I9).
    pub gate: Option<Arc<dyn Gate>>,
    /// Where files are; without it sandboxes read and hand over none.
    pub blobs: Option<Blobs>,
    /// Where package managers go; what is absent is read from the host's own configuration, without credentials, and for apt
    /// from the image.
    pub sources: Sources,
    /// How long after it was made a sandbox's files are gone on with (runtime EN-18).
    pub retention: Duration,
}

impl Config {
    /// The default settings for a data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            endpoint: None,
            image: None,
            runtime: None,
            userns: None,
            cpus: None,
            shared_folders: true,
            door: Doorway::default(),
            idle: Duration::from_secs(300),
            grace: Duration::from_secs(10),
            sandboxd: None,
            gate: None,
            blobs: None,
            sources: Sources::default(),
            retention: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Config {
    /// Whether there is a way out at all.
    pub(in crate::provider) fn lets_out(&self) -> bool {
        self.gate.is_some() && (self.shared_folders || self.door != Doorway::Folder)
    }
}

/// The provider. Clones share everything.
#[derive(Clone)]
pub struct Container {
    host: Arc<Host>,
}

impl Container {
    /// The provider for a data directory. Nothing is asked of the engine before it is needed.
    pub fn new(config: Config) -> Self {
        Self {
            host: Arc::new(Host::new(config)),
        }
    }
}

#[async_trait]
impl Provider for Container {
    fn name(&self) -> &'static str {
        "container"
    }

    async fn probe(&self) -> Probe {
        let (mut helpers, mut missing, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        match self.host.engine.about().await {
            Ok(about) => helpers.push(Helper {
                name: "container engine",
                version: format!("{} {}", about.name, about.version),
                path: self.host.engine.socket(),
            }),
            Err(error) => missing.push(lacking(error)),
        }
        if missing.is_empty() {
            match self.host.image().await {
                Ok(image) => helpers.push(Helper {
                    name: "image",
                    version: image.name,
                    path: self.host.config.image.clone().unwrap_or_default(),
                }),
                Err(error) => missing.push(lacking(error)),
            }
            if self.host.parts().await.is_ok_and(|parts| !parts.filtered) {
                notes.push(
                    "The reviewed system-call filter is for x86_64; sandboxes have the engine's own alone."
                        .to_owned(),
                );
            }
        }
        if !self.host.config.lets_out() {
            notes.push("Sandboxes have no way out.".to_owned());
        } else if missing.is_empty() {
            match self.host.passage().await {
                Ok(Some(Passage::Streams)) => notes.push(
                    "The way out goes over the engine's streams: it sees no socket of this server's, or is told to."
                        .to_owned(),
                ),
                Ok(_) => {}
                Err(error) => missing.push(lacking(error)),
            }
        }
        let strength = strength(self.host.config.runtime.as_deref());
        if strength == Strength::Namespace {
            notes.push(
                "Sandboxes share the engine's kernel: they are not meant for hostile tenants."
                    .to_owned(),
            );
        }
        Probe {
            provider: "container",
            strength,
            helpers,
            limits: limits(self.host.bounded().await),
            missing,
            notes,
        }
    }

    async fn prepare(&self) -> Result<(), Error> {
        Lodge::prepare(&self.host).await
    }

    async fn installs(&self, manager: Manager) -> Result<(), Missing> {
        self.host.installs(manager)
    }

    async fn furnish(&self, recipe: &Recipe, told: &Told) -> Result<(), Error> {
        match self.host.is_live(&recipe.session)? {
            true => Ok(()),
            false => self.host.furnish(recipe, Some(told)).await,
        }
    }

    async fn unfurnish(&self, wanted: &[Packages]) -> Result<(), Error> {
        self.host.unfurnish(wanted).await
    }

    async fn lay(&self, session: &str, uploads: &[Upload]) -> Result<(), Error> {
        match self.host.hold(session).await? {
            Some((folder, _hold)) if Host::runs(&self.host, session).await? => {
                self.host.lay_in(session, &folder, uploads).await
            }
            // Its next start brings them.
            _ => Ok(()),
        }
    }

    async fn memories(&self, session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        self.carried(session).await
    }

    async fn capture(&self, session: &str, seen: &[Seen]) -> Result<Capture, Error> {
        self.host.capture(session, seen).await
    }

    async fn join(&self, session: &str, files: &Join<'_>) -> Result<Option<Joined>, Error> {
        match Host::runs(&self.host, session).await? {
            true => self.host.join_from(session, files).await,
            false => Ok(None),
        }
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        let _wanted = self.host.packing.want(&recipe.session);
        let place = self.host.places.at(&recipe.session)?;
        let mut at = place.0.lock().await;
        let (live, _held) = match self.host.come_to(&mut at, recipe).await? {
            There::Used(live) => (live, None),
            There::Owned(live, held) => {
                // Whoever started it may have ended before its files were there.
                self.host.lay_all(recipe, &held.0).await?;
                (live, Some(held))
            }
            There::Nothing(held) => {
                if self.host.image_of(recipe).await?.is_none() {
                    // It may take minutes, and whoever wants the session gone does not wait for it.
                    drop((held, at));
                    self.host.furnish(recipe, None).await?;
                    return self.provision(recipe).await;
                }
                let live = self.host.start(recipe, &held.0).await?;
                self.host.settle(&mut at, &live);
                (live, Some(held))
            }
        };
        self.host.ready(live, recipe).await
    }

    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        let blobs = self.host.config.blobs.as_ref();
        blobs.map(|_| self as &dyn Checkpoints)
    }

    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        Lodge::find(&self.host, session, epoch).await
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        Lodge::release(&self.host, session).await
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        Lodge::destroy(&self.host, session).await
    }

    async fn sessions(&self) -> Result<Vec<String>, Error> {
        let Some(mut sessions) = names(&self.host.containers())? else {
            // Without it there are no containers either: it is made first.
            return Ok(Vec::new());
        };
        sessions.retain(|name| is_name(name) && self.host.folder(name).join("lock").exists());
        sessions.extend(self.host.contained().await?);
        sessions.sort();
        sessions.dedup();
        Ok(sessions)
    }

    async fn sweep(&self, gone: &[String]) -> Result<(), Error> {
        if !self.host.containers().exists() {
            return Ok(());
        }
        destroy_all(self, gone).await;
        self.host.remove_unfinished().await?;
        let trash = self.host.trash();
        blocking("empty the trash", move || empty(&trash)).await
    }
}
