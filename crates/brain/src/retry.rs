//! When to ask the model again after a failure (pure; security MODEL-2).

use std::time::Duration;

use manyhands_protocol::Timestamp;

use crate::config::Retries;
use crate::record::Retry;

/// The next retry after a failure at `now`, or `None` when the request is given up. `took` is how long the request was
/// under way: time is added up, so that a wall clock that jumps neither ends the retries nor prolongs them. `hint` is
/// the provider's wish: obeyed, but never beyond the time that is left. `jitter` is a random number from 0 to 1.
pub(crate) fn next(
    before: Option<Retry>,
    now: Timestamp,
    took: Duration,
    hint: Option<Duration>,
    retries: Retries,
    jitter: f64,
) -> Option<Retry> {
    let attempt = before.map_or(0, |retry| retry.attempt) + 1;
    let spent = before.map_or(0, |retry| {
        let waited = retry.spent.saturating_add(retry.wait);
        waited.saturating_add(micros(took))
    });
    if attempt > retries.attempts {
        return None;
    }
    let doubled = retries
        .base
        .saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX))
        .min(retries.longest);
    let own = doubled.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    let wait = micros(own.max(hint.unwrap_or_default()));
    (spent.saturating_add(wait) <= micros(retries.total)).then_some(Retry {
        attempt,
        until: now.as_micros().saturating_add(wait),
        wait,
        spent,
    })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_2_waits_double_with_jitter_within_count_and_time() {
        let retries = Retries {
            attempts: 4,
            total: Duration::from_secs(60),
            base: Duration::from_secs(1),
            longest: Duration::from_secs(3),
        };
        let now = Timestamp::from_micros(1_000_000_000);
        // The last request took a second; the rest was waited.
        let took = Duration::from_secs(1);
        let before = |attempt, seconds: i64| {
            Some(Retry {
                attempt,
                until: now.as_micros(),
                wait: (seconds - 1) * 1_000_000,
                spent: 0,
            })
        };
        #[track_caller]
        fn check(found: Option<Retry>, now: Timestamp, expected: Option<(u32, f64)>) {
            let found = found.map(|retry| {
                let wait = retry.until - now.as_micros();
                (retry.attempt, wait as f64 / 1e6)
            });
            assert_eq!(found, expected);
        }
        let hint = |seconds| Some(Duration::from_secs(seconds));
        check(
            next(None, now, took, None, retries, 1.0),
            now,
            Some((1, 1.0)),
        );
        check(
            next(None, now, took, None, retries, 0.0),
            now,
            Some((1, 0.5)),
        );
        check(
            next(before(1, 1), now, took, None, retries, 1.0),
            now,
            Some((2, 2.0)),
        );
        check(
            next(before(2, 1), now, took, None, retries, 1.0),
            now,
            Some((3, 3.0)),
        );
        check(next(before(4, 1), now, took, None, retries, 1.0), now, None);
        check(
            next(None, now, took, hint(7), retries, 1.0),
            now,
            Some((1, 7.0)),
        );
        check(
            next(None, now, took, hint(0), retries, 1.0),
            now,
            Some((1, 1.0)),
        );
        check(next(None, now, took, hint(61), retries, 1.0), now, None);
        check(
            next(before(1, 59), now, took, None, retries, 1.0),
            now,
            None,
        );
        check(
            next(before(1, 58), now, took, None, retries, 1.0),
            now,
            Some((2, 2.0)),
        );
    }

    /// security LEASE-1: a wait is as long as it was meant, however the clock was set since.
    #[test]
    fn model_2_a_clock_that_jumps_neither_prolongs_a_wait_nor_ends_the_retries() {
        const DAY: i64 = 86_400_000_000;
        let retries = Retries::default();
        let second = Duration::from_secs(1);
        let at = Timestamp::from_micros;
        let first = next(None, at(10 * DAY), second, None, retries, 1.0).unwrap();
        for (now, left) in [
            (10 * DAY, 1_000_000),
            (10 * DAY + 400_000, 600_000),
            (10 * DAY + 1_000_000, 0),
            (9 * DAY, 1_000_000),
            (375 * DAY, 0),
            (i64::MIN, 1_000_000),
            (i64::MAX, 0),
        ] {
            assert_eq!(first.left(at(now)), Duration::from_micros(left), "{now}");
        }
        for now in [9 * DAY, 10 * DAY, 375 * DAY] {
            let second = next(Some(first), at(now), second, None, retries, 1.0).unwrap();
            assert_eq!(
                (second.attempt, second.spent, second.wait),
                (2, 2_000_000, 2_000_000)
            );
            assert_eq!(second.until, now + 2_000_000);
        }
        let slow = Some(Retry {
            spent: 14 * 60_000_000,
            ..first
        });
        assert_eq!(
            next(slow, at(0), 60 * second, None, retries, 1.0),
            None,
            "15 minutes in all"
        );
    }
}
