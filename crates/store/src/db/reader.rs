//! A reader beside a running server: one connection that writes nothing, migrates nothing and takes no lock.

use std::cmp::Ordering;
use std::path::Path;
use std::str::FromStr as _;

use rustix::fs::{Access, access};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, SqliteConnection};

use super::sqlite::BUSY_TIMEOUT;
use super::tx::{fetch_postgres, fetch_sqlite};
use super::{Row, SharedMemory, Sql, Value, newest, postgres, sort_error, sqlite, values};
use crate::error::Error;

/// One connection for reading.
pub(crate) struct Reader {
    connection: Connection,
}

enum Connection {
    Memory(SharedMemory),
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Whether a SQLite file may change while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// A server may be writing to it.
    Writers,
    /// Nobody writes to it: it is read as it lies there, and nothing is put beside it.
    Nobody,
}

/// Which schema is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// This program's.
    Same,
    /// One that this program can bring up to date.
    SameOrOlder,
}

impl Reader {
    /// Opens a SQLite file, of whatever schema.
    pub(crate) async fn sqlite(file: &Path, beside: Beside) -> Result<Self, Error> {
        if !file.exists() {
            return Err(setup(format!("there is no {}", file.display())));
        }
        let mut wal = file.as_os_str().to_owned();
        wal.push("-wal");
        let complete = std::fs::metadata(wal).map_or(true, |wal| wal.len() == 0);
        // SQLite keeps its index of the log beside the file, which it cannot where nothing may be written.
        let folder = file.parent().filter(|path| !path.as_os_str().is_empty());
        let locked = access(folder.unwrap_or(Path::new(".")), Access::WRITE_OK).is_err();
        let options = SqliteConnectOptions::new()
            .filename(file)
            .read_only(true)
            .immutable(complete && (locked || beside == Beside::Nobody))
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let connection = options
            .connect()
            .await
            .map_err(|error| sort_error("opening the database for reading", &error))?;
        Ok(Self {
            connection: Connection::Sqlite(connection),
        })
    }

    /// Connects to a PostgreSQL database, of whatever schema.
    pub(crate) async fn postgres(url: &SecretString) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url.expose_secret()).map_err(|_| {
            setup(
                "the PostgreSQL URL is not of the form postgres://user:password@host:port/database",
            )
        })?;
        let connection = options
            .application_name("manyhands verify")
            .disable_statement_logging()
            .connect()
            .await
            .map_err(|error| setup(error.to_string()))?;
        Ok(Self {
            connection: Connection::Postgres(connection),
        })
    }

    /// Reads a database in memory, past what it was told to do to its stores.
    pub(crate) fn memory(shared: &SharedMemory) -> Self {
        Self {
            connection: Connection::Memory(shared.clone()),
        }
    }

    /// Security STORE-5: what this program does not know it does not touch.
    pub(crate) async fn require(&mut self, schema: Schema) -> Result<(), Error> {
        let known = match &self.connection {
            // It was made by this program.
            Connection::Memory(_) => return Ok(()),
            Connection::Sqlite(_) => &sqlite::MIGRATIONS,
            Connection::Postgres(_) => &postgres::MIGRATIONS,
        };
        let found = self
            .all("SELECT MAX(version) FROM _sqlx_migrations", Vec::new())
            .await;
        let found = match found {
            Ok(rows) => rows.first().map(|row| row.optional_int(0)).transpose()?,
            Err(Error::Unavailable { reason, .. } | Error::Damaged { reason, .. }) => {
                return Err(setup(format!("it is no database of Manyhands: {reason}")));
            }
            Err(error) => return Err(error),
        };
        let found = found.flatten().unwrap_or(0);
        let known = newest(known);
        match (found.cmp(&known), schema) {
            (Ordering::Equal, _) | (Ordering::Less, Schema::SameOrOlder) => Ok(()),
            (Ordering::Greater, _) | (Ordering::Less, Schema::Same) => {
                Err(Error::Schema { found, known })
            }
        }
    }

    /// Runs a statement that only reads.
    pub(crate) async fn all(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let rows = match &mut self.connection {
            Connection::Memory(shared) => return shared.look(&sql.into(), &values),
            Connection::Sqlite(connection) => fetch_sqlite(connection, sql.into(), values).await,
            Connection::Postgres(connection) => {
                fetch_postgres(connection, sql.into(), values).await
            }
        };
        rows.map_err(|error| sort_error("reading", &error))
    }

    /// Runs a statement that only reads, for its first row.
    pub(crate) async fn one(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    /// From here to [`thaw`](Self::thaw) all statements see one state, whatever others write. In memory nobody writes
    /// between statements that do not wait, unless on another thread.
    pub(crate) async fn freeze(&mut self) -> Result<(), Error> {
        self.control("BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await
    }

    /// Sees what others write again.
    pub(crate) async fn thaw(&mut self) -> Result<(), Error> {
        self.control("ROLLBACK", "ROLLBACK").await
    }

    async fn control(&mut self, sqlite: &'static str, postgres: &'static str) -> Result<(), Error> {
        let done = match &mut self.connection {
            Connection::Memory(_) => return Ok(()),
            Connection::Sqlite(connection) => connection.execute(sqlite).await.map(drop),
            Connection::Postgres(connection) => connection.execute(postgres).await.map(drop),
        };
        done.map_err(|error| sort_error("reading", &error))
    }

    /// What the database itself finds wrong with its file, at most 100 findings. PostgreSQL has nothing to say here.
    pub(crate) async fn integrity(&mut self) -> Result<Vec<String>, Error> {
        if matches!(self.connection, Connection::Postgres(_)) {
            return Ok(Vec::new());
        }
        let rows = self.all("PRAGMA integrity_check(100)", Vec::new()).await?;
        let mut found = Vec::new();
        for row in &rows {
            let text = row.text(0)?;
            if text != "ok" {
                found.push(text.to_owned());
            }
        }
        Ok(found)
    }

    /// Writes what is committed now to another SQLite file, which is empty. Not forced to the disk yet.
    pub(crate) async fn copy_into(&mut self, path: &str) -> Result<(), Error> {
        let Connection::Sqlite(connection) = &mut self.connection else {
            return Err(Error::Invalid {
                operation: "copying the database",
                reason: "only SQLite's files are copied here; PostgreSQL has programs of its own"
                    .to_owned(),
            });
        };
        fetch_sqlite(connection, "VACUUM INTO $1".into(), values![path])
            .await
            .map(drop)
            .map_err(|error| sort_error("copying the database", &error))
    }

    /// Closes the connection.
    pub(crate) async fn close(self) -> Result<(), Error> {
        let closed = match self.connection {
            Connection::Memory(_) => return Ok(()),
            Connection::Sqlite(connection) => connection.close().await,
            Connection::Postgres(connection) => connection.close().await,
        };
        closed.map_err(|error| sort_error("closing", &error))
    }
}

fn setup(reason: impl Into<String>) -> Error {
    Error::Setup {
        operation: "opening the database for reading",
        reason: reason.into(),
    }
}
