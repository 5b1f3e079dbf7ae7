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
        (ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB, _) => Error::damaged("the database", error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::values;

    fn fresh() -> Direct {
        Direct::new(rusqlite::Connection::open_in_memory().unwrap())
    }

    #[test]
    fn values_are_taken_by_their_number() {
        let given = values!["one", "two"];
        let check = |sql: &str, expected: &[&str]| {
            let rows = fresh().fetch(sql, &given).unwrap();
            let found: Vec<&str> = (0..expected.len())
                .map(|column| rows[0].text(column).unwrap())
                .collect();
            assert_eq!(found, expected, "{sql}");
        };
        check("SELECT $1, $2", &["one", "two"]);
        check("SELECT $2, $1, $2", &["two", "one", "two"]);
        check("SELECT $2", &["two"]);
        let missing = fresh().fetch("SELECT $3", &given);
        assert!(missing.is_err(), "never a null in its place");
    }

    /// security STORE-3
    #[test]
    fn store_3_text_that_is_no_text_damages_its_column_alone() {
        let rows = fresh().fetch("SELECT CAST(x'ff' AS TEXT), 7, NULL", &[]);
        let rows = rows.unwrap();
        assert!(matches!(rows[0].text(0), Err(Error::Damaged { .. })));
        assert_eq!(rows[0].int(1), Ok(7));
        assert!(matches!(rows[0].text(1), Err(Error::Damaged { .. })));
        assert_eq!(rows[0].optional_text(2), Ok(None));
        assert!(matches!(rows[0].int(3), Err(Error::Damaged { .. })));
    }

    /// security STORE-2, STORE-3, STORE-4
    #[test]
    fn store_2_errors_are_sorted_by_what_is_to_be_done() {
        #[derive(Debug, PartialEq)]
        enum Sorted {
            NoSpace,
            Damaged,
            Unavailable,
        }
        let check = |code, fatal, expected| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let sorted = match sort_error("writing", &error) {
                Error::NoSpace { .. } => Sorted::NoSpace,
                Error::Damaged { .. } => Sorted::Damaged,
                Error::Unavailable { .. } => Sorted::Unavailable,
                other => panic!("{other:?}"),
            };
            assert_eq!((sorted, is_fatal(&error)), (expected, fatal), "{code}");
        };
        check(ffi::SQLITE_FULL, true, Sorted::NoSpace);
        check(ffi::SQLITE_IOERR_SHMSIZE, true, Sorted::NoSpace);
        check(ffi::SQLITE_IOERR_FSYNC, true, Sorted::Unavailable);
        check(ffi::SQLITE_IOERR_WRITE, true, Sorted::Unavailable);
        check(ffi::SQLITE_BUSY, true, Sorted::Unavailable);
        check(ffi::SQLITE_CORRUPT, false, Sorted::Damaged);
        check(ffi::SQLITE_NOTADB, false, Sorted::Damaged);
        check(ffi::SQLITE_CONSTRAINT_UNIQUE, false, Sorted::Unavailable);
        check(ffi::SQLITE_CONSTRAINT_CHECK, false, Sorted::Unavailable);
        check(ffi::SQLITE_CONSTRAINT_TRIGGER, false, Sorted::Unavailable);
    }
}
