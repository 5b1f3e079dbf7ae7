//! Changing and ending sessions (runtime §12).

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, kinds, message, stories};

stories! {
    up_4_an_update_is_told_once_and_only_what_changed,
    up_2_tools_change_only_while_idle,
    up_7_a_session_that_waits_can_be_archived_and_deleted,
    up_7_a_working_session_is_neither_archived_nor_deleted,
    sq_19_archiving_ends_it,
    sq_20_deleting_ends_streams_and_removes_the_sandbox,
}

/// runtime UP-4, SQ-21, CONFLICT-8
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
            "budget.max_list_cost.currency: expected",
        ),
        (
            json!({"agent": {"mcp_servers": [{}]}}),
            "agent.mcp_servers[0].type: is required",
        ),
        (
            json!({"agent": {"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}}),
            "agent.tools[0].mcp_server_name: \"x\" is not one of mcp_servers",
        ),
        (json!({"agent": null}), "agent: cannot be cleared"),
    ] {
        app.client.post(&path, &body).await.refused(problem);
    }
    assert_eq!(app.events(&session).await.len(), 4);
}

async fn up_2_tools_change_only_while_idle(app: &TestApp) {
    let (session, gate, mut stream) = app.working("Hello.").await;
    let path = format!("/v1/sessions/{session}");
    app.client
        .post(&path, &json!({"agent": {"tools": []}}))
        .await
        .refused("agent: can only be changed while the session is idle");
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

async fn up_7_a_session_that_waits_can_be_archived_and_deleted(app: &TestApp) {
    let (session, calls) = crate::events::waiting(app, 1).await;
    let path = format!("/v1/sessions/{session}");
    let archived = app.client.post_empty(&format!("{path}/archive")).await.ok();
    assert_eq!(archived["status"], "terminated");
    let answer = crate::events::result(&calls[0], "late");
    app.refused(&session, json!([answer])).await;
    app.client.delete(&path).await.ok();
    let (session, _) = crate::events::waiting(app, 1).await;
    let path = format!("/v1/sessions/{session}");
    app.client.delete(&path).await.ok();
    app.client.get(&path).await.error(404, "not_found_error");
}

async fn up_7_a_working_session_is_neither_archived_nor_deleted(app: &TestApp) {
    let (session, gate, mut stream) = app.working("Hello.").await;
    let path = format!("/v1/sessions/{session}");
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

/// runtime SQ-19, UP-7, UP-11, SE-7
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

/// runtime SQ-20, UP-8, UP-10, EN-20
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
    let gone = manyhands_hands::Provider::find(&app.hands, &session, 1)
        .await
        .expect("an answer");
    assert!(gone.is_none(), "its sandbox is gone");
}
