//! Connections, lent and given back.
//!
//! Only a connection whose last trip ended well comes back; any other is cut, and the server undoes what was open on
//! it. Every trip is bounded in time, because a database behind a broken network says nothing at all.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::server::{Refused, Server};
use crate::db::tx::fetch_postgres;
use crate::db::{Row, Sql, Value};
use crate::error::Error;

/// So many connections at most.
const CONNECTIONS: usize = 16;
/// How long a request waits for a connection, the making of one included. A restart of the database is shorter.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest trip to the database and back, a commit included. A lease is believed as long.
pub(super) const TRIP: Duration = Duration::from_secs(10);
/// After so long without work a connection is tried out before it is used.
const RESTED: Duration = Duration::from_secs(1);
/// The longest such trial.
const TRIAL: Duration = Duration::from_secs(2);
/// So many connections are tried for what can be done again without harm.
pub(super) const ATTEMPTS: u32 = 3;
/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    idle: Mutex<Vec<Idle>>,
    room: Arc<Semaphore>,
}

struct Idle {
    connection: PgConnection,
    since: Instant,
}

/// A connection of one user. Dropped without [`give_back`](Self::give_back) it is cut.
pub(in crate::db) struct Lent {
    connection: PgConnection,
    state: State,
    pool: Pool,
    _room: OwnedSemaphorePermit,
}

/// Of what use a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It answers.
    Fine,
    /// It is gone; another one may work.
    Cut,
    /// It was waited for in vain; another one may cost as long again.
    Silent,
}

impl Pool {
    pub(super) fn new(server: Server) -> Self {
        Self {
            shared: Arc::new(Shared {
                server,
                idle: Mutex::default(),
                room: Arc::new(Semaphore::new(CONNECTIONS)),
            }),
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.shared.server
    }

    /// A connection that answered a moment ago, to a server that may be written to.
    pub(super) async fn lend(&self) -> Result<Lent, Error> {
        let mut last = None;
        let lent = timeout(PATIENCE, self.lend_patiently(&mut last)).await;
        match lent {
            Ok(lent) => lent,
            Err(_) => Err(unavailable(match last {
                Some(reason) => format!("none within {} s: {reason}", PATIENCE.as_secs()),
                None => format!("none was free within {} s", PATIENCE.as_secs()),
            })),
        }
    }

    async fn lend_patiently(&self, last: &mut Option<String>) -> Result<Lent, Error> {
        let room = Arc::clone(&self.shared.room).acquire_owned().await;
        let room = room.map_err(|_| unavailable("the store is closed".to_owned()))?;
        let mut pause = FIRST_PAUSE;
        loop {
            let connection = match self.rested().await {
                Some(connection) => Ok(connection),
                None => self.shared.server.connect().await,
            };
            match connection {
                Ok(connection) => {
                    return Ok(Lent {
                        connection,
                        state: State::Fine,
                        pool: self.clone(),
                        _room: room,
                    });
                }
                Err(Refused::Now(reason)) => *last = Some(reason),
                Err(Refused::ForGood(reason)) => return Err(unavailable(reason)),
                Err(Refused::Weak(reason)) => {
                    return Err(Error::Setup {
                        operation: "checking PostgreSQL's durability settings",
                        reason,
                    });
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// An idle connection that works.
    async fn rested(&self) -> Option<PgConnection> {
        loop {
            let mut idle = self.idle().pop()?;
            if idle.since.elapsed() < RESTED {
                return Some(idle.connection);
            }
            if let Ok(Ok(())) = timeout(TRIAL, idle.connection.ping()).await {
                return Some(idle.connection);
            }
        }
    }

    /// A connection broke: the others are tried out before they are used.
    fn suspect_all(&self) {
        let past = Instant::now().checked_sub(RESTED);
        for idle in self.idle().iter_mut() {
            idle.since = past.unwrap_or(idle.since);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends nothing any more and ends the connections that are idle.
    pub(super) async fn close(&self) {
        self.shared.room.close();
        let idle = std::mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            // It ends with its socket all the same.
            let _ = timeout(TRIAL, connection.close()).await;
        }
    }
}

impl Lent {
    /// Runs a statement and gives its rows.
    pub(in crate::db) async fn fetch(
        &mut self,
        sql: Sql,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        self.trip(async |connection| fetch_postgres(connection, sql, values).await)
            .await
    }

    /// Runs a statement without parameters and rows.
    pub(super) async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        self.trip(async |connection| connection.execute(sqlx::raw_sql(sql)).await.map(drop))
            .await
    }

    /// Talks to the server, within [`TRIP`].
    pub(super) async fn trip<T>(
        &mut self,
        talk: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let said = timeout(TRIP, talk(&mut self.connection)).await;
        let result = said.unwrap_or_else(|_| {
            Err(sqlx::Error::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the database did not answer for {} s", TRIP.as_secs()),
            )))
        });
        if let Err(error) = &result
            && is_broken(error)
        {
            self.state = if is_cut(error) {
                State::Cut
            } else {
                State::Silent
            };
            self.pool.suspect_all();
        }
        result
    }

    /// What the last trip said about it.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Lets others use it. No transaction is open, and no answer is outstanding.
    pub(super) fn give_back(self) {
        let Self {
            connection, pool, ..
        } = self;
        if pool.shared.room.is_closed() {
            return;
        }
        pool.idle().push(Idle {
            connection,
            since: Instant::now(),
        });
    }
}

/// Whether the connection that met this error is of no use any more: anything but a server's answer.
fn is_broken(error: &sqlx::Error) -> bool {
    match error.as_database_error().and_then(|error| error.code()) {
        // It ends our session: terminated, crashed, shutting down, or idle in a transaction for too long.
        Some(code) => ["57P01", "57P02", "57P03", "57P05", "25P03", "25P04"].contains(&&*code),
        None => !matches!(
            error,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_)
        ),
    }
}

fn is_cut(error: &sqlx::Error) -> bool {
    !matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

fn unavailable(reason: String) -> Error {
    Error::Unavailable {
        operation: "getting a connection to PostgreSQL",
        reason,
    }
}
