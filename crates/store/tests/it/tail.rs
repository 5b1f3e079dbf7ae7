//! The live end: what listeners hear, and in which order.

use std::sync::Arc;

use manyhands_protocol::event::{Preview, PreviewKind, PreviewedEvent};
use manyhands_protocol::{EventId, SessionId};
use manyhands_store::{Change, Entry, EntryKind, NewEntry, Subscription, TailItem};

use crate::bed::*;

contract!(
    st_2_whatever_commits_after_subscribing_is_heard,
    se_4_a_queued_event_is_heard_twice,
    log_6_listeners_hear_positions_in_order,
    st_16_a_slow_listener_is_told_that_it_lagged,
    previews_are_heard_and_never_stored,
    a_deleted_session_ends_with_its_deletion,
    closing_the_store_ends_subscriptions,
    a_channel_goes_with_its_last_listener;
    on_disks:
    a_caller_that_goes_away_disturbs_no_write,
);

async fn heard(tail: &mut Subscription) -> Vec<Entry> {
    match soon(tail.recv()).await {
        Some(TailItem::Entries(entries)) => entries.to_vec(),
        other => panic!("{other:?}"),
    }
}

async fn st_2_whatever_commits_after_subscribing_is_heard(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    world.change(&id, notes(&["before"])).await;
    let mut tail = world.store.subscribe(&id);
    let stored = world.change(&id, notes(&["after"])).await;
    assert_eq!(heard(&mut tail).await, stored);

    let new = world.new_session(notes(&["at birth"]));
    let mut tail = world.store.subscribe(&new.id);
    assert!(world.store.create_session(new).await.unwrap());
    assert_eq!(heard(&mut tail).await[0].position, 1);
}

async fn se_4_a_queued_event_is_heard_twice(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let mut tail = world.store.subscribe(&id);
    world.change(&id, work(vec![queued("go")])).await;
    let lease = world.claim(&id).await.unwrap();
    let first = heard(&mut tail).await.remove(0);
    assert_eq!((first.kind, first.processed_at), (EntryKind::Event, None));
    let event_id = first.event_id.clone();
    world
        .store
        .append(&lease, entries(vec![NewEntry::Processed { event_id }]))
        .await
        .unwrap();
    let second = heard(&mut tail).await.remove(0);
    assert_eq!(second.kind, EntryKind::Processed);
    assert_eq!(second.event_id, first.event_id);
    assert_eq!(second.body, first.body);
    assert!(second.processed_at.is_some());
}

async fn log_6_listeners_hear_positions_in_order(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let id = world.session().await;
    let mut tail = world.store.subscribe(&id);
    let writers: Vec<_> = (0..32)
        .map(|_| {
            let (world, id) = (Arc::clone(&world), id.clone());
            tokio::spawn(async move {
                world.change(&id, notes(&["a", "b"])).await;
                world.change(&id, notes(&["c"])).await;
            })
        })
        .collect();
    // 64 items: fewer than a listener may be behind.
    let mut next = 1;
    while next <= 96 {
        for entry in heard(&mut tail).await {
            assert_eq!(entry.position, next);
            next += 1;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn st_16_a_slow_listener_is_told_that_it_lagged(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let mut tail = world.store.subscribe(&id);
    for _ in 0..200 {
        world.store.preview(&id, preview());
    }
    let stored = world.change(&id, notes(&["kept in the log"])).await;
    assert!(matches!(soon(tail.recv()).await, Some(TailItem::Lagged)));
    loop {
        match soon(tail.recv()).await {
            Some(TailItem::Preview(_)) => {}
            Some(TailItem::Entries(entries)) => {
                assert_eq!(entries[..], stored);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn previews_are_heard_and_never_stored(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let mut tail = world.store.subscribe(&id);
    world.store.preview(&id, preview());
    match soon(tail.recv()).await {
        Some(TailItem::Preview(shown)) => assert_eq!(shown.type_name(), "event_start"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.log(&id).await, []);
}

fn preview() -> Preview {
    Preview::EventStart {
        event: PreviewedEvent {
            kind: PreviewKind::AgentMessage,
            id: EventId::generate(),
        },
    }
}

async fn a_deleted_session_ends_with_its_deletion(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let mut tail = world.store.subscribe(&id);
    let delete = Change {
        delete: true,
        ..Change::default()
    };
    assert_eq!(world.change(&id, delete).await, []);
    match soon(tail.recv()).await {
        Some(TailItem::Deleted(event)) => {
            let event: serde_json::Value = serde_json::from_str(&event).unwrap();
            assert_eq!(event["type"], "session.deleted");
            assert_eq!(event["processed_at"], "2026-11-21T12:00:00.000000Z");
        }
        other => panic!("{other:?}"),
    }
}

async fn closing_the_store_ends_subscriptions(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let mut tail = world.store.subscribe(&id);
    world.store.close().await;
    assert!(soon(tail.recv()).await.is_none());
}

async fn a_channel_goes_with_its_last_listener(bed: Bed) {
    let world = World::new(bed).await;
    let id = SessionId::generate();
    assert!(!world.store.has_listeners(&id));
    let one = world.store.subscribe(&id);
    let two = world.store.subscribe(&id);
    drop(one);
    assert!(world.store.has_listeners(&id));
    drop(two);
    assert!(!world.store.has_listeners(&id));
}

async fn a_caller_that_goes_away_disturbs_no_write(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let mut tail = world.store.subscribe(&id);
    {
        let mut write = Box::pin(world.change(&id, notes(&["still written"])));
        // Polled once, so that it is under way, and then dropped.
        let answer = futures::poll!(&mut write);
        assert!(answer.is_pending());
    }
    let entries = heard(&mut tail).await;
    assert_eq!(world.log(&id).await, entries);
    assert_eq!(world.change(&id, notes(&["next"])).await[0].position, 2);
}
