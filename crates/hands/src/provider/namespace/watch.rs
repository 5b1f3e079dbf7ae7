//! What becomes of a sandbox that nobody asks for anything: it ends, by itself or after its idle time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::host::Host;
use super::live::Live;
use super::{chain, record};
use crate::Error;

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

/// One of the sandboxes that this server uses, in its figures (security OPS-1).
pub(in crate::provider) struct Counted(metrics::Gauge);

impl Counted {
    pub(in crate::provider) fn new() -> Self {
        let gauge = metrics::gauge!("manyhands_sandboxes");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Host {
    /// Releases a sandbox that has ended or has been idle for `idle`, unless it has been used again meanwhile or belongs to
    /// another server by now; whether there is nothing more to watch.
    async fn release_if(&self, live: &Arc<Live>, idle: Duration, why: &str) -> bool {
        let Ok(slot) = self.places.at(live.session()) else {
            return true;
        };
        let mut place = slot.0.lock().await;
        let ours = place.as_ref().is_some_and(|found| Arc::ptr_eq(found, live));
        if ours && live.is_up() && !live.is_idle_for(idle) {
            return false;
        }
        if ours {
            *place = None;
            if let Err(error) = self.release_ours(live, why).await {
                tracing::warn!(
                    session.id = live.session(),
                    error = chain(&error),
                    "a sandbox could not be released"
                );
            }
        }
        drop(place);
        self.places.vacate(live.session(), &slot);
        true
    }

    async fn release_ours(&self, live: &Arc<Live>, why: &str) -> Result<(), Error> {
        let session = live.session();
        let Some(held) = self.hold(session).await? else {
            // Somebody has removed it all.
            return live.end().await;
        };
        if held.1.seen() > live.owner() {
            tracing::debug!(
                session.id = session,
                "the sandbox belongs to another server"
            );
            return Ok(());
        }
        let record = record::read(&held.0)
            .map_err(|error| Error::io(format!("look for the sandbox of {session}"), error))?;
        if record.is_some_and(|record| record.instance != live.instance()) {
            // Another server has started one anew; ours is over.
            return live.end().await;
        }
        tracing::info!(session.id = session, why, "releasing a sandbox");
        let ended = self.end(session, &held, Some(Arc::clone(live))).await;
        self.packing.changed();
        ended
    }
}
