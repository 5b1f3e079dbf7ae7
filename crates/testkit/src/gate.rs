//! A door that stays shut until a test opens it: the replacement for a sleep.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long any wait of the testkit may take before it is called a failure.
///
/// Generous, because a test machine may have two busy cores; a wait that ends well never lasts it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Something passes through here only once the test says so. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: watch::Sender<bool>,
    arrivals: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A shut gate.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            open: watch::Sender::new(false),
            arrivals: watch::Sender::new(0),
        }))
    }

    /// Opens the gate for all who wait and all who will come.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until something stands at the gate (or has passed it).
    ///
    /// # Panics
    /// When nothing arrives within [`PATIENCE`].
    pub async fn reached(&self) {
        let mut arrivals = self.0.arrivals.subscribe();
        let arrived = arrivals.wait_for(|count| *count > 0);
        assert!(
            tokio::time::timeout(PATIENCE, arrived).await.is_ok(),
            "nothing reached the gate within {PATIENCE:?}"
        );
    }

    /// Stands at the gate until it is open. This is the side of whatever is held.
    pub async fn pass(&self) {
        self.0.arrivals.send_modify(|count| *count += 1);
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn holds_until_opened_and_tells_who_arrived() {
        let gate = Gate::new();
        let mut held = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        gate.reached().await;
        assert!(
            tokio::time::timeout(Duration::from_millis(10), &mut held)
                .await
                .is_err(),
            "passed a shut gate"
        );
        gate.open();
        held.await.unwrap();
        gate.pass().await;
    }
}
