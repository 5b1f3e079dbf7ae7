//! How long a session is left to the place where its sandbox is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_protocol::SessionId;
use tokio::time::Instant;

/// So long a session that wants a brain is left to another place with a living brain.
const PATIENCE: Duration = Duration::from_secs(2);

/// Since when this instance has seen sessions that are left to other places. Its own measure: clocks of other machines
/// do not matter.
#[derive(Default)]
pub(crate) struct Patience {
    seen: Mutex<HashMap<SessionId, Instant>>,
}

impl Patience {
    /// Notes all sessions that are left to others at the moment; whatever is not among them is forgotten.
    pub(crate) fn see<'s>(&self, sessions: impl IntoIterator<Item = &'s SessionId>, now: Instant) {
        let mut seen = self.seen();
        let before = std::mem::take(&mut *seen);
        *seen = sessions
            .into_iter()
            .map(|session| {
                let since = before.get(session).copied().unwrap_or(now);
                (session.clone(), since)
            })
            .collect();
    }

    /// Whether a session was left to others for long enough.
    pub(crate) fn is_over(&self, session: &SessionId, now: Instant) -> bool {
        let seen = self.seen().get(session).copied();
        seen.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<SessionId, Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_left_to_its_place_for_two_seconds() {
        let (patience, session) = (Patience::default(), SessionId::generate());
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(!patience.is_over(&session, begun), "never seen");
        for seconds in 0..2 {
            patience.see([&session], after(seconds));
            assert!(!patience.is_over(&session, after(seconds)));
        }
        assert!(patience.is_over(&session, after(2)));
        patience.see([], after(3));
        patience.see([&session], after(4));
        assert!(
            !patience.is_over(&session, after(5)),
            "it was gone meanwhile"
        );
    }
}
