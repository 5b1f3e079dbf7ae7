//! The stores that sessions have.

use manyhands_protocol::SessionId;
use manyhands_protocol::memory::{Access, MemoryStoreResource};
use manyhands_protocol::session::SessionFilter;
use manyhands_store::memory::{Attach, AttachRefusal};
use manyhands_store::{Belongings, Change, Created};

use super::*;

contract!(
    me_12_a_session_has_its_stores_as_they_were_called,
    me_12_a_store_that_cannot_be_had_makes_no_session,
    me_15_a_session_writes_only_where_it_may,
    me_11_what_a_session_has_stays_when_the_store_goes,
    up_8_a_deleted_session_leaves_what_it_wrote,
    li_3_sessions_are_found_by_their_stores,
);

fn attach(store: &MemoryStore, access: Access) -> Attach {
    Attach {
        store: store.id.clone(),
        access,
        instructions: None,
    }
}

impl World {
    async fn try_session(&self, memory_stores: Vec<Attach>) -> (SessionId, Created) {
        let session = self.new_session(Change::default());
        let id = session.id.clone();
        let belongings = Belongings {
            memory_stores,
            ..Default::default()
        };
        let created = self.store.create_session_with(session, belongings).await;
        (id, created.unwrap())
    }

    async fn session_with_stores(&self, memory_stores: Vec<Attach>) -> SessionId {
        let (id, created) = self.try_session(memory_stores).await;
        assert_eq!(created, Created::Done);
        id
    }

    async fn attached_to(&self, session: &SessionId) -> Vec<MemoryStoreResource> {
        self.store.session_memory_stores(session).await.unwrap()
    }
}

fn agent_of(session: &SessionId) -> Actor {
    Actor::SessionActor {
        session_id: session.clone(),
    }
}

async fn me_12_a_session_has_its_stores_as_they_were_called(bed: Bed) {
    let world = World::new(bed).await;
    let (one, two) = (
        world.memory_store("User Notes").await,
        world.memory_store("user-notes").await,
    );
    let wanted = vec![
        Attach {
            instructions: Some("Read this first.\0".to_owned()),
            ..attach(&two, Access::ReadOnly)
        },
        attach(&one, Access::ReadWrite),
    ];
    let session = world.session_with_stores(wanted).await;
    let renamed = world
        .store
        .update_memory_store(&world.workspace, &one.id, |store| {
            let store = MemoryStore {
                name: "other".to_owned(),
                description: "other".to_owned(),
                ..store.clone()
            };
            Ok::<_, ()>(Some(store))
        });
    renamed.await.unwrap().unwrap().unwrap();
    let expected = vec![
        MemoryStoreResource {
            kind: Default::default(),
            memory_store_id: two.id.clone(),
            access: Access::ReadOnly,
            instructions: Some("Read this first.\0".to_owned()),
            name: "user-notes".to_owned(),
            description: "what is in user-notes".to_owned(),
            mount_path: "/mnt/memory/user-notes".to_owned(),
        },
        MemoryStoreResource {
            kind: Default::default(),
            memory_store_id: one.id.clone(),
            access: Access::ReadWrite,
            instructions: None,
            name: "User Notes".to_owned(),
            description: "what is in User Notes".to_owned(),
            mount_path: "/mnt/memory/user-notes-2".to_owned(),
        },
    ];
    assert_eq!(world.attached_to(&session).await, expected);
    let plain = world.session().await;
    assert_eq!(world.attached_to(&plain).await, []);
    let both = world
        .store
        .memory_stores_of(&[plain, session.clone()])
        .await;
    let expected: Vec<_> = expected
        .into_iter()
        .map(|resource| (session.clone(), resource))
        .collect();
    assert_eq!(both, Ok(expected));
}

async fn me_12_a_store_that_cannot_be_had_makes_no_session(bed: Bed) {
    let world = World::new(bed).await;
    let (fine, archived) = (
        world.memory_store("fine").await,
        world.memory_store("archived").await,
    );
    world.archive(&archived).await;
    let foreign = MemoryStore {
        id: MemoryStoreId::generate(),
        ..fine.clone()
    };
    let added = world
        .store
        .insert_memory_store(&WorkspaceId::generate(), &foreign)
        .await;
    added.unwrap();
    for (store, refusal) in [
        (&archived, AttachRefusal::Archived(1)),
        (&foreign, AttachRefusal::NoStore(1)),
    ] {
        let wanted = [&fine, store].map(|store| attach(store, Access::ReadWrite));
        let (id, created) = world.try_session(wanted.to_vec()).await;
        assert_eq!(created, Created::NotAttached(refusal));
        let found = world.store.session(&world.workspace, &id).await.unwrap();
        assert!(found.is_none());
        assert_eq!(world.attached_to(&id).await, []);
    }
}

async fn me_15_a_session_writes_only_where_it_may(bed: Bed) {
    let world = World::new(bed).await;
    let (mine, read, not_mine) = (
        world.memory_store("mine").await,
        world.memory_store("read").await,
        world.memory_store("not mine").await,
    );
    let wanted = vec![
        attach(&mine, Access::ReadWrite),
        attach(&read, Access::ReadOnly),
    ];
    let session = world.session_with_stores(wanted).await;
    let agent = agent_of(&session);
    let changes = |store: &MemoryStore| {
        let ids = [store.id.clone()];
        let store = world.store.clone();
        let workspace = world.workspace.clone();
        async move { store.memory_store_changes(&workspace, &ids).await.unwrap() }
    };
    let before = changes(&mine).await;
    assert_eq!(changes(&mine).await, before);
    let made = done(
        world
            .mutate_as(&mine, agent.clone(), create("/a", "x"))
            .await,
    );
    assert_ne!(
        changes(&mine).await,
        before,
        "others can see that it changed"
    );
    let versions = world.versions(&mine).await;
    assert_eq!(versions[0].created_by, Some(agent.clone()));
    let refused = world
        .mutate_as(&read, agent.clone(), create("/a", "x"))
        .await;
    assert_eq!(refused, Changed::ReadOnly);
    let refused = world
        .mutate_as(&not_mine, agent.clone(), create("/a", "x"))
        .await;
    assert_eq!(refused, Changed::NoStore);
    world.archive(&mine).await;
    let refused = world
        .mutate_as(&mine, agent.clone(), create("/b", "x"))
        .await;
    assert_eq!(refused, Changed::Archived);
    done(world.mutate_as(&mine, agent, delete(&made, None)).await);
}

async fn me_11_what_a_session_has_stays_when_the_store_goes(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let session = world
        .session_with_stores(vec![attach(&store, Access::ReadWrite)])
        .await;
    let had = world.attached_to(&session).await;
    let deleted = world.store.delete_memory_store(&world.workspace, &store.id);
    assert_eq!(deleted.await, Ok(true));
    assert_eq!(world.attached_to(&session).await, had);
    let refused = world
        .mutate_as(&store, agent_of(&session), create("/a", "x"))
        .await;
    assert_eq!(refused, Changed::NoStore);
}

async fn up_8_a_deleted_session_leaves_what_it_wrote(bed: Bed) {
    let world = World::new(bed).await;
    let store = world.memory_store("notes").await;
    let session = world
        .session_with_stores(vec![attach(&store, Access::ReadWrite)])
        .await;
    let agent = agent_of(&session);
    let made = done(
        world
            .mutate_as(&store, agent.clone(), create("/a", "x"))
            .await,
    );
    let delete_it = Change {
        delete: true,
        ..Change::default()
    };
    world.change(&session, delete_it).await;
    assert_eq!(world.attached_to(&session).await, []);
    assert_eq!(world.content(&store, "/a").await.as_deref(), Some("x"));
    assert_eq!(
        world.versions(&store).await[0].created_by,
        Some(agent.clone())
    );
    let late = world.mutate_as(&store, agent, delete(&made, None)).await;
    assert_eq!(
        late,
        Changed::NoStore,
        "a session that is gone writes nothing"
    );
}

async fn li_3_sessions_are_found_by_their_stores(bed: Bed) {
    let world = World::new(bed).await;
    let (one, two) = (
        world.memory_store("one").await,
        world.memory_store("two").await,
    );
    let first = world
        .session_with_stores(vec![attach(&one, Access::ReadWrite)])
        .await;
    world.bed.clock.advance(SECOND);
    let both = [&one, &two].map(|store| attach(store, Access::ReadOnly));
    let second = world.session_with_stores(both.to_vec()).await;
    world.bed.clock.advance(SECOND);
    world.session().await;
    for (store, expected) in [(&one, vec![&second, &first]), (&two, vec![&second])] {
        let filter = SessionFilter {
            memory_store_id: Some(store.id.clone()),
            ..Default::default()
        };
        let found = world
            .store
            .list_sessions(&world.workspace, &filter, &newest(9))
            .await;
        let found = found.unwrap();
        let ids: Vec<_> = found.iter().map(|record| &record.id).collect();
        assert_eq!(ids, expected);
    }
}
