//! Models that fail: retried, given up, explained (runtime §10, security MODEL-1 to MODEL-4).

use std::time::Duration;

use manyhands_protocol::session::SessionStatus;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, RetryAfter};
use serde_json::json;

use crate::bed::{Bed, impatient_specs, spans};

const RETRIED: [&str; 6] = [
    "span.model_request_end (error)",
    "session.error: model_overloaded_error retrying",
    "session.thread_status_rescheduled",
    "session.status_rescheduled",
    "session.thread_status_running",
    "session.status_running",
];

/// runtime SQ-12, ER-1, ER-2
#[tokio::test]
async fn sq_12_a_passing_failure_is_tried_again() {
    let bed = Bed::new([Reply::overloaded(), Reply::text("Hello.")]).await;
    let log = bed.turn("Hi").await;
    bed.seen("session.status_idle", 1).await;
    let mut expected = vec!["user.message processed", "span.model_request_start"];
    expected.extend(RETRIED);
    expected.extend([
        "span.model_request_start",
        "agent.message: Hello.",
        "span.model_request_end",
        "session.thread_status_idle: end_turn",
        "session.usage",
        "session.status_idle: end_turn",
    ]);
    assert_eq!(log[3..], expected);
    assert_eq!(
        bed.model.requests()[0].raw,
        bed.model.requests()[1].raw,
        "the same bytes (I6)"
    );
}

/// One bad answer, then a good one: the turn ends well, with one visible error of this class.
async fn check_retried(bad: Reply, class: &str) {
    let bed = Bed::asleep([bad.clone(), Reply::text("ok")]).await;
    check_retried_in(bed, &bad, class).await;
}

/// As [`check_retried`], with little patience for silence.
async fn check_silence(bad: Reply) {
    let mut bed = Bed::asleep([bad.clone(), Reply::text("ok")]).await;
    bed.specs = impatient_specs;
    check_retried_in(bed, &bad, "model_request_failed_error").await;
}

async fn check_retried_in(mut bed: Bed, bad: &Reply, class: &str) {
    bed.wake();
    let log = bed.turn("Hi").await;
    let errors: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("session.error"))
        .collect();
    assert_eq!(
        errors,
        [&format!("session.error: {class} retrying")],
        "{bad:?}"
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let said: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("agent.message"))
        .collect();
    assert_eq!(
        said,
        ["agent.message: ok"],
        "nothing of a broken answer is kept (MODEL-1)"
    );
    let (starts, ends) = spans(&log);
    assert_eq!((starts, ends), (2, 2), "SQ-3");
    bed.model.assert_done();
}

/// runtime RL-3, ER-2; security MODEL-2
#[tokio::test]
async fn model_2_statuses_that_are_tried_again() {
    check_retried(Reply::server_error(), "model_request_failed_error").await;
    check_retried(Reply::overloaded(), "model_overloaded_error").await;
    check_retried(
        Reply::error(408, "timeout_error", "late"),
        "model_request_failed_error",
    )
    .await;
    check_retried(
        Reply::raw(502, "text/html", "<html>"),
        "model_request_failed_error",
    )
    .await;
    for hint in [
        RetryAfter::Absent,
        RetryAfter::Seconds(0.01),
        RetryAfter::Millis(5),
        RetryAfter::HttpDate("Thu, 01 Jan 1970 00:00:00 GMT".to_owned()),
        RetryAfter::Text("whenever".to_owned()),
    ] {
        check_retried(Reply::rate_limited(hint), "model_rate_limited_error").await;
    }
}

/// security MODEL-1, MODEL-4
#[tokio::test]
async fn model_4_broken_streams_are_tried_again() {
    let whole = Reply::text("Half").wire("claude-opus-4-8").len();
    check_retried(Reply::hang_up(), "model_request_failed_error").await;
    for at in [0, 1, whole / 2, whole - 1] {
        check_retried(Reply::text("Half").cut_at(at), "model_request_failed_error").await;
    }
    check_retried(
        Reply::text("Half").without_message_stop(),
        "model_request_failed_error",
    )
    .await;
    check_retried(
        Reply::text("Half").malformed_event(),
        "model_request_failed_error",
    )
    .await;
    check_retried(
        Reply::text("Half").giant_line(9 << 20),
        "model_request_failed_error",
    )
    .await;
    let late = Reply::text("Half").error_after(3, "overloaded_error", "Overloaded");
    check_retried(late, "model_overloaded_error").await;
    let nonsense = Reply::empty().then_tool_use_raw("toolu_1", "bash", "{\"command\": ");
    check_retried(nonsense, "model_request_failed_error").await;
    let twins = Reply::tool_use("toolu_1", "bash", json!({}));
    let twins = twins.then_tool_use("toolu_1", "bash", json!({}));
    check_retried(twins, "model_request_failed_error").await;
}

#[tokio::test]
async fn model_4_silence_is_noticed() {
    let gate = Gate::new();
    let silent = Reply::text("Half");
    let broken = Reply::error(500, "api_error", "x");
    tokio::join!(
        check_silence(silent.clone().hold_headers(&gate)),
        check_silence(silent.hold_before(3, &gate)),
        check_silence(broken.hold_at(3, &gate)),
    );
}

#[tokio::test]
async fn model_4_unknown_events_and_odd_chunks_are_fine() {
    let bed = Bed::new([
        Reply::text("One").unknown_event().in_chunks_of(1),
        Reply::text("Two").in_chunks_of(7),
    ])
    .await;
    bed.turn("1").await;
    let log = bed.turn("2").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let log = bed.log().await;
    assert!(!log.iter().any(|line| line.starts_with("session.error")));
}

/// runtime SQ-13, ER-2; security MODEL-3
#[tokio::test]
async fn sq_13_exhausted_retries_flush_what_is_queued_and_the_next_message_starts_fresh() {
    let gate = Gate::new();
    let mut replies = vec![Reply::overloaded(); 3];
    replies.push(Reply::overloaded().hold_headers(&gate));
    replies.push(Reply::text("ok"));
    let bed = Bed::new(replies).await;
    bed.say("1").await;
    gate.reached().await;
    bed.say("flushed").await;
    gate.open();
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(
        log[log.len() - 6..],
        [
            "span.model_request_end (error)",
            "session.error: model_overloaded_error exhausted",
            "user.message processed",
            "session.thread_status_idle: retries_exhausted",
            "session.usage",
            "session.status_idle: retries_exhausted",
        ]
    );
    let retried = log.iter().filter(|line| line.ends_with("retrying")).count();
    assert_eq!(retried, 3);
    bed.turn("2").await;
    assert_eq!(bed.model.request(5).await.last_user_text(), "1\n2");
    bed.model.assert_done();
}

#[tokio::test]
async fn a_hint_beyond_the_time_that_is_left_gives_up_at_once() {
    let bed = Bed::new([Reply::rate_limited(RetryAfter::Seconds(600.0))]).await;
    let log = bed.turn("1").await;
    assert!(log.contains(&"session.error: model_rate_limited_error exhausted".to_owned()));
    assert_eq!(bed.model.hits(), 1);
}

/// An answer that no retry can help: one request, one clear message, and the next turn works.
async fn check_given_up(bad: Reply, class: &str, says: &str) {
    let bed = Bed::new([bad, Reply::text("ok")]).await;
    let log = bed.turn("Hi").await;
    assert_eq!(
        log[log.len() - 4..],
        [
            &format!("session.error: {class} exhausted"),
            "session.thread_status_idle: retries_exhausted",
            "session.usage",
            "session.status_idle: retries_exhausted",
        ]
    );
    assert_eq!(bed.model.hits(), 1);
    let error = &bed.events("session.error").await[0]["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(says), "{message}");
    assert!(!message.contains("test-key"), "no secret: {message}");
    let log = bed.turn("Again").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
}

/// runtime ER-8; security MODEL-2, MODEL-3
#[tokio::test]
async fn model_2_no_retry_for_what_cannot_get_better() {
    let failed = "model_request_failed_error";
    let refused = |status, kind, text| Reply::error(status, kind, text);
    check_given_up(
        refused(401, "authentication_error", "invalid x-api-key test-key"),
        failed,
        "Set a valid key",
    )
    .await;
    check_given_up(refused(403, "permission_error", "no"), failed, "Use a key").await;
    check_given_up(
        refused(404, "not_found_error", "model: x"),
        failed,
        "model's id",
    )
    .await;
    check_given_up(
        refused(402, "billing_error", "pay"),
        "billing_error",
        "account",
    )
    .await;
    check_given_up(
        Reply::bad_request("Your credit balance is too low"),
        "billing_error",
        "credit",
    )
    .await;
    check_given_up(Reply::bad_request("bad image"), failed, "bad image").await;
    check_given_up(
        Reply::bad_request("prompt is too long: 1 > 0"),
        failed,
        "too long",
    )
    .await;
    check_given_up(
        refused(413, "request_too_large", "big"),
        failed,
        "too large",
    )
    .await;
    check_given_up(Reply::raw(301, "text/plain", ""), failed, "base URL").await;
}

#[tokio::test]
async fn what_the_provider_refuses_leaves_the_context() {
    let bed = Bed::new([
        Reply::tool_use("toolu_1", "bash", json!({"command": "cat x"})),
        Reply::bad_request("cannot process image"),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Look").await;
    let log = bed.log().await;
    assert_eq!(
        log.last().unwrap(),
        "session.status_idle: retries_exhausted"
    );
    // The withheld result is no extension of the refused request: this is the one place where a prefix changes.
    bed.turn("Never mind").await;
    let broken = bed.model.take_violations();
    assert!(
        broken.iter().all(|violation| violation.contains("(I6)")),
        "{broken:?}"
    );
    let third = bed.model.request(3).await;
    assert!(third.tool_results()[0].text.contains("withheld"));
    assert_eq!(third.last_user_text(), "Never mind");
}

#[tokio::test]
async fn an_unknown_model_is_said_and_the_session_waits() {
    let mut bed = Bed::asleep([]).await;
    bed.specs = |_| Vec::new();
    bed.wake();
    bed.turn("Hi").await;
    let error = &bed.events("session.error").await[0]["error"];
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("claude-opus-4-8")
    );
    assert_eq!(error["retry_status"]["type"], "exhausted");
    assert_eq!(bed.record().await.status, SessionStatus::Idle);
    assert_eq!(bed.model.hits(), 0);
}

#[tokio::test]
async fn us_4_only_running_is_counted_while_a_retry_waits() {
    let mut bed = Bed::asleep([Reply::overloaded(), Reply::text("ok")]).await;
    bed.config.retries.base = Duration::from_millis(400);
    bed.config.retries.longest = Duration::from_millis(400);
    bed.wake();
    bed.turn("Hi").await;
    let record = bed.record().await;
    let entries = bed.entries().await;
    let at = |type_name: &str, nth: usize| {
        let mut found = entries
            .iter()
            .filter(|entry| &*entry.type_name == type_name);
        found.nth(nth).unwrap().created_at
    };
    let waited = at("session.status_running", 1).millis_since(at("session.status_rescheduled", 0));
    let whole = at("session.status_idle", 0).millis_since(at("session.status_running", 0));
    assert!(waited >= 200, "half the wait is certain");
    assert!((record.active_millis - (whole - waited)).abs() <= 2);
    // What is said was counted after the last request had begun, and before what is kept.
    let begun = at("span.model_request_start", 1).millis_since(at("session.status_running", 0));
    let said = &bed.events("session.usage").await[0]["usage"];
    let said = (said["active_seconds"].as_f64().unwrap() * 1000.0).round() as i64;
    let counted = begun - waited - 2..=record.active_millis;
    assert!(counted.contains(&said), "{said} is not in {counted:?}");
}
