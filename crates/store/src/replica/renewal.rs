//! Saying that this instance lives, and knowing when it has not been able to (security LEASE-1).

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::Uptime;
use crate::store::Inner;

/// How often an instance says that it lives.
const RENEWAL: Duration = Duration::from_secs(3);
/// The pause after a failure: there is not much time left.
const RETRY: Duration = Duration::from_millis(500);
/// For so long it is believed (architecture "Wakes"); measured from before it is said, so that it is never believed for
/// less than it thinks.
pub(crate) const BELIEVED: Duration = Duration::from_secs(10);

/// This instance's renewals, by its own clock.
pub(crate) struct Renewals {
    uptime: Uptime,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the last successful one was begun.
    begun: Option<Duration>,
    /// How often one came so late that the others may have ceased to believe in this instance in between.
    lapses: u64,
}

impl Renewals {
    pub(crate) fn new(uptime: Uptime) -> Self {
        Self {
            uptime,
            state: Mutex::default(),
        }
    }

    /// To be asked before a renewal, and handed to [`succeeded`](Self::succeeded).
    pub(crate) fn now(&self) -> Duration {
        self.uptime.now()
    }

    /// A renewal that was begun at this time has succeeded.
    pub(crate) fn succeeded(&self, begun: Duration) {
        let now = self.uptime.now();
        let mut state = self.state();
        if (state.begun).is_some_and(|before| now.saturating_sub(before) >= BELIEVED) {
            state.lapses += 1;
        }
        state.begun = Some(begun);
    }

    /// Whether all others must still believe that this instance lives.
    pub(crate) fn is_fresh(&self) -> bool {
        let begun = self.state().begun;
        begun.is_some_and(|begun| self.uptime.now().saturating_sub(begun) < BELIEVED)
    }

    /// How often the others may have ceased to believe in this instance.
    pub(crate) fn lapses(&self) -> u64 {
        self.state().lapses
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn renew_while_open(inner: Weak<Inner>) {
    let mut pause = RENEWAL;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        if !inner.renewals.is_fresh() {
            tracing::warn!(
                "this instance was not believed to live for a while: its sessions may be elsewhere"
            );
        }
        pause = match inner.renew().await {
            Ok(()) => RENEWAL,
            Err(error) => {
                // Past the time to live, this instance's own appends are refused by their guard.
                tracing::warn!(%error, "this instance could not be renewed");
                RETRY
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn lease_1_an_instance_is_fresh_for_ten_seconds_from_before_its_renewal() {
        let millis = Arc::new(AtomicU64::new(100_000));
        let clock = Arc::clone(&millis);
        let renewals = Renewals::new(Uptime::new(move || {
            Duration::from_millis(clock.load(Ordering::Relaxed))
        }));
        assert!(!renewals.is_fresh(), "never renewed");
        let begun = renewals.now();
        millis.fetch_add(4_000, Ordering::Relaxed);
        renewals.succeeded(begun);
        assert!(renewals.is_fresh());
        millis.fetch_add(5_999, Ordering::Relaxed);
        assert!(renewals.is_fresh());
        millis.fetch_add(1, Ordering::Relaxed);
        assert!(!renewals.is_fresh(), "4 s of the 10 were the renewal's own");
        assert_eq!(renewals.lapses(), 0);
        renewals.succeeded(renewals.now());
        assert!(renewals.is_fresh() && renewals.lapses() == 1);
        millis.fetch_add(9_999, Ordering::Relaxed);
        renewals.succeeded(renewals.now());
        assert_eq!(renewals.lapses(), 1, "in time");
    }

    #[test]
    fn the_machine_has_a_clock_that_goes_on() {
        let uptime = Uptime::default();
        let before = uptime.now();
        assert!(before > Duration::ZERO && uptime.now() >= before);
    }
}
