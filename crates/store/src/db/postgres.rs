//! PostgreSQL: a pool, and one transaction per job.
//!
//! Jobs of this process with the same key wait for each other before they take a connection, until after their
//! effects: the row lock would make them wait anyway, and so effects keep the commit order of one session.

use std::panic::AssertUnwindSafe;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, Semaphore};

use super::tx::{self, Tx, fetch_postgres};
use super::{Job, Row, Sql, Value, migration_error, sort_error};
use crate::error::Error;
use crate::failpoint::failpoint;

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

const CONNECTIONS: u32 = 16;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without work a connection is tried out before it is used.
const RESTED: Duration = Duration::from_secs(1);
const RUNNING_JOBS: u32 = 1 << 16;
/// Keys share turns by their hash; a collision costs a wait, nothing else.
const TURNS: usize = 1024;

/// A PostgreSQL database.
pub(crate) struct Postgres {
    pool: PgPool,
    turns: Arc<[Mutex<()>]>,
    /// One permit for every running job, and once all of them for `close`.
    gate: Arc<Semaphore>,
}

impl Postgres {
    /// Connects, verifies the server's settings and migrates.
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
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    // One that has rested may have been cut off; one that is busy says so by itself.
                    if meta.idle_for > RESTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(options)
            .await
            .map_err(|error| Error::Setup {
                operation: "connecting to PostgreSQL",
                reason: format!(
                    "{place}: {error}; check that the server runs and the URL is right, then start again"
                ),
            })?;
        check_durability(&pool).await?;
        failpoint!("store::migrate::before");
        MIGRATIONS.run(&pool).await.map_err(migration_error)?;
        failpoint!("store::migrate::after");
        Ok(Self {
            pool,
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
            gate: Arc::new(Semaphore::new(RUNNING_JOBS as usize)),
        })
    }

    /// Starts a job in a task of its own, so that it ends even when its caller has gone.
    pub(super) fn submit(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let gate = Arc::clone(&self.gate)
            .try_acquire_owned()
            .map_err(|_| Error::Unavailable {
                operation: "writing",
                reason: "the store is closed, or has too much to do".to_owned(),
            })?;
        let pool = self.pool.clone();
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            let _gate = gate;
            let turn = job
                .scope()
                .key
                .and_then(|key| turns.get(usize::try_from(key % TURNS as u64).ok()?));
            let _turn = match turn {
                Some(turn) => Some(turn.lock().await),
                None => None,
            };
            write(&pool, job).await;
        });
        Ok(())
    }

    pub(super) async fn read(&self, sql: Sql, values: Vec<Value>) -> Result<Vec<Row>, Error> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            fetch_postgres(&mut connection, sql, values).await
        };
        read.await.map_err(|error| sort_error("reading", &error))
    }

    pub(super) async fn close(&self) {
        // An error means that it was closed before.
        let _all = self.gate.acquire_many(RUNNING_JOBS).await;
        self.gate.close();
        self.pool.close().await;
    }
}

async fn write(pool: &PgPool, mut job: Box<dyn Job>) {
    failpoint!("store::transaction::before_begin");
    let result = run_job(pool, &mut job).await;
    let result = match result {
        Ok(effects) => {
            failpoint!("store::transaction::before_publish");
            for effect in effects {
                effect();
            }
            Ok(())
        }
        Err(error) => Err(error),
    };
    failpoint!("store::transaction::before_acknowledge");
    job.finish(result);
}

async fn run_job(
    pool: &PgPool,
    job: &mut Box<dyn Job>,
) -> Result<Vec<Box<dyn FnOnce() + Send>>, Error> {
    let transaction = pool
        .begin()
        .await
        .map_err(|error| sort_error("beginning a transaction", &error))?;
    let mut tx = Tx::new(tx::Connection::Postgres(transaction));
    let stays = AssertUnwindSafe(job.run(&mut tx))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            tracing::error!("a write panicked and is rolled back");
            false
        });
    failpoint!("store::transaction::after_job");
    let Tx {
        connection,
        effects,
        fault,
        ..
    } = tx;
    let tx::Connection::Postgres(transaction) = connection else {
        return Err(Error::Invalid {
            operation: "writing",
            reason: "a transaction of another database".to_owned(),
        });
    };
    if let Some(fault) = fault {
        return Err(fault);
    }
    if !stays {
        return transaction
            .rollback()
            .await
            .map(|()| Vec::new())
            .map_err(|error| sort_error("rolling back", &error));
    }
    failpoint!("store::transaction::before_commit");
    transaction
        .commit()
        .await
        .map_err(|error| sort_error("committing", &error))?;
    failpoint!("store::transaction::after_commit");
    Ok(effects)
}

/// Security STORE-1: a server that may lose acknowledged writes is refused.
async fn check_durability(pool: &PgPool) -> Result<(), Error> {
    let setup = |reason: String| Error::Setup {
        operation: "checking PostgreSQL's durability settings",
        reason,
    };
    let rows = async {
        let mut connection = pool.acquire().await?;
        let sql = "SELECT name, setting FROM pg_settings
            WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') AND setting = 'off'";
        fetch_postgres(&mut connection, sql.into(), Vec::new()).await
    };
    let rows = rows.await.map_err(|error| setup(error.to_string()))?;
    match rows.first() {
        None => Ok(()),
        Some(row) => Err(setup(format!(
            "{} is {}; set it to on, since acknowledged events could be lost",
            row.text(0)?,
            row.text(1)?
        ))),
    }
}
