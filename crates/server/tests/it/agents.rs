//! Agents through HTTP (runtime §3).

use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    ag_1_an_agent_has_an_exact_shape,
    ag_1_ag_2_versions_and_conflicts,
    ag_8_an_archived_agent_is_read_only,
    li_6_agents_are_paged,
    bad_agents_are_refused_and_nothing_is_written,
}

async fn ag_1_an_agent_has_an_exact_shape(app: &TestApp) {
    let allow = json!({"type": "always_allow"});
    let body = json!({
        "name": "helper", "model": {"id": "claude-opus-4-8", "effort": "max"}, "description": "", "system": "Be kind.",
        "tools": [
            {"type": "agent_toolset_20260401", "configs": [{"name": "bash"}]},
            {"type": "custom", "name": "get_weather", "description": "Gets it.", "input_schema": {"type": "object", "properties": {}}},
        ],
        "mcp_servers": [], "skills": [], "multiagent": null, "metadata": {"team": "a"},
    });
    let agent = app.client.post("/v1/agents", &body).await.ok();
    let at = agent["created_at"].as_str().expect("a time");
    assert!(at.len() == 27 && at.ends_with('Z'), "{at}");
    assert_eq!(
        agent,
        json!({
            "id": agent["id"], "type": "agent", "version": 1, "name": "helper", "description": null, "system": "Be kind.",
            "model": {"id": "claude-opus-4-8", "effort": {"type": "max"}, "speed": "standard"},
            "tools": [
                {"type": "agent_toolset_20260401",
                 "configs": [{"name": "bash", "type": "bash", "enabled": true, "permission_policy": allow}],
                 "default_config": {"enabled": true, "permission_policy": allow}},
                {"type": "custom", "name": "get_weather", "description": "Gets it.", "input_schema": {"type": "object", "properties": {}}},
            ],
            "mcp_servers": [], "skills": [], "multiagent": null, "execution_identity": {"type": "service_account"},
            "metadata": {"team": "a"}, "created_at": at, "updated_at": at, "archived_at": null,
        })
    );
    assert_eq!(
        app.client
            .get(&format!("/v1/agents/{}", id(&agent)))
            .await
            .ok(),
        agent
    );
}

/// runtime AG-1, AG-2, HT-13, CONFLICT-10, CONFLICT-11
async fn ag_1_ag_2_versions_and_conflicts(app: &TestApp) {
    let path = format!("/v1/agents/{}", app.agent().await);
    let first = app.client.get(&path).await.ok();
    // AG-1: what changes nothing makes no version.
    for same in [
        json!({}),
        json!({"name": "helper"}),
        json!({"version": 1, "model": "claude-opus-4-8"}),
        json!({"metadata": {"x": null}}),
    ] {
        assert_eq!(app.client.post(&path, &same).await.ok(), first);
    }
    let second = app
        .client
        .post(&path, &json!({"version": 1, "system": "Be brief."}))
        .await
        .ok();
    assert_eq!(
        (&second["version"], &second["system"]),
        (&json!(2), &json!("Be brief."))
    );
    // AG-2: also when the fields already match.
    let conflict = app
        .client
        .post(&path, &json!({"version": 1, "system": "Be brief."}))
        .await;
    assert!(conflict.error(409, "conflict_error").contains("which is 2"));
    assert_eq!(conflict.header("x-should-retry"), Some("false"));
    app.client
        .post(&path, &json!({"version": 0}))
        .await
        .error(400, "invalid_request_error");
    app.client
        .post(&path, &json!({"name": null}))
        .await
        .error(400, "invalid_request_error");
    let third = app
        .client
        .post(&path, &json!({"system": null, "tools": null}))
        .await
        .ok();
    assert_eq!(
        (&third["version"], &third["system"], &third["tools"]),
        (&json!(3), &Value::Null, &json!([]))
    );

    assert_eq!(
        app.client.get(&format!("{path}?version=1")).await.ok(),
        first
    );
    assert_eq!(
        app.client.get(&format!("{path}?version=2")).await.ok(),
        second
    );
    app.client
        .get(&format!("{path}?version=4"))
        .await
        .error(404, "not_found_error");
    app.client
        .get(&format!("{path}?version=0"))
        .await
        .error(400, "invalid_request_error");

    let page = app
        .client
        .get(&format!("{path}/versions?limit=2"))
        .await
        .ok();
    assert_eq!(page["data"], json!([third, second]));
    let next = page["next_page"].as_str().expect("a cursor");
    let page = app
        .client
        .get(&format!("{path}/versions?limit=2&page={next}"))
        .await
        .ok();
    assert_eq!(page, json!({"data": [first], "next_page": null}));
}

/// runtime AG-8, UP-11, LC-5, LI-7
async fn ag_8_an_archived_agent_is_read_only(app: &TestApp) {
    let agent = app.agent().await;
    let path = format!("/v1/agents/{agent}");
    let session = app.session_of(&agent).await;
    let archived = app.client.post_empty(&format!("{path}/archive")).await.ok();
    assert!(archived["archived_at"].is_string());
    assert_eq!(
        app.client.post_empty(&format!("{path}/archive")).await.ok(),
        archived
    );
    let refused = app
        .client
        .post(&path, &json!({"name": "x"}))
        .await
        .error(400, "invalid_request_error");
    assert!(refused.contains("archived"));
    let body = json!({"agent": agent, "environment_id": app.environment().await});
    app.client
        .post("/v1/sessions", &body)
        .await
        .refused("agent: the agent is archived");
    app.retrieve(&session).await;
    let list = |query: &str| {
        let path = format!("/v1/agents{query}");
        async move {
            app.client.get(&path).await.ok()["data"]
                .as_array()
                .expect("a list")
                .len()
        }
    };
    assert_eq!(
        (list("").await, list("?include_archived=true").await),
        (0, 1)
    );
    app.client
        .post_empty("/v1/agents/agent_01none/archive")
        .await
        .error(404, "not_found_error");
}

async fn li_6_agents_are_paged(app: &TestApp) {
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(app.agent().await);
    }
    made.reverse();
    let mut walked = Vec::new();
    let mut page = String::new();
    loop {
        let answer = app
            .client
            .get(&format!("/v1/agents?limit=2&page={page}"))
            .await
            .ok();
        assert!(answer.get("prev_page").is_none());
        walked.extend(answer["data"].as_array().expect("a list").iter().map(id));
        match answer["next_page"].as_str() {
            Some(next) => page = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(walked, made, "newest first, each once");
    for query in [
        "limit=0",
        "limit=101",
        "page=page_nonsense",
        "created_at[gt]=2026-01-01T00:00:00Z",
        "created_at[gte]=soon",
    ] {
        app.client
            .get(&format!("/v1/agents?{query}"))
            .await
            .error(400, "invalid_request_error");
    }
    let none = app
        .client
        .get("/v1/agents?created_at%5Bgte%5D=2126-01-01T00:00:00%2B00:00")
        .await
        .ok();
    assert_eq!(none, json!({"data": [], "next_page": null}));
}

async fn bad_agents_are_refused_and_nothing_is_written(app: &TestApp) {
    let custom = |name: &str| json!({"type": "custom", "name": name, "description": "x", "input_schema": {"type": "object"}});
    let with = |field: &str, value: Value| {
        let mut body = json!({"name": "a", "model": "claude-opus-4-8"});
        body[field] = value;
        body
    };
    for (body, problem) in [
        (
            with("model", json!("gpt-0")),
            "model: no model \"gpt-0\" is configured; known models: claude-",
        ),
        (
            with("model", json!({"id": "plain-1", "effort": "low"})),
            "model.effort: plain-1 does not have this level",
        ),
        (
            with("tools", json!([custom("twice"), custom("twice")])),
            "tools[1].name: \"twice\" is used twice",
        ),
        (
            with(
                "tools",
                json!([{"type": "agent_toolset_20260401"}, custom("bash")]),
            ),
            "tools[1].name: \"bash\" is the name of a built-in",
        ),
        (with("name", json!("")), "name: must not be empty"),
        (
            with(
                "mcp_servers",
                json!([{"type": "url", "name": "x", "url": "https://x"}]),
            ),
            "mcp_servers[0].name: no mcp_toolset names \"x\"",
        ),
        (
            with(
                "tools",
                json!([{"type": "mcp_toolset", "mcp_server_name": "x"}]),
            ),
            "tools[0].mcp_server_name: \"x\" is not one of mcp_servers",
        ),
        (
            with("skills", json!([{"type": "custom", "skill_id": "x"}])),
            "skills[0].skill_id: there is no custom skill \"x\"",
        ),
        (
            with("multiagent", json!({"type": "coordinator", "agents": []})),
            "multiagent: a roster is not supported",
        ),
        (
            with(
                "execution_identity",
                json!({"type": "aws_role", "role_arn": "x"}),
            ),
            "execution_identity: aws_role is not supported",
        ),
        (
            with("metadata", json!({"k": "x".repeat(513)})),
            "metadata: the value of \"k\"",
        ),
    ] {
        app.client.post("/v1/agents", &body).await.refused(problem);
    }
    assert_eq!(app.client.get("/v1/agents").await.ok()["data"], json!([]));
    let path = format!("/v1/agents/{}", app.agent().await);
    let before = app.client.get(&path).await.ok();
    let update = json!({"name": "changed", "mcp_servers": [{}]});
    app.client
        .post(&path, &update)
        .await
        .error(400, "invalid_request_error");
    assert_eq!(app.client.get(&path).await.ok(), before);
}
