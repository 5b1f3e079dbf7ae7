//! SQLite's writer: takes all waiting jobs into one transaction, so that they share one fsync (security LOG-1).
//!
//! Each job of a group keeps or loses its own writes: a savepoint stands around it. A failed write or commit fails
//! all members and ends the connection; the next group gets a new one (security STORE-2).

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::mpsc;

use super::sqlite::connect;
use super::{Job, Tx};
use crate::error::Error;
use crate::failpoint::failpoint;

/// At most so many jobs share a commit …
const GROUP_JOBS: usize = 256;
/// … and no more are added once they carry so many bytes.
const GROUP_BYTES: usize = 4 << 20;

/// Statements in front of a job's first one, in the same trip to the database.
const BEGIN: &str = "BEGIN IMMEDIATE; ";
const BEGIN_AND_MARK: &str = "BEGIN IMMEDIATE; SAVEPOINT job; ";
const KEEP_AND_MARK: &str = "RELEASE job; SAVEPOINT job; ";

/// Runs until all senders are gone and the last job is done.
pub(super) async fn run(
    mut jobs: mpsc::Receiver<Box<dyn Job>>,
    options: SqliteConnectOptions,
    connection: SqliteConnection,
) {
    let mut writer = Some(Tx::on_sqlite(connection));
    while let Some(first) = jobs.recv().await {
        let group = gather(first, &mut jobs);
        let tx = match writer.take() {
            Some(tx) => Ok(tx),
            None => connect(&options).await.map(Tx::on_sqlite),
        };
        writer = match tx {
            Ok(tx) => write_group(tx, group).await,
            Err(error) => {
                finish(group, &Err(error));
                None
            }
        };
    }
    if let Some(tx) = writer {
        tx.abandon_sqlite().await;
    }
}

fn gather(first: Box<dyn Job>, jobs: &mut mpsc::Receiver<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
    let mut bytes = first.scope().bytes;
    let mut group = vec![first];
    while group.len() < GROUP_JOBS && bytes < GROUP_BYTES {
        let Ok(job) = jobs.try_recv() else { break };
        bytes += job.scope().bytes;
        group.push(job);
    }
    group
}

/// Writes a group; gives the connection back when it can be used again.
async fn write_group(mut tx: Tx, mut group: Vec<Box<dyn Job>>) -> Option<Tx> {
    failpoint!("store::group::before_begin");
    let result = match run_jobs(&mut tx, &mut group).await {
        Ok(()) => commit(&mut tx).await,
        Err(error) => Err(error),
    };
    let usable = match &result {
        Ok(()) => {
            failpoint!("store::group::before_publish");
            for effect in tx.effects.drain(..) {
                effect();
            }
            Some(tx)
        }
        Err(error) => {
            tracing::error!(%error, jobs = group.len(), "a group of writes failed; opening the database again");
            // Closing rolls back what is left of the transaction.
            tx.abandon_sqlite().await;
            None
        }
    };
    failpoint!("store::group::before_acknowledge");
    finish(group, &result);
    usable
}

async fn run_jobs(tx: &mut Tx, group: &mut [Box<dyn Job>]) -> Result<(), Error> {
    let alone = group.len() == 1;
    tx.prefix = Some(if alone { BEGIN } else { BEGIN_AND_MARK });
    for job in group {
        let untouched = tx.prefix;
        let effects = tx.effects.len();
        let stays = AssertUnwindSafe(job.run(tx))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                tracing::error!("a write panicked and is rolled back");
                false
            });
        failpoint!("store::group::after_job");
        if let Some(fault) = tx.fault.take() {
            return Err(fault);
        }
        let wrote_nothing = untouched.is_some() && tx.prefix.is_some();
        if !stays {
            tx.effects.truncate(effects);
        }
        match (stays, wrote_nothing) {
            (_, true) => {}
            (true, false) => tx.prefix = (!alone).then_some(KEEP_AND_MARK),
            (false, false) if alone => {
                tx.run("ROLLBACK", Vec::new()).await?;
                tx.prefix = Some(BEGIN);
            }
            // The savepoint stays where it was: the next job needs no new one.
            (false, false) => tx.run("ROLLBACK TO job", Vec::new()).await?,
        }
    }
    Ok(())
}

async fn commit(tx: &mut Tx) -> Result<(), Error> {
    if let Some(BEGIN | BEGIN_AND_MARK) = tx.prefix.take() {
        // No statement ran.
        return Ok(());
    }
    failpoint!("store::group::before_commit");
    tx.run("COMMIT", Vec::new()).await?;
    failpoint!("store::group::after_commit");
    Ok(())
}

fn finish(group: Vec<Box<dyn Job>>, result: &Result<(), Error>) {
    for job in group {
        job.finish(result.clone());
    }
}
