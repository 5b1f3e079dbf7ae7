//! What breaks between instances and PostgreSQL, and that nothing is lost by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_store::replica::Uptime;
use manyhands_store::{AppendError, Database, NewEntry, Replica, TailItem};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Fleet, change};
use crate::bed::*;

async fn connect(bed: &Bed) -> PgConnection {
    let Database::Postgres { url } = &bed.database else {
        panic!("it is PostgreSQL");
    };
    PgConnection::connect(url.expose_secret()).await.unwrap()
}

/// Ends the connections whose last statement begins so, as soon as there is one: it may be being made anew.
async fn cut(connection: &mut PgConnection, statement: &str) {
    soon(async { while cut_all(connection, statement).await == 0 {} }).await;
}

/// Ends the connections whose last statement begins so; says how many there were.
async fn cut_all(connection: &mut PgConnection, statement: &str) -> i64 {
    let pattern = format!("{statement}%");
    sqlx::query_scalar(
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE query LIKE $1 AND datname = current_database() AND pid <> pg_backend_pid()",
    )
    .bind(pattern)
    .fetch_one(connection)
    .await
    .unwrap()
}

/// A writer that goes on until it is told to stop; gives the last position.
fn write(
    fleet: &Arc<Fleet>,
    id: &SessionId,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<i64> {
    let (fleet, id, stop) = (Arc::clone(fleet), id.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            fleet.world.change(&id, notes(&["more"])).await;
        }
        fleet.world.change(&id, notes(&["last"])).await[0].position
    })
}

/// security STREAM-1: the timers are far away.
#[tokio::test(flavor = "multi_thread")]
async fn stream_1_cut_connections_between_instances_lose_nothing() {
    let fleet = Arc::new(Fleet::postgres().await);
    let other = fleet.open("elsewhere").await;
    let id = fleet.world.session().await;
    let mut tail = other.subscribe(&id);
    tail.has_read(0);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = write(&fleet, &id, &stop);
    let mut admin = connect(&fleet.world.bed).await;
    let mut next = 1;
    let cuts = ["LISTEN", "SELECT pg_notify", "LISTEN"];
    for goal in 1..=cuts.len() + 1 {
        // As many entries are heard before, between and behind the cuts.
        while next < goal as i64 * 20 {
            next = hear(&mut tail, next).await;
        }
        if let Some(statement) = cuts.get(goal - 1) {
            cut(&mut admin, statement).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let last = soon(writer).await.unwrap();
    while next <= last {
        next = hear(&mut tail, next).await;
    }
}

async fn hear(tail: &mut manyhands_store::Subscription, next: i64) -> i64 {
    match soon(tail.recv()).await {
        Some(TailItem::Entries(entries)) => {
            assert_eq!(entries[0].position, next, "each once, and in order");
            next + entries.len() as i64
        }
        other => panic!("{other:?}"),
    }
}

/// A wish that is sent while nobody hears is lost, but the next one is heard: the connection was made anew.
#[tokio::test(flavor = "multi_thread")]
async fn er_13_wishes_are_heard_again_behind_a_cut() {
    let fleet = Fleet::postgres().await;
    let mut brain = fleet.brain("elsewhere").await;
    let mut admin = connect(&fleet.world.bed).await;
    cut(&mut admin, "LISTEN").await;
    soon(async {
        loop {
            fleet.world.session_with(work(vec![queued("go")])).await;
            let waited = tokio::time::timeout(Duration::from_millis(50), brain.nudges.recv());
            if waited.await.is_ok() {
                return;
            }
        }
    })
    .await;
}

/// security LEASE-1: a pool with nothing free does not keep an instance from saying that it lives.
#[tokio::test(flavor = "multi_thread")]
async fn lease_1_a_full_pool_does_not_hold_up_the_renewal() {
    let fleet = Arc::new(Fleet::postgres().await);
    let bed = &fleet.world.bed;
    let mut ids = Vec::new();
    for _ in 0..24 {
        ids.push(fleet.world.session().await);
    }
    let mut blocker = connect(bed).await;
    blocker
        .execute("BEGIN; SELECT id FROM sessions FOR UPDATE")
        .await
        .unwrap();
    let writers: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let fleet = Arc::clone(&fleet);
            tokio::spawn(async move {
                change(fleet.first(), &fleet.world, &id, notes(&["late"])).await;
            })
        })
        .collect();
    let mut admin = connect(bed).await;
    until_waiting(&mut admin, 16).await;
    let expires = "SELECT expires_at FROM instances";
    let before: i64 = sqlx::query_scalar(expires)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    soon(async {
        while sqlx::query_scalar::<_, i64>(expires)
            .fetch_one(&mut admin)
            .await
            .unwrap()
            == before
        {}
    })
    .await;
    assert!(fleet.first().fresh());
    blocker.execute("ROLLBACK").await.unwrap();
    for writer in writers {
        soon(writer).await.unwrap();
    }
}

/// security LEASE-1: an instance that could not renew writes nothing, and knows it before it asks the database.
#[tokio::test(flavor = "multi_thread")]
async fn lease_1_an_instance_whose_renewal_stops_knows_it_and_writes_nothing() {
    let bed = Bed::postgres().await;
    let seconds = Arc::new(AtomicU64::new(1_000));
    let clock = Arc::clone(&seconds);
    let uptime = Uptime::new(move || Duration::from_secs(clock.load(Ordering::Relaxed)));
    let replica = Replica {
        uptime,
        ..Replica::default()
    };
    let world = World::new_as(bed, replica).await;
    let (id, lease) = world.leased().await;
    world.bed.expire_instances().await;
    seconds.fetch_add(9, Ordering::Relaxed);
    assert!(world.store.fresh(), "others may still believe in it");
    seconds.fetch_add(1, Ordering::Relaxed);
    assert!(!world.store.fresh());
    let epoch = lease.epoch;
    let said = entries(vec![NewEntry::event(answered("too late"))]);
    let refused = world.store.append(&lease, said).await;
    assert_eq!(refused, Err(AppendError::StaleEpoch { epoch }));
    assert_eq!(world.log(&id).await.len(), 1);

    world.bed.sql("DROP TRIGGER stop ON instances").await;
    soon(async {
        while !world.store.fresh() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let said = entries(vec![NewEntry::event(answered("nobody took it meanwhile"))]);
    assert_eq!(world.store.append(&lease, said).await.unwrap().len(), 1);
}
