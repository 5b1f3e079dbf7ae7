//! The audit log (security OPS-3).

use std::collections::BTreeSet;
use std::time::Duration;

use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{SessionId, VaultId};
use manyhands_store::audit::{self, Act, Action, Actor, AuditFilter, AuditRecord};
use manyhands_store::vault::Inserted;

use super::{act, archived, credential, inserted, read, renamed, try_insert, vault};
use crate::bed::*;

contract!(
    ops_3_changes_write_who_did_them_first,
    ops_3_a_change_without_its_row_is_not_made,
    ops_3_rows_are_never_changed_or_removed,
    ops_3_the_audit_log_is_read_in_pages,
    ops_3_the_audit_log_is_read_beside_its_server,
);

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
