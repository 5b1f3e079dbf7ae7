//! Stopping a turn (runtime §7).

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Outcome, Reply};
use serde_json::json;

use crate::bed::{Bed, from, interrupt, message};

/// runtime SQ-11, IN-2, IN-3, IN-4, IN-5
#[tokio::test]
async fn sq_11_an_interrupt_cuts_the_models_answer_at_once() {
    let gate = Gate::new();
    let bed = Bed::new([
        Reply::text("Never said.")
            .split_into(4)
            .hold_before(4, &gate),
        Reply::text("b"),
    ])
    .await;
    bed.say("1").await;
    gate.reached().await;
    bed.send(vec![interrupt()]).await;
    bed.idle().await;
    assert_eq!(bed.model.outcome(1).await, Outcome::ClientGone);
    let log = bed.log().await;
    assert_eq!(
        log[4..],
        [
            "span.model_request_start",
            "user.interrupt",
            "span.model_request_end",
            "user.interrupt processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ],
        "IN-5: no message"
    );
    assert_eq!(
        bed.record().await.usage.input_tokens,
        12,
        "what it used is counted"
    );
    bed.turn("2").await;
    let second = bed.model.request(2).await;
    assert_eq!(
        second.last_user_text(),
        "1\n2",
        "IN-4: the model never sees the interrupt"
    );
}

#[tokio::test]
async fn se_6_interrupt_and_message_in_one_send_open_the_next_turn() {
    let gate = Gate::new();
    let bed = Bed::new([Reply::text("x").hold_headers(&gate), Reply::text("b")]).await;
    bed.say("1").await;
    gate.reached().await;
    bed.say("queued before").await;
    bed.send(vec![interrupt(), message("instead")]).await;
    bed.seen("session.status_idle", 2).await;
    let log = bed.log().await;
    assert_eq!(
        from(&log, "user.interrupt processed")[..9],
        [
            "user.interrupt processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
            "session.thread_status_running",
            "session.status_running",
            "user.message processed",
            "user.message processed",
            "span.model_request_start",
        ]
    );
    assert_eq!(
        bed.model.request(2).await.last_user_text(),
        "1\nqueued before\ninstead"
    );
    bed.model.assert_done();
}

#[tokio::test]
async fn in_2_an_interrupt_ends_running_calls_and_keeps_finished_results() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([
        Reply::tool_use("toolu_1", "bash", json!({"command": "sleep"}))
            .then_tool_use("toolu_2", "read", json!({"file_path": "/a"}))
            .then_tool_use("toolu_3", "ask_human", json!({"question": "?"})),
        Reply::text("ok"),
    ])
    .await;
    bed.hold_bash(&gate, "too late");
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.seen("agent.tool_result", 1).await;
    bed.send(vec![interrupt()]).await;
    bed.idle().await;
    let log = bed.log().await;
    let interrupted = "agent.tool_result: Tool execution was interrupted before completion. Please retry. (error)";
    assert_eq!(
        log[8..],
        [
            "span.model_request_end",
            "agent.tool_result: read: {\"file_path\":\"/a\"}",
            "user.interrupt",
            interrupted,
            interrupted,
            "user.interrupt processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    gate.open();
    bed.turn("Again").await;
    assert_eq!(bed.result_errors(2).await, [true, false, true]);
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn in_8_an_interrupt_while_the_client_is_asked_closes_the_calls_without_sampling() {
    let bed = Bed::new([
        Reply::tool_use("toolu_1", "ask_human", json!({"question": "?"})),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Ask").await;
    let before = bed.log().await.len();
    bed.send(vec![interrupt()]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..],
        [
            "user.interrupt",
            "agent.tool_result: Tool execution was interrupted before completion. Please retry. (error)",
            "user.interrupt processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    assert_eq!(bed.model.hits(), 1);
    bed.turn("Go on").await;
    assert!(bed.model.request(2).await.tool_results()[0].is_error);
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn an_interrupt_ends_the_wait_for_a_retry() {
    let mut bed = Bed::asleep([Reply::overloaded(), Reply::text("ok")]).await;
    bed.config.retries.base = std::time::Duration::from_secs(3600);
    bed.config.retries.longest = std::time::Duration::from_secs(3600);
    bed.config.retries.total = std::time::Duration::from_secs(36_000);
    bed.wake();
    bed.say("1").await;
    bed.seen("session.status_rescheduled", 1).await;
    bed.send(vec![interrupt()]).await;
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert_eq!(bed.model.hits(), 1);
    bed.turn("2").await;
    assert_eq!(bed.model.request(2).await.last_user_text(), "1\n2");
}
