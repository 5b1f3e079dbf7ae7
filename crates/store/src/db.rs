//! The two databases behind one face. This folder is the only place that names a driver.
//!
//! SQL is written once: both take `$1`, text and 64-bit integers. A write is a *job*: a function that gets a
//! transaction ([`Tx`]), runs to its end even when its caller has gone, and is acknowledged after the commit.

mod direct;
mod memory;
mod postgres;
mod reader;
mod readers;
mod row;
mod sqlite;
mod tx;
mod writer;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::error::ErrorKind;
use tokio::sync::oneshot;

pub use memory::{Conduct, Outcome, SharedMemory, Use};

pub(crate) use memory::Memory;
pub(crate) use postgres::{Groups, Line, Note, Postgres, Together};
pub(crate) use reader::{Beside, Reader, Schema};
pub(crate) use row::{Row, Value, values};
pub(crate) use sqlite::{Held, Sqlite};
pub(crate) use tx::{Lock, Tx};

use crate::error::Error;
use crate::idempotency::{self, Claim};
use crate::reserve::Purpose;
use crate::together::PlainAppend;

/// SQL text, fixed or put together from fixed parts. Values never become part of it.
pub(crate) type Sql = Cow<'static, str>;

/// What a write is about: jobs with the same key commit and take effect one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope {
    key: Option<u64>,
    bytes: usize,
    purpose: Purpose,
}

impl Scope {
    /// About one thing, such as a session; new work, unless it is said otherwise.
    pub(crate) fn of(id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self {
            key: Some(hasher.finish()),
            bytes: 0,
            purpose: Purpose::Begins,
        }
    }

    /// For something else than new work.
    pub(crate) fn with_purpose(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// With about so many bytes to be stored.
    pub(crate) fn with_bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }
}

/// A write and its caller, without their types.
trait Job: Send {
    fn scope(&self) -> Scope;

    /// Runs it once; says whether its writes shall stay.
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool>;

    /// Tells the caller how it went, after the commit, which may have failed.
    fn finish(self: Box<Self>, committed: Result<(), Error>);
}

struct Pending<F, T, E> {
    scope: Scope,
    work: Option<F>,
    result: Option<Result<T, E>>,
    /// The request that it is part of, if that may be repeated.
    claim: Option<Claim>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Pending<F, T, E>
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn scope(&self) -> Scope {
        self.scope
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool> {
        let work = self.work.take();
        Box::pin(async move {
            if let Some(work) = work {
                let mut result = work(tx).await;
                if let (Ok(_), Some(claim)) = (&result, &self.claim)
                    && let Err(error) = idempotency::mark(tx, claim).await
                {
                    result = Err(E::from(error));
                }
                self.result = Some(result);
            }
            matches!(self.result, Some(Ok(_)))
        })
    }

    fn finish(self: Box<Self>, committed: Result<(), Error>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(error), _) => Err(E::from(error)),
            (Ok(()), None) => Err(E::from(Error::Unavailable {
                operation: "writing",
                reason: "the write broke off".to_owned(),
            })),
        };
        // The caller may have gone; the write stands all the same.
        let _ = self.caller.send(result);
    }
}

/// The database.
pub(crate) enum Db {
    Memory(Memory),
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Db {
    /// Runs a job in a transaction of its own, or in one shared with other jobs; either way it alone decides
    /// whether its writes stay. Returns after the commit. Dropping the future does not stop the job.
    pub(crate) async fn write<T, E>(
        &self,
        scope: Scope,
        job: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Pending {
            scope,
            work: Some(job),
            result: None,
            claim: idempotency::current(),
            caller,
        });
        match self {
            Self::Memory(memory) => memory.submit(job).await?,
            Self::Sqlite(sqlite) => sqlite.submit(job).await?,
            Self::Postgres(postgres) => postgres.submit(job)?,
        }
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(E::from(Error::Unavailable {
                operation: "writing",
                reason: "the write was abandoned".to_owned(),
            })),
        }
    }

    /// Whether there is so little room on the disk that new work is refused. PostgreSQL's disk is not looked at.
    pub(crate) fn is_short_of_room(&self) -> bool {
        match self {
            Self::Sqlite(sqlite) => sqlite.is_short_of_room(),
            Self::Postgres(_) | Self::Memory(_) => false,
        }
    }

    /// Reads what is committed.
    pub(crate) async fn read(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        match self {
            Self::Memory(memory) => memory.read(sql.into(), values).await,
            Self::Sqlite(sqlite) => sqlite.read(sql.into(), values).await,
            Self::Postgres(postgres) => postgres.read(sql.into(), values).await,
        }
    }

    /// Reads at most one row of what is committed.
    pub(crate) async fn read_one(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.read(sql, values).await?.into_iter().next())
    }

    /// Whether there is a row among what is committed.
    pub(crate) async fn has(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<bool, Error> {
        Ok(self.read_one(sql, values).await?.is_some())
    }

    /// Reads at most one row of what is committed, and what it says.
    pub(crate) async fn find<T>(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
        of: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.read_one(sql, values)
            .await?
            .as_ref()
            .map(of)
            .transpose()
    }

    /// Reads rows of what is committed, and what they say.
    pub(crate) async fn list<T>(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
        of: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.read(sql, values).await?.iter().map(of).collect()
    }

    /// Whether other processes may use the same database at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self, Self::Sqlite(_))
    }

    /// The database's clock, in microseconds since the Unix epoch, as a piece of SQL. For a database that is shared.
    pub(crate) fn clock_sql(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT",
            Self::Memory(_) | Self::Sqlite(_) => "database_now()",
        }
    }

    /// The way of appends that share their statements with others, where there is one.
    pub(crate) fn together(&self) -> Option<&Groups<PlainAppend>> {
        match self {
            Self::Postgres(postgres) => Some(postgres.appends()),
            Self::Memory(_) | Self::Sqlite(_) => None,
        }
    }

    /// PostgreSQL's connections for what instances tell each other.
    pub(crate) fn line(&self) -> Option<Arc<Line>> {
        match self {
            Self::Postgres(postgres) => Some(postgres.line()),
            Self::Memory(_) | Self::Sqlite(_) => None,
        }
    }

    /// Finishes pending writes and closes.
    pub(crate) async fn close(&self) {
        match self {
            Self::Memory(memory) => memory.close(),
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}

/// The driver's words, sorted by what is to be done.
fn sort_error(operation: &'static str, error: &sqlx::Error) -> Error {
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .unwrap_or_default();
    // SQLite's extended codes carry the primary code in the low byte; PostgreSQL's have five characters.
    let number = code.parse::<u32>().ok().filter(|_| code.len() < 5);
    match (number.map(|code| (code & 0xff, code)), code.as_ref()) {
        (Some((sqlite::FULL, _) | (_, sqlite::SHARED_MEMORY_SIZE)), _) | (None, "53100") => {
            Error::NoSpace { operation }
        }
        (Some((sqlite::CORRUPT | sqlite::NOT_A_DATABASE, _)), _) | (None, "XX001" | "XX002") => {
            Error::damaged("the database", error)
        }
        _ => Error::Unavailable {
            operation,
            reason: error.to_string(),
        },
    }
}

/// Whether the connection that met this error must not be written to any more (security STORE-2). A refused
/// statement and a damaged page (security STORE-3) concern their own job only.
fn is_fatal(error: &sqlx::Error, sorted: &Error) -> bool {
    let refused = error.as_database_error().is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::UniqueViolation
                | ErrorKind::ForeignKeyViolation
                | ErrorKind::NotNullViolation
                | ErrorKind::CheckViolation
        )
    });
    !refused && !matches!(sorted, Error::Damaged { .. })
}

/// The version of the newest step of a schema.
fn newest(known: &sqlx::migrate::Migrator) -> i64 {
    let versions = known.iter().map(|step| step.version);
    versions.max().unwrap_or(0)
}

/// Security STORE-5: an older program does not touch a newer schema.
fn migration_error(known: &sqlx::migrate::Migrator, error: sqlx::migrate::MigrateError) -> Error {
    use sqlx::migrate::MigrateError;
    let reason = match error {
        MigrateError::VersionMissing(found) => {
            let known = newest(known);
            return Error::Schema { found, known };
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            return match sort_error("migrating the database", &error) {
                Error::Unavailable { operation, reason } => Error::Setup { operation, reason },
                error => error,
            };
        }
        error => error.to_string(),
    };
    Error::Setup {
        operation: "migrating the database",
        reason,
    }
}
