//! Images and documents that a client names by URL or by file id (api §10.1).

use http::Method;
use manyhands_testkit::model::Reply;
use manyhands_testkit::site::{Site, page, redirect};
use serde_json::{Value, json};

use crate::app::{TestApp, id, message};
use crate::files::upload;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

/// PNG in base64.
const ENCODED: &str = "iVBORw0KGgpyZXN0";

/// A site with a picture, a redirect to a port that nobody may use, and text.
async fn site() -> u16 {
    let answer = |path: &str, _: u16| match path {
        "/a.png" => page("image/png", PNG),
        "/away" => redirect("http://localhost:1/"),
        _ => page("text/plain", b"plain"),
    };
    Site::start(answer).await.address().port()
}

async fn app(port: u16) -> TestApp {
    TestApp::with(|config| {
        config.egress.allow_addresses = vec!["127.0.0.1/32".to_owned(), "::1/128".to_owned()];
        config.egress.ports = vec![80, 443, port];
    })
    .await
}

fn blocks(blocks: Value) -> Value {
    json!({"type": "user.message", "content": blocks})
}

fn file(kind: &str, file: &str) -> Value {
    json!({"type": kind, "source": {"type": "file", "file_id": file}})
}

fn url(kind: &str, url: &str) -> Value {
    json!({"type": kind, "source": {"type": "url", "url": url}})
}

/// invariant I6: what the model sees is what was there when the message was sent. Runtime SC-8: the server has fetched it, no
/// sandbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i_6_blocks_by_url_and_by_file_reach_the_model_as_they_were() {
    let port = site().await;
    let app = app(port).await;
    app.model.push(Reply::text("one"));
    app.model.push(Reply::text("two"));
    let session = app.session().await;
    let (picture, text) = (
        upload(&app, "a.bin", PNG).await,
        upload(&app, "b.txt", "grüß".as_bytes()).await,
    );
    let page = format!("http://localhost:{port}/a.png");
    let sent = json!([
        file("image", &id(&picture)),
        url("image", &page),
        file("document", &id(&text))
    ]);
    let mut stream = app.stream(&session, "").await;
    let echo = app.send(&session, blocks(sent.clone())).await;
    assert_eq!(
        echo["content"][0], sent[0],
        "events show the source as it was sent"
    );
    assert_eq!(echo["content"][1], sent[1]);
    stream.until_idle().await;
    app.client
        .delete(&format!("/v1/files/{}", id(&picture)))
        .await
        .ok();
    let app = app.restarted().await;
    app.turn(&session, "And now?").await;
    assert!(app.hands.starts().is_empty(), "no sandbox was made");
    for request in [1, 2] {
        let request = app.model.request(request).await;
        let shown = &request.messages()[0]["content"];
        let png = json!({"type": "base64", "media_type": "image/png", "data": ENCODED});
        assert_eq!(shown[0]["source"], png);
        assert_eq!(shown[1]["source"], png);
        assert_eq!(
            shown[2]["source"],
            json!({"type": "text", "media_type": "text/plain", "data": "grüß"})
        );
    }
    app.end().await;
}

/// security NET-9, API-2, runtime HT-15, SC-7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_9_what_cannot_be_had_refuses_the_request_and_stores_nothing() {
    let port = site().await;
    let app = app(port).await;
    let session = app.session().await;
    let text = id(&upload(&app, "b.txt", b"plain").await);
    let refused = async |block: Value, problem: &str| {
        let events = json!([message("first"), blocks(json!([block]))]);
        let message = app.refused(&session, events).await;
        assert!(
            message.starts_with("events[1].content[0].source"),
            "{message}"
        );
        assert!(message.contains(problem), "{message}");
    };
    refused(file("image", &text), "is no PNG").await;
    refused(
        url("image", &format!("http://localhost:{port}/text")),
        "is no PNG",
    )
    .await;
    refused(
        url("image", &format!("http://localhost:{port}/away")),
        "port 1 is not allowed",
    )
    .await;
    refused(
        url("image", "http://localhost:1/a.png"),
        "port 1 is not allowed",
    )
    .await;
    refused(
        url("image", &format!("http://127.0.0.1:{port}/a.png")),
        "the host is an address",
    )
    .await;
    refused(
        url("document", "http://169.254.169.254/latest"),
        "the host is an address",
    )
    .await;
    let missing = json!({"events": [blocks(json!([file("image", "file_01missing")]))]});
    let path = format!("/v1/sessions/{session}/events");
    app.client
        .post(&path, &missing)
        .await
        .error(404, "not_found_error");
    let many: Vec<Value> = (0..101).map(|_| file("document", &text)).collect();
    let message = app.refused(&session, json!([blocks(json!(many))])).await;
    assert!(message.contains("more than 100 blocks"), "{message}");
    app.end().await;
}

/// runtime LC-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lc_6_a_session_can_begin_with_a_file_and_is_not_made_without_it() {
    let port = site().await;
    let app = app(port).await;
    app.model.push(Reply::text("seen"));
    let picture = id(&upload(&app, "a.png", PNG).await);
    let (agent, environment) = (app.agent().await, app.environment().await);
    let body = |file_id: &str| json!({"agent": agent, "environment_id": environment, "initial_events": [blocks(json!([file("image", file_id)]))]});
    let refused = app
        .client
        .send(
            Method::POST,
            "/v1/sessions",
            body("file_01missing").to_string().into_bytes(),
        )
        .await
        .expect("an answer");
    refused.error(404, "not_found_error");
    let sessions = app.client.get("/v1/sessions").await.ok();
    assert_eq!(sessions["data"], json!([]));
    app.client.post("/v1/sessions", &body(&picture)).await.ok();
    let request = app.model.request(1).await;
    assert_eq!(
        request.messages()[0]["content"][0]["source"]["data"],
        ENCODED
    );
    app.end().await;
}
