//! The public event list: its order, its pages, its filters.

use std::time::Duration;

use manyhands_protocol::EventId;
use manyhands_protocol::time::Clock as _;
use manyhands_store::listing::{EventKey, EventRange};
use manyhands_store::{Entry, NewEntry};

use crate::bed::*;

contract!(
    li_4_processed_first_in_the_order_of_processing_then_queued,
    li_5_pages_of_any_size_give_the_whole_list_both_ways,
    li_4_types_and_times_filter,
    stream_1_what_is_processed_between_two_pages_is_listed_once,
    li_1_a_deep_page_reads_no_more_than_a_shallow_one,
    se_4_one_event_has_one_row_in_its_present_state,
);

pub(crate) fn page(limit: u32) -> EventRange {
    EventRange {
        limit,
        ..EventRange::default()
    }
}

/// A log of every kind: private entries, events born processed, events processed out of order, queued ones.
async fn mixed(world: &World) -> (manyhands_protocol::SessionId, Vec<Entry>) {
    let (id, lease) = world.leased().await;
    let mut queue: Vec<EventId> = vec![world.log(&id).await[0].event_id.clone()];
    for text in ["second", "third", "fourth", "fifth"] {
        let stored = world.change(&id, work(vec![queued(text)])).await;
        queue.push(stored[0].event_id.clone());
    }
    let processed = |event: &EventId| NewEntry::Processed {
        event_id: event.clone(),
    };
    for (first, second) in [(2, 0), (1, 2)] {
        let private = NewEntry::Private {
            type_name: "intent",
            body: "{}".to_owned(),
        };
        let mut new = vec![private, NewEntry::event(answered("…"))];
        // Taken in another order than they came.
        if first == 2 {
            new.extend([processed(&queue[first]), processed(&queue[second])]);
        } else {
            new.push(processed(&queue[first]));
        }
        world.bed.clock.advance(Duration::from_secs(1));
        world.store.append(&lease, entries(new)).await.unwrap();
    }
    (id.clone(), world.log(&id).await)
}

/// The list by its definition: the last appearance of each id, queued ones last.
fn expected(log: &[Entry]) -> Vec<(EventKey, Entry)> {
    let public: Vec<&Entry> = log.iter().filter(|entry| entry.is_public()).collect();
    let last = |entry: &Entry| {
        !public
            .iter()
            .any(|later| later.event_id == entry.event_id && later.position > entry.position)
    };
    let (done, waiting): (Vec<&Entry>, Vec<&Entry>) = public
        .iter()
        .filter(|entry| last(entry))
        .partition(|entry| entry.processed_at.is_some());
    let done = done
        .into_iter()
        .map(|entry| (EventKey::Processed(entry.position), entry.clone()));
    let waiting = waiting
        .into_iter()
        .map(|entry| (EventKey::Queued(entry.position), entry.clone()));
    done.chain(waiting).collect()
}

async fn li_4_processed_first_in_the_order_of_processing_then_queued(bed: Bed) {
    let world = World::new(bed).await;
    let (id, log) = mixed(&world).await;
    let list = world.store.list_events(&id, &page(100)).await.unwrap();
    let shown: Vec<(EventKey, bool)> = list
        .iter()
        .map(|(key, entry)| (*key, entry.type_name.starts_with("user")))
        .collect();
    assert_eq!(
        shown,
        [
            (EventKey::Processed(7), false),
            (EventKey::Processed(8), true),
            (EventKey::Processed(9), true),
            (EventKey::Processed(11), false),
            (EventKey::Processed(12), true),
            (EventKey::Queued(4), true),
            (EventKey::Queued(5), true),
        ]
    );
    assert_eq!(list, expected(&log));
}

async fn li_5_pages_of_any_size_give_the_whole_list_both_ways(bed: Bed) {
    let world = World::new(bed).await;
    let (id, log) = mixed(&world).await;
    for descending in [false, true] {
        let mut whole = expected(&log);
        if descending {
            whole.reverse();
        }
        for limit in 1..=8 {
            let mut paged: Vec<(EventKey, Entry)> = Vec::new();
            loop {
                let range = EventRange {
                    after: paged.last().map(|(key, _)| *key),
                    descending,
                    limit,
                    ..EventRange::default()
                };
                let next = world.store.list_events(&id, &range).await.unwrap();
                if next.is_empty() {
                    break;
                }
                paged.extend(next);
            }
            assert_eq!(paged, whole, "descending {descending}, limit {limit}");
        }
    }
}

async fn li_4_types_and_times_filter(bed: Bed) {
    let world = World::new(bed).await;
    let (id, log) = mixed(&world).await;
    let start = world.record(&id).await.created_at;
    let now = world.bed.clock.now();
    let cases: [(&str, EventRange, Vec<i64>); 7] = [
        (
            "one type",
            EventRange {
                types: vec!["user.message".to_owned()],
                ..page(100)
            },
            vec![8, 9, 12, 4, 5],
        ),
        (
            "two types",
            EventRange {
                types: vec!["agent.message".to_owned(), "user.message".to_owned()],
                ..page(100)
            },
            vec![7, 8, 9, 11, 12, 4, 5],
        ),
        (
            "a private type is not listed",
            EventRange {
                types: vec!["intent".to_owned()],
                ..page(100)
            },
            vec![],
        ),
        (
            "after the first second; queued ones match no time",
            EventRange {
                processed_after: Some(log[6].created_at),
                ..page(100)
            },
            vec![11, 12],
        ),
        (
            "from the first second on",
            EventRange {
                processed_from: Some(log[6].created_at),
                ..page(100)
            },
            vec![7, 8, 9, 11, 12],
        ),
        (
            "before the last second",
            EventRange {
                processed_before: Some(now),
                ..page(100)
            },
            vec![7, 8, 9],
        ),
        (
            "until the start",
            EventRange {
                processed_to: Some(start),
                ..page(100)
            },
            vec![],
        ),
    ];
    for (name, range, wanted) in cases {
        let list = world.store.list_events(&id, &range).await.unwrap();
        let found: Vec<i64> = list.iter().map(|(_, entry)| entry.position).collect();
        assert_eq!(found, wanted, "{name}");
    }
}

async fn li_1_a_deep_page_reads_no_more_than_a_shallow_one(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    for batch in 0..50 {
        let new = (0..100)
            .map(|n| NewEntry::event(answered(&format!("{batch}/{n}"))))
            .collect();
        world.store.append(&lease, entries(new)).await.unwrap();
    }
    for after in [None, Some(1), Some(2500), Some(4990), Some(5001)] {
        let range = EventRange {
            after: after.map(EventKey::Processed),
            ..page(20)
        };
        let list = world.store.list_events(&id, &range).await.unwrap();
        let found: Vec<i64> = list.iter().map(|(_, entry)| entry.position).collect();
        let first = after.map_or(2, |after| after.max(1) + 1);
        let mut wanted: Vec<i64> = (first..=5001).take(20).collect();
        if wanted.len() < 20 {
            wanted.push(1);
        }
        assert_eq!(found, wanted, "after {after:?}");
    }
}

async fn se_4_one_event_has_one_row_in_its_present_state(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let first = world.log(&id).await.remove(0);
    assert_eq!(
        world.store.event(&id, &first.event_id).await,
        Ok(Some(first.clone()))
    );
    let processed = NewEntry::Processed {
        event_id: first.event_id.clone(),
    };
    let stored = world
        .store
        .append(&lease, entries(vec![processed]))
        .await
        .unwrap();
    let now = world.store.event(&id, &first.event_id).await.unwrap();
    assert_eq!(now.as_ref(), stored.first());
    assert_eq!(stored[0].body, first.body);
    assert!(stored[0].processed_at.is_some());
    let list = world.store.list_events(&id, &page(9)).await.unwrap();
    assert_eq!(list, [(EventKey::Processed(2), stored[0].clone())]);

    let elsewhere = world.session().await;
    let foreign = world.store.event(&elsewhere, &first.event_id).await;
    assert_eq!(foreign, Ok(None), "an event belongs to its session");
}

/// An event moves to the front of those that wait, behind which the pages are already.
async fn stream_1_what_is_processed_between_two_pages_is_listed_once(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let mut waiting = Vec::new();
    for text in ["shown", "moves", "stays"] {
        let stored = world.change(&id, work(vec![queued(text)])).await;
        waiting.push(stored[0].clone());
    }
    let log = world.log(&id).await;
    let all = world.store.list_events(&id, &page(100)).await.unwrap();
    let last_processed = |(key, _): &(EventKey, Entry)| match key {
        EventKey::Processed(position) => Some(*position),
        EventKey::Queued(_) => None,
    };
    let reached = all.iter().rev().find_map(last_processed).unwrap_or(0);
    // The page before ended with the first that waits here.
    let shown = waiting[0].position;
    let moved = [&waiting[0], &waiting[1]].map(|entry| NewEntry::Processed {
        event_id: entry.event_id.clone(),
    });
    world
        .store
        .append(&lease, entries(moved.to_vec()))
        .await
        .unwrap();
    let next = EventRange {
        after: Some(EventKey::Queued(shown)),
        beside: Some(reached),
        ..page(100)
    };
    let end = log.len() as i64;
    let listed = world.store.list_events(&id, &next).await.unwrap();
    let listed: Vec<(EventKey, &EventId)> = listed
        .iter()
        .map(|(key, entry)| (*key, &entry.event_id))
        .collect();
    let expected = [
        (EventKey::Processed(end + 2), &waiting[1].event_id),
        (EventKey::Queued(waiting[2].position), &waiting[2].event_id),
    ];
    assert_eq!(listed, expected);
    // A page that ends with what moved goes on with what waits.
    let rest = EventRange {
        after: Some(EventKey::Processed(end + 2)),
        beside: Some(shown),
        ..page(100)
    };
    let rest = world.store.list_events(&id, &rest).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].1.event_id, waiting[2].event_id);
}
