//! What the key of an environment reaches: what its workers need, and no more (api §1.1, security API-1).

use http::Method;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, message, stories};
use crate::files::upload;
use crate::skills;
use crate::tenancy::keyed;

stories! {
    api_1_the_key_of_an_environment_reaches_its_sessions_alone,
    api_1_the_key_of_an_environment_reads_what_its_sessions_have,
    api_5_the_key_of_an_environment_allows_nothing,
}

async fn api_1_the_key_of_an_environment_reaches_its_sessions_alone(app: &TestApp) {
    app.model.push(Reply::text("hello"));
    let agent = app.agent_with(json!([])).await;
    let own = app.session_of(&agent).await;
    let other = app.session_of(&agent).await;
    let environment = app.retrieve(&own).await["environment_id"].clone();
    let worker = keyed(
        app,
        &app.client,
        json!({"name": "w", "environment_id": environment}),
    )
    .await;
    let session = worker.get(&format!("/v1/sessions/{own}")).await.ok();
    assert_eq!(session["id"], own.as_str());
    let events = json!({"events": [message("hello")]});
    let sent = worker
        .post(&format!("/v1/sessions/{own}/events"), &events)
        .await;
    sent.ok();
    let mut stream = worker
        .stream(&format!("/v1/sessions/{own}/events/stream"))
        .await;
    let rests = app.retrieve(&own).await["status"] == "idle";
    if !rests {
        stream.until_idle().await;
    }
    let listed = worker.get(&format!("/v1/sessions/{own}/events")).await.ok();
    let mut listed = listed["data"].as_array().expect("events").iter();
    assert!(listed.any(|event| event["type"] == "user.message"));
    let missing = worker
        .get("/v1/sessions/sesn_01none")
        .await
        .error(404, "not_found_error");
    for (method, path) in [
        (Method::GET, format!("/v1/sessions/{other}")),
        (Method::GET, format!("/v1/sessions/{other}/events")),
        (Method::GET, format!("/v1/sessions/{other}/events/stream")),
        (Method::POST, format!("/v1/sessions/{other}/events")),
    ] {
        let answer = worker.send(method, &path, events.to_string()).await;
        let told = answer.expect("an answer").error(404, "not_found_error");
        assert_eq!(told, missing, "{path}");
    }
    for (method, path) in [
        (Method::GET, "/v1/sessions".to_owned()),
        (Method::POST, format!("/v1/sessions/{own}")),
        (Method::DELETE, format!("/v1/sessions/{own}")),
        (Method::POST, format!("/v1/sessions/{own}/archive")),
        (Method::GET, "/v1/agents".to_owned()),
        (Method::GET, "/v1/vaults".to_owned()),
        (Method::GET, "/v1/manyhands/keys".to_owned()),
    ] {
        let answer = worker.send(method, &path, "{}").await;
        answer.expect("an answer").error(403, "permission_error");
    }
    let keys = app.client.get("/v1/manyhands/keys").await.ok();
    let key = &keys["data"][1];
    assert_eq!(
        (&key["role"], &key["environment_id"]),
        (&json!("environment"), &environment)
    );
    let path = format!("/v1/manyhands/keys/{}", key["id"].as_str().expect("an id"));
    app.client.delete(&path).await.ok();
    let refused = worker.get(&format!("/v1/sessions/{own}")).await;
    refused.error(401, "authentication_error");
}

async fn api_5_the_key_of_an_environment_allows_nothing(app: &TestApp) {
    let session = app.session().await;
    let environment = app.retrieve(&session).await["environment_id"].clone();
    let worker = keyed(
        app,
        &app.client,
        json!({"name": "w", "environment_id": environment}),
    )
    .await;
    let events = json!({"events": [
        {"type": "user.tool_confirmation", "tool_use_id": "sevt_01none", "result": "allow"}
    ]});
    let path = format!("/v1/sessions/{session}/events");
    worker
        .post(&path, &events)
        .await
        .error(403, "permission_error");
    app.client
        .post(&path, &events)
        .await
        .error(400, "invalid_request_error");
}

/// security API-1, API-2: skills and files of the workspace that none of its sessions has are not there.
async fn api_1_the_key_of_an_environment_reads_what_its_sessions_have(app: &TestApp) {
    let made = skills::skill(app).await;
    let (skill, version) = (
        id(&made),
        made["latest_version_id"].as_str().expect("an id"),
    );
    let environment = app.environment().await;
    let key = json!({"name": "w", "environment_id": environment});
    let worker = keyed(app, &app.client, key).await;
    let one = format!("/v1/skills/{skill}/versions/{version}");
    let content = format!("{one}/content");
    let nowhere = format!("/v1/skills/{skill}/versions/skver_01none");
    let missing = worker.get(&nowhere).await.error(404, "not_found_error");
    let latest = format!("/v1/skills/{skill}/versions/latest");
    for path in [&one, &content, &latest] {
        let told = worker.get(path).await.error(404, "not_found_error");
        assert_eq!(told, missing, "{path}");
    }
    let agent = json!({"name": "a", "model": "claude-opus-4-8", "tools": [{"type": "agent_toolset_20260401"}],
        "skills": [{"type": "custom", "skill_id": skill}]});
    let agent = id(&app.client.post("/v1/agents", &agent).await.ok());
    let file = id(&upload(app, "a.txt", b"of the workspace").await);
    let session = async |environment: &str| {
        let body = json!({"agent": agent, "environment_id": environment,
            "resources": [{"type": "file", "file_id": file}]});
        app.client.post("/v1/sessions", &body).await.ok()
    };
    // A session of another environment opens nothing.
    let elsewhere = session(&app.environment().await).await;
    worker.get(&one).await.error(404, "not_found_error");
    let own = session(&environment).await;
    assert_eq!(worker.get(&one).await.ok(), app.client.get(&one).await.ok());
    assert_eq!(worker.get(&content).await.status, 200);

    let copy = |session: &Value| {
        session["resources"][0]["file_id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let events = format!("/v1/sessions/{}/events", id(&own));
    let send = async |file: &str| {
        let block = json!({"type": "document", "source": {"type": "file", "file_id": file}});
        let event = json!({"type": "user.message", "content": [block]});
        worker.post(&events, &json!({"events": [event]})).await
    };
    let missing = send("file_01none").await.error(404, "not_found_error");
    for file in [file.clone(), copy(&elsewhere)] {
        assert_eq!(send(&file).await.error(404, "not_found_error"), missing);
    }
    app.model.push(Reply::text("Read."));
    let mut stream = app.stream(&id(&own), "").await;
    send(&copy(&own)).await.ok();
    stream.until_idle().await;
}
