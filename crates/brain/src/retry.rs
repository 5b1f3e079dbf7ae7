//! When to ask the model again after a failure (pure; security MODEL-2).

use std::time::Duration;

use manyhands_protocol::Timestamp;

use crate::config::Retries;
use crate::record::Retry;

/// The next retry after a failure at `now`, or `None` when the request is given up. `hint` is the provider's wish:
/// obeyed, but never beyond the time that is left. `jitter` is a random number from 0 to 1.
pub(crate) fn next(
    before: Option<Retry>,
    now: Timestamp,
    hint: Option<Duration>,
    retries: Retries,
    jitter: f64,
) -> Option<Retry> {
    let attempt = before.map_or(0, |retry| retry.attempt) + 1;
    let first_at = before.map_or(now.as_micros(), |retry| retry.first_at);
    if attempt > retries.attempts {
        return None;
    }
    let doubled = retries
        .base
        .saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX))
        .min(retries.longest);
    let own = doubled.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    let wait = own.max(hint.unwrap_or_default());
    let until = now
        .as_micros()
        .saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
    let last =
        first_at.saturating_add(i64::try_from(retries.total.as_micros()).unwrap_or(i64::MAX));
    (until <= last).then_some(Retry {
        attempt,
        first_at,
        until,
    })
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
        let before = |attempt, seconds_ago: i64| {
            Some(Retry {
                attempt,
                first_at: now.as_micros() - seconds_ago * 1_000_000,
                until: now.as_micros(),
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
        check(next(None, now, None, retries, 1.0), now, Some((1, 1.0)));
        check(next(None, now, None, retries, 0.0), now, Some((1, 0.5)));
        check(
            next(before(1, 1), now, None, retries, 1.0),
            now,
            Some((2, 2.0)),
        );
        check(
            next(before(2, 1), now, None, retries, 1.0),
            now,
            Some((3, 3.0)),
        );
        check(next(before(4, 1), now, None, retries, 1.0), now, None);
        check(next(None, now, hint(7), retries, 1.0), now, Some((1, 7.0)));
        check(next(None, now, hint(0), retries, 1.0), now, Some((1, 1.0)));
        check(next(None, now, hint(61), retries, 1.0), now, None);
        check(next(before(1, 59), now, None, retries, 1.0), now, None);
        check(
            next(before(1, 58), now, None, retries, 1.0),
            now,
            Some((2, 2.0)),
        );
    }
}
