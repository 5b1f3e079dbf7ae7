//! Vaults, credentials, data keys and placeholders.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use manyhands_protocol::id::{ApiKeyId, DataKeyId};
use manyhands_protocol::page::Order;
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::vault::{
    Credential, CredentialAuth, CredentialNetworking, InjectionLocation, Vault,
};
use manyhands_protocol::{CredentialId, SessionId, VaultId, WorkspaceId};
use manyhands_store::audit::{self, Act, Action, Actor, AuditFilter, AuditRecord};
use manyhands_store::listing::Range;
use manyhands_store::vault::{
    CREDENTIALS, Claim, CredentialRecord, DataKey, Inserted, PREFIX, Placeholder, Refusal,
    Rewrapped,
};
use manyhands_store::verify::{Source, Told, verify};
use manyhands_store::{Change, Error, NewSession, Store};

use crate::bed::*;

contract!(
    va_1_vaults_change_and_page,
    va_1_a_vault_has_so_many_credentials_also_at_once,
    va_2_active_credentials_of_a_vault_have_different_keys,
    va_16_archiving_a_credential_takes_its_secrets_and_frees_its_key,
    va_16_archiving_a_vault_archives_what_is_in_it,
    va_16_deletion_takes_everything_along,
    api_2_foreign_vaults_are_not_there,
    va_8_the_first_vault_wins,
    va_6_one_at_a_time_refreshes,
    va_6_new_secrets_end_a_claim,
    cred_3_placeholders_are_per_session_and_credential,
    cred_3_placeholders_are_made_once_also_at_once,
    cred_8_a_placeholder_stands_for_what_is_active_now,
    cred_3_placeholders_go_with_their_session,
    cred_1_a_workspace_has_one_key_also_at_once,
    cred_1_the_master_key_is_replaced_for_all_keys_or_none,
    ops_3_changes_write_who_did_them_first,
    ops_3_a_change_without_its_row_is_not_made,
    ops_3_rows_are_never_changed_or_removed,
    ops_3_the_audit_log_is_read_in_pages,
    ops_3_the_audit_log_is_read_beside_its_server,
    store_3_damaged_vaults_are_named,
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
    let now = world.bed.clock.now();
    let vault = Vault {
        id: VaultId::generate(),
        kind: Default::default(),
        display_name: "keys".to_owned(),
        metadata: Default::default(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    };
    let made = act(world, Action::VaultCreate).to_vault(&vault.id);
    world.store.insert_vault(made, &vault).await.unwrap();
    vault
}

fn credential(world: &World, vault: &VaultId, name: &str) -> CredentialRecord {
    let now = world.bed.clock.now();
    CredentialRecord {
        workspace: world.workspace.clone(),
        credential: Credential {
            id: CredentialId::generate(),
            kind: Default::default(),
            vault_id: vault.clone(),
            display_name: None,
            auth: CredentialAuth::EnvironmentVariable {
                secret_name: name.to_owned(),
                networking: CredentialNetworking::Unrestricted {},
                injection_location: InjectionLocation {
                    body: true,
                    header: true,
                },
            },
            metadata: Default::default(),
            created_at: now,
            updated_at: now,
            archived_at: None,
        },
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

async fn trail(world: &World) -> Vec<String> {
    let rows = world.store.list_audit(&AuditFilter::default(), 1000).await;
    let rows = rows.unwrap().into_iter().map(|row| row.action);
    rows.collect()
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
    assert_eq!(find(&[a.clone()], "env ALONE").await, None);
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

fn data_key(workspace: &WorkspaceId, wrapped: &str) -> DataKey {
    DataKey {
        id: DataKeyId::generate(),
        workspace: workspace.clone(),
        wrapped: wrapped.to_owned(),
    }
}

async fn cred_1_a_workspace_has_one_key_also_at_once(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let store = &world.store;
    assert_eq!(store.master_key().await, Ok(None));
    let early = store.insert_data_key(data_key(&world.workspace, "w"), "one");
    assert_eq!(early.await, Ok(None), "before there is a master key");
    let adopting: Vec<_> = (0..4)
        .map(|n| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let adopted = world.store.adopt_master_key(&format!("master {n}")).await;
                adopted.unwrap()
            })
        })
        .collect();
    let mut adopted = BTreeSet::new();
    for one in adopting {
        adopted.insert(one.await.unwrap());
    }
    let master = adopted.pop_first().unwrap();
    assert!(adopted.is_empty(), "one is in use");
    assert_eq!(store.master_key().await, Ok(Some(master.clone())));
    let other = store.insert_data_key(data_key(&world.workspace, "w"), "other");
    assert_eq!(other.await, Ok(None));
    let making: Vec<_> = (0..4)
        .map(|n| {
            let (world, master) = (Arc::clone(&world), master.clone());
            tokio::spawn(async move {
                let key = data_key(&world.workspace, &format!("wrapped {n}"));
                let made = world.store.insert_data_key(key, &master).await;
                made.unwrap().expect("a key")
            })
        })
        .collect();
    let mut made = Vec::new();
    for one in making {
        made.push(one.await.unwrap());
    }
    assert!(made.iter().all(|key| *key == made[0]), "{made:?}");
    let kept = store.data_key(&world.workspace).await;
    assert_eq!(kept, Ok(Some(made.remove(0))));
}

async fn cred_1_the_master_key_is_replaced_for_all_keys_or_none(bed: Bed) {
    let world = World::new(bed).await;
    let store = &world.store;
    store.adopt_master_key("old").await.unwrap();
    let mut keys = Vec::new();
    for workspace in [&world.workspace, &WorkspaceId::generate()] {
        let made = store.insert_data_key(data_key(workspace, "by old"), "old");
        keys.push(made.await.unwrap().expect("a key"));
    }
    let rewrapped: Vec<DataKey> = keys
        .iter()
        .map(|key| DataKey {
            wrapped: "by new".to_owned(),
            ..key.clone()
        })
        .collect();
    let made = act(&world, Action::MasterKeyRotate);
    let replace = async |old: &str, keys: &[DataKey]| {
        let keys = keys.to_vec();
        store
            .replace_master_key(made.clone(), old, "new", keys)
            .await
    };
    assert_eq!(
        replace("other", &rewrapped).await,
        Ok(Rewrapped::OtherMaster)
    );
    assert_eq!(
        replace("old", &rewrapped[..1]).await,
        Ok(Rewrapped::OtherKeys)
    );
    let strange = [rewrapped[0].clone(), data_key(&world.workspace, "by new")];
    let refused = replace("old", &strange).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    assert_eq!(store.master_key().await, Ok(Some("old".to_owned())));
    let mut stored = store.data_keys().await.unwrap();
    stored.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(stored, keys, "nothing was written");
    assert_eq!(trail(&world).await, Vec::<String>::new());

    assert_eq!(replace("old", &rewrapped).await, Ok(Rewrapped::Done));
    assert_eq!(store.master_key().await, Ok(Some("new".to_owned())));
    let mut stored = store.data_keys().await.unwrap();
    stored.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(stored, rewrapped);
    assert_eq!(trail(&world).await, ["master_key.rotate"]);
    assert_eq!(replace("old", &rewrapped).await, Ok(Rewrapped::OtherMaster));
}

async fn ops_3_changes_write_who_did_them_first(bed: Bed) {
    let world = World::new(bed).await;
    let vault_id = vault(&world).await.id;
    let record = inserted(&world, &vault_id, "TOKEN").await;
    renamed(&world, &record, "new").await;
    // What changes nothing has no row.
    let shown = &record.credential;
    let made = act(&world, Action::CredentialUpdate);
    let same = world
        .store
        .update_credential(made, &vault_id, &shown.id, |_| Ok::<_, ()>(None))
        .await;
    assert!(same.unwrap().is_some());
    let taken = credential(&world, &vault_id, "TOKEN");
    assert_eq!(try_insert(&world, &taken).await, Inserted::Taken);
    archived(&world, &record).await;
    archived(&world, &record).await;
    let made = act(&world, Action::VaultDelete).to_vault(&vault_id);
    world.store.delete_vault(made, &vault_id).await.unwrap();
    let rows = world.store.list_audit(&AuditFilter::default(), 100).await;
    let rows = rows.unwrap();
    let credential = Some(shown.id.to_string());
    let told: Vec<(&str, Option<String>)> = rows
        .iter()
        .map(|row| (row.action.as_str(), row.credential.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("vault.create", None),
            ("credential.create", credential.clone()),
            ("credential.update", credential.clone()),
            ("credential.archive", credential.clone()),
            ("vault.delete", None),
            ("credential.delete", credential),
        ]
    );
    for row in &rows {
        assert_eq!(row.actor, "apikey_1");
        assert_eq!(row.outcome, "done");
        assert_eq!(row.workspace, world.workspace.as_str());
        assert_eq!(row.at, world.bed.clock.now());
        assert_eq!(row.vault.as_deref(), Some(vault_id.as_str()));
    }
}

/// security OPS-3: written before the effect, or there is no effect.
async fn ops_3_a_change_without_its_row_is_not_made(bed: Bed) {
    let world = World::new(bed).await;
    let vault_id = vault(&world).await.id;
    let record = inserted(&world, &vault_id, "TOKEN").await;
    world.bed.sql("ALTER TABLE audit RENAME TO lost").await;
    let made = |action| act(&world, action).to_vault(&vault_id);
    let store = &world.store;
    let (id, other) = (
        &record.credential.id,
        credential(&world, &vault_id, "OTHER"),
    );
    let refused = store.insert_credential(made(Action::CredentialCreate), other.clone());
    assert!(refused.await.is_err());
    let refused = store.archive_credential(made(Action::CredentialArchive), &vault_id, id);
    assert!(refused.await.is_err());
    let refused = store.delete_credential(made(Action::CredentialDelete), &vault_id, id);
    assert!(refused.await.is_err());
    let refused = store.archive_vault(made(Action::VaultArchive), &vault_id);
    assert!(refused.await.is_err());
    let refused = store.delete_vault(made(Action::VaultDelete), &vault_id);
    assert!(refused.await.is_err());
    assert!(store.audit(made(Action::CredentialUse)).await.is_err());
    assert_eq!(read(&world, &record).await, Some(record));
    assert_eq!(read(&world, &other).await, None);
}

async fn ops_3_rows_are_never_changed_or_removed(bed: Bed) {
    let world = World::new(bed).await;
    vault(&world).await;
    let before = world.store.list_audit(&AuditFilter::default(), 10).await;
    for sql in [
        "UPDATE audit SET actor = 'nobody'",
        "UPDATE audit SET outcome = outcome",
        "DELETE FROM audit",
    ] {
        assert!(world.bed.try_sql(sql).await.is_err(), "{sql}");
    }
    let on_postgres = matches!(
        world.bed.database,
        manyhands_store::Database::Postgres { .. }
    );
    let sql = if on_postgres {
        "TRUNCATE audit"
    } else {
        "INSERT OR REPLACE INTO audit SELECT id, 0, workspace, 'nobody', action, object, vault_id, credential_id,
             session_id, host, outcome FROM audit"
    };
    assert!(world.bed.try_sql(sql).await.is_err(), "{sql}");
    let after = world.store.list_audit(&AuditFilter::default(), 10).await;
    assert_eq!(after, before);
}

async fn ops_3_the_audit_log_is_read_in_pages(bed: Bed) {
    let world = World::new(bed).await;
    let (one, two) = (SessionId::generate(), SessionId::generate());
    let begun = world.bed.clock.now();
    for n in 0..7 {
        let session = if n % 2 == 0 { &one } else { &two };
        let used = Act::new(
            &world.workspace,
            Actor::Session(session.clone()),
            Action::CredentialRelease,
        );
        let used = used.towards(session, format!("host{n}.example.com"));
        let used = match n {
            6 => used.ending(manyhands_store::audit::Outcome::Refused),
            _ => used.to("body"),
        };
        world.store.audit(used).await.unwrap();
        // Two rows at the same time now and then.
        world.bed.clock.advance(Duration::from_secs(n / 2));
    }
    let mut filter = AuditFilter::default();
    let mut hosts = Vec::new();
    loop {
        let page = world.store.list_audit(&filter, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some((last.at, last.id.clone()));
        hosts.extend(page.into_iter().filter_map(|row| row.host));
    }
    let expected: Vec<String> = (0..7).map(|n| format!("host{n}.example.com")).collect();
    assert_eq!(hosts, expected, "oldest first, each once");
    let of_two = AuditFilter {
        session: Some(two.to_string()),
        ..AuditFilter::default()
    };
    let rows = world.store.list_audit(&of_two, 10).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.actor == two.as_str()));
    let late = AuditFilter {
        since: Some(begun.after(Duration::from_secs(1))),
        ..AuditFilter::default()
    };
    let rows = world.store.list_audit(&late, 10).await.unwrap();
    assert!((1..7).contains(&rows.len()));
    assert!(
        rows.iter()
            .all(|row| row.at >= begun.after(Duration::from_secs(1)))
    );
    let last = rows.last().expect("a row");
    assert_eq!(
        (last.outcome.as_str(), last.object.as_deref()),
        ("refused", None)
    );
}

async fn ops_3_the_audit_log_is_read_beside_its_server(bed: Bed) {
    let world = World::new(bed).await;
    let vault_id = vault(&world).await.id;
    for _ in 0..300 {
        let used = act(&world, Action::CredentialUse).to_vault(&vault_id);
        world.store.audit(used).await.unwrap();
    }
    let count = async |filter: AuditFilter| {
        let mut ids = BTreeSet::new();
        let mut told = 0;
        let mut tell = |row: AuditRecord| {
            told += 1;
            ids.insert(row.id);
        };
        let read = audit::read(&world.bed.database, filter, &mut tell).await;
        assert_eq!(read, Ok(()));
        assert_eq!(ids.len(), told, "each once");
        told
    };
    assert_eq!(count(AuditFilter::default()).await, 301);
    let of_another = AuditFilter {
        vault: Some(VaultId::generate().to_string()),
        ..AuditFilter::default()
    };
    assert_eq!(count(of_another).await, 0);
}

/// security STORE-3
async fn store_3_damaged_vaults_are_named(bed: Bed) {
    let world = World::new(bed).await;
    world.store.adopt_master_key("master").await.unwrap();
    let key = data_key(&world.workspace, "wrapped");
    let key = world.store.insert_data_key(key, "master").await;
    let key = key.unwrap().expect("a key").id;
    let vault_id = vault(&world).await.id;
    let record = inserted(&world, &vault_id, "TOKEN").await;
    let id = &record.credential.id;
    let found = async || {
        let source = Source::Database(world.bed.database.clone());
        let mut damage = Vec::new();
        let mut tell = |told| {
            if let Told::Damage(found) = told {
                damage.push(format!("{}: {}", found.item, found.reason));
            }
        };
        verify(&source, &mut tell).await.unwrap();
        damage
    };
    assert_eq!(found().await, Vec::<String>::new());
    for (plant, repair, expected) in [
        (
            "UPDATE vaults SET body = REPLACE(body, 'keys', 'kesy')",
            "UPDATE vaults SET body = REPLACE(body, 'kesy', 'keys')",
            format!("vault {vault_id}: its checksum does not match"),
        ),
        (
            "UPDATE credentials SET body = REPLACE(body, 'sealed', 'saeled')",
            "UPDATE credentials SET body = REPLACE(body, 'saeled', 'sealed')",
            format!("credential {id}: its checksum does not match"),
        ),
        (
            "UPDATE vaults SET id = 'vlt_x' || id",
            "UPDATE vaults SET id = SUBSTR(id, 6)",
            format!(
                "vault vlt_x{vault_id}: its checksum does not match\ncredential {id}: its vault is missing"
            ),
        ),
        (
            "UPDATE data_keys SET id = 'x' || id",
            "UPDATE data_keys SET id = SUBSTR(id, 2)",
            format!("data key x{key}: expected an id that starts with \"dkey_\""),
        ),
    ] {
        world.bed.sql(plant).await;
        assert_eq!(found().await.join("\n"), expected, "{plant}");
        world.bed.sql(repair).await;
        assert_eq!(found().await, Vec::<String>::new());
    }
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
