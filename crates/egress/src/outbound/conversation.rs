//! Requests that belong together, and the connections that they share.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::Response;

use super::{Outbound, Request, Unanswered};

/// How long a connection is kept that nobody uses. A request that meets the closing of its connection may be lost with it;
/// most servers close theirs after five seconds or more.
const KEPT: Duration = Duration::from_secs(4);

/// How many of them are kept.
const MOST_KEPT: usize = 2;

/// The gate for the requests of one client to one server. Whatever is decided of a request is decided of each (security
/// NET-4, NET-9); only connections are kept, to addresses that were checked when they were dialled (security NET-3). They are
/// nobody else's, a few, closed when they are not used for some seconds, and end with this.
pub struct Conversation {
    outbound: Outbound,
    keeping: reqwest::Client,
    seen: Mutex<Seen>,
}

/// Whether a request may be made again when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing, or says the same twice.
    Harmless,
    /// It may have effects (security TOOL-2).
    Never,
}

/// What is known of how the server treats connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// The last answer came over the connection with this address here.
    Answer(SocketAddr),
    /// A second request was answered over the same connection.
    Keeping,
}

impl Seen {
    fn with(self, answered: Option<SocketAddr>) -> Self {
        match (self, answered) {
            (Self::Keeping, _) => Self::Keeping,
            (Self::Answer(last), Some(now)) if last == now => Self::Keeping,
            (_, Some(now)) => Self::Answer(now),
            (_, None) => Self::Nothing,
        }
    }
}

impl Conversation {
    pub(super) fn new(outbound: Outbound) -> Result<Self, crate::Error> {
        let keeping = outbound.dials.builder();
        let keeping = keeping
            .pool_max_idle_per_host(MOST_KEPT)
            .pool_idle_timeout(KEPT)
            .build()?;
        Ok(Self {
            outbound,
            keeping,
            seen: Mutex::new(Seen::Nothing),
        })
    }

    /// As [`Outbound::send`], over a kept connection where there is one. One that is found closed before anything was written
    /// is replaced. Some servers close theirs and do not say so: what must not be repeated goes over a kept one only when the
    /// server has answered a second request over one before.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn send(&self, request: Request, repeat: Repeat) -> Result<Response, Unanswered> {
        if repeat == Repeat::Never && self.seen() != Seen::Keeping {
            return self.outbound.send(request).await;
        }
        let answered = self.outbound.send_by(&self.keeping, request).await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = match &answered {
            Ok(response) => {
                let info = response.extensions().get::<HttpInfo>();
                seen.with(info.map(HttpInfo::local_addr))
            }
            Err(Unanswered::Sent(_)) => Seen::Nothing,
            Err(Unanswered::Unsent(_)) => *seen,
        };
        drop(seen);
        answered
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
