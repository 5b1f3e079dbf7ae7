//! The live end of session logs, within this process: committed entries and previews, to whoever listens.
//!
//! Entries are published after their commit and in position order: SQLite's writer publishes what it committed; on
//! PostgreSQL the writes of one session within this process take turns until they have published. What another
//! process appends is not heard here: a listener that must not miss it also reads the log.

mod ring;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_protocol::SessionId;
use manyhands_protocol::event::Preview;
use tokio::sync::Notify;

use crate::entry::Entry;
use ring::{Next, Ring};

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
    sessions: Mutex<HashMap<SessionId, Arc<Channel>>>,
}

impl Hub {
    pub(crate) fn subscribe(self: &Arc<Self>, session: &SessionId) -> Subscription {
        let mut sessions = self.sessions();
        let channel = Arc::clone(sessions.entry(session.clone()).or_default());
        // Within the lock: a channel that is in the map and has no listener may be taken out of it.
        let next = channel.ring().attach();
        drop(sessions);
        Subscription {
            channel,
            next,
            session: session.clone(),
            hub: Arc::clone(self),
        }
    }

    pub(crate) fn has_listeners(&self, session: &SessionId) -> bool {
        self.sessions().contains_key(session)
    }

    /// Must not be called with anything but what is committed, or was never to be stored.
    pub(crate) fn publish(&self, session: &SessionId, item: impl FnOnce() -> TailItem) {
        let channel = self.sessions().get(session).cloned();
        if let Some(channel) = channel {
            channel.ring().push(item());
            channel.grew.notify_waiters();
        }
    }

    /// Ends all subscriptions, each after what it has not heard yet.
    pub(crate) fn close(&self) {
        for (_, channel) in self.sessions().drain() {
            channel.ring().close();
            channel.grew.notify_waiters();
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Channel>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's items, shared by its listeners: as large as what the slowest of them has not heard.
struct Channel {
    ring: Mutex<Ring<TailItem>>,
    grew: Notify,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            ring: Mutex::new(Ring::new(BACKLOG)),
            grew: Notify::new(),
        }
    }
}

impl Channel {
    fn ring(&self) -> MutexGuard<'_, Ring<TailItem>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener's end. Attached before it is returned: what commits later is heard (runtime ST-2).
pub struct Subscription {
    channel: Arc<Channel>,
    /// The number of the item that is heard next.
    next: u64,
    session: SessionId,
    hub: Arc<Hub>,
}

impl Subscription {
    /// The next item; `None` when the store is closing. Safe to cancel: no item is lost.
    pub async fn recv(&mut self) -> Option<TailItem> {
        loop {
            let grew = self.channel.grew.notified();
            let mut grew = std::pin::pin!(grew);
            // Before the look: what is pushed after it wakes this listener.
            grew.as_mut().enable();
            match self.channel.ring().next(&mut self.next) {
                Next::Item(item) => return Some(item),
                Next::Lagged => return Some(TailItem::Lagged),
                Next::Closed => return None,
                Next::Nothing => {}
            }
            grew.await;
        }
    }
}

impl Drop for Subscription {
    /// The last listener of a session takes its channel along.
    fn drop(&mut self) {
        let mut sessions = self.hub.sessions();
        let left = self.channel.ring().detach(self.next);
        // After a close another channel may have this session's place.
        let current = sessions.get(&self.session);
        if left == 0 && current.is_some_and(|current| Arc::ptr_eq(current, &self.channel)) {
            sessions.remove(&self.session);
        }
    }
}
