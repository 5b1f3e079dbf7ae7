//! Instances that begin at the same moment, and instances that die.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use manyhands_store::{Database, Place, Replica, Store};
use manyhands_testkit::clock::TestClock;
use secrecy::ExposeSecret as _;

use crate::bed::*;

/// security STORE-5, issue: the first start of several instances
#[tokio::test(flavor = "multi_thread")]
async fn store_5_instances_that_start_together_on_an_empty_database_make_one_installation() {
    let bed = Bed::postgres().await;
    let starts = (0..4).map(|_| async {
        let store = bed.open().await;
        let workspace = store.default_workspace().await.unwrap();
        (store, workspace)
    });
    let started = soon(futures::future::join_all(starts)).await;
    for (store, workspace) in &started {
        assert_eq!(workspace, &started[0].1, "one default workspace");
        assert!(store.fresh());
    }
    for (store, _) in started {
        store.close().await;
    }
    let empty = bed.open().await;
    assert_eq!(empty.wanting(9).await, Ok(vec![]));
}

const URL: &str = "MANYHANDS_STORE_NEIGHBOUR_URL";
const DIRECTORY: &str = "MANYHANDS_STORE_NEIGHBOUR_DIRECTORY";
const NAME: &str = "replicas::births::lease_1_a_neighbour_that_was_killed_is_voided_at_once";

/// security LEASE-1: not after the 10 s for which the dead are believed to live.
#[tokio::test(flavor = "multi_thread")]
async fn lease_1_a_neighbour_that_was_killed_is_voided_at_once() {
    if std::env::var_os(URL).is_some() {
        return neighbour().await;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |directory: &std::path::Path| Replica {
        place: Place::Directory(directory.to_owned()),
        ..Replica::default()
    };
    let world = World::new_as(Bed::postgres().await, at(directory.path())).await;
    let id = world.session_with(work(vec![queued("go")])).await;
    let Database::Postgres { url } = &world.bed.database else {
        panic!("it is PostgreSQL");
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(URL, url.expose_secret())
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = tokio::task::spawn_blocking(move || {
        lines
            .map_while(Result::ok)
            .any(|line| line.contains("it holds the lease"))
    });
    assert!(soon(ready).await.unwrap(), "the neighbour lives");
    assert_eq!(world.claim(&id).await, None, "and has the session");
    let held = world.record(&id).await.epoch;
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = world.bed.open_as(at(elsewhere.path())).await;

    let mut nudges = world.store.nudges().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // By its lock, not by its time: that does not end.
    let believed = "UPDATE instances SET expires_at = (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT + 10000000";
    let goes_on = async {
        loop {
            world.bed.sql(believed).await;
        }
    };
    let nudge = tokio::select! {
        nudge = soon(nudges.recv()) => nudge.unwrap(),
        () = goes_on => unreachable!("it goes on"),
    };
    assert_eq!((nudge.session, nudge.lease), (id.clone(), None));
    assert!(
        world.record(&id).await.epoch > held,
        "whatever it still wrote would be refused"
    );
    let other = elsewhere.claim(&world.workspace, &id).await;
    assert_eq!(other, Ok(None), "its place goes first");
    assert!(world.claim(&id).await.is_some());
    let left = std::fs::read_dir(directory.path().join("instances")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [world.store.instance()], "nothing is left of it");
    assert_eq!(world.store.void_dead_neighbours().await, Ok(0));
}

/// The child: takes the session and waits to be killed.
async fn neighbour() {
    let variable = |name| std::env::var(name).unwrap();
    let database = Database::Postgres {
        url: variable(URL).into(),
    };
    let replica = Replica {
        place: Place::Directory(variable(DIRECTORY).into()),
        ..Replica::default()
    };
    let store = Bed::on(database, TestClock::default())
        .open_as(replica)
        .await;
    let wanting = store.wanting(1).await.unwrap();
    let lease = store
        .claim(&wanting[0].workspace, &wanting[0].session)
        .await;
    assert!(lease.unwrap().is_some());
    println!("it holds the lease");
    // Ends with its parent at the latest.
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    ended.await.unwrap().unwrap();
    drop::<Store>(store);
}
