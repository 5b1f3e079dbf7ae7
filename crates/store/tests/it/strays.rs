//! Sessions between two leases, what a brain reads of its own entries, and the append that stands for all before it.

use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Append, AppendError, Lease, NewEntry};

use crate::bed::*;

contract!(
    i_8_a_stranded_session_wants_a_brain_again,
    i_8_only_stranded_sessions_are_rescued,
    i_8_held_leases_are_listed_in_pages,
    cc_2_an_append_at_a_position_is_refused_behind_any_other_entry,
    cc_2_private_entries_of_a_type_are_listed_oldest_first,
);

fn private(type_name: &'static str, body: &str) -> NewEntry {
    NewEntry::Private {
        type_name,
        body: body.to_owned(),
    }
}

async fn i_8_a_stranded_session_wants_a_brain_again(bed: Bed) {
    let mut world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    world.store.close().await;
    world
        .bed
        .sql("UPDATE sessions SET wants_brain = 0, holder = NULL")
        .await;
    world.store = world.bed.open().await;
    assert_eq!(world.claim(&id).await, None, "nobody would ever come");
    let rescued = world.store.rescue_stranded(10).await.unwrap();
    assert_eq!(rescued, [(world.workspace.clone(), id.clone())]);
    assert!(world.store.rescue_stranded(10).await.unwrap().is_empty());
    let wanting = world.store.wanting(10).await.unwrap();
    assert_eq!(wanting.len(), 1);
    let again = world.claim(&id).await.expect("it can be claimed");
    assert!(again.epoch > lease.epoch);
}

async fn i_8_only_stranded_sessions_are_rescued(bed: Bed) {
    let mut world = World::new(bed).await;
    let resting = world.session().await;
    let wanting = world.session_with(work(vec![queued("go")])).await;
    let (archived, _) = world.leased().await;
    world.archive_session(&archived).await;
    let (held, lease) = world.leased().await;
    assert!(world.store.rescue_stranded(10).await.unwrap().is_empty());
    // Without wishes and holders they are found, as many as asked for.
    let (first, _) = world.leased().await;
    let (second, _) = world.leased().await;
    world.store.close().await;
    world.bed.sql("UPDATE sessions SET wants_brain = 0").await;
    world.store = world.bed.open().await;
    let mut found = Vec::new();
    for _ in 0..4 {
        let rescued = world.store.rescue_stranded(1).await.unwrap();
        assert_eq!(rescued.len(), 1);
        found.extend(rescued.into_iter().map(|(_, id)| id));
    }
    assert!(world.store.rescue_stranded(10).await.unwrap().is_empty());
    found.sort();
    let mut expected = [wanting, held.clone(), first, second];
    expected.sort();
    assert_eq!(found, expected);
    assert_ne!(world.record(&resting).await.status, SessionStatus::Running);
    let refused = world.store.append(&lease, Append::default()).await;
    let epoch = lease.epoch;
    assert_eq!(refused, Err(AppendError::StaleEpoch { epoch }));
}

async fn i_8_held_leases_are_listed_in_pages(bed: Bed) {
    let world = World::new(bed).await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(world.leased().await.1);
    }
    leases.sort_by(|one, other| one.session.cmp(&other.session));
    assert_eq!(world.store.held(None, 10).await.unwrap(), leases);
    assert_eq!(world.store.held(None, 2).await.unwrap(), leases[..2]);
    let after = Some(&leases[1].session);
    assert_eq!(world.store.held(after, 2).await.unwrap(), leases[2..]);
    world.store.release(&leases[0]).await.unwrap();
    assert_eq!(world.store.held(None, 10).await.unwrap(), leases[1..]);
    let is_held = |lease: &Lease| {
        let (store, lease) = (world.store.clone(), lease.clone());
        async move { store.is_held(&lease.workspace, &lease.session).await }
    };
    assert!(!is_held(&leases[0]).await.unwrap());
    assert!(is_held(&leases[1]).await.unwrap());
}

async fn cc_2_an_append_at_a_position_is_refused_behind_any_other_entry(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let append = || entries(vec![private("compaction", "{}")]);
    // A note is no input that a resting brain must have read, and yet it counts here.
    world.change(&id, notes(&["meanwhile"])).await;
    let before = world.log(&id).await;
    let refused = world.store.append_at(&lease, append(), 1).await;
    assert_eq!(refused, Err(AppendError::UnreadInput));
    assert_eq!(world.log(&id).await, before);
    let stored = world.store.append_at(&lease, append(), 2).await.unwrap();
    assert_eq!(positions(&stored), [3]);
    world.store.release(&lease).await.unwrap();
    let refused = world.store.append_at(&lease, append(), 3).await;
    let epoch = lease.epoch;
    assert_eq!(refused, Err(AppendError::StaleEpoch { epoch }));
}

async fn cc_2_private_entries_of_a_type_are_listed_oldest_first(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let (other, other_lease) = world.leased().await;
    let append = entries(vec![private("compaction", "{\"n\":0}")]);
    world.store.append(&other_lease, append).await.unwrap();
    for n in 1..=3 {
        let append = entries(vec![
            private("compaction", &format!("{{\"n\":{n}}}")),
            private("retry", "{}"),
            NewEntry::event(answered("compaction")),
        ]);
        world.store.append(&lease, append).await.unwrap();
    }
    let found = world.store.privates(&id, "compaction").await.unwrap();
    let bodies: Vec<&str> = found.iter().map(|entry| &*entry.body).collect();
    assert_eq!(bodies, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]);
    assert_eq!(positions(&found), [2, 5, 8]);
    let last = world.store.last_private(&id, "compaction").await.unwrap();
    assert_eq!(last.as_ref(), found.last());
    let found = world.store.privates(&other, "compaction").await.unwrap();
    assert_eq!(found.len(), 1);
    let none = world.store.privates(&other, "retry").await.unwrap();
    assert!(none.is_empty());
}
