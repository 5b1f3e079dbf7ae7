//! The log: gapless, in commit order, byte for byte, checksummed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use manyhands_protocol::EventId;
use manyhands_store::{EntryKind, Error, NewEntry};

use crate::bed::*;

contract!(
    i_2_positions_are_gapless_under_64_writers,
    i_2_no_reader_sees_a_position_before_the_one_below_it,
    log_1_what_was_acknowledged_is_there_after_reopening,
    store_3_a_damaged_body_is_reported_for_its_entry_alone,
    store_3_a_moved_entry_is_damage,
    store_3_a_missing_entry_is_damage_until_its_session_is_deleted,
    store_3_a_vanished_event_damages_its_second_appearance,
    bodies_are_kept_byte_for_byte,
    last_private_is_the_last_of_its_type,
    processing_what_is_not_queued_writes_nothing,
    an_event_queued_and_processed_in_one_write_never_waits,
    one_append_of_many_entries_is_one_write,
);

async fn i_2_positions_are_gapless_under_64_writers(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let id = world.session().await;
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let (world, id) = (Arc::clone(&world), id.clone());
            tokio::spawn(async move {
                let mut stored = Vec::new();
                for round in 0..5 {
                    let text = format!("{writer}/{round}");
                    stored.extend(world.change(&id, notes(&[&text, "and more"])).await);
                }
                stored
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        let stored = writer.await.unwrap();
        assert!(stored.is_sorted_by_key(|entry| entry.position));
        acknowledged.extend(stored);
    }
    acknowledged.sort_by_key(|entry| entry.position);
    let log = world.log(&id).await;
    assert_eq!(positions(&log), (1..=640).collect::<Vec<i64>>());
    assert_eq!(log, acknowledged);
    assert_eq!(world.record(&id).await.last_position, 640);
}

async fn i_2_no_reader_sees_a_position_before_the_one_below_it(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let id = world.session().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (world, id, done) = (Arc::clone(&world), id.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut seen = 0;
            while !done.load(Ordering::Acquire) {
                let log = world.log(&id).await;
                assert_eq!(
                    positions(&log),
                    (1..=log.len() as i64).collect::<Vec<i64>>()
                );
                assert!(log.len() >= seen, "what was read stays");
                seen = log.len();
            }
        })
    };
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let (world, id) = (Arc::clone(&world), id.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    world.change(&id, notes(&["a", "b"])).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Release);
    reader.await.unwrap();
}

async fn log_1_what_was_acknowledged_is_there_after_reopening(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let stored = world.change(&id, notes(&["one", "two"])).await;
    world.store.close().await;
    let store = world.bed.open().await;
    assert_eq!(store.read(&id, 0, 10).await.unwrap(), stored);
    assert!(
        store.read(&id, 1, 1).await.unwrap() == stored[1..],
        "after and limit hold"
    );
}

async fn store_3_a_damaged_body_is_reported_for_its_entry_alone(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let stored = world.change(&id, notes(&["one", "two", "three"])).await;
    let other = world.session().await;
    let untouched = world.change(&other, notes(&["else"])).await;
    world
        .bed
        .sql("UPDATE log SET body = replace(body, 'two', 'twO') WHERE position = 2")
        .await;

    let error = world.store.read(&id, 1, 1).await.unwrap_err();
    let Error::Damaged { item, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(item, &format!("entry 2 of {id}"));
    let found = world.store.event(&id, &stored[1].event_id).await;
    assert_eq!(found.unwrap_err(), error);
    assert!(
        matches!(
            world.store.read(&id, 0, 3).await,
            Err(Error::Damaged { .. })
        ),
        "never served as valid"
    );

    assert_eq!(world.store.read(&id, 0, 1).await.unwrap(), stored[..1]);
    assert_eq!(world.store.read(&id, 2, 9).await.unwrap(), stored[2..]);
    assert_eq!(world.log(&other).await, untouched);
    assert_eq!(world.change(&id, notes(&["four"])).await[0].position, 4);
}

async fn store_3_a_moved_entry_is_damage(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    world.change(&id, notes(&["one"])).await;
    world.bed.sql("UPDATE log SET position = 2").await;
    assert!(matches!(
        world.store.read(&id, 0, 9).await,
        Err(Error::Damaged { .. })
    ));
}

/// Also I2: a log is read without gaps, to the end that its session's row counts.
async fn store_3_a_missing_entry_is_damage_until_its_session_is_deleted(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let stored = world
        .change(&id, notes(&["one", "two", "three", "four"]))
        .await;
    world
        .bed
        .sql("DELETE FROM log WHERE position IN (2, 4)")
        .await;
    // (after, limit, the entry that is missing)
    for (after, limit, missing) in [(0, 9, 2), (0, 2, 2), (1, 1, 2), (2, 9, 4), (3, 9, 4)] {
        let error = world.store.read(&id, after, limit).await.unwrap_err();
        let Error::Damaged { item, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(item, &format!("entry {missing} of {id}"), "after {after}");
    }
    assert_eq!(world.store.read(&id, 0, 1).await.unwrap(), stored[..1]);
    assert_eq!(world.store.read(&id, 2, 1).await.unwrap(), stored[2..3]);
    assert!(world.store.read(&id, 4, 9).await.unwrap().is_empty());
    world
        .bed
        .sql("DELETE FROM sessions; DELETE FROM session_profiles")
        .await;
    assert!(world.store.read(&id, 0, 9).await.unwrap().is_empty());
}

async fn store_3_a_vanished_event_damages_its_second_appearance(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let event_id = world.log(&id).await[0].event_id.clone();
    let processed = entries(vec![NewEntry::Processed { event_id }]);
    world.store.append(&lease, processed).await.unwrap();
    world.bed.sql("DELETE FROM log WHERE position = 1").await;
    assert!(matches!(
        world.store.read(&id, 1, 9).await,
        Err(Error::Damaged { .. })
    ));
}

async fn bodies_are_kept_byte_for_byte(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let private = r#"{ "b":1,"a" : [1.0, 1e3],"a":2, "signature":"é\u0000\ud83d\ude00" }"#;
    let spoken = "NUL \0, quote \", emoji \u{1f600}, line\u{2028}end";
    let stored = world
        .store
        .append(
            &lease,
            entries(vec![
                NewEntry::Private {
                    type_name: "response",
                    body: private.to_owned(),
                },
                NewEntry::event(answered(spoken)),
            ]),
        )
        .await
        .unwrap();
    let log = world.log(&id).await;
    assert_eq!(log[1..], stored);
    assert_eq!(&*log[1].body, private);
    assert_eq!(
        *log[2].body,
        serde_json::to_string(&answered(spoken)).unwrap()
    );
    let event: manyhands_protocol::event::Event = serde_json::from_str(&log[2].render()).unwrap();
    assert_eq!(event.body, answered(spoken));
}

async fn last_private_is_the_last_of_its_type(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let private = |type_name, body: &str| NewEntry::Private {
        type_name,
        body: body.to_owned(),
    };
    assert_eq!(world.store.last_private(&id, "compaction").await, Ok(None));
    world
        .store
        .append(
            &lease,
            entries(vec![
                private("compaction", "{\"n\":1}"),
                private("intent", "{\"n\":2}"),
                private("compaction", "{\"n\":3}"),
                private("intent", "{\"n\":4}"),
            ]),
        )
        .await
        .unwrap();
    let last = world.store.last_private(&id, "compaction").await.unwrap();
    assert_eq!(&*last.unwrap().body, "{\"n\":3}");
    let user_message = world.store.last_private(&id, "user.message").await;
    assert_eq!(user_message, Ok(None), "public events are not private");
}

async fn processing_what_is_not_queued_writes_nothing(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let before = world.log(&id).await;
    let append = entries(vec![
        NewEntry::event(answered("hi")),
        NewEntry::Processed {
            event_id: EventId::generate(),
        },
    ]);
    let refused = world.store.append(&lease, append).await;
    assert!(matches!(
        refused,
        Err(manyhands_store::AppendError::Store(Error::Invalid { .. }))
    ));
    assert_eq!(world.log(&id).await, before);
    assert_eq!(world.record(&id).await.last_position, 1);
}

async fn an_event_queued_and_processed_in_one_write_never_waits(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let event_id = EventId::generate();
    let both = manyhands_store::Change {
        append: entries(vec![
            NewEntry::Event {
                id: event_id.clone(),
                body: said("stop"),
                queued: true,
            },
            NewEntry::Processed { event_id },
        ]),
        ..Default::default()
    };
    let stored = world.change(&id, both).await;
    assert_eq!(stored[0].processed_at, None);
    assert_eq!(stored[1].kind, EntryKind::Processed);
    assert_eq!(stored[1].body, stored[0].body);
    assert_eq!(world.log(&id).await, stored);
    let list = world.store.list_events(&id, &crate::list::page(9)).await;
    assert_eq!(list.unwrap().len(), 1);
}

async fn one_append_of_many_entries_is_one_write(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let mut tail = world.store.subscribe(&id);
    let many = (0..100)
        .map(|n| NewEntry::event(answered(&n.to_string())))
        .collect();
    let stored = world.store.append(&lease, entries(many)).await.unwrap();
    assert_eq!(positions(&stored), (2..=101).collect::<Vec<i64>>());
    assert_eq!(world.log(&id).await[1..], stored);
    match soon(tail.recv()).await {
        Some(manyhands_store::TailItem::Entries(heard)) => assert_eq!(heard[..], stored),
        other => panic!("{other:?}"),
    }
}
