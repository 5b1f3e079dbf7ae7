//! Rules of agents and their snapshots that have no story of their own (runtime §3, §39).

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    ag_4_a_new_model_object_replaces_the_old_one,
    ag_9_conflict_6_counts_and_lengths_are_limited,
    ag_11a_whatever_model_is_configured_can_be_used,
    ag_12_the_identity_is_always_shown,
    ag_13_a_session_keeps_the_agent_as_it_was,
    ag_1_metadata_and_order_of_updates_count_as_they_should,
}

async fn ag_4_a_new_model_object_replaces_the_old_one(app: &TestApp) {
    let body = json!({"name": "a", "model": {"id": "claude-opus-4-8", "effort": "max"}});
    let path = format!(
        "/v1/agents/{}",
        id(&app.client.post("/v1/agents", &body).await.ok())
    );
    let update = async |model: Value| {
        let agent = app.client.post(&path, &json!({"model": model})).await.ok();
        let version = agent["version"].as_i64().expect("a version");
        (agent["model"].clone(), version)
    };
    let shown =
        |id: &str, effort: &str| json!({"id": id, "effort": {"type": effort}, "speed": "standard"});
    for same in [
        json!("claude-opus-4-8"),
        json!({"id": "claude-opus-4-8"}),
        json!({"id": "claude-opus-4-8", "effort": null}),
    ] {
        let kept = update(same).await;
        assert_eq!(kept, (shown("claude-opus-4-8", "max"), 1), "effort is kept");
    }
    let other = update(json!("claude-sonnet-5-5")).await;
    assert_eq!(other, (shown("claude-sonnet-5-5", "high"), 2), "and reset");
    let chosen = update(json!({"id": "claude-sonnet-5-5", "effort": {"type": "low"}})).await;
    assert_eq!(chosen, (shown("claude-sonnet-5-5", "low"), 3));
}

async fn ag_9_conflict_6_counts_and_lengths_are_limited(app: &TestApp) {
    let with = |field: &str, value: Value| {
        let mut body = json!({"name": "a", "model": "claude-opus-4-8"});
        body[field] = value;
        body
    };
    let custom = |n: usize| json!({"type": "custom", "name": format!("t{n}"), "description": "x", "input_schema": {"type": "object"}});
    let tools = |count: usize| Value::from((0..count).map(custom).collect::<Vec<_>>());
    let pairs =
        |count: usize| Value::Object((0..count).map(|n| (format!("k{n}"), json!("v"))).collect());
    for (field, most, beyond) in [
        ("name", json!("é".repeat(256)), json!("é".repeat(257))),
        (
            "description",
            json!("é".repeat(2048)),
            json!("é".repeat(2049)),
        ),
        (
            "system",
            json!("é".repeat(100_000)),
            json!("é".repeat(100_001)),
        ),
        ("tools", tools(128), tools(129)),
        ("metadata", pairs(16), pairs(17)),
    ] {
        let made = app
            .client
            .post("/v1/agents", &with(field, most.clone()))
            .await
            .ok();
        match field {
            "tools" => assert_eq!(made["tools"].as_array().expect("a list").len(), 128),
            _ => assert_eq!(made[field], most),
        }
        app.client
            .post("/v1/agents", &with(field, beyond.clone()))
            .await
            .refused(field);
        let path = format!("/v1/agents/{}", id(&made));
        let update = json!({ (field): beyond });
        app.client
            .post(&path, &update)
            .await
            .error(400, "invalid_request_error");
        assert_eq!(
            app.client.get(&path).await.ok(),
            made,
            "an update too, and all of it"
        );
    }
}

async fn ag_11a_whatever_model_is_configured_can_be_used(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let agent = app.agent_of("plain-1", json!([])).await;
    let session = app.session_of(&agent).await;
    let events = app.turn(&session, "hi").await;
    assert!(events.iter().any(|event| event.kind() == "agent.message"));
    assert_eq!(app.model.request(1).await.model(), "plain-1");
}

async fn ag_12_the_identity_is_always_shown(app: &TestApp) {
    let expected = json!({"type": "service_account"});
    for given in [json!(null), expected.clone()] {
        let body = json!({"name": "a", "model": "claude-opus-4-8", "execution_identity": given});
        let agent = app.client.post("/v1/agents", &body).await.ok();
        assert_eq!(agent["execution_identity"], expected);
        let session = app.retrieve(&app.session_of(&id(&agent)).await).await;
        assert_eq!(session["agent"]["execution_identity"], expected);
    }
}

/// runtime AG-13, LC-8
async fn ag_13_a_session_keeps_the_agent_as_it_was(app: &TestApp) {
    app.model.push(Reply::text("One."));
    app.model.push(Reply::text("Two."));
    let agent = app.agent().await;
    let (old, path) = (app.session_of(&agent).await, format!("/v1/agents/{agent}"));
    let before = app.retrieve(&old).await["agent"].clone();
    let update = json!({"system": "Be brief.", "model": "claude-sonnet-5-5", "tools": []});
    app.client.post(&path, &update).await.ok();
    app.client.post_empty(&format!("{path}/archive")).await.ok();
    assert_eq!(app.retrieve(&old).await["agent"], before);
    app.turn(&old, "hi").await;
    let request = app.model.request(1).await;
    assert_eq!(request.model(), "claude-opus-4-8");
    assert!(!request.system().contains("Be brief."));
    assert!(request.tool_names().contains(&"bash"));
}

/// runtime AG-1, HT-16: an update that says what is there already makes no version, whatever it says it with.
async fn ag_1_metadata_and_order_of_updates_count_as_they_should(app: &TestApp) {
    let body = json!({"name": "a", "model": "claude-opus-4-8", "metadata": {"a": "1", "b": "2"}});
    let made = app.client.post("/v1/agents", &body).await.ok();
    let path = format!("/v1/agents/{}", id(&made));
    let update = async |body: Value| app.client.post(&path, &body).await.ok();
    assert_eq!(
        update(json!({"metadata": {"b": "2"}, "description": ""})).await,
        made
    );
    let merged = update(json!({"metadata": {"a": null, "c": "3"}})).await;
    assert_eq!(
        (&merged["metadata"], &merged["version"]),
        (&json!({"b": "2", "c": "3"}), &json!(2))
    );
}
