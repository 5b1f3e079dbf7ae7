//! What each wake is doing and when it last got on: what the watchdog judges by, and what `why` tells.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_protocol::{EventId, SessionId, Timestamp};
use tokio::time::Instant;

/// What a wake is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Waits for a place among the wakes at work.
    Queueing,
    /// Reads, decides and writes: nothing that anybody has to wait for.
    Working,
    /// Waits for the model's answer.
    Asking,
    /// Waits for the model's summary of the conversation.
    Compacting,
    /// Waits for a word whether calls may run.
    Judging,
    /// Waits for MCP servers to list their tools.
    Listing,
    /// Waits for a sandbox to start.
    Provisioning,
    /// Waits for the packages of its environment, which are as far as this says.
    Furnishing(String),
    /// Waits for the clone of the repository with this URL.
    Cloning(String),
    /// Runs these calls.
    Running(Vec<EventId>),
    /// Waits until a failed request is tried again.
    Waiting {
        /// When.
        until: Timestamp,
    },
}

impl Doing {
    /// In words that fit behind "no progress while". Equal texts are the same failure (security LOG-4).
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Queueing => "waiting for a place",
            Self::Working => "reading and writing",
            Self::Asking => "asking the model",
            Self::Compacting => "asking the model for a summary",
            Self::Judging => "judging calls",
            Self::Listing => "listing the tools of MCP servers",
            Self::Provisioning => "starting a sandbox",
            Self::Furnishing(_) => "installing packages",
            Self::Cloning(_) => "cloning repositories",
            Self::Running(_) => "running tools",
            Self::Waiting { .. } => "waiting for the next try",
        }
    }
}

/// One wake's activity. Written by the wake, read by others.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    doing: Doing,
    since: Timestamp,
    progress: Instant,
    /// How long it may go without progress; `None`: for ever.
    allowance: Option<Duration>,
}

/// A look at an activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// What is done.
    pub(crate) doing: Doing,
    /// Since when.
    pub(crate) since: Timestamp,
    /// How long it may still go without progress, if there is a limit.
    pub(crate) left: Option<Duration>,
}

impl Activity {
    /// A wake that waits for its place.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(State {
            doing: Doing::Queueing,
            since: now,
            progress: Instant::now(),
            allowance: None,
        }))
    }

    /// Something else is done from now on, which may go without progress for `allowance`.
    pub(crate) fn enter(&self, doing: Doing, allowance: Option<Duration>, now: Timestamp) {
        let mut state = self.lock();
        if state.doing != doing {
            state.since = now;
        }
        state.doing = doing;
        state.progress = Instant::now();
        state.allowance = allowance;
    }

    /// It got on with what it does, which is now better told so.
    pub(crate) fn tell(&self, doing: Doing) {
        let mut state = self.lock();
        state.doing = doing;
        state.progress = Instant::now();
    }

    /// It got on.
    pub(crate) fn progress(&self) {
        self.lock().progress = Instant::now();
    }

    /// How it is now.
    pub(crate) fn look(&self) -> Look {
        self.look_at(Instant::now())
    }

    fn look_at(&self, now: Instant) -> Look {
        let state = self.lock();
        let silent = now.saturating_duration_since(state.progress);
        Look {
            doing: state.doing.clone(),
            since: state.since,
            left: state
                .allowance
                .map(|allowance| allowance.saturating_sub(silent)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The activities of the wakes of this process, by session. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Activities(Arc<Mutex<HashMap<SessionId, Arc<Activity>>>>);

impl Activities {
    /// A wake begins.
    pub(crate) fn insert(&self, session: SessionId, activity: Arc<Activity>) {
        self.lock().insert(session, activity);
    }

    /// A session's wake has ended.
    pub(crate) fn remove(&self, session: &SessionId) {
        self.lock().remove(session);
    }

    /// What the wake of a session is doing; `None` when this process has none.
    pub(crate) fn look(&self, session: &SessionId) -> Option<Look> {
        let activity = self.lock().get(session).map(Arc::clone);
        activity.map(|activity| activity.look())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Activity>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i_8_an_activity_stalls_when_nothing_comes_for_as_long_as_it_may() {
        let at = Timestamp::from_micros;
        let minute = Duration::from_secs(60);
        let activity = Activity::new(at(1));
        let left = |later: Duration| activity.look_at(Instant::now() + later).left;
        assert_eq!(left(1440 * minute), None, "a place may be waited for");

        activity.enter(Doing::Asking, Some(minute), at(2));
        assert!(left(minute / 2).unwrap() > Duration::ZERO);
        assert_eq!(left(minute), Some(Duration::ZERO));

        activity.lock().progress -= 2 * minute;
        assert_eq!(left(Duration::ZERO), Some(Duration::ZERO));
        activity.progress();
        assert!(left(Duration::ZERO).unwrap() > minute / 2);

        activity.lock().progress -= 2 * minute;
        activity.enter(Doing::Asking, Some(minute), at(3));
        let look = activity.look();
        assert_eq!(look.since, at(2), "still the same");
        assert!(look.left.unwrap() > minute / 2, "and from the beginning");
        activity.lock().progress -= 2 * minute;
        activity.tell(Doing::Furnishing("step 1".to_owned()));
        let look = activity.look();
        assert_eq!(look.since, at(2), "a step of the same");
        assert!(look.left.unwrap() > minute / 2, "which got on");
        activity.enter(Doing::Working, Some(minute), at(4));
        assert_eq!(activity.look().since, at(4));
    }
}
