//! Rules of changing and ending sessions that have no story of their own (runtime §12, §14, §32, §33).

use manyhands_testkit::gate::PATIENCE;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, stories};

stories! {
    up_1_up_2_titles_and_metadata_change_at_any_time,
    up_3_new_tools_are_the_sessions_own_from_the_next_turn,
    cc_6_new_tools_come_at_the_border_between_turns,
    up_8_a_deletion_takes_only_the_session,
    up_11_archiving_again_changes_nothing,
    us_2_times_are_counted_while_running_and_stand_still_at_the_end,
    li_7_archived_objects_are_hidden_unless_asked_for,
}

async fn up_1_up_2_titles_and_metadata_change_at_any_time(app: &TestApp) {
    let (session, gate, mut stream) = app.working("Hello.").await;
    let path = format!("/v1/sessions/{session}");
    let change = json!({"title": "new", "metadata": {"k": "v"}});
    let updated = app.client.post(&path, &change).await.ok();
    assert_eq!(
        (&updated["title"], &updated["metadata"], &updated["status"]),
        (&json!("new"), &json!({"k": "v"}), &json!("running"))
    );
    let refused = json!({"agent": {"tools": []}, "title": "not this either"});
    app.client
        .post(&path, &refused)
        .await
        .error(400, "invalid_request_error");
    assert_eq!(app.retrieve(&session).await["title"], "new");
    gate.open();
    stream.until_idle().await;
    let tools = json!({"agent": {"tools": []}, "title": "rested"});
    let updated = app.client.post(&path, &tools).await.ok();
    assert_eq!(
        (&updated["title"], &updated["agent"]["tools"]),
        (&json!("rested"), &json!([]))
    );
}

async fn up_3_new_tools_are_the_sessions_own_from_the_next_turn(app: &TestApp) {
    app.model.push(Reply::text("One."));
    app.model.push(Reply::text("Two."));
    let agent = app.agent().await;
    let session = app.session_of(&agent).await;
    let agents = format!("/v1/agents/{agent}");
    let before = app.client.get(&agents).await.ok();
    app.turn(&session, "first").await;
    let ask = json!({"type": "custom", "name": "ask", "description": "Asks.", "input_schema": {"type": "object"}});
    let path = format!("/v1/sessions/{session}");
    let updated = app
        .client
        .post(&path, &json!({"agent": {"tools": [ask]}}))
        .await
        .ok();
    assert_eq!(updated["agent"]["tools"], json!([ask]), "in full");
    assert_eq!(updated["agent"]["version"], 1);
    assert_eq!(
        app.client.get(&agents).await.ok(),
        before,
        "the agent stays"
    );
    // Checked as an agent's tools are.
    let wrong = json!({"agent": {"tools": [ask, ask]}});
    app.client
        .post(&path, &wrong)
        .await
        .refused("agent.tools[1].name");
    app.turn(&session, "second").await;
    assert!(app.model.request(1).await.tool_names().contains(&"bash"));
    assert_eq!(app.model.request(2).await.tool_names(), ["ask"]);
    let other = app.retrieve(&app.session_of(&agent).await).await;
    assert_eq!(other["agent"]["tools"], before["tools"]);
}

/// runtime CC-6, UP-3: within a turn the prefix stands; new tools come with the first request of the next one, and stay.
async fn cc_6_new_tools_come_at_the_border_between_turns(app: &TestApp) {
    let call = |id: &str| Reply::tool_use(id, "bash", json!({"command": "ls"}));
    for reply in [
        call("toolu_1"),
        Reply::text("One."),
        call("toolu_2"),
        Reply::text("Two."),
    ] {
        app.model.push(reply);
    }
    let session = app.session().await;
    app.turn(&session, "first").await;
    let off = json!({"name": "read", "enabled": false});
    let tools = json!([{"type": "agent_toolset_20260401", "configs": [off]}]);
    let path = format!("/v1/sessions/{session}");
    app.client
        .post(&path, &json!({"agent": {"tools": tools}}))
        .await
        .ok();
    app.turn(&session, "second").await;
    let requests = app.model.requests();
    let offered: Vec<bool> = requests
        .iter()
        .map(|request| request.tool_names().contains(&"read"))
        .collect();
    assert_eq!(offered, [true, true, false, false]);
    for pair in requests.chunks(2) {
        assert_eq!(pair[0].body["tools"], pair[1].body["tools"]);
        assert_eq!(pair[0].body["system"], pair[1].body["system"]);
    }
}

/// runtime UP-8, EN-20
async fn up_8_a_deletion_takes_only_the_session(app: &TestApp) {
    let agent = app.agent().await;
    let (gone, stays) = (app.session_of(&agent).await, app.session_of(&agent).await);
    let of = |session: &str| format!("/v1/sessions/{session}");
    let kept = app.retrieve(&stays).await;
    let environment = app.retrieve(&gone).await["environment_id"].clone();
    app.client.delete(&of(&gone)).await.ok();
    for path in ["", "/events", "/threads", "/resources"] {
        let path = format!("{}{path}", of(&gone));
        app.client.get(&path).await.error(404, "not_found_error");
    }
    app.client.get(&format!("/v1/agents/{agent}")).await.ok();
    let path = format!("/v1/environments/{}", environment.as_str().expect("an id"));
    app.client.get(&path).await.ok();
    let mut after = app.retrieve(&stays).await;
    after["stats"] = kept["stats"].clone();
    assert_eq!(after, kept);
    let (running, gate, mut stream) = app.working("Hello.").await;
    app.client
        .delete(&of(&running))
        .await
        .error(400, "invalid_request_error");
    gate.open();
    stream.until_idle().await;
    app.client.delete(&of(&running)).await.ok();
}

async fn up_11_archiving_again_changes_nothing(app: &TestApp) {
    let session = app.session().await;
    for path in [
        format!("/v1/agents/{}", app.agent().await),
        format!("/v1/environments/{}", app.environment().await),
        format!("/v1/sessions/{session}"),
    ] {
        let archive = format!("{path}/archive");
        let first = app.client.post_empty(&archive).await.ok();
        assert!(first["archived_at"].is_string());
        assert_eq!(app.client.post_empty(&archive).await.ok(), first);
        assert_eq!(app.client.get(&path).await.ok(), first);
    }
    assert_eq!(app.events(&session).await.len(), 2, "told once");
}

async fn us_2_times_are_counted_while_running_and_stand_still_at_the_end(app: &TestApp) {
    let seconds = |session: &Value| {
        let of = |path: &str| {
            session
                .pointer(path)
                .and_then(Value::as_f64)
                .expect("seconds")
        };
        (
            of("/usage/active_seconds"),
            of("/stats/active_seconds"),
            of("/stats/duration_seconds"),
        )
    };
    let (session, gate, mut stream) = app.working("Hello.").await;
    let (active, summed, duration) = seconds(&app.retrieve(&session).await);
    assert!(
        active > 0.0 && active == summed && duration >= active,
        "one thread: {active} {summed} {duration}"
    );
    gate.open();
    stream.until_idle().await;
    let resting = seconds(&app.retrieve(&session).await);
    // It takes time, which is told in milliseconds: two answers may come within one.
    let passes = async {
        loop {
            let later = seconds(&app.retrieve(&session).await);
            assert_eq!((later.0, later.1), (resting.0, resting.1), "rest is free");
            if later.2 > resting.2 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, passes)
        .await
        .expect("and yet it takes time");
    app.client
        .post_empty(&format!("/v1/sessions/{session}/archive"))
        .await
        .ok();
    let ended = app.retrieve(&session).await;
    assert_eq!(seconds(&app.retrieve(&session).await), seconds(&ended));
}

async fn li_7_archived_objects_are_hidden_unless_asked_for(app: &TestApp) {
    let session = app.session().await;
    let found = app.retrieve(&session).await;
    let agent = found["agent"]["id"].as_str().expect("an id").to_owned();
    let environment = found["environment_id"].as_str().expect("an id").to_owned();
    for (list, id) in [
        ("sessions", session),
        ("agents", agent),
        ("environments", environment),
    ] {
        let count = async |query: &str| {
            let page = app.client.get(&format!("/v1/{list}{query}")).await.ok();
            page["data"].as_array().expect("a list").len()
        };
        assert_eq!(
            (count("").await, count("?include_archived=false").await),
            (1, 1)
        );
        app.client
            .post_empty(&format!("/v1/{list}/{id}/archive"))
            .await
            .ok();
        assert_eq!(
            (count("").await, count("?include_archived=false").await),
            (0, 0),
            "{list}"
        );
        assert_eq!(count("?include_archived=true").await, 1, "{list}");
        let path = format!("/v1/{list}?include_archived=perhaps");
        app.client
            .get(&path)
            .await
            .error(400, "invalid_request_error");
    }
}
