//! Folded transcripts of sessions that went to rest: bounded, and never needed (architecture "Replay").

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use manyhands_protocol::SessionId;

use crate::replay::Transcript;

/// A transcript of a session is right for ever, because entries are immutable: it is folded up to its position.
pub(crate) struct Cache {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: HashMap<SessionId, (usize, Transcript)>,
    /// Oldest first; a session may be in it more than once, and only its last place counts.
    order: VecDeque<SessionId>,
    bytes: usize,
}

impl Cache {
    /// A cache of at most so many bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
        }
    }

    /// Takes a session's transcript out.
    pub(crate) fn take(&self, session: &SessionId) -> Option<Transcript> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, transcript) = state.kept.remove(session)?;
        state.bytes -= bytes;
        state.order.retain(|kept| kept != session);
        Some(transcript)
    }

    /// Keeps a session's transcript, at the cost of the oldest ones.
    pub(crate) fn put(&self, session: SessionId, transcript: Transcript) {
        let bytes = transcript.bytes();
        if bytes > self.capacity {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((old, _)) = state.kept.remove(&session) {
            state.bytes -= old;
            state.order.retain(|kept| *kept != session);
        }
        state.bytes += bytes;
        state.kept.insert(session.clone(), (bytes, transcript));
        state.order.push_back(session);
        while state.bytes > self.capacity {
            let Some(oldest) = state.order.pop_front() else {
                break;
            };
            if let Some((old, _)) = state.kept.remove(&oldest) {
                state.bytes -= old;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_transcripts_go_first() {
        let one = Transcript::default().bytes();
        let cache = Cache::new(2 * one);
        let ids: Vec<SessionId> = (0..3).map(|_| SessionId::generate()).collect();
        for id in &ids {
            cache.put(id.clone(), Transcript::default());
        }
        let kept: Vec<bool> = ids.iter().map(|id| cache.take(id).is_some()).collect();
        assert_eq!(kept, [false, true, true]);
        assert!(cache.take(&ids[2]).is_none(), "taken out");
        let none = Cache::new(0);
        none.put(ids[0].clone(), Transcript::default());
        assert!(none.take(&ids[0]).is_none(), "switched off");
    }
}
