//! Where logs end, as far as this process knows: a guess that saves a round trip when it is right and is found out
//! by the database when it is wrong.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use manyhands_protocol::{SessionId, ThreadId};

use crate::entry::Entry;

/// So many sessions are remembered at most; beyond that all are forgotten, which costs each a round trip.
const SESSIONS: usize = 1 << 16;

/// The ends of the logs of sessions that a brain of this process writes to.
#[derive(Default)]
pub(crate) struct Ends {
    known: Mutex<HashMap<SessionId, End>>,
}

/// A log's last position, and the session's thread, which never changes.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) position: i64,
    pub(crate) thread: ThreadId,
}

impl Ends {
    pub(crate) fn of(&self, session: &SessionId) -> Option<End> {
        self.lock().get(session).cloned()
    }

    /// A brain has written.
    pub(crate) fn learn(&self, session: &SessionId, end: End) {
        let mut known = self.lock();
        if known.len() >= SESSIONS {
            known.clear();
        }
        known.insert(session.clone(), end);
    }

    /// Anybody has written, in this process.
    pub(crate) fn moved(&self, session: &SessionId, entries: &[Entry]) {
        if let (Some(end), Some(last)) = (self.lock().get_mut(session), entries.last()) {
            end.position = last.position;
        }
    }

    /// The brain rests or has lost the session.
    pub(crate) fn forget(&self, session: &SessionId) {
        self.lock().remove(session);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, End>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
