//! Memory stores, memories and versions through HTTP (api §17); what sessions have of them is told beside.

mod memories;
mod sessions;
mod versions;

use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    ht_2_either_beta_value_opens_memory_stores_and_not_both,
    me_1_a_store_has_an_exact_shape,
    me_1_what_a_store_cannot_be_called,
    me_1_stores_are_paged_newest_first,
    me_11_an_archived_store_is_read_and_emptied,
    me_11_a_deleted_store_is_gone_with_all_of_it,
}

const STORES: &str = "/v1/memory_stores";

async fn store(app: &TestApp, name: &str) -> String {
    let made = app.client.post(STORES, &json!({"name": name})).await.ok();
    format!("{STORES}/{}", id(&made))
}

/// A memory in a store, as its create answers.
async fn memory(app: &TestApp, store: &str, path: &str, content: &str) -> Value {
    let body = json!({"path": path, "content": content});
    app.client
        .post(&format!("{store}/memories"), &body)
        .await
        .ok()
}

fn at(store: &str, memory: &Value) -> String {
    format!("{store}/memories/{}", id(memory))
}

/// All items of a list, page by page.
async fn all(app: &TestApp, path: &str, query: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = String::new();
    loop {
        let page = app.client.get(&format!("{path}?{query}{next}")).await.ok();
        found.extend(page["data"].as_array().expect("a list").iter().cloned());
        match page["next_page"].as_str() {
            Some(cursor) => next = format!("&page={cursor}"),
            None => return found,
        }
    }
}

/// How many items the first page of a list has.
async fn on_a_page(app: &TestApp, list: &str) -> Option<usize> {
    let page = app.client.get(list).await.ok();
    page["data"].as_array().map(Vec::len)
}

/// More memories than a page with texts has.
async fn fill(app: &TestApp, store: &str) {
    for number in 0..25 {
        memory(app, store, &format!("/many/{number}"), "x").await;
    }
}

fn texts<'v>(items: &'v [Value], name: &str) -> Vec<&'v str> {
    let texts = items.iter().map(|item| item[name].as_str());
    texts.map(|text| text.expect("a text")).collect()
}

/// runtime HT-2, HT-1
async fn ht_2_either_beta_value_opens_memory_stores_and_not_both(app: &TestApp) {
    const OLD: &str = "managed-agents-2026-04-01";
    const NEW: &str = "agent-memory-2026-07-22";
    let with = |betas: &str| app.client.clone().header("anthropic-beta", betas);
    for betas in [OLD, NEW, &format!("something-else,{NEW}")] {
        with(betas).get(STORES).await.ok();
    }
    for betas in ["something-else", "agent-memory"] {
        with(betas).get(STORES).await.error(404, "not_found_error");
    }
    let bare = app.client.clone().without("anthropic-beta");
    bare.get(STORES).await.error(404, "not_found_error");
    let both = with(&format!("{NEW},{OLD}"));
    both.get(STORES).await.error(400, "invalid_request_error");
    let made = both.post(STORES, &json!({"name": "x"})).await;
    made.error(400, "invalid_request_error");
    // Elsewhere the memory value alone opens nothing, and does no harm.
    let sessions = with(NEW).get("/v1/sessions").await;
    sessions.error(404, "not_found_error");
    both.get("/v1/sessions").await.ok();
    assert_eq!(all(app, STORES, "").await, Vec::<Value>::new());
}

/// api §17.1
async fn me_1_a_store_has_an_exact_shape(app: &TestApp) {
    let body =
        json!({"name": "User notes", "description": "What they like.", "metadata": {"a": "b"}});
    let made = app.client.post(STORES, &body).await.ok();
    assert_eq!(
        made,
        json!({
            "id": made["id"], "type": "memory_store", "name": "User notes", "description": "What they like.",
            "metadata": {"a": "b"}, "created_at": made["created_at"], "updated_at": made["created_at"],
            "archived_at": null,
        })
    );
    assert!(id(&made).starts_with("memstore_"));
    let path = format!("{STORES}/{}", id(&made));
    for body in [
        json!({}),
        json!({"name": null, "description": null, "metadata": null}),
        json!({"name": "User notes", "unknown": 1}),
    ] {
        assert_eq!(app.client.post(&path, &body).await.ok(), made, "{body}");
    }
    let patch = json!({"name": "Other", "description": "", "metadata": {"a": null, "c": "d"}});
    let changed = app.client.post(&path, &patch).await.ok();
    assert_eq!(
        changed,
        json!({
            "id": made["id"], "type": "memory_store", "name": "Other", "description": "", "metadata": {"c": "d"},
            "created_at": made["created_at"], "updated_at": changed["updated_at"], "archived_at": null,
        })
    );
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());
    memory(app, &path, "/a", "x").await;
    assert_eq!(
        app.client.get(&path).await.ok(),
        changed,
        "memories do not change it"
    );
    let plain = app
        .client
        .post(STORES, &json!({"name": "Other"}))
        .await
        .ok();
    assert_eq!(
        (&plain["description"], &plain["metadata"]),
        (&json!(""), &json!({}))
    );
}

async fn me_1_what_a_store_cannot_be_called(app: &TestApp) {
    let path = store(app, "notes").await;
    let before = app.client.get(&path).await.ok();
    for (body, problem) in [
        (json!({"name": ""}), "name: must not be empty"),
        (json!({"name": "x".repeat(256)}), "name: is 256"),
        (json!({"name": "a\nb"}), "name: must not have control"),
        (json!({"name": "a\u{7f}"}), "name: must not have control"),
        (json!({"name": 5}), "name: invalid type"),
        (
            json!({"name": "x", "description": "x".repeat(1025)}),
            "description: is 1025",
        ),
        (
            json!({"name": "x", "metadata": {"": "x"}}),
            "metadata: keys",
        ),
    ] {
        for path in [STORES, path.as_str()] {
            app.client.post(path, &body).await.refused(problem);
        }
    }
    app.client
        .post(STORES, &json!({}))
        .await
        .refused("missing field `name`");
    let strange = app.client.get(&format!("{STORES}/mem_01")).await;
    strange.error(400, "invalid_request_error");
    assert_eq!(app.client.get(&path).await.ok(), before);
    let longest = json!({"name": "\u{1f600}".repeat(255), "description": "é".repeat(1024)});
    app.client.post(STORES, &longest).await.ok();
}

/// api §1.5, runtime LI-6
async fn me_1_stores_are_paged_newest_first(app: &TestApp) {
    let mut made = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        made.push(app.client.post(STORES, &json!({"name": name})).await.ok());
    }
    let archive = format!("{STORES}/{}/archive", id(&made[3]));
    app.client.post_empty(&archive).await.ok();
    for limit in [1, 2, 5, 100] {
        let found = all(app, STORES, &format!("limit={limit}")).await;
        assert_eq!(texts(&found, "name"), ["e", "c", "b", "a"]);
        let query = format!("limit={limit}&include_archived=true");
        let found = all(app, STORES, &query).await;
        assert_eq!(texts(&found, "name"), ["e", "d", "c", "b", "a"]);
    }
    let second = made[1]["created_at"].as_str().expect("a time");
    let third = made[2]["created_at"].as_str().expect("a time");
    for (query, expected) in [
        (format!("created_at[gte]={third}"), vec!["e", "c"]),
        (format!("created_at%5Blte%5D={second}"), vec!["b", "a"]),
        (
            format!("created_at[gte]={second}&created_at[lte]={third}"),
            vec!["c", "b"],
        ),
    ] {
        assert_eq!(texts(&all(app, STORES, &query).await, "name"), expected);
    }
    let first = app.client.get(&format!("{STORES}?limit=1")).await.ok();
    let cursor = first["next_page"].as_str().expect("a cursor");
    for query in [
        "limit=0".to_owned(),
        "limit=101".to_owned(),
        "include_archived=1".to_owned(),
        "created_at[gte]=yesterday".to_owned(),
        "page=page_x".to_owned(),
        format!("page={cursor}&created_at[lte]={second}"),
    ] {
        let refused = app.client.get(&format!("{STORES}?{query}")).await;
        refused.error(400, "invalid_request_error");
    }
}

async fn me_11_an_archived_store_is_read_and_emptied(app: &TestApp) {
    let path = store(app, "notes").await;
    let kept = memory(app, &path, "/kept", "x").await;
    let lost = memory(app, &path, "/lost", "x").await;
    let changed = json!({"content": "y"});
    app.client.post(&at(&path, &kept), &changed).await.ok();
    let archive = format!("{path}/archive");
    let archived = app.client.post_empty(&archive).await.ok();
    assert_eq!(archived["updated_at"], archived["archived_at"]);
    assert!(archived["archived_at"].is_string());
    assert_eq!(app.client.post_empty(&archive).await.ok(), archived, "once");
    for (path, body) in [
        (path.clone(), json!({"name": "other"})),
        (path.clone(), json!({})),
        (
            format!("{path}/memories"),
            json!({"path": "/new", "content": ""}),
        ),
        (at(&path, &kept), json!({"content": "z"})),
        (at(&path, &kept), json!({"path": "/z"})),
    ] {
        let refused = app.client.post(&path, &body).await;
        let message = refused.error(400, "invalid_request_error");
        assert!(message.contains("archived"), "{message}");
    }
    assert_eq!(app.client.get(&path).await.ok(), archived);
    assert_eq!(app.client.get(&at(&path, &kept)).await.ok()["content"], "y");
    app.client.delete(&at(&path, &lost)).await.ok();
    let version = kept["memory_version_id"].as_str().expect("an id");
    let redact = format!("{path}/memory_versions/{version}/redact");
    assert!(app.client.post_empty(&redact).await.ok()["redacted_at"].is_string());
    app.client.delete(&path).await.ok();
}

async fn me_11_a_deleted_store_is_gone_with_all_of_it(app: &TestApp) {
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/a", "x").await;
    let deleted = app.client.delete(&path).await.ok();
    let expected = json!({"id": made["memory_store_id"], "type": "memory_store_deleted"});
    assert_eq!(deleted, expected);
    let version = made["memory_version_id"].as_str().expect("an id");
    for path in [
        path.clone(),
        format!("{path}/memories"),
        at(&path, &made),
        format!("{path}/memory_versions"),
        format!("{path}/memory_versions/{version}"),
    ] {
        let message = app.client.get(&path).await.error(404, "not_found_error");
        assert_eq!(message, "memory store not found", "{path}");
    }
    let again = app.client.delete(&path).await;
    again.error(404, "not_found_error");
    let late = app
        .client
        .post(
            &format!("{path}/memories"),
            &json!({"path": "/b", "content": ""}),
        )
        .await;
    late.error(404, "not_found_error");
}
