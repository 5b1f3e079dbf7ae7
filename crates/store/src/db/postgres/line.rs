//! PostgreSQL beside the pool: connections that renew, tell and listen. None takes part in commits of others, and a pool
//! that is busy holds up none.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Executor as _, PgConnection};
use tokio::sync::Mutex;

use super::pool::Pool;
use super::server::Refused;
use crate::db::tx::fetch_postgres;
use crate::db::{Sql, Value, sort_error};
use crate::error::Error;

const OPERATION: &str = "talking to other instances";

/// What takes longer counts as failed, and so does its connection.
const PATIENCE: Duration = Duration::from_secs(4);
/// After so long without a message the listening connection is tried out: a cut wire is silent.
const QUIET: Duration = Duration::from_secs(5);
/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The connections of one instance, each made when it is needed.
pub(crate) struct Line {
    /// Knows the server; its connections are not used.
    pool: Pool,
    /// Commits as the pool does: where a standby must confirm, a server that was cut off from it renews nothing.
    renewing: Mutex<Option<PgConnection>>,
    /// Waits for no disk: what is told may be lost.
    telling: Mutex<Option<PgConnection>>,
}

/// Whether a statement's answer waits until it is durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    Durable,
    Unsynced,
}

/// What the listening connection hears.
pub(crate) enum Note<'a> {
    /// It listens from now on; what came before was missed.
    Connected,
    /// A notification.
    Payload(&'a str),
}

impl Line {
    pub(super) fn new(pool: &Pool) -> Self {
        Self {
            pool: pool.clone(),
            renewing: Mutex::new(None),
            telling: Mutex::new(None),
        }
    }

    /// Runs one statement, durably.
    pub(crate) async fn run(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<(), Error> {
        let sql = sql.into();
        let act = async |connection: &mut PgConnection| {
            fetch_postgres(connection, sql, values).await.map(drop)
        };
        self.with(&self.renewing, Commit::Durable, act).await
    }

    /// Sends notifications, in order: the names of channels, and as many payloads.
    pub(crate) async fn notify(&self, channels: &[&str], payloads: &[String]) -> Result<(), Error> {
        let act = async |connection: &mut PgConnection| {
            let query = sqlx::query(
                "SELECT pg_notify(channel, payload)
                 FROM unnest($1::text[], $2::text[]) AS note (channel, payload)",
            );
            let query = query.bind(channels).bind(payloads);
            connection.execute(query).await.map(drop)
        };
        self.with(&self.telling, Commit::Unsynced, act).await
    }

    /// Uses one of the connections. One whose last use failed, or was not waited for, is not used again.
    async fn with(
        &self,
        place: &Mutex<Option<PgConnection>>,
        commit: Commit,
        act: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
    ) -> Result<(), Error> {
        let act = async {
            let mut place = place.lock().await;
            // Taken out: whatever ends this early ends the connection.
            let mut connection = match place.take() {
                Some(connection) => connection,
                None => self.connect(commit).await?,
            };
            act(&mut connection).await.map_err(sorted)?;
            *place = Some(connection);
            Ok(())
        };
        let done = tokio::time::timeout(PATIENCE, act).await;
        done.unwrap_or_else(|_| {
            Err(unavailable(format!(
                "no answer for {} s",
                PATIENCE.as_secs()
            )))
        })
    }

    /// A connection to the primary.
    async fn connect(&self, commit: Commit) -> Result<PgConnection, Error> {
        let connected = self.pool.server().connect().await;
        let mut connection = connected.map_err(|refused| match refused {
            Refused::Now(reason) | Refused::Weak(reason) | Refused::ForGood(reason) => {
                unavailable(reason)
            }
        })?;
        if commit == Commit::Unsynced {
            let set = connection.execute("SET synchronous_commit = off").await;
            set.map_err(sorted)?;
        }
        Ok(connection)
    }

    /// Listens for ever, on a connection that is made anew whenever it breaks.
    pub(crate) async fn listen(&self, channels: &[&str], mut hear: impl FnMut(Note<'_>) -> bool) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.listener(channels).await {
                Ok(listener) => {
                    pause = FIRST_PAUSE;
                    if !hear(Note::Connected) || !attend(listener, &mut hear).await {
                        return;
                    }
                    tracing::warn!("the connection that listens to other instances broke");
                }
                Err(error) => tracing::warn!(%error, "cannot listen to other instances"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listener(&self, channels: &[&str]) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(self.pool.server().options().clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen_all(channels.iter().copied()).await?;
        Ok(listener)
    }
}

/// Hands on what one connection hears; true when it broke, false when nobody wants to hear more.
async fn attend(mut listener: PgListener, hear: &mut impl FnMut(Note<'_>) -> bool) -> bool {
    loop {
        match tokio::time::timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(note))) => {
                if !hear(Note::Payload(note.payload())) {
                    return false;
                }
            }
            Ok(Ok(None) | Err(_)) => return true,
            Err(_) => {
                let tried = tokio::time::timeout(PATIENCE, listener.execute("SELECT 1")).await;
                if !matches!(tried, Ok(Ok(_))) {
                    return true;
                }
            }
        }
    }
}

fn sorted(error: sqlx::Error) -> Error {
    sort_error(OPERATION, &error)
}

fn unavailable(reason: String) -> Error {
    Error::Unavailable {
        operation: OPERATION,
        reason,
    }
}
