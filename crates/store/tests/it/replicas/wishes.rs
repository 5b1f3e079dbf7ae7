//! Which brain hears that a session wants one, and which may have it.

use std::time::{Duration, Instant};

use manyhands_store::{Change, NewEntry, Place, Replica, Role, Store};

use super::{Fleet, change, replicated};
use crate::bed::*;

replicated!(
    er_13_a_wish_is_heard_by_a_brain_elsewhere_without_a_timer,
    the_holder_hears_of_new_input_and_nobody_else,
    a_lease_given_back_is_offered_to_the_others,
    a_session_is_left_to_the_place_of_its_sandbox,
    a_place_whose_brain_stops_waking_does_not_go_first,
    a_write_grants_no_lease_that_another_place_should_have,
);

/// runtime ER-13, security LEASE-1
async fn er_13_a_wish_is_heard_by_a_brain_elsewhere_without_a_timer(fleet: Fleet) {
    let mut brain = fleet.brain("elsewhere").await;
    for _ in 0..20 {
        let id = fleet.world.session_with(work(vec![queued("go")])).await;
        assert_eq!(brain.nudged().await, id);
        let claimed = brain.store.claim(&fleet.world.workspace, &id).await;
        assert!(claimed.unwrap().is_some());
    }
}

async fn the_holder_hears_of_new_input_and_nobody_else(fleet: Fleet) {
    let mut holder = fleet.brain("here").await;
    let world = &fleet.world;
    let id = world.session_with(work(vec![queued("go")])).await;
    assert_eq!(holder.nudged().await, id);
    let lease = holder.store.claim(&world.workspace, &id).await.unwrap();
    assert!(lease.is_some());
    let mut other = fleet.brain("there").await;
    world.change(&id, work(vec![queued("more")])).await;
    assert_eq!(holder.nudged().await, id, "its wake is signalled");
    // The next thing the other one hears is the next thing that was said to it.
    let free = world.session_with(work(vec![queued("go")])).await;
    assert_eq!(other.nudged().await, free);
}

async fn a_lease_given_back_is_offered_to_the_others(fleet: Fleet) {
    let world = &fleet.world;
    let (id, lease) = world.leased().await;
    let mut other = fleet.brain("first").await;
    world.store.release(&lease).await.unwrap();
    assert_eq!(other.nudged().await, id);
    let next = other.store.claim(&world.workspace, &id).await.unwrap();
    assert!(next.unwrap().epoch > lease.epoch);
}

async fn a_session_is_left_to_the_place_of_its_sandbox(fleet: Fleet) {
    let world = &fleet.world;
    let (id, lease) = world.leased().await;
    world.store.release(&lease).await.unwrap();
    let other = fleet.open("elsewhere").await;
    assert_eq!(other.claim(&world.workspace, &id).await, Ok(None));
    let begun = Instant::now();
    assert_eq!(
        other.wanting(9).await,
        Ok(vec![]),
        "it is left to its place"
    );
    assert_eq!(
        world.store.wanting(9).await.unwrap().len(),
        1,
        "there it is wanted"
    );
    let late = soon(async {
        loop {
            if let Some(nudge) = other.wanting(9).await.unwrap().pop() {
                return nudge;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(late.session, id);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let taken = other.claim(&world.workspace, &id).await.unwrap();
    assert!(taken.is_some_and(|taken| taken.epoch > lease.epoch));
    other
        .release(&taken_lease(&other, &id).await)
        .await
        .unwrap();
    let refused = world.store.claim(&world.workspace, &id).await;
    assert_eq!(refused, Ok(None), "its sandbox is at the other place now");
}

/// The lease that a store holds of a session.
async fn taken_lease(store: &Store, id: &manyhands_protocol::SessionId) -> manyhands_store::Lease {
    let held = store.held(None, 9).await.unwrap();
    held.into_iter().find(|lease| lease.session == *id).unwrap()
}

async fn a_place_whose_brain_stops_waking_does_not_go_first(fleet: Fleet) {
    let world = &fleet.world;
    let mut other = fleet.brain("elsewhere").await;
    let (id, lease) = world.leased().await;
    assert_eq!(other.nudged().await, id, "as it was made");
    world.store.stop_waking().await.unwrap();
    world.store.release(&lease).await.unwrap();
    assert_eq!(other.nudged().await, id);
    let taken = other.store.claim(&world.workspace, &id).await.unwrap();
    assert!(
        taken.is_some(),
        "at once: nobody at its place would wake it"
    );

    let api = Replica {
        place: Place::Named("web".to_owned()),
        role: Role::Api,
        exchange: fleet.exchange.clone(),
        ..Replica::default()
    };
    let api = world.bed.open_as(api).await;
    world
        .bed
        .sql("UPDATE sessions SET place = 'web', holder = NULL")
        .await;
    assert_eq!(
        other.store.wanting(9).await.unwrap().len(),
        1,
        "no brain lives there"
    );
    api.close().await;
}

async fn a_write_grants_no_lease_that_another_place_should_have(fleet: Fleet) {
    let world = &fleet.world;
    let id = world.session_with(work(vec![queued("go")])).await;
    let mut there = fleet.brain("there").await;
    let lease = there
        .store
        .claim(&world.workspace, &id)
        .await
        .unwrap()
        .unwrap();
    let done = entries(vec![NewEntry::event(answered("done"))]);
    there.store.append_and_rest(&lease, done, 9).await.unwrap();

    let here = fleet.brain("here").await;
    change(&here.store, world, &id, work(vec![queued("again")])).await;
    assert_eq!(there.nudged().await, id, "its place is told");
    assert_eq!(world.record(&id).await.epoch, lease.epoch);
    let mut here = here;
    let free = world.new_session(work(vec![queued("new")]));
    let new = free.id.clone();
    assert!(here.store.create_session(free).await.unwrap());
    let nudge = soon(here.nudges.recv()).await.unwrap();
    assert_eq!(nudge.session, new, "of the other one it was told nothing");
    assert!(nudge.lease.is_some(), "granted with the write");
    let archive = Change {
        archive: true,
        ..Change::default()
    };
    change(&here.store, world, &new, archive).await;
}
