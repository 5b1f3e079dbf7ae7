//! SQLite's writer: takes all waiting jobs into one transaction, so that they share one fsync (security LOG-1).
//!
//! Each job of a group keeps or loses its own writes: a savepoint stands around it. A failed write or commit fails
//! all members and ends the connection; the next group gets a new one (security STORE-2).

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::direct::{self, Direct};
use super::sqlite::connect;
use super::tx::Connection;
use super::{Job, Tx};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Reserve;

/// At most so many jobs share a commit …
const GROUP_JOBS: usize = 256;
/// … and no more are added once they carry so many bytes.
const GROUP_BYTES: usize = 4 << 20;

/// Runs on a thread of its own until all senders are gone and the last job is done.
pub(super) fn run(
    mut jobs: mpsc::Receiver<Box<dyn Job>>,
    file: &Path,
    connection: Direct,
    reserve: &Arc<Reserve>,
) {
    let on = |connection| on(connection, reserve);
    let mut writer = Some(on(connection));
    while let Some(first) = jobs.blocking_recv() {
        let group = gather(first, &mut jobs);
        let group = admit(group, reserve);
        if group.is_empty() {
            continue;
        }
        let tx = match writer.take() {
            Some(tx) => Ok(tx),
            None => connect(file).map(on),
        };
        writer = match tx {
            Ok(tx) => write_group(tx, group),
            Err(error) => {
                finish(group, &Err(error));
                None
            }
        };
    }
}

fn on(connection: Direct, reserve: &Arc<Reserve>) -> Tx {
    Tx {
        reserve: Some(Arc::clone(reserve)),
        ..Tx::new(Connection::Direct(connection))
    }
}

/// Refuses what there is no room for, before anything of it is written.
fn admit(group: Vec<Box<dyn Job>>, reserve: &Reserve) -> Vec<Box<dyn Job>> {
    reserve.look(group.iter().map(|job| job.scope().bytes).sum());
    let mut admitted = Vec::with_capacity(group.len());
    for job in group {
        match reserve.admit(job.scope().purpose) {
            Ok(()) => admitted.push(job),
            Err(error) => job.finish(Err(error)),
        }
    }
    admitted
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
fn write_group(mut tx: Tx, mut group: Vec<Box<dyn Job>>) -> Option<Tx> {
    failpoint!("store::group::before_begin");
    let result = run_jobs(&mut tx, &mut group).and_then(|()| commit(&tx));
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
            if let (Error::NoSpace { .. }, Some(reserve)) = (error, &tx.reserve) {
                reserve.met_the_end();
            }
            // Closing rolls back what is left of the transaction.
            drop(tx);
            None
        }
    };
    failpoint!("store::group::before_acknowledge");
    finish(group, &result);
    usable
}

fn run_jobs(tx: &mut Tx, group: &mut [Box<dyn Job>]) -> Result<(), Error> {
    tx.direct()?.control("BEGIN IMMEDIATE")?;
    let alone = group.len() == 1;
    for job in group {
        if !alone {
            tx.direct()?.control("SAVEPOINT job")?;
        }
        let effects = tx.effects.len();
        let ran = direct::run(job.as_mut(), tx);
        failpoint!("store::group::after_job");
        if let Some(fault) = tx.fault.take() {
            return Err(fault);
        }
        let stays = ran?;
        if !stays {
            tx.effects.truncate(effects);
        }
        let connection = tx.direct()?;
        match (stays, alone) {
            (true, true) => {}
            (false, true) => connection.control("ROLLBACK")?,
            (true, false) => connection.control("RELEASE job")?,
            (false, false) => {
                connection.control("ROLLBACK TO job")?;
                connection.control("RELEASE job")?;
            }
        }
    }
    Ok(())
}

fn commit(tx: &Tx) -> Result<(), Error> {
    let connection = tx.direct()?;
    if connection.is_at_rest() {
        // The one job was refused.
        return Ok(());
    }
    failpoint!("store::group::before_commit");
    connection.control("COMMIT")?;
    failpoint!("store::group::after_commit");
    Ok(())
}

fn finish(group: Vec<Box<dyn Job>>, result: &Result<(), Error>) {
    for job in group {
        job.finish(result.clone());
    }
}
