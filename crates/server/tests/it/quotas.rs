//! Quotas through HTTP: what is full, and what still works then (security STORE-4).

use http::Method;
use manyhands_store::quota::Quotas;
use manyhands_testkit::http::Answer;
use serde_json::{Value, json};

use crate::app::{TestApp, id};
use crate::skills::{self, FILE, MARKDOWN};

/// security STORE-4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_4_a_full_workspace_is_told_what_is_full() {
    let app = TestApp::with(|config| {
        config.limits.quotas = Quotas {
            bytes: Some(10),
            agents: Some(1),
            files: Some(2),
            vaults: Some(0),
            ..Quotas::default()
        };
    })
    .await;
    let full = async |path: &str, body: Value, words: &str| {
        let answer = app.client.post(path, &body).await;
        assert_eq!(
            answer.json()["error"]["details"]["error_code"],
            "storage_quota_exceeded"
        );
        let message = answer.error(400, "invalid_request_error");
        assert!(message.contains(words), "{message}");
    };
    app.agent().await;
    let agent = json!({"name": "a", "model": "claude-opus-4-8"});
    full("/v1/agents", agent, "1 of the 1 agents").await;
    full(
        "/v1/vaults",
        json!({"display_name": "v"}),
        "0 of the 0 vaults",
    )
    .await;
    let upload = async |content: &str| {
        let client = app
            .client
            .clone()
            .header("content-type", "multipart/form-data; boundary=b");
        let head = "Content-Disposition: form-data; name=\"file\"; filename=\"f\"";
        let body = format!("--b\r\n{head}\r\n\r\n{content}\r\n--b--\r\n");
        client
            .send(Method::POST, "/v1/files", body)
            .await
            .expect("an answer")
    };
    let first = id(&upload("123456").await.ok());
    let message = upload("12345").await.error(400, "invalid_request_error");
    assert!(message.contains("6 of the 10 bytes"), "{message}");
    upload("1234").await.ok();
    let message = upload("").await.error(400, "invalid_request_error");
    assert!(message.contains("2 of the 2 files"), "{message}");
    app.client.delete(&format!("/v1/files/{first}")).await.ok();
    upload("123456").await.ok();
    app.end().await;
}

/// The message of a refusal for want of room.
#[track_caller]
fn full(answer: &Answer) -> String {
    assert_eq!(
        answer.json()["error"]["details"]["error_code"],
        "storage_quota_exceeded"
    );
    answer.error(400, "invalid_request_error")
}

/// Bytes that no packing makes fewer of.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| byte()).collect()
}

/// security STORE-4, API-4: skills, memories and files share the bytes of their workspace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_4_skills_and_memories_count_in_bytes() {
    const QUOTA: usize = 4000;
    let app = TestApp::with(|config| {
        config.limits.quotas.bytes = Some(QUOTA as u64);
    })
    .await;
    let client = skills::plain(&app);
    let skill = skills::skill(&app).await;
    let versions = format!("/v1/skills/{}/versions", id(&skill));
    let large = "name=\"files[]\"; filename=\"greet/noise.bin\"";
    let noise = noise(QUOTA);
    let parts: &[(&str, &[u8])] = &[(FILE, MARKDOWN.as_bytes()), (large, &noise)];
    let message = full(&skills::post(&client, &versions, parts).await);
    assert!(message.contains("of the 4000 bytes"), "{message}");
    let listed = client.get(&versions).await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
    full(
        &skills::post(
            &client,
            "/v1/skills",
            &[
                (
                    "name=\"files[]\"; filename=\"other/SKILL.md\"",
                    MARKDOWN.replace("greet", "other").as_bytes(),
                ),
                ("name=\"files[]\"; filename=\"other/noise.bin\"", &noise),
            ],
        )
        .await,
    );
    let listed = client.get("/v1/skills?source=custom").await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");

    // What the skill does not take is left for memories.
    let store = app
        .client
        .post("/v1/memory_stores", &json!({"name": "m"}))
        .await
        .ok();
    let memories = format!("/v1/memory_stores/{}/memories", id(&store));
    let create = async |path: &str, content: String| {
        let body = json!({"path": path, "content": content});
        app.client.post(&memories, &body).await
    };
    full(&create("/a", "x".repeat(QUOTA)).await);
    client
        .delete(&format!("/v1/skills/{}", id(&skill)))
        .await
        .ok();
    // Bytes are counted and not letters.
    let memory = create("/a", "é".repeat(QUOTA / 2)).await.ok();
    let message = full(&create("/b", "y".to_owned()).await);
    assert!(message.contains("4000 of the 4000 bytes"), "{message}");
    let own = format!("{memories}/{}", id(&memory));
    let update = async |content: Value| app.client.post(&own, &json!({"content": content})).await;
    let other = "y".repeat(QUOTA);
    full(&update(json!(other)).await);
    let shorter = update(json!("short")).await.ok();
    assert_eq!(
        shorter["content_size_bytes"], 5,
        "less is always let through"
    );
    full(&create("/b", "y".to_owned()).await);
    // Its versions go with the store, and with them what they take.
    let path = format!("/v1/memory_stores/{}", id(&store));
    app.client.delete(&path).await.ok();
    let store = app
        .client
        .post("/v1/memory_stores", &json!({"name": "n"}))
        .await
        .ok();
    let body = json!({"path": "/b", "content": "y".repeat(QUOTA)});
    let memories = format!("/v1/memory_stores/{}/memories", id(&store));
    app.client.post(&memories, &body).await.ok();
    app.end().await;
}
