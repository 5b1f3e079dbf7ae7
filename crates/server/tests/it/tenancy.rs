//! Workspaces, roles, rate limits, and requests that may be repeated, through HTTP.

use std::num::NonZeroU32;
use std::time::Duration;

use manyhands_server::Rates;
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::http::Client;
use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    api_1_roles_see_change_and_rule,
    api_2_a_workspace_sees_nothing_of_another,
    api_3_of_two_keys_the_narrower_one_counts,
    ops_3_the_operator_makes_workspaces_and_keys_and_it_is_told,
    api_6_a_repeated_request_gets_the_first_answer,
    api_6_requests_at_once_have_one_effect,
    api_6_what_cannot_be_repeatable_is_refused,
}

/// A client with a key that this one makes.
pub(crate) async fn keyed(app: &TestApp, maker: &Client, body: Value) -> Client {
    let made = maker.post("/v1/manyhands/keys", &body).await.ok();
    Client::with_key(&app.url(), made["key"].as_str().expect("a key"))
}

async fn workspace(app: &TestApp, name: &str) -> String {
    let body = json!({"name": name});
    id(&app
        .client
        .post("/v1/manyhands/workspaces", &body)
        .await
        .ok())
}

async fn api_1_roles_see_change_and_rule(app: &TestApp) {
    let agent = app.agent().await;
    let path = format!("/v1/agents/{agent}");
    let reader = keyed(app, &app.client, json!({"name": "r", "role": "read_only"})).await;
    let developer = keyed(app, &app.client, json!({"name": "d"})).await;
    let admin = keyed(app, &app.client, json!({"name": "a", "role": "admin"})).await;
    let rename = json!({"name": "renamed"});
    reader.get(&path).await.ok();
    let refused = reader.post(&path, &rename).await;
    assert_eq!(
        refused.json()["error"]["details"]["error_code"],
        "api_key_scope_missing"
    );
    let message = refused.error(403, "permission_error");
    assert!(
        message.contains("developer") && message.contains("read_only"),
        "{message}"
    );
    reader
        .delete("/v1/files/file_01none")
        .await
        .error(403, "permission_error");
    developer.post(&path, &rename).await.ok();
    developer
        .get("/v1/manyhands/keys")
        .await
        .error(403, "permission_error");
    let more = json!({"name": "more", "role": "admin"});
    developer
        .post("/v1/manyhands/keys", &more)
        .await
        .error(403, "permission_error");
    let listed = admin.get("/v1/manyhands/keys").await.ok();
    let roles: Vec<&str> = listed["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| key["role"].as_str().expect("a role"))
        .collect();
    assert_eq!(roles, ["admin", "read_only", "developer", "admin"]);
    for (body, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "x", "role": "owner"}), "role"),
        (
            json!({"name": "x", "environment_id": "agent_1"}),
            "environment_id",
        ),
        (
            json!({"name": "x", "role": "admin", "environment_id": "env_01none"}),
            "role",
        ),
        (
            json!({"name": "x", "workspace_id": "env_1"}),
            "workspace_id",
        ),
    ] {
        app.client
            .post("/v1/manyhands/keys", &body)
            .await
            .refused(field);
    }
    for body in [
        json!({"name": "x", "environment_id": "env_01none"}),
        json!({"name": "x", "workspace_id": "wrkspc_01none"}),
    ] {
        app.client
            .post("/v1/manyhands/keys", &body)
            .await
            .error(404, "not_found_error");
    }
}

async fn api_2_a_workspace_sees_nothing_of_another(app: &TestApp) {
    let other = workspace(app, "other").await;
    let admin = json!({"name": "a", "role": "admin", "workspace_id": other});
    let admin = keyed(app, &app.client, admin).await;
    let agent = app.agent().await;
    let answer = admin.get("/v1/agents").await;
    assert_eq!(answer.header("anthropic-workspace-id"), Some(&*other));
    assert_eq!(answer.ok()["data"], json!([]));
    let path = format!("/v1/agents/{agent}");
    let foreign = admin.get(&path).await.error(404, "not_found_error");
    let missing = admin.get("/v1/agents/agent_01none").await;
    assert_eq!(foreign, missing.error(404, "not_found_error"));
    let name = json!({"name": "x"});
    admin
        .post("/v1/manyhands/workspaces", &name)
        .await
        .error(403, "permission_error");
    admin
        .get("/v1/manyhands/workspaces")
        .await
        .error(403, "permission_error");
    // Also an admin names no workspace but its own.
    let own = app.client.get("/v1/agents").await;
    let own = own.header("anthropic-workspace-id").expect("a workspace");
    let query = format!("/v1/manyhands/keys?workspace_id={own}");
    admin.get(&query).await.error(404, "not_found_error");
    let keys = admin.get("/v1/manyhands/keys").await.ok();
    assert_eq!(keys["data"].as_array().map(Vec::len), Some(1));
    let key = app.client.get("/v1/manyhands/keys").await.ok();
    let key = format!("/v1/manyhands/keys/{}", id(&key["data"][0]));
    admin.delete(&key).await.error(404, "not_found_error");
    // The operator does.
    let query = format!("/v1/manyhands/keys?workspace_id={other}");
    let keys = app.client.get(&query).await.ok();
    let key = format!("/v1/manyhands/keys/{}", id(&keys["data"][0]));
    app.client.delete(&key).await.error(404, "not_found_error");
    let revoked = app
        .client
        .delete(&format!("{key}?workspace_id={other}"))
        .await;
    assert!(revoked.ok()["revoked_at"].is_string());
    admin
        .get("/v1/agents")
        .await
        .error(401, "authentication_error");
}

async fn api_3_of_two_keys_the_narrower_one_counts(app: &TestApp) {
    let agents = "/v1/agents";
    let body = json!({"name": "a", "model": "claude-opus-4-8"});
    let secret = async |body: Value| {
        let made = app.client.post("/v1/manyhands/keys", &body).await.ok();
        made["key"].as_str().expect("a key").to_owned()
    };
    let reader = secret(json!({"name": "r", "role": "read_only"})).await;
    for client in [
        app.client.clone().header("x-api-key", &reader),
        Client::with_key(&app.url(), &reader).header("x-api-key", &app.key),
    ] {
        client.get(agents).await.ok();
        client
            .post(agents, &body)
            .await
            .error(403, "permission_error");
    }
    let session = app.session().await;
    let environment = app.retrieve(&session).await["environment_id"].clone();
    let worker = secret(json!({"name": "w", "environment_id": environment})).await;
    let both = app.client.clone().header("x-api-key", &worker);
    both.get(agents).await.error(403, "permission_error");
    both.get(&format!("/v1/sessions/{session}")).await.ok();
    let elsewhere = workspace(app, "other").await;
    let foreign = secret(json!({"name": "a", "role": "admin", "workspace_id": elsewhere})).await;
    let both = app.client.clone().header("x-api-key", &foreign);
    both.get(agents).await.error(401, "authentication_error");
    let other = json!({"name": "w", "environment_id": app.environment().await});
    let two = Client::with_key(&app.url(), &worker).header("x-api-key", &secret(other).await);
    let path = format!("/v1/sessions/{session}");
    two.get(&path).await.error(401, "authentication_error");
}

async fn ops_3_the_operator_makes_workspaces_and_keys_and_it_is_told(app: &TestApp) {
    let made = workspace(app, "team").await;
    let path = format!("/v1/manyhands/workspaces/{made}");
    let renamed = app.client.post(&path, &json!({"name": "crew"})).await.ok();
    assert_eq!(
        (&renamed["name"], &renamed["type"]),
        (&json!("crew"), &json!("workspace"))
    );
    let missing = "/v1/manyhands/workspaces/wrkspc_01none";
    app.client
        .post(missing, &json!({"name": "x"}))
        .await
        .error(404, "not_found_error");
    let all = app.client.get("/v1/manyhands/workspaces").await.ok();
    let names: Vec<&Value> = all["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["default", "crew"]);
    keyed(app, &app.client, json!({"name": "k", "workspace_id": made})).await;
    let rows = app
        .server
        .store()
        .list_audit(&Default::default(), 100)
        .await
        .expect("the rows");
    let told: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (&*row.action, &*row.workspace))
        .collect();
    assert_eq!(
        told[1..],
        [
            ("workspace.create", &*made),
            ("workspace.rename", &*made),
            ("key.create", &*made)
        ]
    );
    assert!(rows[1..].iter().all(|row| row.actor.starts_with("apikey_")));
}

fn repeatable(app: &TestApp, key: &str) -> Client {
    app.client.clone().header("idempotency-key", key)
}

async fn agents(app: &TestApp) -> usize {
    let listed = app.client.get("/v1/agents").await.ok();
    listed["data"].as_array().map_or(0, Vec::len)
}

async fn api_6_a_repeated_request_gets_the_first_answer(app: &TestApp) {
    let body = json!({"name": "once", "model": "claude-opus-4-8"});
    let client = repeatable(app, "one");
    let first = client.post("/v1/agents", &body).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = client.post("/v1/agents", &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("content-type"), Some("application/json"));
    assert_ne!(again.header("request-id"), first.header("request-id"));
    assert_eq!(again.ok(), first.ok());
    assert_eq!(agents(app).await, 1);
    let other = json!({"name": "other", "model": "claude-opus-4-8"});
    client
        .post("/v1/agents", &other)
        .await
        .error(422, "invalid_request_error");
    // Another route, another workspace's key, another key: another request.
    client
        .post("/v1/environments", &json!({"name": "e"}))
        .await
        .ok();
    repeatable(app, "two").post("/v1/agents", &body).await.ok();
    assert_eq!(agents(app).await, 2);
    let elsewhere = json!({"name": "d", "workspace_id": workspace(app, "other").await});
    let elsewhere = keyed(app, &app.client, elsewhere)
        .await
        .header("idempotency-key", "one");
    let theirs = elsewhere.post("/v1/agents", &body).await;
    assert_eq!(theirs.header("idempotent-replayed"), None);
    assert_ne!(theirs.ok()["id"], first.ok()["id"]);
    // What was refused and changed nothing is forgotten.
    let session = json!({"agent": first.ok()["id"], "environment_id": "env_01none"});
    let client = repeatable(app, "three");
    for _ in 0..2 {
        let refused = client.post("/v1/sessions", &session).await;
        assert!(
            refused.status >= 400 && refused.header("idempotent-replayed").is_none(),
            "{refused}"
        );
    }
    let session = json!({"agent": first.ok()["id"], "environment_id": app.environment().await});
    client.post("/v1/sessions", &session).await.ok();
    // Requests with nothing in them, and events.
    let made = client.post("/v1/sessions", &session).await;
    assert_eq!(made.header("idempotent-replayed"), Some("true"));
    let made = id(&made.ok());
    let path = format!("/v1/sessions/{made}/events");
    let events = json!({"events": [{"type": "user.interrupt"}]});
    let sent = client.post(&path, &events).await.ok();
    assert_eq!(client.post(&path, &events).await.ok(), sent);
    assert_eq!(app.events(&made).await.len(), 1);
    let path = format!("/v1/sessions/{made}/archive");
    let archived = client.post_empty(&path).await.ok();
    assert_eq!(client.post_empty(&path).await.ok(), archived);
}

async fn api_6_requests_at_once_have_one_effect(app: &TestApp) {
    let body = json!({"name": "once", "model": "claude-opus-4-8"});
    let client = repeatable(app, "at-once");
    let asked = (0..8).map(|_| client.post("/v1/agents", &body));
    let mut ids = Vec::new();
    for answer in futures::future::join_all(asked).await {
        if answer.status == 409 {
            assert_eq!(answer.header("x-should-retry"), Some("true"));
            assert_eq!(answer.header("retry-after"), Some("1"));
            answer.error(409, "conflict_error");
        } else {
            ids.push(id(&answer.ok()));
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(agents(app).await, 1);
}

async fn api_6_what_cannot_be_repeatable_is_refused(app: &TestApp) {
    let body = json!({"name": "k"});
    for (client, path) in [
        (repeatable(app, "one"), "/v1/manyhands/keys"),
        (repeatable(app, "two words"), "/v1/agents"),
        (repeatable(app, &"x".repeat(256)), "/v1/agents"),
        (
            repeatable(app, "one").header("content-type", "multipart/form-data; boundary=b"),
            "/v1/files",
        ),
    ] {
        client.post(path, &body).await.refused("idempotency-key");
    }
    // Where repeating does no harm it means nothing.
    let client = repeatable(app, "two words");
    client.get("/v1/agents").await.ok();
}

/// runtime RL-1, RL-2; security API-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rl_1_a_workspace_has_so_many_requests_a_minute() {
    let clock = TestClock::default();
    let number = |number| NonZeroU32::new(number).expect("not zero");
    let rates = Rates {
        creates: number(3),
        reads: number(5),
    };
    let app = TestApp::limited(rates, &clock).await;
    let other = workspace(&app, "other").await;
    let other = json!({"name": "a", "workspace_id": other});
    let other = keyed(&app, &app.client, other).await;
    app.agent().await;
    let body = json!({"name": "e"});
    let refused = app.client.post("/v1/environments", &body).await;
    assert_eq!(
        refused.header("anthropic-ratelimit-requests-limit"),
        Some("3")
    );
    assert_eq!(
        refused.header("anthropic-ratelimit-requests-remaining"),
        Some("0")
    );
    let reset = refused
        .header("anthropic-ratelimit-requests-reset")
        .unwrap_or_default();
    assert!(
        manyhands_protocol::Timestamp::parse(reset).is_ok(),
        "{reset}"
    );
    assert_eq!(refused.header("retry-after"), Some("20"));
    assert_eq!(
        refused.header("x-should-retry"),
        None,
        "clients repeat a 429 by themselves"
    );
    refused.error(429, "rate_limit_error");
    for left in ["4", "3", "2", "1", "0"] {
        let answer = app.client.get("/v1/environments").await;
        assert_eq!(
            answer.header("anthropic-ratelimit-requests-remaining"),
            Some(left)
        );
        assert_eq!(answer.ok()["data"], json!([]));
    }
    let refused = app.client.delete("/v1/environments/env_01none").await;
    refused.error(429, "rate_limit_error");
    other.post("/v1/environments", &body).await.ok();
    app.client.get("/healthz").await.ok();
    clock.advance(Duration::from_secs(20));
    app.client.post("/v1/environments", &body).await.ok();
    app.end().await;
}
