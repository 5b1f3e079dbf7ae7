//! What is its own in the life of a sandbox of name spaces.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::host::Host;
use super::live::Live;
use super::record;
use crate::Error;
use crate::provider::Gate;
use crate::provider::hold::Held;
use crate::provider::lodge::{self, Lodge};

#[async_trait]
impl Lodge for Arc<Host> {
    fn idle(&self) -> Duration {
        self.config.idle
    }

    fn gate(&self) -> Option<&dyn Gate> {
        self.config.gate.as_deref()
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

    fn is_last(&self, live: &Live, folder: &OwnedFd) -> io::Result<bool> {
        let record = record::read(folder)?;
        Ok(record.is_none_or(|record| record.instance == live.instance()))
    }
}
