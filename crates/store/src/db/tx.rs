//! The transaction a job writes in.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, SqliteConnection};

use super::direct::{self, Direct};
use super::postgres::Lent;
use super::row::bind;
use super::{Row, Sql, Value, is_fatal, sort_error};
use crate::error::Error;
use crate::reserve::{Purpose, Reserve};

/// What a job does after the commit and before it is acknowledged.
type Effect = Box<dyn FnOnce() + Send>;

/// How rows are locked as they are read. SQLite has one writer and needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Against every other writer.
    Update,
    /// Against change, not against other holders of the same lock.
    Share,
}

/// A transaction, shared with no other job while it is lent to one.
pub(crate) struct Tx {
    pub(super) connection: Connection,
    pub(super) effects: Vec<Effect>,
    /// The first error after which the connection must not be written to any more (security STORE-2).
    pub(super) fault: Option<Error>,
    /// The room on the disk, where this process looks after it.
    pub(super) reserve: Option<Arc<Reserve>>,
}

pub(super) enum Connection {
    Direct(Direct),
    Postgres(Lent),
}

impl Tx {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            effects: Vec::new(),
            fault: None,
            reserve: None,
        }
    }

    /// Whether new work is refused for want of room.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.reserve
            .as_ref()
            .is_some_and(|reserve| reserve.is_short())
    }

    /// Says what the job needs the disk for, before it writes.
    pub(crate) fn admit(&self, purpose: Purpose) -> Result<(), Error> {
        self.reserve
            .as_ref()
            .map_or(Ok(()), |reserve| reserve.admit(purpose))
    }

    /// Runs a statement and gives its rows.
    pub(crate) async fn all(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let sql = sql.into();
        let result = match &mut self.connection {
            Connection::Direct(connection) => connection.fetch(&sql, &values).map_err(|error| {
                (
                    direct::is_fatal(&error),
                    direct::sort_error("writing", &error),
                )
            }),
            Connection::Postgres(lent) => lent.fetch(sql, values).await.map_err(sorted),
        };
        result.map_err(|(fatal, error)| {
            if fatal && self.fault.is_none() {
                self.fault = Some(error.clone());
            }
            error
        })
    }

    /// Runs a statement and gives its first row.
    pub(crate) async fn one(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    /// Runs a statement and gives what its first row says.
    pub(crate) async fn find<T>(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
        of: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.one(sql, values).await?.as_ref().map(of).transpose()
    }

    /// Runs a statement and gives what its rows say.
    pub(crate) async fn list<T>(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
        of: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.all(sql, values).await?.iter().map(of).collect()
    }

    /// Runs a statement without rows.
    pub(crate) async fn run(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<(), Error> {
        self.all(sql, values).await.map(drop)
    }

    /// Reads rows and locks them until the end of the transaction.
    pub(crate) async fn locked(
        &mut self,
        lock: Lock,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let sql: Sql = match (self.needs_row_locks(), lock) {
            (false, _) => sql.into(),
            (true, Lock::Update) => format!("{sql} FOR UPDATE").into(),
            (true, Lock::Share) => format!("{sql} FOR SHARE").into(),
        };
        self.all(sql, values).await
    }

    /// Reads one row, locks it until the end of the transaction, and gives what it says.
    pub(crate) async fn lock<T>(
        &mut self,
        lock: Lock,
        sql: &'static str,
        values: Vec<Value>,
        of: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let rows = self.locked(lock, sql, values).await?;
        rows.first().map(of).transpose()
    }

    /// Reads rows, locks them until the end of the transaction, and gives what they say.
    pub(crate) async fn lock_all<T>(
        &mut self,
        lock: Lock,
        sql: &'static str,
        values: Vec<Value>,
        of: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.locked(lock, sql, values).await?;
        rows.iter().map(of).collect()
    }

    /// Whether readers before this statement could have seen an older state than readers after a lock.
    pub(crate) fn needs_row_locks(&self) -> bool {
        matches!(self.connection, Connection::Postgres(_))
    }

    /// The connection, when it is SQLite's and on this thread.
    pub(super) fn direct(&self) -> Result<&Direct, Error> {
        match &self.connection {
            Connection::Direct(connection) => Ok(connection),
            _ => Err(Error::Invalid {
                operation: "writing",
                reason: "a transaction of another database".to_owned(),
            }),
        }
    }

    /// Does something once the job's writes are durable, in commit order of the job's key. Must not block.
    pub(crate) fn after_commit(&mut self, effect: impl FnOnce() + Send + 'static) {
        self.effects.push(Box::new(effect));
    }
}

/// Whether the error ends the connection, and what it means.
fn sorted(error: sqlx::Error) -> (bool, Error) {
    let sorted = sort_error("writing", &error);
    (is_fatal(&error, &sorted), sorted)
}

pub(super) async fn fetch_sqlite(
    connection: &mut SqliteConnection,
    sql: Sql,
    values: Vec<Value>,
) -> Result<Vec<Row>, sqlx::Error> {
    let query = bind(sqlx::query(AssertSqlSafe(sql)), values);
    let rows = connection.fetch_all(query).await?;
    Ok(rows.into_iter().map(Row::Sqlite).collect())
}

pub(super) async fn fetch_postgres(
    connection: &mut PgConnection,
    sql: Sql,
    values: Vec<Value>,
) -> Result<Vec<Row>, sqlx::Error> {
    let query = bind(sqlx::query(AssertSqlSafe(sql)), values);
    let rows = connection.fetch_all(query).await?;
    Ok(rows.into_iter().map(Row::Postgres).collect())
}
