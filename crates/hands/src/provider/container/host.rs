//! What one server knows of its containers, and what it does to them: each step under the session's place in this process
//! and the lock on its folder.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Mutex, OnceCell};

use super::contained::{Contained, Live};
use super::doorway::Passage;
use super::engine::Engine;
use super::image::{self, Image};
use super::parts::Parts;
use super::spec::{self, Ceiling, DATA, DOOR, SESSION, Shared, Wanted, Way};
use super::{Config, files as exchange, memory, shown, skills};
use crate::Error;
use crate::packages::sources::Sources;
use crate::provider::builds::Builds;
use crate::provider::checkpoint::{Keeper as _, Packing};
use crate::provider::door;
use crate::provider::hold::{Held, Hold};
use crate::provider::lodge::Lodge as _;
use crate::provider::namespace::disk::Disks;
use crate::provider::namespace::{aside, blocking, files, record};
use crate::provider::places::Places;
use crate::provider::{Capture, Missing, Recipe, Seen};

/// The engine's name for the processors that the reviewed system-call filter is for.
const FILTERED: &str = "amd64";

pub(in crate::provider) struct Host {
    pub(super) config: Config,
    pub(super) engine: Engine,
    pub(super) places: Places<Contained>,
    pub(super) packing: Packing,
    pub(super) builds: Builds,
    /// Where package managers go.
    pub(super) sources: Sources,
    disks: Disks,
    parts: OnceCell<Parts>,
    /// What was found by trying.
    pub(super) passage: OnceCell<Passage>,
    /// Looked up again once a container cannot be made from it.
    image: Mutex<Option<Image>>,
}

impl Host {
    pub(super) fn new(config: Config) -> Self {
        Self {
            engine: Engine::new(config.endpoint.clone()),
            sources: config.sources.clone().or_of_host(),
            builds: Builds::default(),
            config,
            places: Places::default(),
            packing: Packing::default(),
            disks: Disks::default(),
            parts: OnceCell::new(),
            passage: OnceCell::new(),
            image: Mutex::default(),
        }
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.config.data.join("containers")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.containers().join(".trash")
    }

    pub(super) fn folder(&self, session: &str) -> PathBuf {
        self.containers().join(session)
    }

    pub(super) async fn parts(&self) -> Result<&Parts, Error> {
        let make = async || {
            let about = self.engine.about().await?;
            let filtered = about.processor == FILTERED;
            let (data, given) = (self.config.data.clone(), self.config.sandboxd.clone());
            let (folder, gate) = (self.containers(), self.config.gate.clone());
            let gate = gate.filter(|_| self.config.lets_out());
            aside("make the parts of a sandbox", move || {
                let authority = gate.map(|gate| gate.authority());
                Parts::make(&data, &folder, given.as_deref(), filtered, authority)
            })
            .await
        };
        self.parts.get_or_try_init(make).await
    }

    /// The image of this server's containers, made at the first call.
    pub(super) async fn image(&self) -> Result<Image, Error> {
        let mut known = self.image.lock().await;
        if let Some(image) = &*known {
            return Ok(image.clone());
        }
        let image = match (self.passage().await?, &self.parts().await?.trust) {
            // No folder of ours can be shown.
            (Some(Passage::Streams), Some(trusted)) => {
                self.image_with_trust(&trusted.trust.files()).await?
            }
            _ => self.image_with_trust(&[]).await?,
        };
        *known = Some(image.clone());
        Ok(image)
    }

    /// The image with these files of [`door::TRUST`] in it.
    pub(super) async fn image_with_trust(&self, trust: &[(&str, &[u8])]) -> Result<Image, Error> {
        let Some(base) = &self.config.image else {
            return Err(Missing {
                what: "no image is named for sandboxes".to_owned(),
                why: "sandbox.container.image is not set".to_owned(),
                install: "name an image that the container engine has".to_owned(),
            }
            .into());
        };
        let parts = self.parts().await?;
        let (engine, folder) = (&self.engine, self.containers());
        image::ensure(engine, &folder, base, &parts.id, &parts.contents, trust).await
    }

    pub(super) async fn name(&self, session: &str) -> Result<String, Error> {
        Ok(format!("manyhands-{}-{session}", self.parts().await?.id))
    }

    /// Locks the session's folder; `None` when it has none.
    pub(super) async fn hold(&self, session: &str) -> Result<Option<Held>, Error> {
        Hold::of_session(&self.folder(session), session).await
    }

    /// Locks the session's folder, made if there is none.
    pub(super) async fn hold_or_make(&self, session: &str) -> Result<Held, Error> {
        Hold::of_session_made(&self.folder(session), session).await
    }

    pub(super) async fn attach(
        &self,
        session: &str,
        name: &str,
        folder: &OwnedFd,
        epoch: i64,
    ) -> Result<Result<Arc<Live>, String>, Error> {
        let folder = folder
            .try_clone()
            .map_err(|error| Error::io(format!("reach the sandbox of {session}"), error))?;
        let carried = self.config.lets_out()
            && self.engine.label(name, DOOR).await?.as_deref() == Some(Passage::Streams.name());
        Ok(self.engine.connect(name).await.map(|(link, instance)| {
            let body = Contained::new(self.engine.clone(), name.to_owned(), folder, carried);
            let grace = self.config.grace;
            Arc::new(Live::new(session, instance, epoch, grace, link, body))
        }))
    }

    /// Starts the session's container, made if there is none. The folder is held.
    pub(super) async fn start(
        self: &Arc<Self>,
        recipe: &Recipe,
        folder: &OwnedFd,
    ) -> Result<Arc<Live>, Error> {
        let session = &recipe.session;
        let name = self.name(session).await?;
        // What it may reach is written before it can want it: whoever finds it opens the same door.
        record::write(&self.folder(session), &name, &recipe.network)
            .map_err(|error| Error::io(format!("record the sandbox of {session}"), error))?;
        let mut door = self.open_door(session, folder);
        let (live, origin) = self.take_up(recipe, folder).await?;
        if let Err(error) = self.lay_all(recipe, folder).await {
            self.engine.kill(&name).await?;
            return Err(error);
        }
        live.come_from(origin);
        if let Some(door) = &mut door {
            self.carry(&live, door);
        }
        *live.door() = door;
        let instance = live.instance();
        tracing::info!(session.id = session, instance, name, "started a sandbox");
        Ok(live)
    }

    /// Brings what a running container reads in line with the recipe. The session's folder is held.
    pub(super) async fn lay_all(&self, recipe: &Recipe, folder: &OwnedFd) -> Result<(), Error> {
        let session = &recipe.session;
        self.lay_in(session, folder, &recipe.uploads).await?;
        self.lay_skills(session, folder, &recipe.skills).await
    }

    /// Starts a container that is there. The folder is held.
    pub(super) async fn wake(
        &self,
        session: &str,
        name: &str,
        folder: &OwnedFd,
    ) -> Result<(), Error> {
        let shown = shown::show(folder);
        let _shown =
            shown.map_err(|error| Error::io(format!("show the disk of {session}"), error))?;
        self.engine.start(name).await
    }

    /// Starts a container that is there, and connects to it.
    pub(super) async fn up(
        &self,
        recipe: &Recipe,
        name: &str,
        folder: &OwnedFd,
    ) -> Result<Arc<Live>, Error> {
        let session = &recipe.session;
        self.wake(session, name, folder).await?;
        match self.attach(session, name, folder, recipe.epoch).await? {
            Ok(live) => Ok(live),
            Err(why) => {
                let said = self.engine.last_words(name).await;
                self.engine.kill(name).await?;
                let why = if said.is_empty() {
                    why
                } else {
                    format!("{why}: {said}")
                };
                Err(Missing {
                    what: "a container does not come up".to_owned(),
                    why,
                    install: "run \"manyhands doctor\"; the image must be for the engine's processors, and sandboxd \
                              static or made for the image's libraries"
                        .to_owned(),
                }
                .into())
            }
        }
    }

    /// Whether sandboxes get a file system of their own; else why not.
    pub(super) async fn bounded(&self) -> Result<(), String> {
        if !self.config.shared_folders {
            return Err("the engine does not see this server's folders".to_owned());
        }
        if self.config.userns.is_some() || self.engine.maps_users().await != Ok(false) {
            return Err("the engine maps users".to_owned());
        }
        self.disks.usable().map(drop).map_err(str::to_owned)
    }

    pub(super) async fn make(
        &self,
        recipe: &Recipe,
        name: &str,
        folder: &OwnedFd,
    ) -> Result<(), Error> {
        let session = &recipe.session;
        exchange::forget(&self.folder(session))
            .and_then(|()| skills::forget(&self.folder(session)))
            .and_then(|()| memory::forget(&self.folder(session)))
            .map_err(|error| Error::io(format!("forget the files of {session}"), error))?;
        let parts = self.parts().await?;
        let Some(image) = self.image_of(recipe).await? else {
            let fail = io::Error::other("its packages were removed just now");
            return Err(Error::io(format!("make the sandbox of {session}"), fail));
        };
        let way = match (self.passage().await?, &parts.trust) {
            (Some(Passage::Folder), Some(trusted)) => {
                door::make(folder)
                    .map_err(|error| Error::io(format!("make the door of {session}"), error))?;
                Some(Way::Folder(Shared {
                    door: absolute(&self.folder(session).join(door::FOLDER))?,
                    trust: absolute(&trusted.folder)?,
                }))
            }
            (Some(Passage::Streams), _) => Some(Way::Streams),
            _ => None,
        };
        let tree = match self.bounded().await {
            Ok(()) => {
                let (path, bytes) = (self.folder(session), recipe.limits.disk_bytes);
                let made = shown::make(&path, folder, &self.disks, bytes);
                Some(made.map_err(|error| Error::io(format!("make the disk of {session}"), error))?)
            }
            Err(_) => None,
        };
        let body = spec::container(&Wanted {
            session,
            data: &parts.id,
            config: &self.config,
            image: &image,
            filtered: parts.filtered,
            limits: &recipe.limits,
            ceiling: Ceiling::own(),
            way,
            memory: !recipe.memory.is_empty(),
            tree,
        });
        let made = self.engine.create(name, body).await;
        if made.is_err() {
            *self.image.lock().await = None;
        }
        made
    }

    /// Whether a session's container runs.
    pub(super) async fn runs(&self, session: &str) -> Result<bool, Error> {
        Ok(self.engine.runs(&self.name(session).await?).await? == Some(true))
    }

    /// Captures what is new or changed of a session's outputs. A container at rest is started for it, with no tool, and nobody
    /// else gets at it meanwhile; from a running one it is read beside what runs there.
    pub(super) async fn capture(&self, session: &str, seen: &[Seen]) -> Result<Capture, Error> {
        let place = self.places.at(session)?;
        let at = place.0.lock().await;
        let held = self.hold(session).await?;
        let name = self.name(session).await?;
        let state = match &held {
            Some(_) => self.engine.runs(&name).await?,
            None => None,
        };
        let captured = match (state, &held) {
            (None, _) | (_, None) => Ok(Capture::default()),
            (Some(true), _) => {
                drop((at, held));
                self.capture_from(session, &name, seen).await
            }
            (Some(false), Some((folder, _))) => {
                self.wake(session, &name, folder).await?;
                let captured = self.capture_from(session, &name, seen).await;
                let ended = self.engine.kill(&name).await;
                drop((at, held));
                ended.and(captured)
            }
        };
        self.places.vacate(session, &place);
        captured
    }

    /// Removes a session's container and folder, if there are any.
    pub(super) async fn remove(&self, session: &str) -> Result<(), Error> {
        self.engine.remove(&self.name(session).await?).await?;
        let trash = self.trash();
        let doing = format!("remove the sandbox of {session}");
        match files::open_directory(&self.folder(session)) {
            Ok(folder) => {
                shown::hide(&folder).map_err(|error| Error::io(doing.clone(), error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(doing, error)),
        }
        let moved = files::discard(&self.folder(session), &trash)
            .map_err(|error| Error::io(doing.clone(), error))?;
        if moved {
            blocking(&doing, move || files::empty(&trash)).await?;
        }
        Ok(())
    }

    /// The sessions that have a container of this data directory.
    pub(super) async fn contained(&self) -> Result<Vec<String>, Error> {
        let own = self.engine.labelled(DATA, &self.parts().await?.id).await?;
        let sessions = own.into_iter();
        Ok(sessions
            .filter_map(|(_, mut labels, _)| labels.remove(SESSION))
            .collect())
    }
}

/// A path as an engine takes it.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(path)
        .map_err(|error| Error::io(format!("find {}", path.display()), error))
}
