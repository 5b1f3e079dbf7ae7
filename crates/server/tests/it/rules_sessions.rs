//! Rules of a session's making and life that have no story of their own (runtime §2, §4, §39).

use std::collections::HashSet;

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    lc_1_lc_2_lc_3_a_session_rests_between_turns_and_ends_only_when_archived,
    lc_5_references_are_checked_and_reachability_is_not,
    lc_6_initial_events_are_stored_before_the_answer,
    lc_7_wrong_initial_events_leave_no_session,
    lc_10_conflict_1_a_model_override_replaces_the_whole_object,
    lc_13_up_6_what_is_given_at_creation_stays,
    lc_16_what_the_stream_tells_is_stored,
    id_1_conflict_18_each_kind_has_its_prefix,
}

async fn lc_1_lc_2_lc_3_a_session_rests_between_turns_and_ends_only_when_archived(app: &TestApp) {
    let status = async |session: &str| app.retrieve(session).await["status"].clone();
    let (session, gate, mut stream) = app.working("Hello.").await;
    assert_eq!(status(&session).await, "running");
    gate.open();
    stream.until_idle().await;
    assert_eq!(
        status(&session).await,
        "idle",
        "LC-3: finished is not ended"
    );
    app.model.push(Reply::text("Again."));
    app.turn(&session, "again").await;
    assert_eq!(status(&session).await, "idle");
    let archive = format!("/v1/sessions/{session}/archive");
    app.client.post_empty(&archive).await.ok();
    assert_eq!(status(&session).await, "terminated");
    // Nothing leads out of it.
    for event in [message("more"), json!({"type": "user.interrupt"})] {
        app.refused(&session, json!([event])).await;
    }
    assert_eq!(status(&session).await, "terminated");
}

/// runtime LC-5; security API-2
async fn lc_5_references_are_checked_and_reachability_is_not(app: &TestApp) {
    let (agent, environment) = (app.agent().await, app.environment().await);
    let create = async |agent: &str, environment: &str| {
        let body = json!({"agent": agent, "environment_id": environment});
        app.client.post("/v1/sessions", &body).await
    };
    create(&agent, &environment).await.ok();
    assert_eq!(app.hands.provisions(), 0, "nothing is tried out");
    create("agent_01none", &environment)
        .await
        .error(404, "not_found_error");
    create(&agent, "env_01none")
        .await
        .error(404, "not_found_error");
    let path = format!("/v1/environments/{environment}/archive");
    app.client.post_empty(&path).await.ok();
    create(&agent, &environment)
        .await
        .error(400, "invalid_request_error");
    let environment = app.environment().await;
    app.client
        .post_empty(&format!("/v1/agents/{agent}/archive"))
        .await
        .ok();
    create(&agent, &environment)
        .await
        .error(400, "invalid_request_error");
    assert_eq!(
        app.client.get("/v1/sessions").await.ok()["data"]
            .as_array()
            .expect("a list")
            .len(),
        1
    );
}

async fn lc_6_initial_events_are_stored_before_the_answer(app: &TestApp) {
    let gate = Gate::new();
    app.model
        .push(Reply::text("Hello.").hold_first_token(&gate));
    let (agent, environment) = (app.agent().await, app.environment().await);
    let events: Vec<Value> = (0..50).map(|n| message(&format!("{n}."))).collect();
    let body = json!({"agent": agent, "environment_id": environment, "initial_events": events});
    let session = app.client.post("/v1/sessions", &body).await.ok();
    assert_eq!(session["status"], "running");
    assert!(session.get("initial_events").is_none(), "not echoed");
    let listed = app.events(&id(&session)).await;
    let texts: Vec<Value> = listed
        .iter()
        .filter(|event| event["type"] == "user.message")
        .map(|event| event["content"][0]["text"].clone())
        .collect();
    let expected: Vec<Value> = (0..50).map(|n| json!(format!("{n}."))).collect();
    assert_eq!(texts, expected, "in order");
    gate.open();
    let empty = json!({"agent": agent, "environment_id": environment, "initial_events": []});
    let session = app.client.post("/v1/sessions", &empty).await.ok();
    assert_eq!(session["status"], "idle", "none is the same as absent");
}

/// Acceptance scenario 15, without outcomes.
async fn lc_7_wrong_initial_events_leave_no_session(app: &TestApp) {
    let (agent, environment) = (app.agent().await, app.environment().await);
    let outcome = json!({"type": "user.define_outcome", "description": "x", "rubric": {"type": "text", "content": "x"}});
    let file = json!({"type": "document", "source": {"type": "file", "file_id": "file_01"}});
    let text = json!({"type": "system.message", "content": [{"type": "text", "text": "x"}]});
    for events in [
        json!(vec![message("x"); 51]),
        json!([message("x"), outcome, outcome]),
        json!([{"type": "user.message", "content": vec![file; 101]}]),
        json!([message("x"), {"type": "user.interrupt"}]),
        json!([message("x"), text]),
        json!([message("x"), {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_01none"}]),
        json!([message("x"), {"type": "user.message"}]),
        json!([message("x"), {"type": "agent.message", "content": []}]),
        json!({"type": "user.message"}),
    ] {
        let body = json!({"agent": agent, "environment_id": environment, "initial_events": events});
        app.client
            .post("/v1/sessions", &body)
            .await
            .refused("initial_events");
    }
    let listed = app
        .client
        .get("/v1/sessions?include_archived=true")
        .await
        .ok();
    assert_eq!(listed["data"], json!([]));
    assert_eq!(app.model.hits(), 0);
}

async fn lc_10_conflict_1_a_model_override_replaces_the_whole_object(app: &TestApp) {
    let body = json!({"name": "a", "model": {"id": "claude-opus-4-8", "effort": "max"}});
    let agent = id(&app.client.post("/v1/agents", &body).await.ok());
    let environment = app.environment().await;
    let create = async |model: Value| {
        let agent = json!({"type": "agent_with_overrides", "id": agent, "model": model});
        let body = json!({"agent": agent, "environment_id": environment});
        app.client.post("/v1/sessions", &body).await
    };
    for (given, effort) in [
        (json!("claude-opus-4-8"), "high"),
        (json!({"id": "claude-opus-4-8", "effort": "low"}), "low"),
        (
            json!({"id": "claude-sonnet-5-5", "effort": {"type": "xhigh"}}),
            "xhigh",
        ),
    ] {
        let session = create(given.clone()).await.ok();
        let model = &session["agent"]["model"];
        assert_eq!(model["effort"], json!({"type": effort}), "{given}");
        assert_eq!(model["id"], *given.get("id").unwrap_or(&given));
    }
    create(json!({"id": "plain-1", "effort": "low"}))
        .await
        .refused("agent.model.effort");
    // What was overridden is what the model is asked with.
    app.model.push(Reply::text("Hello."));
    let session = create(json!({"id": "claude-opus-4-8", "effort": "low"}))
        .await
        .ok();
    app.turn(&id(&session), "hi").await;
    let sent: Value = serde_json::from_slice(&app.model.request(1).await.raw).expect("JSON");
    assert_eq!(sent["output_config"]["effort"], "low");
}

/// runtime LC-13, UP-6
async fn lc_13_up_6_what_is_given_at_creation_stays(app: &TestApp) {
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    let before = app.retrieve(&session).await;
    app.client
        .post(&path, &json!({"vault_ids": ["vlt_01"]}))
        .await
        .error(400, "invalid_request_error");
    let attempt = json!({
        "agent": {"model": "claude-sonnet-5-5", "system": "other", "skills": [], "id": "agent_01", "version": 7},
        "environment_id": "env_01other", "resources": [{"type": "memory_store"}], "deployment_id": "depl_01",
    });
    app.client.post(&path, &attempt).await.ok();
    let mut after = app.retrieve(&session).await;
    after["stats"] = before["stats"].clone();
    assert_eq!(after, before);
    assert_eq!(
        app.events(&session).await,
        Vec::<Value>::new(),
        "and nothing is told"
    );
}

/// The moment an event is heard, the session is where the event says: what depends on it works at once.
async fn lc_16_what_the_stream_tells_is_stored(app: &TestApp) {
    for _ in 0..10 {
        app.model.push(Reply::text("Hello."));
        let session = app.session().await;
        let mut stream = app.stream(&session, "").await;
        app.send(&session, message("hi")).await;
        stream.until("session.status_running").await;
        stream.until_idle().await;
        let archive = format!("/v1/sessions/{session}/archive");
        let archived = app.client.post_empty(&archive).await.ok();
        assert_eq!(archived["status"], "terminated");
    }
}

/// runtime ID-1, ID-2, ST-17, CONFLICT-18
async fn id_1_conflict_18_each_kind_has_its_prefix(app: &TestApp) {
    app.model.push(Reply::tool_use(
        "toolu_of_the_model",
        "bash",
        json!({"command": "ls"}),
    ));
    app.model.push(Reply::text("Done."));
    let session = app.session().await;
    let events = app.turn(&session, "look").await;
    let found = app.retrieve(&session).await;
    let threads = app
        .client
        .get(&format!("/v1/sessions/{session}/threads"))
        .await
        .ok();
    for (shown, prefix) in [
        (&found["id"], "sesn_"),
        (&found["agent"]["id"], "agent_"),
        (&found["environment_id"], "env_"),
        (&threads["data"][0]["id"], "sthr_"),
    ] {
        assert!(
            shown.as_str().expect("an id").starts_with(prefix),
            "{shown}"
        );
    }
    let mut seen = HashSet::new();
    for event in app.events(&session).await {
        assert!(id(&event).starts_with("sevt_"), "{event}");
        assert!(seen.insert(id(&event)), "an id of its own: {event}");
    }
    assert!(kinds(&events).contains(&"agent.tool_result"));
    let told: String = events.iter().map(|event| event.data.to_string()).collect();
    assert!(!told.contains("toolu_"), "calls are known by their events");
}
