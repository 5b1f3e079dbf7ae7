//! A full disk (security STORE-4), on a small file system of its own.

use std::fs;
use std::path::PathBuf;

use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{EventId, SessionId};
use manyhands_store::{Append, AppendError, Change, Database, Error, NewEntry};
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::disk;

use crate::bed::*;

/// security STORE-2, STORE-4
#[test]
fn store_4_a_full_disk_refuses_writes_keeps_reads_and_heals_without_a_restart() {
    let name =
        "full_disk::store_4_a_full_disk_refuses_writes_keeps_reads_and_heals_without_a_restart";
    let Some(disk) = disk::small(name, 48) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill_and_heal(disk));
}

async fn fill_and_heal(disk: PathBuf) {
    let bed = Bed::on(
        Database::Sqlite {
            directory: disk.join("data"),
        },
        TestClock::default(),
    );
    let mut world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let large = "x".repeat(20_000);
    let answer = || entries(vec![NewEntry::event(answered(&large))]);
    world.store.append(&lease, answer()).await.unwrap();
    let waiting = world.session_with(work(vec![queued("go")])).await;
    assert!(!world.store.is_short_of_room());

    let ballast = disk.join("ballast");
    disk::fill(&ballast);
    let together = (0..8).map(|_| world.store.append(&lease, answer()));
    for refused in futures::future::join_all(together).await {
        let refused = refused.unwrap_err();
        assert!(is_full(&refused), "{refused:?}");
    }
    for new in [work(vec![queued("more")]), titled("other")] {
        assert_no_space(&try_change(&world, &id, new).await.unwrap_err());
    }
    let agent = agent("another", world.bed.clock.now());
    let refused = world.store.insert_agent(&world.workspace, &agent).await;
    assert_no_space(&refused.unwrap_err());
    assert!(world.store.is_short_of_room());
    assert!(disk.join("data/reserve").exists(), "nothing has ended yet");
    assert_eq!(
        world.log(&id).await.len(),
        2,
        "reads go on, nothing was stored"
    );
    let claimed = world.store.claim(&world.workspace, &waiting).await;
    assert_eq!(claimed.unwrap(), None, "a wake could do nothing");

    // What ends work: a client's stop, the wake that hears it, the rests of both.
    world.change(&waiting, interrupting()).await;
    let claimed = world.store.claim(&world.workspace, &waiting).await;
    let stopped = claimed.unwrap().expect("it is to be stopped");
    let at_rest = || Append {
        status: Some(SessionStatus::Idle),
        ..answer()
    };
    let rested = world.store.append_and_rest(&stopped, at_rest(), 9).await;
    rested.unwrap();
    world
        .store
        .append_and_rest(&lease, at_rest(), 9)
        .await
        .unwrap();
    assert!(!disk.join("data/reserve").exists());

    // A server that begins on a full disk.
    world.store.close().await;
    world.store = world.bed.open().await;
    assert!(world.store.is_short_of_room());
    assert_no_space(
        &try_change(&world, &id, work(vec![queued("more")]))
            .await
            .unwrap_err(),
    );
    assert_eq!(world.log(&id).await.len(), 3);
    let log = world.log(&waiting).await;
    assert_eq!(log.last().unwrap().type_name.as_ref(), "agent.message");

    fs::remove_file(&ballast).unwrap();
    let stored = world.change(&id, work(vec![queued("again")])).await;
    assert_eq!(positions(&stored), [4], "no restart, nothing half-written");
    assert!(!world.store.is_short_of_room());
    assert!(disk.join("data/reserve").exists());
    world.store.close().await;
}

fn is_full(error: &AppendError) -> bool {
    matches!(error, AppendError::Store(Error::NoSpace { .. }))
}

fn assert_no_space(error: &Error) {
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
}

fn titled(title: &str) -> Change {
    Change {
        title: Some(Some(title.to_owned())),
        ..Change::default()
    }
}

fn interrupting() -> Change {
    let body = serde_json::json!({"type": "user.interrupt"});
    Change {
        append: entries(vec![NewEntry::Event {
            id: EventId::generate(),
            body: serde_json::from_value(body).unwrap(),
            queued: true,
        }]),
        wants_brain: true,
        ..Change::default()
    }
}

async fn try_change(world: &World, id: &SessionId, change: Change) -> Result<(), Error> {
    let decide = move |_: &_| Ok::<_, std::convert::Infallible>((change, ()));
    let changed = world.store.change(&world.workspace, id, &[], decide).await;
    changed.map(drop)
}
