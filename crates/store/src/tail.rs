//! The live end of session logs: committed entries and previews, to whoever listens in this process.
//!
//! Entries are published after their commit and in position order, whoever committed them. Those of this process come with
//! their commit. Those of other instances, and those whose commit nobody here has heard of, are read from the log: when
//! another instance says that there are some, when a later entry leaves a gap, and on a timer behind both.

mod behind;
mod channel;
mod order;
pub(crate) mod remote;
mod ring;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands_protocol::SessionId;
use manyhands_protocol::event::Preview;

use crate::entry::Entry;
use crate::replica::Peers;
use crate::store::Inner;
use channel::Channel;
use order::Order;
use remote::Numbered;
use ring::Next;

/// What a listener hears, in order.
#[derive(Clone, Debug)]
pub enum TailItem {
    /// Entries that follow each other, in position order.
    Entries(Arc<[Entry]>),
    /// A preview of an event that is not complete yet. Never stored.
    Preview(Arc<Preview>),
    /// The session was deleted; nothing follows. The text is the rendered `session.deleted` event.
    Deleted(Arc<str>),
    /// The listener was too slow and items were dropped: entries must be read from the store, and previews of
    /// events that had started must not go on (runtime ST-16).
    Lagged,
}

/// The listened-to sessions of this process.
pub(crate) struct Hub {
    sessions: Mutex<HashMap<SessionId, Arc<Channel>>>,
    peers: Arc<Peers>,
    /// The store, for reading the log.
    inner: Weak<Inner>,
    runtime: tokio::runtime::Handle,
}

impl Hub {
    /// The hub of a store. To be called within its runtime.
    pub(crate) fn new(peers: Arc<Peers>, inner: Weak<Inner>) -> Self {
        Self {
            sessions: Mutex::default(),
            peers,
            inner,
            runtime: tokio::runtime::Handle::current(),
        }
    }

    pub(crate) fn subscribe(self: &Arc<Self>, session: &SessionId) -> Subscription {
        let mut sessions = self.sessions();
        let channel = sessions.entry(session.clone()).or_insert_with(|| {
            // Within the lock: what the other instances hear of a session comes in the right order.
            self.peers.listen(session, true);
            Arc::default()
        });
        let channel = Arc::clone(channel);
        // Within the lock: a channel that is in the map and has no listener may be taken out of it.
        let next = channel.attach();
        drop(sessions);
        Subscription {
            channel,
            next,
            session: session.clone(),
            hub: Arc::clone(self),
        }
    }

    pub(crate) fn has_listeners(&self, session: &SessionId) -> bool {
        self.sessions().contains_key(session) || self.peers.are_interested(session)
    }

    /// Entries of this process, committed.
    pub(crate) fn committed(&self, session: &SessionId, entries: Vec<Entry>) {
        self.peers.committed(session, &entries);
        if let Some(channel) = self.channel(session)
            && !channel.offer(entries)
        {
            self.start(session, channel, Order::look);
        }
    }

    /// A preview of this process.
    pub(crate) fn preview(&self, session: &SessionId, preview: Preview) {
        self.peers.previewed(session, &preview);
        if let Some(channel) = self.channel(session) {
            channel.show(preview);
        }
    }

    /// A preview of another instance.
    pub(crate) fn remote_preview(&self, session: &SessionId, preview: Numbered) {
        if let Some(channel) = self.channel(session) {
            channel.show_remote(preview);
        }
    }

    /// A session was deleted, here or elsewhere; may be told more than once.
    pub(crate) fn deleted(&self, session: &SessionId, event: &str) {
        if let Some(channel) = self.channel(session) {
            channel.finish(event);
        }
    }

    /// The log of a session is said to have entries up to here.
    pub(crate) fn reaches(&self, session: &SessionId, position: i64) {
        if let Some(channel) = self.channel(session) {
            self.start(session, channel, |order| order.reaches(position));
        }
    }

    /// Something may have been missed in these sessions.
    pub(crate) fn look_at(&self, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(channel) = self.channel(session) {
                self.start(session, channel, Order::look);
            }
        }
    }

    /// The sessions with listeners, sorted.
    pub(crate) fn listened_to(&self) -> Vec<SessionId> {
        let mut all: Vec<SessionId> = self.sessions().keys().cloned().collect();
        all.sort();
        all
    }

    /// Tells the other instances of all sessions with listeners.
    pub(crate) fn announce(&self) {
        // Within the lock, as every change of what is announced.
        let sessions = self.sessions();
        let mut all: Vec<SessionId> = sessions.keys().cloned().collect();
        all.sort();
        self.peers.listen_to_all(&all);
    }

    /// Whether a session's listeners know where they are, so that a session that is not there was deleted.
    pub(crate) fn is_placed(&self, session: &SessionId) -> bool {
        self.channel(session)
            .is_some_and(|channel| channel.order(|order| order.last().is_some()))
    }

    /// Ends all subscriptions, each after what it has not heard yet.
    pub(crate) fn close(&self) {
        for (_, channel) in self.sessions().drain() {
            channel.close();
        }
    }

    fn start(
        &self,
        session: &SessionId,
        channel: Arc<Channel>,
        wanted: impl FnOnce(&mut Order) -> bool,
    ) {
        if channel.order(wanted) {
            self.look(session, channel);
        }
    }

    fn channel(&self, session: &SessionId) -> Option<Arc<Channel>> {
        self.sessions().get(session).cloned()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Channel>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Says that this listener has read the log up to a position, after it was attached. What other instances commit is
    /// heard behind that; before it is said, only what this process commits (security STREAM-1).
    pub fn has_read(&self, position: i64) {
        let channel = Arc::clone(&self.channel);
        if channel.order(|order| order.has_skipped(position)) {
            channel.lag();
        }
        channel.has_read(position);
        self.hub
            .start(&self.session, channel, |order| order.has_read(position));
    }

    /// The next item; `None` when the store is closing. Safe to cancel: no item is lost.
    pub async fn recv(&mut self) -> Option<TailItem> {
        loop {
            let grew = self.channel.grew().notified();
            let mut grew = std::pin::pin!(grew);
            // Before the look: what is pushed after it wakes this listener.
            grew.as_mut().enable();
            match self.channel.next(&mut self.next) {
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
        let left = self.channel.detach(self.next);
        // After a close another channel may have this session's place.
        let current = sessions.get(&self.session);
        if left == 0 && current.is_some_and(|current| Arc::ptr_eq(current, &self.channel)) {
            sessions.remove(&self.session);
            self.hub.peers.listen(&self.session, false);
        }
    }
}
