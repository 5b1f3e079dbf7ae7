//! Sending and listing events (api §9, runtime §6, §7, §14), with a brain behind.

use manyhands_testkit::events::PLAIN_TURN;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    sq_1_a_plain_turn,
    se_2_the_echo_is_what_was_stored,
    ht_15_one_bad_event_refuses_all,
    sq_10_a_custom_tool_is_answered_by_the_client,
    se_18_a_late_or_second_result_shows_the_first,
    se_14_a_message_waits_behind_a_pending_call,
    se_5_a_message_while_running_joins,
    se_13_documents_and_images_reach_the_model,
}

async fn sq_1_a_plain_turn(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let session = app.session().await;
    let events = app.turn(&session, "hi").await;
    assert_eq!(kinds(&events), PLAIN_TURN);
    assert_eq!(
        events[0].data["id"], events[3].data["id"],
        "SE-4: twice, with one id"
    );
    assert_eq!(events[0].data["processed_at"], Value::Null);
    assert!(events[3].data["processed_at"].is_string());
    assert_eq!(
        events[5].data["content"],
        json!([{"type": "text", "text": "Hello."}])
    );
    assert_eq!(events[9].data["stop_reason"], json!({"type": "end_turn"}));
    let status = app.retrieve(&session).await["status"].clone();
    assert_eq!(status, "idle", "LC-16: committed before it is told");
}

async fn se_2_the_echo_is_what_was_stored(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    let content = json!([
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "data": "aGk=", "media_type": "image/png"}},
    ]);
    let body = json!({"events": [{"type": "user.interrupt"}, {"type": "user.message", "content": content}]});
    let data = app
        .client
        .post(&format!("/v1/sessions/{session}/events"), &body)
        .await
        .ok()["data"]
        .clone();
    let [interrupt, message] = data.as_array().expect("a list").as_slice() else {
        panic!("{data}")
    };
    assert!(interrupt["processed_at"].is_string());
    assert_eq!(
        message,
        &json!({"id": message["id"], "processed_at": null, "type": "user.message", "content": content})
    );
    let told = stream.until_idle().await;
    assert_eq!((&told[0].data, &told[1].data), (interrupt, message));
}

async fn ht_15_one_bad_event_refuses_all(app: &TestApp) {
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}/events");
    for (events, problem) in [
        (json!([]), "events: must not be empty"),
        (
            json!([message("fine"), {"type": "user.message", "content": []}]),
            "events[1].content: must not be empty",
        ),
        (
            json!([message("fine"), {"type": "user.message", "content": [{"type": "redacted"}]}]),
            "events[1].content[0].type: clients cannot send redacted",
        ),
        (
            json!([message("fine"), {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_01none"}]),
            "events[1].custom_tool_use_id",
        ),
        (
            json!([message("fine"), {"type": "user.tool_confirmation", "tool_use_id": "sevt_01none", "result": "allow"}]),
            "events[1].tool_use_id",
        ),
        (
            json!([message("fine"), {"type": "user.tool_result", "tool_use_id": "sevt_01none"}]),
            "events[1].type: only sessions in self-hosted",
        ),
        (
            json!([message("fine"), {"type": "user.define_outcome", "description": "x"}]),
            "events[1].type: user.define_outcome is not supported",
        ),
        (
            json!([message("fine"), {"type": "system.message", "content": []}]),
            "events[1].content: has 0 blocks",
        ),
        (
            json!([{"type": "user.interrupt", "session_thread_id": "sthr_01none"}]),
            "events[0].session_thread_id",
        ),
        (
            json!(vec![message("x"); 1001]),
            "events: more than 1000 events",
        ),
    ] {
        app.client
            .post(&path, &json!({"events": events}))
            .await
            .refused(problem);
    }
    app.client
        .post(&path, &json!({}))
        .await
        .error(400, "invalid_request_error");
    assert_eq!(app.events(&session).await, Vec::<Value>::new());
    assert_eq!(app.retrieve(&session).await["status"], "idle");
    assert_eq!(app.model.hits(), 0);
}

fn weather() -> Value {
    json!([{"type": "custom", "name": "get_weather", "description": "Gets it.", "input_schema": {"type": "object"}}])
}

pub(crate) fn result(call: &str, text: &str) -> Value {
    json!({"type": "user.custom_tool_result", "custom_tool_use_id": call, "content": [{"type": "text", "text": text}]})
}

/// A session that waits for the results of `count` calls; their ids.
pub(crate) async fn waiting(app: &TestApp, count: usize) -> (String, Vec<String>) {
    let calls = (1..count).fold(
        Reply::tool_use("toolu_0", "get_weather", json!({})),
        |reply, n| reply.then_tool_use(format!("toolu_{n}"), "get_weather", json!({})),
    );
    app.model.push(calls);
    let session = app.session_of(&app.agent_with(weather()).await).await;
    let events = app.turn(&session, "weather?").await;
    let uses = events
        .iter()
        .filter(|event| event.kind() == "agent.custom_tool_use");
    let ids: Vec<String> = uses.map(|event| id(&event.data)).collect();
    let idle = &events.last().expect("idle").data;
    assert_eq!(
        idle["stop_reason"],
        json!({"type": "requires_action", "event_ids": ids})
    );
    (session, ids)
}

async fn sq_10_a_custom_tool_is_answered_by_the_client(app: &TestApp) {
    let (session, calls) = waiting(app, 2).await;
    let mut stream = app.stream(&session, "").await;
    let echo = app.send(&session, result(&calls[0], "rain")).await;
    assert!(
        echo["processed_at"].is_string(),
        "SE-3: processed on receipt"
    );
    let rest = stream.until_idle().await;
    assert_eq!(
        rest.last().expect("idle").data["stop_reason"]["event_ids"],
        json!([calls[1]]),
        "SQ-8"
    );
    assert!(!kinds(&rest).contains(&"session.status_running"));
    app.model.push(Reply::text("Rain and sun."));
    app.send(&session, result(&calls[1], "sun")).await;
    let events = stream.until_idle().await;
    assert_eq!(
        kinds(&events)[..3],
        [
            "user.custom_tool_result",
            "session.thread_status_running",
            "session.status_running"
        ]
    );
    assert!(!kinds(&events).contains(&"agent.tool_result"));
    let request = app.model.request(2).await;
    assert_eq!(request.result_texts(), ["rain", "sun"]);
}

async fn se_18_a_late_or_second_result_shows_the_first(app: &TestApp) {
    let (session, calls) = waiting(app, 1).await;
    app.model.push(Reply::text("Rain."));
    let mut stream = app.stream(&session, "").await;
    let first = app.send(&session, result(&calls[0], "rain")).await;
    stream.until_idle().await;
    let second = app.send(&session, result(&calls[0], "snow")).await;
    assert_eq!(second, first);
    assert_eq!(app.model.hits(), 2, "it had no effect");
    let listed = app.events(&session).await;
    assert_eq!(
        listed
            .iter()
            .filter(|event| event["type"] == "user.custom_tool_result")
            .count(),
        1
    );
}

async fn se_14_a_message_waits_behind_a_pending_call(app: &TestApp) {
    let (session, calls) = waiting(app, 1).await;
    let echo = app.send(&session, message("and tomorrow?")).await;
    assert_eq!(echo["processed_at"], Value::Null);
    assert_eq!(app.retrieve(&session).await["status"], "idle");
    assert_eq!(
        app.events(&session).await.last().expect("events")["id"],
        echo["id"],
        "LI-4: queued ones come last"
    );
    app.model.push(Reply::text("Rain, and sun."));
    let mut stream = app.stream(&session, "").await;
    app.send(&session, result(&calls[0], "rain")).await;
    let events = stream.until_idle().await;
    assert!(
        events
            .iter()
            .any(|event| event.data["id"] == echo["id"] && event.data["processed_at"].is_string())
    );
    assert_eq!(app.model.hits(), 2, "one request takes both");
}

async fn se_5_a_message_while_running_joins(app: &TestApp) {
    let (session, gate, mut stream) = app.working("One.").await;
    app.model.push(Reply::text("Two."));
    let echo = app.send(&session, message("second")).await;
    assert_eq!(echo["processed_at"], Value::Null);
    gate.open();
    let request = app.model.request(2).await;
    assert!(String::from_utf8_lossy(&request.raw).contains("second"));
    let mut texts = Vec::new();
    while texts.len() < 2 {
        let event = stream.next().await.expect("an event");
        if event.kind() == "agent.message" {
            texts.push(event.data["content"][0]["text"].clone());
        }
    }
    assert_eq!(texts, [json!("One."), json!("Two.")]);
    stream.until_idle().await;
}

async fn se_13_documents_and_images_reach_the_model(app: &TestApp) {
    app.model.push(Reply::text("I see."));
    let session = app.session().await;
    let content = json!([
        {"type": "image", "source": {"type": "base64", "data": "aGk=", "media_type": "image/png"}},
        {"type": "document", "source": {"type": "base64", "data": "aGk=", "media_type": "application/pdf"}, "title": "A"},
        {"type": "document", "source": {"type": "text", "data": "plain", "media_type": "text/plain"}, "context": "B"},
        {"type": "text", "text": "look"},
    ]);
    let mut stream = app.stream(&session, "").await;
    let echo = app
        .send(
            &session,
            json!({"type": "user.message", "content": content}),
        )
        .await;
    assert_eq!(echo["content"], content);
    stream.until_idle().await;
    let request = app.model.request(1).await;
    let sent = &request.messages()[0]["content"];
    for (index, block) in content.as_array().expect("a list").iter().enumerate() {
        for (name, value) in block.as_object().expect("an object") {
            assert_eq!(sent[index][name], *value, "{name} of block {index}");
        }
    }
}
