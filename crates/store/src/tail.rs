//! The live end of session logs, within this process: committed entries and previews, to whoever listens.

use std::sync::Arc;

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

/// A listener's end. Attached before it is returned: what commits later is heard (runtime ST-2).
pub struct Subscription {
    pub(crate) receiver: broadcast::Receiver<TailItem>,
}

impl Subscription {
    /// The next item; `None` when the store is closing.
    pub async fn recv(&mut self) -> Option<TailItem> {
        match self.receiver.recv().await {
            Ok(item) => Some(item),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(TailItem::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
