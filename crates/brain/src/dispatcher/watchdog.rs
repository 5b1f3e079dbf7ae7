//! The watchdog and the net behind the timer: nothing runs without getting on, and nothing wants a brain in vain.

use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_store::Error as StoreError;
use tokio::time::Instant;

use super::{BATCH, Dispatcher};
use crate::activity::Doing;
use crate::quarantine;

/// When the timer, which comes every second, was away for so long, this process did not run.
const PAUSED: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// The figures of what is at work (security OPS-1).
    pub(super) fn count(&self) {
        let looks = self.running.values().map(|running| running.activity.look());
        let queued = looks.filter(|look| matches!(look.doing, Doing::Queueing));
        let since: Vec<i64> = queued.map(|look| look.since.as_micros()).collect();
        let now = self.shared.clock.now().as_micros();
        let oldest = since.iter().min().map_or(0, |since| (now - since).max(0));
        metrics::gauge!("manyhands_wakes").set(self.running.len() as f64);
        metrics::gauge!("manyhands_wakes_queued").set(since.len() as f64);
        metrics::gauge!("manyhands_wakes_queued_oldest_seconds").set(oldest as f64 / 1e6);
    }

    /// The watchdog: ends wakes that do not get on, by progress and not by time alone.
    pub(super) fn end_stalled(&mut self) {
        let since = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        if since > PAUSED.max(self.shared.config.tick * 3) {
            // Nobody got on, because this process was stopped: that is no failure of a session (LOG-4).
            tracing::warn!(?since, "this server did not run for a while");
            for running in self.running.values() {
                running.activity.progress();
            }
            return;
        }
        for (session, running) in &self.running {
            let look = running.activity.look();
            if look.left != Some(Duration::ZERO) || running.stalled.is_cancelled() {
                continue;
            }
            let doing = look.doing.label();
            tracing::error!(session.id = %session, doing, "a wake does not get on: it is ended");
            metrics::counter!("manyhands_wakes_stalled_total", "doing" => doing).increment(1);
            running.stalled.cancel();
        }
    }

    /// The net behind the timer. Neither of the two should ever be found: sessions that run, that nobody wants and
    /// nobody holds; and leases of this process without a wake, seen twice in a row.
    pub(super) async fn look_for_strays(&mut self) {
        if let Err(error) = self.rescue().await {
            tracing::warn!(%error, "cannot look for stranded sessions");
        }
    }

    async fn rescue(&mut self) -> Result<(), StoreError> {
        for (_, session) in self.shared.store.rescue_stranded(BATCH).await? {
            tracing::error!(session.id = %session, "a session at work was stranded: a brain is wanted again");
            metrics::counter!("manyhands_sessions_stranded_total").increment(1);
        }
        let mut before = std::mem::take(&mut self.unattended);
        let mut after: Option<SessionId> = None;
        loop {
            let held = self.shared.store.held(after.as_ref(), BATCH).await?;
            let whole = held.len() == BATCH as usize;
            after = held.last().map(|lease| lease.session.clone());
            for lease in held {
                if self.running.contains_key(&lease.session) {
                    continue;
                }
                if before.remove(&lease.session) == Some(lease.epoch) {
                    tracing::error!(session.id = %lease.session, "a lease had no wake: it is given back");
                    metrics::counter!("manyhands_leases_unattended_total").increment(1);
                    quarantine::release(&self.shared.store, &lease).await;
                } else {
                    // Its nudge may be on the way.
                    self.unattended.insert(lease.session, lease.epoch);
                }
            }
            if !whole {
                return Ok(());
            }
        }
    }
}
