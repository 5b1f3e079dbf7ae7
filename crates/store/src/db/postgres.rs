//! PostgreSQL: a transaction per job, and one for all plain appends that wait at the same time.
//!
//! Jobs of this process with the same key wait for each other before they take a connection, until after their
//! effects: the row lock would make them wait anyway, and so effects keep the commit order of one session.

mod arrays;
mod gate;
mod groups;
mod line;
mod pool;
mod server;
mod transaction;

use std::panic::AssertUnwindSafe;
use std::str::FromStr as _;
use std::sync::Arc;

use futures::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnectOptions;

pub(crate) use groups::{Groups, Together};
pub(crate) use line::{Line, Note};
pub(super) use pool::Lent;

use self::gate::Gate;
use self::pool::{ATTEMPTS, Pool, State};
use self::server::Server;
use self::transaction::End;
use super::{Job, Row, Sql, Tx, Value, migration_error, sort_error};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::together::PlainAppend;

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// A PostgreSQL database.
pub(crate) struct Postgres {
    pool: Pool,
    gate: Arc<Gate>,
    appends: Groups<PlainAppend>,
    line: Arc<Line>,
}

impl Postgres {
    /// Connects, verifies the server's settings (security STORE-1) and migrates.
    pub(crate) async fn open(url: &SecretString) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url.expose_secret())
            .map_err(|_| Error::Setup {
                operation: "reading the PostgreSQL URL",
                reason: "it is not of the form postgres://user:password@host:port/database"
                    .to_owned(),
            })?
            .application_name("manyhands")
            .disable_statement_logging();
        let place = format!("{}:{}", options.get_host(), options.get_port());
        let pool = Pool::new(Server::new(options));
        let lent = pool.lend().await.map_err(|error| match error {
            Error::Unavailable { reason, .. } => Error::Setup {
                operation: "connecting to PostgreSQL",
                reason: format!(
                    "{place}: {reason}; check that the server runs and the URL is right, then start again"
                ),
            },
            error => error,
        })?;
        lent.give_back();
        migrate(&pool).await?;
        let gate = Arc::new(Gate::new());
        Ok(Self {
            appends: Groups::new(&pool, &gate),
            line: Arc::new(Line::new(&pool)),
            pool,
            gate,
        })
    }

    /// Appends that share their statements with others.
    pub(crate) fn appends(&self) -> &Groups<PlainAppend> {
        &self.appends
    }

    /// The connections beside the pool.
    pub(super) fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    /// Starts a job in a task of its own, so that it ends even when its caller has gone.
    pub(super) fn submit(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let running = self.gate.enter()?;
        let turn = job.scope().key.map(|key| self.gate.turn(key));
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let _running = running;
            let _turn = match &turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            write(&pool, job).await;
        });
        Ok(())
    }

    /// Reads; once more on another connection when the first one was cut.
    pub(super) async fn read(&self, sql: Sql, values: Vec<Value>) -> Result<Vec<Row>, Error> {
        let mut attempts = 1;
        loop {
            let mut lent = self.pool.lend().await?;
            match lent.fetch(sql.clone(), values.clone()).await {
                Ok(rows) => {
                    lent.give_back();
                    return Ok(rows);
                }
                Err(_) if lent.state() == State::Cut && attempts < ATTEMPTS => attempts += 1,
                Err(error) => {
                    if lent.state() == State::Fine {
                        lent.give_back();
                    }
                    return Err(sort_error("reading", &error));
                }
            }
        }
    }

    pub(super) async fn close(&self) {
        self.gate.close().await;
        self.pool.close().await;
    }
}

/// On a connection without limits in time: the tables may be large, and another process may be at it.
async fn migrate(pool: &Pool) -> Result<(), Error> {
    failpoint!("store::migrate::before");
    let connection = pool.server().connect_plainly().await;
    let mut connection = connection.map_err(|error| migration_error(&MIGRATIONS, error.into()))?;
    let migrated = MIGRATIONS.run(&mut connection).await;
    // It ends with its socket all the same.
    let _ = connection.close().await;
    migrated.map_err(|error| migration_error(&MIGRATIONS, error))?;
    failpoint!("store::migrate::after");
    Ok(())
}

async fn write(pool: &Pool, mut job: Box<dyn Job>) {
    failpoint!("store::transaction::before_begin");
    let work = async |tx: &mut Tx| {
        let run = AssertUnwindSafe(job.run(tx)).catch_unwind().await;
        let stays = run.unwrap_or_else(|_| {
            tracing::error!("a write panicked and is rolled back");
            false
        });
        Ok(((), if stays { End::Keep } else { End::Undo }))
    };
    let result = transaction::run(pool, work).await;
    failpoint!("store::transaction::before_acknowledge");
    job.finish(result.map_err(|failed| failed.error));
}
