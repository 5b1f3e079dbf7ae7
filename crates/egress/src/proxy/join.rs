//! Two streams joined: bytes are passed on both ways, unread, until one side ends, nothing moves for too long, or the policy
//! does not allow it any more.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::host::Target;
use crate::policy::Decision;
use crate::proxy::Inside;

/// When something was last passed on, in either direction.
pub(crate) struct Moved {
    began: Instant,
    millis: AtomicU64,
}

impl Moved {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            millis: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// Passes on what comes from `from` until it ends, then says so to `to`.
pub(crate) async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    first: Bytes,
    moved: &Moved,
    idle: Duration,
) -> io::Result<()> {
    to.write_all(&first).await?;
    to.flush().await?;
    let mut buffer = BytesMut::new();
    loop {
        buffer.clear();
        buffer.reserve(16 << 10);
        // One side may be silent for as long as the other one is not.
        let read = match timeout_at(moved.last() + idle, from.read_buf(&mut buffer)).await {
            Ok(read) => read?,
            Err(_) if Instant::now() < moved.last() + idle => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        moved.now();
        if read == 0 {
            return to.shutdown().await;
        }
        let written = timeout_at(Instant::now() + idle, async {
            to.write_all(&buffer).await?;
            to.flush().await
        });
        written.await??;
        moved.now();
    }
}

/// Ends when the policy does not allow this place any more.
pub(crate) async fn forbidden(inside: &Inside, target: &Target) {
    let mut policy = inside.policy.clone();
    let refused = policy
        .wait_for(|policy| matches!(policy.decide(target), Decision::Refuse(_)))
        .await
        .is_ok();
    if !refused {
        // The door is closing, which ends the connection by itself.
        std::future::pending::<()>().await;
    }
}
