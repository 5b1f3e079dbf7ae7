//! Which server may be written to, and how a connection to it is set up.
//!
//! A connection is used only when its server is the primary, keeps what it acknowledges, and is not behind one that
//! this process has written to: a former primary that comes back after a failover is on an older timeline
//! (security STORE-1).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::time::timeout;

use crate::db::Row;
use crate::db::tx::fetch_postgres;
use crate::error::Error;

/// The longest attempt to connect.
const CONNECT: Duration = Duration::from_secs(4);

/// What the server is asked for, as far as it knows the setting:
///
/// - a client that is paused in the middle of a transaction must not keep a session's row locked for longer than its
///   lease is believed;
/// - nobody waits longer for a lock than for the whole trip;
/// - the server notices that we have gone, also while it works or waits for us.
///
/// Nothing is asked to be cancelled: a commit that waits for a standby would then be reported as a success.
const SETTINGS: &str = "('idle_in_transaction_session_timeout', '10s'), ('lock_timeout', '9s'),
    ('client_connection_check_interval', '2s'), ('tcp_keepalives_idle', '5'), ('tcp_keepalives_interval', '2'),
    ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '10000')";

pub(super) struct Server {
    options: PgConnectOptions,
    known: Mutex<Option<Identity>>,
}

/// Which history of which cluster a primary continues.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    /// The cluster's identifier, made by `initdb`.
    system: String,
    /// Grows with each promotion; hexadecimal of fixed length.
    timeline: String,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    /// It may come to be without anybody doing anything.
    Now(String),
    /// The URL or the login is wrong.
    ForGood(String),
    /// It would lose what it acknowledges (security STORE-1).
    Weak(String),
}

impl Server {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            known: Mutex::default(),
        }
    }

    /// How to reach it, for the connection that listens.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A connection without limits in time, for migrations. The server is not looked at.
    pub(super) async fn connect_plainly(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    /// A connection to the primary.
    pub(super) async fn connect(&self) -> Result<PgConnection, Refused> {
        let connected = timeout(CONNECT, async {
            let mut connection = self.options.connect().await.map_err(sort)?;
            let seen = look(&mut connection).await.map_err(sort)?;
            Ok((connection, seen))
        });
        let (connection, seen) = connected
            .await
            .unwrap_or_else(|_| Err(Refused::Now("the server does not answer".to_owned())))?;
        if let Some(weak) = seen.weak {
            let reason =
                format!("{weak} is off; set it to on, since acknowledged events could be lost");
            tracing::error!(reason, "a database server is not used");
            return Err(Refused::Weak(reason));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match judge(known.as_ref(), &seen) {
            Ok(()) => {
                if seen.identity.is_some() {
                    *known = seen.identity;
                }
                Ok(connection)
            }
            Err(reason) => {
                tracing::warn!(reason, "a database server is not used");
                Err(Refused::Now(reason))
            }
        }
    }
}

/// What a server says about itself.
struct Seen {
    read_only: bool,
    /// Settings that are off and must be on.
    weak: Option<String>,
    /// Empty where the server does not tell.
    identity: Option<Identity>,
}

/// Whether a server may be written to, and why not.
fn judge(known: Option<&Identity>, seen: &Seen) -> Result<(), String> {
    if seen.read_only {
        return Err("the server is a standby or takes no writes".to_owned());
    }
    let (Some(known), Some(identity)) = (known, &seen.identity) else {
        return Ok(());
    };
    if known.system != identity.system {
        return Err("the server is of another cluster than before".to_owned());
    }
    if known.timeline > identity.timeline {
        return Err(format!(
            "the server is on timeline {}, behind {} that was written to: a former primary",
            identity.timeline, known.timeline
        ));
    }
    Ok(())
}

async fn look(connection: &mut PgConnection) -> Result<Seen, sqlx::Error> {
    let sql = format!(
        "SELECT CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN 1 ELSE 0 END::BIGINT,
            (SELECT string_agg(name, ', ') FROM pg_settings
             WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes') AND setting = 'off'),
            (SELECT COUNT(set_config(wanted.name, wanted.setting, false))
             FROM (VALUES {SETTINGS}) AS wanted(name, setting) JOIN pg_settings p ON p.name = wanted.name)"
    );
    let rows = fetch_postgres(connection, sql.into(), Vec::new()).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let read_only = row.int(0).map_err(decode)? == 1;
    let weak = row.optional_text(1).map_err(decode)?;
    let weak = weak.map(str::to_owned);
    let identity = if read_only {
        None
    } else {
        identity(connection).await?
    };
    Ok(Seen {
        read_only,
        weak,
        identity,
    })
}

/// Servers that speak PostgreSQL's language but keep no such log, or forbid the question, have none.
async fn identity(connection: &mut PgConnection) -> Result<Option<Identity>, sqlx::Error> {
    let sql =
        "SELECT system_identifier::TEXT, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
         FROM pg_control_system()";
    match fetch_postgres(connection, sql.into(), Vec::new()).await {
        Ok(rows) => rows.first().map(identity_of).transpose().map_err(decode),
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(%error, "the server does not say which timeline it is on");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn identity_of(row: &Row) -> Result<Identity, Error> {
    Ok(Identity {
        system: row.text(0)?.to_owned(),
        timeline: row.text(1)?.to_owned(),
    })
}

fn decode(error: Error) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// What an attempt to connect met, sorted by whether another one may help.
fn sort(error: sqlx::Error) -> Refused {
    let code = error.as_database_error().and_then(|error| error.code());
    let passes = match code.as_deref() {
        // Too many connections, no room, starting or shutting down, a broken connection.
        Some(code) => ["53", "57P", "08"]
            .iter()
            .any(|class| code.starts_with(class)),
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)),
    };
    if passes {
        Refused::Now(error.to_string())
    } else {
        Refused::ForGood(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(system: &str, timeline: &str) -> Seen {
        Seen {
            read_only: false,
            weak: None,
            identity: Some(Identity {
                system: system.to_owned(),
                timeline: timeline.to_owned(),
            }),
        }
    }

    #[track_caller]
    fn check(before: Option<Seen>, seen: Seen, refused: Option<&str>) {
        let known = before.and_then(|seen| seen.identity);
        match (judge(known.as_ref(), &seen), refused) {
            (Ok(()), None) => {}
            (Err(reason), Some(part)) => assert!(reason.contains(part), "{reason}"),
            (judged, _) => panic!("{judged:?}"),
        }
    }

    #[test]
    fn store_1_only_a_primary_that_is_not_behind_is_written_to() {
        let first = || primary("7", "00000001");
        check(None, first(), None);
        check(Some(first()), first(), None);
        check(Some(first()), primary("7", "00000002"), None);
        check(
            Some(primary("7", "0000000A")),
            primary("7", "00000009"),
            Some("former primary"),
        );
        check(
            Some(primary("7", "00000002")),
            first(),
            Some("former primary"),
        );
        check(
            Some(first()),
            primary("8", "00000001"),
            Some("another cluster"),
        );
        let silent = || Seen {
            identity: None,
            ..first()
        };
        check(Some(first()), silent(), None);
        let standby = Seen {
            read_only: true,
            ..silent()
        };
        check(Some(first()), standby, Some("standby"));
    }
}
