//! What is its own in the life of a sandbox of name spaces.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::host::Host;
use super::live::Live;
use super::{blocking, record};
use crate::Error;
use crate::provider::hold::Held;
use crate::provider::lodge::{self, Lodge};
use crate::provider::{Gate, Limits};

#[async_trait]
impl Lodge for Arc<Host> {
    fn idle(&self) -> Duration {
        self.config.idle
    }

    fn gate(&self) -> Option<&dyn Gate> {
        self.config.gate.as_deref()
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.bubblewrap
            .bubblewrap(self.config.bwrap.as_deref())
            .await?;
        self.cgroups().await;
        let host = Arc::clone(self);
        blocking("make an empty disk", move || {
            host.disks.ready(Limits::default().disk_bytes)
        })
        .await?;
        self.parts().await.map(drop)
    }

    fn stand_by(&self, live: Arc<Live>) {
        tokio::spawn(lodge::watch(Arc::downgrade(self), live));
    }

    async fn reattach(
        &self,
        session: &str,
        folder: &OwnedFd,
        epoch: i64,
    ) -> Result<Option<Arc<Live>>, Error> {
        Host::reattach(self, session, folder, epoch).await
    }

    async fn end(&self, session: &str, held: &Held, live: Option<Arc<Live>>) -> Result<(), Error> {
        Host::end(self, session, held, live).await
    }

    async fn remove_all(&self, session: &str, live: Option<Arc<Live>>) -> Result<(), Error> {
        let Some(held) = self.hold(session).await? else {
            self.remove_group(session).await;
            return Ok(());
        };
        self.end(session, &held, live).await?;
        Host::remove(self, session, &held).await
    }

    async fn hold_or_make(&self, session: &str) -> Result<Held, Error> {
        Host::hold_or_make(self, session).await
    }

    fn is_last(&self, live: &Live, folder: &OwnedFd) -> io::Result<bool> {
        let record = record::read(folder)?;
        Ok(record.is_none_or(|record| record.instance == live.instance()))
    }
}
