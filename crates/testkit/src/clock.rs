//! A clock that stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use manyhands_protocol::time::{Clock, Timestamp};

/// A wall clock under the test's control. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicI64>);

impl Default for TestClock {
    /// Stands at 2026-11-21T12:00:00Z.
    fn default() -> Self {
        Self::at("2026-11-21T12:00:00Z")
    }
}

impl TestClock {
    /// A clock that stands at an RFC 3339 instant. Panics when the text is none.
    pub fn at(instant: &str) -> Self {
        let instant = Timestamp::parse(instant).expect("an RFC 3339 instant");
        Self(Arc::new(AtomicI64::new(instant.as_micros())))
    }

    /// How long it is since 1970-01-01T00:00:00Z, for what goes by a clock that goes on evenly.
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.load(SeqCst).unsigned_abs())
    }

    /// Moves it forward, by whole microseconds.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).expect("less than 292,000 years");
        self.0.fetch_add(micros, SeqCst);
    }

    /// Sets it back, as an operator or a time server may.
    pub fn set_back(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).expect("less than 292,000 years");
        self.0.fetch_sub(micros, SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_still_until_moved() {
        let clock = TestClock::default();
        let same = clock.clone();
        assert_eq!(clock.now(), same.now());
        clock.advance(Duration::from_millis(1500));
        assert_eq!(same.now().to_string(), "2026-11-21T12:00:01.500000Z");
        assert_eq!(same.elapsed(), Duration::from_millis(1_795_262_401_500));
        clock.set_back(Duration::from_secs(2));
        assert_eq!(same.now().to_string(), "2026-11-21T11:59:59.500000Z");
    }
}
