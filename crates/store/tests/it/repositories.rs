//! Repositories of sessions: made with them, gone with them, and only the token changes.

use manyhands_protocol::page::Order;
use manyhands_protocol::repository::{Checkout, Resource};
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{ResourceId, SessionId, WorkspaceId};
use manyhands_store::audit::{Act, Action, Actor, AuditFilter};
use manyhands_store::files::Unmounted;
use manyhands_store::listing::Range;
use manyhands_store::repositories::{NewRepository, Rotated};
use manyhands_store::verify::{Source, Told, verify};
use manyhands_store::{Belongings, Change, Created};

use crate::bed::*;

contract!(
    gh_6_a_repository_comes_and_goes_with_its_session,
    gh_6_a_token_is_rotated_and_nothing_else,
    api_2_a_foreign_repository_is_not_there,
);

fn new(name: &str, token: Option<&str>) -> NewRepository {
    NewRepository {
        id: ResourceId::generate(),
        url: format!("https://git.example.com/acme/{name}"),
        mount_path: format!("/workspace/{name}"),
        checkout: Some(Checkout::Branch {
            name: "main".to_owned(),
        }),
        token: token.map(str::to_owned),
    }
}

fn rotation(workspace: &WorkspaceId) -> Act {
    Act::new(workspace, Actor::Operator, Action::RepositoryUpdate)
}

impl World {
    async fn session_of(&self, repositories: Vec<NewRepository>) -> SessionId {
        let session = self.new_session(Change::default());
        let id = session.id.clone();
        let created = self
            .store
            .create_session_with(
                session,
                Belongings {
                    repositories,
                    ..Default::default()
                },
            )
            .await;
        assert_eq!(created, Ok(Created::Done));
        id
    }

    async fn tokens(&self, session: &SessionId) -> Vec<(String, Option<String>)> {
        let found = self.store.repositories(session).await.unwrap();
        assert!(found.iter().all(|it| it.workspace == self.workspace));
        let token = |it: manyhands_store::repositories::RepositoryRecord| {
            (it.resource.mount_path, it.token)
        };
        found.into_iter().map(token).collect()
    }
}

/// runtime GH-6, UP-8: they are listed with the session's resources, cannot be taken away, and go with the session.
async fn gh_6_a_repository_comes_and_goes_with_its_session(bed: Bed) {
    let world = World::new(bed).await;
    let (b, a) = (new("b", Some("sealed")), new("a", None));
    let id = b.id.clone();
    let session = world.session_of(vec![b.clone(), a]).await;
    let expected = [
        ("/workspace/a".to_owned(), None),
        ("/workspace/b".to_owned(), Some("sealed".to_owned())),
    ];
    assert_eq!(world.tokens(&session).await, expected);
    let all = Range {
        after: None,
        order: Order::Asc,
        limit: 10,
    };
    let listed = world.store.list_resources(&session, &all).await.unwrap();
    assert_eq!(listed.len(), 2);
    let found = world.store.resource(&session, &id).await.unwrap();
    let Some(Resource::Repository(found)) = found else {
        panic!("{found:?}")
    };
    assert_eq!((found.url, found.checkout), (b.url, b.checkout));
    assert!(
        world
            .store
            .mounted_files(&session)
            .await
            .unwrap()
            .is_empty()
    );
    let removed = world
        .store
        .unmount_file(&world.workspace, &session, &id)
        .await;
    assert_eq!(removed, Ok(Unmounted::NoFile));
    let source = Source::Database(world.bed.database.clone());
    let mut damaged = 0;
    let verified = verify(&source, &mut |told| {
        damaged += usize::from(matches!(told, Told::Damage(_)));
    })
    .await;
    assert!(verified.unwrap().resources >= 2);
    assert_eq!(damaged, 0);

    let delete = Change {
        delete: true,
        ..Change::default()
    };
    world.change(&session, delete).await;
    assert_eq!(world.tokens(&session).await, []);
    assert_eq!(world.store.resource(&session, &id).await, Ok(None));
}

async fn gh_6_a_token_is_rotated_and_nothing_else(bed: Bed) {
    let world = World::new(bed).await;
    let (one, other) = (new("one", None), new("other", Some("other's")));
    let id = one.id.clone();
    let session = world.session_of(vec![one, other]).await;
    let before = world.store.resource(&session, &id).await.unwrap();
    let Some(Resource::Repository(before)) = before else {
        panic!("{before:?}")
    };
    world.bed.clock.advance(std::time::Duration::from_secs(5));
    let rotated = world
        .store
        .rotate_repository(
            rotation(&world.workspace),
            &session,
            &id,
            "second".to_owned(),
        )
        .await;
    let mut expected = before.clone();
    expected.updated_at = world.bed.clock.now();
    assert_ne!(expected.updated_at, before.updated_at);
    assert_eq!(rotated, Ok(Rotated::Done(expected.clone())));
    let found = world.store.resource(&session, &id).await;
    assert_eq!(found, Ok(Some(Resource::Repository(expected))));
    let tokens = [
        ("/workspace/one".to_owned(), Some("second".to_owned())),
        ("/workspace/other".to_owned(), Some("other's".to_owned())),
    ];
    assert_eq!(world.tokens(&session).await, tokens);
    let rows = world.store.list_audit(&AuditFilter::default(), 10).await;
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].action, "repository.update");

    let missing = world
        .store
        .rotate_repository(
            rotation(&world.workspace),
            &session,
            &ResourceId::generate(),
            "x".to_owned(),
        )
        .await;
    assert_eq!(missing, Ok(Rotated::Missing));

    world.archive_session(&session).await;
    let ended = world
        .store
        .rotate_repository(
            rotation(&world.workspace),
            &session,
            &id,
            "third".to_owned(),
        )
        .await;
    assert_eq!(ended, Ok(Rotated::Ended));
    assert_eq!(world.tokens(&session).await, tokens);
}

async fn api_2_a_foreign_repository_is_not_there(bed: Bed) {
    let world = World::new(bed).await;
    let repository = new("tools", Some("sealed"));
    let id = repository.id.clone();
    let (session, elsewhere) = (
        world.session_of(vec![repository]).await,
        world.session().await,
    );
    let stranger = WorkspaceId::generate();
    for (workspace, session) in [(&stranger, &session), (&world.workspace, &elsewhere)] {
        let rotated = world
            .store
            .rotate_repository(rotation(workspace), session, &id, "x".to_owned())
            .await;
        assert_eq!(rotated, Ok(Rotated::Missing));
    }
    let tokens = world.tokens(&session).await;
    assert_eq!(tokens[0].1.as_deref(), Some("sealed"));
}
