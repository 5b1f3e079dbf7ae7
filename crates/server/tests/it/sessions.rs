//! Sessions through HTTP (api §7, runtime §4, §12).

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    lc_19_a_session_has_an_exact_shape,
    lc_6_initial_events_start_it_at_once,
    lc_8_the_agent_can_be_pinned_and_overridden,
    bad_sessions_are_refused_and_nothing_is_written,
    up_4_an_update_is_told_once_and_only_what_changed,
    up_2_tools_change_only_while_idle,
    up_7_a_working_session_is_neither_archived_nor_deleted,
    sq_19_archiving_ends_it,
    sq_20_deleting_ends_streams_and_removes_the_sandbox,
    li_2_sessions_are_walked_in_both_directions,
    li_3_sessions_are_filtered,
    api_12_the_primary_thread_is_shown,
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
                "active_seconds": 0.0, "list_cost": null, "server_tool_use": null},
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
    let after = app
        .client
        .get(&format!("/v1/sessions/{session}"))
        .await
        .ok();
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
            with("resources", json!([{"type": "file", "file_id": "file_1"}])),
            400,
            "invalid_request_error",
            "resources: mounting a resource is not supported",
        ),
        (
            with("vault_ids", json!(["vlt_1"])),
            400,
            "invalid_request_error",
            "vault_ids: a vault is not supported",
        ),
        (
            with("budget", json!({"type": "limit"})),
            400,
            "invalid_request_error",
            "budget: a budget is not supported",
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

async fn up_4_an_update_is_told_once_and_only_what_changed(app: &TestApp) {
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    let mut stream = app.stream(&session, "").await;
    app.client.post(&path, &json!({})).await.ok();
    app.client
        .post(&path, &json!({"title": null, "metadata": {"x": null}}))
        .await
        .ok();
    let updated = app.client.post(&path, &json!({"title": "new"})).await.ok();
    assert_eq!(updated["title"], "new");
    app.client
        .post(&path, &json!({"metadata": {"k": "v"}}))
        .await
        .ok();
    app.client
        .post(&path, &json!({"metadata": {"k": null}, "title": null}))
        .await
        .ok();
    let tools = json!([{"type": "custom", "name": "ask", "description": "Asks.", "input_schema": {"type": "object"}}]);
    let updated = app
        .client
        .post(&path, &json!({"agent": {"tools": tools}}))
        .await
        .ok();
    assert_eq!(updated["agent"]["tools"], tools);
    let mut told = Vec::new();
    for _ in 0..4 {
        let mut event = stream.next().await.expect("an event").data;
        let members = event.as_object_mut().expect("an object");
        assert_eq!(members.remove("type"), Some(json!("session.updated")));
        members.retain(|name, _| name != "id" && name != "processed_at");
        told.push(event);
    }
    let expected = json!([{"title": "new"}, {"metadata": {"k": "v"}}, {"title": null}, {"agent": updated["agent"]}]);
    assert_eq!(Value::from(told), expected);
    for (body, problem) in [
        (json!({"vault_ids": []}), "vault_ids: cannot be changed"),
        (
            json!({"budget": {"type": "limit"}}),
            "budget: a budget is not supported",
        ),
        (
            json!({"agent": {"mcp_servers": [{}]}}),
            "agent.mcp_servers: an MCP server is not supported",
        ),
        (
            json!({"agent": {"tools": [{"type": "mcp_toolset"}]}}),
            "agent.tools[0]: mcp_toolset is not supported",
        ),
        (json!({"agent": null}), "agent: cannot be cleared"),
    ] {
        let message = app
            .client
            .post(&path, &body)
            .await
            .error(400, "invalid_request_error");
        assert!(message.starts_with(problem), "{message}");
    }
    assert_eq!(app.events(&session).await.len(), 4);
}

async fn up_2_tools_change_only_while_idle(app: &TestApp) {
    let gate = Gate::new();
    app.model
        .push(Reply::text("Hello.").hold_first_token(&gate));
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    gate.reached().await;
    let refused = app
        .client
        .post(&path, &json!({"agent": {"tools": []}}))
        .await
        .error(400, "invalid_request_error");
    assert!(
        refused.starts_with("agent: can only be changed while the session is idle"),
        "{refused}"
    );
    assert_eq!(
        app.client
            .post(&path, &json!({"title": "while running"}))
            .await
            .ok()["status"],
        "running"
    );
    gate.open();
    stream.until_idle().await;
    app.client
        .post(&path, &json!({"agent": {"tools": []}}))
        .await
        .ok();
}

async fn up_7_a_working_session_is_neither_archived_nor_deleted(app: &TestApp) {
    let gate = Gate::new();
    app.model
        .push(Reply::text("Hello.").hold_first_token(&gate));
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    gate.reached().await;
    let refused = app
        .client
        .post_empty(&format!("{path}/archive"))
        .await
        .error(400, "invalid_request_error");
    assert!(refused.contains("user.interrupt"), "{refused}");
    app.client
        .delete(&path)
        .await
        .error(400, "invalid_request_error");
    gate.open();
    stream.until_idle().await;
    // LC-16: the status is committed with its event, so this works at once.
    app.client.post_empty(&format!("{path}/archive")).await.ok();
}

async fn sq_19_archiving_ends_it(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    app.turn(&session, "hi").await;
    let mut stream = app.stream(&session, "").await;
    let archived = app.client.post_empty(&format!("{path}/archive")).await.ok();
    assert_eq!(archived["status"], "terminated");
    assert!(archived["archived_at"].is_string());
    let events = stream.until("session.status_terminated").await;
    assert_eq!(
        kinds(&events),
        [
            "session.thread_status_terminated",
            "session.status_terminated"
        ]
    );
    let again = app.client.post_empty(&format!("{path}/archive")).await.ok();
    assert_eq!(
        (&again["archived_at"], &again["stats"]),
        (&archived["archived_at"], &archived["stats"]),
        "time stands still"
    );
    // SE-7: history stays readable, and takes nothing more.
    let events = json!({"events": [message("more")]});
    app.client
        .post(&format!("{path}/events"), &events)
        .await
        .error(400, "invalid_request_error");
    app.client
        .post(&path, &json!({"title": "x"}))
        .await
        .error(400, "invalid_request_error");
    let listed = app.events(&session).await;
    assert_eq!(
        listed.last().expect("events")["type"],
        "session.status_terminated"
    );
    drop(app.stream(&session, "").await);
}

async fn sq_20_deleting_ends_streams_and_removes_the_sandbox(app: &TestApp) {
    app.model
        .push(Reply::tool_use("toolu_1", "bash", json!({"command": "ls"})));
    app.model.push(Reply::text("Done."));
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    app.turn(&session, "look").await;
    let provisions = app.hands.provisions();
    assert_eq!(provisions, 1);
    let mut stream = app.stream(&session, "").await;
    let deleted = app.client.delete(&path).await.ok();
    assert_eq!(deleted, json!({"id": session, "type": "session_deleted"}));
    let last = stream.next().await.expect("an event");
    assert_eq!(
        (last.kind(), last.name.as_str()),
        ("session.deleted", "session.deleted")
    );
    assert!(stream.next().await.is_none(), "the stream ends");
    app.client.get(&path).await.error(404, "not_found_error");
    app.client
        .get(&format!("{path}/events"))
        .await
        .error(404, "not_found_error");
    app.client.delete(&path).await.error(404, "not_found_error");
    let events = json!({"events": [message("more")]});
    app.client
        .post(&format!("{path}/events"), &events)
        .await
        .error(404, "not_found_error");
    let gone = manyhands_hands::Provider::find(&app.hands, &session)
        .await
        .expect("an answer");
    assert!(gone.is_none(), "its sandbox is gone");
}

async fn li_2_sessions_are_walked_in_both_directions(app: &TestApp) {
    let agent = app.agent().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(app.session_of(&agent).await);
    }
    let get = |query: String| async move { app.client.get(&format!("/v1/sessions?{query}")).await };
    let ids = |page: &Value| {
        page["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(id)
            .collect::<Vec<_>>()
    };
    let first = get("limit=2&order=asc".to_owned()).await.ok();
    assert_eq!(
        (ids(&first), &first["prev_page"]),
        (made[..2].to_vec(), &Value::Null)
    );
    let next = first["next_page"].as_str().expect("a cursor").to_owned();
    let second = get(format!("limit=2&order=asc&page={next}")).await.ok();
    assert_eq!(ids(&second), made[2..4]);
    let back = second["prev_page"].as_str().expect("a cursor").to_owned();
    let again = get(format!("limit=2&order=asc&page={back}")).await.ok();
    assert_eq!(
        (ids(&again), &again["prev_page"]),
        (made[..2].to_vec(), &Value::Null)
    );
    assert!(again["next_page"].is_string());
    let all = get("limit=100".to_owned()).await.ok();
    made.reverse();
    assert_eq!(
        (ids(&all), &all["next_page"]),
        (made, &Value::Null),
        "newest first by default"
    );

    get(format!("limit=2&order=desc&page={next}"))
        .await
        .error(400, "invalid_request_error");
    get(format!("page={next}"))
        .await
        .error(400, "invalid_request_error");
    get(format!(
        "order=asc&page={next}&created_at[gt]=2126-01-01T00:00:00Z"
    ))
    .await
    .error(400, "invalid_request_error");
    get(format!(
        "order=asc&page={next}&limit=1&statuses[]=idle&created_at[gt]=2026-01-01T00:00:00Z"
    ))
    .await
    .ok();
    get("limit=0".to_owned())
        .await
        .error(400, "invalid_request_error");
}

async fn li_3_sessions_are_filtered(app: &TestApp) {
    let (one, other) = (app.agent().await, app.agent().await);
    app.client
        .post(&format!("/v1/agents/{one}"), &json!({"name": "v2"}))
        .await
        .ok();
    let (first, _) = (app.session_of(&one).await, app.session_of(&other).await);
    app.client
        .post_empty(&format!(
            "/v1/sessions/{}/archive",
            app.session_of(&one).await
        ))
        .await
        .ok();
    let count = |query: String| async move {
        let page = app.client.get(&format!("/v1/sessions?{query}")).await.ok();
        page["data"].as_array().expect("a list").len()
    };
    assert_eq!(count(String::new()).await, 2);
    assert_eq!(count("include_archived=true".to_owned()).await, 3);
    assert_eq!(count(format!("agent_id={one}")).await, 1);
    assert_eq!(count(format!("agent_id={one}&agent_version=1")).await, 0);
    assert_eq!(
        count(format!(
            "agent_id={one}&agent_version=2&include_archived=true"
        ))
        .await,
        2
    );
    assert_eq!(
        count("statuses%5B%5D=idle&statuses%5B%5D=running".to_owned()).await,
        2
    );
    assert_eq!(
        count("statuses[]=terminated&include_archived=true".to_owned()).await,
        1
    );
    assert_eq!(count("statuses[]=running".to_owned()).await, 0);
    let at = app.client.get(&format!("/v1/sessions/{first}")).await.ok()["created_at"]
        .as_str()
        .expect("a time")
        .to_owned();
    assert_eq!(count(format!("created_at[lte]={at}")).await, 1);
    assert_eq!(count(format!("created_at[lt]={at}")).await, 0);
    assert_eq!(count(format!("created_at[gt]={at}")).await, 1);
    for query in [
        "agent_version=1",
        "statuses[]=asleep",
        "agent_id=env_1",
        "deployment_id=depl_1",
        "memory_store_id=memstore_1",
    ] {
        app.client
            .get(&format!("/v1/sessions?{query}"))
            .await
            .error(400, "invalid_request_error");
    }
}

async fn api_12_the_primary_thread_is_shown(app: &TestApp) {
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
        .error(400, "invalid_request_error");
    app.client
        .get(&format!("{path}/sesrsc_1"))
        .await
        .error(404, "not_found_error");
    app.client
        .delete(&format!("{path}/sesrsc_1"))
        .await
        .error(404, "not_found_error");
}
