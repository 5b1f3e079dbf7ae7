use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use manyhands_hands::provider::fake::Fake;
use manyhands_store::Database;
use manyhands_testkit::http::{Answer, Client};
use secrecy::ExposeSecret;

use super::*;
use crate::config::{Config, Flags};
use crate::server::{Overrides, Server};

/// A path of the route, with ids of the right kind that nobody has.
fn concrete(path: &str) -> String {
    path.replace("{agent_id}", "agent_01none")
        .replace("{environment_id}", "env_01none")
        .replace("{session_id}", "sesn_01none")
        .replace("{thread_id}", "sthr_01none")
        .replace("{resource_id}", "sesrsc_01none")
        .replace("{vault_id}", "vlt_01none")
        .replace("{credential_id}", "vcrd_01none")
        .replace("{file_id}", "file_01none")
        .replace("{model_id}", "no-model")
        .replace("{key_id}", "apikey_01none")
}

async fn ask(client: &Client, route: &Route) -> Answer {
    let path = concrete(route.path);
    let body = if route.method == Method::POST && !route.path.ends_with("/archive") {
        "{}"
    } else {
        ""
    };
    client
        .send(route.method.clone(), &path, body)
        .await
        .expect("an answer")
}

/// API-1, API-2, HT-1, HT-9: walks the table with each kind of caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_1_every_route_is_closed_to_strangers() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::load(Flags {
        listen: Some("127.0.0.1:0".parse().expect("an address")),
        data_dir: Some(dir.path().to_owned()),
        ..Flags::default()
    })
    .expect("a configuration");
    config.database = Database::Sqlite {
        directory: dir.path().to_owned(),
    };
    let overrides = Overrides {
        hands: Some(Arc::new(Fake::new())),
        ..Overrides::default()
    };
    let server = Server::start(config, overrides).await.expect("a server");
    let url = format!("http://{}", server.address());
    let key = server.first_key().expect("a key").expose_secret();
    let full = Client::with_key(&url, key);
    let no_beta = full.clone().without("anthropic-beta");
    let other_beta = no_beta
        .clone()
        .header("anthropic-beta", "dreaming-2026-04-21");
    let no_key = full.clone().without("authorization");
    let wrong_key = full.clone().header("authorization", "Bearer mh_key_wrong");

    let table = table();
    assert!(table.len() > 30);
    for route in &table {
        let name = format!("{} {}", route.method, route.path);
        if route.access == Open {
            assert_eq!(ask(&no_key, route).await.status, 200, "{name}");
            continue;
        }
        for stranger in [&no_key, &wrong_key] {
            ask(stranger, route)
                .await
                .error(401, "authentication_error");
        }
        if route.access == Beta {
            for client in [&no_beta, &other_beta] {
                let message = ask(client, route).await.error(404, "not_found_error");
                assert!(message.contains("anthropic-beta"), "{name}: {message}");
            }
        }
        let answer = ask(&full, route).await;
        if route.path.contains('{') && !(route.method == Method::POST && answer.status == 400) {
            let message = answer.error(404, "not_found_error");
            assert!(!message.contains("01none"), "{name}: {message}");
        } else {
            assert!(matches!(answer.status, 200 | 400), "{name}: {answer}");
        }
        assert!(answer.header("anthropic-workspace-id").is_some(), "{name}");
    }
    server.stop().await;
}

/// OPS-2: a panic is one request's end.
#[tokio::test]
async fn ops_2_a_panic_is_an_envelope() {
    use tower::ServiceExt;
    async fn broken() -> &'static str {
        panic!("with what the request held")
    }
    let router: Router = Router::new()
        .route("/", get(broken))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(finish));
    let request = Request::builder()
        .uri("/")
        .body(axum::body::Body::empty())
        .expect("a request");
    let response = router.oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let id: HeaderValue = response.headers()[HeaderName::from_static("request-id")].clone();
    let body = axum::body::to_bytes(response.into_body(), 10_000)
        .await
        .expect("a body");
    let body = String::from_utf8(body.to_vec()).expect("text");
    assert!(
        body.contains("api_error") && body.contains(id.to_str().expect("text")),
        "{body}"
    );
    assert!(!body.contains("held"), "{body}");
}
