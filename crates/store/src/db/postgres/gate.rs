//! Who may run: writes are counted, so that closing can wait for them, and writes of one key take turns.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

const RUNNING: u32 = 1 << 16;
/// Keys share turns by their hash; a collision costs a wait, nothing else.
const TURNS: usize = 1024;

pub(super) struct Gate {
    turns: Box<[Arc<Mutex<()>>]>,
    /// One permit for every write, and once all of them for `close`.
    running: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            turns: (0..TURNS).map(|_| Arc::default()).collect(),
            running: Arc::new(Semaphore::new(RUNNING as usize)),
        }
    }

    /// Counts a write, as long as the store is open and has not too much to do.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        let running = Arc::clone(&self.running).try_acquire_owned();
        running.map_err(|_| Error::Unavailable {
            operation: "writing",
            reason: "the store is closed, or has too much to do".to_owned(),
        })
    }

    /// What the writes of one key pass one after the other, until after their effects.
    pub(super) fn turn(&self, key: u64) -> Arc<Mutex<()>> {
        let place = key % self.turns.len() as u64;
        // The remainder of a length is an index.
        Arc::clone(&self.turns[place as usize])
    }

    /// Lets nobody in any more and waits for those who are.
    pub(super) async fn close(&self) {
        // An error means that it was closed before.
        let _all = self.running.acquire_many(RUNNING).await;
        self.running.close();
    }
}
