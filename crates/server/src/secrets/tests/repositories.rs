//! Tokens of repositories.

use super::*;

/// runtime GH-4, GH-5; security CRED-9: a repository's own requests carry its token, and no others.
#[tokio::test]
async fn gh_5_a_repositorys_token_goes_to_its_own_requests_alone() {
    let world = World::new().await;
    let id = ResourceId::generate();
    let repository = |id: &ResourceId, name: &str, token: Option<String>| NewRepository {
        id: id.clone(),
        url: format!("https://git.example.com/acme/{name}"),
        mount_path: format!("/workspace/{name}"),
        checkout: Some(Checkout::Branch {
            name: "main".to_owned(),
        }),
        token,
    };
    let open = repository(&ResourceId::generate(), "open", None);
    let session = world
        .session(vec![repository(&id, "tools", None), open])
        .await;
    let place: Sealed<'_> = token_place(&world.workspace, &session, &id);
    let sealed = world
        .vaults
        .seal(&place, &"gh-token".into())
        .await
        .expect("sealed");
    let store = world.holder.store();
    let act = Act::new(&world.workspace, Actor::Operator, Action::RepositoryUpdate);
    let rotated = store.rotate_repository(act, &session, &id, sealed);
    rotated.await.expect("an answer");
    let target = |host: &str| Target::parse(host, Some(443)).expect(host);
    let attached = world.holder.attached(session.as_str()).await;
    let repositories = attached.expect("an answer").repositories;
    assert!(
        repositories.contains(&target("git.example.com")),
        "{repositories:?}"
    );
    let visit = async |session: &str, host: &str, path: &'static str| {
        let (target, path) = (target(host), http::uri::PathAndQuery::from_static(path));
        let visit = Visit {
            session,
            target: &target,
            method: &http::Method::GET,
            path: &path,
        };
        match world.holder.repository(&visit).await.expect("an answer") {
            None => None,
            Some(Passage::Public) => Some("public".to_owned()),
            Some(Passage::With(basic)) => Some(basic.token.expose_secret().to_owned()),
        }
    };
    let own = session.as_str();
    let refs = "/acme/tools.git/info/refs?service=git-upload-pack";
    let token = Some("gh-token".to_owned());
    assert_eq!(visit(own, "git.example.com", refs).await, token);
    let public = "/acme/open/info/refs?service=git-upload-pack";
    assert_eq!(
        visit(own, "git.example.com", public).await.as_deref(),
        Some("public")
    );
    for (host, path) in [
        (
            "git.example.com",
            "/acme/other.git/info/refs?service=git-upload-pack",
        ),
        (
            "git.example.com",
            "/acme/tools.git/../other/info/refs?service=git-upload-pack",
        ),
        ("git.example.com:8443", refs),
        ("git.example.org", refs),
    ] {
        assert_eq!(visit(own, host, path).await, None, "{host} {path}");
    }
    let other = world.session(Vec::new()).await;
    assert_eq!(visit(other.as_str(), "git.example.com", refs).await, None);
    let row = (Some("git.example.com".to_owned()), Some(own.to_owned()));
    assert_eq!(world.rows(Action::RepositoryUse).await, [row]);
}
