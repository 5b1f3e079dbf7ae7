//! Stopping a session (runtime §7).

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, kinds, message, stories};

stories! {
    in_8_an_interrupt_of_nothing_is_done_at_once,
    in_1_an_interrupt_ends_the_turn,
    se_6_an_interrupt_with_a_message_redirects,
    in_7_an_interrupt_names_a_thread_of_the_session,
}

async fn in_8_an_interrupt_of_nothing_is_done_at_once(app: &TestApp) {
    let session = app.session().await;
    let echo = app.send(&session, json!({"type": "user.interrupt"})).await;
    assert!(echo["processed_at"].is_string());
    assert_eq!(app.events(&session).await, [echo]);
    assert_eq!(app.retrieve(&session).await["status"], "idle");
}

async fn in_1_an_interrupt_ends_the_turn(app: &TestApp) {
    let (session, gate, mut stream) = app.working("Never told.").await;
    app.send(&session, json!({"type": "user.interrupt"})).await;
    let events = stream.until_idle().await;
    gate.open();
    assert!(!kinds(&events).contains(&"agent.message"), "IN-5");
    assert_eq!(
        events.last().expect("idle").data["stop_reason"],
        json!({"type": "end_turn"}),
        "IN-3"
    );
    assert!(kinds(&events).contains(&"span.model_request_end"), "SQ-3");
}

/// Acceptance scenario 9; runtime SE-6, SQ-11, IN-2 to IN-5.
async fn se_6_an_interrupt_with_a_message_redirects(app: &TestApp) {
    let (session, gate, mut stream) = app.working("Never told.").await;
    app.model.push(Reply::text("Instead."));
    let queued = app.send(&session, message("queued before")).await;
    let redirect = json!([{"type": "user.interrupt"}, message("do this instead")]);
    let echoes = app.send_all(&session, redirect).await;
    assert_eq!(
        echoes[0]["processed_at"],
        Value::Null,
        "IN-2: not yet applied"
    );
    let cut = stream.until_idle().await;
    let next = stream.until_idle().await;
    gate.open();
    let cut_kinds = kinds(&cut);
    assert!(!cut_kinds.contains(&"agent.message"), "IN-5");
    let end = cut_kinds.len();
    assert_eq!(
        cut_kinds[end - 5..],
        [
            "span.model_request_end",
            "user.interrupt",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle"
        ],
        "SQ-11"
    );
    assert!(cut[end - 4].data["processed_at"].is_string());
    assert_eq!(
        cut[end - 1].data["stop_reason"],
        json!({"type": "end_turn"}),
        "IN-3"
    );
    let said: Vec<&Value> = next
        .iter()
        .filter(|event| event.kind() == "user.message")
        .map(|event| &event.data["id"])
        .collect();
    assert_eq!(
        said,
        [&queued["id"], &echoes[1]["id"]],
        "in the order they came"
    );
    let request = app.model.request(2).await;
    let asked = String::from_utf8_lossy(&request.raw).into_owned();
    assert!(asked.contains("queued before") && asked.contains("do this instead"));
    assert!(
        !asked.contains("Never told.") && !asked.contains("interrupt"),
        "IN-4"
    );
}

async fn in_7_an_interrupt_names_a_thread_of_the_session(app: &TestApp) {
    let session = app.session().await;
    let thread = app.thread(&session).await;
    let own = json!({"type": "user.interrupt", "session_thread_id": thread});
    assert_eq!(app.send(&session, own).await["session_thread_id"], thread);
    let other = json!({"type": "user.interrupt", "session_thread_id": "sthr_01none"});
    app.refused(&session, json!([other])).await;
}
