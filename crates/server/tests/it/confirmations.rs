//! Calls that ask before they run (runtime §8, SQ-7 to SQ-9, SE-15 to SE-18).

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, confirmation, ids, kinds, message, stories};

stories! {
    sq_9_tc_7_what_needs_nobody_runs_and_a_denial_is_told_to_the_model,
    sq_8_three_asks_are_answered_one_by_one,
    se_15_only_what_asked_can_be_confirmed,
    se_18_a_late_confirmation_shows_the_first,
    se_18_of_answers_at_the_same_time_one_counts,
    se_17_confirmations_and_results_share_a_request,
    sq_10_an_answer_may_come_before_the_idle_event,
    in_8_an_interrupt_closes_what_is_asked,
    tc_11_a_pending_ask_outlives_a_change_of_policies,
    tc_8_without_a_judge_auto_asks,
}

/// Built-in tools under this policy, `read` allowed, and a custom tool.
fn tools(policy: &str) -> Value {
    json!([
        {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": policy}},
         "configs": [{"name": "read", "permission_policy": {"type": "always_allow"}}]},
        {"type": "custom", "name": "get_weather", "description": "Gets it.", "input_schema": {"type": "object"}},
    ])
}

fn bash(id: &str, command: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": command}))
}

/// A session under `always_ask` whose model made this many `bash` calls; their ids.
async fn asked(app: &TestApp, count: usize) -> (String, Vec<String>) {
    let calls = (1..count).fold(bash("toolu_0", "0"), |reply, n| {
        let input = json!({"command": n.to_string()});
        reply.then_tool_use(format!("toolu_{n}"), "bash", input)
    });
    app.model.push(calls);
    let session = app
        .session_of(&app.agent_with(tools("always_ask")).await)
        .await;
    let events = app.turn(&session, "go").await;
    let calls = ids(&events, "agent.tool_use");
    let idle = &events.last().expect("idle").data;
    let reason = json!({"type": "requires_action", "event_ids": calls});
    assert_eq!(idle["stop_reason"], reason);
    (session, calls)
}

/// How many calls were run for a session.
fn runs(app: &TestApp, session: &str) -> usize {
    let starts = app.hands.starts();
    starts.iter().filter(|(of, _)| of == session).count()
}

/// Acceptance scenario 5; runtime SQ-7, SQ-9, TC-3, TC-7.
async fn sq_9_tc_7_what_needs_nobody_runs_and_a_denial_is_told_to_the_model(app: &TestApp) {
    let tools = json!([{"type": "agent_toolset_20260401",
        "configs": [{"name": "write", "permission_policy": {"type": "always_ask"}}]}]);
    let session = app.session_of(&app.agent_with(tools).await).await;
    let write = json!({"file_path": "/workspace/a", "content": "a"});
    app.model
        .push(bash("toolu_1", "ls").then_tool_use("toolu_2", "write", write));
    let events = app.turn(&session, "go").await;
    let [ls, write] = &ids(&events, "agent.tool_use")[..] else {
        panic!("{:?}", kinds(&events))
    };
    let result = events
        .iter()
        .find(|event| event.kind() == "agent.tool_result")
        .expect("the allowed call ran");
    assert_eq!(result.data["tool_use_id"], **ls);
    let idle = &events.last().expect("idle").data;
    assert_eq!(idle["stop_reason"]["event_ids"], json!([write]));
    app.model.push(Reply::text("As you wish."));
    let mut stream = app.stream(&session, "").await;
    let echo = app
        .send(&session, confirmation(write, Some("Not this file.")))
        .await;
    assert!(echo["processed_at"].is_string(), "{echo}");
    let events = stream.until_idle().await;
    assert_eq!(
        kinds(&events)[..5],
        [
            "user.tool_confirmation",
            "user.tool_confirmation",
            "session.thread_status_running",
            "session.status_running",
            "agent.tool_result"
        ],
        "SE-4, SQ-7"
    );
    assert_eq!(events[0].data["processed_at"], Value::Null);
    assert_eq!(events[1].data, echo);
    assert_eq!(events[4].data["is_error"], true);
    let told = app.model.request(2).await.tool_results();
    assert!(
        told[1].is_error && told[1].text.contains("Not this file."),
        "{told:?}"
    );
    assert_eq!(runs(app, &session), 1, "it did not run");
    app.model.push(Reply::text("Yes?"));
    let events = app.turn(&session, "go on").await;
    assert!(
        kinds(&events).contains(&"agent.message"),
        "the session goes on"
    );
}

/// Acceptance scenario 6.
async fn sq_8_three_asks_are_answered_one_by_one(app: &TestApp) {
    let (session, calls) = asked(app, 3).await;
    let mut stream = app.stream(&session, "").await;
    for (answered, rest) in [(1, json!([calls[0], calls[2]])), (0, json!([calls[2]]))] {
        app.send(&session, confirmation(&calls[answered], None))
            .await;
        let events = stream.until_idle().await;
        assert_eq!(
            kinds(&events),
            [
                "user.tool_confirmation",
                "user.tool_confirmation",
                "session.thread_status_idle",
                "session.usage",
                "session.status_idle"
            ]
        );
        assert_eq!(events[4].data["stop_reason"]["event_ids"], rest);
        assert_eq!(runs(app, &session), 0, "the loop does not run yet");
        assert_eq!(app.retrieve(&session).await["status"], "idle");
    }
    app.model.push(Reply::text("Done."));
    app.send(&session, confirmation(&calls[2], None)).await;
    let events = stream.until_idle().await;
    assert_eq!(
        kinds(&events)[2..4],
        ["session.thread_status_running", "session.status_running"]
    );
    assert_eq!(runs(app, &session), 3);
    assert_eq!(app.model.request(2).await.tool_results().len(), 3);
}

/// Acceptance scenario 7; runtime SE-16.
async fn se_15_only_what_asked_can_be_confirmed(app: &TestApp) {
    app.model
        .push(bash("toolu_1", "ls").then_tool_use("toolu_2", "get_weather", json!({})));
    let session = app
        .session_of(&app.agent_with(tools("always_allow")).await)
        .await;
    let events = app.turn(&session, "go").await;
    let allowed = ids(&events, "agent.tool_use").remove(0);
    let custom = ids(&events, "agent.custom_tool_use").remove(0);
    for call in [allowed.as_str(), custom.as_str(), "sevt_01none"] {
        for events in [
            json!([confirmation(call, None)]),
            json!([message("hi"), confirmation(call, Some("no"))]),
        ] {
            let refused = app.refused(&session, events).await;
            assert!(
                refused.contains("tool_use_id: no call with this id"),
                "{refused}"
            );
        }
    }
    let mut with_reason = confirmation(&custom, None);
    with_reason["deny_message"] = json!("no");
    let refused = app.refused(&session, json!([with_reason])).await;
    assert!(refused.starts_with("events[0].deny_message"), "{refused}");
}

async fn se_18_a_late_confirmation_shows_the_first(app: &TestApp) {
    let (session, calls) = asked(app, 2).await;
    let mut stream = app.stream(&session, "").await;
    let twice = vec![confirmation(&calls[0], None); 2];
    let echoes = app.send_all(&session, json!(twice)).await;
    assert_eq!(echoes[0], echoes[1], "in one request");
    let first = echoes[0].clone();
    stream.until_idle().await;
    // While another call still waits, and after all is done: denied late, it has run.
    let second = app
        .send(&session, confirmation(&calls[0], Some("no")))
        .await;
    assert_eq!(second, first);
    app.model.push(Reply::text("Done."));
    app.send(&session, confirmation(&calls[1], None)).await;
    stream.until_idle().await;
    let third = app
        .send(&session, confirmation(&calls[0], Some("no")))
        .await;
    assert_eq!(third, first);
    assert_eq!(runs(app, &session), 2, "each ran once");
    assert_eq!(app.model.hits(), 2, "it had no effect");
    let listed = app.events(&session).await;
    let confirmations = listed
        .iter()
        .filter(|event| event["type"] == "user.tool_confirmation");
    assert_eq!(confirmations.count(), 2, "one row for each");
}

/// runtime SE-18; security LEASE-3, API-5
async fn se_18_of_answers_at_the_same_time_one_counts(app: &TestApp) {
    let (session, calls) = asked(app, 1).await;
    app.model.push(Reply::text("Done."));
    let mut stream = app.stream(&session, "").await;
    let answers = (0..8).map(|n| {
        let denied = (n % 2 == 0).then_some("no");
        app.send(&session, confirmation(&calls[0], denied))
    });
    let echoes = futures::future::join_all(answers).await;
    let first = &echoes[0];
    assert!(
        echoes.iter().all(|echo| echo == first),
        "all are shown the one that counts"
    );
    stream.until_idle().await;
    let result = app.model.request(2).await.tool_results().remove(0);
    let denied = first["result"] == "deny";
    assert_eq!(
        (result.is_error, runs(app, &session)),
        (denied, usize::from(!denied))
    );
    let listed = app.events(&session).await;
    let stored = listed
        .iter()
        .filter(|event| event["type"] == "user.tool_confirmation");
    assert_eq!(stored.count(), 1);
}

async fn se_17_confirmations_and_results_share_a_request(app: &TestApp) {
    app.model
        .push(bash("toolu_1", "ls").then_tool_use("toolu_2", "get_weather", json!({})));
    let session = app
        .session_of(&app.agent_with(tools("always_ask")).await)
        .await;
    let events = app.turn(&session, "go").await;
    let call = ids(&events, "agent.tool_use").remove(0);
    let custom = ids(&events, "agent.custom_tool_use").remove(0);
    let uses = events
        .iter()
        .find(|event| event.kind() == "agent.custom_tool_use")
        .expect("a custom call");
    assert!(uses.data.get("evaluated_permission").is_none(), "TC-1");
    app.model.push(Reply::text("Done."));
    let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": custom,
        "content": [{"type": "text", "text": "sun"}]});
    let mut stream = app.stream(&session, "").await;
    let echoes = app
        .send_all(
            &session,
            json!([result, confirmation(&call, None), message("and?")]),
        )
        .await;
    let types: Vec<&Value> = echoes.iter().map(|echo| &echo["type"]).collect();
    assert_eq!(
        types,
        [
            "user.custom_tool_result",
            "user.tool_confirmation",
            "user.message"
        ],
        "SE-2: in the order of the request"
    );
    let events = stream.until_idle().await;
    assert!(kinds(&events).contains(&"agent.tool_result"));
    let request = app.model.request(2).await;
    assert_eq!(request.result_texts(), ["ran ls", "sun"]);
    assert!(request.last_user_text().contains("and?"));
}

/// Acceptance scenario 8, for both kinds of answers: the call is in the log, the idle event is not.
async fn sq_10_an_answer_may_come_before_the_idle_event(app: &TestApp) {
    let gate = app.hold_tool("read");
    app.model.push(
        bash("toolu_1", "ls")
            .then_tool_use("toolu_2", "get_weather", json!({}))
            .then_tool_use("toolu_3", "read", json!({"file_path": "/workspace/a"})),
    );
    app.model.push(Reply::text("Done."));
    let session = app
        .session_of(&app.agent_with(tools("always_ask")).await)
        .await;
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("go")).await;
    let events = stream.until("span.model_request_end").await;
    // `read` needs nobody and is still running, so the session is, too.
    gate.reached().await;
    let call = ids(&events, "agent.tool_use").remove(0);
    let custom = ids(&events, "agent.custom_tool_use").remove(0);
    app.send(&session, confirmation(&call, None)).await;
    let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": custom});
    app.send(&session, result).await;
    gate.open();
    let events = stream.until_idle().await;
    assert_eq!(
        events.last().expect("idle").data["stop_reason"],
        json!({"type": "end_turn"}),
        "{:?}",
        kinds(&events)
    );
    assert_eq!(app.model.request(2).await.tool_results().len(), 3);
}

async fn in_8_an_interrupt_closes_what_is_asked(app: &TestApp) {
    let (session, calls) = asked(app, 1).await;
    let mut stream = app.stream(&session, "").await;
    app.send(&session, json!({"type": "user.interrupt"})).await;
    let events = stream.until_idle().await;
    let result = events
        .iter()
        .find(|event| event.kind() == "agent.tool_result")
        .expect("IN-6: closed with an error");
    assert_eq!(result.data["is_error"], true);
    let text = "Tool execution was interrupted before completion. Please retry.";
    assert_eq!(result.data["content"][0]["text"], text);
    assert_eq!(app.model.hits(), 1, "the model is not asked");
    // Too late: shown is what answered the call first.
    let late = app.send(&session, confirmation(&calls[0], None)).await;
    assert_eq!(late, result.data);
    assert_eq!(runs(app, &session), 0);
}

/// runtime TC-11, UP-3
async fn tc_11_a_pending_ask_outlives_a_change_of_policies(app: &TestApp) {
    let (session, calls) = asked(app, 1).await;
    let body = json!({"agent": {"tools": tools("always_allow")}});
    let path = format!("/v1/sessions/{session}");
    app.client.post(&path, &body).await.ok();
    assert_eq!(runs(app, &session), 0, "it still waits");
    app.model.push(Reply::text("Done."));
    let mut stream = app.stream(&session, "").await;
    app.send(&session, confirmation(&calls[0], None)).await;
    stream.until_idle().await;
    assert_eq!(runs(app, &session), 1);
    // The next turn is under the new policy.
    app.model.push(bash("toolu_9", "next"));
    app.model.push(Reply::text("Done."));
    let events = app.turn(&session, "again").await;
    let next = events
        .iter()
        .find(|event| event.kind() == "agent.tool_use")
        .expect("another call");
    assert_eq!(next.data["evaluated_permission"], "allow");
    assert_eq!(next.data["evaluation"], json!({"type": "always_allow"}));
    assert_eq!(runs(app, &session), 2);
}

async fn tc_8_without_a_judge_auto_asks(app: &TestApp) {
    app.model.push(bash("toolu_1", "ls"));
    let session = app.session_of(&app.agent_with(tools("auto")).await).await;
    let events = app.turn(&session, "go").await;
    let call = events
        .iter()
        .find(|event| event.kind() == "agent.tool_use")
        .expect("a call");
    assert_eq!(call.data["evaluated_permission"], "ask");
    let evaluation = json!({"type": "auto",
        "evaluated_permission": {"type": "ask", "reason_code": "indeterminate"}});
    assert_eq!(call.data["evaluation"], evaluation, "TC-4");
}
