//! Entries that were not committed here, or not heard of: read from the log and published in their place.

use std::sync::Arc;
use std::time::Duration;

use manyhands_protocol::SessionId;

use super::Hub;
use super::channel::Channel;
use super::order::Order;
use crate::error::Error;
use crate::store::Store;

/// How many entries are read at once.
const PAGE: u32 = 100;
/// The pause after a failure of the database.
const PAUSE: Duration = Duration::from_secs(1);

impl Hub {
    /// Starts the task that reads a session's log behind what its channel has published, until it has all.
    pub(super) fn look(&self, session: &SessionId, channel: Arc<Channel>) {
        let (inner, session) = (self.inner.clone(), session.clone());
        self.runtime.spawn(async move {
            while let Some(after) = channel.order(Order::begin) {
                // Between two pages nothing is held on to, so that a store can be closed.
                let Some(inner) = inner.upgrade().filter(|_| channel.is_listened_to()) else {
                    channel.order(Order::give_up);
                    return;
                };
                let more = match (Store { inner }).read(&session, after, PAGE).await {
                    Ok(page) => {
                        let full = page.len() as u64 == u64::from(PAGE);
                        channel.offer(page);
                        full
                    }
                    Err(Error::Damaged { item, reason }) => {
                        // Listeners meet the damage where they read, and say so.
                        tracing::error!(item, reason, "a session's log cannot be read to its end");
                        channel.order(Order::give_up);
                        channel.lag();
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, session.id = %session, "a session's log cannot be read for its listeners yet");
                        tokio::time::sleep(PAUSE).await;
                        true
                    }
                };
                if !channel.order(|order| order.end(more)) {
                    return;
                }
            }
        });
    }
}
