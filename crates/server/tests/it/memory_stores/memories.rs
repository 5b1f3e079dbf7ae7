//! Memories through HTTP (api §17.2, §17.3).

use super::*;

stories! {
    me_2_a_memory_has_an_exact_shape,
    me_2_what_a_memory_cannot_hold,
    me_3_where_a_memory_cannot_be,
    me_5_a_path_is_taken_once_above_and_below,
    me_6_conditions_hold_or_nothing_is_done,
    me_7_each_call_has_its_view,
    li_9_folders_are_listed_as_prefixes,
    api_2_a_memory_of_another_store_is_not_there,
}

/// The SHA-256 of `one`.
const ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
/// The SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

async fn me_2_a_memory_has_an_exact_shape(app: &TestApp) {
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/projects/foo/notes.md", "one").await;
    let expected = json!({
        "id": made["id"], "type": "memory", "memory_store_id": path.rsplit('/').next(),
        "memory_version_id": made["memory_version_id"], "path": "/projects/foo/notes.md", "content": null,
        "content_sha256": ONE, "content_size_bytes": 3,
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    assert!(id(&made).starts_with("mem_"));
    assert!(
        made["memory_version_id"]
            .as_str()
            .is_some_and(|id| id.starts_with("memver_"))
    );
    let memory_path = at(&path, &made);
    let found = app.client.get(&memory_path).await.ok();
    assert_eq!(found["content"], "one");
    for body in [
        json!({}),
        json!({"content": null, "path": null}),
        json!({"content": "one"}),
    ] {
        assert_eq!(
            app.client.post(&memory_path, &body).await.ok(),
            made,
            "{body}"
        );
    }
    let moved = json!({"path": "/other.md"});
    let moved = app.client.post(&memory_path, &moved).await.ok();
    assert_eq!(
        (&moved["id"], &moved["path"]),
        (&made["id"], &json!("/other.md"))
    );
    assert_ne!(moved["memory_version_id"], made["memory_version_id"]);
    assert!(moved["updated_at"].as_str() > made["updated_at"].as_str());
    let text = "\u{0}\u{feff}a\r\ncafe\u{301}\u{10ffff}";
    let changed = json!({"path": "/third.md", "content": text});
    app.client.post(&memory_path, &changed).await.ok();
    let found = app.client.get(&memory_path).await.ok();
    assert_eq!(
        (&found["content"], &found["path"]),
        (&json!(text), &json!("/third.md"))
    );
    assert_eq!(found["content_size_bytes"], text.len());
    let deleted = app.client.delete(&memory_path).await.ok();
    assert_eq!(deleted, json!({"id": made["id"], "type": "memory_deleted"}));
    for gone in [
        app.client.get(&memory_path).await,
        app.client.post(&memory_path, &json!({})).await,
        app.client.delete(&memory_path).await,
    ] {
        assert_eq!(gone.error(404, "not_found_error"), "memory not found");
    }
    let null = json!({"path": "/null", "content": null});
    let null = app
        .client
        .post(&format!("{path}/memories"), &null)
        .await
        .ok();
    let shown = (&null["content_sha256"], &null["content_size_bytes"]);
    assert_eq!(shown, (&json!(EMPTY), &json!(0)));
}

async fn me_2_what_a_memory_cannot_hold(app: &TestApp) {
    let path = format!("{}/memories", store(app, "notes").await);
    for (body, problem) in [
        (json!({"path": "/a"}), "content: is required"),
        (json!({"content": "x"}), "missing field `path`"),
        (json!({"path": "/a", "content": 1}), "content: invalid type"),
        (
            json!({"path": "/a", "content": "x".repeat(102_401)}),
            "content: has 102401 bytes",
        ),
        (
            json!({"path": "/a", "content": "é".repeat(51_201)}),
            "content: has 102402 bytes",
        ),
    ] {
        app.client.post(&path, &body).await.refused(problem);
    }
    let most = json!({"path": "/a", "content": "é".repeat(51_200)});
    let most = app.client.post(&path, &most).await.ok();
    assert_eq!(most["content_size_bytes"], 102_400);
    let more = json!({"content": "x".repeat(102_401)});
    let refused = app
        .client
        .post(&format!("{path}/{}", id(&most)), &more)
        .await;
    refused.error(400, "invalid_request_error");
    assert_eq!(all(app, &path, "").await.len(), 1);
}

async fn me_3_where_a_memory_cannot_be(app: &TestApp) {
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/a", "x").await;
    for wrong in [
        "",
        "a",
        "/",
        "/a/",
        "//a",
        "/./a",
        "/a/../b",
        "/a\u{0}",
        "/a\u{2028}",
        "/cafe\u{301}",
        &"/s".repeat(21),
        &format!("/{}", "x".repeat(1024)),
    ] {
        let body = json!({"path": wrong, "content": ""});
        let refused = app.client.post(&format!("{path}/memories"), &body).await;
        let message = refused.error(400, "invalid_request_error");
        assert!(message.starts_with("path: "), "{wrong:?}: {message}");
        let refused = app.client.post(&at(&path, &made), &body).await;
        refused.error(400, "invalid_request_error");
    }
    assert_eq!(app.client.get(&at(&path, &made)).await.ok()["path"], "/a");
}

/// api §17.3
async fn me_5_a_path_is_taken_once_above_and_below(app: &TestApp) {
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/a/b", "one").await;
    let other = memory(app, &path, "/z", "two").await;
    for taken in ["/a/b", "/a", "/a/b/c"] {
        let body = json!({"path": taken, "content": "three"});
        for path in [format!("{path}/memories"), at(&path, &other)] {
            let refused = app.client.post(&path, &body).await;
            refused.error(409, "memory_path_conflict_error");
            assert_eq!(refused.header("x-should-retry"), Some("false"));
            let error = &refused.json()["error"];
            let told = (&error["conflicting_memory_id"], &error["conflicting_path"]);
            assert_eq!(told, (&made["id"], &json!("/a/b")), "{taken}");
        }
    }
    assert_eq!(
        app.client.get(&at(&path, &made)).await.ok()["content"],
        "one"
    );
    assert_eq!(
        app.client.get(&at(&path, &other)).await.ok()["content"],
        "two"
    );
    memory(app, &path, "/A/b", "x").await;
}

async fn me_6_conditions_hold_or_nothing_is_done(app: &TestApp) {
    let path = store(app, "notes").await;
    let made = memory(app, &path, "/a", "one").await;
    let memory_path = at(&path, &made);
    let when = |hash: &str, mut body: Value| {
        body["precondition"] = json!({"type": "content_sha256", "content_sha256": hash});
        body
    };
    for body in [
        when(EMPTY, json!({"content": "two"})),
        when(EMPTY, json!({"path": "/b"})),
        when(EMPTY, json!({"content": "one", "path": "/b"})),
    ] {
        let refused = app.client.post(&memory_path, &body).await;
        refused.error(409, "memory_precondition_failed_error");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
    }
    // What is so already is done, whatever was expected (api §17.2).
    for body in [
        when(EMPTY, json!({"content": "one"})),
        when(EMPTY, json!({"content": "one", "path": "/a"})),
    ] {
        assert_eq!(app.client.post(&memory_path, &body).await.ok(), made);
    }
    let expected = |hash: &str| format!("{memory_path}?expected_content_sha256={hash}");
    let refused = app.client.delete(&expected(EMPTY)).await;
    refused.error(409, "memory_precondition_failed_error");
    for wrong in ["", "x", &ONE.to_uppercase(), &ONE[1..]] {
        let refused = app.client.delete(&expected(wrong)).await;
        refused.error(400, "invalid_request_error");
        let body = when(wrong, json!({"content": "two"}));
        let refused = app.client.post(&memory_path, &body).await;
        refused.error(400, "invalid_request_error");
    }
    for precondition in [
        json!({"type": "etag", "content_sha256": ONE}),
        json!({"content_sha256": ONE}),
        json!({"type": "content_sha256"}),
    ] {
        let body = json!({"content": "two", "precondition": precondition});
        let refused = app.client.post(&memory_path, &body).await;
        refused.error(400, "invalid_request_error");
    }
    assert_eq!(app.client.get(&memory_path).await.ok()["content"], "one");
    let changed = when(ONE, json!({"content": "two"}));
    app.client.post(&memory_path, &changed).await.ok();
    let late = app.client.delete(&expected(ONE)).await;
    late.error(409, "memory_precondition_failed_error");
    let now = app.client.get(&memory_path).await.ok();
    let now = now["content_sha256"].as_str().expect("a hash");
    app.client.delete(&expected(now)).await.ok();
    let versions = all(app, &format!("{path}/memory_versions"), "").await;
    assert_eq!(
        texts(&versions, "operation"),
        ["deleted", "modified", "created"]
    );
}

async fn me_7_each_call_has_its_view(app: &TestApp) {
    let path = store(app, "notes").await;
    let memories = format!("{path}/memories");
    let body = json!({"path": "/a", "content": "one"});
    let made = app
        .client
        .post(&format!("{memories}?view=full"), &body)
        .await
        .ok();
    assert_eq!(made["content"], "one");
    let memory_path = at(&path, &made);
    let moved = json!({"path": "/b"});
    let full = format!("{memory_path}?view=full");
    assert_eq!(app.client.post(&full, &moved).await.ok()["content"], "one");
    let basic = format!("{memory_path}?view=basic");
    let basic = app.client.get(&basic).await.ok();
    assert_eq!(
        (&basic["content"], &basic["content_sha256"]),
        (&Value::Null, &json!(ONE))
    );
    for (query, content) in [
        ("", Value::Null),
        ("view=basic", Value::Null),
        ("view=full", json!("one")),
    ] {
        assert_eq!(
            all(app, &memories, query).await[0]["content"],
            content,
            "{query}"
        );
    }
    fill(app, &path).await;
    assert_eq!(
        on_a_page(app, &format!("{memories}?view=full&limit=100")).await,
        Some(20),
        "no more with texts"
    );
    assert_eq!(
        on_a_page(app, &format!("{memories}?limit=100")).await,
        Some(26)
    );
    assert_eq!(
        on_a_page(app, &memories).await,
        Some(20),
        "unless it is said"
    );
    assert_eq!(all(app, &memories, "view=full&limit=7").await.len(), 26);
    for query in ["view=all", "limit=0", "limit=101"] {
        let refused = app.client.get(&format!("{memories}?{query}")).await;
        refused.error(400, "invalid_request_error");
    }
}

async fn li_9_folders_are_listed_as_prefixes(app: &TestApp) {
    let path = store(app, "notes").await;
    let memories = format!("{path}/memories");
    let deep = format!("/{}\"\\", "x".repeat(1000));
    for at in [
        "/notes/todo.md",
        "/notes/done/1",
        "/notes/done/2",
        "/notes-archive/todo.md",
        "/a",
        "/é ?&",
        &deep,
    ] {
        memory(app, &path, at, "x").await;
    }
    let top = ["/a", "/notes-archive/", "/notes/", &deep, "/é ?&"];
    for limit in [1, 2, 100] {
        let query = |more: &str| format!("limit={limit}{more}");
        let found = all(
            app,
            &memories,
            &query("&depth=1&order=desc&order_by=created_at"),
        )
        .await;
        assert_eq!(texts(&found, "path"), top, "the order is always the same");
        assert_eq!(
            found[1],
            json!({"type": "memory_prefix", "path": "/notes-archive/"})
        );
        let found = all(app, &memories, &query("&depth=1&path_prefix=%2Fnotes%2F")).await;
        assert_eq!(texts(&found, "path"), ["/notes/done/", "/notes/todo.md"]);
        let found = all(app, &memories, &query("&depth=0&path_prefix=/notes/")).await;
        assert_eq!(
            texts(&found, "path"),
            ["/notes/done/1", "/notes/done/2", "/notes/todo.md"]
        );
        assert_eq!(all(app, &memories, &query("")).await.len(), 7);
    }
    let other_list = app.client.get(&format!("{STORES}?limit=1")).await.ok();
    assert_eq!(other_list["next_page"], Value::Null);
    for query in [
        "depth=2",
        "depth=-1",
        "path_prefix=/notes",
        "path_prefix=notes/",
        "path_prefix=/../",
        "path_prefix=/%00/",
        "page=page_x",
        // A cursor whose place is no path: ["memories","/\u0000"].
        "page=page_WyJtZW1vcmllcyIsIi9cdTAwMDAiXQ",
    ] {
        let refused = app.client.get(&format!("{memories}?{query}")).await;
        refused.error(400, "invalid_request_error");
    }
}

async fn api_2_a_memory_of_another_store_is_not_there(app: &TestApp) {
    let (one, two) = (store(app, "one").await, store(app, "two").await);
    let made = memory(app, &one, "/a", "x").await;
    let path = at(&two, &made);
    for misplaced in [
        app.client.get(&path).await,
        app.client.post(&path, &json!({"content": "y"})).await,
        app.client.delete(&path).await,
    ] {
        assert_eq!(misplaced.error(404, "not_found_error"), "memory not found");
    }
    let version = made["memory_version_id"].as_str().expect("an id");
    let path = format!("{two}/memory_versions/{version}");
    app.client.get(&path).await.error(404, "not_found_error");
    let redacted = app.client.post_empty(&format!("{path}/redact")).await;
    redacted.error(404, "not_found_error");
    assert_eq!(app.client.get(&at(&one, &made)).await.ok()["content"], "x");
}
