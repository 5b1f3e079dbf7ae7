//! What sandboxes see in the place of secrets, and which vault counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{SessionId, VaultId};
use manyhands_store::Change;
use manyhands_store::vault::{CredentialRecord, PREFIX, Placeholder};

use super::{archived, inserted, placeholders, renamed, session_with, vault};
use crate::bed::*;

contract!(
    cred_3_placeholders_are_per_session_and_credential,
    cred_3_placeholders_are_made_once_also_at_once,
    cred_8_a_placeholder_stands_for_what_is_active_now,
    cred_3_placeholders_go_with_their_session,
    va_8_the_first_vault_wins,
);

async fn cred_3_placeholders_are_per_session_and_credential(bed: Bed) {
    let world = World::new(bed).await;
    let vault_id = vault(&world).await.id;
    let record = inserted(&world, &vault_id, "TOKEN").await;
    inserted(&world, &vault_id, "OTHER").await;
    let one = session_with(&world, &[&vault_id]).await;
    let two = session_with(&world, &[&vault_id]).await;
    let (seen, elsewhere) = (
        placeholders(&world, &one).await,
        placeholders(&world, &two).await,
    );
    let all: BTreeSet<&str> = seen
        .iter()
        .chain(&elsewhere)
        .map(|seen| seen.placeholder.as_str())
        .collect();
    assert_eq!(all.len(), 4);
    assert!(
        all.iter()
            .all(|text| text.starts_with(PREFIX) && text.len() == 36)
    );
    assert_eq!(placeholders(&world, &one).await, seen, "they stay");
    let token = &seen[1];
    assert_eq!(
        (token.secret_name.as_str(), &token.credential),
        ("TOKEN", &record.credential.id)
    );
    let found = async |session: &SessionId, text: &str| {
        let found = world.store.placeholder(session, text).await.unwrap();
        found.map(|found| found.credential.id)
    };
    let id = Some(record.credential.id.clone());
    assert_eq!(found(&one, &token.placeholder).await, id);
    assert_eq!(
        found(&two, &token.placeholder).await,
        None,
        "another session"
    );
    for other in [
        "",
        PREFIX,
        &token.placeholder[..35],
        &token.placeholder.to_uppercase(),
    ] {
        assert_eq!(found(&one, other).await, None, "{other}");
    }
    // A session without vaults, and none.
    let bare = session_with(&world, &[]).await;
    assert_eq!(placeholders(&world, &bare).await, []);
    assert_eq!(placeholders(&world, &SessionId::generate()).await, []);
}

async fn cred_3_placeholders_are_made_once_also_at_once(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let vault = vault(&world).await.id;
    for n in 0..5 {
        inserted(&world, &vault, &format!("NAME_{n}")).await;
    }
    let session = session_with(&world, &[&vault]).await;
    let making: Vec<_> = (0..8)
        .map(|_| {
            let (world, session) = (Arc::clone(&world), session.clone());
            tokio::spawn(async move { placeholders(&world, &session).await })
        })
        .collect();
    let expected = placeholders(&world, &session).await;
    assert_eq!(expected.len(), 5);
    for made in making {
        assert_eq!(made.await.unwrap(), expected);
    }
}

async fn cred_8_a_placeholder_stands_for_what_is_active_now(bed: Bed) {
    let world = World::new(bed).await;
    let vault = vault(&world).await.id;
    let record = inserted(&world, &vault, "TOKEN").await;
    let session = session_with(&world, &[&vault]).await;
    let before = placeholders(&world, &session).await.remove(0);
    let found = async || {
        let found = world.store.placeholder(&session, &before.placeholder);
        found.await.unwrap()
    };
    let changed = renamed(&world, &record, "new").await;
    assert_eq!(found().await, Some(changed));
    archived(&world, &record).await;
    assert_eq!(found().await, None);
    // Its successor has a placeholder of its own.
    inserted(&world, &vault, "TOKEN").await;
    let after = placeholders(&world, &session).await.remove(0);
    assert_ne!(after.placeholder, before.placeholder);
    assert_eq!(found().await, None);
}

async fn cred_3_placeholders_go_with_their_session(bed: Bed) {
    let world = World::new(bed).await;
    let vault = vault(&world).await.id;
    inserted(&world, &vault, "TOKEN").await;
    let session = session_with(&world, &[&vault]).await;
    let seen = placeholders(&world, &session).await.remove(0);
    let deleted = world
        .store
        .change(&world.workspace, &session, &[], |state| {
            assert_eq!(state.record.status, SessionStatus::Idle);
            let change = Change {
                delete: true,
                ..Change::default()
            };
            Ok::<_, ()>((change, ()))
        })
        .await;
    assert!(deleted.unwrap().is_some());
    let found = world.store.placeholder(&session, &seen.placeholder).await;
    assert_eq!(found, Ok(None));
}

async fn va_8_the_first_vault_wins(bed: Bed) {
    let world = World::new(bed).await;
    let (one, two) = (vault(&world).await.id, vault(&world).await.id);
    let first = inserted(&world, &one, "TOKEN").await;
    let second = inserted(&world, &two, "TOKEN").await;
    let alone = inserted(&world, &two, "ALONE").await;
    let find = async |vaults: &[VaultId], key: &str| {
        let found = world.store.first_credential(&world.workspace, vaults, key);
        found.await.unwrap().map(|found| found.credential.id)
    };
    let (a, b) = (one.clone(), two.clone());
    let id = |record: &CredentialRecord| Some(record.credential.id.clone());
    assert_eq!(find(&[a.clone(), b.clone()], "env TOKEN").await, id(&first));
    assert_eq!(
        find(&[b.clone(), a.clone()], "env TOKEN").await,
        id(&second)
    );
    assert_eq!(find(&[a.clone(), b.clone()], "env ALONE").await, id(&alone));
    assert_eq!(find(std::slice::from_ref(&a), "env ALONE").await, None);
    assert_eq!(find(&[], "env TOKEN").await, None);
    let session = session_with(&world, &[&one, &two]).await;
    let names = |seen: &[Placeholder]| -> Vec<(String, VaultId)> {
        let pairs = seen.iter();
        pairs
            .map(|seen| (seen.secret_name.clone(), seen.vault.clone()))
            .collect()
    };
    let seen = placeholders(&world, &session).await;
    let (alone, token) = ("ALONE".to_owned(), "TOKEN".to_owned());
    assert_eq!(
        names(&seen),
        [(alone.clone(), b.clone()), (token.clone(), a)]
    );
    // Without the first one's it is the next one's.
    archived(&world, &first).await;
    assert_eq!(find(&[one, two], "env TOKEN").await, id(&second));
    let seen = placeholders(&world, &session).await;
    assert_eq!(names(&seen), [(alone, b.clone()), (token, b)]);
}
