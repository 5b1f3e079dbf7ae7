//! Clones that a workspace keeps for its next sessions: whose they are, how many, and what becomes of their blobs.

use std::time::Duration;

use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{Timestamp, WorkspaceId};
use manyhands_store::repositories::KeptClone;

use crate::bed::*;

contract!(
    sbx_8_a_kept_clone_is_its_workspaces_alone,
    gh_3_one_clone_is_kept_of_a_repository,
    gh_3_what_was_used_longest_ago_makes_room,
    gh_3_what_is_old_or_of_no_use_goes,
);

const TOOLS: &str = "git.example.com:443/acme/tools";
const MOST: u64 = 100;

fn kept(name: &str, size: u64) -> KeptClone {
    KeptClone {
        blob: format!("repositories/aa/{name}"),
        size,
        head: 1,
        sha256: "00".repeat(32),
    }
}

impl World {
    async fn keep(&self, repository: &str, kept: &KeptClone) -> bool {
        let keeping = self
            .store
            .keep_clone(&self.workspace, repository, kept.clone(), MOST);
        keeping.await.unwrap()
    }

    async fn kept(&self, repository: &str) -> Option<KeptClone> {
        let oldest = Timestamp::from_micros(0);
        let found = self.store.kept_clone(&self.workspace, repository, oldest);
        found.await.unwrap()
    }

    async fn let_go(&self) -> Vec<String> {
        self.store.loose_blobs(100).await.unwrap()
    }
}

/// security SBX-8, API-2
async fn sbx_8_a_kept_clone_is_its_workspaces_alone(bed: Bed) {
    let world = World::new(bed).await;
    let one = kept("one", 10);
    assert!(world.keep(TOOLS, &one).await);
    assert_eq!(world.kept(TOOLS).await, Some(one.clone()));
    assert_eq!(world.kept("git.example.com:443/acme/other").await, None);
    let foreign = WorkspaceId::generate();
    let oldest = Timestamp::from_micros(0);
    let found = world.store.kept_clone(&foreign, TOOLS, oldest).await;
    assert_eq!(found, Ok(None));
    // Nor can another workspace let go of it.
    world.store.drop_clone(&foreign, &one.blob).await.unwrap();
    assert_eq!(world.kept(TOOLS).await, Some(one));
}

/// runtime GH-3, security LOG-5: whoever comes second, and what does not fit, leaves a blob for removal and nothing else.
async fn gh_3_one_clone_is_kept_of_a_repository(bed: Bed) {
    let world = World::new(bed).await;
    let (one, two, large) = (kept("one", 10), kept("two", 10), kept("large", MOST + 1));
    let (first, second) = tokio::join!(world.keep(TOOLS, &one), world.keep(TOOLS, &two));
    assert!(first ^ second, "one of them is kept");
    let (stays, goes) = if first { (&one, &two) } else { (&two, &one) };
    assert_eq!(world.kept(TOOLS).await.as_ref(), Some(stays));
    assert_eq!(world.let_go().await, std::slice::from_ref(&goes.blob));
    assert!(!world.keep("git.example.com:443/acme/large", &large).await);
    assert_eq!(world.kept("git.example.com:443/acme/large").await, None);
    let mut gone = vec![goes.blob.clone(), large.blob.clone()];
    gone.sort();
    assert_eq!(world.let_go().await, gone);
    let named = [&one.blob, &two.blob, &large.blob].map(Clone::clone);
    let mut absent = world.store.absent_blobs(&named).await.unwrap();
    absent.sort();
    assert_eq!(
        absent, gone,
        "the look at all blobs knows the one that is kept"
    );
}

/// runtime GH-3: at most so many bytes in a workspace.
async fn gh_3_what_was_used_longest_ago_makes_room(bed: Bed) {
    let world = World::new(bed).await;
    for name in ["a", "b"] {
        assert!(world.keep(name, &kept(name, 40)).await);
        world.bed.clock.advance(Duration::from_secs(1));
    }
    // The older one is used.
    assert!(world.kept("a").await.is_some());
    world.bed.clock.advance(Duration::from_secs(1));
    assert!(world.keep("c", &kept("c", 60)).await);
    assert_eq!(world.kept("b").await, None);
    assert!(world.kept("a").await.is_some() && world.kept("c").await.is_some());
    assert_eq!(world.let_go().await, [kept("b", 40).blob]);
    // A new one is never its own victim.
    assert!(world.keep("d", &kept("d", MOST)).await);
    assert!(world.kept("a").await.is_none() && world.kept("c").await.is_none());
    assert!(world.kept("d").await.is_some());
}

/// runtime GH-3: what was made too long ago is neither found nor kept; what is of no use goes, and not what has taken its place.
async fn gh_3_what_is_old_or_of_no_use_goes(bed: Bed) {
    let world = World::new(bed).await;
    let (one, two) = (kept("one", 10), kept("two", 10));
    assert!(world.keep("old", &one).await);
    world.bed.clock.advance(Duration::from_secs(60));
    assert!(world.keep(TOOLS, &two).await);
    let oldest = Timestamp::from_micros(world.bed.clock.now().as_micros() - 1_000_000);
    let found = world.store.kept_clone(&world.workspace, "old", oldest);
    assert_eq!(found.await, Ok(None));
    world.store.expire_clones(oldest).await.unwrap();
    assert_eq!(world.kept("old").await, None);
    assert_eq!(world.let_go().await, std::slice::from_ref(&one.blob));
    let drop = |kept: &KeptClone| {
        let blob = kept.blob.clone();
        let (store, workspace) = (world.store.clone(), world.workspace.clone());
        async move { store.drop_clone(&workspace, &blob).await.unwrap() }
    };
    drop(&one).await;
    assert_eq!(world.kept(TOOLS).await.as_ref(), Some(&two));
    drop(&two).await;
    assert_eq!(world.kept(TOOLS).await, None);
    assert_eq!(world.let_go().await, [one.blob, two.blob]);
}
