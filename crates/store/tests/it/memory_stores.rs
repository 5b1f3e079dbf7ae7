//! Memory stores; what is told of lists, sessions, and time has files of its own.

mod lists;
mod sessions;
mod time;

use std::sync::Arc;
use std::time::Duration;

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::memory::{
    Actor, CONTENT, Memory, MemoryPath, MemoryStore, MemoryVersion, Operation, View,
};
use manyhands_protocol::page::Order;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{MemoryStoreId, WorkspaceId};
use manyhands_store::Error;
use manyhands_store::listing::Range;
use manyhands_store::memory::{
    Changed, MemoryStoreFilter, Mutation, Redacted, VersionFilter, Which, sha256,
};

use crate::bed::*;

contract!(
    me_1_stores_change_page_and_are_archived,
    me_2_a_memory_is_kept_byte_for_byte,
    me_5_no_memory_is_at_above_or_below_another,
    me_6_an_expectation_is_about_the_content_of_now,
    me_8_every_change_is_a_version_and_nothing_else_is,
    me_10_a_redacted_version_keeps_who_and_when,
    me_11_an_archived_store_only_loses_memories,
    api_2_foreign_memories_are_not_there,
    me_4_a_full_store_is_exactly_full_also_at_once,
    me_6_two_writers_lose_nothing;
    on_disks: store_3_damaged_memories_are_said_and_the_others_are_served,
);

const SECOND: Duration = Duration::from_secs(1);

fn key() -> Actor {
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

fn create(at: &str, content: &str) -> Mutation {
    Mutation::Create {
        path: path(at),
        content: content.to_owned(),
    }
}

fn rewrite(memory: &Memory, content: &str, expected: Option<&str>) -> Mutation {
    Mutation::Update {
        memory: Which::Id(memory.id.clone()),
        content: Some(content.to_owned()),
        path: None,
        expected: expected.map(str::to_owned),
    }
}

fn rename(memory: &Memory, to: &str) -> Mutation {
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
fn done(changed: Changed) -> Memory {
    match changed {
        Changed::Done(memory) => memory,
        other => panic!("{other:?}"),
    }
}

impl World {
    async fn memory_store(&self, name: &str) -> MemoryStore {
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

    async fn mutate(&self, store: &MemoryStore, mutation: Mutation) -> Changed {
        self.mutate_as(store, key(), mutation).await
    }

    async fn mutate_as(&self, store: &MemoryStore, actor: Actor, mutation: Mutation) -> Changed {
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
    let listed = |filter: MemoryStoreFilter, range: Range| {
        let store = &world.store;
        let workspace = &world.workspace;
        async move {
            let listed = store.list_memory_stores(workspace, &filter, &range).await;
            let names = listed.unwrap().into_iter().map(|store| store.name);
            names.collect::<Vec<_>>()
        }
    };
    let all = MemoryStoreFilter::default();
    assert_eq!(listed(all.clone(), newest(9)).await, ["two", "eins"]);
    assert_eq!(listed(all.clone(), newest(1)).await, ["two"]);
    let early = MemoryStoreFilter {
        created_to: Some(first.created_at),
        ..all.clone()
    };
    assert_eq!(listed(early, newest(9)).await, ["eins"]);
    let late = MemoryStoreFilter {
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
    let with_archived = MemoryStoreFilter {
        include_archived: true,
        ..all
    };
    assert_eq!(listed(with_archived, newest(9)).await, ["two", "eins"]);
}

async fn me_2_a_memory_is_kept_byte_for_byte(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let full = "\u{1f600}".repeat(CONTENT / 4);
    for (at, content) in [
        ("/empty", ""),
        (
            "/odd",
            "a\0b\r\n\u{feff}\u{1b}[0m cafe\u{301} \u{212b}\u{ffff}",
        ),
        ("/full", full.as_str()),
    ] {
        let made = done(world.mutate(&store, create(at, content)).await);
        assert_eq!(made.content_sha256, sha256(content.as_bytes()));
        assert_eq!(made.content_size_bytes, content.len() as u64);
        let found = world.memory(&store, at).await.expect(at);
        assert_eq!(found.content.as_deref(), Some(content));
        let expected = Memory {
            content: None,
            ..found
        };
        assert_eq!(made, expected);
    }
    let more = format!("{full}.");
    let refused =
        world
            .store
            .change_memory(&world.workspace, &store.id, key(), create("/more", &more));
    assert!(matches!(refused.await, Err(Error::Invalid { .. })));
    assert_eq!(world.versions(&store).await.len(), 3);
}

async fn me_5_no_memory_is_at_above_or_below_another(bed: Bed) {
    let world = World::new(bed).await;
    let (store, other) = (
        world.memory_store("notes").await,
        world.memory_store("notes").await,
    );
    let made = done(world.mutate(&store, create("/a/b/c", "first")).await);
    let moved = done(world.mutate(&store, create("/z", "second")).await);
    for at in ["/a/b/c", "/a", "/a/b", "/a/b/c/d", "/a/b/c/d/e"] {
        let occupied = Changed::Occupied {
            memory: made.id.clone(),
            path: made.path.clone(),
        };
        assert_eq!(
            world.mutate(&store, create(at, "x")).await,
            occupied,
            "{at}"
        );
        assert_eq!(
            world.mutate(&store, rename(&moved, at)).await,
            occupied,
            "{at}"
        );
    }
    for at in ["/a/b/C", "/a/b/c.md", "/a/b/c0", "/a/b-c", "/a.md", "/A"] {
        done(world.mutate(&store, create(at, "x")).await);
    }
    done(world.mutate(&other, create("/a/b", "x")).await);
    // Its own old place is in nobody's way.
    let deeper = done(world.mutate(&store, rename(&made, "/a/b/c/d")).await);
    assert_eq!(deeper.id, made.id, "a rename keeps the id");
    done(world.mutate(&store, rename(&made, "/a/b/c")).await);
    assert_eq!(
        world.content(&store, "/a/b/c").await.as_deref(),
        Some("first")
    );
    assert_eq!(world.content(&store, "/a/b/c/d").await, None);
    assert_eq!(world.content(&store, "/z").await.as_deref(), Some("second"));
}

async fn me_6_an_expectation_is_about_the_content_of_now(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "one")).await);
    let (one, two) = (sha256(b"one"), sha256(b"two"));
    let wrong = world
        .mutate(&store, rewrite(&made, "three", Some(&two)))
        .await;
    assert_eq!(wrong, Changed::Unexpected(made.clone()));
    let changed = done(
        world
            .mutate(&store, rewrite(&made, "two", Some(&one)))
            .await,
    );
    assert_eq!(changed.content_sha256, two);
    let again = world
        .mutate(&store, rewrite(&made, "two", Some(&one)))
        .await;
    assert_eq!(again, Changed::Same(changed.clone()), "it is so already");
    let moved = Mutation::Update {
        memory: Which::Path(path("/a")),
        content: None,
        path: Some(path("/b")),
        expected: Some(one.clone()),
    };
    let refused = world.mutate(&store, moved).await;
    assert_eq!(refused, Changed::Unexpected(changed.clone()));
    let refused = world.mutate(&store, delete(&made, Some(&one))).await;
    assert_eq!(refused, Changed::Unexpected(changed));
    assert_eq!(world.content(&store, "/a").await.as_deref(), Some("two"));
    done(world.mutate(&store, delete(&made, Some(&two))).await);
    assert_eq!(world.content(&store, "/a").await, None);
    assert_eq!(
        world.mutate(&store, delete(&made, None)).await,
        Changed::NoMemory
    );
    assert_eq!(
        world.mutate(&store, rewrite(&made, "x", None)).await,
        Changed::NoMemory
    );
    assert_eq!(
        world.versions(&store).await.len(),
        3,
        "refusals leave nothing"
    );
}

async fn me_8_every_change_is_a_version_and_nothing_else_is(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "one")).await);
    // Also when the clock stands still, or goes back.
    let changed = done(world.mutate(&store, rewrite(&made, "two", None)).await);
    world.bed.clock.set_back(SECOND * 60);
    let moved = done(world.mutate(&store, rename(&made, "/b")).await);
    let same = world.mutate(&store, rename(&made, "/b")).await;
    assert_eq!(same, Changed::Same(moved.clone()));
    let gone = done(world.mutate(&store, delete(&made, None)).await);
    let versions = world.versions(&store).await;
    let shown: Vec<_> = versions
        .iter()
        .map(|version| {
            let path = version.path.as_ref().map(MemoryPath::as_str);
            (version.operation, path, version.content.as_deref())
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Operation::Deleted, Some("/b"), None),
            (Operation::Modified, Some("/b"), Some("two")),
            (Operation::Modified, Some("/a"), Some("two")),
            (Operation::Created, Some("/a"), Some("one")),
        ]
    );
    let ids: Vec<_> = versions.iter().map(|version| &version.id).collect();
    let written = [&gone, &moved, &changed, &made];
    assert_eq!(ids, written.map(|memory| &memory.memory_version_id));
    for version in &versions {
        assert_eq!(version.memory_id, made.id);
        assert_eq!(version.created_by, Some(key()));
        let is_there = version.operation != Operation::Deleted;
        assert_eq!(version.content_sha256.is_some(), is_there);
        assert_eq!(version.content_size_bytes.is_some(), is_there);
    }
    let times = versions.iter().map(|version| version.created_at);
    assert!(times.rev().is_sorted_by(|one, two| one < two));
    assert_eq!(
        (made.created_at, made.created_at),
        (moved.created_at, gone.created_at)
    );
    assert_eq!(changed.updated_at, versions[2].created_at);
    let found = world.store.memory_store(&world.workspace, &store.id).await;
    assert_eq!(found, Ok(Some(store)), "the store itself is as it was");
}

async fn me_10_a_redacted_version_keeps_who_and_when(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "secret")).await);
    let redact = |id| {
        world
            .store
            .redact_memory_version(&world.workspace, &store.id, id, key())
    };
    let first = made.memory_version_id.clone();
    assert_eq!(redact(&first).await, Ok(Redacted::Head));
    done(world.mutate(&store, rewrite(&made, "public", None)).await);
    world.bed.clock.advance(SECOND);
    let Ok(Redacted::Done(redacted)) = redact(&first).await else {
        panic!("it is no head any more");
    };
    let now = Some(world.bed.clock.now());
    assert_eq!(
        (redacted.redacted_at, redacted.redacted_by.clone()),
        (now, Some(key()))
    );
    let kept = (
        &redacted.created_by,
        redacted.created_at,
        redacted.operation,
    );
    assert_eq!(kept, (&Some(key()), made.created_at, Operation::Created));
    assert_eq!((&redacted.path, &redacted.content_sha256), (&None, &None));
    assert_eq!(redacted.content_size_bytes, None);
    for view in [View::Basic, View::Full] {
        let found = world.store.memory_version(&store.id, &first, view).await;
        assert_eq!(found, Ok(Some(redacted.clone())));
    }
    world.bed.clock.advance(SECOND);
    assert_eq!(redact(&first).await, Ok(Redacted::Done(redacted)), "once");
    let gone = done(world.mutate(&store, delete(&made, None)).await);
    let last = redact(&gone.memory_version_id).await;
    let Ok(Redacted::Done(last)) = last else {
        panic!("{last:?}");
    };
    assert_eq!((last.path, last.operation), (None, Operation::Deleted));
    assert_eq!(world.content(&store, "/a").await, None);
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

/// runtime ME-4, CONFLICT-3; security API-4
async fn me_4_a_full_store_is_exactly_full_also_at_once(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "one")).await);
    // 9,995 more, behind the store's back.
    world
        .bed
        .sql(
            "INSERT INTO memories (id, store_id, path, version_id, body, checksum)
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9995)
             SELECT 'mem_' || i, s.id, '/many/' || i, '', '{}', 0 FROM n, memory_stores s",
        )
        .await;
    let tasks: Vec<_> = (0..8)
        .map(|index| {
            let (world, store) = (Arc::clone(&world), store.clone());
            let at = format!("/new/{index}");
            tokio::spawn(async move { world.mutate(&store, create(&at, "x")).await })
        })
        .collect();
    let (mut made_too, mut full) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Changed::Done(_) => made_too += 1,
            Changed::Full => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((made_too, full), (4, 4));
    // Edits still work, and a deletion makes room for one.
    done(world.mutate(&store, rewrite(&made, "two", None)).await);
    done(world.mutate(&store, delete(&made, None)).await);
    done(world.mutate(&store, create("/last", "x")).await);
    assert_eq!(
        world.mutate(&store, create("/more", "x")).await,
        Changed::Full
    );
}

async fn me_6_two_writers_lose_nothing(bed: Bed) {
    const EACH: usize = 25;
    let world = Arc::new(World::new(bed).await);
    let store = world.memory_store("notes").await;
    done(world.mutate(&store, create("/log", "")).await);
    let tasks: Vec<_> = ["a", "b", "c"]
        .map(|writer| {
            let (world, store) = (Arc::clone(&world), store.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                for _ in 0..EACH {
                    loop {
                        let now = world.memory(&store, "/log").await.unwrap();
                        let content = format!("{}{writer}", now.content.as_ref().unwrap());
                        let hash = now.content_sha256.clone();
                        match world
                            .mutate(&store, rewrite(&now, &content, Some(&hash)))
                            .await
                        {
                            Changed::Done(_) => break,
                            Changed::Unexpected(_) => refused += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                }
                refused
            })
        })
        .into();
    for task in tasks {
        task.await.unwrap();
    }
    let log = world.content(&store, "/log").await.unwrap();
    for writer in ['a', 'b', 'c'] {
        assert_eq!(log.matches(writer).count(), EACH, "{log}");
    }
    let versions = world.versions(&store).await;
    assert_eq!(versions.len(), 1 + 3 * EACH);
    // Each text is the one before it and one letter.
    for pair in versions.windows(2) {
        let (later, earlier) = (&pair[0].content, &pair[1].content);
        let (later, earlier) = (later.as_ref().unwrap(), earlier.as_ref().unwrap());
        assert_eq!(later.len(), earlier.len() + 1);
        assert!(later.starts_with(earlier.as_str()));
    }
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
