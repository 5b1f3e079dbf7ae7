//! Lists of memories and of versions.

use manyhands_protocol::SessionId;
use manyhands_protocol::memory::{MemoryListItem, Operation, View};
use manyhands_store::listing::Key;
use manyhands_store::memory::{Depth, MemoryRange, VersionFilter};

use super::*;

contract!(
    li_9_memories_are_listed_by_path_and_folders_are_folded,
    me_7_a_list_has_texts_when_they_are_asked_for,
    me_8_versions_are_found_by_what_they_are,
);

const PATHS: [&str; 11] = [
    "/Z",
    "/a",
    "/a.md",
    "/a0",
    "/b/1",
    "/b/2",
    "/b/c/d",
    "/b-x/1",
    "/dir/sub/one",
    "/dir/sub/two",
    "/é",
];

impl World {
    async fn listed_memories(
        &self,
        store: &MemoryStore,
        prefix: &str,
        depth: Depth,
        limit: u32,
    ) -> Vec<String> {
        let mut range = MemoryRange {
            prefix: prefix.to_owned(),
            depth,
            after: None,
            limit,
            view: View::Basic,
        };
        let mut all = Vec::new();
        loop {
            let page = self.store.list_memories(&store.id, &range).await.unwrap();
            assert!(page.len() <= limit as usize);
            all.extend(page.iter().map(|item| item.path().to_owned()));
            if page.len() < limit as usize {
                return all;
            }
            range.after = page.last().map(|item| item.path().to_owned());
        }
    }
}

async fn li_9_memories_are_listed_by_path_and_folders_are_folded(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let other = world.memory_store("others").await;
    for at in PATHS.iter().rev() {
        done(world.mutate(&store, create(at, "x")).await);
        done(world.mutate(&other, create(&format!("{at}x"), "x")).await);
    }
    let mut sorted = PATHS.map(str::to_owned).to_vec();
    sorted.sort();
    for limit in [1, 2, 3, 4, 100] {
        let check = |found: Vec<String>, expected: &[&str]| {
            assert_eq!(found, expected, "pages of {limit}");
        };
        let all = world.listed_memories(&store, "/", Depth::All, limit).await;
        assert_eq!(all, sorted, "pages of {limit}");
        let top = world
            .listed_memories(&store, "/", Depth::Children, limit)
            .await;
        check(
            top,
            &["/Z", "/a", "/a.md", "/a0", "/b-x/", "/b/", "/dir/", "/é"],
        );
        let within = world
            .listed_memories(&store, "/b/", Depth::All, limit)
            .await;
        check(within, &["/b/1", "/b/2", "/b/c/d"]);
        let children = world
            .listed_memories(&store, "/b/", Depth::Children, limit)
            .await;
        check(children, &["/b/1", "/b/2", "/b/c/"]);
        let folder = world
            .listed_memories(&store, "/dir/", Depth::Children, limit)
            .await;
        check(folder, &["/dir/sub/"]);
        check(
            world
                .listed_memories(&store, "/a/", Depth::All, limit)
                .await,
            &[],
        );
        check(
            world
                .listed_memories(&store, "/n/", Depth::Children, limit)
                .await,
            &[],
        );
    }
    let memories = world.store.memories(&store.id).await.unwrap();
    let paths = memories
        .iter()
        .map(|memory| memory.path.as_str().to_owned());
    assert_eq!(paths.collect::<Vec<_>>(), sorted);
}

async fn me_7_a_list_has_texts_when_they_are_asked_for(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let first = done(world.mutate(&store, create("/a", "one")).await);
    done(world.mutate(&store, rewrite(&first, "two", None)).await);
    for (view, content) in [(View::Basic, None), (View::Full, Some("two"))] {
        let range = MemoryRange {
            prefix: "/".to_owned(),
            depth: Depth::Children,
            after: None,
            limit: 5,
            view,
        };
        let page = world.store.list_memories(&store.id, &range).await.unwrap();
        let [MemoryListItem::Memory(memory)] = page.as_slice() else {
            panic!("{page:?}");
        };
        assert_eq!(memory.content.as_deref(), content);
        assert_eq!(memory.content_sha256, sha256(b"two"));
        let (filter, range) = (VersionFilter::default(), newest(5));
        let versions = world
            .store
            .list_memory_versions(&store.id, &filter, &range, view);
        let contents = versions.await.unwrap().into_iter();
        let contents: Vec<_> = contents.map(|version| version.content).collect();
        let expected = content.map(|_| ["two".to_owned(), "one".to_owned()].map(Some));
        assert_eq!(contents, expected.unwrap_or_default());
    }
}

async fn me_8_versions_are_found_by_what_they_are(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let elsewhere = world.memory_store("others").await;
    let person = Actor::ServiceAccountActor {
        service_account_id: "svac_1".to_owned(),
    };
    done(world.mutate(&elsewhere, create("/a", "x")).await);
    let one = done(world.mutate(&store, create("/a", "1")).await);
    world.bed.clock.advance(SECOND);
    let two = done(world.mutate_as(&store, person, create("/b", "2")).await);
    world.bed.clock.advance(SECOND);
    let changed = done(world.mutate(&store, rewrite(&two, "3", None)).await);
    world.bed.clock.advance(SECOND);
    let gone = done(world.mutate(&store, delete(&one, None)).await);
    let all = VersionFilter::default;
    let actors = |ids: &[&str]| VersionFilter {
        actors: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..all()
    };
    let session = SessionId::generate();
    for (filter, expected) in [
        (all(), vec![&gone, &changed, &two, &one]),
        (
            VersionFilter {
                memory: Some(one.id.clone()),
                ..all()
            },
            vec![&gone, &one],
        ),
        (
            VersionFilter {
                operation: Some(Operation::Created),
                ..all()
            },
            vec![&two, &one],
        ),
        (actors(&["svac_1"]), vec![&two]),
        (actors(&["apikey_1"]), vec![&gone, &changed, &one]),
        (actors(&["apikey_1", "svac_1"]), vec![]),
        (actors(&[session.as_str()]), vec![]),
        (
            VersionFilter {
                created_from: Some(two.updated_at),
                created_to: Some(changed.updated_at),
                ..all()
            },
            vec![&changed, &two],
        ),
    ] {
        // Page by page, one at a time.
        let mut range = newest(1);
        let mut found = Vec::new();
        loop {
            let page = world
                .store
                .list_memory_versions(&store.id, &filter, &range, View::Basic);
            let page = page.await.unwrap();
            let Some(version) = page.last() else { break };
            range.after = Some(Key {
                created_at: version.created_at,
                id: version.id.to_string(),
            });
            found.extend(page.into_iter().map(|version| version.id));
        }
        let expected = expected.into_iter();
        let expected: Vec<_> = expected
            .map(|memory| memory.memory_version_id.clone())
            .collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}
