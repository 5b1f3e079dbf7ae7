//! Environments through HTTP (api §5).

use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    en_1_an_environment_has_an_exact_shape,
    en_3_an_update_merges_and_an_archived_one_refuses,
    en_5_an_environment_in_use_is_not_deleted,
    what_a_sandbox_cannot_be_is_refused,
    environments_are_paged,
}

/// runtime EN-1, CONFLICT-14
async fn en_1_an_environment_has_an_exact_shape(app: &TestApp) {
    let made = app
        .client
        .post(
            "/v1/environments",
            &json!({"name": "box", "metadata": {"a": "b"}}),
        )
        .await
        .ok();
    assert_eq!(
        made,
        json!({
            "id": made["id"], "type": "environment", "name": "box", "description": null,
            "config": {"type": "cloud", "networking": {"type": "unrestricted"},
                "packages": {"type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []}},
            "metadata": {"a": "b"}, "scope": "organization",
            "created_at": made["created_at"], "updated_at": made["created_at"], "archived_at": null,
        })
    );
    assert_eq!(
        app.client
            .get(&format!("/v1/environments/{}", id(&made)))
            .await
            .ok(),
        made
    );
    let explicit = json!({"name": "box", "description": "", "scope": "organization",
        "config": {"type": "cloud", "networking": {"type": "unrestricted"}, "packages": {"type": "packages", "pip": [], "apt": null}}});
    let second = app.client.post("/v1/environments", &explicit).await.ok();
    assert_eq!(
        (&second["config"], &second["description"]),
        (&made["config"], &json!(""))
    );
}

/// runtime EN-3, UP-11, LC-5
/// runtime EN-1, EN-5
async fn en_3_an_update_merges_and_an_archived_one_refuses(app: &TestApp) {
    let path = format!("/v1/environments/{}", app.environment().await);
    let before = app.client.get(&path).await.ok();
    assert_eq!(
        app.client
            .post(&path, &json!({"config": {"type": "cloud"}}))
            .await
            .ok(),
        before
    );
    let after = app
        .client
        .post(
            &path,
            &json!({"name": "crate", "description": "d", "metadata": {"k": "v"}}),
        )
        .await
        .ok();
    assert_eq!(
        (&after["name"], &after["description"], &after["metadata"]),
        (&json!("crate"), &json!("d"), &json!({"k": "v"}))
    );
    let cleared = app
        .client
        .post(&path, &json!({"description": null, "metadata": {"k": ""}}))
        .await
        .ok();
    assert_eq!(
        (&cleared["description"], &cleared["metadata"]),
        (&Value::Null, &json!({}))
    );
    let error = app
        .client
        .post(&path, &json!({"config": {"type": "self_hosted"}}))
        .await;
    error.error(400, "invalid_request_error");
    assert_eq!(
        error.json()["error"]["details"]["error_code"],
        "invalid_config_type_change"
    );

    let archived = app.client.post_empty(&format!("{path}/archive")).await.ok();
    assert_eq!(
        app.client.post_empty(&format!("{path}/archive")).await.ok(),
        archived
    );
    let error = app.client.post(&path, &json!({"name": "x"})).await;
    error.error(400, "invalid_request_error");
    assert_eq!(
        error.json()["error"]["details"]["error_code"],
        "environment_archived"
    );
    let body = json!({"agent": app.agent().await, "environment_id": archived["id"]});
    let error = app.client.post("/v1/sessions", &body).await;
    error.error(400, "invalid_request_error");
    assert_eq!(
        error.json()["error"]["details"]["error_code"],
        "environment_archived"
    );
}

/// runtime EN-5, UP-10, HT-13
async fn en_5_an_environment_in_use_is_not_deleted(app: &TestApp) {
    let environment = app.environment().await;
    let path = format!("/v1/environments/{environment}");
    let body = json!({"agent": app.agent().await, "environment_id": environment});
    let session = id(&app.client.post("/v1/sessions", &body).await.ok());
    let error = app.client.delete(&path).await;
    assert!(error.error(409, "conflict_error").contains("in use"));
    assert_eq!(error.header("x-should-retry"), Some("false"));
    app.client
        .delete(&format!("/v1/sessions/{session}"))
        .await
        .ok();
    let deleted = app.client.delete(&path).await.ok();
    assert_eq!(
        deleted,
        json!({"id": environment, "type": "environment_deleted"})
    );
    app.client.get(&path).await.error(404, "not_found_error");
    app.client.delete(&path).await.error(404, "not_found_error");
}

/// runtime EN-6
async fn what_a_sandbox_cannot_be_is_refused(app: &TestApp) {
    for (config, problem) in [
        (
            json!({"type": "self_hosted"}),
            "config.type: self_hosted is not supported",
        ),
        (
            json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["https://a.example"]}}),
            "config.networking.allowed_hosts[0]: must be a host like api.example.com or *.example.com: it has a scheme; name the host alone",
        ),
        (
            json!({"type": "cloud", "packages": {"pip": ["requests"]}, "networking": {"type": "limited"}}),
            "config.networking.allow_package_managers: must be true",
        ),
        (
            json!({"type": "cloud", "packages": {"pip": ["--pre"]}}),
            "config.packages.pip[0]: must be a name",
        ),
        // The hands of these stories install nothing, and say so before a session waits for it.
        (
            json!({"type": "cloud", "packages": {"pip": ["requests"]}}),
            "config.packages.pip: pip packages cannot be installed here",
        ),
        (
            json!({"type": "cloud", "networking": {"type": "open"}}),
            "config",
        ),
        (json!({"type": "moon"}), "config"),
        (json!({}), "config"),
    ] {
        let body = json!({"name": "box", "config": config});
        app.client
            .post("/v1/environments", &body)
            .await
            .refused(problem);
    }
    let message = app
        .client
        .post(
            "/v1/environments",
            &json!({"name": "x", "scope": "account"}),
        )
        .await;
    assert!(
        message
            .error(400, "invalid_request_error")
            .starts_with("scope: ")
    );
    assert_eq!(
        app.client.get("/v1/environments").await.ok()["data"],
        json!([])
    );
}

async fn environments_are_paged(app: &TestApp) {
    let (first, second) = (app.environment().await, app.environment().await);
    let page = app.client.get("/v1/environments?limit=1").await.ok();
    assert_eq!(id(&page["data"][0]), second);
    let next = page["next_page"].as_str().expect("a cursor");
    let page = app
        .client
        .get(&format!("/v1/environments?limit=1&page={next}"))
        .await
        .ok();
    assert_eq!(
        (id(&page["data"][0]), &page["next_page"]),
        (first, &Value::Null)
    );
    // A cursor of one list is none of another.
    app.client
        .get(&format!("/v1/agents?page={next}"))
        .await
        .error(400, "invalid_request_error");
}
