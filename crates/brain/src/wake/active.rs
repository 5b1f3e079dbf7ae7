//! The time that a session runs, kept by a wake as the store keeps it (runtime US-4).

use manyhands_protocol::Timestamp;
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Entry, EntryKind, SessionRecord, running_millis};

/// The active time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    millis: i64,
    since: Option<Timestamp>,
    /// All entries up to here are counted.
    position: i64,
}

impl Active {
    /// As it was when the row was read.
    pub(super) fn of(record: &SessionRecord) -> Self {
        Self {
            millis: record.active_millis,
            since: record.running_since,
            position: record.last_position,
        }
    }

    /// Milliseconds until `now`.
    pub(super) fn until(self, now: Timestamp) -> i64 {
        self.millis + self.since.map_or(0, |since| running_millis(since, now))
    }

    /// Something was written at `now`; the session has this status from then on, when it is another one.
    fn write(&mut self, status: Option<SessionStatus>, now: Timestamp) {
        self.millis = self.until(now);
        self.since = match status {
            Some(SessionStatus::Running) => Some(now),
            Some(_) => None,
            None => self.since.map(|_| now),
        };
    }

    /// The wake wrote, up to this entry.
    pub(super) fn wrote(&mut self, status: Option<SessionStatus>, last: &Entry) {
        self.position = last.position;
        self.write(status, last.created_at);
    }

    /// The wake has shown so many milliseconds: no less is kept.
    pub(super) fn showed(&mut self, millis: Option<i64>) {
        self.millis = self.millis.max(millis.unwrap_or(0));
    }

    /// Takes an entry of the log: a client may have started a turn beside the wake.
    pub(super) fn hear(&mut self, entry: &Entry) {
        if entry.position <= self.position {
            return;
        }
        self.position = entry.position;
        let status = match (entry.kind, &*entry.type_name) {
            (EntryKind::Event, "session.status_running") => Some(SessionStatus::Running),
            (EntryKind::Event, "session.status_idle") => Some(SessionStatus::Idle),
            (EntryKind::Event, "session.status_rescheduled") => Some(SessionStatus::Rescheduling),
            (EntryKind::Event, "session.status_terminated") => Some(SessionStatus::Terminated),
            _ => None,
        };
        self.write(status, entry.created_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn us_4_running_time_is_no_less_than_was_shown() {
        #[track_caller]
        fn check(shown: Option<i64>, then: i64) {
            let at = Timestamp::from_micros;
            let mut active = Active {
                millis: 7,
                since: Some(at(1_000_000)),
                position: 0,
            };
            // Set back by a second between what was shown and the write.
            active.write(Some(SessionStatus::Running), at(0));
            active.showed(shown);
            assert_eq!(active.until(at(2_000)), then);
        }
        check(None, 9);
        check(Some(6), 9);
        check(Some(20), 22);
    }

    #[test]
    fn us_4_running_time_is_neither_negative_nor_a_year_whatever_the_clock_does() {
        const SECOND: i64 = 1_000_000;
        const DAY: i64 = 86_400 * SECOND;
        let at = |micros: i64| Timestamp::from_micros(100 * DAY + micros);
        #[track_caller]
        fn check(writes: &[(i64, Option<SessionStatus>)], now: i64, millis: i64) {
            let at = |micros: i64| Timestamp::from_micros(100 * DAY + micros);
            let mut active = Active {
                millis: 0,
                since: None,
                position: 0,
            };
            for (micros, status) in writes {
                active.write(*status, at(*micros));
            }
            assert_eq!(active.until(at(now)), millis);
        }
        let (runs, rests) = (Some(SessionStatus::Running), Some(SessionStatus::Idle));
        check(&[(0, runs)], 3 * SECOND, 3_000);
        check(
            &[(0, runs), (SECOND, None), (2 * SECOND, rests)],
            DAY,
            2_000,
        );
        check(&[(0, runs), (SECOND, runs)], 2 * SECOND, 2_000);
        check(&[(0, rests), (SECOND, None)], 2 * SECOND, 0);
        // Set back by a day, and the turn goes on.
        check(
            &[(0, runs), (SECOND, None), (SECOND - DAY, None)],
            3 * SECOND - DAY,
            3_000,
        );
        check(&[(0, runs), (-DAY, rests)], SECOND, 0);
        // Set forward by a year: an hour at most is counted in its place.
        check(
            &[(0, runs), (SECOND, None), (365 * DAY, None)],
            365 * DAY + SECOND,
            3_602_000,
        );
        assert_eq!(running_millis(at(0), at(365 * DAY)), 3_600_000);
    }
}
