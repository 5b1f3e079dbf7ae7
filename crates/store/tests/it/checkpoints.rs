//! Whose checkpoint counts, and which nobody needs (runtime EN-17 to EN-20, security LEASE-1).

use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{SessionId, Timestamp};
use manyhands_store::checkpoints::{Claim, Kept};
use manyhands_store::{Change, Lease, NewEntry};

use crate::bed::*;

contract!(
    en_17_the_newest_checkpoint_is_the_sessions,
    lease_1_a_host_that_was_replaced_makes_no_checkpoint,
    en_18_expired_and_abandoned_checkpoints_are_found,
    en_20_checkpoints_of_a_deleted_session_are_found,
);

const INTENT: &str = "tool_started";

fn claim(session: &SessionId, epoch: i64) -> Claim<'_> {
    Claim {
        session,
        epoch,
        intent: INTENT,
    }
}

fn kept(world: &World, name: &str) -> Kept {
    Kept {
        size: 5_000_000_000,
        sha256: name.to_owned(),
        sandbox_created_at: world.bed.clock.now(),
    }
}

/// Makes a checkpoint from beginning to end; its number, when it counts.
async fn make(world: &World, session: &SessionId, epoch: i64, name: &str) -> Option<i64> {
    let claim = claim(session, epoch);
    let begun = world.store.begin_checkpoint(claim, name).await.unwrap()?;
    let kept = kept(world, name);
    let finished = world
        .store
        .finish_checkpoint(claim, begun.number, kept)
        .await;
    finished.unwrap().then_some(begun.number)
}

async fn newest(world: &World, session: &SessionId) -> Option<String> {
    let found = world.store.checkpoint(session).await.unwrap();
    found.map(|checkpoint| checkpoint.blob)
}

async fn intend(world: &World, lease: &Lease) {
    let intent = NewEntry::Private {
        type_name: INTENT,
        body: "{}".to_owned(),
    };
    let stored = world.store.append(lease, entries(vec![intent])).await;
    stored.unwrap();
}

async fn useless(world: &World) -> Vec<String> {
    let expired = Timestamp::from_micros(0);
    let abandoned = world
        .bed
        .clock
        .now()
        .after(std::time::Duration::from_secs(1));
    let found = world
        .store
        .useless_checkpoints(expired, abandoned, 100)
        .await;
    found
        .unwrap()
        .into_iter()
        .map(|useless| useless.blob)
        .collect()
}

async fn en_17_the_newest_checkpoint_is_the_sessions(bed: Bed) {
    let world = World::new(bed).await;
    let (session, lease) = world.leased().await;
    assert_eq!(newest(&world, &session).await, None);
    intend(&world, &lease).await;
    let position = world.record(&session).await.last_position;
    let first = make(&world, &session, lease.epoch, "checkpoints/a")
        .await
        .unwrap();
    let found = world.store.checkpoint(&session).await.unwrap().unwrap();
    assert_eq!((found.number, found.epoch), (first, lease.epoch));
    assert_eq!((found.size, found.position), (5_000_000_000, position));
    assert_eq!(found.sha256, "checkpoints/a");
    assert!(useless(&world).await.is_empty());
    let never = Timestamp::from_micros(0);

    // One that is begun changes nothing until it is finished, and is finished once.
    let owned = claim(&session, lease.epoch);
    let begun = world
        .store
        .begin_checkpoint(owned, "checkpoints/b")
        .await
        .unwrap()
        .unwrap();
    assert!(begun.number > first);
    assert_eq!(
        newest(&world, &session).await.as_deref(),
        Some("checkpoints/a")
    );
    let finish = || {
        world
            .store
            .finish_checkpoint(owned, begun.number, kept(&world, "b"))
    };
    assert!(finish().await.unwrap());
    assert!(!finish().await.unwrap());
    assert_eq!(
        newest(&world, &session).await.as_deref(),
        Some("checkpoints/b")
    );
    let young = world
        .store
        .useless_checkpoints(never, never, 10)
        .await
        .unwrap();
    assert!(young.is_empty(), "somebody may be restoring it");
    assert_eq!(useless(&world).await, ["checkpoints/a"]);
    world
        .store
        .forget_checkpoint(session.as_str(), first)
        .await
        .unwrap();
    assert!(useless(&world).await.is_empty());
    assert_eq!(
        newest(&world, &session).await.as_deref(),
        Some("checkpoints/b")
    );
}

async fn lease_1_a_host_that_was_replaced_makes_no_checkpoint(bed: Bed) {
    let world = World::new(bed).await;
    let (session, old) = world.leased().await;
    intend(&world, &old).await;
    let begun = world
        .store
        .begin_checkpoint(claim(&session, old.epoch), "checkpoints/old");
    let begun = begun.await.unwrap().unwrap();
    world.store.release(&old).await.unwrap();
    world.change(&session, work(vec![queued("again")])).await;
    let new = world.claim(&session).await.unwrap();
    assert!(new.epoch > old.epoch);
    // A wake alone is no new owner of the sandbox: the files are still the old host's.
    assert!(
        make(&world, &session, old.epoch, "checkpoints/between")
            .await
            .is_some()
    );
    intend(&world, &new).await;
    let finish = world.store.finish_checkpoint(
        claim(&session, old.epoch),
        begun.number,
        kept(&world, "old"),
    );
    assert!(!finish.await.unwrap(), "another host has begun a call");
    assert_eq!(
        make(&world, &session, old.epoch, "checkpoints/late").await,
        None
    );
    assert!(
        make(&world, &session, new.epoch, "checkpoints/new")
            .await
            .is_some()
    );
    assert_eq!(
        newest(&world, &session).await.as_deref(),
        Some("checkpoints/new")
    );
    assert_eq!(
        make(&world, &session, old.epoch, "checkpoints/late").await,
        None
    );
}

async fn en_18_expired_and_abandoned_checkpoints_are_found(bed: Bed) {
    let world = World::new(bed).await;
    let (session, lease) = world.leased().await;
    make(&world, &session, lease.epoch, "checkpoints/done")
        .await
        .unwrap();
    let begun = world
        .store
        .begin_checkpoint(claim(&session, lease.epoch), "checkpoints/begun");
    begun.await.unwrap().unwrap();
    let never = Timestamp::from_micros(0);
    let later = world
        .bed
        .clock
        .now()
        .after(std::time::Duration::from_secs(1));
    let found = async |expired, abandoned| {
        let found = world
            .store
            .useless_checkpoints(expired, abandoned, 10)
            .await
            .unwrap();
        found
            .into_iter()
            .map(|useless| useless.blob)
            .collect::<Vec<_>>()
    };
    assert!(found(never, never).await.is_empty());
    assert_eq!(found(later, never).await, ["checkpoints/done"]);
    assert_eq!(found(never, later).await, ["checkpoints/begun"]);
    let one = world
        .store
        .useless_checkpoints(later, later, 1)
        .await
        .unwrap();
    assert_eq!(one.len(), 1);
}

async fn en_20_checkpoints_of_a_deleted_session_are_found(bed: Bed) {
    let world = World::new(bed).await;
    let (session, lease) = world.leased().await;
    let (other, _) = world.leased().await;
    make(&world, &session, lease.epoch, "checkpoints/one")
        .await
        .unwrap();
    let owned = claim(&session, lease.epoch);
    let begun = world
        .store
        .begin_checkpoint(owned, "checkpoints/two")
        .await
        .unwrap()
        .unwrap();
    world.store.release(&lease).await.unwrap();
    let delete = Change {
        delete: true,
        ..Change::default()
    };
    world.change(&session, delete).await;
    assert_eq!(
        make(&world, &session, lease.epoch, "checkpoints/three").await,
        None
    );
    let finish = world
        .store
        .finish_checkpoint(owned, begun.number, kept(&world, "two"));
    assert!(!finish.await.unwrap());
    assert_eq!(
        useless(&world).await,
        ["checkpoints/one", "checkpoints/two"]
    );
    for number in [1, begun.number] {
        world
            .store
            .forget_checkpoint(session.as_str(), number)
            .await
            .unwrap();
    }
    assert!(useless(&world).await.is_empty());
    assert!(
        make(&world, &other, i64::MAX, "checkpoints/other")
            .await
            .is_some()
    );
}
