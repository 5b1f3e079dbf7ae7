//! Which sessions to wake: on a nudge, and on a timer behind lost nudges. One wake per session, each in a task of its
//! own; a panic ends that wake and not the server.

mod wakes;
mod watchdog;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use manyhands_hands::Provider;
use manyhands_protocol::SessionId;
use manyhands_protocol::time::SharedClock;
use manyhands_store::{Lease, Nudge, Store};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::activity::{Activities, Activity};
use crate::cache::Cache;
use crate::config::Config;
use crate::models::Registry;
use crate::quarantine;
use crate::wake::{Shared, Stop};

/// Sessions that one look of the timer takes on.
const BATCH: u32 = 256;

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
