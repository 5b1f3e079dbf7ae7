//! The keys that seal secrets, as the store keeps them, and damage of what belongs to vaults.

use std::collections::BTreeSet;
use std::sync::Arc;

use manyhands_protocol::WorkspaceId;
use manyhands_protocol::id::DataKeyId;
use manyhands_store::Error;
use manyhands_store::audit::{Action, AuditFilter};
use manyhands_store::vault::{DataKey, Rewrapped};
use manyhands_store::verify::{Source, Told, verify};

use super::{act, inserted, vault};
use crate::bed::*;

contract!(
    cred_1_a_workspace_has_one_key_also_at_once,
    cred_1_the_master_key_is_replaced_for_all_keys_or_none,
    store_3_damaged_vaults_are_named,
);

fn data_key(workspace: &WorkspaceId, wrapped: &str) -> DataKey {
    DataKey {
        id: DataKeyId::generate(),
        workspace: workspace.clone(),
        wrapped: wrapped.to_owned(),
    }
}

async fn trail(world: &World) -> Vec<String> {
    let rows = world.store.list_audit(&AuditFilter::default(), 1000).await;
    let rows = rows.unwrap().into_iter().map(|row| row.action);
    rows.collect()
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
