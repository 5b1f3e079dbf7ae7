//! How clients inside a container get to the session's socket: by the folder that it lies in, where the engine can show that,
//! else by [`carriers`](super::carriers).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, chmodat};
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::host::Host;
use super::image::Image;
use super::site::Site;
use super::spec;
use crate::Error;
use crate::provider::door;
use crate::provider::namespace::at;

/// How long a container may take that tries the way.
const LIMIT: Duration = Duration::from_secs(60);

/// What the operator says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doorway {
    /// By the folder where that works, which is tried once, else by streams.
    #[default]
    Auto,
    /// By the folder or not at all.
    Folder,
    /// By the engine's streams.
    Streams,
}

impl Doorway {
    const ALL: [Self; 3] = [Self::Auto, Self::Folder, Self::Streams];

    /// As settings say it: `auto`, `folder`, `streams`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Folder => Passage::Folder.name(),
            Self::Streams => Passage::Streams.name(),
        }
    }

    /// The one of this [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|door| door.name() == name)
    }
}

/// Which way it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    Folder,
    Streams,
}

impl Passage {
    /// What a container's label says.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Streams => "streams",
        }
    }
}

impl Host {
    /// The way of containers that are made from now on; `None` where there is none (invariant I9).
    pub(super) async fn passage(&self) -> Result<Option<Passage>, Error> {
        if !self.config.lets_out() {
            return Ok(None);
        }
        let found = match self.config.door {
            Doorway::Folder => Passage::Folder,
            Doorway::Streams => Passage::Streams,
            Doorway::Auto if !self.config.shared_folders => Passage::Streams,
            Doorway::Auto => *self.passage.get_or_try_init(|| self.tried()).await?,
        };
        Ok(Some(found))
    }

    /// Has a container that is as sandboxes are knock at a socket in a folder of ours.
    async fn tried(&self) -> Result<Passage, Error> {
        let image = self.image_with_trust(&[]).await?;
        let site = Site::new(&self.containers()).await?;
        let heard = self.knocks(&site, &image).await;
        site.close(&self.engine).await?;
        match heard {
            Ok(true) => Ok(Passage::Folder),
            Ok(false) => {
                tracing::info!(
                    "the engine shows containers no socket: they get out over its streams"
                );
                Ok(Passage::Streams)
            }
            Err(error) => {
                // One that does not answer has not said no.
                self.engine.about().await?;
                tracing::info!(%error, "the engine shows containers no folder: they get out over its streams");
                Ok(Passage::Streams)
            }
        }
    }

    async fn knocks(&self, site: &Site, image: &Image) -> Result<bool, Error> {
        let fail = |error| Error::io("make a socket to try the engine with", error);
        let folder = door::make(&site.held.0).map_err(fail)?;
        let listener = listen(&folder).map_err(fail)?;
        let path = std::fs::canonicalize(site.path.join(door::FOLDER)).map_err(fail)?;
        let parts = self.parts().await?;
        let body = spec::knocking(&self.config, image, &path);
        site.create(&self.engine, &parts.id, body).await?;
        self.engine.start(&site.name).await?;
        let knocked = async {
            tokio::select! {
                biased;
                came = listener.accept() => came.is_ok(),
                () = self.engine.ended(&site.name) => {
                    // It may have come at its end.
                    timeout(Duration::ZERO, listener.accept()).await.is_ok_and(|came| came.is_ok())
                }
            }
        };
        Ok(timeout(LIMIT, knocked).await.unwrap_or(false))
    }
}

/// A socket in this folder that every user inside may come to.
fn listen(folder: &OwnedFd) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(at(folder, door::NAME))?;
    chmodat(folder, door::NAME, Mode::from(0o666), AtFlags::empty())?;
    Ok(listener)
}
