//! From a lease to the end of its wake: a task of its own, and what its end means for the session.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use manyhands_protocol::SessionId;
use manyhands_store::Lease;
use tokio::sync::watch;
use tokio::task::{Id, JoinError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Dispatcher, LONGEST_PAUSE, Running};
use crate::activity::Activity;
use crate::quarantine;
use crate::wake::{self, Stop};

impl Dispatcher {
    pub(super) fn wake(&mut self, lease: Lease) {
        let (signal, heard) = watch::channel(0);
        let session = lease.session.clone();
        let (shared, cancel) = (Arc::clone(&self.shared), self.cancel.clone());
        let span = tracing::info_span!("wake", session.id = %session);
        let held = lease.clone();
        let activity = Arc::new(Activity::new(self.shared.clock.now()));
        let stalled = CancellationToken::new();
        let (own, ends) = (Arc::clone(&activity), stalled.clone());
        let work = async move {
            let permits = Arc::clone(&shared.permits);
            let woken = async {
                let woken = async {
                    match permits.acquire_owned().await {
                        Ok(permit) => {
                            let own = Arc::clone(&own);
                            wake::run(Arc::clone(&shared), held.clone(), heard, permit, own).await
                        }
                        // Never closed; were it, the session would wait for the next server.
                        Err(_) => Ok(()),
                    }
                };
                let stalled = || Stop::Stalled(own.look().doing.label());
                let ended = ends.run_until_cancelled(woken).await;
                ended.unwrap_or_else(|| Err(stalled()))
            };
            let cut = AssertUnwindSafe(cancel.run_until_cancelled(woken));
            let stop = match cut.catch_unwind().await {
                Ok(None) => {
                    quarantine::release(&shared.store, &held).await;
                    return Ok(());
                }
                Ok(Some(Ok(()))) => return Ok(()),
                Ok(Some(Err(stop))) => stop,
                Err(panic) => panicked(&held.session, &*panic),
            };
            // While the wake still counts as running: its lease, under which this is written, is given back behind it.
            quarantine::after_failure(&shared, &held, &stop).await;
            Err(stop)
        };
        let task = self.tasks.spawn(work.instrument(span));
        self.by_task.insert(task.id(), session.clone());
        self.activities
            .insert(session.clone(), Arc::clone(&activity));
        let running = Running {
            lease,
            signal,
            activity,
            stalled,
            next: None,
        };
        self.running.insert(session, running);
    }

    pub(super) fn ended(&mut self, ended: Result<(Id, Result<(), Stop>), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => {
                tracing::error!(%error, "the end of a wake failed");
                (error.id(), Err(Stop::Faulty("panic".to_owned())))
            }
        };
        let Some(session) = self.by_task.remove(&id) else {
            return;
        };
        let running = self.running.remove(&session);
        self.activities.remove(&session);
        match outcome {
            Ok(()) => {
                self.pauses.remove(&session);
            }
            Err(Stop::Lost) => {
                metrics::counter!("manyhands_leases_lost_total").increment(1);
                self.pauses.remove(&session);
                // It may be ours still: then it was this server that stopped believing in itself.
                self.owed
                    .extend(running.as_ref().map(|running| running.lease.clone()));
            }
            Err(Stop::Store(_) | Stop::Faulty(_) | Stop::Stalled(_)) => {
                let failures = self
                    .pauses
                    .get(&session)
                    .map_or(0, |(failures, _)| *failures);
                let pause = self
                    .shared
                    .config
                    .tick
                    .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
                    .min(LONGEST_PAUSE);
                self.pauses
                    .insert(session.clone(), (failures + 1, Instant::now() + pause));
                self.owed
                    .extend(running.as_ref().map(|running| running.lease.clone()));
            }
        }
        if let Some(lease) = running.and_then(|running| running.next)
            && !self.cancel.is_cancelled()
        {
            self.wake(lease);
        }
    }
}

/// A wake panicked: a failure like others (security LOG-4).
fn panicked(session: &SessionId, panic: &(dyn Any + Send)) -> Stop {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(session.id = %session, error = text, "a wake panicked");
    metrics::counter!("manyhands_wake_panics_total").increment(1);
    Stop::Faulty("an internal error (panic)".to_owned())
}
