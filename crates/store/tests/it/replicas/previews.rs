//! Previews of sessions whose brain is on another instance: best effort, and never out of place.

use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::{Preview, PreviewDelta, PreviewKind, PreviewedEvent};
use manyhands_protocol::{EventId, SessionId};
use manyhands_store::{Lease, NewEntry, Store, Subscription, TailItem};

use super::{Fleet, replicated};
use crate::bed::*;

replicated!(sq_4_previews_of_a_brain_elsewhere_are_heard_in_their_place);

fn start(id: &EventId) -> Preview {
    Preview::EventStart {
        event: PreviewedEvent {
            kind: PreviewKind::AgentMessage,
            id: id.clone(),
        },
    }
}

fn delta(id: &EventId, text: &str) -> Preview {
    Preview::EventDelta {
        event_id: id.clone(),
        delta: PreviewDelta::ContentDelta {
            index: 0,
            content: ContentBlock::text(text.to_owned()),
        },
    }
}

/// What a listener hears next, in short: positions, `start`, or the text of a fragment.
async fn next(tail: &mut Subscription) -> String {
    match soon(tail.recv()).await {
        Some(TailItem::Entries(entries)) => format!("{:?}", positions(&entries)),
        Some(TailItem::Preview(preview)) => match &*preview {
            Preview::EventStart { .. } => "start".to_owned(),
            Preview::EventDelta {
                delta:
                    PreviewDelta::ContentDelta {
                        content: ContentBlock::Text { text },
                        ..
                    },
                ..
            } => text.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A session whose brain is on one instance and whose listener is on the first; the brain knows of the listener.
async fn listened_to(fleet: &Fleet) -> (Store, Lease, SessionId, Subscription) {
    let world = &fleet.world;
    let id = world.session_with(work(vec![queued("go")])).await;
    let mut brain = fleet.brain("elsewhere").await;
    let lease = brain
        .store
        .claim(&world.workspace, &id)
        .await
        .unwrap()
        .unwrap();
    let tail = fleet.first().subscribe(&id);
    tail.has_read(1);
    fleet.heard(fleet.first(), &mut brain).await;
    assert!(brain.store.has_listeners(&id));
    (brain.store, lease, id, tail)
}

async fn say(brain: &Store, lease: &Lease) {
    let said = entries(vec![NewEntry::event(answered("an entry"))]);
    brain.append(lease, said).await.unwrap();
}

async fn sq_4_previews_of_a_brain_elsewhere_are_heard_in_their_place(fleet: Fleet) {
    let (brain, lease, id, mut tail) = listened_to(&fleet).await;
    let early = EventId::generate();
    brain.preview(&id, start(&early));
    for round in 0..3 {
        // The entry is read from the log, its previews come by themselves and wait for it.
        say(&brain, &lease).await;
        let event = EventId::generate();
        brain.preview(&id, start(&event));
        brain.preview(&id, delta(&event, "one "));
        brain.preview(&id, delta(&event, "two"));
        brain.preview(&id, delta(&early, "of a start that nobody could place"));
        brain.preview(&id, delta(&event, &"x".repeat(9000)));
        brain.preview(&id, delta(&event, "behind what is too long"));
        say(&brain, &lease).await;
        brain.preview(&id, delta(&event, "too late"));
        let (first, last) = (2 + round * 2, 3 + round * 2);
        let mut heard = Vec::new();
        loop {
            let item = next(&mut tail).await;
            let entries = item.starts_with('[');
            heard.push(item);
            if entries && heard.concat().contains(&last.to_string()) {
                break;
            }
        }
        // A beginning of the previews between the entries; nothing where both were read at once.
        let whole = [&format!("[{first}]"), "start", "one ", "two"];
        let shown = heard.split_last().is_some_and(|(end, shown)| {
            *end == format!("[{last}]") && whole.iter().take(shown.len()).eq(shown)
        });
        assert!(
            shown || heard == [format!("[{first}, {last}]")],
            "{heard:?}"
        );
    }
    let stored = fleet.world.log(&id).await;
    assert_eq!(stored.len(), 7, "previews are never stored");
}

/// runtime ST-11
#[tokio::test]
async fn st_11_a_fragment_that_is_too_long_ends_its_preview_elsewhere() {
    let fleet = Fleet::exchange().await;
    let (brain, lease, id, mut tail) = listened_to(&fleet).await;
    let mut local = brain.subscribe(&id);
    say(&brain, &lease).await;
    assert_eq!(next(&mut tail).await, "[2]");
    let (one, two) = (EventId::generate(), EventId::generate());
    let long = "x".repeat(9000);
    brain.preview(&id, start(&one));
    brain.preview(&id, delta(&one, "short"));
    brain.preview(&id, delta(&one, &long));
    brain.preview(&id, delta(&one, "behind it"));
    brain.preview(&id, start(&two));
    brain.preview(&id, delta(&two, "of the next"));
    for expected in ["start", "short", "start", "of the next"] {
        assert_eq!(next(&mut tail).await, expected);
    }
    for expected in [
        "[2]",
        "start",
        "short",
        &long,
        "behind it",
        "start",
        "of the next",
    ] {
        assert_eq!(next(&mut local).await, expected, "here nothing is too long");
    }
}
