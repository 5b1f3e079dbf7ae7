//! Making sessions (api §7, runtime §4).

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    lc_19_a_session_has_an_exact_shape,
    lc_6_initial_events_start_it_at_once,
    lc_8_the_agent_can_be_pinned_and_overridden,
    bad_sessions_are_refused_and_nothing_is_written,
    us_3_st_6_the_primary_thread_is_shown,
    resources_are_an_empty_list,
}

async fn lc_19_a_session_has_an_exact_shape(app: &TestApp) {
    let agent = app
        .client
        .get(&format!("/v1/agents/{}", app.agent().await))
        .await
        .ok();
    let environment = app.environment().await;
    let body = json!({"agent": agent["id"], "environment_id": environment, "title": "t", "metadata": {"a": "b"},
        "resources": [], "vault_ids": [], "initial_events": [], "budget": null});
    let session = app.client.post("/v1/sessions", &body).await.ok();
    let mut snapshot = agent.clone();
    for field in ["metadata", "created_at", "updated_at", "archived_at"] {
        snapshot.as_object_mut().expect("an object").remove(field);
    }
    assert_eq!(
        session,
        json!({
            "id": session["id"], "type": "session", "title": "t", "status": "idle", "environment_id": environment,
            "agent": snapshot, "vault_ids": [], "metadata": {"a": "b"}, "resources": [], "outcome_evaluations": [],
            "budget": null, "deployment_id": null,
            "stats": {"active_seconds": 0.0, "duration_seconds": session["stats"]["duration_seconds"]},
            "usage": {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
                "active_seconds": 0.0, "list_cost": {"amount": "0", "currency": "USD"}, "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0}},
            "created_at": session["created_at"], "updated_at": session["created_at"], "archived_at": null,
        })
    );
    assert!(session["stats"]["duration_seconds"].is_f64());
    // AG-13: a later version of the agent changes nothing here.
    app.client
        .post(
            &format!("/v1/agents/{}", id(&agent)),
            &json!({"name": "new"}),
        )
        .await
        .ok();
    let again = app
        .client
        .get(&format!("/v1/sessions/{}", id(&session)))
        .await
        .ok();
    assert_eq!(again["agent"], snapshot);
}

async fn lc_6_initial_events_start_it_at_once(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let body = json!({"agent": app.agent().await, "environment_id": app.environment().await,
        "initial_events": [message("one"), message("two")]});
    let session = app.client.post("/v1/sessions", &body).await.ok();
    assert_eq!(session["status"], "running");
    let session = id(&session);
    let stream = app.client.clone().header("last-event-id", "0");
    let mut stream = stream
        .stream(&format!("/v1/sessions/{session}/events/stream"))
        .await;
    let events = stream.until_idle().await;
    assert_eq!(
        kinds(&events)[..4],
        [
            "user.message",
            "user.message",
            "session.thread_status_running",
            "session.status_running"
        ]
    );
    let request = app.model.request(1).await;
    let body = String::from_utf8_lossy(&request.raw).into_owned();
    assert!(body.find("one") < body.find("two") && body.contains("two"));
    let after = app.retrieve(&session).await;
    assert_eq!(after["status"], "idle");
    assert!(after["usage"]["output_tokens"].as_u64() > Some(0));
    assert!(after["stats"]["active_seconds"].as_f64() > Some(0.0));
}

async fn lc_8_the_agent_can_be_pinned_and_overridden(app: &TestApp) {
    let agent = app.agent().await;
    app.client
        .post(&format!("/v1/agents/{agent}"), &json!({"system": "second"}))
        .await
        .ok();
    let environment = app.environment().await;
    let create = |form: Value| {
        let body = json!({"agent": form, "environment_id": environment});
        async move { app.client.post("/v1/sessions", &body).await }
    };
    let latest = create(json!({"type": "agent", "id": agent})).await.ok();
    assert_eq!(
        (&latest["agent"]["version"], &latest["agent"]["system"]),
        (&json!(2), &json!("second"))
    );
    let pinned = create(json!({"type": "agent", "id": agent, "version": 1}))
        .await
        .ok();
    assert_eq!(
        (&pinned["agent"]["version"], &pinned["agent"]["system"]),
        (&json!(1), &Value::Null)
    );
    create(json!({"type": "agent", "id": agent, "version": 3}))
        .await
        .error(404, "not_found_error");
    let own =
        create(json!({"type": "agent_with_overrides", "id": agent, "system": "own", "tools": []}))
            .await
            .ok();
    assert_eq!(
        (
            &own["agent"]["version"],
            &own["agent"]["system"],
            &own["agent"]["tools"]
        ),
        (&json!(2), &json!("own"), &json!([]))
    );
    let error = create(json!({"type": "agent_with_overrides", "id": agent, "model": null})).await;
    error.error(400, "invalid_request_error");
    assert_eq!(
        error.json()["error"]["details"]["error_code"],
        "agent_model_required"
    );
}

/// runtime LC-5, LC-7, HT-15; security API-2
async fn bad_sessions_are_refused_and_nothing_is_written(app: &TestApp) {
    let (agent, environment) = (app.agent().await, app.environment().await);
    let with = |field: &str, value: Value| {
        let mut body = json!({"agent": agent, "environment_id": environment});
        body[field] = value;
        body
    };
    for (body, status, kind, problem) in [
        (
            with("agent", json!("agent_01none")),
            404,
            "not_found_error",
            "agent not found",
        ),
        (
            with("agent", json!("env_01none")),
            400,
            "invalid_request_error",
            "agent: expected an id that starts with \"agent_\"",
        ),
        (
            with("agent", json!(7)),
            400,
            "invalid_request_error",
            "agent: expected an agent id",
        ),
        // What may be a token is not quoted (security CRED-2).
        (
            with("resources", json!("S3KRET")),
            400,
            "invalid_request_error",
            "resources: expected a list",
        ),
        (
            with(
                "resources",
                json!([{"type": "github_repository", "url": "https://git.example.com/a/b", "checkout": "S3KRET"}]),
            ),
            400,
            "invalid_request_error",
            "resources[0].checkout: expected an object",
        ),
        (
            with("environment_id", json!("env_01none")),
            404,
            "not_found_error",
            "environment not found",
        ),
        (
            with("environment_id", json!("agent_01")),
            400,
            "invalid_request_error",
            "environment_id: expected an id",
        ),
        (
            with(
                "resources",
                json!([{"type": "memory_store", "memory_store_id": "memstore_1"}]),
            ),
            404,
            "not_found_error",
            "memory store not found",
        ),
        (
            with("vault_ids", json!(["vlt_1"])),
            404,
            "not_found_error",
            "vault not found",
        ),
        (
            with("vault_ids", json!(["vlt_1", "vault_2"])),
            400,
            "invalid_request_error",
            "vault_ids[1]: expected an id that starts with \"vlt_\"",
        ),
        (
            with("vault_ids", json!(["vlt_1", "vlt_1"])),
            400,
            "invalid_request_error",
            "vault_ids[1]: is listed twice",
        ),
        (
            with("vault_ids", json!(vec!["vlt_1"; 51])),
            400,
            "invalid_request_error",
            "vault_ids: has 51 entries; at most 50",
        ),
        (
            with("budget", json!({"type": "limit"})),
            400,
            "invalid_request_error",
            "budget.max_list_cost.currency: expected",
        ),
        (
            with("initial_events", json!(vec![message("x"); 51])),
            400,
            "invalid_request_error",
            "initial_events: has 51 events",
        ),
        (
            with(
                "initial_events",
                json!([message("x"), {"type": "user.interrupt"}]),
            ),
            400,
            "invalid_request_error",
            "initial_events[1].type",
        ),
        (
            with(
                "initial_events",
                json!([{"type": "user.message", "content": []}]),
            ),
            400,
            "invalid_request_error",
            "initial_events[0].content",
        ),
        (
            with("metadata", json!({"": "x"})),
            400,
            "invalid_request_error",
            "metadata: keys have",
        ),
    ] {
        let message = app
            .client
            .post("/v1/sessions", &body)
            .await
            .error(status, kind);
        assert!(message.starts_with(problem), "{message}");
    }
    assert_eq!(app.client.get("/v1/sessions").await.ok()["data"], json!([]));
    // API-2: what is missing and what is of somebody else look the same.
    for path in ["", "/events", "/events/stream", "/resources", "/threads"] {
        let path = format!("/v1/sessions/sesn_01none{path}");
        assert_eq!(
            app.client.get(&path).await.error(404, "not_found_error"),
            "session not found"
        );
    }
    assert_eq!(app.model.hits(), 0);
}

async fn us_3_st_6_the_primary_thread_is_shown(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}/threads");
    let fresh = app.client.get(&path).await.ok()["data"][0].clone();
    assert_eq!(
        (&fresh["stats"], &fresh["usage"], &fresh["parent_thread_id"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert!(fresh["agent"].get("multiagent").is_none());
    let events = app.turn(&session, "hi").await;
    let running = events
        .iter()
        .find(|event| event.kind() == "session.thread_status_running")
        .expect("told");
    assert_eq!(running.data["session_thread_id"], fresh["id"], "SQ-18");
    let thread = format!("{path}/{}", id(&fresh));
    let after = app.client.get(&thread).await.ok();
    assert_eq!(
        (&after["type"], &after["status"]),
        (&json!("session_thread"), &json!("idle"))
    );
    assert!(after["stats"].is_object() && after["usage"].is_object());
    let listed = app.client.get(&format!("{thread}/events")).await.ok();
    assert_eq!(listed["data"], Value::from(app.events(&session).await));
    assert_eq!(
        app.client
            .get(&format!("{path}?statuses[]=running"))
            .await
            .ok()["data"],
        json!([])
    );
    app.client
        .post_empty(&format!("{thread}/archive"))
        .await
        .error(400, "invalid_request_error");
    app.client
        .get(&format!("{path}/sthr_01none"))
        .await
        .error(404, "not_found_error");
    app.client
        .get(&format!("{path}/sthr_01none/events"))
        .await
        .error(404, "not_found_error");
    app.client
        .get(&format!("{path}/sthr_01none/stream"))
        .await
        .error(404, "not_found_error");
}

async fn resources_are_an_empty_list(app: &TestApp) {
    let path = format!("/v1/sessions/{}/resources", app.session().await);
    assert_eq!(
        app.client.get(&path).await.ok(),
        json!({"data": [], "next_page": null})
    );
    let body = json!({"type": "file", "file_id": "file_1"});
    app.client
        .post(&path, &body)
        .await
        .error(404, "not_found_error");
    app.client
        .get(&format!("{path}/sesrsc_1"))
        .await
        .error(404, "not_found_error");
    app.client
        .delete(&format!("{path}/sesrsc_1"))
        .await
        .error(404, "not_found_error");
}
