//! Who packs what a sandbox has written, and who wants the sandbox meanwhile: whoever wants it goes first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The packing and the wishes of all sessions.
#[derive(Default)]
pub(in crate::provider) struct Packing {
    sessions: Mutex<HashMap<String, Claims>>,
    /// Told when a sandbox comes to rest or is removed.
    pub(super) rested: Notify,
}

#[derive(Default)]
struct Claims {
    wanted: usize,
    packed: Option<CancellationToken>,
}

/// As long as it lives, the sandbox of its session is not packed.
pub(in crate::provider) struct Wanted<'a> {
    packing: &'a Packing,
    session: String,
}

/// The right to pack, until somebody wants the sandbox.
pub(super) struct Turn<'a> {
    packing: &'a Packing,
    session: String,
    /// Told when somebody does.
    pub(super) stop: CancellationToken,
}

impl Packing {
    /// Says that the session's sandbox is wanted: who packs it stops.
    pub(in crate::provider) fn want(&self, session: &str) -> Wanted<'_> {
        let mut sessions = self.lock();
        let claims = sessions.entry(session.to_owned()).or_default();
        claims.wanted += 1;
        if let Some(stop) = &claims.packed {
            stop.cancel();
        }
        Wanted {
            packing: self,
            session: session.to_owned(),
        }
    }

    /// Says that a sandbox came to rest, or is gone.
    pub(in crate::provider) fn changed(&self) {
        self.rested.notify_one();
    }

    /// The right to pack; `None` when the sandbox is wanted, or somebody packs it.
    pub(super) fn turn(&self, session: &str) -> Option<Turn<'_>> {
        let mut sessions = self.lock();
        let Entry::Vacant(free) = sessions.entry(session.to_owned()) else {
            return None;
        };
        let stop = CancellationToken::new();
        free.insert(Claims {
            wanted: 0,
            packed: Some(stop.clone()),
        });
        Some(Turn {
            packing: self,
            session: session.to_owned(),
            stop,
        })
    }

    fn change(&self, session: &str, change: impl FnOnce(&mut Claims)) {
        let mut sessions = self.lock();
        if let Entry::Occupied(mut found) = sessions.entry(session.to_owned()) {
            change(found.get_mut());
            if found.get().wanted == 0 && found.get().packed.is_none() {
                found.remove();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Claims>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.packing
            .change(&self.session, |claims| claims.wanted -= 1);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.packing
            .change(&self.session, |claims| claims.packed = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime EN-17: whoever wants a sandbox goes before who packs it.
    #[test]
    fn en_17_packing_gives_way() {
        let packing = Packing::default();
        let turn = packing.turn("a").expect("nobody wants it");
        assert!(packing.turn("a").is_none(), "one at a time");
        assert!(packing.turn("b").is_some());
        assert!(!turn.stop.is_cancelled());
        let wanted = packing.want("a");
        assert!(turn.stop.is_cancelled());
        drop(turn);
        assert!(packing.turn("a").is_none(), "it is wanted");
        let second = packing.want("a");
        drop(wanted);
        assert!(packing.turn("a").is_none(), "it is wanted still");
        drop(second);
        assert!(packing.turn("a").is_some());
        assert!(packing.lock().is_empty(), "nothing is left");
    }
}
