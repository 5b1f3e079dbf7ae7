//! Rules of streams and of what events hold that have no story of their own (runtime §5, §13).

use manyhands_testkit::events::Event;
use manyhands_testkit::gate::{Gate, PATIENCE};
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, ids, kinds, message, stories};

stories! {
    sq_25_sq_26_thinking_has_no_content_and_messages_hold_text,
    st_5_a_stream_lives_across_turns_until_the_end,
    st_13_the_end_of_the_span_closes_a_preview_that_was_cut,
    st_13_a_preview_of_an_attempt_that_failed_is_closed_too,
    st_15_tools_are_not_previewed,
    st_6_conflict_16_a_thread_has_a_stream_with_previews,
}

const PREVIEWS: &str = "?event_deltas[]=agent.message&event_deltas[]=agent.thinking";

/// The ids and types that were announced.
fn announced(events: &[Event]) -> Vec<(String, &str)> {
    let starts = events.iter().filter(|event| event.kind() == "event_start");
    let start = |event: &'_ Event| id(&event.data["event"]);
    let ids: Vec<String> = starts.clone().map(start).collect();
    let types = starts.map(|event| event.data["event"]["type"].as_str().expect("a type"));
    ids.into_iter().zip(types).collect()
}

async fn sq_25_sq_26_thinking_has_no_content_and_messages_hold_text(app: &TestApp) {
    let ls = json!({"command": "ls"});
    let reply = Reply::thinking("secret thoughts", "sig").then_text("First.");
    app.model.push(
        reply
            .then_tool_use("toolu_1", "bash", ls)
            .then_text("Then."),
    );
    app.model.push(Reply::text("Done."));
    let session = app.session().await;
    let events = app.turn(&session, "hi").await;
    let of = |kind: &'static str| events.iter().filter(move |event| event.kind() == kind);
    for thinking in of("agent.thinking") {
        let mut members: Vec<&String> = thinking
            .data
            .as_object()
            .expect("an object")
            .keys()
            .collect();
        members.sort();
        assert_eq!(members, ["id", "processed_at", "type"]);
    }
    assert_eq!(of("agent.thinking").count(), 1);
    let told: String = events.iter().map(|event| event.data.to_string()).collect();
    assert!(!told.contains("secret thoughts"));
    let contents: Vec<&Value> = of("agent.message")
        .map(|event| &event.data["content"])
        .collect();
    assert!(contents.len() >= 2, "{contents:?}");
    for block in contents
        .iter()
        .flat_map(|content| content.as_array().expect("a list"))
    {
        assert_eq!(block["type"], "text", "calls are events of their own");
    }
    assert_eq!(of("agent.tool_use").count(), 1);
}

async fn st_5_a_stream_lives_across_turns_until_the_end(app: &TestApp) {
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    for turn in 0..3 {
        app.model.push(Reply::text(format!("{turn}.")));
        app.send(&session, message("hi")).await;
        let said = stream.until("agent.message").await.pop().expect("said");
        assert_eq!(said.data["content"][0]["text"], format!("{turn}."));
        stream.until_idle().await;
    }
    app.client
        .post_empty(&format!("/v1/sessions/{session}/archive"))
        .await
        .ok();
    stream.until("session.status_terminated").await;
    let after = stream.next_event(PATIENCE).await;
    assert!(after.is_none(), "the stream closes: {after:?}");
}

/// runtime ST-13, IN-5
async fn st_13_the_end_of_the_span_closes_a_preview_that_was_cut(app: &TestApp) {
    let gate = Gate::new();
    app.model.push(
        Reply::text("Several words that are cut.")
            .split_into(6)
            .hold_before(5, &gate),
    );
    let session = app.session().await;
    let mut stream = app.stream(&session, PREVIEWS).await;
    app.send(&session, message("hi")).await;
    let mut events = stream.until("event_delta").await;
    gate.reached().await;
    app.send(&session, json!({"type": "user.interrupt"})).await;
    events.extend(stream.until_idle().await);
    let [(announced, "agent.message")] = &announced(&events)[..] else {
        panic!("{:?}", kinds(&events))
    };
    assert!(
        events.iter().all(|event| event.data["id"] != **announced),
        "it never came"
    );
    let end = events
        .iter()
        .position(|event| event.kind() == "span.model_request_end")
        .expect("the end");
    assert!(
        events[end..]
            .iter()
            .all(|event| !event.kind().starts_with("event_"))
    );
}

/// runtime ST-13, ST-10
async fn st_13_a_preview_of_an_attempt_that_failed_is_closed_too(app: &TestApp) {
    app.model
        .push(Reply::text("Broken off.").split_into(4).error_after(
            5,
            "overloaded_error",
            "Overloaded",
        ));
    app.model.push(Reply::text("Whole."));
    let session = app.session().await;
    let mut stream = app.stream(&session, PREVIEWS).await;
    app.send(&session, message("hi")).await;
    let events = stream.until_idle().await;
    let starts = announced(&events);
    let said: Vec<String> = events
        .iter()
        .filter(|event| event.kind() == "agent.message")
        .map(|event| id(&event.data))
        .collect();
    assert_eq!(said.len(), 1);
    assert_eq!(starts.last().expect("a start").0, said[0]);
    let ends: Vec<usize> = (0..events.len())
        .filter(|at| events[*at].kind() == "span.model_request_end")
        .collect();
    assert_eq!(ends.len(), 2);
    let of_the_first = |event: &&Event| event.data["event_id"] == starts[0].0.as_str();
    assert!(starts.len() == 2 && events[ends[0]..].iter().find(of_the_first).is_none());
}

async fn st_15_tools_are_not_previewed(app: &TestApp) {
    let read = json!({"file_path": "/a"});
    let calls = Reply::text("Looking.").then_tool_use("toolu_1", "bash", json!({"command": "ls"}));
    app.model
        .push(calls.then_tool_use("toolu_2", "read", read).split_into(5));
    app.model
        .push(Reply::thinking("hm", "sig").then_text("Done."));
    let session = app.session().await;
    let mut stream = app.stream(&session, PREVIEWS).await;
    app.send(&session, message("hi")).await;
    let events = stream.until_idle().await;
    let types: Vec<&str> = announced(&events)
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(types, ["agent.message", "agent.thinking", "agent.message"]);
    let uses: Vec<String> = ids(&events, "agent.tool_use");
    assert_eq!(uses.len(), 2);
    let previewed = |event: &&Event| event.kind() == "event_delta";
    for delta in events.iter().filter(previewed) {
        assert!(!uses.iter().any(|call| delta.data["event_id"] == **call));
    }
}

/// runtime ST-6, ST-7, CONFLICT-16
async fn st_6_conflict_16_a_thread_has_a_stream_with_previews(app: &TestApp) {
    let text = "Several words that come one after the other.";
    app.model.push(Reply::text(text).split_into(6));
    let session = app.session().await;
    let threads = format!("/v1/sessions/{session}/threads");
    let thread = id(&app.client.get(&threads).await.ok()["data"][0]);
    let path = format!("{threads}/{thread}");
    let mut stream = app.client.stream(&format!("{path}/stream{PREVIEWS}")).await;
    app.send(&session, message("hi")).await;
    let events = stream.until_idle().await;
    let said: String = events
        .iter()
        .filter(|event| event.kind() == "event_delta")
        .map(|event| {
            event.data["delta"]["content"]["text"]
                .as_str()
                .expect("a text")
        })
        .collect();
    assert_eq!(said, text);
    let listed = app.client.get(&format!("{path}/events")).await.ok();
    assert_eq!(listed["data"], Value::from(app.events(&session).await));
    let not_there = format!("{path}/events/stream");
    app.client
        .get(&not_there)
        .await
        .error(404, "not_found_error");
}
