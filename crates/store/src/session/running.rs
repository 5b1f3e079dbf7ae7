//! How long a session runs: counted from write to write, in the statement that writes.

use manyhands_protocol::Timestamp;

/// The longest time between two writes of a running session that counts as running, in microseconds: an hour, beyond
/// all limits of requests and calls. Longer ones are a clock that was set forward, or a server that was down.
macro_rules! longest_stretch {
    () => {
        3_600_000_000
    };
}
pub(crate) use longest_stretch;

/// Milliseconds that count as running between two writes of a running session: none when the clock was set back in
/// between, an hour at most (runtime US-4).
pub fn running_millis(since: Timestamp, now: Timestamp) -> i64 {
    now.millis_since(since).min(longest_stretch!() / 1000)
}

/// Milliseconds that a row has run in all, at this moment ([`running_millis`]).
macro_rules! active_until {
    ($now:literal) => {
        concat!(
            "active_millis + CASE
                 WHEN running_since IS NULL OR running_since >= ",
            $now,
            " THEN 0
                 WHEN ",
            $now,
            " - running_since > ",
            $crate::session::longest_stretch!(),
            " THEN ",
            $crate::session::longest_stretch!(),
            " / 1000
                 ELSE (",
            $now,
            " - running_since) / 1000 END"
        )
    };
}
pub(crate) use active_until;

/// How an append moves a session's row: $1 is the session, $2 the number of entries, $3 the time, $4 the new status
/// or null, $5 the new usage or null, $6 the running time that was shown or null; where many are moved at once, columns
/// take their places. Only `running` is counted, to the millisecond and from write to write, and never to less than
/// was shown (runtime US-4).
macro_rules! transition {
    () => {
        transition!("$2", "$3", "$4", "$5", "$6")
    };
    ($count:literal, $now:literal, $status:literal, $usage:literal, $shown:literal) => {
        concat!(
            "last_position = last_position + ",
            $count,
            ",
             updated_at = ",
            $now,
            ",
             active_millis = CASE WHEN ",
            $shown,
            " > ",
            $crate::session::active_until!($now),
            " THEN ",
            $shown,
            " ELSE ",
            $crate::session::active_until!($now),
            " END,
             running_since = CASE
                 WHEN ",
            $status,
            " <> 'running' OR ",
            $status,
            " IS NULL AND running_since IS NULL THEN NULL
                 WHEN running_since < ",
            $now,
            " AND ",
            $now,
            " - running_since <= ",
            $crate::session::longest_stretch!(),
            "
                 THEN ",
            $now,
            " - (",
            $now,
            " - running_since) % 1000
                 ELSE ",
            $now,
            " END,
             terminated_at = CASE
                 WHEN ",
            $status,
            " = 'terminated' THEN COALESCE(terminated_at, ",
            $now,
            ")
                 ELSE terminated_at END,
             status = COALESCE(",
            $status,
            ", status),
             usage = COALESCE(",
            $usage,
            ", usage)"
        )
    };
}
pub(crate) use transition;
