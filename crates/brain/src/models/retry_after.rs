//! Providers' hints how long to wait: untrusted, in several legal forms (security MODEL-2).

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use manyhands_protocol::Timestamp;
use reqwest::header::HeaderMap;

/// A longer hint counts as this long.
const LONGEST: Duration = Duration::from_secs(3600);

/// The wait that `retry-after-ms` or `retry-after` (seconds, fractions of them, or an HTTP date) asks for.
/// `None` when there is no hint or it makes no sense.
pub(super) fn hint(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    if let Some(wait) = text("retry-after-ms").and_then(|millis| seconds(millis, 1000.0)) {
        return Some(wait);
    }
    let value = text("retry-after")?;
    seconds(value, 1.0).or_else(|| date(value, now))
}

fn seconds(text: &str, per_second: f64) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    let wait = (number / per_second).min(LONGEST.as_secs_f64());
    Some(Duration::from_secs_f64(wait))
}

fn date(text: &str, now: Timestamp) -> Option<Duration> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let at = PARSER.parse_timestamp(text).ok()?;
    let wait = at.as_microsecond().saturating_sub(now.as_micros());
    Some(Duration::from_micros(u64::try_from(wait).unwrap_or(0)).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_2_wait_hints_in_all_legal_forms() {
        let now = Timestamp::parse("2026-11-21T12:00:00Z").unwrap();
        #[track_caller]
        fn check(now: Timestamp, headers: &[(&'static str, &'static str)], millis: Option<u64>) {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect::<HeaderMap>();
            assert_eq!(
                hint(&headers, now),
                millis.map(Duration::from_millis),
                "{headers:?}"
            );
        }
        check(now, &[], None);
        check(now, &[("retry-after", "3")], Some(3000));
        check(now, &[("retry-after", "0")], Some(0));
        check(now, &[("retry-after", "1.5")], Some(1500));
        check(now, &[("retry-after", "-1")], None);
        check(now, &[("retry-after", "NaN")], None);
        check(now, &[("retry-after", "1e300")], Some(3_600_000));
        check(now, &[("retry-after", "soon")], None);
        check(now, &[("retry-after-ms", "250")], Some(250));
        check(
            now,
            &[("retry-after-ms", "250"), ("retry-after", "9")],
            Some(250),
        );
        check(
            now,
            &[("retry-after-ms", "x"), ("retry-after", "9")],
            Some(9000),
        );
        check(
            now,
            &[("retry-after", "Sat, 21 Nov 2026 12:00:30 GMT")],
            Some(30_000),
        );
        check(
            now,
            &[("retry-after", "Sat, 21 Nov 2026 11:00:00 GMT")],
            Some(0),
        );
        check(
            now,
            &[("retry-after", "Fri, 21 Nov 2036 12:00:00 GMT")],
            Some(3_600_000),
        );
    }
}
