//! Agents, environments, keys and the workspace.

use std::sync::Arc;
use std::time::Duration;

use manyhands_protocol::environment::{Environment, EnvironmentConfig};
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::page::Order;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{AgentId, EnvironmentId, WorkspaceId};
use manyhands_store::audit::Actor;
use manyhands_store::key::{ApiKey, KeyRole, Opens};
use manyhands_store::listing::{Filter, Key, Range};

use crate::bed::*;

contract!(
    ag_1_every_change_is_one_more_version_also_at_once,
    archiving_shows_on_every_version,
    agents_page_and_filter,
    agent_versions_page_newest_first,
    en_5_an_environment_in_use_is_not_deleted,
    en_5_a_session_created_meanwhile_keeps_its_environment,
    en_7_packages_are_wanted_by_environments_that_sessions_have_or_may_get,
    environments_change_and_page,
    api_2_foreign_resources_are_not_there,
    keys_open_by_hash_until_revoked,
    there_is_one_default_workspace,
    ping_answers,
);

fn first(limit: u32, order: Order) -> Range {
    Range {
        after: None,
        order,
        limit,
    }
}

async fn ag_1_every_change_is_one_more_version_also_at_once(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let updates: Vec<_> = (0..32)
        .map(|n| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                world
                    .store
                    .update_agent(&world.workspace, &world.agent.id, move |agent| {
                        let mut agent = agent.clone();
                        agent.version += 1;
                        agent.definition.name = format!("name {n}");
                        Ok::<_, ()>(Some(agent))
                    })
                    .await
                    .unwrap()
                    .unwrap()
                    .unwrap()
            })
        })
        .collect();
    let mut stored = vec![world.agent.clone()];
    for update in updates {
        stored.push(update.await.unwrap());
    }
    stored.sort_by_key(|agent| agent.version);
    for (n, agent) in stored.iter().enumerate() {
        let version = u32::try_from(n).unwrap() + 1;
        assert_eq!(agent.version, version);
        let found = world
            .store
            .agent(&world.workspace, &agent.id, Some(version))
            .await;
        assert_eq!(found, Ok(Some(agent.clone())), "old versions stay");
    }
    let latest = world.store.agent(&world.workspace, &world.agent.id, None);
    assert_eq!(latest.await.unwrap(), stored.pop());

    let refused = world
        .store
        .update_agent(&world.workspace, &world.agent.id, |agent| {
            Err::<Option<_>, _>(agent.version)
        })
        .await;
    assert_eq!(refused, Ok(Some(Err(33))));
    let unchanged = world
        .store
        .update_agent(&world.workspace, &world.agent.id, |_| Ok::<_, ()>(None))
        .await;
    assert_eq!(unchanged.unwrap().unwrap().unwrap().version, 33);
}

async fn archiving_shows_on_every_version(bed: Bed) {
    let world = World::new(bed).await;
    let at = world.bed.clock.now();
    for archive in [false, true] {
        world
            .store
            .update_agent(&world.workspace, &world.agent.id, move |agent| {
                let mut agent = agent.clone();
                if archive {
                    agent.archived_at = Some(at);
                } else {
                    agent.version += 1;
                }
                Ok::<_, ()>(Some(agent))
            })
            .await
            .unwrap();
    }
    for version in [None, Some(1), Some(2)] {
        let found = world
            .store
            .agent(&world.workspace, &world.agent.id, version)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.archived_at, Some(at), "{version:?}");
        assert_eq!(found.version, version.unwrap_or(2));
    }
    let missing = world
        .store
        .agent(&world.workspace, &world.agent.id, Some(3));
    assert_eq!(missing.await, Ok(None));
}

async fn agents_page_and_filter(bed: Bed) {
    let world = World::new(bed).await;
    let mut made = vec![world.agent.clone()];
    for n in 0..4 {
        world.bed.clock.advance(Duration::from_secs(1));
        let mut agent = agent(&format!("agent {n}"), world.bed.clock.now());
        agent.archived_at = (n == 1).then(|| world.bed.clock.now());
        world
            .store
            .insert_agent(&world.workspace, &agent)
            .await
            .unwrap();
        made.push(agent);
    }
    let list = async |filter: Filter, range: Range| -> Vec<AgentId> {
        let page = world
            .store
            .list_agents(&world.workspace, &filter, &range)
            .await;
        page.unwrap().into_iter().map(|agent| agent.id).collect()
    };
    let ids =
        |wanted: &[usize]| -> Vec<AgentId> { wanted.iter().map(|n| made[*n].id.clone()).collect() };
    let open = Filter::default();
    assert_eq!(
        list(open.clone(), first(9, Order::Asc)).await,
        ids(&[0, 1, 3, 4])
    );
    let after = Range {
        after: Some(Key {
            created_at: made[3].created_at,
            id: made[3].id.to_string(),
        }),
        order: Order::Desc,
        limit: 1,
    };
    assert_eq!(list(open, after).await, ids(&[1]));
    let between = Filter {
        created_from: Some(made[1].created_at),
        created_to: Some(made[3].created_at),
        include_archived: true,
    };
    assert_eq!(list(between, first(9, Order::Asc)).await, ids(&[1, 2, 3]));
}

async fn agent_versions_page_newest_first(bed: Bed) {
    let world = World::new(bed).await;
    for _ in 0..4 {
        world
            .store
            .update_agent(&world.workspace, &world.agent.id, |agent| {
                let mut agent = agent.clone();
                agent.version += 1;
                Ok::<_, ()>(Some(agent))
            })
            .await
            .unwrap();
    }
    let versions = async |before, limit| -> Vec<u32> {
        let page = world
            .store
            .list_agent_versions(&world.workspace, &world.agent.id, before, limit)
            .await;
        page.unwrap().iter().map(|agent| agent.version).collect()
    };
    assert_eq!(versions(None, 2).await, [5, 4]);
    assert_eq!(versions(Some(4), 9).await, [3, 2, 1]);
    assert_eq!(versions(Some(1), 9).await, [0; 0]);
}

async fn en_5_an_environment_in_use_is_not_deleted(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let delete = || {
        world
            .store
            .delete_environment(&world.workspace, &world.environment.id)
    };
    assert_eq!(delete().await, Ok(Some(false)));
    world.archive_session(&id).await;
    assert_eq!(delete().await, Ok(Some(false)), "archived ones refer too");
    let gone = manyhands_store::Change {
        delete: true,
        ..Default::default()
    };
    world.change(&id, gone).await;
    assert_eq!(delete().await, Ok(Some(true)));
    assert_eq!(delete().await, Ok(None));
}

async fn en_5_a_session_created_meanwhile_keeps_its_environment(bed: Bed) {
    let world = World::new(bed).await;
    for _ in 0..20 {
        let environment = environment("racing", world.bed.clock.now());
        world
            .store
            .insert_environment(&world.workspace, &environment)
            .await
            .unwrap();
        let mut new = world.new_session(Default::default());
        new.environment_id = environment.id.clone();
        let (created, deleted) = futures::future::join(
            world.store.create_session(new),
            world
                .store
                .delete_environment(&world.workspace, &environment.id),
        )
        .await;
        let (created, deleted) = (created.unwrap(), deleted.unwrap().unwrap());
        assert_ne!(created, deleted, "exactly one of them wins");
    }
}

async fn en_7_packages_are_wanted_by_environments_that_sessions_have_or_may_get(bed: Bed) {
    let world = World::new(bed).await;
    let now = world.bed.clock.now();
    let add = async |name: &str, archived: bool| {
        let mut new = environment(name, now);
        if let EnvironmentConfig::Cloud { packages, .. } = &mut new.config {
            packages.pip.push(name.to_owned());
        }
        new.archived_at = archived.then_some(now);
        let added = world.store.insert_environment(&world.workspace, &new).await;
        added.unwrap();
        new.id
    };
    add("open", false).await;
    add("archived", true).await;
    let held = add("archived-and-held", false).await;
    let mut session = world.new_session(Default::default());
    session.environment_id = held.clone();
    assert!(world.store.create_session(session).await.unwrap());
    let archive = move |current: &Environment| {
        Ok::<_, ()>(Some(Environment {
            archived_at: Some(now),
            ..current.clone()
        }))
    };
    let archived = world
        .store
        .update_environment(&world.workspace, &held, archive);
    assert!(archived.await.unwrap().is_some());
    let wanted = world.store.wanted_packages().await.unwrap();
    let mut named: Vec<_> = wanted
        .into_iter()
        .flat_map(|packages| packages.pip)
        .collect();
    named.sort();
    assert_eq!(named, ["archived-and-held", "open"]);
}

async fn environments_change_and_page(bed: Bed) {
    let world = World::new(bed).await;
    world.bed.clock.advance(Duration::from_secs(1));
    let second = environment("second", world.bed.clock.now());
    world
        .store
        .insert_environment(&world.workspace, &second)
        .await
        .unwrap();
    let at = world.bed.clock.now();
    let changed = world
        .store
        .update_environment(&world.workspace, &second.id, move |environment| {
            let mut environment = environment.clone();
            environment.name = "NUL \0".to_owned();
            environment.archived_at = Some(at);
            Ok::<_, ()>(Some(environment))
        })
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let found = world.store.environment(&world.workspace, &second.id).await;
    assert_eq!(found, Ok(Some(changed)));
    let ids = async |archived, range: Range| -> Vec<EnvironmentId> {
        let page = world
            .store
            .list_environments(&world.workspace, archived, &range)
            .await;
        page.unwrap().into_iter().map(|item| item.id).collect()
    };
    let plain = world.environment.id.clone();
    assert_eq!(
        ids(true, first(9, Order::Desc)).await,
        [second.id.clone(), plain.clone()]
    );
    assert_eq!(
        ids(false, first(9, Order::Desc)).await,
        std::slice::from_ref(&plain)
    );
    assert_eq!(ids(true, first(1, Order::Asc)).await, [plain]);
    let refused = world
        .store
        .update_environment(&world.workspace, &second.id, |_| {
            Err::<Option<_>, _>("archived")
        })
        .await;
    assert_eq!(refused, Ok(Some(Err("archived"))));
}

async fn api_2_foreign_resources_are_not_there(bed: Bed) {
    let world = World::new(bed).await;
    let foreign = WorkspaceId::generate();
    let store = &world.store;
    assert_eq!(store.agent(&foreign, &world.agent.id, None).await, Ok(None));
    let versions = store.list_agent_versions(&foreign, &world.agent.id, None, 9);
    assert_eq!(versions.await, Ok(vec![]));
    let update = store.update_agent(&foreign, &world.agent.id, |_| Ok::<_, ()>(None));
    assert_eq!(update.await, Ok(None));
    let environment = &world.environment.id;
    assert_eq!(store.environment(&foreign, environment).await, Ok(None));
    assert_eq!(
        store.delete_environment(&foreign, environment).await,
        Ok(None)
    );
    let update = store.update_environment(&foreign, environment, |_| Ok::<_, ()>(None));
    assert_eq!(update.await, Ok(None));
}

async fn keys_open_by_hash_until_revoked(bed: Bed) {
    let world = World::new(bed).await;
    let key = |n: u8| ApiKey {
        id: ApiKeyId::generate(),
        workspace: world.workspace.clone(),
        opens: Opens::Workspace(KeyRole::Admin),
        name: format!("key {n} \0"),
        hint: "mh_12".to_owned(),
        created_at: world.bed.clock.now(),
        revoked_at: None,
    };
    let (one, two) = (key(1), key(2));
    let store = &world.store;
    store
        .insert_key(Actor::Operator, &one, &[1; 32])
        .await
        .unwrap();
    store
        .insert_key(Actor::Operator, &two, &[2; 32])
        .await
        .unwrap();
    assert_eq!(store.key_by_hash(&[1; 32]).await, Ok(Some(one.clone())));
    assert_eq!(store.key_by_hash(&[3; 32]).await, Ok(None));
    let same_hash = store.insert_key(Actor::Operator, &key(3), &[1; 32]).await;
    assert!(same_hash.is_err(), "a hash opens one key");

    let at = world.bed.clock.now();
    assert_eq!(
        store
            .revoke_key(Actor::Operator, &world.workspace, &one.id)
            .await,
        Ok(true)
    );
    world.bed.clock.advance(Duration::from_secs(1));
    assert_eq!(
        store
            .revoke_key(Actor::Operator, &world.workspace, &one.id)
            .await,
        Ok(true)
    );
    assert_eq!(store.key_by_hash(&[1; 32]).await, Ok(None));
    let keys = store.list_keys(&world.workspace).await.unwrap();
    let revoked = ApiKey {
        revoked_at: Some(at),
        ..one
    };
    assert_eq!(keys, [revoked, two.clone()]);
    let foreign = WorkspaceId::generate();
    assert_eq!(
        store.revoke_key(Actor::Operator, &foreign, &two.id).await,
        Ok(false)
    );
    assert_eq!(store.list_keys(&foreign).await, Ok(vec![]));
}

async fn there_is_one_default_workspace(bed: Bed) {
    let store = bed.open().await;
    let asked = futures::future::join_all((0..16).map(|_| store.default_workspace())).await;
    let first = asked[0].clone().unwrap();
    assert!(asked.into_iter().all(|one| one.unwrap() == first));
    store.close().await;
    let store = bed.open().await;
    assert_eq!(store.default_workspace().await, Ok(first));
}

async fn ping_answers(bed: Bed) {
    let store = bed.open().await;
    assert_eq!(store.ping().await, Ok(()));
    store.close().await;
    assert!(store.ping().await.is_err(), "a closed store is not ready");
}
