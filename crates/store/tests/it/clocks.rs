//! Clocks that are set while instances live by them (security LEASE-1).

use std::time::Duration;

use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Append, Change, NewEntry};

use crate::bed::*;

contract!(us_4_what_was_shown_as_running_time_is_the_least_that_is_kept);

#[tokio::test(flavor = "multi_thread")]
async fn lease_1_a_clock_set_back_keeps_no_dead_instance_alive_on_postgres() {
    a_clock_set_back_keeps_no_dead_instance_alive(Bed::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_1_a_clock_set_back_keeps_no_dead_instance_alive_in_memory() {
    a_clock_set_back_keeps_no_dead_instance_alive(Bed::memory().await).await;
}

async fn a_clock_set_back_keeps_no_dead_instance_alive(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let World {
        bed,
        store,
        workspace,
        ..
    } = world;
    // Dead, not closed: its row stays.
    drop(store);
    let another = bed.open().await;
    // As if the database's clock had been set back by a day since it renewed itself.
    bed.sql("UPDATE instances SET expires_at = expires_at + 86400000000")
        .await;
    let taken = soon(async {
        loop {
            if let Some(taken) = another.claim(&workspace, &id).await.unwrap() {
                return taken;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(taken.await.epoch > lease.epoch);
    another.close().await;
}

/// The clock is set back between the moment that a `session.usage` is computed for and its write, on every way that a
/// write can take: alone or with others, behind an end of the log that is known or not.
async fn us_4_what_was_shown_as_running_time_is_the_least_that_is_kept(bed: Bed) {
    let world = World::new(bed).await;
    let waiting = queued("go");
    let NewEntry::Event { id: message, .. } = &waiting else {
        unreachable!("an event");
    };
    let processed = NewEntry::Processed {
        event_id: message.clone(),
    };
    let id = world.session_with(work(vec![waiting.clone()])).await;
    let lease = world.claim(&id).await.expect("nobody holds it");
    let hello = || NewEntry::event(answered("hello"));
    let showing = |entry: NewEntry, millis: Option<i64>| Append {
        entries: vec![entry],
        active_millis: millis,
        ..Append::default()
    };
    // (what is written, the running time it shows, what is kept); three milliseconds run before each, and then the
    // clock is set back by two
    let writes = [
        (hello(), Some(3), 3),
        (hello(), None, 4),
        (hello(), Some(7), 7),
        (hello(), Some(5), 8),
        (processed, Some(11), 11),
        (hello(), Some(14), 14),
    ];
    for (n, (entry, shown, kept)) in writes.into_iter().enumerate() {
        world.bed.clock.advance(Duration::from_millis(3));
        world.bed.clock.set_back(Duration::from_millis(2));
        let append = showing(entry, shown);
        world.store.append(&lease, append).await.unwrap();
        assert_eq!(world.record(&id).await.active_millis, kept, "write {n}");
    }
    world.bed.clock.set_back(Duration::from_secs(1));
    let rest = Append {
        status: Some(SessionStatus::Idle),
        ..showing(hello(), Some(17))
    };
    let read_to = world.record(&id).await.last_position;
    let rested = world.store.append_and_rest(&lease, rest, read_to).await;
    assert_eq!(rested.unwrap().len(), 1);
    assert_eq!(world.record(&id).await.active_millis, 17, "at rest");
    for (shown, kept) in [(Some(20), 20), (Some(19), 20), (None, 20)] {
        let append = showing(hello(), shown);
        let change = Change {
            append,
            ..Change::default()
        };
        world.change(&id, change).await;
        let found = world.record(&id).await.active_millis;
        assert_eq!(found, kept, "a client's write that shows {shown:?}");
    }
    world.store.close().await;
}
