//! The deletion of long sessions, whose logs are removed piece by piece (security I10, LOG-5).

use manyhands_protocol::SessionId;
use manyhands_store::{Change, NewEntry, Store};

use crate::bed::*;

contract!(
    i_10_the_log_of_a_long_session_is_removed_after_the_session,
    log_5_what_a_crash_left_of_a_deletion_is_removed_by_the_next_process,
    sbx_8_deleted_sessions_are_told_from_those_that_live,
);

/// A session with 2,501 entries and one of 3.
async fn long_and_short(world: &World) -> (SessionId, SessionId) {
    let (long, lease) = world.leased().await;
    for _ in 0..5 {
        let hello = || NewEntry::event(answered("hello"));
        let append = entries((0..500).map(|_| hello()).collect());
        world.store.append(&lease, append).await.unwrap();
    }
    world.store.release(&lease).await.unwrap();
    let short = world.session_with(notes(&["a", "b", "c"])).await;
    (long, short)
}

async fn delete(world: &World, id: &SessionId) {
    let delete = Change {
        delete: true,
        ..Change::default()
    };
    world.change(id, delete).await;
    let found = world.store.session(&world.workspace, id).await.unwrap();
    assert!(found.is_none(), "it is gone at once");
    assert!(world.claim(id).await.is_none());
}

/// Each look is a trip to the database, which the removal needs too.
async fn gone(store: &Store, id: &SessionId) {
    soon(async {
        while !store.read(id, 0, 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn i_10_the_log_of_a_long_session_is_removed_after_the_session(bed: Bed) {
    let world = World::new(bed).await;
    let (long, short) = long_and_short(&world).await;
    let (other, _) = long_and_short(&world).await;
    delete(&world, &long).await;
    delete(&world, &short).await;
    assert!(world.log(&short).await.is_empty(), "a short log goes along");
    gone(&world.store, &long).await;
    assert_eq!(world.log(&other).await.len(), 2_501, "others are untouched");
    delete(&world, &other).await;
    gone(&world.store, &other).await;
}

async fn log_5_what_a_crash_left_of_a_deletion_is_removed_by_the_next_process(bed: Bed) {
    let mut world = World::new(bed).await;
    let (long, _) = long_and_short(&world).await;
    // Closed as a crash would leave it: the session is gone, most of its log is not.
    world.store.close().await;
    world
        .bed
        .sql(
            "INSERT INTO remains (session_id) SELECT id FROM sessions WHERE last_position > 1000;
             DELETE FROM sessions WHERE last_position > 1000;
             DELETE FROM log WHERE position < 700",
        )
        .await;
    world.store = world.bed.open().await;
    gone(&world.store, &long).await;
}

async fn sbx_8_deleted_sessions_are_told_from_those_that_live(bed: Bed) {
    let world = World::new(bed).await;
    let (kept, deleted) = (world.session().await, world.session().await);
    delete(&world, &deleted).await;
    let mut ids = vec![
        kept.to_string(),
        deleted.to_string(),
        "never-one".to_owned(),
    ];
    // More than are asked for at once.
    ids.extend((0..300).map(|number| format!("sesn_{number}")));
    let absent = world.store.absent_sessions(&ids).await.unwrap();
    assert_eq!(absent, ids[1..]);
}
