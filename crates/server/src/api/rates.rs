//! Rate limits of workspaces: how many requests a minute, of two kinds (runtime RL-1, security API-6). Held per server process;
//! off unless the operator switches them on (runtime RL-2).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use manyhands_protocol::{Timestamp, WorkspaceId};
use manyhands_store::replica::Uptime;

use crate::api::error::ApiError;
use crate::config::Rates as Settings;

/// Up to so many workspaces are kept in mind before those that rest are forgotten.
const MANY: usize = 1024;

/// Which of the two limits a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It makes something new.
    Create,
    /// Anything else.
    Other,
}

/// What a workspace has left after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    limit: u32,
    remaining: u32,
    /// Until the whole limit is there again.
    full_in: Duration,
}

impl Left {
    /// Shows it as the hosted service does: `anthropic-ratelimit-requests-limit`, `-remaining`, and `-reset`, an instant.
    pub(crate) fn show(&self, now: Timestamp, headers: &mut HeaderMap) {
        let micros = i64::try_from(self.full_in.as_micros()).unwrap_or(i64::MAX);
        let reset = Timestamp::from_micros(now.as_micros().saturating_add(micros));
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        if let Ok(reset) = HeaderValue::from_str(&reset.to_string()) {
            headers.insert(RESET, reset);
        }
    }
}

const LIMIT: HeaderName = HeaderName::from_static("anthropic-ratelimit-requests-limit");
const REMAINING: HeaderName = HeaderName::from_static("anthropic-ratelimit-requests-remaining");
const RESET: HeaderName = HeaderName::from_static("anthropic-ratelimit-requests-reset");

/// Goes on evenly, whatever is done to the wall clock.
#[derive(Clone, Debug)]
struct Steady(Uptime);

impl Clock for Steady {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.now().into()
    }
}

/// Both limits of all workspaces.
#[derive(Debug)]
pub(crate) struct Rates {
    creates: Bucket,
    others: Bucket,
}

impl Rates {
    /// These limits, from now on.
    pub(crate) fn new(settings: Settings, uptime: Uptime) -> Self {
        let clock = Steady(uptime);
        Self {
            creates: Bucket::new(settings.creates, clock.clone()),
            others: Bucket::new(settings.reads, clock),
        }
    }

    /// Takes one request of a workspace's limit: what is left, and the refusal when nothing was.
    pub(crate) fn take(&self, workspace: &WorkspaceId, kind: Kind) -> (Left, Result<(), ApiError>) {
        match kind {
            Kind::Create => self.creates.take(workspace),
            Kind::Other => self.others.take(workspace),
        }
    }
}

type Limiter =
    RateLimiter<WorkspaceId, HashMapStateStore<WorkspaceId>, Steady, StateInformationMiddleware>;

#[derive(Debug)]
struct Bucket {
    quota: Quota,
    limiter: Arc<Limiter>,
    clock: Steady,
    /// From this many workspaces on those that rest are forgotten.
    many: AtomicUsize,
}

impl Bucket {
    fn new(per_minute: NonZeroU32, clock: Steady) -> Self {
        let quota = Quota::per_minute(per_minute);
        let limiter = RateLimiter::hashmap_with_clock(quota, clock.clone());
        Self {
            quota,
            limiter: Arc::new(limiter.with_middleware()),
            clock,
            many: AtomicUsize::new(MANY),
        }
    }

    fn take(&self, workspace: &WorkspaceId) -> (Left, Result<(), ApiError>) {
        let limit = self.quota.burst_size().get();
        let left = |remaining: u32| Left {
            limit,
            remaining,
            full_in: self.quota.replenish_interval() * (limit - remaining.min(limit)),
        };
        match self.limiter.check_key(workspace) {
            Ok(snapshot) => {
                self.forget_resting();
                (left(snapshot.remaining_burst_capacity()), Ok(()))
            }
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                // Header values are whole seconds: who waits one of them too few is refused again.
                let wait = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
                metrics::counter!("manyhands_refused_total", "reason" => "rate_limit").increment(1);
                let message = format!(
                    "the workspace has made its {limit} requests of this kind in a minute; wait as long as retry-after says"
                );
                (left(0), Err(ApiError::rate_limited(message, wait)))
            }
        }
    }

    /// Workspaces with a full limit are as good as unknown ones. Looked for when there are twice as many as the last time.
    fn forget_resting(&self) {
        if self.limiter.len() < self.many.load(Ordering::Relaxed) {
            return;
        }
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        let many = (2 * self.limiter.len()).max(MANY);
        self.many.store(many, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use manyhands_testkit::clock::TestClock;

    use super::*;

    fn rates(creates: u32, reads: u32) -> (Rates, TestClock) {
        let clock = TestClock::default();
        let number = |number| NonZeroU32::new(number).expect("not zero");
        let settings = Settings {
            creates: number(creates),
            reads: number(reads),
        };
        let steady = clock.clone();
        let uptime = Uptime::new(move || steady.elapsed());
        (Rates::new(settings, uptime), clock)
    }

    /// runtime RL-1, security API-6
    #[test]
    fn rl_1_a_minutes_requests_and_no_more_for_each_workspace_and_kind() {
        let (rates, clock) = rates(3, 60);
        let (one, two) = (WorkspaceId::generate(), WorkspaceId::generate());
        for remaining in [2, 1, 0] {
            let (left, taken) = rates.take(&one, Kind::Create);
            assert_eq!((left.remaining, left.limit, taken), (remaining, 3, Ok(())));
        }
        let (left, refused) = rates.take(&one, Kind::Create);
        assert_eq!(left.full_in, Duration::from_secs(60));
        let mut headers = HeaderMap::new();
        left.show(Timestamp::from_micros(0), &mut headers);
        assert_eq!(headers[RESET], "1970-01-01T00:01:00.000000Z");
        assert_eq!(
            (&headers[LIMIT], &headers[REMAINING]),
            (&HeaderValue::from(3), &HeaderValue::from(0))
        );
        let refused = refused.expect_err("the fourth");
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(20)));
        assert!(
            rates.take(&two, Kind::Create).1.is_ok(),
            "another workspace"
        );
        assert!(rates.take(&one, Kind::Other).1.is_ok(), "another kind");
        clock.advance(Duration::from_millis(19_999));
        let refused = rates.take(&one, Kind::Create).1.expect_err("too early");
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
        clock.advance(Duration::from_millis(1));
        assert!(rates.take(&one, Kind::Create).1.is_ok());
        assert!(rates.take(&one, Kind::Create).1.is_err());
    }

    /// security I10: who rests costs no memory.
    #[test]
    fn workspaces_that_rest_are_forgotten() {
        let (rates, clock) = rates(60, 60);
        for _ in 0..MANY - 1 {
            let (_, taken) = rates.take(&WorkspaceId::generate(), Kind::Other);
            taken.expect("the first");
        }
        assert_eq!(rates.others.limiter.len(), MANY - 1);
        clock.advance(Duration::from_secs(120));
        for _ in 0..2 {
            let (_, taken) = rates.take(&WorkspaceId::generate(), Kind::Other);
            taken.expect("the first");
        }
        assert!(
            rates.others.limiter.len() <= 3,
            "{}",
            rates.others.limiter.len()
        );
    }
}
