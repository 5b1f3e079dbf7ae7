//! A database in memory for tests and simulations: SQLite's statements on the calling thread, shared by several stores.
//!
//! No thread, no file, no clock but the one that is handed in: the same calls give the same results in the same
//! order. Like a PostgreSQL server it has several instances at a time, each with leases that end when it stops renewing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_protocol::time::SharedClock;
use rusqlite::functions::FunctionFlags;

use super::direct::{self, Direct};
use super::tx::Connection;
use super::{Job, Row, Sql, Tx, Value, sqlite};
use crate::error::Error;

/// Who lives is asked of the clock of the database, as on PostgreSQL.
const LIVING: &str = "DROP VIEW living;
    CREATE VIEW living AS SELECT id FROM instances
        WHERE expires_at > database_now() AND expires_at <= database_now() + 20000000";

/// A database in memory. Its clones share the data, and it ends with the last of them and of the stores on it.
#[derive(Clone)]
pub struct SharedMemory {
    connection: Arc<Mutex<Tx>>,
    conduct: Option<Arc<dyn Fn(Use) -> Conduct + Send + Sync>>,
}

/// What a store does with the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// One statement that reads.
    Read,
    /// One transaction.
    Write,
}

/// How the database behaves in one use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// How long (by tokio's clock) it takes until something happens. A caller that goes away meanwhile asked nothing.
    pub before: Duration,
    /// What happens, at one instant.
    pub outcome: Outcome,
    /// How long it takes until the caller hears of it. It has happened even when the caller goes away meanwhile.
    pub after: Duration,
}

/// What becomes of one use of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It succeeds.
    #[default]
    Done,
    /// It fails, and a write leaves nothing.
    Failed,
    /// A write is kept, but its caller is told of an error, and its effects (nudge, publication) do not happen, as
    /// when the connection breaks between a commit and its answer. For a read the same as `Failed`.
    Unknown,
}

impl SharedMemory {
    /// An empty database with this program's schema. The clock decides which instances live.
    ///
    /// # Errors
    /// [`Error::Setup`] when SQLite or a migration fails.
    pub fn new(clock: SharedClock) -> Result<Self, Error> {
        let setup = |error: rusqlite::Error| Error::Setup {
            operation: "making a database in memory",
            reason: error.to_string(),
        };
        let connection = rusqlite::Connection::open_in_memory().map_err(setup)?;
        connection
            .create_scalar_function("database_now", 0, FunctionFlags::SQLITE_UTF8, move |_| {
                Ok(clock.now().as_micros())
            })
            .map_err(setup)?;
        let connection = Direct::new(connection);
        connection
            .batch("PRAGMA foreign_keys = ON")
            .map_err(setup)?;
        for migration in sqlite::MIGRATIONS.iter() {
            connection.batch(migration.sql.as_str()).map_err(setup)?;
        }
        connection.batch(LIVING).map_err(setup)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(Tx::new(Connection::Direct(connection)))),
            conduct: None,
        })
    }

    /// The same data through other eyes: each use by a store that is opened on the result is shown to `conduct`
    /// first, in the order of the uses. For faults and delays of one instance.
    pub fn with_conduct(&self, conduct: impl Fn(Use) -> Conduct + Send + Sync + 'static) -> Self {
        Self {
            connection: Arc::clone(&self.connection),
            conduct: Some(Arc::new(conduct)),
        }
    }

    /// Runs statements without values behind the stores' backs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with SQLite's words.
    pub fn execute(&self, sql: &str) -> Result<(), Error> {
        let tx = self.lock();
        let done = tx.direct()?.batch(sql);
        done.map_err(|error| direct::sort_error("running statements", &error))
    }

    /// Reads what is committed, at once and whatever `conduct` says.
    pub(super) fn look(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Error> {
        let tx = self.lock();
        let found = tx.direct()?.fetch(sql, values);
        found.map_err(|error| direct::sort_error("reading", &error))
    }

    fn conduct(&self, of: Use) -> Conduct {
        self.conduct
            .as_ref()
            .map_or_else(Conduct::default, |conduct| conduct(of))
    }

    fn write(&self, mut job: Box<dyn Job>, outcome: Outcome) {
        let mut tx = self.lock();
        let written = transact(&mut tx, job.as_mut(), outcome);
        let effects = std::mem::take(&mut tx.effects);
        if written == Ok(Stays::Kept) {
            for effect in effects {
                effect();
            }
        }
        job.finish(written.map(drop));
    }

    fn lock(&self) -> MutexGuard<'_, Tx> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SharedMemory")
    }
}

/// Whether a job's writes stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stays {
    Kept,
    RolledBack,
}

fn transact(tx: &mut Tx, job: &mut dyn Job, outcome: Outcome) -> Result<Stays, Error> {
    tx.direct()?.control("BEGIN IMMEDIATE")?;
    let ran = direct::run(job, tx);
    let result = match (ran, tx.fault.take()) {
        (Err(error), _) | (_, Some(error)) => Err(error),
        (Ok(false), None) => Ok(Stays::RolledBack),
        (Ok(true), None) if outcome == Outcome::Failed => Err(failure("writing")),
        (Ok(true), None) => tx.direct()?.control("COMMIT").map(|()| Stays::Kept),
    };
    let connection = tx.direct()?;
    if !connection.is_at_rest() {
        connection.control("ROLLBACK")?;
    }
    match (result, outcome) {
        (Ok(Stays::Kept), Outcome::Unknown) => Err(failure("writing")),
        (result, _) => result,
    }
}

fn failure(operation: &'static str) -> Error {
    Error::Unavailable {
        operation,
        reason: "the database in memory was told to fail".to_owned(),
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// One store's access to a database in memory.
pub(crate) struct Memory {
    shared: SharedMemory,
    closed: AtomicBool,
}

impl Memory {
    pub(crate) fn open(shared: &SharedMemory) -> Self {
        Self {
            shared: shared.clone(),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) async fn submit(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let conduct = self.begin("writing", Use::Write)?;
        pass(conduct.before).await;
        self.shared.write(job, conduct.outcome);
        pass(conduct.after).await;
        Ok(())
    }

    pub(super) async fn read(&self, sql: Sql, values: Vec<Value>) -> Result<Vec<Row>, Error> {
        let conduct = self.begin("reading", Use::Read)?;
        pass(conduct.before).await;
        let found = match conduct.outcome {
            Outcome::Done => self.shared.look(&sql, &values),
            Outcome::Failed | Outcome::Unknown => Err(failure("reading")),
        };
        pass(conduct.after).await;
        found
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn begin(&self, operation: &'static str, of: Use) -> Result<Conduct, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Unavailable {
                operation,
                reason: "the store is closed".to_owned(),
            });
        }
        Ok(self.shared.conduct(of))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use manyhands_protocol::time::SystemClock;

    use super::*;
    use crate::db::{Db, Scope, values};

    /// security STORE-2
    #[tokio::test]
    async fn store_2_a_write_that_waits_for_something_else_is_refused_and_leaves_nothing() {
        let shared = SharedMemory::new(Arc::new(SystemClock)).unwrap();
        let db = Db::Memory(Memory::open(&shared));
        let insert = async |waits: bool| {
            db.write(Scope::default(), move |tx| {
                Box::pin(async move {
                    let sql = "INSERT INTO remains (session_id) VALUES ($1)";
                    tx.run(sql, values!["a"]).await?;
                    if waits {
                        pending::<()>().await;
                    }
                    Ok::<(), Error>(())
                })
            })
            .await
        };
        let rows = async || db.read("SELECT * FROM remains", Vec::new()).await.unwrap();
        assert!(matches!(insert(true).await, Err(Error::Invalid { .. })));
        assert_eq!(rows().await.len(), 0);
        assert_eq!(insert(false).await, Ok(()), "the connection goes on");
        assert_eq!(rows().await.len(), 1);
    }
}
