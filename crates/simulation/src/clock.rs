//! Wall clocks in virtual time: one base for all, and for each machine how far it is off.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use manyhands_protocol::Timestamp;
use manyhands_protocol::time::Clock;
use tokio::time::Instant;

/// 2026-11-21T12:00:00Z, when every world begins.
const BEGINNING: i64 = 1795262400000000;

/// A machine's wall clock. Clones are the same one.
#[derive(Clone)]
pub(crate) struct WallClock {
    begun: Instant,
    off: Arc<AtomicI64>,
}

impl WallClock {
    /// A clock of a world that began then.
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            begun,
            off: Arc::default(),
        }
    }

    /// Somebody sets it, by so many seconds.
    pub(crate) fn jump(&self, seconds: i64) {
        self.off.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(BEGINNING + elapsed + self.off.load(Ordering::SeqCst))
    }
}
