//! What stands before every handler: keys, headers, bodies, unknown paths.

use http::Method;
use manyhands_testkit::http::Client;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, stories};

stories! {
    ht_9_a_key_is_taken_from_either_header,
    api_3_an_unclear_identity_is_refused,
    ht_10_a_workspace_header_must_match,
    ht_11_every_answer_has_its_id,
    sc_5_a_revoked_key_is_refused_from_the_next_request_on,
    ht_14_bodies_are_capped,
    bodies_that_cannot_be_read_are_refused,
    unknown_paths_and_methods_have_an_envelope,
    ht_8_old_query_marks_are_ignored,
    ops_1_health_readiness_and_figures_are_open,
    models_need_a_key_and_no_beta_header,
}

async fn ht_9_a_key_is_taken_from_either_header(app: &TestApp) {
    let plain = Client::new(&app.url());
    let beta = ("anthropic-beta", "managed-agents-2026-04-01");
    let bearer = plain
        .clone()
        .header(beta.0, beta.1)
        .header("authorization", &format!("Bearer {}", app.key));
    let api_key = plain
        .header(beta.0, beta.1)
        .header("x-api-key", &app.key)
        .header("anthropic-version", "2023-06-01");
    bearer.get("/v1/agents").await.ok();
    api_key.get("/v1/agents").await.ok();
    api_key
        .header("authorization", &format!("Bearer {}", app.key))
        .get("/v1/agents")
        .await
        .ok();
}

async fn api_3_an_unclear_identity_is_refused(app: &TestApp) {
    let both = app
        .client
        .clone()
        .header("x-api-key", "mh_key_of_somebody_else");
    for client in [
        app.client.clone().without("authorization"),
        app.client
            .clone()
            .header("authorization", "Bearer mh_key_unknown"),
        app.client
            .clone()
            .header("authorization", "Bearer sk-ant-api03-foreign"),
        app.client
            .clone()
            .header("authorization", "Basic dXNlcjpwYXNz"),
        app.client.clone().header("authorization", &app.key),
        both,
    ] {
        client
            .get("/v1/agents")
            .await
            .error(401, "authentication_error");
    }
}

async fn ht_10_a_workspace_header_must_match(app: &TestApp) {
    let answer = app.client.get("/v1/agents").await;
    let workspace = answer
        .header("anthropic-workspace-id")
        .expect("a workspace")
        .to_owned();
    assert!(workspace.starts_with("wrkspc_"));
    assert!(
        answer
            .header("anthropic-organization-id")
            .expect("an organisation")
            .starts_with("org_")
    );
    let with = |value: &str| app.client.clone().header("anthropic-workspace-id", value);
    with(&workspace).get("/v1/agents").await.ok();
    with("wrkspc_01other")
        .get("/v1/agents")
        .await
        .error(401, "authentication_error");
}

async fn ht_11_every_answer_has_its_id(app: &TestApp) {
    let good = app.client.get("/v1/agents").await;
    assert!(
        good.header("request-id")
            .expect("an id")
            .starts_with("req_")
    );
    // `error` compares the header with the body.
    app.client
        .get("/v1/agents/agent_01none")
        .await
        .error(404, "not_found_error");
    app.client
        .get("/nowhere")
        .await
        .error(404, "not_found_error");
}

async fn sc_5_a_revoked_key_is_refused_from_the_next_request_on(app: &TestApp) {
    let made = app
        .client
        .post("/v1/manyhands/keys", &json!({"name": "laptop"}))
        .await
        .ok();
    let key = made["key"].as_str().expect("shown once");
    let laptop = Client::with_key(&app.url(), key);
    laptop.get("/v1/agents").await.ok();
    let listed = app.client.get("/v1/manyhands/keys").await.ok();
    assert_eq!(listed["data"].as_array().expect("a list").len(), 2);
    assert!(!listed.to_string().contains(key));
    let path = format!("/v1/manyhands/keys/{}", made["id"].as_str().expect("an id"));
    let revoked = app.client.delete(&path).await.ok();
    assert!(revoked["revoked_at"].is_string());
    laptop
        .get("/v1/agents")
        .await
        .error(401, "authentication_error");
    assert_eq!(
        app.client.delete(&path).await.ok(),
        revoked,
        "repeating it changes nothing"
    );
    app.client
        .delete("/v1/manyhands/keys/apikey_01none")
        .await
        .error(404, "not_found_error");
    app.client
        .post("/v1/manyhands/keys", &json!({"name": ""}))
        .await
        .error(400, "invalid_request_error");
}

/// runtime HT-14; security INP-1
async fn ht_14_bodies_are_capped(app: &TestApp) {
    let session = app.session().await;
    let filler = |size: usize| format!("{{\"filler\":\"{}\"}}", "x".repeat(size));
    let big = filler(33 << 20);
    for path in [
        "/v1/sessions".to_owned(),
        format!("/v1/sessions/{session}/events"),
    ] {
        let answer = app
            .client
            .send(Method::POST, &path, big.clone())
            .await
            .expect("an answer");
        answer.error(413, "request_too_large");
    }
    let answer = app
        .client
        .send(Method::POST, "/v1/agents", filler(5 << 20))
        .await
        .expect("an answer");
    answer.error(413, "request_too_large");
    // Below its cap a large body is read: this one is refused for what it says.
    let answer = app
        .client
        .send(Method::POST, "/v1/sessions", filler(30 << 20))
        .await
        .expect("an answer");
    assert!(
        answer
            .error(400, "invalid_request_error")
            .contains("missing field")
    );
    assert_eq!(app.events(&session).await, Vec::<Value>::new());
}

async fn bodies_that_cannot_be_read_are_refused(app: &TestApp) {
    let post = |body: &'static str| app.client.send(Method::POST, "/v1/agents", body);
    for (body, problem) in [
        ("", "a JSON object is required"),
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        (
            "{\"name\":\"a\",\"name\":\"b\",\"model\":\"claude-x\"}",
            "duplicate field `name`",
        ),
        ("{\"name\":7,\"model\":\"claude-x\"}", "name: invalid type"),
    ] {
        let message = post(body)
            .await
            .expect("an answer")
            .error(400, "invalid_request_error");
        assert!(message.contains(problem), "{message}");
    }
    let gzip = app.client.clone().header("content-encoding", "gzip");
    let answer = gzip.post("/v1/agents", &json!({})).await;
    assert_eq!(
        answer.json()["error"]["details"]["error_code"],
        "request_body_encoding_unsupported"
    );
    let list = app.client.get("/v1/agents").await.ok();
    assert_eq!(list["data"], json!([]), "nothing was written");
}

/// runtime ID-4, HT-11
async fn unknown_paths_and_methods_have_an_envelope(app: &TestApp) {
    app.client.get("/").await.error(404, "not_found_error");
    app.client
        .get("/v1/dreams")
        .await
        .error(404, "not_found_error");
    let put = app
        .client
        .send(Method::PUT, "/v1/agents", "{}")
        .await
        .expect("an answer");
    put.error(405, "invalid_request_error");
    app.client
        .delete("/v1/agents/agent_01none")
        .await
        .error(405, "invalid_request_error");
    // ID-4: an id of another kind is refused, not looked up.
    app.client
        .get("/v1/sessions/agent_01none")
        .await
        .error(400, "invalid_request_error");
    app.client
        .get("/v1/agents/..%2Fetc")
        .await
        .error(400, "invalid_request_error");
}

async fn ht_8_old_query_marks_are_ignored(app: &TestApp) {
    app.client
        .get("/v1/agents?beta=true&unheard_of=1")
        .await
        .ok();
    let betas = app.client.clone().header(
        "anthropic-beta",
        "files-api-2025-04-14,managed-agents-2026-04-01",
    );
    betas.get("/v1/agents").await.ok();
}

async fn ops_1_health_readiness_and_figures_are_open(app: &TestApp) {
    let stranger = Client::new(&app.url());
    assert_eq!(stranger.get("/healthz").await.ok(), json!({"status": "ok"}));
    let ready = stranger.get("/readyz").await.ok();
    assert_eq!(
        ready,
        json!({"status": "ready", "role": "all", "checks": {"store": "ok", "key": "ok", "sandbox": "ok", "vaults": "ok"}})
    );
    app.client.get("/v1/agents").await.ok();
    let figures = stranger.get("/metrics").await;
    let text = String::from_utf8_lossy(&figures.body).into_owned();
    assert!(
        text.contains(
            "manyhands_http_requests_total{method=\"GET\",path=\"/v1/agents\",status=\"200\"}"
        ),
        "{text}"
    );
    // What sandboxes can be here was found out for the readiness (security SBX-2).
    assert!(text.contains("manyhands_sandbox_usable 1"), "{text}");
    app.model.push(Reply::text("Hello."));
    let session = app.session().await;
    app.turn(&session, "hello").await;
    let figures = stranger.get("/metrics").await;
    let text = String::from_utf8_lossy(&figures.body).into_owned();
    // Others may have counted too: the recorder is the process's.
    for figure in [
        "manyhands_append_seconds_count{by=\"client\"} ",
        "manyhands_append_seconds_count{by=\"brain\"} ",
        "manyhands_stream_delay_seconds_count ",
        "manyhands_model_first_token_seconds_count ",
        "manyhands_wakes_queued ",
        "manyhands_wakes_queued_oldest_seconds ",
        "manyhands_sessions_waiting ",
        "manyhands_sessions_waiting_oldest_seconds ",
        "manyhands_vaults_sealed ",
    ] {
        assert!(text.contains(&format!("\n{figure}")), "{figure}: {text}");
    }
    assert!(!text.contains("sesn_"), "no figure is of one session");
    // The key is gone, so nobody could work with it: not ready.
    let keys = app.client.get("/v1/manyhands/keys").await.ok();
    let id = keys["data"][0]["id"].as_str().expect("an id").to_owned();
    app.client
        .delete(&format!("/v1/manyhands/keys/{id}"))
        .await
        .ok();
    let answer = stranger.get("/readyz").await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (503, &json!("not_ready"))
    );
}

async fn models_need_a_key_and_no_beta_header(app: &TestApp) {
    let client = app.client.clone().without("anthropic-beta");
    let page = client.get("/v1/models?limit=2").await.ok();
    assert_eq!(page["has_more"], true);
    let last = page["last_id"].as_str().expect("an id");
    let next = client
        .get(&format!("/v1/models?limit=1000&after_id={last}"))
        .await
        .ok();
    assert_eq!(next["has_more"], false);
    let model = client.get("/v1/models/plain-1").await.ok();
    assert_eq!(
        (&model["type"], &model["lifecycle"]),
        (&json!("model"), &json!("active"))
    );
    assert_eq!(
        client.get("/v1/models/claude-of-tomorrow").await.ok()["id"],
        "claude-of-tomorrow"
    );
    client
        .get("/v1/models/gpt-0")
        .await
        .error(404, "not_found_error");
    client
        .get("/v1/models?lifecycle[]=asleep")
        .await
        .error(400, "invalid_request_error");
    client
        .without("authorization")
        .get("/v1/models")
        .await
        .error(401, "authentication_error");
}
