//! One statement for many rows: each parameter is an array, a column of the rows.

use sqlx::{AssertSqlSafe, Executor as _};

use crate::db::tx::Connection;
use crate::db::{Row, Tx, Value, sort_error};
use crate::error::Error;

impl Tx {
    /// Runs a statement on rows of values, all of one form, and on other rows of another. For statements of
    /// PostgreSQL alone.
    pub(crate) async fn many(
        &mut self,
        sql: &'static str,
        rows: &[Vec<Value>],
        others: &[Vec<Value>],
    ) -> Result<Vec<Row>, Error> {
        let Connection::Postgres(lent) = &mut self.connection else {
            return Err(Error::Invalid {
                operation: "writing",
                reason: "arrays for another database".to_owned(),
            });
        };
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for rows in [rows, others] {
            let Some(first) = rows.first() else { continue };
            for (column, form) in first.iter().enumerate() {
                let values = rows.iter().map(|row| &row[column]);
                query = match form {
                    Value::Text(_) => query.bind(values.map(text).collect::<Vec<_>>()),
                    Value::Int(_) => query.bind(values.map(int).collect::<Vec<_>>()),
                    Value::Bytes(_) => query.bind(values.map(bytes).collect::<Vec<_>>()),
                };
            }
        }
        let fetched = lent
            .trip(async |connection| connection.fetch_all(query).await)
            .await;
        match fetched {
            Ok(rows) => Ok(rows.into_iter().map(Row::Postgres).collect()),
            Err(error) => {
                let sorted = sort_error("writing", &error);
                self.fault.get_or_insert_with(|| sorted.clone());
                Err(sorted)
            }
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => text.as_deref(),
        Value::Int(_) | Value::Bytes(_) => None,
    }
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => *number,
        Value::Text(_) | Value::Bytes(_) => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        Value::Text(_) | Value::Int(_) => None,
    }
}
