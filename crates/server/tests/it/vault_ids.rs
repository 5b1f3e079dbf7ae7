//! The vaults of sessions (api §7.1, runtime LC-5, VA-8, VA-16).

use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    va_8_a_session_keeps_its_vaults_in_order,
    va_16_archived_and_deleted_vaults_take_no_new_sessions,
}

async fn vault(app: &TestApp) -> String {
    let made = app
        .client
        .post("/v1/vaults", &json!({"display_name": "mine"}))
        .await;
    id(&made.ok())
}

async fn body(app: &TestApp, vaults: &[&str]) -> Value {
    let (agent, environment) = (app.agent().await, app.environment().await);
    json!({"agent": agent, "environment_id": environment, "vault_ids": vaults})
}

async fn va_8_a_session_keeps_its_vaults_in_order(app: &TestApp) {
    let (one, two) = (vault(app).await, vault(app).await);
    let order = [two.as_str(), one.as_str()];
    let made = app
        .client
        .post("/v1/sessions", &body(app, &order).await)
        .await
        .ok();
    assert_eq!(made["vault_ids"], json!(order));
    let session = id(&made);
    assert_eq!(app.retrieve(&session).await["vault_ids"], json!(order));
    let listed = app.client.get("/v1/sessions").await.ok();
    assert_eq!(listed["data"][0]["vault_ids"], json!(order));
    let path = format!("/v1/sessions/{session}");
    let renamed = app
        .client
        .post(&path, &json!({"title": "new", "metadata": {"a": "b"}}))
        .await;
    assert_eq!(
        renamed.ok()["vault_ids"],
        json!(order),
        "a change keeps them"
    );
    // LC-13
    let refused = app.client.post(&path, &json!({"vault_ids": [one]})).await;
    let refused = refused.error(400, "invalid_request_error");
    assert_eq!(refused, "vault_ids: cannot be changed");
    // UP-8, VA-16: a running session goes on with what it was given.
    app.client.delete(&format!("/v1/vaults/{one}")).await.ok();
    assert_eq!(app.retrieve(&session).await["vault_ids"], json!(order));
}

async fn va_16_archived_and_deleted_vaults_take_no_new_sessions(app: &TestApp) {
    let (kept, archived, deleted) = (vault(app).await, vault(app).await, vault(app).await);
    app.client
        .post_empty(&format!("/v1/vaults/{archived}/archive"))
        .await
        .ok();
    app.client
        .delete(&format!("/v1/vaults/{deleted}"))
        .await
        .ok();
    let create = body(app, &[&kept, &archived]).await;
    let refused = app.client.post("/v1/sessions", &create).await;
    refused.refused("vault_ids[1]: the vault is archived");
    assert_eq!(
        refused.json()["error"]["details"]["error_code"],
        "vault_archived"
    );
    let create = body(app, &[&deleted]).await;
    let refused = app.client.post("/v1/sessions", &create).await;
    assert_eq!(refused.error(404, "not_found_error"), "vault not found");
    let listed = app.client.get("/v1/sessions").await.ok();
    assert_eq!(listed["data"], json!([]), "nothing is stored");
    let many: Vec<String> = (0..50).map(|n| format!("vlt_{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = app
        .client
        .post("/v1/sessions", &body(app, &many).await)
        .await;
    refused.error(404, "not_found_error");
}
