//! Vaults and credentials; what hangs on them is told in files of its own.

mod keys;
mod placeholders;
mod trail;

use std::sync::Arc;
use std::time::Duration;

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::page::Order;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::vault::{Credential, CredentialNetworking, Vault};
use manyhands_protocol::{SessionId, VaultId, WorkspaceId};
use manyhands_store::audit::{Act, Action, Actor, AuditFilter};
use manyhands_store::listing::Range;
use manyhands_store::vault::{
    CREDENTIALS, Claim, CredentialRecord, Inserted, Placeholder, Refusal,
};
use manyhands_store::{Change, NewSession, Store};
use manyhands_testkit::resources;

use crate::bed::*;

contract!(
    va_1_vaults_change_and_page,
    va_1_a_vault_has_so_many_credentials_also_at_once,
    va_2_active_credentials_of_a_vault_have_different_keys,
    va_16_archiving_a_credential_takes_its_secrets_and_frees_its_key,
    va_16_archiving_a_vault_archives_what_is_in_it,
    va_16_deletion_takes_everything_along,
    api_2_foreign_vaults_are_not_there,
    va_6_one_at_a_time_refreshes,
    va_6_new_secrets_end_a_claim,
);

fn act(world: &World, action: Action) -> Act {
    let key = ApiKeyId::parse("apikey_1").unwrap();
    Act::new(&world.workspace, Actor::Key(key), action)
}

fn range(limit: u32) -> Range {
    Range {
        after: None,
        order: Order::Desc,
        limit,
    }
}

async fn vault(world: &World) -> Vault {
    let vault = resources::vault(&VaultId::generate(), world.bed.clock.now());
    let made = act(world, Action::VaultCreate).to_vault(&vault.id);
    world.store.insert_vault(made, &vault).await.unwrap();
    vault
}

fn credential(world: &World, vault: &VaultId, name: &str) -> CredentialRecord {
    let auth = resources::variable(name, CredentialNetworking::Unrestricted {});
    CredentialRecord {
        workspace: world.workspace.clone(),
        credential: resources::credential(vault, auth, world.bed.clock.now()),
        key: format!("env {name}"),
        secrets: [("secret_value".to_owned(), "sealed".to_owned())].into(),
        refused: None,
        generation: 0,
        refreshing_until: None,
    }
}

async fn try_insert(world: &World, record: &CredentialRecord) -> Inserted {
    let shown = &record.credential;
    let made = act(world, Action::CredentialCreate).to_credential(&shown.vault_id, &shown.id);
    let inserted = world.store.insert_credential(made, record.clone()).await;
    inserted.unwrap()
}

async fn inserted(world: &World, vault: &VaultId, name: &str) -> CredentialRecord {
    let record = credential(world, vault, name);
    assert_eq!(try_insert(world, &record).await, Inserted::Done);
    record
}

async fn read(world: &World, record: &CredentialRecord) -> Option<CredentialRecord> {
    let shown = &record.credential;
    let found = world
        .store
        .credential(&world.workspace, &shown.vault_id, &shown.id);
    found.await.unwrap()
}

/// Changes a credential's name.
async fn renamed(world: &World, record: &CredentialRecord, name: &str) -> CredentialRecord {
    let shown = &record.credential;
    let made = act(world, Action::CredentialUpdate).to_credential(&shown.vault_id, &shown.id);
    let name = name.to_owned();
    let changed = world
        .store
        .update_credential(made, &shown.vault_id, &shown.id, move |record| {
            let mut record = record.clone();
            record.credential.display_name = Some(name);
            Ok::<_, ()>(Some(record))
        })
        .await;
    changed.unwrap().unwrap().unwrap()
}

async fn archived(world: &World, record: &CredentialRecord) -> Option<Credential> {
    let shown = &record.credential;
    let made = act(world, Action::CredentialArchive).to_credential(&shown.vault_id, &shown.id);
    let archived = world
        .store
        .archive_credential(made, &shown.vault_id, &shown.id);
    archived.await.unwrap()
}

async fn session_with(world: &World, vaults: &[&VaultId]) -> SessionId {
    let session = NewSession {
        vault_ids: vaults.iter().map(|vault| (*vault).clone()).collect(),
        ..world.new_session(Change::default())
    };
    let id = session.id.clone();
    assert!(world.store.create_session(session).await.unwrap());
    id
}

async fn placeholders(world: &World, session: &SessionId) -> Vec<Placeholder> {
    let found = world.store.placeholders(&world.workspace, session);
    found.await.unwrap()
}

async fn va_1_vaults_change_and_page(bed: Bed) {
    let world = World::new(bed).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(vault(&world).await);
        world.bed.clock.advance(Duration::from_secs(1));
    }
    let changed = world
        .store
        .update_vault(act(&world, Action::VaultUpdate), &made[0].id, |vault| {
            Ok::<_, ()>(Some(Vault {
                display_name: "other".to_owned(),
                ..vault.clone()
            }))
        })
        .await;
    made[0].display_name = "other".to_owned();
    assert_eq!(changed, Ok(Some(Ok(made[0].clone()))));
    let found = world.store.vault(&world.workspace, &made[0].id).await;
    assert_eq!(found, Ok(Some(made[0].clone())));
    let refused = world
        .store
        .update_vault(act(&world, Action::VaultUpdate), &made[0].id, |_| {
            Err::<Option<Vault>, _>("no")
        })
        .await;
    assert_eq!(refused, Ok(Some(Err("no"))));

    made.reverse();
    let page = world
        .store
        .list_vaults(&world.workspace, false, &range(3))
        .await;
    assert_eq!(page.unwrap(), made[..3]);
    let rest = Range {
        after: Some(manyhands_store::listing::Key {
            created_at: made[2].created_at,
            id: made[2].id.to_string(),
        }),
        ..range(10)
    };
    let page = world.store.list_vaults(&world.workspace, false, &rest);
    assert_eq!(page.await.unwrap(), made[3..]);
    let gone = act(&world, Action::VaultArchive);
    world.store.archive_vault(gone, &made[1].id).await.unwrap();
    for (all, count) in [(false, 4), (true, 5)] {
        let page = world
            .store
            .list_vaults(&world.workspace, all, &range(10))
            .await;
        assert_eq!(page.unwrap().len(), count);
    }
}

async fn va_1_a_vault_has_so_many_credentials_also_at_once(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let vault = vault(&world).await.id;
    let adding: Vec<_> = (0..2 * CREDENTIALS)
        .map(|n| {
            let (world, vault) = (Arc::clone(&world), vault.clone());
            tokio::spawn(async move {
                let record = credential(&world, &vault, &format!("NAME_{n}"));
                try_insert(&world, &record).await
            })
        })
        .collect();
    let (mut done, mut full) = (0, 0);
    for adding in adding {
        match adding.await.unwrap() {
            Inserted::Done => done += 1,
            Inserted::Full => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done, full), (CREDENTIALS, CREDENTIALS));
    let stored = world
        .store
        .list_credentials(&world.workspace, &vault, true, &range(100))
        .await;
    let stored = stored.unwrap();
    assert_eq!(stored.len(), CREDENTIALS);
    // An archived one makes room.
    let made = act(&world, Action::CredentialArchive);
    let gone = world
        .store
        .archive_credential(made, &vault, &stored[0].id)
        .await;
    assert!(gone.unwrap().is_some());
    inserted(&world, &vault, "ANOTHER").await;
}

async fn va_2_active_credentials_of_a_vault_have_different_keys(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let vault_id = vault(&world).await.id;
    let adding: Vec<_> = (0..8)
        .map(|_| {
            let (world, vault) = (Arc::clone(&world), vault_id.clone());
            tokio::spawn(async move {
                let record = credential(&world, &vault, "TOKEN");
                try_insert(&world, &record).await
            })
        })
        .collect();
    let mut results = Vec::new();
    for adding in adding {
        results.push(adding.await.unwrap());
    }
    let done = results.iter().filter(|one| **one == Inserted::Done).count();
    let taken = results
        .iter()
        .filter(|one| **one == Inserted::Taken)
        .count();
    assert_eq!((done, taken), (1, 7));
    // In another vault it is free, and in one that is gone or archived nothing is added.
    let other = vault(&world).await.id;
    inserted(&world, &other, "TOKEN").await;
    let nowhere = credential(&world, &VaultId::generate(), "TOKEN");
    assert_eq!(try_insert(&world, &nowhere).await, Inserted::NoVault);
    let made = act(&world, Action::VaultArchive);
    world.store.archive_vault(made, &other).await.unwrap();
    let late = credential(&world, &other, "LATE");
    assert_eq!(try_insert(&world, &late).await, Inserted::Archived);
}

async fn va_16_archiving_a_credential_takes_its_secrets_and_frees_its_key(bed: Bed) {
    let world = World::new(bed).await;
    let vault = vault(&world).await.id;
    let record = inserted(&world, &vault, "TOKEN").await;
    world.bed.clock.advance(Duration::from_secs(1));
    let now = world.bed.clock.now();
    let shown = archived(&world, &record).await.expect("it is there");
    assert_eq!(shown.archived_at, Some(now));
    let stored = read(&world, &record).await.expect("the record stays");
    assert_eq!(stored.credential, shown);
    assert!(stored.secrets.is_empty());
    assert_eq!(stored.generation, 1);
    world.bed.clock.advance(Duration::from_secs(1));
    assert_eq!(archived(&world, &record).await, Some(shown), "once");
    inserted(&world, &vault, "TOKEN").await;
    for (all, count) in [(false, 1), (true, 2)] {
        let page = world
            .store
            .list_credentials(&world.workspace, &vault, all, &range(10))
            .await;
        assert_eq!(page.unwrap().len(), count);
    }
}

async fn va_16_archiving_a_vault_archives_what_is_in_it(bed: Bed) {
    let world = World::new(bed).await;
    let vault_id = vault(&world).await.id;
    let one = inserted(&world, &vault_id, "ONE").await;
    let two = inserted(&world, &vault_id, "TWO").await;
    let other = vault(&world).await.id;
    let three = inserted(&world, &other, "ONE").await;
    let made = act(&world, Action::VaultArchive).to_vault(&vault_id);
    let shown = world.store.archive_vault(made.clone(), &vault_id).await;
    let shown = shown.unwrap().expect("it is there");
    assert_eq!(shown.archived_at, Some(world.bed.clock.now()));
    let again = world.store.archive_vault(made.clone(), &vault_id).await;
    assert_eq!(again.unwrap(), Some(shown), "once");
    for record in [&one, &two] {
        let stored = read(&world, record).await.expect("the record stays");
        assert!(stored.credential.archived_at.is_some() && stored.secrets.is_empty());
    }
    assert_eq!(read(&world, &three).await, Some(three));
    let nowhere = world.store.archive_vault(made, &VaultId::generate()).await;
    assert_eq!(nowhere, Ok(None));
    // Each of them has its row.
    let filter = AuditFilter {
        credential: Some(two.credential.id.to_string()),
        ..AuditFilter::default()
    };
    let rows = world.store.list_audit(&filter, 10).await.unwrap();
    let actions: Vec<&str> = rows.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["credential.create", "credential.archive"]);
}

async fn va_16_deletion_takes_everything_along(bed: Bed) {
    let world = World::new(bed).await;
    let vault_id = vault(&world).await.id;
    let one = inserted(&world, &vault_id, "ONE").await;
    let two = inserted(&world, &vault_id, "TWO").await;
    let session = session_with(&world, &[&vault_id]).await;
    let seen = placeholders(&world, &session).await;
    assert_eq!(seen.len(), 2);
    let made = act(&world, Action::CredentialDelete);
    let deleted = world
        .store
        .delete_credential(made.clone(), &vault_id, &one.credential.id)
        .await;
    assert_eq!(deleted, Ok(true));
    let again = world
        .store
        .delete_credential(made, &vault_id, &one.credential.id)
        .await;
    assert_eq!(again, Ok(false));
    assert_eq!(read(&world, &one).await, None);
    let made = act(&world, Action::VaultDelete).to_vault(&vault_id);
    let deleted = world.store.delete_vault(made.clone(), &vault_id).await;
    assert_eq!(deleted, Ok(true));
    assert_eq!(world.store.delete_vault(made, &vault_id).await, Ok(false));
    assert_eq!(read(&world, &two).await, None);
    for placeholder in seen {
        let found = world.store.placeholder(&session, &placeholder.placeholder);
        assert_eq!(found.await.unwrap(), None);
    }
    assert_eq!(placeholders(&world, &session).await, []);
}

async fn api_2_foreign_vaults_are_not_there(bed: Bed) {
    let world = World::new(bed).await;
    let own = vault(&world).await.id;
    let record = inserted(&world, &own, "TOKEN").await;
    let id = &record.credential.id;
    let stranger = WorkspaceId::generate();
    let foreign = |action| Act::new(&stranger, Actor::Operator, action);
    let store = &world.store;
    assert_eq!(store.vault(&stranger, &own).await, Ok(None));
    assert_eq!(store.credential(&stranger, &own, id).await, Ok(None));
    let key = store.first_credential(&stranger, std::slice::from_ref(&own), &record.key);
    assert_eq!(key.await, Ok(None));
    let gone = store.archive_vault(foreign(Action::VaultArchive), &own);
    assert_eq!(gone.await, Ok(None));
    let gone = store.delete_vault(foreign(Action::VaultDelete), &own);
    assert_eq!(gone.await, Ok(false));
    let gone = store.archive_credential(foreign(Action::CredentialArchive), &own, id);
    assert_eq!(gone.await, Ok(None));
    let gone = store.delete_credential(foreign(Action::CredentialDelete), &own, id);
    assert_eq!(gone.await, Ok(false));
    let changed = store.update_vault(foreign(Action::VaultUpdate), &own, |vault| {
        Ok::<_, ()>(Some(vault.clone()))
    });
    assert_eq!(changed.await, Ok(None));
    let listed = store
        .list_credentials(&stranger, &own, true, &range(10))
        .await;
    assert_eq!(listed, Ok(Vec::new()));
    let listed = store.list_vaults(&stranger, true, &range(10)).await;
    assert_eq!(listed, Ok(Vec::new()));
    // Nor is a credential in another vault than its own.
    let other = vault(&world).await.id;
    assert_eq!(
        store.credential(&world.workspace, &other, id).await,
        Ok(None)
    );
    assert_eq!(read(&world, &record).await, Some(record));
}

async fn claim(world: &World, store: &Store, record: &CredentialRecord, millis: u64) -> Claim {
    let time = Duration::from_millis(millis);
    let id = &record.credential.id;
    let claim = store.claim_refresh(&world.workspace, id, record.generation, time);
    claim.await.unwrap()
}

async fn va_6_one_at_a_time_refreshes(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let vault = vault(&world).await.id;
    let record = inserted(&world, &vault, "TOKEN").await;
    let claims: Vec<_> = (0..8)
        .map(|_| {
            let (world, record) = (Arc::clone(&world), record.clone());
            tokio::spawn(async move { claim(&world, &world.store, &record, 60_000).await })
        })
        .collect();
    let mut won = Vec::new();
    for one in claims {
        match one.await.unwrap() {
            Claim::Won { until } => won.push(until),
            Claim::Held { remaining } => {
                assert!(
                    remaining > Duration::from_secs(10) && remaining <= Duration::from_secs(60)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let [until] = won[..] else {
        panic!("{} have won", won.len())
    };
    // Given back it is free; by somebody whose claim was another one it is not.
    let id = &record.credential.id;
    let other = manyhands_protocol::Timestamp::from_micros(until.as_micros() + 1);
    world.store.release_refresh(id, other).await.unwrap();
    let held = claim(&world, &world.store, &record, 1).await;
    assert!(matches!(held, Claim::Held { .. }));
    world.store.release_refresh(id, until).await.unwrap();
    let won = claim(&world, &world.store, &record, 0).await;
    assert!(matches!(won, Claim::Won { .. }));
    // One that has run out is anybody's.
    let won = claim(&world, &world.store, &record, 60_000).await;
    assert!(matches!(won, Claim::Won { .. }));
}

async fn va_6_new_secrets_end_a_claim(bed: Bed) {
    let world = World::new(bed).await;
    let vault = vault(&world).await.id;
    let record = inserted(&world, &vault, "TOKEN").await;
    let won = claim(&world, &world.store, &record, 60_000).await;
    assert!(matches!(won, Claim::Won { .. }));
    // A new name does not: whoever fetches new tokens goes on.
    let changed = renamed(&world, &record, "new").await;
    assert_eq!(changed.generation, 1);
    assert!(changed.refreshing_until.is_some());
    let stale = claim(&world, &world.store, &record, 60_000).await;
    assert_eq!(stale, Claim::Changed(Box::new(changed.clone())));
    let held = claim(&world, &world.store, &changed, 60_000).await;
    assert!(matches!(held, Claim::Held { .. }));
    let made = act(&world, Action::CredentialRefresh);
    let replaced = world
        .store
        .update_credential(made, &vault, &record.credential.id, |record| {
            let mut record = record.clone();
            record
                .secrets
                .insert("secret_value".to_owned(), "other".to_owned());
            Ok::<_, ()>(Some(record))
        })
        .await;
    let replaced = replaced.unwrap().unwrap().unwrap();
    assert_eq!((replaced.generation, replaced.refreshing_until), (2, None));
    let won = claim(&world, &world.store, &replaced, 60_000).await;
    assert!(matches!(won, Claim::Won { .. }));
    archived(&world, &record).await;
    let gone = claim(&world, &world.store, &replaced, 60_000).await;
    assert_eq!(gone, Claim::Gone);
}

/// What the store keeps of a refused credential goes with the next change that says so.
#[tokio::test]
async fn va_6_a_refusal_is_kept_with_the_credential() {
    let world = World::new(Bed::memory().await).await;
    let vault = vault(&world).await.id;
    let record = inserted(&world, &vault, "TOKEN").await;
    let refusal = Refusal {
        at: world.bed.clock.now(),
        reason: "invalid_grant".to_owned(),
    };
    let kept = refusal.clone();
    let made = act(&world, Action::CredentialRefresh);
    let changed = world
        .store
        .update_credential(made, &vault, &record.credential.id, move |record| {
            Ok::<_, ()>(Some(CredentialRecord {
                refused: Some(kept),
                ..record.clone()
            }))
        })
        .await;
    assert!(changed.unwrap().is_some());
    let stored = read(&world, &record).await.expect("it is there");
    assert_eq!(stored.refused, Some(refusal));
    assert_eq!(stored.secrets, record.secrets);
}
