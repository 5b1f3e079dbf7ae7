//! Values into statements, rows out of them.

use std::sync::Arc;

use manyhands_protocol::Timestamp;
use rusqlite::types::{Value as Cell, ValueRef};
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{Database, Encode, Row as _, Type};

use crate::error::Error;

/// A value of a statement. Nulls carry their type, since PostgreSQL asks for it.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Option<Arc<str>>),
    Int(Option<i64>),
    Bytes(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(Some(i64::from(number)))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Int(Some(i64::from(flag)))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Int(Some(at.as_micros()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(at: Option<Timestamp>) -> Self {
        Self::Int(at.map(Timestamp::as_micros))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

/// The values of a statement, in the order of `$1`, `$2` …
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Value::from($value)),*] };
}
pub(crate) use values;

/// The statement with these values for `$1`, `$2` …
pub(super) fn bind<D: Database>(
    mut query: Query<'static, D, D::Arguments>,
    values: Vec<Value>,
) -> Query<'static, D, D::Arguments>
where
    Option<Arc<str>>: Encode<'static, D> + Type<D>,
    Option<i64>: Encode<'static, D> + Type<D>,
    Vec<u8>: Encode<'static, D> + Type<D>,
{
    for value in values {
        query = match value {
            Value::Text(text) => query.bind(text),
            Value::Int(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
        };
    }
    query
}

/// A row. Columns are taken by their place in the statement.
pub(crate) enum Row {
    Direct(Box<[Cell]>),
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! get {
    ($row:expr, $type:ty, $cell:ident, $column:expr) => {
        match $row {
            Row::Direct(cells) => cell(cells, $column).$cell().map_err(damaged),
            Row::Sqlite(row) => row.try_get::<$type, usize>($column).map_err(damaged),
            Row::Postgres(row) => row.try_get::<$type, usize>($column).map_err(damaged),
        }
    };
}

fn cell(cells: &[Cell], column: usize) -> ValueRef<'_> {
    cells.get(column).map_or(ValueRef::Null, ValueRef::from)
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::damaged("a stored row", error)
}

impl Row {
    /// A text that is not null.
    pub(crate) fn text(&self, column: usize) -> Result<&str, Error> {
        get!(self, &str, as_str, column)
    }

    /// A text or null.
    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<&str>, Error> {
        get!(self, Option<&str>, as_str_or_null, column)
    }

    /// A number that is not null.
    pub(crate) fn int(&self, column: usize) -> Result<i64, Error> {
        get!(self, i64, as_i64, column)
    }

    /// A number or null.
    pub(crate) fn optional_int(&self, column: usize) -> Result<Option<i64>, Error> {
        get!(self, Option<i64>, as_i64_or_null, column)
    }

    /// Bytes that are not null.
    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], Error> {
        get!(self, &[u8], as_blob, column)
    }

    /// An instant that is not null.
    pub(crate) fn time(&self, column: usize) -> Result<Timestamp, Error> {
        Ok(Timestamp::from_micros(self.int(column)?))
    }

    /// An instant or null.
    pub(crate) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, Error> {
        Ok(self.optional_int(column)?.map(Timestamp::from_micros))
    }
}
