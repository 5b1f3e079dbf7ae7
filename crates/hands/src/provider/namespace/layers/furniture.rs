//! What a sandbox sees of the system, with the packages of its environment.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::super::files;
use super::mounts::{self, Pile};
use super::{Kind, Plan, build};

/// The system and a layer as a start shows them.
pub(in super::super) struct Furniture {
    /// The system's root.
    pub(in super::super) root: PathBuf,
    /// Detached mounts, and where they go.
    pub(in super::super) trees: Vec<(OwnedFd, String)>,
    /// What goes to [`PREFIX`](super::PREFIX).
    pub(in super::super) prefix: Option<OwnedFd>,
    /// What sessions find there.
    pub(in super::super) paths: &'static [(&'static str, &'static str)],
}

impl Furniture {
    pub(super) fn plain(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            trees: Vec::new(),
            prefix: None,
            paths: &[],
        }
    }

    pub(super) fn of(plan: &Plan, layer: &Path, etc: &Path) -> io::Result<Self> {
        let paths = plan.kind.paths();
        if plan.kind == Kind::Prefix {
            return Ok(Self {
                prefix: Some(files::open_directory(&layer.join("packages"))?),
                paths,
                ..Self::plain(&plan.root)
            });
        }
        let names = build::trees(&plan.root);
        let piles = names
            .iter()
            .map(|tree| {
                let lowers = build::lowers(&plan.root, &plan.skeleton, etc, tree, Some(layer));
                let lowers = lowers.iter().map(|path| mounts::folder(path));
                Ok(Pile {
                    lowers: lowers.collect::<io::Result<_>>()?,
                    upper: None,
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        let mounted = mounts::overlays(piles, None)?;
        let inside = names.iter().map(|tree| format!("/{tree}"));
        Ok(Self {
            trees: mounted.into_iter().zip(inside).collect(),
            paths,
            ..Self::plain(&plan.root)
        })
    }
}
