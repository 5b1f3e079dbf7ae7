//! One transaction: begun, worked in, and ended for certain or said to be uncertain.

use super::pool::{ATTEMPTS, Lent, Pool, State};
use crate::db::sort_error;
use crate::db::tx::{Connection, Tx};
use crate::error::Error;
use crate::failpoint::failpoint;

/// Whether what was written shall stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Keep,
    Undo,
}

/// Why a transaction was not committed, or may not have been.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) how: How,
}

/// What a failure leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The server said no to a statement and goes on: what does not depend on that statement can be tried.
    Refused,
    /// The connection was cut while the server was told to keep it. Another connection can ask what became of it.
    Cut,
    /// Nothing.
    Failed,
}

impl Failed {
    fn lost(error: Error) -> Self {
        Self {
            error,
            how: How::Failed,
        }
    }
}

/// Runs work in a transaction of its own. Its effects happen after the commit, before this returns.
pub(super) async fn run<T>(
    pool: &Pool,
    work: impl AsyncFnOnce(&mut Tx) -> Result<(T, End), Error>,
) -> Result<T, Failed> {
    let lent = begin(pool).await.map_err(Failed::lost)?;
    let mut tx = Tx::new(Connection::Postgres(lent));
    let worked = work(&mut tx).await;
    failpoint!("store::transaction::after_job");
    let Tx {
        connection,
        effects,
        fault,
        ..
    } = tx;
    let Connection::Postgres(mut lent) = connection else {
        return Err(Failed::lost(foreign()));
    };
    let worked = match fault {
        Some(fault) => Err(fault),
        None => worked,
    };
    match worked {
        Ok((value, End::Keep)) => {
            failpoint!("store::transaction::before_commit");
            if let Err(error) = lent.run("COMMIT").await {
                return Err(Failed::lost(unless_fine("committing", lent, &error)));
            }
            lent.give_back();
            publish(effects);
            Ok(value)
        }
        Ok((value, End::Undo)) => {
            // One that cannot be undone is cut, and undone by the server.
            undo(lent).await;
            Ok(value)
        }
        Err(error) => Err(Failed {
            error,
            how: if undo(lent).await {
                How::Refused
            } else {
                How::Failed
            },
        }),
    }
}

/// Runs work that is one statement, which commits by itself. Its effects happen after it, before this returns.
pub(super) async fn run_at_once<T>(
    pool: &Pool,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T, Error>,
) -> Result<T, Failed> {
    let lent = pool.lend().await.map_err(Failed::lost)?;
    let mut tx = Tx::new(Connection::Postgres(lent));
    let worked = work(&mut tx).await;
    let Tx {
        connection,
        effects,
        ..
    } = tx;
    let Connection::Postgres(lent) = connection else {
        return Err(Failed::lost(foreign()));
    };
    let state = lent.state();
    if state == State::Fine {
        lent.give_back();
    }
    match worked {
        Ok(value) => {
            publish(effects);
            Ok(value)
        }
        Err(error) => Err(match state {
            State::Fine => Failed {
                error,
                how: How::Refused,
            },
            State::Cut => Failed {
                error: unknown("writing", &error),
                how: How::Cut,
            },
            State::Silent => Failed::lost(unknown("writing", &error)),
        }),
    }
}

fn publish(effects: Vec<Box<dyn FnOnce() + Send>>) {
    failpoint!("store::transaction::after_commit");
    failpoint!("store::transaction::before_publish");
    for effect in effects {
        effect();
    }
}

fn foreign() -> Error {
    Error::Invalid {
        operation: "writing",
        reason: "a transaction of another database".to_owned(),
    }
}

/// A connection that was cut while it rested is noticed here, where nothing is lost yet.
async fn begin(pool: &Pool) -> Result<Lent, Error> {
    let mut attempts = 1;
    loop {
        let mut lent = pool.lend().await?;
        match lent.run("BEGIN").await {
            Ok(()) => return Ok(lent),
            Err(_) if lent.state() == State::Cut && attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(sort_error("beginning a transaction", &error)),
        }
    }
}

/// Whether the server answered, so that it works and the connection too.
async fn undo(mut lent: Lent) -> bool {
    let undone = lent.state() == State::Fine && lent.run("ROLLBACK").await.is_ok();
    if undone {
        lent.give_back();
    }
    undone
}

/// What the server refused to keep is undone. When it said nothing, or that the session ends, nobody knows.
fn unless_fine(operation: &'static str, lent: Lent, error: &sqlx::Error) -> Error {
    let sorted = sort_error(operation, error);
    if lent.state() == State::Fine {
        lent.give_back();
        return sorted;
    }
    unknown(operation, &sorted)
}

pub(super) fn unknown(operation: &'static str, error: &Error) -> Error {
    Error::Unknown {
        operation,
        reason: error.to_string(),
    }
}
