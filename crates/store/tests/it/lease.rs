//! Leases: who may write as a session's brain, and how everybody else is refused.

use std::sync::mpsc;
use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_protocol::time::Clock as _;
use manyhands_store::{AppendError, Backlog, Change, Database, EntryKind, Error, NewEntry, Store};

use crate::bed::*;

contract!(
    lease_1_an_older_epoch_is_refused,
    lease_1_closing_gives_leases_back,
    lease_1_opening_again_voids_what_a_crash_left,
    i_5_of_many_claims_one_wins,
    ops_1_what_waits_for_a_brain_is_counted_from_the_oldest_wish_on,
    resting_is_refused_while_there_is_unread_input,
    a_write_that_wants_a_brain_grants_the_lease,
    without_room_for_a_nudge_no_lease_is_granted,
    released_sessions_still_want_a_brain,
    wanting_shows_the_oldest_wish_first,
    an_archived_session_is_gone_for_its_brain,
    a_deleted_session_is_gone_for_its_brain;
    on_disks:
    lease_1_a_stale_epoch_fails_only_itself_among_others,
    i_1_a_write_that_fails_half_way_leaves_nothing_and_fails_alone,
    a_panicking_decision_fails_alone,
);

fn hello() -> manyhands_store::Append {
    entries(vec![NewEntry::event(answered("hello"))])
}

async fn lease_1_an_older_epoch_is_refused(bed: Bed) {
    let world = World::new(bed).await;
    let (id, old) = world.leased().await;
    world.store.release(&old).await.unwrap();
    let new = world.claim(&id).await.unwrap();
    assert!(new.epoch > old.epoch);
    let before = world.log(&id).await;
    for refused in [
        world.store.append(&old, hello()).await,
        world.store.append_and_rest(&old, hello(), 99).await,
    ] {
        let epoch = old.epoch;
        assert_eq!(refused, Err(AppendError::StaleEpoch { epoch }));
    }
    assert_eq!(world.log(&id).await, before);
    let stored = world.store.append(&new, hello()).await.unwrap();
    assert_eq!(stored[0].epoch, new.epoch);

    world.store.release(&old).await.unwrap();
    let held = world.claim(&id).await;
    assert_eq!(held, None, "an old lease gives nothing back");
}

/// Occupies the writer until the returned sender is used, so that writes meanwhile wait together.
async fn hold_writer(world: &World, id: &SessionId) -> (mpsc::Sender<()>, impl Future) {
    let (release, released) = mpsc::channel::<()>();
    let (reached, reach) = tokio::sync::oneshot::channel::<()>();
    let (store, workspace, id) = (world.store.clone(), world.workspace.clone(), id.clone());
    let task = tokio::spawn(async move {
        let held = store
            .change(&workspace, &id, &[], move |_| {
                reached.send(()).unwrap();
                released.recv_timeout(Duration::from_secs(30)).unwrap();
                Err::<(Change, ()), &str>("only held")
            })
            .await;
        assert_eq!(held, Ok(Some(Err("only held"))));
    });
    soon(reach).await.unwrap();
    (release, task)
}

async fn lease_1_a_stale_epoch_fails_only_itself_among_others(bed: Bed) {
    let world = World::new(bed).await;
    let mut leases = Vec::new();
    for n in 0..32 {
        let (id, lease) = world.leased().await;
        if n % 2 == 1 {
            world.store.release(&lease).await.unwrap();
            world.claim(&id).await.unwrap();
        }
        leases.push(lease);
    }
    let holder = world.session().await;
    let (release, held) = hold_writer(&world, &holder).await;
    let appends = leases
        .iter()
        .map(|lease| world.store.append(lease, hello()));
    let mut appends = Box::pin(futures::future::join_all(appends));
    assert!(futures::poll!(&mut appends).is_pending());
    release.send(()).unwrap();
    let results = soon(appends).await;
    held.await;
    for (n, (result, lease)) in results.into_iter().zip(&leases).enumerate() {
        let log = world.log(&lease.session).await;
        if n % 2 == 0 {
            assert_eq!(result.unwrap(), log[1..], "lease {n} is valid");
        } else {
            let epoch = lease.epoch;
            assert_eq!(result, Err(AppendError::StaleEpoch { epoch }));
            assert_eq!(log.len(), 1, "lease {n} wrote nothing");
        }
    }
}

async fn i_1_a_write_that_fails_half_way_leaves_nothing_and_fails_alone(bed: Bed) {
    let world = World::new(bed).await;
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(world.leased().await.1);
    }
    let holder = world.session().await;
    let (release, held) = hold_writer(&world, &holder).await;
    let mut tails: Vec<_> = leases
        .iter()
        .map(|lease| world.store.subscribe(&lease.session))
        .collect();
    let appends = leases.iter().enumerate().map(|(n, lease)| {
        let mut append = hello();
        if n % 2 == 1 {
            // Found out after the session's row was written.
            append.entries.push(NewEntry::Processed {
                event_id: manyhands_protocol::EventId::generate(),
            });
        }
        world.store.append(lease, append)
    });
    let mut appends = Box::pin(futures::future::join_all(appends));
    assert!(futures::poll!(&mut appends).is_pending());
    release.send(()).unwrap();
    let results = soon(appends).await;
    held.await;
    for (n, (result, lease)) in results.into_iter().zip(&leases).enumerate() {
        let log = world.log(&lease.session).await;
        let last = world.record(&lease.session).await.last_position;
        if n % 2 == 0 {
            assert_eq!(result.unwrap(), log[1..]);
            assert_eq!(last, 2);
        } else {
            let Err(AppendError::Store(Error::Invalid { .. })) = result else {
                panic!("{result:?}");
            };
            assert_eq!((log.len(), last), (1, 1), "nothing of it stays");
        }
    }
    // The next thing each listener hears is what was really written.
    for (n, (tail, lease)) in tails.iter_mut().zip(&leases).enumerate() {
        let stored = world.store.append(lease, hello()).await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < 2 - n % 2 {
            match soon(tail.recv()).await {
                Some(manyhands_store::TailItem::Entries(entries)) => heard.extend(entries.to_vec()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard.last(), stored.last());
        assert_eq!(heard[0].position, 2);
    }
}

async fn lease_1_closing_gives_leases_back(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    world.store.close().await;
    let store = world.bed.open().await;
    let next = store.claim(&world.workspace, &id).await.unwrap().unwrap();
    assert!(next.epoch > lease.epoch);
}

/// Ends a store as a crash does, as far as one process can play it: nothing is given back. Where other
/// instances may live, its time to live is run out by hand.
async fn crash(bed: &Bed, store: Store) {
    match &bed.database {
        Database::Sqlite { directory } => {
            drop(store);
            // The writer ends on its own and lets go of the lock then.
            let lock = std::fs::File::open(directory.join("lock")).unwrap();
            let free = tokio::task::spawn_blocking(move || lock.lock());
            soon(free).await.unwrap().unwrap();
        }
        Database::Postgres { .. } | Database::Memory(_) => {
            drop(store);
            bed.expire_instances().await;
        }
    }
}

async fn lease_1_opening_again_voids_what_a_crash_left(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let World {
        bed,
        store,
        workspace,
        ..
    } = world;
    crash(&bed, store).await;
    let store = bed.open().await;
    if matches!(bed.database, Database::Sqlite { .. }) {
        let record = store.session(&workspace, &id).await.unwrap().unwrap();
        assert!(record.epoch > lease.epoch, "at once, by the lock alone");
    }
    let wanting = store.wanting(9).await.unwrap();
    assert_eq!(wanting.len(), 1);
    assert_eq!(wanting[0].session, id);
    let refused = store.append(&lease, hello()).await;
    let epoch = lease.epoch;
    assert_eq!(refused, Err(AppendError::StaleEpoch { epoch }));
    let next = store.claim(&workspace, &id).await.unwrap().unwrap();
    assert!(next.epoch > lease.epoch);
}

async fn ops_1_what_waits_for_a_brain_is_counted_from_the_oldest_wish_on(bed: Bed) {
    let world = World::new(bed).await;
    let backlog = async || world.store.backlog().await.unwrap();
    let nobody = Backlog {
        sessions: 0,
        oldest: None,
    };
    world.session().await;
    assert_eq!(backlog().await, nobody, "idle ones do not wait");
    let since = world.bed.clock.now();
    let first = world.session_with(work(vec![queued("go")])).await;
    world.bed.clock.advance(Duration::from_secs(7));
    let later = world.bed.clock.now();
    let second = world.session_with(work(vec![queued("go")])).await;
    let waits = |sessions, oldest| Backlog {
        sessions,
        oldest: Some(oldest),
    };
    assert_eq!(backlog().await, waits(2, since));
    world.claim(&first).await.expect("nobody holds it");
    assert_eq!(backlog().await, waits(1, later), "one is at work");
    world.claim(&second).await.expect("nobody holds it");
    assert_eq!(backlog().await, nobody);
}

async fn i_5_of_many_claims_one_wins(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session_with(work(vec![queued("go")])).await;
    let claims = (0..32).map(|_| world.claim(&id));
    let won = futures::future::join_all(claims).await;
    assert_eq!(won.into_iter().flatten().count(), 1);
    let idle = world.session().await;
    assert_eq!(world.claim(&idle).await, None, "nothing is wanted");
    let foreign = manyhands_protocol::WorkspaceId::generate();
    assert_eq!(world.store.claim(&foreign, &id).await, Ok(None));
}

async fn resting_is_refused_while_there_is_unread_input(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let read_to = world.record(&id).await.last_position;
    world.change(&id, notes(&["wants nothing"])).await;
    world.change(&id, work(vec![queued("more")])).await;
    let refused = world.store.append_and_rest(&lease, hello(), read_to).await;
    assert_eq!(refused, Err(AppendError::UnreadInput));
    let refused = world.store.append_if_read(&lease, hello(), read_to).await;
    assert_eq!(refused, Err(AppendError::UnreadInput));
    let record = world.record(&id).await;
    assert_eq!((record.last_position, record.input_position), (3, 3));

    let written = world.store.append(&lease, hello()).await.unwrap();
    assert_eq!(positions(&written), [4], "a plain append needs no reading");
    let guarded = world.store.append_if_read(&lease, hello(), 3).await;
    assert_eq!(positions(&guarded.unwrap()), [5], "and the lease goes on");
    let rested = world.store.append_and_rest(&lease, hello(), 3).await;
    assert_eq!(positions(&rested.unwrap()), [6]);
    assert_eq!(world.claim(&id).await, None, "nothing is wanted any more");
    assert_eq!(world.store.wanting(9).await, Ok(vec![]));
    let epoch = lease.epoch;
    assert_eq!(
        world.store.append(&lease, hello()).await,
        Err(AppendError::StaleEpoch { epoch }),
        "the lease ended"
    );
}

async fn a_write_that_wants_a_brain_grants_the_lease(bed: Bed) {
    let world = World::new(bed).await;
    let before = world.session_with(work(vec![queued("early")])).await;
    assert_eq!(world.record(&before).await.epoch, 0, "nobody listens yet");

    let mut nudges = world.store.nudges().unwrap();
    assert!(world.store.nudges().is_none(), "there is one receiver");
    let id = world.session_with(work(vec![queued("go")])).await;
    let nudge = soon(nudges.recv()).await.unwrap();
    assert_eq!((&nudge.session, &nudge.workspace), (&id, &world.workspace));
    let lease = nudge.lease.expect("granted with the write");
    assert_eq!(lease.epoch, world.record(&id).await.epoch);
    assert_eq!(world.claim(&id).await, None, "it is held");
    world.store.append(&lease, hello()).await.unwrap();

    world.change(&id, work(vec![queued("more")])).await;
    let nudge = soon(nudges.recv()).await.unwrap();
    assert_eq!((nudge.session, nudge.lease), (id.clone(), None));

    world
        .store
        .append_and_rest(&lease, hello(), 9)
        .await
        .unwrap();
    world.change(&id, notes(&["no work"])).await;
    world.change(&id, work(vec![queued("again")])).await;
    let nudge = soon(nudges.recv()).await.unwrap();
    let next = nudge.lease.expect("granted anew");
    assert!(next.epoch > lease.epoch);
    assert!(nudges.try_recv().is_err(), "one nudge for one wish");
}

async fn without_room_for_a_nudge_no_lease_is_granted(bed: Bed) {
    let world = World::new(bed).await;
    let nudges = world.store.nudges().unwrap();
    drop(nudges);
    let id = world.session_with(work(vec![queued("go")])).await;
    assert_eq!(world.record(&id).await.epoch, 0);
    assert_eq!(world.store.wanting(9).await.unwrap().len(), 1);
    assert!(world.claim(&id).await.is_some(), "the timer's way works");
}

async fn released_sessions_still_want_a_brain(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    assert_eq!(world.store.wanting(9).await, Ok(vec![]), "it is held");
    world.store.release(&lease).await.unwrap();
    let wanting = world.store.wanting(9).await.unwrap();
    assert_eq!(wanting[0].session, id);
    let record = world.store.leased_session(&lease).await.unwrap();
    assert_eq!(record, Some(world.record(&id).await));
}

async fn wanting_shows_the_oldest_wish_first(bed: Bed) {
    let world = World::new(bed).await;
    let late = world.session().await;
    let mut wanted = Vec::new();
    for _ in 0..3 {
        wanted.push(world.session_with(work(vec![queued("go")])).await);
        world.bed.clock.advance(Duration::from_millis(5));
    }
    world.change(&late, work(vec![queued("go")])).await;
    wanted.push(late);
    world.change(&wanted[0], work(vec![queued("more")])).await;
    let found: Vec<SessionId> = world
        .store
        .wanting(3)
        .await
        .unwrap()
        .into_iter()
        .map(|nudge| nudge.session)
        .collect();
    assert_eq!(found, wanted[..3]);
}

async fn an_archived_session_is_gone_for_its_brain(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let archive = Change {
        archive: true,
        wants_brain: true,
        ..notes(&["the end"])
    };
    world.change(&id, archive).await;
    let refused = world.store.append(&lease, hello()).await;
    assert_eq!(refused, Err(AppendError::Gone));
    assert_eq!(world.store.leased_session(&lease).await, Ok(None));
    assert_eq!(world.store.wanting(9).await, Ok(vec![]));
    assert_eq!(world.claim(&id).await, None);
    let kinds: Vec<EntryKind> = world.log(&id).await.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EntryKind::Event; 2], "the log can still be read");
}

async fn a_deleted_session_is_gone_for_its_brain(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let delete = Change {
        delete: true,
        ..Change::default()
    };
    world.change(&id, delete).await;
    let refused = world.store.append(&lease, hello()).await;
    assert_eq!(refused, Err(AppendError::Gone));
    assert_eq!(world.store.leased_session(&lease).await, Ok(None));
    assert_eq!(world.log(&id).await, []);
}

/// security I10, OPS-2
async fn a_panicking_decision_fails_alone(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let other = world.session().await;
    let holder = world.session().await;
    let (release, held) = hold_writer(&world, &holder).await;
    let panicking = world.store.change(
        &world.workspace,
        &id,
        &[],
        |_| -> Result<(Change, ()), ()> { panic!("a defect, on purpose") },
    );
    let fine = world.change(&other, notes(&["fine"]));
    let mut both = Box::pin(futures::future::join(panicking, fine));
    assert!(futures::poll!(&mut both).is_pending());
    release.send(()).unwrap();
    let (panicked, stored) = soon(both).await;
    held.await;
    assert!(matches!(panicked, Err(Error::Unavailable { .. })));
    assert_eq!(world.log(&other).await, stored);
    assert_eq!(world.log(&id).await, []);
    assert_eq!(world.change(&id, notes(&["goes on"])).await.len(), 1);
}

/// An instance whose renewal fails past its time to live may not write with its leases any more, and another one may
/// take them.
#[tokio::test(flavor = "multi_thread")]
async fn lease_1_an_expired_instance_is_refused_by_the_database_clock() {
    for bed in [Bed::postgres().await, Bed::memory().await] {
        an_expired_instance_is_refused(bed).await;
    }
}

async fn an_expired_instance_is_refused(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let second = world.bed.open().await;
    let held = second.claim(&world.workspace, &id).await.unwrap();
    assert_eq!(held, None, "a living instance holds it");
    assert_eq!(second.wanting(9).await, Ok(vec![]));

    second.close().await;
    world.bed.expire_instances().await;
    let epoch = lease.epoch;
    assert_eq!(
        world.store.append(&lease, hello()).await,
        Err(AppendError::StaleEpoch { epoch })
    );
    let third = world.bed.open().await;
    let taken = third.claim(&world.workspace, &id).await.unwrap();
    assert!(taken.is_some_and(|taken| taken.epoch > lease.epoch));
    assert_eq!(
        world.store.append(&lease, hello()).await,
        Err(AppendError::StaleEpoch { epoch })
    );
}
