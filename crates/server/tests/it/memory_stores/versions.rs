//! Versions through HTTP (api §17.4).

use super::*;

stories! {
    me_8_a_version_has_an_exact_shape,
    me_8_versions_are_found_by_their_filters,
    me_10_what_is_redacted_is_gone_everywhere,
}

async fn key_id(app: &TestApp) -> String {
    let keys = app.client.get("/v1/manyhands/keys").await.ok();
    id(&keys["data"][0])
}

async fn me_8_a_version_has_an_exact_shape(app: &TestApp) {
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/a", "one").await;
    app.client.delete(&at(&path, &made)).await.ok();
    let actor = json!({"type": "api_actor", "api_key_id": key_id(app).await});
    let versions = format!("{path}/memory_versions");
    let found = all(app, &versions, "").await;
    let mut created = json!({
        "id": made["memory_version_id"], "type": "memory_version", "memory_id": made["id"],
        "memory_store_id": made["memory_store_id"], "operation": "created", "path": "/a", "content": null,
        "content_sha256": made["content_sha256"], "content_size_bytes": 3, "created_by": actor,
        "created_at": made["created_at"], "redacted_at": null, "redacted_by": null,
    });
    let deleted = json!({
        "id": found[0]["id"], "type": "memory_version", "memory_id": made["id"],
        "memory_store_id": made["memory_store_id"], "operation": "deleted", "path": "/a", "content": null,
        "content_sha256": null, "content_size_bytes": null, "created_by": actor,
        "created_at": found[0]["created_at"], "redacted_at": null, "redacted_by": null,
    });
    assert_eq!(found, [deleted.clone(), created.clone()]);
    let one = |version: &Value| format!("{versions}/{}", id(version));
    let basic = format!("{}?view=basic", one(&created));
    assert_eq!(app.client.get(&basic).await.ok(), created);
    created["content"] = json!("one");
    assert_eq!(app.client.get(&one(&created)).await.ok(), created);
    assert_eq!(app.client.get(&one(&deleted)).await.ok(), deleted);
    assert_eq!(all(app, &versions, "view=full").await, [deleted, created]);
    let strange = app.client.get(&format!("{versions}/mem_01")).await;
    strange.error(400, "invalid_request_error");
    let missing = app.client.get(&format!("{versions}/memver_01")).await;
    missing.error(404, "not_found_error");
}

async fn me_8_versions_are_found_by_their_filters(app: &TestApp) {
    let path = store(app, "notes").await;
    let versions = format!("{path}/memory_versions");
    let made = memory(app, &path, "/a", "one").await;
    let other = memory(app, &path, "/b", "one").await;
    let changed = json!({"content": "two"});
    let changed = app.client.post(&at(&path, &made), &changed).await.ok();
    app.client.delete(&at(&path, &other)).await.ok();
    let key = key_id(app).await;
    let (from, to) = (&other["updated_at"], &changed["updated_at"]);
    let (from, to) = (from.as_str().expect("a time"), to.as_str().expect("a time"));
    for (query, expected) in [
        (
            String::new(),
            vec!["deleted", "modified", "created", "created"],
        ),
        (
            format!("memory_id={}", id(&other)),
            vec!["deleted", "created"],
        ),
        ("operation=created".to_owned(), vec!["created", "created"]),
        (
            format!("operation=modified&memory_id={}", id(&other)),
            vec![],
        ),
        (
            format!("api_key_id={key}"),
            vec!["deleted", "modified", "created", "created"],
        ),
        ("api_key_id=apikey_01none".to_owned(), vec![]),
        ("session_id=sesn_01none".to_owned(), vec![]),
        ("service_account_id=svac_1".to_owned(), vec![]),
        (format!("api_key_id={key}&session_id=sesn_01none"), vec![]),
        (
            format!("created_at[gte]={from}&created_at[lte]={to}"),
            vec!["modified", "created"],
        ),
    ] {
        for limit in [1, 3, 100] {
            let found = all(app, &versions, &format!("{query}&limit={limit}")).await;
            assert_eq!(texts(&found, "operation"), expected, "{query}");
        }
    }
    for query in [
        "memory_id=memver_1",
        "operation=renamed",
        "session_id=apikey_1",
        "api_key_id=sesn_1",
        "service_account_id=user_1",
        "service_account_id=svac_%00",
        "created_at[gte]=now",
        "view=none",
        "limit=101",
        "page=x",
    ] {
        let refused = app.client.get(&format!("{versions}?{query}")).await;
        refused.error(400, "invalid_request_error");
    }
    fill(app, &path).await;
    assert_eq!(
        on_a_page(app, &format!("{versions}?view=full&limit=100")).await,
        Some(20),
        "no more with texts"
    );
    assert_eq!(all(app, &versions, "view=full").await.len(), 29);
}

/// runtime ME-10, ME-9
async fn me_10_what_is_redacted_is_gone_everywhere(app: &TestApp) {
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/secret-path", "secret").await;
    let version = format!(
        "{path}/memory_versions/{}",
        made["memory_version_id"].as_str().expect("an id")
    );
    let redact = format!("{version}/redact");
    let head = app.client.post_empty(&redact).await;
    head.error(400, "invalid_request_error");
    let changed = json!({"content": "public", "path": "/public"});
    app.client.post(&at(&path, &made), &changed).await.ok();
    let before = app.client.get(&version).await.ok();
    let redacted = app.client.post_empty(&redact).await.ok();
    let actor = json!({"type": "api_actor", "api_key_id": key_id(app).await});
    let mut expected = before;
    for gone in ["path", "content", "content_sha256", "content_size_bytes"] {
        expected[gone] = Value::Null;
    }
    expected["redacted_at"] = redacted["redacted_at"].clone();
    expected["redacted_by"] = actor;
    assert!(redacted["redacted_at"].is_string());
    assert_eq!(redacted, expected);
    assert_eq!(app.client.get(&version).await.ok(), redacted);
    assert_eq!(app.client.post_empty(&redact).await.ok(), redacted, "once");
    let listed = all(app, &format!("{path}/memory_versions"), "view=full").await;
    assert!(!json!(listed).to_string().contains("secret"));
    assert_eq!(
        app.client.get(&at(&path, &made)).await.ok()["content"],
        "public"
    );
}
