//! How often carriers are started in one container (pure; security SBX-5).

use std::time::{Duration, Instant};

use manyhands_sandboxd::door::porch::CARRIERS;

/// How many may be started at any time, if few were before: as many as there may be at once.
const AT_ONCE: u32 = CARRIERS as u32;

/// How long after each of them one more may be. Starting one costs the engine some tens of milliseconds.
pub(super) const EACH: Duration = Duration::from_millis(125);

/// The starts that are still allowed, as the moment when all of them will be again.
#[derive(Debug, Default)]
pub(super) struct Starts {
    whole: Option<Instant>,
}

impl Starts {
    /// One more start.
    ///
    /// # Errors
    /// How long it has to wait.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let whole = self.whole.map_or(now, |whole| whole.max(now));
        let early = (whole - now).saturating_sub(EACH * (AT_ONCE - 1));
        if !early.is_zero() {
            return Err(early);
        }
        self.whole = Some(whole + EACH);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// security SBX-5
    #[test]
    fn sbx_5_a_burst_is_allowed_and_then_a_steady_few() {
        let begun = Instant::now();
        let mut starts = Starts::default();
        let mut check = |after: Duration, allowed: u32, pause: Duration| {
            for _ in 0..allowed {
                assert_eq!(starts.take(begun + after), Ok(()));
            }
            assert_eq!(starts.take(begun + after), Err(pause), "after {after:?}");
        };
        check(Duration::ZERO, AT_ONCE, EACH);
        check(EACH / 5, 0, EACH * 4 / 5);
        check(EACH, 1, EACH);
        check(EACH * 7 / 2, 2, EACH / 2);
        // What was not used is there later, and no more than that.
        check(EACH * 2 * AT_ONCE, AT_ONCE, EACH);
    }
}
