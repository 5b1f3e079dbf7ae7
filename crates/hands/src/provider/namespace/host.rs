//! What one server knows of the sandboxes on its host, and what it does to them: each step under the session's place in
//! this process and the lock on its folder, which other servers of the same data directory respect.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::cgroup::Cgroups;
use super::checkpoint::Packing;
use super::disk::Disks;
use super::layers::{Furniture, Layers};
use super::live::{Live, Process};
use super::parts::Parts;
use super::pool::Pool;
use super::users::Users;
use super::writable::{self, Tree};
use super::{Config, aside, fingerprint, is_root};
use super::{launch, probe, record};
use crate::Error;
use crate::failpoint::failpoint;
pub(super) use crate::provider::hold::Held;
use crate::provider::hold::Hold;
use crate::provider::lodge::Lodge as _;
use crate::provider::places::Places;
use crate::provider::{Network, Recipe};

/// Below this much free space no sandbox is started.
const LEAST_SPACE: u64 = 64 << 20;

pub(in crate::provider) struct Host {
    pub(super) config: Config,
    pub(super) bubblewrap: probe::Cache,
    pub(super) disks: Disks,
    pub(super) layers: Layers,
    pub(super) places: Places<Process>,
    pub(super) packing: Packing,
    pub(super) pool: Pool,
    parts: OnceCell<Parts>,
    cgroups: OnceCell<Cgroups>,
}

impl Host {
    pub(super) fn new(config: Config) -> Self {
        let layers = Layers::new(&config);
        Self {
            pool: Pool::new(config.warm),
            config,
            bubblewrap: probe::Cache::default(),
            disks: Disks::default(),
            layers,
            places: Places::default(),
            packing: Packing::default(),
            parts: OnceCell::new(),
            cgroups: OnceCell::new(),
        }
    }

    pub(super) fn sandboxes(&self) -> PathBuf {
        self.config.data.join("sandboxes")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.sandboxes().join(".trash")
    }

    pub(super) fn users(&self) -> Users {
        Users {
            folder: self.sandboxes().join(".uids"),
            first: self.config.first_uid,
            count: self.config.uids,
        }
    }

    pub(super) fn folder(&self, session: &str) -> PathBuf {
        self.sandboxes().join(session)
    }

    /// Control groups are named by this and the session. Servers with other data directories have other names.
    pub(super) fn groups(&self) -> String {
        let data =
            std::fs::canonicalize(&self.config.data).unwrap_or_else(|_| self.config.data.clone());
        format!(
            "manyhands-{:016x}-",
            fingerprint(data.as_os_str().as_encoded_bytes())
        )
    }

    pub(super) fn group(&self, session: &str) -> String {
        self.groups() + session
    }

    pub(super) async fn cgroups(&self) -> &Cgroups {
        self.cgroups
            .get_or_init(|| async { Cgroups::detect() })
            .await
    }

    pub(super) async fn parts(&self) -> Result<&Parts, Error> {
        self.parts
            .get_or_try_init(|| async {
                let (data, given) = (self.config.data.clone(), self.config.sandboxd.clone());
                let image = self.config.image.clone();
                let authority = self.config.gate.as_ref().map(|gate| gate.authority());
                aside("make the parts of a sandbox", move || {
                    Parts::make(&data, image.as_deref(), given.as_deref(), authority)
                })
                .await
            })
            .await
    }

    /// Locks the session's folder; `None` when it has none.
    pub(super) async fn hold(&self, session: &str) -> Result<Option<Held>, Error> {
        let held = Hold::of_session(&self.folder(session), session).await?;
        if let Some((folder, _)) = &held {
            adopt(session, folder)?;
        }
        Ok(held)
    }

    /// A handle on what the session's sandbox writes, whose folder the caller has locked; `None` when there is nothing
    /// yet. It may be kept for longer than the lock.
    pub(super) fn writable(&self, session: &str, folder: &OwnedFd) -> Result<Option<Tree>, Error> {
        writable::open(folder)
            .map_err(|error| Error::io(format!("open the files of {session}"), error))
    }

    /// Locks the session's folder, made if there is none.
    pub(super) async fn hold_or_make(&self, session: &str) -> Result<Held, Error> {
        let held = Hold::of_session_made(&self.folder(session), session).await?;
        adopt(session, &held.0)?;
        Ok(held)
    }

    /// The sandbox of a session that another server, or this one before it lost the connection, has started.
    pub(super) async fn reattach(
        &self,
        session: &str,
        folder: &OwnedFd,
        epoch: i64,
    ) -> Result<Option<Arc<Live>>, Error> {
        let fail = |error| Error::io(format!("look for the sandbox of {session}"), error);
        let Some(record) = record::read(folder).map_err(fail)? else {
            return Ok(None);
        };
        let uid = match writable::owner(folder) {
            Ok(uid) => uid,
            // A tree that was removed to make room was of no sandbox that lives.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let folder = folder.try_clone().map_err(fail)?;
        Live::attach(
            session,
            folder,
            uid,
            &record.instance,
            epoch,
            self.config.grace,
        )
        .await
    }

    /// Starts the sandbox of a session, or, when it may reach nothing, one that waits for a session.
    pub(super) async fn start(
        self: &Arc<Self>,
        recipe: &Recipe,
        folder: &OwnedFd,
        furniture: &Furniture,
        network: Option<&Network>,
    ) -> Result<Arc<Live>, Error> {
        let session = &recipe.session;
        let fail = |error| Error::io(format!("start the sandbox of {session}"), error);
        let bwrap = self
            .bubblewrap
            .bubblewrap(self.config.bwrap.as_deref())
            .await?;
        let parts = self.parts().await?;
        let cgroups = self.cgroups().await;
        let (tree, origin) = self.tree(recipe, folder).await?;
        let uid = tree.uid();
        self.memory_folders(&tree, &recipe.memory)
            .map_err(|error| Error::io(format!("make the memories of {session}"), error))?;
        let files = tree
            .shown(folder)
            .map_err(|error| Error::io(format!("open the files of {session}"), error))?;
        failpoint!("hands::after_folders");
        let instance = record::new_instance();
        failpoint!("hands::before_record");
        // Written before the start: from here on, whoever comes later can find what may have been started.
        let recorded = match network {
            Some(network) => record::write(&self.folder(session), &instance, network),
            None => record::write_waiting(&self.folder(session), &instance, session),
        };
        recorded.map_err(|error| Error::io(format!("record the sandbox of {session}"), error))?;
        // Open before anything inside can want it.
        let door = network.and_then(|_| self.open_door(session, folder));
        failpoint!("hands::after_record");
        let enter = cgroups
            .make(&self.group(session), &recipe.limits)
            .map_err(|error| Error::io(format!("make the control group of {session}"), error))?;
        let launched = launch::launch(launch::Launch {
            bwrap: &bwrap.path,
            sandboxd: &parts.sandboxd,
            base: &parts.base,
            filters: &parts.filters,
            read_only: &self.config.read_only,
            furniture,
            folder,
            writable: files,
            memory: &recipe.memory,
            instance: &instance,
            user: is_root().then_some(uid),
            limits: &recipe.limits,
            limit_data: !cgroups.bounds_memory(),
            trust: parts.trust.as_deref(),
            enter,
        })
        .await;
        failpoint!("hands::after_spawn");
        let mut child = match launched {
            Ok(child) => child,
            Err(error) => {
                self.remove_group(session).await;
                return Err(error);
            }
        };
        // Waited for, so that it does not stay as a zombie.
        tokio::spawn(async move { child.wait().await });
        let folder = folder.try_clone().map_err(fail)?;
        let live = Live::attach(
            session,
            folder,
            uid,
            &instance,
            recipe.epoch,
            self.config.grace,
        )
        .await?;
        failpoint!("hands::after_attach");
        let live = live.ok_or_else(|| Error::Lost {
            session: session.clone(),
            why: "it ended right after it was started".to_owned(),
        })?;
        live.come_from(origin);
        *live.door() = door;
        tracing::info!(session.id = session, instance, uid, "started a sandbox");
        Ok(live)
    }

    /// What the session's sandbox writes, made and filled if there is nothing yet.
    pub(super) fn lay_out(
        &self,
        recipe: &Recipe,
        folder: &OwnedFd,
        fill: impl FnOnce(&OwnedFd, u32) -> io::Result<()>,
    ) -> Result<Tree, Error> {
        let session = &recipe.session;
        let fail = |error: io::Error| Error::io(format!("make the folders of {session}"), error);
        let space = rustix::fs::fstatvfs(folder).map_err(|error| fail(error.into()))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < LEAST_SPACE {
            return Err(Error::NoSpace {
                what: format!("for the sandbox of {session}"),
            });
        }
        // A user of the host: our own, or for root one from the range that no other session has.
        let uid = || match is_root() {
            true => self.users().take(session),
            false => Ok(rustix::process::getuid().as_raw()),
        };
        writable::open_or_make(folder, &self.disks, recipe.limits.disk_bytes, uid, fill)
            .map_err(fail)
    }

    /// A user id to try name spaces with.
    pub(super) fn spare_uid(&self) -> Option<u32> {
        is_root().then_some(self.config.first_uid)
    }
}

fn adopt(session: &str, folder: &OwnedFd) -> Result<(), Error> {
    writable::adopt(folder)
        .map_err(|error| Error::io(format!("take hold of the sandbox of {session}"), error))
}
