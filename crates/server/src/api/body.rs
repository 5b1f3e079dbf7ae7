//! The body of a request, piece by piece and in time (security INP-1).

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::api::error::ApiError;

/// How long the next piece of a body may take, and how far a body may fall behind the slowest pace.
const PIECE: Duration = Duration::from_secs(30);
/// The slowest pace, in bytes a second: who sends a byte now and then keeps no connection for long.
const SLOWEST: u64 = 4 << 10;
/// How much of a refused body is read and dropped, so that the client gets to read the answer.
const DRAIN: u64 = 64 << 20;

/// Why a body is not read on. Tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The connection, or the framing.
    #[error("the request body broke off")]
    Off,
    /// Nothing, or too little.
    #[error("the request body stopped coming")]
    Slow,
}

impl From<Broken> for ApiError {
    fn from(broken: Broken) -> Self {
        let refusal = Self::invalid(broken.to_string());
        match broken {
            Broken::Off => refusal,
            Broken::Slow => refusal.with_code("request_body_timeout"),
        }
    }
}

/// A body that is being read.
pub(crate) struct Pieces {
    body: Body,
    begun: Instant,
    seen: u64,
}

impl Pieces {
    /// From its beginning.
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            begun: Instant::now(),
            seen: 0,
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`Broken`]; nothing more comes then.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let pace = Duration::from_secs(self.seen / SLOWEST);
        let latest = (Instant::now() + PIECE).min(self.begun + PIECE + pace);
        loop {
            match timeout_at(latest, self.body.frame()).await {
                Err(_) => return Err(Broken::Slow),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Broken::Off),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.seen = self.seen.saturating_add(data.len() as u64);
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads on for a while and drops what comes.
    pub(crate) async fn drain(&mut self) {
        let most = self.seen.saturating_add(DRAIN);
        while let Ok(Some(_)) = self.next().await {
            if self.seen > most {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt;

    use super::*;

    /// A body of so many pieces of this length, each so long after the one before.
    fn body(count: usize, length: usize, apart: Duration) -> Pieces {
        let pieces = futures::stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(apart).await;
            Ok::<_, Infallible>(Bytes::from(vec![b'x'; length]))
        });
        Pieces::new(Body::from_stream(pieces))
    }

    async fn read(mut body: Pieces) -> Result<u64, Broken> {
        while body.next().await?.is_some() {}
        Ok(body.seen)
    }

    /// security INP-1, in time that is not waited for.
    #[tokio::test(start_paused = true)]
    async fn inp_1_slow_bodies_are_given_up() {
        let second = Duration::from_secs(1);
        assert_eq!(read(body(100, 64 << 10, 10 * second)).await, Ok(6_553_600));
        assert_eq!(read(body(2, 1, 10 * second)).await, Ok(2));
        let begun = Instant::now();
        assert_eq!(read(body(2, 1, 31 * second)).await, Err(Broken::Slow));
        // One byte a second never makes a pause that is long.
        assert_eq!(read(body(1_000, 1, second)).await, Err(Broken::Slow));
        assert!(begun.elapsed() <= 62 * second, "{:?}", begun.elapsed());
    }
}
