//! One listened-to session: its items on their way to the listeners, and where it is in the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_protocol::event::Preview;
use tokio::sync::Notify;

use super::TailItem;
use super::order::{Offer, Order};
use super::remote::{Numbered, Remote};
use super::ring::{Next, Ring};
use crate::entry::Entry;

/// How many items a listener may be behind before it is told [`TailItem::Lagged`].
const BACKLOG: usize = 128;

/// Shared by a session's listeners: as large as what the slowest of them has not heard.
pub(super) struct Channel {
    state: Mutex<State>,
    grew: Notify,
}

struct State {
    ring: Ring<TailItem>,
    order: Order,
    /// The position of the last published entry that a brain wrote; until there is one, where its first listener began.
    spoken: Option<i64>,
    /// Made when there is a preview from another instance.
    remote: Option<Box<Remote>>,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                ring: Ring::new(BACKLOG),
                order: Order::default(),
                spoken: None,
                remote: None,
            }),
            grew: Notify::new(),
        }
    }
}

impl Channel {
    /// Adds a listener; answers with the number of the item it hears next.
    pub(super) fn attach(&self) -> u64 {
        self.state().ring.attach()
    }

    /// Takes a listener away; answers with how many are left.
    pub(super) fn detach(&self, next: u64) -> usize {
        self.state().ring.detach(next)
    }

    /// What a listener finds.
    pub(super) fn next(&self, next: &mut u64) -> Next<TailItem> {
        self.state().ring.next(next)
    }

    /// Told when there is more to find.
    pub(super) fn grew(&self) -> &Notify {
        &self.grew
    }

    /// Publishes entries in their place. False when others come before them, which must be read from the log.
    pub(super) fn offer(&self, entries: Vec<Entry>) -> bool {
        let Some(first) = entries.first() else {
            return true;
        };
        let mut state = self.state();
        let from = match state.order.offer(first.position, entries.len()) {
            Offer::Gap => return false,
            Offer::Known => return true,
            Offer::From(from) => from,
        };
        let State {
            ring,
            order,
            spoken,
            remote,
        } = &mut *state;
        let entries: Arc<[Entry]> = match from {
            0 => entries.into(),
            from => entries[from..].into(),
        };
        let said = entries.iter().rev().find(|entry| entry.epoch > 0);
        let said = said.map(|entry| entry.position);
        *spoken = said.or(*spoken);
        let waited = remote
            .as_mut()
            .map(|remote| remote.published(order.last().unwrap_or(0), said));
        ring.push(TailItem::Entries(entries));
        for preview in waited.into_iter().flatten() {
            ring.push(TailItem::Preview(Arc::new(preview)));
        }
        self.grew.notify_waiters();
        true
    }

    /// A listener has read the log up to here. What it has read may be of a brain: no earlier preview comes behind it
    /// (runtime ST-10, ST-14).
    pub(super) fn has_read(&self, position: i64) {
        let mut state = self.state();
        let spoken = *state.spoken.get_or_insert(position);
        if let Some(remote) = &mut state.remote {
            remote.begin(spoken);
        }
    }

    /// Shows a preview of this process.
    pub(super) fn show(&self, preview: Preview) {
        self.push(TailItem::Preview(Arc::new(preview)));
    }

    /// Shows a preview of another instance, now, later or never.
    pub(super) fn show_remote(&self, numbered: Numbered) {
        let mut state = self.state();
        let published = state.order.last();
        let spoken = state.spoken;
        let remote = state
            .remote
            .get_or_insert_with(|| Box::new(Remote::new(spoken)));
        if let Some(preview) = remote.hear(published, numbered) {
            state.ring.push(TailItem::Preview(Arc::new(preview)));
            self.grew.notify_waiters();
        }
    }

    /// Tells that listeners must read the log themselves.
    pub(super) fn lag(&self) {
        self.push(TailItem::Lagged);
    }

    /// Tells once that the session is gone.
    pub(super) fn finish(&self, event: &str) {
        if self.state().order.finish() {
            self.push(TailItem::Deleted(event.into()));
        }
    }

    /// Nothing is told any more.
    pub(super) fn close(&self) {
        self.state().ring.close();
        self.grew.notify_waiters();
    }

    /// Whether anybody listens.
    pub(super) fn is_listened_to(&self) -> bool {
        self.state().ring.has_readers()
    }

    /// Does something with where the channel is in the log.
    pub(super) fn order<T>(&self, act: impl FnOnce(&mut Order) -> T) -> T {
        act(&mut self.state().order)
    }

    fn push(&self, item: TailItem) {
        self.state().ring.push(item);
        self.grew.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
