//! What becomes of a container that nobody asks for anything: it ends, by itself or after its idle time; its volumes stay.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::contained::Live;
use super::host::Host;
use crate::Error;
use crate::provider::namespace::chain;
use crate::provider::namespace::watch::Counted;

/// Stands by a sandbox until it ends by itself or has been idle for long enough, and clears up.
pub(super) async fn watch(host: Weak<Host>, live: Arc<Live>) {
    let Some(idle) = host.upgrade().map(|host| host.config.idle) else {
        return;
    };
    let _counted = Counted::new();
    loop {
        let why = tokio::select! {
            () = live.ended() => "it ended",
            () = live.idle_for(idle) => "it was idle",
        };
        let Some(host) = host.upgrade() else { return };
        if host.release_if(&live, idle, why).await {
            return;
        }
    }
}

impl Host {
    /// Releases a sandbox that has ended or has been idle for `idle`, unless it has been used again meanwhile or belongs to
    /// another server by now; whether there is nothing more to watch.
    async fn release_if(&self, live: &Arc<Live>, idle: Duration, why: &str) -> bool {
        let Ok(place) = self.places.at(live.session()) else {
            return true;
        };
        let mut at = place.0.lock().await;
        let ours = at.as_ref().is_some_and(|found| Arc::ptr_eq(found, live));
        if ours && live.is_up() && !live.is_idle_for(idle) {
            return false;
        }
        if ours {
            *at = None;
            if let Err(error) = self.release_ours(live, why).await {
                tracing::warn!(
                    session.id = live.session(),
                    error = chain(&error),
                    "a sandbox could not be released"
                );
            }
        }
        drop(at);
        self.places.vacate(live.session(), &place);
        true
    }

    async fn release_ours(&self, live: &Arc<Live>, why: &str) -> Result<(), Error> {
        let session = live.session();
        live.door().take();
        let Some((_, hold)) = self.hold(session).await? else {
            // Somebody has removed it all, the container too.
            return Ok(());
        };
        if hold.seen() > live.owner() {
            tracing::debug!(
                session.id = session,
                "the sandbox belongs to another server"
            );
            return Ok(());
        }
        if !live.is_up() {
            tracing::info!(session.id = session, why, "a sandbox is gone");
            return Ok(());
        }
        tracing::info!(session.id = session, why, "releasing a sandbox");
        let ended = live.end().await;
        self.packing.changed();
        ended
    }
}
