use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;

use super::*;
use crate::http::{Answer, Client};

fn registered(authentication: Authentication) -> Registered {
    Registered {
        id: "id one".to_owned(),
        secret: (authentication != Authentication::None).then(|| "s&cret é".to_owned()),
        authentication,
    }
}

async fn ask(server: &AuthorizationServer, more: &[(&str, &str)], basic: Option<&str>) -> Answer {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.extend_pairs(more);
    let mut client = Client::new(&format!("http://{}", server.address()))
        .header("content-type", "application/x-www-form-urlencoded");
    if let Some(pair) = basic {
        let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
        client = client.header("authorization", &value);
    }
    let sent = client.send(Method::POST, "/token", form.finish()).await;
    sent.expect("an answer")
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_second_use_ends_the_grant() {
    let server = AuthorizationServer::start(registered(Authentication::None)).await;
    let grant = server.grant();
    let id = ("client_id", "id one");
    let first = ask(
        &server,
        &[id, ("refresh_token", &grant.refresh_token)],
        None,
    )
    .await;
    let second = first.json();
    assert_eq!(
        (first.status, second["token_type"].as_str()),
        (200, Some("Bearer"))
    );
    let access = second["access_token"].as_str().expect("a token");
    assert!(server.admits(access) && server.admits(&grant.access_token));
    server.expire(&grant.access_token);
    assert!(!server.admits(&grant.access_token));
    let again = ask(
        &server,
        &[id, ("refresh_token", &grant.refresh_token)],
        None,
    )
    .await;
    assert_eq!(
        (again.status, &again.json()["error"]),
        (400, &"invalid_grant".into())
    );
    assert!(!server.admits(access), "the grant is gone");
    let newer = second["refresh_token"].as_str().expect("a token");
    let newer = ask(&server, &[id, ("refresh_token", newer)], None).await;
    assert_eq!(newer.status, 400);
    assert_eq!((server.asked(), server.granted()), (3, 1));
}

#[tokio::test]
async fn clients_prove_who_they_are_in_their_one_way() {
    let (id, secret) = (("client_id", "id one"), ("client_secret", "s&cret é"));
    let basic = "id+one:s%26cret+%C3%A9";
    for (authentication, form, authorization, status) in [
        (Authentication::None, vec![id], None, 200),
        (Authentication::None, vec![], None, 401),
        (Authentication::None, vec![id, secret], None, 401),
        (Authentication::None, vec![id], Some(basic), 401),
        (Authentication::Post, vec![id, secret], None, 200),
        (Authentication::Post, vec![id], None, 401),
        (
            Authentication::Post,
            vec![id, ("client_secret", "x")],
            None,
            401,
        ),
        (Authentication::Post, vec![id, secret], Some(basic), 401),
        (Authentication::Basic, vec![], Some(basic), 200),
        (Authentication::Basic, vec![], Some("id one:s&cret é"), 401),
        (Authentication::Basic, vec![], None, 401),
        (Authentication::Basic, vec![id, secret], Some(basic), 401),
    ] {
        let server = AuthorizationServer::start(registered(authentication)).await;
        let grant = server.grant();
        let form = [form, vec![("refresh_token", &grant.refresh_token)]].concat();
        let answer = ask(&server, &form, authorization).await;
        assert_eq!(
            answer.status, status,
            "{authentication:?} {form:?} {authorization:?}"
        );
        assert_eq!(server.problems().is_empty(), status == 200);
    }
}

#[tokio::test]
async fn requests_are_as_the_rfc_has_them() {
    let server = AuthorizationServer::start(registered(Authentication::None)).await;
    let grant = server.grant();
    let (id, token) = (
        ("client_id", "id one"),
        ("refresh_token", grant.refresh_token.as_str()),
    );
    for (form, problem) in [
        (vec![id, token, token], "refresh_token came twice"),
        (vec![id], "no refresh_token"),
        (vec![id, token, ("audience", "x")], "the parameter audience"),
        (vec![id, ("refresh_token", "x")], "an unknown refresh token"),
    ] {
        assert_eq!(ask(&server, &form, None).await.status, 400);
        let problems = server.problems();
        assert!(
            problems.last().is_some_and(|last| last.contains(problem)),
            "{problems:?}"
        );
    }
    let asked = ask(
        &server,
        &[id, token, ("scope", "a b"), ("resource", "https://a")],
        None,
    )
    .await;
    assert_eq!(asked.status, 200);
    assert_eq!(server.last()["scope"], "a b");
}
