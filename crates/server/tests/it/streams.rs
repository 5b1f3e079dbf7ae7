//! Streams (runtime §13, security STREAM-1, STREAM-2).

use futures::future::join_all;
use manyhands_testkit::events::Event;
use manyhands_testkit::gate::{Gate, PATIENCE};
use manyhands_testkit::http::Client;
use manyhands_testkit::model::Reply;
use serde_json::Value;

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    st_1_a_stream_starts_at_now,
    st_8_previews_are_asked_for_by_name,
    st_9_deltas_add_up_to_the_message,
    st_14_a_late_listener_gets_no_deltas_of_a_running_request,
    st_7_the_primary_threads_stream_is_the_sessions,
    stream_1_many_listeners_hear_the_same,
    stream_2_a_reader_that_comes_late_to_its_deltas_gets_a_prefix,
}

async fn st_1_a_stream_starts_at_now(app: &TestApp) {
    app.model.push(Reply::text("One."));
    app.model.push(Reply::text("Two."));
    let session = app.session().await;
    app.turn(&session, "first").await;
    let events = app.turn(&session, "second").await;
    assert_eq!(events[0].data["content"][0]["text"], "second");
    assert!(
        events.iter().all(|event| event.name == event.kind()),
        "ST-4"
    );
}

async fn st_8_previews_are_asked_for_by_name(app: &TestApp) {
    let path = format!("/v1/sessions/{}/events/stream", app.session().await);
    let many = "event_deltas[]=agent.message&".repeat(101);
    for query in [
        "event_deltas[]=agent.tool_use",
        "event_deltas%5B%5D=",
        many.as_str(),
    ] {
        app.client
            .get(&format!("{path}?{query}"))
            .await
            .refused("event_deltas");
    }
    drop(
        app.client
            .stream(&format!(
                "{path}?event_deltas%5B%5D=agent.thinking&event_deltas[]=agent.message"
            ))
            .await,
    );
}

fn deltas(events: &[Event]) -> String {
    let text = |event: &Event| {
        event.data["delta"]["content"]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    events
        .iter()
        .filter(|event| event.kind() == "event_delta")
        .map(text)
        .collect()
}

/// runtime ST-9 to ST-12, LI-4a; security STREAM-2
async fn st_9_deltas_add_up_to_the_message(app: &TestApp) {
    let text = "Several words that come one after the other.";
    app.model
        .push(Reply::thinking("hm", "sig").then_text(text).split_into(7));
    let session = app.session().await;
    let mut with = app.stream(&session, "?event_deltas[]=agent.message").await;
    let mut both = app
        .stream(
            &session,
            "?event_deltas[]=agent.message&event_deltas[]=agent.thinking",
        )
        .await;
    let mut without = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    let (with, both, without) = (
        with.until_idle().await,
        both.until_idle().await,
        without.until_idle().await,
    );
    assert_eq!(deltas(&with), text);
    let starts = |events: &[Event]| {
        let kind = |event: &Event| {
            event.data["event"]["type"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        events
            .iter()
            .filter(|event| event.kind() == "event_start")
            .map(kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(starts(&with), ["agent.message"]);
    assert_eq!(starts(&both), ["agent.thinking", "agent.message"], "ST-12");
    let start = with
        .iter()
        .find(|event| event.kind() == "event_start")
        .expect("a start");
    let whole = with
        .iter()
        .position(|event| event.kind() == "agent.message")
        .expect("the message");
    assert_eq!(start.data["event"]["id"], with[whole].data["id"], "ST-10");
    assert!(
        with[whole..]
            .iter()
            .all(|event| event.kind() != "event_delta"),
        "ST-10"
    );
    assert!(
        with.iter()
            .filter(|event| event.kind().starts_with("event_"))
            .all(|event| event.id.is_none())
    );
    let stored: Vec<&Event> = with
        .iter()
        .filter(|event| !event.kind().starts_with("event_"))
        .collect();
    assert_eq!(stored.len(), without.len());
    assert!(
        !app.events(&session)
            .await
            .iter()
            .any(|event| event["type"] == "event_delta"),
        "LI-4a"
    );
}

async fn st_14_a_late_listener_gets_no_deltas_of_a_running_request(app: &TestApp) {
    let gate = Gate::new();
    app.model.push(
        Reply::text("Several words.")
            .split_into(5)
            .hold_first_token(&gate),
    );
    let session = app.session().await;
    let mut first = app.stream(&session, "?event_deltas[]=agent.message").await;
    app.send(&session, message("hi")).await;
    gate.reached().await;
    first.until("span.model_request_start").await;
    let mut late = app.stream(&session, "?event_deltas[]=agent.message").await;
    gate.open();
    let (first, late) = (first.until_idle().await, late.until_idle().await);
    assert_eq!(deltas(&first), "Several words.");
    assert_eq!(deltas(&late), "");
    assert_eq!(kinds(&late)[0], "agent.message");
}

async fn st_7_the_primary_threads_stream_is_the_sessions(app: &TestApp) {
    app.model.push(Reply::text("One."));
    let session = app.session().await;
    let thread = app.thread(&session).await;
    let mut primary = app
        .client
        .stream(&format!("/v1/sessions/{session}/threads/{thread}/stream"))
        .await;
    let events = app.turn(&session, "hi").await;
    let same = primary.until_idle().await;
    assert_eq!(kinds(&same), kinds(&events));
}

async fn stream_1_many_listeners_hear_the_same(app: &TestApp) {
    app.model.push(Reply::text("One."));
    let session = app.session().await;
    let mut streams = Vec::new();
    for _ in 0..30 {
        streams.push(app.stream(&session, "").await);
    }
    app.send(&session, message("hi")).await;
    let mut heard: Vec<Vec<Value>> = Vec::new();
    for stream in &mut streams {
        heard.push(
            stream
                .until_idle()
                .await
                .into_iter()
                .map(|event| event.data)
                .collect(),
        );
    }
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]));
}

/// runtime ST-10, ST-11, ST-16; security STREAM-2
async fn stream_2_a_reader_that_comes_late_to_its_deltas_gets_a_prefix(app: &TestApp) {
    let text: String = (0..400_000).map(|n| format!("{n} ")).collect();
    app.model.push(Reply::text(text.as_str()).split_into(2000));
    let session = app.session().await;
    let mut late = app.stream(&session, "?event_deltas[]=agent.message").await;
    let mut other = app.stream(&session, "").await;
    app.send(&session, message("count")).await;
    // It leaves everything lying until the turn is over.
    let stored = other.until_idle().await;
    let events = late.until_idle().await;
    assert!(
        text.starts_with(&deltas(&events)),
        "a prefix, and nothing skipped"
    );
    let whole = events
        .iter()
        .position(|event| event.kind() == "agent.message");
    let whole = whole.expect("the message");
    assert_eq!(events[whole].data["content"][0]["text"], text.as_str());
    assert!(
        events[whole..].iter().all(|event| event.id.is_some()),
        "it is the last"
    );
    let kept: Vec<&Value> = events
        .iter()
        .filter(|event| event.id.is_some())
        .map(|event| &event.data)
        .collect();
    let stored: Vec<&Value> = stored.iter().map(|event| &event.data).collect();
    assert!(kept == stored, "no stored event is shed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_4_old_clients_can_have_one_name_for_all() {
    let app = TestApp::with(|config| config.legacy_event_names = true).await;
    app.model.push(Reply::text("One."));
    let session = app.session().await;
    let events = app.turn(&session, "hi").await;
    assert!(events.iter().all(|event| event.name == "message"));
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_a_running_turn_do_not_hold_up_the_end() {
    let app = TestApp::sqlite().await;
    let (_, gate, mut stream) = app.working("Never told.").await;
    stream.until("span.model_request_start").await;
    let url = app.url();
    let (server, model) = (app.server, app.model);
    // Neither lets go by itself: the listener stays, and the model says nothing.
    tokio::time::timeout(PATIENCE, server.stop())
        .await
        .expect("nobody is waited for");
    let end = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("in time");
    assert!(end.is_none(), "the stream ends");
    assert!(Client::new(&url).connect().await.is_err(), "nobody listens");
    gate.open();
    model.assert_clean();
}

/// A reader that leaves everything lying is overtaken, gets all events from the log, and holds up nobody.
/// runtime ST-16; security I10, STREAM-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_16_a_slow_reader_loses_no_event_and_slows_nobody() {
    let app = TestApp::sqlite().await;
    let (session, _) = crate::events::waiting(&app, 1).await;
    let mut slow = app.stream(&session, "").await;
    // Messages behind a pending call start nothing; these are more than all buffers on the way hold.
    let text = "x".repeat(100_000);
    // Several at once share a commit: the reader is closed when it reads nothing for half a minute.
    let mut sent = Vec::new();
    for _ in 0..40 {
        let batch = (0..10).map(|_| app.send(&session, message(&text)));
        sent.extend(join_all(batch).await.iter().map(id));
    }
    let (mut heard, mut positions) = (Vec::new(), Vec::new());
    while heard.len() < sent.len() {
        let event = slow.next_event(PATIENCE).await.expect("an event");
        let position = event.id.as_ref().expect("a position").parse();
        positions.push(position.expect("a number"));
        heard.push(id(&event.data));
    }
    assert!(
        positions.is_sorted_by(|one: &i64, next| one < next),
        "in order"
    );
    // Those of a batch have the order that the log gave them.
    for (heard, sent) in heard.chunks_mut(10).zip(sent.chunks_mut(10)) {
        heard.sort();
        sent.sort();
        assert!(heard == sent, "each once");
    }
    let figures = app.client.get("/metrics").await;
    let text = String::from_utf8_lossy(&figures.body).into_owned();
    assert!(
        text.contains("manyhands_stream_overtaken_total"),
        "it was overtaken: {text}"
    );
    app.end().await;
}
