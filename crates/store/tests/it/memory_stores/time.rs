//! What goes with time, and what damage is found.

use manyhands_store::verify::{Source, Told, verify};

use super::*;

contract!(
    me_9_versions_are_dropped_when_they_are_old_and_not_among_the_newest,
    me_9_old_versions_go_in_pieces,
    me_11_a_deleted_store_is_gone_at_once_and_later_leaves_nothing,
    store_3_damage_of_memories_is_found_and_named,
);

const DAY: Duration = Duration::from_secs(86_400);

impl World {
    async fn drop_old(&self) {
        while self.store.drop_old_memory_versions().await.unwrap() {}
    }

    async fn damage(&self) -> Vec<String> {
        let mut damage = Vec::new();
        let source = Source::Database(self.bed.database.clone());
        let counts = verify(&source, &mut |told| {
            if let Told::Damage(found) = told {
                damage.push(format!("{}: {}", found.item, found.reason));
            }
        })
        .await;
        assert_eq!(counts.unwrap().damaged, damage.len() as u64);
        damage
    }
}

async fn me_9_versions_are_dropped_when_they_are_old_and_not_among_the_newest(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let still = done(world.mutate(&store, create("/still", "0")).await);
    let busy = done(world.mutate(&store, create("/busy", "0")).await);
    let gone = done(world.mutate(&store, create("/gone", "0")).await);
    for number in 1..=12 {
        let content = number.to_string();
        done(world.mutate(&store, rewrite(&busy, &content, None)).await);
        if number <= 9 {
            done(world.mutate(&store, rewrite(&still, &content, None)).await);
        }
    }
    done(world.mutate(&store, delete(&gone, None)).await);
    let count = |versions: &[MemoryVersion], memory: &Memory| {
        let own = versions
            .iter()
            .filter(|version| version.memory_id == memory.id);
        own.count()
    };
    world.bed.clock.advance(DAY * 30);
    world.drop_old().await;
    let versions = world.versions(&store).await;
    assert_eq!(versions.len(), 10 + 13 + 2, "30 days are not over yet");
    world.bed.clock.advance(SECOND);
    world.drop_old().await;
    let versions = world.versions(&store).await;
    let counts = [&still, &busy, &gone].map(|memory| count(&versions, memory));
    assert_eq!(counts, [10, 10, 0]);
    assert_eq!(world.content(&store, "/busy").await.as_deref(), Some("12"));
    assert_eq!(world.content(&store, "/still").await.as_deref(), Some("9"));
    // When a memory goes, so do its old versions; that it went is young.
    done(world.mutate(&store, delete(&busy, None)).await);
    world.drop_old().await;
    let versions = world.versions(&store).await;
    assert_eq!((count(&versions, &busy), count(&versions, &still)), (1, 10));
    assert_eq!(world.damage().await, Vec::<String>::new());
}

async fn me_9_old_versions_go_in_pieces(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "0")).await);
    for number in 1..450 {
        done(
            world
                .mutate(&store, rewrite(&made, &number.to_string(), None))
                .await,
        );
    }
    world.bed.clock.advance(DAY * 31);
    let mut left = Vec::new();
    loop {
        let more = world.store.drop_old_memory_versions().await.unwrap();
        left.push(world.versions(&store).await.len());
        if !more {
            break;
        }
    }
    assert_eq!(left, [250, 50, 10]);
    assert_eq!(world.store.drop_old_memory_versions().await, Ok(false));
}

async fn me_11_a_deleted_store_is_gone_at_once_and_later_leaves_nothing(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let other = world.memory_store("others").await;
    done(world.mutate(&other, create("/a", "x")).await);
    for number in 0..250 {
        let at = format!("/{number}");
        done(world.mutate(&store, create(&at, "x")).await);
    }
    let deleted = world.store.delete_memory_store(&world.workspace, &store.id);
    assert_eq!(deleted.await, Ok(true));
    let found = world.store.memory_store(&world.workspace, &store.id).await;
    assert_eq!(found, Ok(None));
    let refused = world.mutate(&store, create("/new", "x")).await;
    assert_eq!(refused, Changed::NoStore);
    let deleted = world.store.delete_memory_store(&world.workspace, &store.id);
    assert_eq!(deleted.await, Ok(false));
    // Each look is a trip to the database, which the removal needs too.
    soon(async {
        while !world.versions(&store).await.is_empty()
            || !world.store.memories(&store.id).await.unwrap().is_empty()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.damage().await, Vec::<String>::new());
    assert_eq!(world.content(&other, "/a").await.as_deref(), Some("x"));
}

async fn store_3_damage_of_memories_is_found_and_named(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let made = done(world.mutate(&store, create("/a", "one")).await);
    let (id, version) = (&made.id, &made.memory_version_id);
    assert_eq!(world.damage().await, Vec::<String>::new());
    for (plant, expected, mend) in [
        (
            "UPDATE memory_stores SET body = REPLACE(body, 'notes', 'sonnet')",
            format!("memory store {}: its checksum does not match", store.id),
            "UPDATE memory_stores SET body = REPLACE(body, 'sonnet', 'notes')",
        ),
        (
            "UPDATE memories SET path = '/b'",
            format!("memory {id}: its body is that of another memory, path or version"),
            "UPDATE memories SET path = '/a'",
        ),
        (
            "UPDATE memory_versions SET body = REPLACE(body, '/a', '/b')",
            format!("memory version {version}: its checksum does not match"),
            "UPDATE memory_versions SET body = REPLACE(body, '/b', '/a')",
        ),
        (
            "UPDATE memory_versions SET content = CAST('' AS CONTENT)",
            format!("memory version {version}: it does not have its hash"),
            "UPDATE memory_versions SET content = CAST('one' AS CONTENT)",
        ),
        (
            "UPDATE memory_versions SET store_id = 'x'",
            format!("memory version {version}: its store is missing"),
            "UPDATE memory_versions SET store_id = (SELECT id FROM memory_stores)",
        ),
        (
            "DELETE FROM memory_versions",
            format!("memory {id}: its version is missing"),
            "DELETE FROM memories",
        ),
    ] {
        let blob = match world.bed.database {
            manyhands_store::Database::Postgres { .. } => "BYTEA",
            _ => "BLOB",
        };
        let sql = |text: &str| -> &'static str { text.replace("CONTENT", blob).leak() };
        world.bed.sql(sql(plant)).await;
        assert_eq!(world.damage().await, [expected], "{plant}");
        world.bed.sql(sql(mend)).await;
        assert_eq!(world.damage().await, Vec::<String>::new(), "{mend}");
    }
}
