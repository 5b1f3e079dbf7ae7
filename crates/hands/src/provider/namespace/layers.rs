//! The packages of environments, installed once into layers that sessions see read-only (runtime EN-7, EN-9).
//!
//! A layer is what installing changed: as overlays over the system's folders where this server is root, or a folder of its
//! own below a prefix. Its name is made from what decides its content; see `docs/design/hands.md`, "Packages".

mod build;
mod furniture;
mod mounts;
mod run;
mod shelf;
mod skeleton;

use std::collections::HashSet;
use std::io;

use std::path::PathBuf;
use std::sync::Arc;

use manyhands_protocol::environment::Packages;
use tokio::sync::OnceCell;

use super::host::Host;
use super::{Config, blocking, is_root};
use crate::Error;
pub(super) use crate::packages::plan::{Kind, PREFIX};
pub use crate::packages::sources::Sources;
use crate::packages::{self, Manager};
use crate::provider::builds::{Builds, Failure, Telling};
use crate::provider::{Missing, Network, Recipe, Told};
pub(super) use furniture::Furniture;
use mounts::Pile;
use shelf::{Lock, Shelf, Site};
use skeleton::Skeleton;

/// Changes when the same packages would be installed differently.
const EDITION: u32 = 1;

/// What a server knows of layers.
pub(super) struct Layers {
    shelf: Shelf,
    sources: Sources,
    kind: OnceCell<(Kind, Option<String>)>,
    skeleton: OnceCell<Skeleton>,
    builds: Builds,
}

/// A layer, whether it is built or not.
#[derive(Debug, Clone)]
struct Plan {
    name: String,
    kind: Kind,
    root: PathBuf,
    skeleton: Skeleton,
}

impl Layers {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            shelf: Shelf {
                folder: config.data.join("layers"),
            },
            sources: config.sources.clone().or_of_host(),
            kind: OnceCell::new(),
            skeleton: OnceCell::new(),
            builds: Builds::default(),
        }
    }

    /// The first user id of builds: behind those of sessions.
    fn first_id(&self, config: &Config) -> u32 {
        config.first_uid.saturating_add(config.uids)
    }

    /// What the control groups of builds begin with; a number follows. It must not look like that of a session.
    fn group(&self, prefix: &str) -> String {
        format!("layers-of-{prefix}")
    }

    /// As long as it is held, no layer is removed: a folder that names one may be moved.
    pub(super) async fn keep(&self) -> Result<Lock, Error> {
        let shelf = self.shelf.clone();
        blocking("keep packages in their place", move || shelf.keep()).await
    }
}

impl Host {
    /// Whether a manager's packages can be installed here.
    pub(super) async fn installs(&self, manager: Manager) -> Result<(), Missing> {
        let (kind, why) = self.kind().await;
        if kind.takes(manager) {
            return Ok(());
        }
        Err(Missing {
            what: format!("{manager} packages cannot be installed on this server"),
            why: why
                .clone()
                .unwrap_or_else(|| "it installs below a prefix".to_owned()),
            install: format!(
                "run the server as root on Linux 5.19 or later, use a provider or an image that has them, or leave {manager} empty"
            ),
        })
    }

    /// What layers are here, found out once by making one of nothing; and why they are not more.
    async fn kind(&self) -> &(Kind, Option<String>) {
        let find = async || {
            if self.config.below_prefix {
                let why = "the server is told to install below a prefix";
                return (Kind::Prefix, Some(why.to_owned()));
            }
            if !is_root() {
                return (Kind::Prefix, Some("the server is not root".to_owned()));
            }
            match self.try_system().await {
                Ok(()) => (Kind::System, None),
                Err(error) => {
                    let why = format!("layers of the system cannot be mounted: {error}");
                    tracing::warn!(why, "packages go below a prefix");
                    (Kind::Prefix, Some(why))
                }
            }
        };
        self.layers.kind.get_or_init(find).await
    }

    async fn try_system(&self) -> io::Result<()> {
        let (shelf, first) = (
            self.layers.shelf.clone(),
            self.layers.first_id(&self.config),
        );
        let tried = tokio::task::spawn_blocking(move || {
            shelf.open()?;
            let site = shelf.site()?;
            for name in ["upper", "work", "lower"] {
                std::fs::create_dir(site.path.join(name))?;
            }
            let space = mounts::user_space(first)?;
            let pile = Pile {
                lowers: vec![mounts::folder(&site.path.join("lower"))?],
                upper: Some(mounts::folder(&site.path)?),
            };
            mounts::overlays(vec![pile], Some(space)).map(drop)
        });
        tried.await.map_err(io::Error::other)?
    }

    async fn skeleton(&self) -> Result<&Skeleton, Error> {
        let make = async || {
            let parts = self.parts().await?;
            let (etc, root) = (parts.base.clone(), parts.root.clone());
            let layers = &self.layers;
            let shelf = layers.shelf.clone();
            let (shown, sources) = (self.config.read_only.clone(), layers.sources.clone());
            let system = self.kind().await.0 == Kind::System;
            blocking("make the base of packages", move || {
                shelf.open()?;
                if system {
                    return skeleton::ensure(&root, &etc, &shown, &sources, &shelf.folder);
                }
                // Nothing of the system is changed, so nothing of it is needed but its identity.
                Ok(Skeleton {
                    name: skeleton::name(&root, &etc, &shown, &sources),
                    folder: PathBuf::new(),
                })
            })
            .await
        };
        self.layers.skeleton.get_or_try_init(make).await
    }

    /// The layer of these packages; `None` when there are none.
    async fn plan(&self, packages: &Packages) -> Result<Option<Plan>, Error> {
        if packages::is_empty(packages) {
            return Ok(None);
        }
        // What is stored was checked when it came; what is handed to a manager is checked here.
        packages::check(packages)
            .map_err(|refusal| Error::Refused(format!("{}: {}", refusal.at, refusal.why)))?;
        let kind = self.kind().await.0;
        let skeleton = self.skeleton().await?.clone();
        let lists = Manager::ALL.map(|manager| (manager.name(), manager.list(packages)));
        let content = format!("{EDITION}\n{kind:?}\n{}\n{lists:?}", skeleton.name);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
        let hex: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Some(Plan {
            name: format!("{}{hex}", shelf::LAYER),
            kind,
            root: self.parts().await?.root.clone(),
            skeleton,
        }))
    }

    /// Builds the layer of a recipe if there is none; see [`Provider::furnish`](crate::Provider::furnish).
    pub(super) async fn furnish(
        self: &Arc<Self>,
        recipe: &Recipe,
        told: Option<&Told>,
    ) -> Result<(), Error> {
        let Some(plan) = self.plan(&recipe.packages).await? else {
            return Ok(());
        };
        if self.layers.shelf.path(&plan.name).is_dir() {
            return Ok(());
        }
        let refused = Manager::ALL.into_iter().find(|manager| {
            !plan.kind.takes(*manager) && !manager.list(&recipe.packages).is_empty()
        });
        if let Some(manager) = refused {
            let why = match self.installs(manager).await {
                Err(missing) => missing.why,
                Ok(()) => String::new(),
            };
            return Err(Error::Packages {
                manager: manager.name(),
                why,
            });
        }
        let (host, packages, network) = (
            Arc::clone(self),
            recipe.packages.clone(),
            recipe.network.clone(),
        );
        let name = plan.name.clone();
        let build =
            |telling| async move { host.build_once(&plan, &packages, &network, &telling).await };
        self.layers.builds.wait(&name, told, build).await
    }

    async fn build_once(
        &self,
        plan: &Plan,
        packages: &Packages,
        network: &Network,
        telling: &Telling,
    ) -> Result<(), Failure> {
        let _alone = self.layers.shelf.build(&plan.name).await?;
        if self.layers.shelf.path(&plan.name).is_dir() {
            return Ok(());
        }
        build::build(self, plan, packages, network, telling).await
    }

    /// What a recipe's sandbox sees of the system, noted in the session's folder; `None` when packages have to be installed
    /// first.
    pub(super) async fn furniture(&self, recipe: &Recipe) -> Result<Option<Furniture>, Error> {
        let Some(plan) = self.plan(&recipe.packages).await? else {
            return Ok(Some(Furniture::plain(&self.parts().await?.root)));
        };
        let etc = self.parts().await?.base.clone();
        let (shelf, session) = (self.layers.shelf.clone(), self.folder(&recipe.session));
        blocking("show the packages of an environment", move || {
            if !shelf.take(&plan.name, &session)? {
                return Ok(None);
            }
            Furniture::of(&plan, &shelf.path(&plan.name), &etc).map(Some)
        })
        .await
    }

    /// Removes the layers that nobody wants.
    pub(super) async fn unfurnish(&self, wanted: &[Packages]) -> Result<(), Error> {
        let mut names = HashSet::new();
        for packages in wanted {
            // One that is refused now was built by an earlier version, if at all.
            if let Ok(Some(plan)) = self.plan(packages).await {
                names.insert(plan.name);
            }
        }
        let base = self.skeleton().await?.name.clone();
        let (cgroups, layers) = (
            self.cgroups().await.clone(),
            self.layers.group(&self.groups()),
        );
        let shelf = self.layers.shelf.clone();
        blocking("end what builds have left", move || {
            let left = cgroups.named(&layers);
            for (number, group) in left
                .iter()
                .filter_map(|group| Some((group.strip_prefix(&layers)?.parse().ok()?, group)))
            {
                // Whoever builds there now holds the range.
                if let Some(_range) = shelf.free(number)? {
                    cgroups.remove(group)?;
                }
            }
            Ok(())
        })
        .await?;
        let (shelf, sandboxes) = (self.layers.shelf.clone(), self.sandboxes());
        blocking("remove packages", move || {
            shelf.prune(&names, &base, &sandboxes)
        })
        .await
    }
}
