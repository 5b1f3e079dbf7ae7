//! The database in memory: nothing waits, nothing is left to chance, and it fails when told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use manyhands_store::{
    AppendError, Conduct, Config, Database, Error, NewEntry, Outcome, SharedMemory, Store,
    TailItem, Use,
};
use manyhands_testkit::clock::TestClock;

use crate::bed::*;

fn hello() -> manyhands_store::Append {
    entries(vec![NewEntry::event(answered("hello"))])
}

fn shared(world: &World) -> &SharedMemory {
    match &world.bed.database {
        Database::Memory(shared) => shared,
        _ => panic!("it is in memory"),
    }
}

/// Another store on the same data, which is shown each use.
async fn beside(world: &World, conduct: impl Fn(Use) -> Conduct + Send + Sync + 'static) -> Store {
    let database = Database::Memory(shared(world).with_conduct(conduct));
    let config = Config {
        database,
        ..world.bed.config()
    };
    Store::open(config).await.unwrap()
}

/// A conduct that is what the test says last.
fn switch() -> (Arc<Mutex<Conduct>>, impl Fn(Use) -> Conduct + Send + Sync) {
    let current = Arc::new(Mutex::new(Conduct::default()));
    let seen = Arc::clone(&current);
    (current, move |_| *seen.lock().unwrap())
}

fn told(outcome: Outcome) -> Conduct {
    Conduct {
        outcome,
        ..Conduct::default()
    }
}

#[tokio::test]
async fn reads_and_writes_are_over_at_their_first_poll() {
    let world = World::new(Bed::memory().await).await;
    let (id, lease) = world.leased().await;
    let written = world.store.append(&lease, hello()).now_or_never();
    let written = written.expect("it does not wait").unwrap();
    let read = world.store.read(&id, 1, 9).now_or_never();
    assert_eq!(read.expect("it does not wait"), Ok(written));
}

/// security LEASE-1
#[tokio::test]
async fn lease_1_stores_on_one_memory_are_instances_that_live_by_its_clock() {
    let clock = TestClock::default();
    let database = Database::Memory(SharedMemory::new(Arc::new(clock.clone())).unwrap());
    let world = World::new(Bed::on(database, TestClock::default())).await;
    let (id, lease) = world.leased().await;
    let second = world.bed.open().await;
    let claim = || second.claim(&world.workspace, &id);
    assert_eq!(claim().await, Ok(None), "a living instance holds it");
    assert_eq!(second.read(&id, 0, 9).await.unwrap(), world.log(&id).await);

    clock.advance(Duration::from_millis(9_999));
    assert_eq!(claim().await, Ok(None), "it is believed for 10 s");
    clock.advance(Duration::from_millis(1));
    let expired = world.store.append(&lease, hello()).await;
    let epoch = lease.epoch;
    assert_eq!(expired, Err(AppendError::StaleEpoch { epoch }));
    let third = world.bed.open().await;
    let taken = third.claim(&world.workspace, &id).await.unwrap().unwrap();
    assert!(taken.epoch > lease.epoch);
    assert_eq!(third.append(&taken, hello()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_write_that_is_told_to_fail_leaves_nothing() {
    let world = World::new(Bed::memory().await).await;
    let (id, _) = world.leased().await;
    let (conduct, shown) = switch();
    let store = beside(&world, shown).await;
    let (other, before) = (world.session().await, world.log(&id).await);
    let mut tail = store.subscribe(&other);
    let change = || {
        store.change(&world.workspace, &other, &[], |_| {
            Ok::<_, std::convert::Infallible>((work(vec![queued("go")]), ()))
        })
    };
    *conduct.lock().unwrap() = told(Outcome::Failed);
    assert!(matches!(change().await, Err(Error::Unavailable { .. })));
    let read = store.read(&other, 0, 9).await;
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    assert_eq!(world.log(&other).await, [], "nothing was written");
    assert_eq!(world.log(&id).await, before);

    // The outcome is unknown to the caller: it stands, and nobody is told.
    *conduct.lock().unwrap() = told(Outcome::Unknown);
    assert!(matches!(change().await, Err(Error::Unavailable { .. })));
    assert_eq!(world.log(&other).await.len(), 1, "it stands");
    assert!(tail.recv().now_or_never().is_none(), "nothing is published");

    *conduct.lock().unwrap() = Conduct::default();
    let (entries, ()) = change().await.unwrap().unwrap().unwrap();
    assert_eq!(entries[0].position, 2);
    let Some(Some(TailItem::Entries(heard))) = tail.recv().now_or_never() else {
        panic!("it is published");
    };
    assert_eq!(*heard, *entries);
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_has_happened_or_has_not() {
    let world = World::new(Bed::memory().await).await;
    let (conduct, shown) = switch();
    let store = beside(&world, shown).await;
    let id = world.session().await;
    let check = async |before, after, written| {
        *conduct.lock().unwrap() = Conduct {
            before,
            outcome: Outcome::Done,
            after,
        };
        let change = store.change(&world.workspace, &id, &[], |_| {
            Ok::<_, std::convert::Infallible>((notes(&["a note"]), ()))
        });
        assert!(
            change.now_or_never().is_none(),
            "its caller waits, and goes"
        );
        assert_eq!(world.log(&id).await.len(), written);
    };
    let long = Duration::from_secs(3600);
    check(long, Duration::ZERO, 0).await;
    check(Duration::ZERO, long, 1).await;
}

#[tokio::test]
async fn every_use_is_shown_in_order() {
    let world = World::new(Bed::memory().await).await;
    let uses: Arc<Mutex<Vec<Use>>> = Arc::default();
    let seen = Arc::clone(&uses);
    let store = beside(&world, move |of| {
        seen.lock().unwrap().push(of);
        Conduct::default()
    })
    .await;
    uses.lock().unwrap().clear();
    store.ping().await.unwrap();
    assert_eq!(*uses.lock().unwrap(), [Use::Read, Use::Write]);
}

#[tokio::test]
async fn a_closed_store_leaves_the_data_to_the_others() {
    let world = World::new(Bed::memory().await).await;
    let (id, lease) = world.leased().await;
    let second = world.bed.open().await;
    world.store.close().await;
    let refused = world.store.append(&lease, hello()).await;
    assert!(matches!(
        refused,
        Err(AppendError::Store(Error::Unavailable { .. }))
    ));
    let taken = second.claim(&world.workspace, &id).await.unwrap();
    assert!(taken.is_some_and(|taken| taken.epoch > lease.epoch));
}
