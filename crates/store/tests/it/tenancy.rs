//! Workspaces, whose keys open what, and requests that may be repeated.

use std::time::Duration;

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{EnvironmentId, WorkspaceId};
use manyhands_store::audit::{Actor, AuditFilter};
use manyhands_store::idempotency::{Claim, Claimed, KEPT};
use manyhands_store::key::{ApiKey, KeyRole, Opens};
use manyhands_store::workspace::Workspace;
use manyhands_store::{Error, Store};

use crate::bed::*;

contract!(
    api_1_workspaces_are_made_and_renamed,
    api_3_a_key_opens_what_it_was_made_for,
    ops_3_what_is_done_to_workspaces_is_in_the_audit_log,
    api_6_a_claim_is_granted_once,
    api_6_a_request_without_effect_can_be_claimed_again,
    api_6_a_request_with_an_effect_is_not_run_again,
    api_6_what_was_taken_over_writes_nothing,
    api_6_an_answer_is_kept_for_a_day,
);

fn workspace(world: &World, name: &str) -> Workspace {
    Workspace {
        id: WorkspaceId::generate(),
        name: name.to_owned(),
        created_at: world.bed.clock.now(),
    }
}

pub(crate) async fn another(world: &World) -> WorkspaceId {
    let made = workspace(world, "another");
    let store = &world.store;
    store
        .insert_workspace(Actor::Operator, &made)
        .await
        .unwrap();
    made.id
}

async fn api_1_workspaces_are_made_and_renamed(bed: Bed) {
    let world = World::new(bed).await;
    let store = &world.store;
    world.bed.clock.advance(Duration::from_secs(1));
    let made = workspace(&world, "team\0");
    store
        .insert_workspace(Actor::Operator, &made)
        .await
        .unwrap();
    let all = store.list_workspaces().await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0].id, &*all[0].name), (&world.workspace, "default"));
    assert_eq!(all[1], made);
    let renamed = store
        .rename_workspace(Actor::Operator, &made.id, "crew")
        .await;
    let crew = Workspace {
        name: "crew".to_owned(),
        ..made
    };
    assert_eq!(renamed, Ok(Some(crew.clone())));
    assert_eq!(store.list_workspaces().await.unwrap()[1], crew);
    let nobody = WorkspaceId::generate();
    let renamed = store.rename_workspace(Actor::Operator, &nobody, "x").await;
    assert_eq!(renamed, Ok(None));
    assert_eq!(store.default_workspace().await, Ok(world.workspace.clone()));
}

fn key(world: &World, opens: Opens) -> ApiKey {
    ApiKey {
        id: ApiKeyId::generate(),
        workspace: world.workspace.clone(),
        opens,
        name: "key".to_owned(),
        hint: "mh_12".to_owned(),
        created_at: world.bed.clock.now(),
        revoked_at: None,
    }
}

async fn api_3_a_key_opens_what_it_was_made_for(bed: Bed) {
    let world = World::new(bed).await;
    let store = &world.store;
    let environment = Opens::Environment(world.environment.id.clone());
    let all = KeyRole::ALL.map(Opens::Workspace).into_iter();
    for (n, opens) in all.chain([environment.clone()]).enumerate() {
        let hash = [u8::try_from(n).unwrap(); 32];
        let key = key(&world, opens);
        let made = store.insert_key(Actor::Operator, &key, &hash).await;
        assert_eq!(made, Ok(true));
        assert_eq!(store.key_by_hash(&hash).await, Ok(Some(key)));
    }
    let nowhere = key(&world, Opens::Environment(EnvironmentId::generate()));
    let made = store.insert_key(Actor::Operator, &nowhere, &[9; 32]).await;
    assert_eq!(made, Ok(false));
    let foreign = ApiKey {
        workspace: another(&world).await,
        ..key(&world, environment.clone())
    };
    let made = store.insert_key(Actor::Operator, &foreign, &[9; 32]).await;
    assert_eq!(made, Ok(false), "the environment is another workspace's");
    let nobody = ApiKey {
        workspace: WorkspaceId::generate(),
        ..key(&world, Opens::Workspace(KeyRole::Admin))
    };
    let made = store.insert_key(Actor::Operator, &nobody, &[9; 32]).await;
    assert_eq!(made, Ok(false), "there is no such workspace");
    assert_eq!(store.key_by_hash(&[9; 32]).await, Ok(None));
    assert_eq!(store.list_keys(&world.workspace).await.unwrap().len(), 4);

    world
        .bed
        .sql("UPDATE api_keys SET role = 'root' WHERE role = 'admin'")
        .await;
    let damaged = store.key_by_hash(&[2; 32]).await;
    assert!(matches!(damaged, Err(Error::Damaged { .. })), "{damaged:?}");
    world
        .bed
        .sql("UPDATE api_keys SET role = 'admin' WHERE role = 'environment'")
        .await;
    let damaged = store.key_by_hash(&[3; 32]).await;
    assert!(
        matches!(damaged, Err(Error::Damaged { .. })),
        "fails closed: {damaged:?}"
    );
}

async fn ops_3_what_is_done_to_workspaces_is_in_the_audit_log(bed: Bed) {
    let world = World::new(bed).await;
    let store = &world.store;
    let made = workspace(&world, "team");
    let by = Actor::Key(ApiKeyId::parse("apikey_1").unwrap());
    store.insert_workspace(by.clone(), &made).await.unwrap();
    let renamed = store.rename_workspace(by, &made.id, "crew").await;
    assert!(renamed.unwrap().is_some());
    let rows = store.list_audit(&AuditFilter::default(), 10).await.unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&*row.action, &*row.actor, row.object.as_deref()))
        .collect();
    let id = Some(made.id.as_str());
    assert_eq!(
        told,
        [
            ("workspace.create", "apikey_1", id),
            ("workspace.rename", "apikey_1", id)
        ]
    );
}

async fn claim(store: &Store, workspace: &WorkspaceId, name: u8) -> Claimed {
    let claimed = store.claim_request(workspace, [name; 32], [7; 32]).await;
    claimed.unwrap()
}

#[track_caller]
fn granted(claimed: Claimed) -> Claim {
    match claimed {
        Claimed::Granted(claim) => claim,
        other => panic!("not granted: {other:?}"),
    }
}

async fn api_6_a_claim_is_granted_once(bed: Bed) {
    let world = World::new(bed).await;
    let (store, workspace) = (&world.store, &world.workspace);
    let claims = (0..8).map(|_| claim(store, workspace, 1));
    let claims = futures::future::join_all(claims).await;
    let (granted, waiting): (Vec<_>, Vec<_>) = claims
        .into_iter()
        .partition(|claimed| matches!(claimed, Claimed::Granted(_)));
    assert_eq!(granted.len(), 1);
    assert!(waiting.iter().all(|claimed| *claimed == Claimed::Running));
    let different = store.claim_request(workspace, [1; 32], [8; 32]).await;
    assert_eq!(different, Ok(Claimed::Different));
    self::granted(claim(store, workspace, 2).await);
    self::granted(claim(store, &another(&world).await, 1).await);
    let Claimed::Granted(first) = &granted[0] else {
        panic!("one was granted");
    };
    store
        .answer_request(first, 200, "{\"id\":\"\\u0000\"}")
        .await
        .unwrap();
    let answered = Claimed::Answered {
        status: 200,
        body: "{\"id\":\"\\u0000\"}".to_owned(),
    };
    assert_eq!(claim(store, workspace, 1).await, answered);
    let different = store.claim_request(workspace, [1; 32], [8; 32]).await;
    assert_eq!(different, Ok(Claimed::Different));
}

async fn api_6_a_request_without_effect_can_be_claimed_again(bed: Bed) {
    let world = World::new(bed).await;
    let (store, workspace) = (&world.store, &world.workspace);
    let first = granted(claim(store, workspace, 1).await);
    store.release_request(&first, 400, "refused").await.unwrap();
    let second = granted(claim(store, workspace, 1).await);
    assert_ne!(first, second);

    // The process that ran it is gone.
    store.close().await;
    world.bed.clock.advance(Duration::from_secs(60));
    if !matches!(world.bed.database, manyhands_store::Database::Sqlite { .. }) {
        world.bed.expire_instances().await;
    }
    let store = world.bed.open().await;
    let third = granted(claim(&store, workspace, 1).await);
    assert_eq!(claim(&store, workspace, 1).await, Claimed::Running);
    store.answer_request(&third, 200, "{}").await.unwrap();
    assert!(matches!(
        claim(&store, workspace, 1).await,
        Claimed::Answered { .. }
    ));
}

async fn add_agent(world: &World, store: &Store, claim: &Claim) -> Result<(), Error> {
    let agent = agent("made once", world.bed.clock.now());
    let added = store.insert_agent(&world.workspace, &agent);
    claim.cover(added).await
}

async fn api_6_a_request_with_an_effect_is_not_run_again(bed: Bed) {
    let world = World::new(bed).await;
    let (store, workspace) = (&world.store, &world.workspace);
    let refused = granted(claim(store, workspace, 2).await);
    add_agent(&world, store, &refused).await.unwrap();
    store
        .release_request(&refused, 500, "half done")
        .await
        .unwrap();
    let answered = Claimed::Answered {
        status: 500,
        body: "half done".to_owned(),
    };
    assert_eq!(claim(store, workspace, 2).await, answered);

    let first = granted(claim(store, workspace, 1).await);
    add_agent(&world, store, &first).await.unwrap();
    assert_eq!(claim(store, workspace, 1).await, Claimed::Running);
    store.close().await;
    if !matches!(world.bed.database, manyhands_store::Database::Sqlite { .. }) {
        world.bed.expire_instances().await;
    }
    let store = world.bed.open().await;
    assert_eq!(claim(&store, workspace, 1).await, Claimed::Lost);
    assert_eq!(claim(&store, workspace, 1).await, Claimed::Lost, "for good");
}

async fn api_6_what_was_taken_over_writes_nothing(bed: Bed) {
    let world = World::new(bed).await;
    let (store, workspace) = (&world.store, &world.workspace);
    let first = granted(claim(store, workspace, 1).await);
    // Another server believes that this one is dead.
    world
        .bed
        .sql("UPDATE idempotent_requests SET holder = 'somebody'")
        .await;
    let second = granted(claim(store, workspace, 1).await);
    let refused = add_agent(&world, store, &first).await;
    assert!(
        matches!(refused, Err(Error::Unavailable { .. })),
        "{refused:?}"
    );
    add_agent(&world, store, &second).await.unwrap();
    // Its answer is not the one that is kept.
    store
        .answer_request(&first, 200, "of the first")
        .await
        .unwrap();
    store
        .answer_request(&second, 200, "of the second")
        .await
        .unwrap();
    let answered = Claimed::Answered {
        status: 200,
        body: "of the second".to_owned(),
    };
    assert_eq!(claim(store, workspace, 1).await, answered);
    let filter = Default::default();
    let range = manyhands_store::listing::Range {
        after: None,
        order: manyhands_protocol::page::Order::Desc,
        limit: 9,
    };
    let agents = store.list_agents(workspace, &filter, &range).await.unwrap();
    let made = agents
        .iter()
        .filter(|agent| agent.definition.name == "made once");
    assert_eq!(made.count(), 1);
}

async fn api_6_an_answer_is_kept_for_a_day(bed: Bed) {
    let world = World::new(bed).await;
    let (store, workspace) = (&world.store, &world.workspace);
    let first = granted(claim(store, workspace, 1).await);
    store.answer_request(&first, 200, "{}").await.unwrap();
    world.bed.clock.advance(KEPT - Duration::from_secs(1));
    let old = granted(claim(store, workspace, 2).await);
    store.answer_request(&old, 200, "{}").await.unwrap();
    assert!(matches!(
        claim(store, workspace, 1).await,
        Claimed::Answered { .. }
    ));
    world.bed.clock.advance(Duration::from_secs(1));
    let again = store.claim_request(workspace, [1; 32], [9; 32]).await;
    let again = granted(again.unwrap());
    assert_ne!(again, first);
    assert!(matches!(
        claim(store, workspace, 2).await,
        Claimed::Answered { .. }
    ));

    // Whoever claims removes what is outdated, also of others.
    world.bed.clock.advance(2 * KEPT);
    granted(claim(store, workspace, 3).await);
    world
        .bed
        .sql("DELETE FROM idempotent_requests WHERE created_at > 0 AND status IS NULL")
        .await;
    world
        .bed
        .sql("INSERT INTO workspaces (id, slot, created_at) SELECT 'left', 'left', 1 FROM idempotent_requests")
        .await;
    let left = store.list_workspaces().await;
    assert!(left.is_ok_and(|all| all.len() == 1), "no row is left");
}
