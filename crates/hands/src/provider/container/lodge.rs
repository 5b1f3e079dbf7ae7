//! What is a container's own in the life of a sandbox.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::contained::Live;
use super::host::Host;
use crate::Error;
use crate::provider::Gate;
use crate::provider::door::Opened;
use crate::provider::hold::Held;
use crate::provider::lodge::{self, Lodge};

#[async_trait]
impl Lodge for Arc<Host> {
    fn idle(&self) -> Duration {
        self.config.idle
    }

    fn gate(&self) -> Option<&dyn Gate> {
        let gate = self.config.gate.as_deref();
        gate.filter(|_| self.config.lets_out())
    }

    fn carry(&self, live: &Live, door: &mut Opened) {
        if let Err(error) = live.body().carry(door) {
            let session = live.session();
            tracing::error!(session.id = session, %error, "a sandbox has no way out");
        }
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.image().await.map(drop)
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
        let name = self.name(session).await?;
        if self.engine.runs(&name).await? != Some(true) {
            return Ok(None);
        }
        match self.attach(session, &name, folder, epoch).await? {
            Ok(live) => Ok(Some(live)),
            Err(why) => {
                tracing::warn!(
                    session.id = session,
                    why,
                    "ending a sandbox that cannot be used"
                );
                self.engine.kill(&name).await?;
                Ok(None)
            }
        }
    }

    async fn end(&self, session: &str, _held: &Held, live: Option<Arc<Live>>) -> Result<(), Error> {
        if let Some(live) = live {
            live.door().take();
        }
        self.engine.kill(&self.name(session).await?).await
    }

    async fn remove_all(&self, session: &str, live: Option<Arc<Live>>) -> Result<(), Error> {
        if let Some(live) = live {
            // Also for those who still hold it.
            live.door().take();
        }
        // The folder's, where there is one; a container without one is somebody's leftover.
        let _held = self.hold(session).await?;
        Host::remove(self, session).await
    }

    async fn hold_or_make(&self, session: &str) -> Result<Held, Error> {
        Host::hold_or_make(self, session).await
    }

    /// One that was seen to end is not: what runs by its name now was started after it.
    fn is_last(&self, live: &Live, _folder: &OwnedFd) -> io::Result<bool> {
        Ok(live.is_up())
    }
}
