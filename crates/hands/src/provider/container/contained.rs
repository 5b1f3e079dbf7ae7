//! A live sandbox in a container: how it is watched, reached and ended.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::carriers;
use super::engine::Engine;
use crate::provider::checkpoint;
use crate::provider::door::{self, Opened};
use crate::provider::link::Link;
use crate::provider::live::{self, Body};
use crate::provider::namespace::chain;

/// How long ending a container may take.
const END_LIMIT: Duration = Duration::from_secs(10);

pub(in crate::provider) type Live = live::Live<Contained>;

/// What a sandbox in a container is made of.
pub(in crate::provider) struct Contained {
    engine: Engine,
    name: String,
    folder: OwnedFd,
    /// Whether clients inside get out by carriers.
    carried: bool,
    ended: watch::Receiver<bool>,
    watcher: AbortHandle,
}

impl Contained {
    /// The running container of this name, watched from now on.
    pub(super) fn new(engine: Engine, name: String, folder: OwnedFd, carried: bool) -> Self {
        let (sender, ended) = watch::channel(false);
        let watched = (engine.clone(), name.clone());
        let watcher = tokio::spawn(async move {
            let (engine, name) = watched;
            engine.ended(&name).await;
            sender.send_replace(true);
        });
        Self {
            engine,
            name,
            folder,
            carried,
            ended,
            watcher: watcher.abort_handle(),
        }
    }

    /// Brings clients inside to the way out, if that is how they get there.
    ///
    /// # Errors
    /// When there is no folder for the socket.
    pub(super) fn carry(&self, opened: &mut Opened) -> io::Result<()> {
        if self.carried {
            let folder = door::make(&self.folder)?;
            opened.carried_by(carriers::start(&self.engine, &self.name, folder));
        }
        Ok(())
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

#[async_trait]
impl Body for Contained {
    fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    fn used(&self, epoch: i64) {
        checkpoint::used(&self.folder, epoch);
    }

    fn is_up(&self) -> bool {
        !*self.ended.borrow()
    }

    async fn ended(&self) {
        // A watcher that is gone cannot be told from an end; whoever acts on it looks again.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    async fn end(&self) -> io::Result<()> {
        if !self.is_up() {
            // What runs by its name now is another's.
            return Ok(());
        }
        match tokio::time::timeout(END_LIMIT, self.engine.kill(&self.name)).await {
            Ok(killed) => killed.map_err(|error| io::Error::other(chain(&error))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn connect(&self) -> Result<(Link, String), String> {
        self.engine.connect(&self.name).await
    }
}
