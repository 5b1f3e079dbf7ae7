//! What PostgreSQL does to a store: it restarts and fails over here; the rest is in the folder.

mod connections;

use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_protocol::SessionId;
use manyhands_store::{AppendError, Database, Entry, Error, Lease, NewEntry, Store};
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::postgres::{Cluster, Crash, Proxy};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::bed::*;

/// No request takes longer than twice the store's own patience, whatever the database does, on a busy machine.
const BOUND: Duration = Duration::from_secs(25);

fn bed(url: &str) -> Bed {
    let database = Database::Postgres { url: url.into() };
    Bed::on(database, TestClock::default())
}

fn answer(text: &str) -> manyhands_store::Append {
    entries(vec![NewEntry::event(answered(text))])
}

/// How often a text is in a log.
fn count(log: &[Entry], text: &str) -> usize {
    let quoted = format!("\"{text}\"");
    log.iter()
        .filter(|entry| entry.body.contains(&quoted))
        .count()
}

/// What a brain does after a failed write: it gives the lease back and takes it again, which waits for whatever of it
/// is still under way and shuts out the rest; then the log says what is true.
async fn claim_again(world: &World, lease: &Lease) -> Lease {
    soon(async {
        loop {
            // It may not be ours any more.
            let _ = world.store.release(lease).await;
            match world.store.claim(&lease.workspace, &lease.session).await {
                Ok(Some(lease)) => return lease,
                Ok(None) | Err(Error::Unavailable { .. } | Error::Unknown { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await
}

/// As a brain that goes on: it may claim before its instance is believed again, and then its lease is not worth much.
async fn write_again(world: &World, mut lease: Lease, text: &str) {
    soon(async {
        loop {
            lease = claim_again(world, &lease).await;
            match world.store.append(&lease, answer(text)).await {
                Ok(_) => return,
                Err(AppendError::StaleEpoch { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await;
}

async fn log_of(store: &Store, id: &SessionId) -> Vec<Entry> {
    soon(async {
        loop {
            match store.read(id, 0, 100_000).await {
                Ok(log) => return log,
                Err(Error::Unavailable { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await
}

/// Brains that write one answer after the other, each once whatever happens, until they are told to stop.
struct Load {
    world: Arc<World>,
    acknowledged: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    brains: JoinSet<(SessionId, usize)>,
}

impl Load {
    async fn start(world: Arc<World>, sessions: usize) -> Self {
        let mut load = Self {
            acknowledged: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            brains: JoinSet::new(),
            world,
        };
        for _ in 0..sessions {
            let (id, lease) = load.world.leased().await;
            let brain = write_on(
                Arc::clone(&load.world),
                id,
                lease,
                load.stop.subscribe(),
                load.acknowledged.clone(),
            );
            load.brains.spawn(brain);
        }
        load
    }

    /// Waits until so many more answers are acknowledged.
    async fn goes_on(&self, more: u64) {
        let mut heard = self.acknowledged.subscribe();
        let goal = *heard.borrow_and_update() + more;
        soon(heard.wait_for(|count| *count >= goal)).await.unwrap();
    }

    /// Every answer that was acknowledged, or found in the log, is there once and in order, and nothing else is.
    async fn check(mut self) -> u64 {
        self.stop.send_replace(true);
        while let Some(ended) = self.brains.join_next().await {
            let (id, answers) = ended.unwrap();
            let log = log_of(&self.world.store, &id).await;
            let texts: Vec<usize> = (0..answers)
                .map(|number| count(&log, &format!("answer {number}")))
                .collect();
            assert_eq!(texts, vec![1; answers], "{id}");
            assert_eq!(log.len(), answers + 1, "{id}: the message and its answers");
            let gapless: Vec<i64> = (1..).take(log.len()).collect();
            assert_eq!(positions(&log), gapless, "{id}");
        }
        *self.acknowledged.borrow()
    }
}

async fn write_on(
    world: Arc<World>,
    id: SessionId,
    mut lease: Lease,
    stop: watch::Receiver<bool>,
    acknowledged: watch::Sender<u64>,
) -> (SessionId, usize) {
    let mut number = 0;
    while !*stop.borrow() {
        let text = format!("answer {number}");
        match world.store.append(&lease, answer(&text)).await {
            Ok(_) => {
                number += 1;
                acknowledged.send_modify(|count| *count += 1);
            }
            Err(
                AppendError::StaleEpoch { .. }
                | AppendError::Store(Error::Unavailable { .. } | Error::Unknown { .. }),
            ) => {
                lease = claim_again(&world, &lease).await;
                number += count(&log_of(&world.store, &id).await, &text);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    (id, number)
}

/// security LOG-1
#[tokio::test(flavor = "multi_thread")]
async fn log_1_a_postgres_that_crashes_under_load_loses_nothing_and_the_store_heals() {
    let mut cluster = block_in_place(Cluster::start);
    let world = Arc::new(World::new(bed(&cluster.create_database())).await);
    let load = Load::start(Arc::clone(&world), 6).await;
    load.goes_on(60).await;
    for crash in [Crash::Immediate, Crash::Kill] {
        block_in_place(|| {
            cluster.crash(crash);
            cluster.start_again();
        });
        load.goes_on(60).await;
        soon(world.store.ping()).await.expect("ready again");
    }
    block_in_place(|| cluster.crash(Crash::Kill));
    let began = Instant::now();
    let refused = world.store.ping().await.expect_err("nobody is there");
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    block_in_place(|| cluster.start_again());
    load.goes_on(60).await;
    assert!(load.check().await >= 240);
    world.store.close().await;
}

/// security STORE-1, LOG-1, LEASE-1
#[tokio::test(flavor = "multi_thread")]
async fn store_1_a_failover_loses_nothing_and_the_former_primary_is_not_written_to() {
    let (mut first, second) = block_in_place(|| {
        let first = Cluster::start();
        let second = first.standby();
        (first, second)
    });
    let proxy = Proxy::start(&first.socket()).await;
    let world = Arc::new(World::new(bed(&proxy.url(&first.create_database()))).await);
    let load = Load::start(Arc::clone(&world), 4).await;
    load.goes_on(40).await;

    // Before its promotion the standby is refused: reads and writes go to the primary alone.
    block_in_place(|| first.crash(Crash::Kill));
    proxy.lead_to(&second.socket());
    let refused = world.store.read(&SessionId::generate(), 0, 1).await;
    let refused = refused.expect_err("there is no primary").to_string();
    assert!(refused.contains("standby"), "{refused}");
    block_in_place(|| second.promote());
    load.goes_on(40).await;
    assert!(load.check().await >= 80);

    let (id, lease) = world.leased().await;
    block_in_place(|| first.start_again());
    let follows = block_in_place(|| first.sql("SELECT pg_is_in_recovery()"));
    assert_eq!(follows, "f", "it believes that it is a primary");
    proxy.lead_to(&first.socket());
    let refused = world.store.append(&lease, answer("to whom?")).await;
    let refused = refused.expect_err("a former primary").to_string();
    assert!(refused.contains("former primary"), "{refused}");
    proxy.lead_to(&second.socket());
    write_again(&world, lease, "here").await;
    let log = world.log(&id).await;
    assert_eq!((count(&log, "to whom?"), count(&log, "here")), (0, 1));
    world.store.close().await;
}
