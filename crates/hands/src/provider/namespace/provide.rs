//! The contract of a provider, kept with this host's sandboxes.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use manyhands_protocol::environment::Packages;

use super::cgroup::Cgroups;
use super::{Namespace, blocking, chain, files, joined, outputs, pool, uploads};
use crate::Error;
use crate::memory::Memories;
use crate::packages::Manager;
use crate::provider::checkpoint::Keeper as _;
use crate::provider::lodge::{Lodge, There, destroy_all, names};
use crate::provider::places::is_name;
use crate::provider::{
    Capture, Checkpoints, Helper, Holds, Join, Joined, Limit, Missing, Probe, Provider, Recipe,
    Sandbox, Seen, Strength, Told, Upload,
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
        Lodge::prepare(&self.host).await
    }

    async fn installs(&self, manager: Manager) -> Result<(), Missing> {
        self.host.installs(manager).await
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
        let (live, _held) = match self.host.come_to(&mut place, recipe).await? {
            There::Used(live) => (live, None),
            There::Owned(live, held) => (live, Some(held)),
            There::Nothing(held) => {
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
                (live, Some(held))
            }
        };
        let sandbox = self.host.ready(live, recipe).await?;
        self.host.refill();
        Ok(sandbox)
    }

    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        self.host
            .config
            .blobs
            .as_ref()
            .map(|_| self as &dyn Checkpoints)
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
        let mut sessions = names(&self.host.sandboxes())?.unwrap_or_default();
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
        destroy_all(self, gone).await;
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
