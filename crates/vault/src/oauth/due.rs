//! When a token is refreshed. Pure.

use std::time::Duration;

use manyhands_protocol::Timestamp;

/// The earliest that a token is refreshed before its end, and the latest.
const EARLY: Duration = Duration::from_secs(120);
const LATE: Duration = Duration::from_secs(60);

/// Whether a token has to be refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It is good, as far as is known.
    Never,
    /// It is good, and ends soon.
    Soon,
    /// It has ended.
    Now,
}

/// Whether a token that is there since `since` has to be refreshed at `now`. A tenth of its life before its end, but no more
/// than one to two minutes: where in between, `dice` says anew each time, so that not all servers come at once. A life that is
/// not known has no end.
pub(super) fn due(
    expires_at: Option<Timestamp>,
    since: Timestamp,
    now: Timestamp,
    dice: u8,
) -> Due {
    let Some(end) = expires_at else {
        return Due::Never;
    };
    let left = end.millis_since(now);
    if left <= 0 {
        return Due::Now;
    }
    let millis = |duration: Duration| duration.as_millis() as i64;
    let spread = (millis(EARLY) - millis(LATE)) * i64::from(dice) / i64::from(u8::MAX);
    let margin = (millis(LATE) + spread).min(end.millis_since(since) / 10);
    if left <= margin {
        Due::Soon
    } else {
        Due::Never
    }
}

#[cfg(test)]
mod tests;
