//! Which sessions to wake: on a nudge, and on a timer behind lost nudges. One wake per session, each in a task of its
//! own; a panic ends that wake and not the server.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use manyhands_hands::Provider;
use manyhands_protocol::SessionId;
use manyhands_protocol::time::SharedClock;
use manyhands_store::{Error as StoreError, Lease, Nudge, Store};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::activity::{Activities, Activity, Doing};
use crate::cache::Cache;
use crate::config::Config;
use crate::models::Registry;
use crate::quarantine;
use crate::wake::{self, Shared, Stop};

/// Sessions that one look of the timer takes on.
const BATCH: u32 = 256;

/// When the timer, which comes every second, was away for so long, this process did not run.
const PAUSED: Duration = Duration::from_secs(5);

/// The longest pause of a session whose wakes fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The running brain. Dropping it ends all wakes where they are, as a crash would.
pub struct Brain {
    task: JoinHandle<()>,
    killed: CancellationToken,
    activities: Activities,
}

impl Brain {
    /// Starts waking sessions of this store. Takes the store's nudges; runs until `cancel`.
    ///
    /// At a cancellation wakes stop at once, running tool calls are left alone, and the leases are given back.
    pub fn start(
        config: Config,
        store: Store,
        hands: Arc<dyn Provider>,
        models: Arc<Registry>,
        clock: SharedClock,
        cancel: CancellationToken,
    ) -> Self {
        let nudges = store.nudges();
        let activities = Activities::default();
        let shared = Arc::new(Shared {
            cache: Cache::new(config.transcript_cache),
            permits: Arc::new(Semaphore::new(config.wakes.max(1))),
            config,
            store,
            hands,
            models,
            clock,
        });
        let mut dispatcher = Dispatcher {
            shared,
            cancel,
            running: HashMap::new(),
            by_task: HashMap::new(),
            pauses: HashMap::new(),
            unattended: HashMap::new(),
            owed: Vec::new(),
            looked: Instant::now(),
            activities: activities.clone(),
            tasks: JoinSet::new(),
        };
        let killed = CancellationToken::new();
        let kill = killed.clone();
        let task = async move {
            let ran = kill.run_until_cancelled(dispatcher.run(nudges)).await;
            if ran.is_none() {
                dispatcher.tasks.shutdown().await;
            }
        };
        Self {
            task: tokio::spawn(task),
            killed,
            activities,
        }
    }

    /// What this brain's wakes are doing, for [`why`](crate::why).
    pub fn activities(&self) -> Activities {
        self.activities.clone()
    }

    /// Ends all wakes where they are, as a crash would. Returns when none of them runs any more: one that was only told
    /// to end may still be on its way to its next await point, and act beside its successor.
    pub async fn crashed(mut self) {
        self.killed.cancel();
        let ended = (&mut self.task).await;
        if ended.is_err_and(|error| error.is_panic()) {
            tracing::error!("the dispatcher panicked");
        }
    }

    /// Returns when all wakes have stopped after a cancellation.
    pub async fn stopped(mut self) {
        let ended = (&mut self.task).await;
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!("the dispatcher panicked");
        }
    }
}

impl Drop for Brain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Dispatcher {
    shared: Arc<Shared>,
    cancel: CancellationToken,
    running: HashMap<SessionId, Running>,
    by_task: HashMap<Id, SessionId>,
    /// Sessions whose last wake failed: how often in a row, and until when they are left alone.
    pauses: HashMap<SessionId, (u32, Instant)>,
    /// Leases that had no wake at the last look, and the epoch of each.
    unattended: HashMap<SessionId, i64>,
    /// Leases of wakes that ended before their rest, to be given back as soon as the store can be told.
    owed: Vec<Lease>,
    /// When the timer came last.
    looked: Instant,
    activities: Activities,
    tasks: JoinSet<Result<(), Stop>>,
}

struct Running {
    lease: Lease,
    signal: watch::Sender<u64>,
    activity: Arc<Activity>,
    /// Ends the wake because it does not get on.
    stalled: CancellationToken,
    /// A lease that was granted after the running wake gave its own back.
    next: Option<Lease>,
}

impl Dispatcher {
    async fn run(&mut self, nudges: Option<mpsc::Receiver<Nudge>>) {
        let mut nudges = nudges;
        if nudges.is_none() {
            tracing::error!("the store's nudges are taken: sessions are found by the timer alone");
        }
        let mut tick = tokio::time::interval(self.shared.config.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut strays = tokio::time::interval(self.shared.config.watchdog.strays);
        strays.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                // The timers before the nudges, which may come without a break.
                _ = tick.tick() => {
                    self.end_stalled();
                    self.count();
                    self.give_back().await;
                    self.look().await;
                }
                _ = strays.tick() => self.look_for_strays().await,
                nudge = next(&mut nudges) => match nudge {
                    Some(nudge) => self.nudged(nudge).await,
                    None => nudges = None,
                },
            }
        }
        // Each wake hears the cancellation itself and gives its lease back.
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
        while let Some(Ok(nudge)) = nudges.as_mut().map(mpsc::Receiver::try_recv) {
            if let Some(lease) = nudge.lease {
                quarantine::release(&self.shared.store, &lease).await;
            }
        }
    }

    async fn nudged(&mut self, nudge: Nudge) {
        if let Some(running) = self.running.get_mut(&nudge.session) {
            match nudge.lease {
                Some(lease) => running.next = Some(lease),
                None => running.signal.send_modify(|count| *count += 1),
            }
            return;
        }
        match nudge.lease {
            Some(lease) => self.wake(lease),
            None => {
                if let Some(lease) = claim(&self.shared.store, nudge).await {
                    self.wake(lease);
                }
            }
        }
    }

    /// The timer: sessions that want a brain and have none.
    async fn look(&mut self) {
        let now = Instant::now();
        // A pause is remembered a while after its end, so that the next one of the same session is longer.
        self.pauses
            .retain(|_, (_, until)| *until + LONGEST_PAUSE > now);
        loop {
            let wanting = match self.shared.store.wanting(BATCH).await {
                Ok(wanting) => wanting,
                Err(error) => {
                    tracing::warn!(%error, "cannot look for sessions that want a brain");
                    return;
                }
            };
            let whole = wanting.len() == BATCH as usize;
            let free = wanting.into_iter().filter(|nudge| {
                let paused = self.pauses.get(&nudge.session);
                let paused = paused.is_some_and(|(_, until)| *until > now);
                !paused && !self.running.contains_key(&nudge.session)
            });
            let claims = free.map(|nudge| claim(&self.shared.store, nudge));
            // Together, so that the store commits them together.
            let leases: Vec<Option<Lease>> = futures::future::join_all(claims).await;
            let before = self.running.len();
            for lease in leases.into_iter().flatten() {
                self.wake(lease);
            }
            if !whole || self.running.len() == before {
                return;
            }
        }
    }

    /// Gives leases back that have no wake any more. One that is not ours any more is left alone by the store.
    async fn give_back(&mut self) {
        while let Some(lease) = self.owed.last() {
            if let Err(error) = self.shared.store.release(lease).await {
                tracing::warn!(%error, leases = self.owed.len(), "leases cannot be given back yet");
                return;
            }
            self.owed.pop();
        }
    }

    /// The figures of what is at work (security OPS-1).
    fn count(&self) {
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
    fn end_stalled(&mut self) {
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
    async fn look_for_strays(&mut self) {
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

    fn wake(&mut self, lease: Lease) {
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

    fn ended(&mut self, ended: Result<(Id, Result<(), Stop>), JoinError>) {
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

async fn claim(store: &Store, nudge: Nudge) -> Option<Lease> {
    match store.claim(&nudge.workspace, &nudge.session).await {
        Ok(lease) => lease,
        Err(error) => {
            tracing::warn!(session.id = %nudge.session, %error, "cannot claim the session");
            None
        }
    }
}

async fn next(nudges: &mut Option<mpsc::Receiver<Nudge>>) -> Option<Nudge> {
    match nudges {
        Some(nudges) => nudges.recv().await,
        None => std::future::pending().await,
    }
}
