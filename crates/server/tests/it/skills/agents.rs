//! Skills of agents and sessions: pinned, needed, and told to the model.

use manyhands_testkit::http::Answer;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use super::{skill, version};
use crate::app::{TestApp, id, stories};

stories! {
    ag_7_agents_pin_what_they_name,
    ag_11_skills_and_the_read_tool_belong_together,
    lc_5_a_session_needs_the_versions_of_its_agent,
    sk_2_the_model_is_told_of_names_descriptions_and_paths,
}

const TOOLS: &str = "agent_toolset_20260401";

async fn agent(app: &TestApp, skills: Value) -> Answer {
    let body = json!({"name": "a", "model": "claude-sonnet-5-5", "tools": [{"type": TOOLS}], "skills": skills});
    app.client.post("/v1/agents", &body).await
}

fn named(skill: &Value) -> Value {
    json!({"type": "custom", "skill_id": skill["id"]})
}

fn pinned(skill: &Value, version: &Value) -> Value {
    json!({"type": "custom", "skill_id": skill["id"], "version": version["id"]})
}

/// runtime AG-1, AG-6, AG-7, LC-8, SK-4, CONFLICT-4
async fn ag_7_agents_pin_what_they_name(app: &TestApp) {
    let greet = skill(app).await;
    let path = format!("/v1/skills/{}/versions/latest", id(&greet));
    let first = app.client.get(&path).await.ok();
    let latest = json!({"type": "custom", "skill_id": greet["id"], "version": "latest"});
    let pdf = json!({"type": "anthropic", "skill_id": "pdf"});
    let made = agent(app, json!([named(&greet), pdf, latest, named(&greet)]))
        .await
        .ok();
    let skills = made["skills"].as_array().expect("skills");
    assert_eq!(skills.len(), 2, "one that is named again counts once");
    assert_eq!(skills[0], pinned(&greet, &first));
    assert!(
        skills[1]["version"]
            .as_str()
            .is_some_and(|version| version.starts_with("skver_pdf-"))
    );

    // A newer version changes nothing until the agent is saved with it.
    let second = version(app, &greet).await;
    let path = format!("/v1/agents/{}", id(&made));
    assert_eq!(app.client.get(&path).await.ok(), made);
    let same = app
        .client
        .post(&path, &json!({"skills": [pinned(&greet, &first), pdf]}))
        .await
        .ok();
    assert_eq!(same["version"], 1);
    let newer = app
        .client
        .post(&path, &json!({"skills": [named(&greet), pdf]}))
        .await
        .ok();
    assert_eq!(
        (&newer["version"], &newer["skills"][0]),
        (&json!(2), &pinned(&greet, &second))
    );
    let kept = app.client.post(&path, &json!({"name": "b"})).await.ok();
    assert_eq!(kept["skills"], newer["skills"]);

    let environment = app.environment().await;
    let create = async |agent: Value| {
        let body = json!({"agent": agent, "environment_id": environment});
        app.client.post("/v1/sessions", &body).await
    };
    let session = create(json!({"type": "agent", "id": made["id"], "version": 1}))
        .await
        .ok();
    assert_eq!(session["agent"]["skills"], made["skills"]);
    let other =
        json!({"type": "agent_with_overrides", "id": made["id"], "skills": [named(&greet)]});
    let session = create(other).await.ok();
    assert_eq!(session["agent"]["skills"], json!([pinned(&greet, &second)]));
    let none = json!({"type": "agent_with_overrides", "id": made["id"], "skills": null});
    assert_eq!(create(none).await.ok()["agent"]["skills"], json!([]));
    let cleared = app.client.post(&path, &json!({"skills": []})).await.ok();
    assert_eq!(cleared["skills"], json!([]));

    // What there is not is named.
    let refused = async |skills: Value, problem: &str| {
        let answer = agent(app, skills).await;
        answer.error(400, "invalid_request_error");
        let answer = answer.json();
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(problem), "{message}");
    };
    refused(
        json!([{"type": "custom", "skill_id": "skill_01none"}]),
        "skills[0].skill_id: there is no custom skill \"skill_01none\"",
    )
    .await;
    refused(
        json!([{"type": "custom", "skill_id": "pdf"}]),
        "there is no custom skill",
    )
    .await;
    refused(
        json!([{"type": "anthropic", "skill_id": greet["id"]}]),
        "there is no anthropic skill",
    )
    .await;
    refused(
        json!([{"type": "anthropic", "skill_id": "../x"}]),
        "there is no anthropic skill",
    )
    .await;
    refused(json!([{"type": "plugin", "skill_id": "x"}]), "skills[0]").await;
    refused(json!([{"skill_id": "x"}]), "skills[0]").await;
    let absent = json!({"type": "custom", "skill_id": greet["id"], "version": "skver_01none"});
    refused(json!([absent]), "has no version \"skver_01none\"").await;
    refused(
        json!([named(&greet), pinned(&greet, &first)]),
        "another version",
    )
    .await;
    let twin = skill(app).await;
    refused(
        json!([named(&greet), named(&twin)]),
        "has the name \"greet\"",
    )
    .await;
    let many: Vec<Value> = (0..501).map(|_| named(&greet)).collect();
    refused(json!(many), "at most 500").await;
    let most: Vec<Value> = (0..500).map(|_| named(&greet)).collect();
    assert_eq!(
        agent(app, json!(most)).await.ok()["skills"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

/// runtime AG-11, LC-9
async fn ag_11_skills_and_the_read_tool_belong_together(app: &TestApp) {
    let greet = skill(app).await;
    let body = json!({"name": "a", "model": "claude-sonnet-5-5", "skills": [named(&greet)]});
    let refused = app.client.post("/v1/agents", &body).await;
    refused.error(400, "invalid_request_error");
    let made = agent(app, json!([named(&greet)])).await.ok();
    let path = format!("/v1/agents/{}", id(&made));
    let off = json!([{"type": TOOLS, "configs": [{"name": "read", "enabled": false}]}]);
    for tools in [json!([]), json!(null), off.clone()] {
        let refused = app.client.post(&path, &json!({"tools": tools})).await;
        refused.error(400, "invalid_request_error");
    }
    let both = app
        .client
        .post(&path, &json!({"tools": [], "skills": []}))
        .await
        .ok();
    assert_eq!(both["version"], 2);
    let environment = app.environment().await;
    let create = async |more: Value| {
        let mut agent = json!({"type": "agent_with_overrides", "id": made["id"], "version": 1});
        agent
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let body = json!({"agent": agent, "environment_id": environment});
        app.client.post("/v1/sessions", &body).await
    };
    create(json!({"tools": []}))
        .await
        .error(400, "invalid_request_error");
    create(json!({"tools": null, "skills": null})).await.ok();
    let session = create(json!({})).await.ok();
    let path = format!("/v1/sessions/{}", id(&session));
    let refused = app
        .client
        .post(&path, &json!({"agent": {"tools": off}}))
        .await;
    refused.error(400, "invalid_request_error");
    assert_eq!(app.client.get(&path).await.ok()["agent"], session["agent"]);
}

/// runtime LC-5, SK-1: an agent may outlive the version that it names; a session that has it keeps it.
async fn lc_5_a_session_needs_the_versions_of_its_agent(app: &TestApp) {
    let greet = skill(app).await;
    let made = agent(app, json!([named(&greet)])).await.ok();
    let session = app.session_of(&id(&made)).await;
    app.client
        .delete(&format!("/v1/skills/{}", id(&greet)))
        .await
        .ok();
    let body = json!({"agent": made["id"], "environment_id": app.environment().await});
    let refused = app.client.post("/v1/sessions", &body).await;
    refused.error(400, "invalid_request_error");
    let refused = refused.json();
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("agent.skills[0]: version skver_"),
        "{message}"
    );
    // The session goes on, and its sandbox is told of what it has.
    app.model.push(Reply::tool_use(
        "toolu_1",
        "bash",
        json!({"command": "true"}),
    ));
    app.model.push(Reply::text("done"));
    app.turn(&session, "go").await;
    let shown = app.retrieve(&session).await;
    assert_eq!(shown["agent"]["skills"], made["skills"]);
}

/// runtime SK-2, invariant I6: the prompt names them, also after a restart, and their bodies are not in it.
async fn sk_2_the_model_is_told_of_names_descriptions_and_paths(app: &TestApp) {
    let greet = skill(app).await;
    let made = agent(app, json!([named(&greet)])).await.ok();
    let session = app.session_of(&id(&made)).await;
    app.model.push(Reply::text("one"));
    app.model.push(Reply::text("two"));
    app.turn(&session, "first").await;
    app.turn(&session, "second").await;
    let requests = app.model.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let system = request.body["system"].to_string();
        assert!(system.contains("/mnt/skills/greet/SKILL.md"), "{system}");
        assert!(system.contains("Greets people."), "{system}");
        assert!(!system.contains("# Greet"), "{system}");
    }
}
