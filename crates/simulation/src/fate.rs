//! What befalls one instance from its start to its end: it dies at any use of what lies outside of it, it stands still,
//! its database fails. What an instance does counts only through what it does to others, so that all faults sit there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use manyhands_store::{Conduct, Outcome, Use};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::lock;

/// Longer than any world lasts: what a dead instance waits for.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// How long uses of the database take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Latency {
    /// No time.
    None,
    /// Some milliseconds, now and then.
    Some,
    /// Milliseconds, and now and then hundreds of them.
    Much,
}

/// One instance's fate. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Fate {
    state: Arc<Mutex<State>>,
    died: CancellationToken,
}

struct State {
    rng: StdRng,
    latency: Latency,
    asleep: Option<Instant>,
    dies: Option<Death>,
    storm: Option<Storm>,
    failed: u64,
    unknown: u64,
}

/// A death to come.
struct Death {
    /// At which use of the database from now on, from 1.
    uses: u32,
    /// Whether that use has its effect before.
    after: bool,
}

/// A time in which the database fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    /// Until when.
    pub(crate) until: Instant,
    /// How many uses of a hundred fail.
    pub(crate) percent: u32,
}

impl Fate {
    pub(crate) fn new(seed: u64, latency: Latency) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            latency,
            asleep: None,
            dies: None,
            storm: None,
            failed: 0,
            unknown: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            died: CancellationToken::new(),
        }
    }

    /// It is over.
    pub(crate) fn die(&self) {
        self.died.cancel();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.died.is_cancelled()
    }

    /// Returns when it has died.
    pub(crate) async fn died(&self) {
        self.died.cancelled().await;
    }

    /// It dies at the n-th use of the database from now on, before its effect or after it.
    pub(crate) fn dies(&self, uses: u32, after: bool) {
        lock(&self.state).dies = Some(Death { uses, after });
    }

    /// It stands still, and knows nothing of it.
    pub(crate) fn sleeps(&self, time: Duration) {
        lock(&self.state).asleep = Some(Instant::now() + time);
    }

    /// Its database fails for a while.
    pub(crate) fn storms(&self, storm: Storm) {
        lock(&self.state).storm = Some(storm);
    }

    /// Nothing is in store for it any more.
    pub(crate) fn calm(&self) {
        let mut state = lock(&self.state);
        state.asleep = None;
        state.dies = None;
        state.storm = None;
    }

    /// How many uses failed, and how many did without its knowing.
    pub(crate) fn failures(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.failed, state.unknown)
    }

    /// How the database behaves in one use.
    pub(crate) fn conduct(&self, of: Use) -> Conduct {
        if self.is_dead() {
            return Conduct {
                before: NEVER,
                ..Conduct::default()
            };
        }
        let mut state = lock(&self.state);
        let mut conduct = state.usual(of);
        if let Some(death) = &mut state.dies {
            death.uses -= 1;
            if death.uses == 0 {
                match death.after {
                    true => conduct.after = NEVER,
                    false => conduct.before = NEVER,
                }
                state.dies = None;
                self.die();
            }
        }
        conduct
    }

    /// Passes on the way to something that is no database: a model, a sandbox. Not when it stands still, never when
    /// it is dead.
    pub(crate) async fn pass(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
        let asleep = lock(&self.state).asleep;
        if let Some(until) = asleep {
            tokio::time::sleep_until(until).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }
}

impl State {
    fn usual(&mut self, of: Use) -> Conduct {
        let now = Instant::now();
        let mut conduct = Conduct::default();
        let (often, long) = match self.latency {
            Latency::None => (0, 1),
            Latency::Some => (15, 4),
            Latency::Much => (60, 30),
        };
        if self.rng.random_ratio(often, 100) {
            conduct.before = Duration::from_millis(self.rng.random_range(0..=long));
            conduct.after = Duration::from_millis(self.rng.random_range(0..=long));
            if self.latency == Latency::Much && self.rng.random_ratio(1, 40) {
                conduct.before = Duration::from_millis(self.rng.random_range(100..3000));
            }
        }
        if let Some(storm) = self.storm {
            if storm.until <= now {
                self.storm = None;
            } else if self.rng.random_ratio(storm.percent, 100) {
                if of == Use::Write && self.rng.random() {
                    conduct.outcome = Outcome::Unknown;
                    self.unknown += 1;
                } else {
                    conduct.outcome = Outcome::Failed;
                    self.failed += 1;
                }
            }
        }
        if let Some(until) = self.asleep {
            let left = until.saturating_duration_since(now);
            conduct.before += left;
            if left.is_zero() {
                self.asleep = None;
            }
        }
        conduct
    }
}
