//! Servers with a part of the work, and servers on their way out.

use std::path::Path;
use std::sync::Arc;

use manyhands_hands::provider::fake::Fake;
use manyhands_server::{Config, Overrides, Server};
use manyhands_store::{Database, Role};
use manyhands_testkit::model::Reply;
use manyhands_testkit::postgres;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::app::{TestApp, admitted, client, config, message, surroundings};

async fn start(config: &Config) -> Server {
    let overrides = Overrides {
        hands: Some(Arc::new(Fake::new())),
        ..Overrides::default()
    };
    let server = Server::start(config.clone(), overrides).await;
    server.expect("it starts")
}

/// runtime ER-13, AR-2: a message at a server that wakes nobody is answered by one that takes no requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ops_1_each_role_does_its_part() {
    let (dir, model) = surroundings().await;
    let database = postgres::Database::create().await;
    let url = SecretString::from(database.url());
    let all = config(&dir, Database::Postgres { url }, &model);
    let of = |role| Config {
        role,
        ..all.clone()
    };
    let brain = start(&of(Role::Brain)).await;
    assert!(brain.first_key().is_none(), "it opens no door");
    let api = start(&of(Role::Api)).await;
    let (key, asked) = admitted(&api);
    let worked = client(&brain, &key);

    let ready = asked.get("/readyz").await.ok();
    assert_eq!(
        ready,
        json!({"status": "ready", "role": "api", "checks": {"store": "ok", "key": "ok", "vaults": "ok"}})
    );
    let ready = worked.get("/readyz").await.ok();
    assert_eq!(
        ready,
        json!({"status": "ready", "role": "brain", "checks": {"store": "ok", "sandbox": "ok", "vaults": "ok"}})
    );
    worked.get("/healthz").await.ok();
    assert_eq!(worked.get("/metrics").await.status, 200);
    worked.get("/v1/agents").await.error(404, "not_found_error");

    model.push(Reply::text("From afar."));
    let agent = json!({"name": "a", "model": "claude-x"});
    let agent = asked.make("/v1/agents", &agent).await;
    let path = format!("/v1/sessions/{}", asked.session_of(&agent).await);
    let mut stream = asked.stream(&format!("{path}/events/stream")).await;
    let events = json!({"events": [message("hello")]});
    asked.post(&format!("{path}/events"), &events).await.ok();
    let answer = stream.until("agent.message").await;
    assert!(format!("{answer:?}").contains("From afar."), "{answer:?}");
    stream.until("session.status_idle").await;
    asked.delete(&path).await.ok();
    model.assert_clean();
    api.stop().await;
    brain.stop().await;
}

/// The file with a server's address is there for commands, and names a server that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_one_data_directory_leave_each_others_files_alone() {
    let (dir, model) = surroundings().await;
    let database = postgres::Database::create().await;
    let url = SecretString::from(database.url());
    let config = config(&dir, Database::Postgres { url }, &model);
    // Both at once: on an empty database one of them makes the key.
    let (first, second) = tokio::join!(start(&config), start(&config));
    let keys = [&first, &second].map(Server::first_key);
    let key = keys.into_iter().flatten().next().expect("a key");
    assert_eq!(keys.iter().flatten().count(), 1);
    let file = std::fs::read_to_string(dir.path().join("api-key")).expect("a file");
    assert_eq!(file.trim(), key.expose_secret());
    for server in [&first, &second] {
        client(server, key.expose_secret())
            .get("/v1/agents")
            .await
            .ok();
    }
    let address = |path: &Path| std::fs::read_to_string(path.join("address"));
    let (named, other) = match address(dir.path()).expect("a file").trim() {
        text if text.ends_with(&first.address().to_string()) => (first, second),
        _ => (second, first),
    };
    other.stop().await;
    assert!(address(dir.path()).is_ok(), "its server runs");
    named.stop().await;
    assert!(address(dir.path()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ops_1_a_server_on_its_way_out_is_not_ready_and_serves() {
    let app = TestApp::sqlite().await;
    app.client.get("/readyz").await.ok();
    app.server.drain();
    let ready = app.client.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (503, &json!("stopping"))
    );
    app.model.push(Reply::text("Still here."));
    let session = app.session().await;
    app.turn(&session, "hello").await;
    let agents = app.client.get("/v1/agents").await;
    assert_eq!(
        (agents.status, agents.header("connection")),
        (200, Some("close"))
    );
    app.end().await;
}
