//! Changes of memories, each with its version.

use std::sync::Arc;

use manyhands_protocol::memory::CONTENT;

use super::*;

contract!(
    me_2_a_memory_is_kept_byte_for_byte,
    me_5_no_memory_is_at_above_or_below_another,
    me_6_an_expectation_is_about_the_content_of_now,
    me_8_every_change_is_a_version_and_nothing_else_is,
    me_10_a_redacted_version_keeps_who_and_when,
    me_4_a_full_store_is_exactly_full_also_at_once,
    me_6_two_writers_lose_nothing,
);

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
        assert_eq!(found, Ok(Some((*redacted).clone())));
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
