//! The contract of a provider, kept with this host's sandboxes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use manyhands_protocol::environment::Packages;

use super::cgroup::Cgroups;
use super::live::Live;
use super::{Namespace, blocking, chain, files, joined, outputs, pool, uploads};
use crate::Error;
use crate::memory::Memories;
use crate::packages::Manager;
use crate::provider::lodge::Lodge as _;
use crate::provider::places::{is_name, owned};
use crate::provider::{
    Capture, Checkpoints, Helper, Holds, Join, Joined, Limit, Missing, Origin, Probe, Provider,
    Recipe, Sandbox, Seen, Strength, Told, Upload,
};

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
        if self.host.pool.is_on() {
            notes.push(format!(
                "Started sandboxes wait for the sessions of each environment that is in use: {}.",
                self.host.config.warm
            ));
        }
        if self.host.config.gate.is_none() {
            notes.push("Sandboxes have no way out: there is no egress proxy.".to_owned());
        }
        notes.push(
            "Sandboxes share the host's kernel: they are not meant for hostile tenants.".to_owned(),
        );
        Probe {
            provider: "namespace",
            strength: Strength::Namespace,
            helpers,
            limits: limits(cgroups, self.host.disks.usable()),
            missing,
            notes,
        }
    }

    async fn lay(&self, session: &str, uploads: &[Upload]) -> Result<(), Error> {
        if !is_name(session) {
            return Err(Error::Refused(format!("{session:?} is no session's id")));
        }
        let place = uploads::Where::There;
        self.host.lay(session, uploads, place).await
    }

    async fn capture(&self, session: &str, seen: &[Seen]) -> Result<Capture, Error> {
        match self.writable(session).await? {
            Some(tree) => outputs::capture(session, tree, self.host.blobs()?, seen).await,
            None => Ok(Capture::default()),
        }
    }

    async fn join(&self, session: &str, files: &Join<'_>) -> Result<Option<Joined>, Error> {
        match self.writable(session).await? {
            Some(tree) => joined::join(session, &tree, self.host.blobs()?, files).await,
            None => Ok(None),
        }
    }

    async fn memories(&self, session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        self.laid(session).await
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.host
            .bubblewrap
            .bubblewrap(self.host.config.bwrap.as_deref())
            .await?;
        self.host.cgroups().await;
        let host = Arc::clone(&self.host);
        blocking("make an empty disk", move || {
            host.disks.ready(crate::Limits::default().disk_bytes)
        })
        .await?;
        self.host.parts().await.map(drop)
    }

    async fn installs(&self, manager: Manager) -> Result<(), Missing> {
        self.host.installs(manager).await
    }

    async fn furnish(&self, recipe: &Recipe, told: &Told) -> Result<(), Error> {
        let slot = self.host.places.at(&recipe.session)?;
        // Whoever starts or ends the sandbox just now will see to it.
        let is_up = |live: &Arc<Live>| live.is_up();
        let live = slot
            .0
            .try_lock()
            .is_ok_and(|place| place.as_ref().is_some_and(is_up));
        self.host.places.vacate(&recipe.session, &slot);
        match live {
            true => Ok(()),
            false => self.host.furnish(recipe, Some(told)).await,
        }
    }

    async fn unfurnish(&self, wanted: &[Packages]) -> Result<(), Error> {
        self.host.unfurnish(wanted).await
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        let _wanted = self.host.packing.want(&recipe.session);
        let slot = self.host.places.at(&recipe.session)?;
        if !recipe.uploads.is_empty() || !recipe.skills.is_empty() {
            self.prepare().await?;
        }
        {
            let mut place = slot.0.lock().await;
            self.host.take_waiting(&mut place, recipe).await;
        }
        let (uploads, laid) = (&recipe.uploads, uploads::Where::Made);
        self.host.lay(&recipe.session, uploads, laid).await?;
        self.host
            .lay_skills(&recipe.session, &recipe.skills)
            .await?;
        let mut place = slot.0.lock().await;
        // One that no call of this owner has used yet may be behind the recipe's checkpoint.
        let is_used = |live: &Arc<Live>| !matches!(live.origin(), Some(Origin::Kept { .. }));
        if let Some(live) = owned(&place, recipe.epoch).filter(is_used) {
            live.equip(recipe).await?;
            live.touch();
            self.host.refill();
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
        let found = self.host.own_for(&mut place, recipe, &mut held).await?;
        let live = match found {
            Some(live) => live,
            None => {
                let Some(furniture) = self.host.furniture(recipe).await? else {
                    // It may take minutes, and whoever wants the session gone does not wait for it.
                    drop((held, place));
                    self.host.furnish(recipe, None).await?;
                    return self.provision(recipe).await;
                };
                let network = Some(&recipe.network);
                let live = self.host.start(recipe, &held.0, &furniture, network);
                let live = live.await?;
                self.host.settle(&mut place, &live);
                live
            }
        };
        live.equip(recipe).await?;
        live.touch();
        self.host.refill();
        Ok(live)
    }

    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        self.host
            .config
            .blobs
            .as_ref()
            .map(|_| self as &dyn Checkpoints)
    }

    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        self.host.find(session, epoch).await
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        self.host.release(session).await
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        let _wanted = self.host.packing.want(session);
        let slot = self.host.places.at(session)?;
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
        // What was kept of it can go as well.
        self.host.packing.changed();
        drop(place);
        self.host.places.vacate(session, &slot);
        removed
    }

    async fn sessions(&self) -> Result<Vec<String>, Error> {
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

    async fn sweep(&self, gone: &[String]) -> Result<(), Error> {
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
        self.host.sweep_waiting().await?;
        let has_files =
            |name: &str| (is_name(name) || pool::is_name(name)) && self.host.folder(name).exists();
        self.host
            .users()
            .sweep(has_files)
            .map_err(|error| Error::io("free user ids of the host", error))?;
        let trash = self.host.trash();
        blocking("empty the trash", move || files::empty(&trash)).await
    }

    async fn close(&self) {
        self.host.close_pool().await;
    }
}

fn limits(cgroups: &Cgroups, disks: Result<&Path, &str>) -> Vec<Limit> {
    let mut limits = cgroups.limits();
    let each = |name, by: &str| Limit {
        name,
        holds: Holds::Soft,
        by: by.to_owned(),
    };
    limits.push(each("open files", "the limit of each process"));
    limits.push(match disks {
        Ok(_) => Limit {
            name: "disk",
            holds: Holds::Hard,
            by: "a file system of the sandbox's own, of bytes and files".to_owned(),
        },
        Err(why) => each("disk", &format!("the size limit of each file, as {why}")),
    });
    limits
}
