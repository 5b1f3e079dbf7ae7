//! SQLite's readers: a few connections that write nothing, used on threads that may wait for the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::direct::{self, Direct};
use super::{Row, Sql, Value, sqlite};
use crate::error::Error;

/// So many read at a time; more wait in their callers.
const READERS: usize = 4;

/// Connections for reading, opened when they are needed and kept.
pub(super) struct Readers {
    file: Arc<Path>,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Direct>>>,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file: file.into(),
            turns: Arc::new(Semaphore::new(READERS)),
            idle: Arc::default(),
        }
    }

    /// Runs a statement that only reads. It goes on when the caller has gone.
    pub(super) async fn read(&self, sql: Sql, values: Vec<Value>) -> Result<Vec<Row>, Error> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|_| unavailable("the store is closed"))?;
        let (file, idle) = (Arc::clone(&self.file), Arc::clone(&self.idle));
        let read = tokio::task::spawn_blocking(move || {
            // Given back last: whoever has all turns knows that all connections are idle.
            let _turn = turn;
            let kept = lock(&idle).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => sqlite::connect_reader(&file)?,
            };
            let found = connection
                .fetch(&sql, &values)
                .map_err(|error| direct::sort_error("reading", &error))?;
            // One that met an error is not used again.
            lock(&idle).push(connection);
            Ok(found)
        });
        read.await
            .unwrap_or_else(|error| Err(unavailable(&format!("the read broke off: {error}"))))
    }

    /// Waits for the reads that run, and closes.
    pub(super) async fn close(&self) {
        // An error means that it was closed before.
        let _all = self.turns.acquire_many(READERS as u32).await;
        self.turns.close();
        lock(&self.idle).clear();
    }
}

fn lock(idle: &Mutex<Vec<Direct>>) -> MutexGuard<'_, Vec<Direct>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable {
        operation: "reading",
        reason: reason.to_owned(),
    }
}
