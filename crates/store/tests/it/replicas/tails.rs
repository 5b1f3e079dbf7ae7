//! What listeners hear of sessions that are written on other instances.

use std::sync::Arc;
use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_store::replica::{Channel, Exchange, Parcel};
use manyhands_store::{Change, Entry, Replica, Store, Subscription, TailItem};

use super::{Fleet, change, replica, replicated};
use crate::bed::*;

replicated!(
    st_2_what_commits_elsewhere_after_subscribing_is_heard,
    i_2_stream_1_64_writers_on_two_instances_are_heard_in_order_on_both,
    stream_1_entries_from_before_a_listener_knew_where_it_is_are_pointed_at,
    st_5_a_deletion_elsewhere_is_heard,
    stream_1_the_listeners_of_an_instance_that_comes_late_are_known_to_it,
    a_session_nobody_listens_to_any_more_is_not_told_of,
);

/// A listener that has read the log so far.
async fn listen(store: &Store, world: &World, id: &SessionId) -> Subscription {
    let tail = store.subscribe(id);
    tail.has_read(world.record(id).await.last_position);
    tail
}

/// The positions from `next` to `last`, in order, as entries are heard.
async fn hear_all(tail: &mut Subscription, mut next: i64, last: i64) -> Vec<Entry> {
    let mut all = Vec::new();
    while next <= last {
        match soon(tail.recv()).await {
            Some(TailItem::Entries(entries)) => {
                for entry in entries.iter() {
                    assert_eq!(entry.position, next, "each once, and in order");
                    next += 1;
                }
                all.extend(entries.to_vec());
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

async fn st_2_what_commits_elsewhere_after_subscribing_is_heard(fleet: Fleet) {
    let world = &fleet.world;
    let other = fleet.open("elsewhere").await;
    for round in 0..20 {
        let id = world.session().await;
        world.change(&id, notes(&["before"])).await;
        let mut tail = listen(&other, world, &id).await;
        // At once: that somebody listens may not be known yet where it commits.
        let mut stored = world.change(&id, notes(&["a", "b"])).await;
        assert_eq!(hear_all(&mut tail, 2, 3).await, stored, "round {round}");
        stored = world.change(&id, notes(&["c"])).await;
        assert_eq!(hear_all(&mut tail, 4, 4).await, stored);
        change(&other, world, &id, notes(&["d"])).await;
        stored = world.change(&id, notes(&["e"])).await;
        assert_eq!(hear_all(&mut tail, 5, 6).await[1], stored[0]);
    }
}

async fn i_2_stream_1_64_writers_on_two_instances_are_heard_in_order_on_both(fleet: Fleet) {
    const ROUNDS: i64 = 3;
    let fleet = Arc::new(fleet);
    let other = fleet.open("elsewhere").await;
    let id = fleet.world.session().await;
    let mut tails = [
        listen(fleet.first(), &fleet.world, &id).await,
        listen(&other, &fleet.world, &id).await,
    ];
    for round in 0..ROUNDS {
        let writers: Vec<_> = (0..64)
            .map(|n| {
                let (fleet, id) = (Arc::clone(&fleet), id.clone());
                let store = if n % 2 == 0 { fleet.first() } else { &other }.clone();
                tokio::spawn(async move {
                    change(&store, &fleet.world, &id, notes(&["one", "two"])).await;
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let (next, last) = (round * 128 + 1, round * 128 + 128);
        let heard = [
            hear_all(&mut tails[0], next, last).await,
            hear_all(&mut tails[1], next, last).await,
        ];
        assert_eq!(heard[0], heard[1]);
        let log = fleet.first().read(&id, next - 1, 1000).await.unwrap();
        assert_eq!(heard[0], log);
    }
}

async fn stream_1_entries_from_before_a_listener_knew_where_it_is_are_pointed_at(fleet: Fleet) {
    let world = &fleet.world;
    let other = fleet.open("elsewhere").await;
    let id = world.session().await;
    let mut tail = other.subscribe(&id);
    world.change(&id, notes(&["elsewhere"])).await;
    change(&other, world, &id, notes(&["here"])).await;
    match soon(tail.recv()).await {
        Some(TailItem::Entries(entries)) => assert_eq!(entries[0].position, 2),
        other => panic!("{other:?}"),
    }
    tail.has_read(0);
    assert!(
        matches!(soon(tail.recv()).await, Some(TailItem::Lagged)),
        "it must read position 1"
    );
}

async fn st_5_a_deletion_elsewhere_is_heard(fleet: Fleet) {
    let world = &fleet.world;
    let other = fleet.open("elsewhere").await;
    let id = world.session().await;
    let mut tail = listen(&other, world, &id).await;
    let delete = Change {
        delete: true,
        ..Change::default()
    };
    world.change(&id, delete).await;
    match soon(tail.recv()).await {
        Some(TailItem::Deleted(event)) => assert!(event.contains("session.deleted"), "{event}"),
        other => panic!("{other:?}"),
    }
}

async fn stream_1_the_listeners_of_an_instance_that_comes_late_are_known_to_it(fleet: Fleet) {
    let world = &fleet.world;
    let id = world.session().await;
    let mut tail = listen(fleet.first(), world, &id).await;
    let late = fleet.open("elsewhere").await;
    // It asked when it came, and is answered at some time.
    soon(async {
        while !late.has_listeners(&id) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    change(&late, world, &id, notes(&["from the late one"])).await;
    hear_all(&mut tail, 1, 1).await;
}

async fn a_session_nobody_listens_to_any_more_is_not_told_of(fleet: Fleet) {
    let world = &fleet.world;
    let id = world.session().await;
    let mut brain = fleet.brain("elsewhere").await;
    let one = fleet.first().subscribe(&id);
    let two = fleet.first().subscribe(&id);
    drop(one);
    fleet.heard(fleet.first(), &mut brain).await;
    assert!(brain.store.has_listeners(&id));
    drop(two);
    fleet.heard(fleet.first(), &mut brain).await;
    assert!(!brain.store.has_listeners(&id));
}

/// Two instances in memory whose messages about logs are all lost.
async fn deaf(look: Duration) -> (Fleet, Store) {
    let lossy = Exchange::with_fate(|parcel: &Parcel<'_>| match parcel.channel {
        Channel::Log | Channel::Interest => Vec::new(),
        Channel::Wish | Channel::Preview => vec![Duration::ZERO],
    });
    let fleet = Fleet::on(Bed::memory().await, Some(lossy)).await;
    let replica = Replica {
        look,
        ..replica(&fleet.exchange, "elsewhere")
    };
    let other = fleet.world.bed.open_as(replica).await;
    (fleet, other)
}

/// security STREAM-1
#[tokio::test]
async fn stream_1_behind_lost_messages_is_a_timer() {
    let (fleet, other) = deaf(Duration::from_millis(20)).await;
    let world = &fleet.world;
    let id = world.session().await;
    let mut tail = listen(&other, world, &id).await;
    for round in 0..3 {
        world.change(&id, notes(&["a", "b"])).await;
        hear_all(&mut tail, round * 2 + 1, round * 2 + 2).await;
    }
    let delete = Change {
        delete: true,
        ..Change::default()
    };
    world.change(&id, delete).await;
    assert!(matches!(
        soon(tail.recv()).await,
        Some(TailItem::Deleted(_))
    ));
}

/// security I2, STREAM-1
#[tokio::test]
async fn i_2_a_gap_is_filled_before_what_comes_behind_it() {
    let (fleet, other) = deaf(super::FAR).await;
    let world = &fleet.world;
    let id = world.session().await;
    let mut tail = listen(&other, world, &id).await;
    world.change(&id, notes(&["untold", "untold"])).await;
    change(&other, world, &id, notes(&["own"])).await;
    let heard = hear_all(&mut tail, 1, 3).await;
    assert_eq!(heard, world.log(&id).await);
}
