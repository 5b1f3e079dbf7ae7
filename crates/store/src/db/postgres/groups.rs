//! Writes of one kind that wait at the same time share a transaction and its statements, so that each costs a
//! fraction of a round trip and of a commit. Nobody waits for a group to fill: it is whoever is there.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, mpsc, oneshot};

use super::gate::Gate;
use super::pool::{ATTEMPTS, Pool};
use super::transaction::{self, End, Failed, How};
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::failpoint::failpoint;

/// So many groups are written at once: while one is being made durable, the next runs.
const LANES: usize = 2;
/// At most so many writes share a transaction …
const GROUP: usize = 128;
/// … and no more are added once they carry so many bytes.
const GROUP_BYTES: usize = 4 << 20;

/// A write whose statements take any number of its kind.
pub(crate) trait Together: Send + Sync + Sized + 'static {
    /// What a write that stays gives.
    type Done: Send;
    /// Why one was refused, having written nothing.
    type Refused: From<Error> + Send;

    fn scope(&self) -> Scope;

    /// Writes, in one statement that commits by itself, those of a group that it can; the others are `None`. The next
    /// time, after a connection was cut, a write that is there already counts as done and is not written twice.
    fn write_at_once<'t>(
        tx: &'t mut Tx,
        group: &'t [&'t Self],
        again: bool,
    ) -> BoxFuture<'t, Result<Vec<Option<Self::Done>>, Error>>;

    /// Writes all of a group, in a transaction. Each has a result of its own; an error loses all.
    fn write<'t>(tx: &'t mut Tx, group: &'t [&'t Self]) -> BoxFuture<'t, Written<Self>>;
}

/// The results of a group, one for each write in its order.
pub(crate) type Written<W> =
    Result<Vec<Result<<W as Together>::Done, <W as Together>::Refused>>, Error>;

/// The queue of writes of one kind, and those who take from it.
pub(crate) struct Groups<W: Together> {
    gate: Arc<Gate>,
    queue: mpsc::UnboundedSender<Waiting<W>>,
}

struct Waiting<W: Together> {
    write: W,
    /// No two writes of a group have the same key, and no later one of that key begins before the effects.
    turn: Option<OwnedMutexGuard<()>>,
    running: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<W::Done, W::Refused>>,
}

impl<W: Together> Groups<W> {
    /// Those who take from the queue end with it.
    pub(super) fn new(pool: &Pool, gate: &Arc<Gate>) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..LANES {
            tokio::spawn(take(pool.clone(), Arc::clone(&waiting)));
        }
        Self {
            gate: Arc::clone(gate),
            queue,
        }
    }

    /// Returns after the commit. Dropping the future does not stop the write.
    pub(crate) async fn write(&self, write: W) -> Result<W::Done, W::Refused> {
        let running = self.gate.enter()?;
        let (answer, answered) = oneshot::channel();
        let key = write.scope().key;
        let waiting = |turn| Waiting {
            write,
            turn,
            running,
            answer,
        };
        let gone = || {
            W::Refused::from(Error::Unavailable {
                operation: "writing",
                reason: "the write was abandoned".to_owned(),
            })
        };
        match key.map(|key| self.gate.turn(key)) {
            None => self.queue.send(waiting(None)).map_err(|_| gone())?,
            Some(turn) => match Arc::clone(&turn).try_lock_owned() {
                Ok(turn) => self.queue.send(waiting(Some(turn))).map_err(|_| gone())?,
                Err(_) => {
                    let queue = self.queue.clone();
                    tokio::spawn(async move {
                        let turn = turn.lock_owned().await;
                        // Its answer is dropped with it.
                        let _ = queue.send(waiting(Some(turn)));
                    });
                }
            },
        }
        answered.await.map_err(|_| gone())?
    }
}

async fn take<W: Together>(pool: Pool, queue: Arc<Mutex<mpsc::UnboundedReceiver<Waiting<W>>>>) {
    loop {
        let group = {
            let mut queue = queue.lock().await;
            let Some(first) = queue.recv().await else {
                return;
            };
            gather(first, &mut queue)
        };
        write_group(&pool, group).await;
    }
}

fn gather<W: Together>(
    first: Waiting<W>,
    queue: &mut mpsc::UnboundedReceiver<Waiting<W>>,
) -> Vec<Waiting<W>> {
    let mut bytes = first.write.scope().bytes;
    let mut group = vec![first];
    while group.len() < GROUP && bytes < GROUP_BYTES {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.write.scope().bytes;
        group.push(next);
    }
    group
}

/// Writes a group: at once, then what is left in a transaction, then what is left one by one.
async fn write_group<W: Together>(pool: &Pool, group: Vec<Waiting<W>>) {
    failpoint!("store::transaction::before_begin");
    let left = match write_at_once(pool, &group).await {
        Ok(done) => {
            failpoint!("store::transaction::before_acknowledge");
            let mut left = Vec::new();
            for (waiting, done) in group.into_iter().zip(done) {
                match done {
                    Some(done) => waiting.finish(Ok(done)),
                    None => left.push(waiting),
                }
            }
            left
        }
        // What the database says no to may be the fault of one.
        Err(failed) if failed.how == How::Refused => group,
        Err(failed) => return fail(group, &failed.error),
    };
    if left.is_empty() {
        return;
    }
    let Err((failed, left)) = write_in_transaction(pool, left).await else {
        return;
    };
    if failed.how != How::Refused || left.len() == 1 {
        return fail(left, &failed.error);
    }
    tracing::debug!(error = %failed.error, writes = left.len(), "a group of writes is done one by one");
    for waiting in left {
        if let Err((failed, left)) = write_in_transaction(pool, vec![waiting]).await {
            fail(left, &failed.error);
        }
    }
}

/// As long as connections are cut, others are asked. What was refused after that may have been done before.
async fn write_at_once<W: Together>(
    pool: &Pool,
    group: &[Waiting<W>],
) -> Result<Vec<Option<W::Done>>, Failed> {
    let writes: Vec<&W> = group.iter().map(|waiting| &waiting.write).collect();
    let mut attempts = 1;
    loop {
        let again = attempts > 1;
        let work = async |tx: &mut Tx| W::write_at_once(tx, &writes, again).await;
        match transaction::run_at_once(pool, work).await {
            Err(failed) if failed.how == How::Cut && attempts < ATTEMPTS => attempts += 1,
            Err(failed) if again => {
                return Err(Failed {
                    error: transaction::unknown("writing", &failed.error),
                    how: How::Failed,
                });
            }
            done => return done,
        }
    }
}

async fn write_in_transaction<W: Together>(
    pool: &Pool,
    group: Vec<Waiting<W>>,
) -> Result<(), (Failed, Vec<Waiting<W>>)> {
    let writes: Vec<&W> = group.iter().map(|waiting| &waiting.write).collect();
    let work = async |tx: &mut Tx| Ok((W::write(tx, &writes).await?, End::Keep));
    match transaction::run(pool, work).await {
        Ok(results) => {
            failpoint!("store::transaction::before_acknowledge");
            for (waiting, result) in group.into_iter().zip(results) {
                waiting.finish(result);
            }
            Ok(())
        }
        Err(failed) => Err((failed, group)),
    }
}

fn fail<W: Together>(group: Vec<Waiting<W>>, error: &Error) {
    for waiting in group {
        waiting.finish(Err(W::Refused::from(error.clone())));
    }
}

impl<W: Together> Waiting<W> {
    fn finish(self, result: Result<W::Done, W::Refused>) {
        let Self {
            turn,
            running,
            answer,
            ..
        } = self;
        drop(turn);
        // The caller may have gone; the write stands all the same.
        let _ = answer.send(result);
        drop(running);
    }
}
