//! What a session waits for, and its summaries (security I8, runtime CC-2).

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, RetryAfter, Usage};
use serde_json::{Value, json};

use crate::app::{TestApp, confirmation, id, message, stories};
use crate::events::{result, waiting};

stories! {
    i8_why_a_session_waits_for_its_client,
    i8_why_a_session_waits_for_the_model_and_for_tools,
    i8_why_a_session_waits_for_a_retry_or_a_budget,
    api_2_a_session_of_nobody_has_no_why,
    cc_2_summaries_are_read_and_the_log_stays_whole,
}

async fn why(app: &TestApp, session: &str) -> Value {
    // No beta header: these paths are no part of the public contract.
    let client = app.client.clone().without("anthropic-beta");
    let path = format!("/v1/manyhands/sessions/{session}/why");
    let why = client.get(&path).await.ok();
    assert_eq!(
        (&why["type"], &why["session_id"]),
        (&json!("session_why"), &json!(session))
    );
    assert!(why["since"].is_string(), "{why}");
    let sentence = why["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.ends_with('.') && !sentence.contains('\n'),
        "{sentence}"
    );
    why
}

/// Its state and who has to act.
async fn state(app: &TestApp, session: &str) -> (String, String) {
    let why = why(app, session).await;
    let text = |name: &str| why[name].as_str().expect("a text").to_owned();
    (text("state"), text("waiting_for"))
}

fn is(state: &str, party: &str) -> (String, String) {
    (state.to_owned(), party.to_owned())
}

async fn i8_why_a_session_waits_for_its_client(app: &TestApp) {
    let session = app.session().await;
    assert_eq!(state(app, &session).await, is("awaiting_message", "client"));
    let (session, calls) = waiting(app, 2).await;
    let answer = why(app, &session).await;
    assert_eq!(answer["state"], "awaiting_answers");
    let call = |id: &str| json!({"event_id": id, "name": "get_weather", "needs": "result"});
    assert_eq!(
        answer["details"]["calls"],
        json!([call(&calls[0]), call(&calls[1])])
    );
    let sentence = answer["sentence"].as_str().expect("a sentence");
    assert!(
        calls.iter().all(|call| sentence.contains(call)),
        "{sentence}"
    );
    let mut stream = app.stream(&session, "").await;
    app.send(&session, result(&calls[0], "rain")).await;
    stream.until_idle().await;
    let rest = why(app, &session).await;
    assert_eq!(rest["details"]["calls"], json!([call(&calls[1])]));

    let tools = json!([{"type": "agent_toolset_20260401",
        "default_config": {"permission_policy": {"type": "always_ask"}}}]);
    let asking = app.session_of(&app.agent_with(tools).await).await;
    app.model
        .push(Reply::tool_use("toolu_1", "bash", json!({"command": "ls"})));
    app.turn(&asking, "go").await;
    let answer = why(app, &asking).await;
    let call = &answer["details"]["calls"][0];
    assert_eq!(
        (&call["name"], &call["needs"]),
        (&json!("bash"), &json!("confirmation"))
    );
    app.model.push(Reply::text("Done."));
    let mut stream = app.stream(&asking, "").await;
    let call = call["event_id"].as_str().expect("an id");
    app.send(&asking, confirmation(call, None)).await;
    stream.until_idle().await;
    assert_eq!(state(app, &asking).await, is("awaiting_message", "client"));
    app.client
        .post_empty(&format!("/v1/sessions/{asking}/archive"))
        .await
        .ok();
    assert_eq!(state(app, &asking).await, is("ended", "nobody"));
}

async fn i8_why_a_session_waits_for_the_model_and_for_tools(app: &TestApp) {
    let (asked, ran) = (Gate::new(), app.hold_tool("read"));
    let call = Reply::tool_use("toolu_1", "read", json!({"file_path": "/workspace/a"}));
    app.model.push(call.hold_first_token(&asked));
    app.model.push(Reply::text("Done."));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("go")).await;
    asked.reached().await;
    let answer = why(app, &session).await;
    assert_eq!(
        (&answer["state"], &answer["waiting_for"]),
        (&json!("asking_model"), &json!("model"))
    );
    assert_eq!(answer["details"]["model"], "claude-opus-4-8");
    assert!(answer["until"].is_string(), "it ends by itself: {answer}");
    asked.open();
    ran.reached().await;
    let answer = why(app, &session).await;
    assert_eq!(
        (&answer["state"], &answer["waiting_for"]),
        (&json!("running_tools"), &json!("sandbox"))
    );
    assert_eq!(answer["details"]["calls"][0]["name"], "read");
    ran.open();
    stream.until_idle().await;
}

async fn i8_why_a_session_waits_for_a_retry_or_a_budget(app: &TestApp) {
    let agent = app.agent_of("priced-1", json!([])).await;
    let cap = json!({"type": "limit", "max_list_cost": {"amount": "1", "currency": "USD"}});
    let body = json!({"agent": agent, "environment_id": app.environment().await, "budget": cap});
    let session = id(&app.client.post("/v1/sessions", &body).await.ok());
    app.model
        .push(Reply::overloaded().retry_after(RetryAfter::Seconds(600.0)));
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    stream.until("session.status_rescheduled").await;
    let answer = why(app, &session).await;
    assert_eq!(
        (&answer["state"], &answer["waiting_for"]),
        (&json!("awaiting_retry"), &json!("server"))
    );
    assert_eq!(answer["details"]["attempt"], 1);
    assert!(answer["until"].is_string(), "{answer}");
    app.send(&session, json!({"type": "user.interrupt"})).await;
    stream.until_idle().await;
    let usage = Usage {
        input_tokens: 200,
        ..Usage::default()
    };
    app.model.push(Reply::text("Dear.").usage(usage));
    app.turn(&session, "again").await;
    assert_eq!(state(app, &session).await, is("awaiting_budget", "client"));
}

async fn api_2_a_session_of_nobody_has_no_why(app: &TestApp) {
    for what in ["why", "compactions"] {
        let path = format!("/v1/manyhands/sessions/sesn_01none/{what}");
        let message = app.client.get(&path).await.error(404, "not_found_error");
        assert_eq!(message, "session not found");
    }
}

/// Acceptance scenario 30; runtime CC-1, CC-2, SQ-22.
async fn cc_2_summaries_are_read_and_the_log_stays_whole(app: &TestApp) {
    let session = app.session().await;
    let path = format!("/v1/manyhands/sessions/{session}/compactions");
    assert_eq!(app.client.get(&path).await.ok(), json!({"data": []}));
    app.model.push(Reply::text("Noted."));
    app.turn(&session, "the word is plum").await;
    let before = app.events(&session).await;
    app.model.push(Reply::bad_request(
        "prompt is too long: 210000 tokens > 200000 maximum",
    ));
    app.model.push(Reply::text("The user's word is plum."));
    app.model.push(Reply::text("It is plum."));
    app.turn(&session, "what is the word?").await;
    let after = app.events(&session).await;
    assert_eq!(after[..before.len()], before, "nothing is rewritten");
    let types: Vec<&str> = after[before.len()..]
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    let compacted = types
        .iter()
        .position(|name| *name == "agent.thread_context_compacted");
    let answer = types.iter().position(|name| *name == "agent.message");
    assert!(compacted.expect("it is told") < answer.expect("it goes on"));
    let summaries = app.client.get(&path).await.ok();
    let [summary] = summaries["data"].as_array().expect("a list").as_slice() else {
        panic!("{summaries}")
    };
    assert_eq!(summary["summary"], "The user's word is plum.");
    assert_eq!(summary["model"], "claude-opus-4-8");
    assert!(summary["position"].as_i64() > Some(0) && summary["at"].is_string());
    let request = app.model.request(4).await;
    let sent = String::from_utf8_lossy(&request.raw).into_owned();
    assert!(sent.contains("The user's word is plum.") && sent.contains("what is the word?"));
    assert!(
        !sent.contains("the word is plum"),
        "the old conversation is gone: {sent}"
    );
}
