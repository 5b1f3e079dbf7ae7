//! One build of a layer: the trees that commands change, the commands, and what is kept of it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use manyhands_protocol::environment::Packages;

use super::super::cgroup::Cgroups;
use super::super::files;
use super::super::host::Host;
use super::super::parts::Parts;
use super::mounts::{self, IDS, Pile};
use super::run::{self, Place, Run};
use super::skeleton::Skeleton;
use super::{Failure, Plan, Site};
use crate::packages::plan::{self, Kind, Step};
use crate::provider::builds::{Heard, Telling, within};
use crate::provider::door::Opened;
use crate::provider::{Limits, Network};

/// Builds the layer at a site and puts it in its place.
pub(super) async fn build(
    host: &Host,
    plan: &Plan,
    packages: &Packages,
    network: &Network,
    telling: &Telling,
) -> Result<(), Failure> {
    let bwrap = host
        .bubblewrap
        .bubblewrap(host.config.bwrap.as_deref())
        .await
        .map_err(|missing| Failure::Host(format!("{}: {}", missing.what, missing.why)))?;
    let parts = host
        .parts()
        .await
        .map_err(|error| Failure::Host(error.to_string()))?;
    let (number, _range) = host.layers.shelf.range().await?;
    let site = host.layers.shelf.site()?;
    let ids = host.layers.first_id(&host.config) + number * IDS;
    let place = tokio::task::spawn_blocking({
        let (plan, path, etc) = (plan.clone(), site.path.clone(), parts.base.clone());
        move || Prepared::new(&plan, &path, &etc, ids)
    });
    let place = place.await.map_err(io::Error::other)??;
    let folder = files::open_directory(&site.path)?;
    let name = format!("packages-{}", &plan.name[plan.name.len() - 12..]);
    let door = match (&host.config.gate, &parts.trust) {
        (Some(gate), Some(trust)) => {
            let opened = Opened::new(&**gate, &folder, &name, network)?;
            Some((opened, trust.clone()))
        }
        _ => None,
    };
    let environment = plan::environment(plan.kind, &host.layers.sources);
    let steps = plan::steps(packages, plan.kind, &host.layers.sources);
    let cgroups = host.cgroups().await;
    let group = format!("{}{number}", host.layers.group(&host.groups()));
    // What a build left there whose server was killed.
    remove_group(cgroups, &group).await;
    let all = async {
        for (done, step) in steps.iter().enumerate() {
            let enter = cgroups.make(&group, &Limits::default())?;
            let run = Run {
                bwrap: &bwrap.path,
                sandboxd: &parts.sandboxd,
                filters: &parts.filters,
                read_only: &host.config.read_only,
                place: place.place(plan, parts)?,
                user: super::super::is_root().then_some(ids),
                way_out: door.as_ref().map(|(_, trust)| (&folder, trust.as_path())),
                enter,
                words: &step.words,
                environment: &environment,
            };
            one(run, step, (done + 1, steps.len()), telling).await?;
        }
        Ok::<(), Failure>(())
    };
    let ended = within(Some(&folder), all).await;
    drop(door);
    remove_group(cgroups, &group).await;
    ended?;
    let target = host.layers.shelf.path(&plan.name);
    let finish = tokio::task::spawn_blocking(move || finish(site, &target));
    Ok(finish.await.map_err(io::Error::other)??)
}

/// Ends what is left in a control group and removes it.
async fn remove_group(cgroups: &Cgroups, group: &str) {
    let (cgroups, group) = (cgroups.clone(), group.to_owned());
    let removed = tokio::task::spawn_blocking(move || cgroups.remove(&group)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "a control group of a build is left; the next one removes it");
    }
}

/// Runs one step; its last words are the error's.
async fn one(
    run: Run<'_>,
    step: &Step,
    numbers: (usize, usize),
    telling: &Telling,
) -> Result<(), Failure> {
    let mut heard = Heard::new(step.manager, numbers, telling);
    let status = run::run(run, |line| heard.line(line)).await?;
    match status.success() {
        true => Ok(()),
        false => Err(heard.failure(format!("{} ended: {status}", step.words[0]))),
    }
}

/// What the commands of one build change.
enum Prepared {
    System {
        space: OwnedFd,
        site: PathBuf,
        skeleton: Skeleton,
        root: PathBuf,
    },
    Prefix {
        folder: OwnedFd,
    },
}

impl Prepared {
    fn new(plan: &Plan, site: &Path, etc: &Path, ids: u32) -> io::Result<Self> {
        if plan.kind == Kind::Prefix {
            let path = site.join("packages");
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            if super::super::is_root() {
                chown(&path, Some(ids), Some(ids))?;
            }
            let folder = files::open_directory(&path)?;
            return Ok(Self::Prefix { folder });
        }
        for tree in trees(&plan.root) {
            let upper = site.join(&tree).join("upper");
            fs::create_dir_all(&upper)?;
            fs::create_dir(site.join(&tree).join("work"))?;
            let lower = lowers(&plan.root, &plan.skeleton, etc, &tree, None);
            let mode = fs::metadata(&lower[0])?.mode() & 0o7777;
            fs::set_permissions(&upper, fs::Permissions::from_mode(mode))?;
            chown(&upper, Some(ids), Some(ids))?;
        }
        Ok(Self::System {
            space: mounts::user_space(ids)?,
            site: site.to_owned(),
            skeleton: plan.skeleton.clone(),
            root: plan.root.clone(),
        })
    }

    /// Ready for one command: mounts go to the command that uses them.
    fn place<'a>(&'a self, plan: &'a Plan, parts: &'a Parts) -> io::Result<Place<'a>> {
        match self {
            Self::Prefix { folder } => Ok(Place::Prefix {
                folder,
                etc: &parts.base,
                root: &plan.root,
            }),
            Self::System {
                space,
                site,
                skeleton,
                root,
            } => {
                let names = trees(root);
                let piles = names
                    .iter()
                    .map(|tree| {
                        let lowers = lowers(root, skeleton, &parts.base, tree, None);
                        Ok(Pile {
                            lowers: lowers
                                .iter()
                                .map(|path| mounts::folder(path))
                                .collect::<io::Result<_>>()?,
                            upper: Some(mounts::folder(&site.join(tree))?),
                        })
                    })
                    .collect::<io::Result<Vec<_>>>()?;
                let mounted = mounts::overlays(piles, Some(space.try_clone()?))?;
                let inside = names.iter().map(|tree| format!("/{tree}"));
                Ok(Place::System {
                    space,
                    trees: mounted.into_iter().zip(inside).collect(),
                    root,
                })
            }
        }
    }
}

/// The trees of a layer of the system: what is a real folder of the root, and what packages change beside it.
pub(super) fn trees(root: &Path) -> Vec<String> {
    let system = super::super::launch::SYSTEM.iter().map(|path| &path[1..]);
    let real =
        system.filter(|name| fs::symlink_metadata(root.join(name)).is_ok_and(|meta| meta.is_dir()));
    real.chain(["etc", "var", "opt"])
        .map(str::to_owned)
        .collect()
}

/// The folders that a tree is made of, the topmost first. With a layer: as a session sees it.
pub(super) fn lowers(
    root: &Path,
    skeleton: &Skeleton,
    etc: &Path,
    tree: &str,
    layer: Option<&Path>,
) -> Vec<PathBuf> {
    let mask = skeleton.folder.join("mask").join(tree);
    let mut lowers: Vec<PathBuf> = Vec::new();
    lowers.extend(mask.is_dir().then_some(mask));
    lowers.extend(layer.map(|layer| layer.join(tree).join("upper")));
    match tree {
        // Of what package managers want, a session sees what they made of it.
        "etc" => {
            lowers.extend(layer.is_none().then(|| skeleton.folder.join("etc")));
            lowers.push(etc.to_owned());
        }
        "var" => lowers.push(skeleton.folder.join("var")),
        "opt" => {
            lowers.extend(super::super::image::opt(root));
            lowers.push(skeleton.folder.join("opt"));
        }
        system => lowers.push(root.join(system)),
    }
    lowers
}

/// Keeps what was built, in one step and for good.
fn finish(site: Site, target: &Path) -> io::Result<()> {
    for entry in fs::read_dir(&site.path)?.flatten() {
        let work = entry.path().join("work");
        if work.is_dir() {
            files::discard(&work, site.trash())?;
        }
    }
    let door = site.path.join("door");
    if door.is_dir() {
        files::discard(&door, site.trash())?;
    }
    files::empty(site.trash())?;
    // All of it is on the disk before it has its name: a layer that is there is whole.
    let folder = files::open_directory(&site.path)?;
    rustix::fs::syncfs(&folder)?;
    match fs::rename(&site.path, target) {
        Err(_) if target.is_dir() => Ok(()),
        other => other,
    }
}
