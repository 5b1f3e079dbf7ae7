//! The live end of session logs, within this process: committed entries and previews, to whoever listens.
//!
//! Entries are published after their commit and in position order: SQLite's writer publishes what it committed; on
//! PostgreSQL the writes of one session within this process take turns until they have published. What another
//! process appends is not heard here: a listener that must not miss it also reads the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_protocol::SessionId;
use manyhands_protocol::event::Preview;
use tokio::sync::broadcast;

use crate::entry::Entry;

/// What a listener hears, in order.
#[derive(Clone, Debug)]
pub enum TailItem {
    /// Entries of one committed append, in position order.
    Entries(Arc<[Entry]>),
    /// A preview of an event that is not complete yet. Never stored.
    Preview(Arc<Preview>),
    /// The session was deleted; nothing follows. The text is the rendered `session.deleted` event.
    Deleted(Arc<str>),
    /// The listener was too slow and items were dropped: entries must be read from the store, and previews of
    /// events that had started must not go on (runtime ST-16).
    Lagged,
}

/// How many items a listener may be behind before it is told [`TailItem::Lagged`].
const BACKLOG: usize = 128;

/// The listened-to sessions of this process.
#[derive(Default)]
pub(crate) struct Hub {
    sessions: Mutex<HashMap<SessionId, broadcast::Sender<TailItem>>>,
}

impl Hub {
    pub(crate) fn subscribe(self: &Arc<Self>, session: &SessionId) -> Subscription {
        let receiver = self
            .sessions()
            .entry(session.clone())
            .or_insert_with(|| broadcast::Sender::new(BACKLOG))
            .subscribe();
        Subscription {
            receiver: Some(receiver),
            session: session.clone(),
            hub: Arc::clone(self),
        }
    }

    pub(crate) fn has_listeners(&self, session: &SessionId) -> bool {
        self.sessions().contains_key(session)
    }

    /// Must not be called with anything but what is committed, or was never to be stored.
    pub(crate) fn publish(&self, session: &SessionId, item: impl FnOnce() -> TailItem) {
        if let Some(sender) = self.sessions().get(session) {
            // Listeners that have just gone need nothing.
            let _ = sender.send(item());
        }
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.sessions().clear();
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, broadcast::Sender<TailItem>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener's end. Attached before it is returned: what commits later is heard (runtime ST-2).
pub struct Subscription {
    /// Empty only while it is dropped.
    receiver: Option<broadcast::Receiver<TailItem>>,
    session: SessionId,
    hub: Arc<Hub>,
}

impl Subscription {
    /// The next item; `None` when the store is closing. Safe to cancel: no item is lost.
    pub async fn recv(&mut self) -> Option<TailItem> {
        match self.receiver.as_mut()?.recv().await {
            Ok(item) => Some(item),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(TailItem::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Subscription {
    /// The last listener of a session takes its channel along.
    fn drop(&mut self) {
        let mut sessions = self.hub.sessions();
        self.receiver = None;
        let unheard = sessions
            .get(&self.session)
            .is_some_and(|sender| sender.receiver_count() == 0);
        if unheard {
            sessions.remove(&self.session);
        }
    }
}
