//! Quotas: how much a workspace may keep, also when many add at once (security STORE-4, API-4).

use std::sync::Arc;

use manyhands_protocol::memory::{Access, Actor};
use manyhands_protocol::time::Clock as _;
use manyhands_store::memory::{Attach, Changed};
use manyhands_store::quota::Quotas;
use manyhands_store::skills::Added;
use manyhands_store::{Belongings, Change, Created, Error};

use crate::bed::*;
use crate::memory_stores::{create, done, rename, rewrite};
use crate::skills;
use crate::tenancy::another;

contract!(
    store_4_quotas_are_exact_also_at_once,
    store_4_other_workspaces_have_a_quota_of_their_own,
    store_4_a_memory_that_gets_smaller_needs_no_room,
    store_4_a_session_is_told_that_there_is_no_room,
    store_4_who_adds_to_a_workspace_waits_for_nobody_in_a_ring,
);

fn over<T: std::fmt::Debug>(result: Result<T, Error>) -> (&'static str, u64, u64) {
    match result {
        Err(Error::OverQuota { what, quota, used }) => (what, quota, used),
        other => panic!("no quota stopped it: {other:?}"),
    }
}

async fn store_4_quotas_are_exact_also_at_once(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let store = &world.store;
    store.hold_to(Quotas {
        agents: Some(4),
        environments: Some(2),
        sessions: Some(3),
        ..Quotas::default()
    });
    let now = world.bed.clock.now();
    let adds = (0..12).map(|n| {
        let (store, workspace) = (store.clone(), world.workspace.clone());
        async move {
            let agent = agent(&format!("{n}"), now);
            store.insert_agent(&workspace, &agent).await
        }
    });
    let added = futures::future::join_all(adds).await;
    let (done, refused): (Vec<_>, Vec<_>) = added.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 3, "one was there");
    for refused in refused {
        assert_eq!(over(refused), ("agents", 4, 4));
    }
    let insert = async |name: &str| {
        let environment = environment(name, now);
        store
            .insert_environment(&world.workspace, &environment)
            .await
    };
    insert("second").await.unwrap();
    assert_eq!(over(insert("third").await), ("environments", 2, 2));
    for _ in 0..3 {
        world.session().await;
    }
    let session = world.new_session(Change::default());
    assert_eq!(
        over(store.create_session(session).await),
        ("sessions", 3, 3)
    );
}

async fn store_4_other_workspaces_have_a_quota_of_their_own(bed: Bed) {
    let world = World::new(bed).await;
    let store = &world.store;
    store.hold_to(Quotas {
        agents: Some(1),
        ..Quotas::default()
    });
    let now = world.bed.clock.now();
    let refused = store.insert_agent(&world.workspace, &agent("b", now)).await;
    assert_eq!(over(refused), ("agents", 1, 1));
    let other = another(&world).await;
    store.insert_agent(&other, &agent("b", now)).await.unwrap();
    let refused = store.insert_agent(&other, &agent("c", now)).await;
    assert_eq!(over(refused), ("agents", 1, 1));
    let environment = environment("e", now);
    store
        .insert_environment(&other, &environment)
        .await
        .unwrap();
}

async fn store_4_a_memory_that_gets_smaller_needs_no_room(bed: Bed) {
    let world = World::new(bed).await;
    world.store.hold_to(Quotas {
        bytes: Some(10),
        ..Quotas::default()
    });
    let store = world.memory_store("m").await;
    let memory = done(world.mutate(&store, create("/a", "12345678")).await);
    let change = async |mutation| {
        let actor = crate::memory_stores::key();
        let changed = world
            .store
            .change_memory(&world.workspace, &store.id, actor, mutation);
        changed.await
    };
    assert_eq!(over(change(create("/b", "123")).await), ("bytes", 10, 8));
    let longer = rewrite(&memory, "123456789", None);
    assert_eq!(over(change(longer).await), ("bytes", 10, 8));
    let as_long = rewrite(&memory, "abcdefgh", None);
    assert_eq!(
        over(change(as_long).await),
        ("bytes", 10, 8),
        "its old text is kept too"
    );
    let shorter = done(change(rewrite(&memory, "1234567", None)).await.unwrap());
    assert_eq!(shorter.content_size_bytes, 7);
    let moved = done(change(rename(&shorter, "/c")).await.unwrap());
    let again = rewrite(&moved, "123", None);
    assert_eq!(done(change(again).await.unwrap()).content_size_bytes, 3);
    let (what, quota, used) = over(change(create("/b", "1")).await);
    assert_eq!((what, quota), ("bytes", 10));
    assert!(used > quota, "what was let through counts: {used}");
}

async fn store_4_a_session_is_told_that_there_is_no_room(bed: Bed) {
    let world = World::new(bed).await;
    world.store.hold_to(Quotas {
        bytes: Some(4),
        ..Quotas::default()
    });
    let store = world.memory_store("m").await;
    let session = world.new_session(Change::default());
    let (id, belongings) = (
        session.id.clone(),
        Belongings {
            memory_stores: vec![Attach {
                store: store.id.clone(),
                access: Access::ReadWrite,
                instructions: None,
            }],
            ..Belongings::default()
        },
    );
    let made = world.store.create_session_with(session, belongings).await;
    assert_eq!(made, Ok(Created::Done));
    let actor = || Actor::SessionActor {
        session_id: id.clone(),
    };
    let memory = done(world.mutate_as(&store, actor(), create("/a", "1234")).await);
    let more = world.mutate_as(&store, actor(), create("/b", "1")).await;
    assert_eq!(more, Changed::Full);
    let longer = world.mutate_as(&store, actor(), rewrite(&memory, "12345", None));
    assert_eq!(longer.await, Changed::Full);
    done(
        world
            .mutate_as(&store, actor(), rewrite(&memory, "1", None))
            .await,
    );
}

/// security STORE-4, API-4: each of these needs the workspace's lock and that of something in it, in one transaction.
async fn store_4_who_adds_to_a_workspace_waits_for_nobody_in_a_ring(bed: Bed) {
    const ROUNDS: usize = 24;
    let world = World::new(bed).await;
    world.store.hold_to(Quotas {
        bytes: Some(1 << 30),
        sessions: Some(1 << 20),
        ..Quotas::default()
    });
    let store = world.memory_store("m").await;
    let memory = done(world.mutate(&store, create("/a", "0")).await);
    let skill = skills::skill(&world, "s").await.skill.id;
    let session = async || {
        let session = world.new_session(Change::default());
        let belongings = Belongings {
            memory_stores: vec![Attach {
                store: store.id.clone(),
                access: Access::ReadOnly,
                instructions: None,
            }],
            ..Belongings::default()
        };
        world.store.create_session_with(session, belongings).await
    };
    let version = async || {
        let version = skills::version("s");
        world
            .store
            .insert_skill_version(&world.workspace, &skill, version)
            .await
    };
    for round in 1..=ROUNDS {
        let text = "1".repeat(round + 1);
        let all = async {
            tokio::join!(
                session(),
                world.mutate(&store, rewrite(&memory, &text, None)),
                version(),
                session(),
            )
        };
        let (one, changed, added, other) = soon(all).await;
        assert_eq!((one, other), (Ok(Created::Done), Ok(Created::Done)));
        done(changed);
        assert!(matches!(added, Ok(Added::Done(_))), "{added:?}");
    }
}
