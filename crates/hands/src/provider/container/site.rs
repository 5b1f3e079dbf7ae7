//! A container that an image is made from: it belongs to whoever makes it, and goes with them (security SBX-8).
//!
//! Beside it lies a folder that its maker keeps locked. It is made before the container and removed after it, so a container
//! whose folder nobody has locked, or that has none, was left behind.

use std::path::{Path, PathBuf};

use bollard::models::ContainerCreateBody;

use super::engine::Engine;
use super::host::Host;
use super::spec::{DATA, SESSION, SITE, labels};
use crate::Error;
use crate::provider::hold::{Held, Hold};
use crate::provider::namespace::{blocking, chain, files};

/// What the folders' names begin with. No session is called so.
const PREFIX: &str = ".making-";

/// The place of one making.
pub(super) struct Site {
    /// The container's name.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) held: Held,
    trash: PathBuf,
}

impl Site {
    /// A new one in the folder of containers.
    pub(super) async fn new(containers: &Path) -> Result<Self, Error> {
        let fail = |error| Error::io("make a place for an image", error);
        loop {
            let name = format!("manyhands-making-{:016x}", rand::random::<u64>());
            let path = containers.join(format!("{PREFIX}{name}"));
            files::private_directory(&path).map_err(fail)?;
            // A sweep may have been faster: it takes what nobody has locked.
            if let Some(held) = Hold::take(&path).await.map_err(fail)? {
                return Ok(Self {
                    name,
                    path,
                    held,
                    trash: containers.join(".trash"),
                });
            }
        }
    }

    /// Makes its container, which carries its name.
    pub(super) async fn create(
        &self,
        engine: &Engine,
        data: &str,
        mut body: ContainerCreateBody,
    ) -> Result<(), Error> {
        body.labels = Some(labels(data, &[(SITE, &self.name)]));
        engine.create(&self.name, body).await
    }

    /// Removes it all.
    pub(super) async fn close(self, engine: &Engine) -> Result<(), Error> {
        engine.remove(&self.name).await?;
        let Self { path, trash, .. } = &self;
        discard(path, trash).await
    }
}

async fn discard(path: &Path, trash: &Path) -> Result<(), Error> {
    let (path, trash) = (path.to_owned(), trash.to_owned());
    blocking("remove the place of an image", move || {
        files::discard(&path, &trash)?;
        files::empty(&trash)
    })
    .await
}

impl Host {
    /// Removes what makers of images have left behind.
    pub(super) async fn remove_unfinished(&self) -> Result<(), Error> {
        let own = self.engine.labelled(DATA, &self.parts().await?.id).await?;
        for (id, labels, _) in own {
            if labels.contains_key(SESSION) {
                continue;
            }
            let site = labels.get(SITE).map(String::as_str).unwrap_or_default();
            let path = self.containers().join(format!("{PREFIX}{site}"));
            let free = !path.exists() || self.free(&path)?.is_some();
            if free {
                self.engine.remove(&id).await?;
            }
        }
        let entries = std::fs::read_dir(self.containers())
            .map_err(|error| Error::io("look for places of images", error))?;
        for entry in entries.flatten() {
            let is_site = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if is_site
                && let Some(_held) = self.free(&entry.path())?
                && let Err(error) = discard(&entry.path(), &self.trash()).await
            {
                let error = chain(&error);
                tracing::warn!(error, "the place of an image is left for the next sweep");
            }
        }
        Ok(())
    }

    fn free(&self, path: &Path) -> Result<Option<Held>, Error> {
        Hold::take_free(path).map_err(|error| Error::io("look at the place of an image", error))
    }
}
