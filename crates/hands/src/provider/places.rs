//! Where the sandboxes of sessions are in this process: one place each, and whoever is at it starts, finds or ends the
//! sandbox. Other servers of the data directory are kept away by the lock of the session's folder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::live::{Body, Live};
use crate::Error;

/// All places that are in use.
pub(super) struct Places<B>(Mutex<HashMap<String, Arc<Place<B>>>>);

/// A session's place.
pub(super) struct Place<B>(pub(super) tokio::sync::Mutex<Option<Arc<Live<B>>>>);

impl<B> Default for Places<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B: Body> Places<B> {
    /// The place of a session.
    pub(super) fn at(&self, session: &str) -> Result<Arc<Place<B>>, Error> {
        if !is_name(session) {
            return Err(Error::Refused(format!("{session:?} is no session's id")));
        }
        let empty = || Arc::new(Place(tokio::sync::Mutex::new(None)));
        Ok(Arc::clone(
            self.lock().entry(session.to_owned()).or_insert_with(empty),
        ))
    }

    /// Forgets a place that nobody else is at and where nothing lives.
    pub(super) fn vacate(&self, session: &str, place: &Arc<Place<B>>) {
        let mut places = self.lock();
        // The table's and the caller's.
        if Arc::strong_count(place) == 2 && place.0.try_lock().is_ok_and(|at| at.is_none()) {
            places.remove(session);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Place<B>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The live sandbox in a place, when this server has it for this epoch already.
pub(super) fn owned<B: Body>(place: &Option<Arc<Live<B>>>, epoch: i64) -> Option<Arc<Live<B>>> {
    let live = place.as_ref()?;
    (live.is_up() && live.owner() == epoch).then(|| Arc::clone(live))
}

/// Names are used as file names: one plain segment.
pub(super) fn is_name(session: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=128).contains(&session.len()) && session.bytes().all(plain)
}
