//! SQLite on the thread that asks: a statement is a function call, not a trip to another thread.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use rusqlite::ffi;
use rusqlite::types::{Value as Cell, ValueRef};

use super::{Job, Row, Tx, Value};
use crate::error::Error;

/// Prepared statements that a connection keeps. The store has fewer.
const STATEMENTS: usize = 256;

/// A connection that belongs to whoever holds it.
pub(super) struct Direct {
    connection: rusqlite::Connection,
}

impl Direct {
    pub(super) fn new(connection: rusqlite::Connection) -> Self {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Self { connection }
    }

    /// Runs one statement to its end. `$2` is the second value, wherever it stands.
    pub(super) fn fetch(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let parameters = statement.parameter_count();
        for index in 1..=parameters {
            let number = statement.parameter_name(index).and_then(|name| {
                let number: usize = name.strip_prefix('$')?.parse().ok()?;
                number.checked_sub(1)
            });
            let value = number.and_then(|number| values.get(number)).ok_or(
                rusqlite::Error::InvalidParameterCount(values.len(), parameters),
            )?;
            match value {
                Value::Text(text) => statement.raw_bind_parameter(index, text.as_deref()),
                Value::Int(number) => statement.raw_bind_parameter(index, number),
                Value::Bytes(bytes) => statement.raw_bind_parameter(index, bytes.as_slice()),
            }?;
        }
        let columns = statement.column_count();
        let mut found = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let cells = (0..columns).map(|column| row.get_ref(column).map(keep));
            found.push(Row::Direct(cells.collect::<Result<_, _>>()?));
        }
        Ok(found)
    }

    /// Runs a statement without rows that controls the transaction.
    pub(super) fn control(&self, sql: &'static str) -> Result<(), Error> {
        self.fetch(sql, &[])
            .map(drop)
            .map_err(|error| sort_error("writing", &error))
    }

    /// Whether no transaction is open: SQLite ends one by itself after some errors.
    pub(super) fn is_at_rest(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// Runs any number of statements without values.
    pub(super) fn batch(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.connection.execute_batch(sql)
    }
}

/// Text that is no text is kept as bytes: who asks for text of that column hears of the damage, nobody else.
fn keep(cell: ValueRef<'_>) -> Cell {
    match cell {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Blob(text.to_owned()),
        },
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_owned()),
    }
}

/// Runs a job to its end on this thread, and says whether its writes shall stay. The only thing it may wait for is a
/// statement, which does not wait here.
pub(super) fn run(job: &mut dyn Job, tx: &mut Tx) -> Result<bool, Error> {
    match AssertUnwindSafe(job.run(tx)).catch_unwind().now_or_never() {
        Some(Ok(stays)) => Ok(stays),
        Some(Err(_)) => {
            tracing::error!("a write panicked and is rolled back");
            Ok(false)
        }
        None => Err(Error::Invalid {
            operation: "writing",
            reason: "the write waited for something that is not the database".to_owned(),
        }),
    }
}

/// The driver's words, sorted by what is to be done.
pub(super) fn sort_error(operation: &'static str, error: &rusqlite::Error) -> Error {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    match (code & 0xff, code) {
        (ffi::SQLITE_FULL, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => Error::NoSpace { operation },
        (ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB, _) => Error::Damaged {
            item: "the database".to_owned(),
            reason: error.to_string(),
        },
        _ => Error::Unavailable {
            operation,
            reason: error.to_string(),
        },
    }
}

/// Whether the connection that met this error must not be written to any more (security STORE-2). A refused
/// statement and a damaged page (security STORE-3) concern their own job only.
pub(super) fn is_fatal(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    !matches!(
        code,
        Some(
            rusqlite::ErrorCode::ConstraintViolation
                | rusqlite::ErrorCode::DatabaseCorrupt
                | rusqlite::ErrorCode::NotADatabase
        )
    )
}
