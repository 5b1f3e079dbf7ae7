//! Memory stores; what is told of changes, lists, sessions, and time has files of its own.

mod changes;
mod lists;
mod sessions;
mod time;

use std::time::Duration;

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::memory::{
    Actor, Memory, MemoryPath, MemoryStore, MemoryVersion, Operation, View,
};
use manyhands_protocol::page::Order;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{MemoryStoreId, WorkspaceId};
use manyhands_store::Error;
use manyhands_store::listing::{Filter, Range};
use manyhands_store::memory::{Changed, Mutation, Redacted, VersionFilter, Which, sha256};

use crate::bed::*;

contract!(
    me_1_stores_change_page_and_are_archived,
    me_11_an_archived_store_only_loses_memories,
    api_2_foreign_memories_are_not_there;
    on_disks: store_3_damaged_memories_are_said_and_the_others_are_served,
);

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn key() -> Actor {
    Actor::ApiActor {
        api_key_id: ApiKeyId::parse("apikey_1").unwrap(),
    }
}

fn path(text: &str) -> MemoryPath {
    MemoryPath::parse(text).unwrap()
}

fn newest(limit: u32) -> Range {
    Range {
        after: None,
        order: Order::Desc,
        limit,
    }
}

pub(crate) fn create(at: &str, content: &str) -> Mutation {
    Mutation::Create {
        path: path(at),
        content: content.to_owned(),
    }
}

pub(crate) fn rewrite(memory: &Memory, content: &str, expected: Option<&str>) -> Mutation {
    Mutation::Update {
        memory: Which::Id(memory.id.clone()),
        content: Some(content.to_owned()),
        path: None,
        expected: expected.map(str::to_owned),
    }
}

pub(crate) fn rename(memory: &Memory, to: &str) -> Mutation {
    Mutation::Update {
        memory: Which::Id(memory.id.clone()),
        content: None,
        path: Some(path(to)),
        expected: None,
    }
}

fn delete(memory: &Memory, expected: Option<&str>) -> Mutation {
    Mutation::Delete {
        memory: Which::Id(memory.id.clone()),
        expected: expected.map(str::to_owned),
    }
}

#[track_caller]
pub(crate) fn done(changed: Changed) -> Memory {
    match changed {
        Changed::Done(memory) => memory,
        other => panic!("{other:?}"),
    }
}

impl World {
    pub(crate) async fn memory_store(&self, name: &str) -> MemoryStore {
        let now = self.bed.clock.now();
        let store = MemoryStore {
            id: MemoryStoreId::generate(),
            kind: Default::default(),
            name: name.to_owned(),
            description: format!("what is in {name}"),
            metadata: Default::default(),
            created_at: now,
            updated_at: now,
            archived_at: None,
        };
        let added = self.store.insert_memory_store(&self.workspace, &store);
        added.await.unwrap();
        store
    }

    pub(crate) async fn mutate(&self, store: &MemoryStore, mutation: Mutation) -> Changed {
        self.mutate_as(store, key(), mutation).await
    }

    pub(crate) async fn mutate_as(
        &self,
        store: &MemoryStore,
        actor: Actor,
        mutation: Mutation,
    ) -> Changed {
        let changed = self
            .store
            .change_memory(&self.workspace, &store.id, actor, mutation);
        changed.await.unwrap()
    }

    async fn memory(&self, store: &MemoryStore, at: &str) -> Option<Memory> {
        let at = Which::Path(path(at));
        self.store.memory(&store.id, &at).await.unwrap()
    }

    async fn content(&self, store: &MemoryStore, at: &str) -> Option<String> {
        self.memory(store, at).await.and_then(|found| found.content)
    }

    /// All versions of a store, newest first.
    async fn versions(&self, store: &MemoryStore) -> Vec<MemoryVersion> {
        let (filter, range) = (VersionFilter::default(), newest(100_000));
        let listed = self
            .store
            .list_memory_versions(&store.id, &filter, &range, View::Full);
        listed.await.unwrap()
    }

    async fn archive(&self, store: &MemoryStore) -> MemoryStore {
        let archived = self.store.archive_memory_store(&self.workspace, &store.id);
        archived.await.unwrap().expect("it is there")
    }
}

async fn me_1_stores_change_page_and_are_archived(bed: Bed) {
    let world = World::new(bed).await;
    let first = world.memory_store("one").await;
    world.bed.clock.advance(SECOND);
    let second = world.memory_store("two").await;
    let renamed = world
        .store
        .update_memory_store(&world.workspace, &first.id, |store| {
            let store = MemoryStore {
                name: "eins".to_owned(),
                ..store.clone()
            };
            Ok::<_, ()>(Some(store))
        })
        .await;
    let renamed = renamed.unwrap().unwrap().unwrap();
    assert_eq!(renamed.name, "eins");
    let refused = world
        .store
        .update_memory_store(&world.workspace, &first.id, |_| Err(7));
    assert_eq!(refused.await, Ok(Some(Err(7))));
    let listed = |filter: Filter, range: Range| {
        let store = &world.store;
        let workspace = &world.workspace;
        async move {
            let listed = store.list_memory_stores(workspace, &filter, &range).await;
            let names = listed.unwrap().into_iter().map(|store| store.name);
            names.collect::<Vec<_>>()
        }
    };
    let all = Filter::default();
    assert_eq!(listed(all.clone(), newest(9)).await, ["two", "eins"]);
    assert_eq!(listed(all.clone(), newest(1)).await, ["two"]);
    let early = Filter {
        created_to: Some(first.created_at),
        ..all.clone()
    };
    assert_eq!(listed(early, newest(9)).await, ["eins"]);
    let late = Filter {
        created_from: Some(second.created_at),
        ..all.clone()
    };
    assert_eq!(listed(late, newest(9)).await, ["two"]);
    world.bed.clock.advance(SECOND);
    let archived = world.archive(&second).await;
    let now = Some(world.bed.clock.now());
    assert_eq!(
        (archived.archived_at, Some(archived.updated_at)),
        (now, now)
    );
    world.bed.clock.advance(SECOND);
    assert_eq!(world.archive(&second).await, archived, "once and for all");
    assert_eq!(listed(all.clone(), newest(9)).await, ["eins"]);
    let with_archived = Filter {
        include_archived: true,
        ..all
    };
    assert_eq!(listed(with_archived, newest(9)).await, ["two", "eins"]);
}

async fn me_11_an_archived_store_only_loses_memories(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "one")).await);
    let kept = done(world.mutate(&store, create("/b", "one")).await);
    done(world.mutate(&store, rewrite(&kept, "two", None)).await);
    world.archive(&store).await;
    for mutation in [
        create("/c", "x"),
        rewrite(&made, "x", None),
        rewrite(&made, "one", None),
        rename(&made, "/c"),
    ] {
        assert_eq!(world.mutate(&store, mutation).await, Changed::Archived);
    }
    assert_eq!(world.content(&store, "/a").await.as_deref(), Some("one"));
    done(world.mutate(&store, delete(&made, None)).await);
    let version = &kept.memory_version_id;
    let redacted = world
        .store
        .redact_memory_version(&world.workspace, &store.id, version, key());
    assert!(matches!(redacted.await, Ok(Redacted::Done(_))));
}

async fn api_2_foreign_memories_are_not_there(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let other = world.memory_store("others").await;
    let made = done(world.mutate(&store, create("/a", "one")).await);
    done(world.mutate(&store, rewrite(&made, "two", None)).await);
    let stranger = WorkspaceId::generate();
    let api = &world.store;
    assert_eq!(api.memory_store(&stranger, &store.id).await, Ok(None));
    assert_eq!(
        api.archive_memory_store(&stranger, &store.id).await,
        Ok(None)
    );
    assert_eq!(
        api.delete_memory_store(&stranger, &store.id).await,
        Ok(false)
    );
    let asked = [store.id.clone()];
    let changes = api.memory_store_changes(&stranger, &asked);
    assert_eq!(changes.await, Ok(Vec::new()));
    for mutation in [
        create("/b", "x"),
        rewrite(&made, "x", None),
        delete(&made, None),
    ] {
        let foreign = api.change_memory(&stranger, &store.id, key(), mutation.clone());
        assert_eq!(foreign.await, Ok(Changed::NoStore));
        let misplaced = world.mutate(&other, mutation.clone()).await;
        let is_new = matches!(mutation, Mutation::Create { .. });
        assert_eq!(
            matches!(misplaced, Changed::NoMemory),
            !is_new,
            "{misplaced:?}"
        );
    }
    let version = &made.memory_version_id;
    let foreign = api.redact_memory_version(&stranger, &store.id, version, key());
    assert_eq!(foreign.await, Ok(Redacted::Missing));
    let misplaced = api.redact_memory_version(&world.workspace, &other.id, version, key());
    assert_eq!(misplaced.await, Ok(Redacted::Missing));
    let found = api.memory_version(&other.id, version, View::Full).await;
    assert_eq!(found, Ok(None));
    assert_eq!(api.memory(&other.id, &Which::Id(made.id)).await, Ok(None));
}

async fn store_3_damaged_memories_are_said_and_the_others_are_served(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "damaged here")).await);
    done(world.mutate(&store, create("/b", "fine")).await);
    let damaged = |found: Result<Option<Memory>, Error>| match found {
        Err(Error::Damaged { item, .. }) => item,
        other => panic!("{other:?}"),
    };
    // "damaged here" becomes "damagedXhere", below the database's own notice.
    let plant = if matches!(
        world.bed.database,
        manyhands_store::Database::Postgres { .. }
    ) {
        "UPDATE memory_versions SET content = 'damagedXhere'::bytea WHERE content = 'damaged here'::bytea"
    } else {
        "UPDATE memory_versions SET content = x'64616d616765645868657265'
         WHERE content = x'64616d616765642068657265'"
    };
    world.bed.sql(plant).await;
    let it = Which::Id(made.id.clone());
    let read = || world.store.memory(&store.id, &it);
    let item = damaged(read().await);
    assert_eq!(
        item,
        format!("the content of memory version {}", made.memory_version_id)
    );
    assert_eq!(world.store.memories(&store.id).await.unwrap().len(), 2);
    world
        .bed
        .sql("UPDATE memories SET body = REPLACE(body, '/a', '/c')")
        .await;
    assert_eq!(damaged(read().await), format!("memory {}", made.id));
    assert_eq!(world.content(&store, "/b").await.as_deref(), Some("fine"));
    done(world.mutate(&store, create("/c/d", "x")).await);
}
