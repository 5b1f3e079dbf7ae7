//! Summaries that fail, do not help, or are cut off by a crash.

use manyhands_protocol::session::SessionStatus;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use super::{PREFACE, conversation, long, small_bed, too_long};
use crate::bed::{Bed, hold_at, message, small_specs, system};

/// Runtime CC-4, SQ-12: a summary whose request fails is tried again like any request.
#[tokio::test]
async fn sq_12_a_failed_request_for_a_summary_is_tried_again() {
    let mut bed = small_bed([
        long("One."),
        Reply::overloaded(),
        Reply::text("Summary."),
        Reply::text("Two."),
    ])
    .await;
    bed.wake();
    bed.turn("1").await;
    let log = bed.turn("2").await;
    assert_eq!(
        log[3..13],
        [
            "span.model_request_start",
            "span.model_request_end (error)",
            "session.error: model_overloaded_error retrying",
            "session.thread_status_rescheduled",
            "session.status_rescheduled",
            "session.thread_status_running",
            "session.status_running",
            "span.model_request_start",
            "span.model_request_end",
            "agent.thread_context_compacted",
        ]
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let requests = bed.model.requests();
    assert_eq!(requests[1].raw, requests[2].raw, "the same bytes (I6)");
    bed.model.assert_done();
}

/// Security MODEL-4: right after a summary, a request that is too long is an error; the next message is answered.
#[tokio::test]
async fn model_4_an_overflow_right_after_a_summary_is_an_error() {
    let bed = Bed::new([
        Reply::text("One."),
        too_long(),
        Reply::text("Summary."),
        too_long(),
        Reply::text("Three."),
    ])
    .await;
    bed.send(vec![message("1"), system("Be kind.")]).await;
    bed.seen("session.status_idle", 1).await;
    let log = bed.turn("2").await;
    assert_eq!(
        log[log.len() - 4..],
        [
            "session.error: model_request_failed_error exhausted",
            "session.thread_status_idle: retries_exhausted",
            "session.usage",
            "session.status_idle: retries_exhausted",
        ]
    );
    let log = bed.turn("3").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let last = bed.model.request(5).await;
    assert_eq!(
        conversation(&last),
        [format!("user: {PREFACE}|3"), "system: Be kind.".to_owned()],
        "what was refused is withheld, and nothing else"
    );
    bed.model.assert_done();
}

/// Security MODEL-4: a text that is too long is shortened; an answer that is no summary is none.
#[tokio::test]
async fn model_4_summaries_are_asked_for_in_shorter_forms_and_then_given_up() {
    let call = || Reply::tool_use("toolu_1", "bash", json!({"command": "ls"}));
    let mut bed = small_bed([
        long("One."),
        call(),
        too_long(),
        Reply::text("\n"),
        Reply::text("x").refusal("cyber", "no"),
        Reply::text("Summary."),
        Reply::text("Three."),
    ])
    .await;
    bed.wake();
    bed.turn("1").await;
    let log = bed.turn("2").await;
    assert_eq!(
        log[log.len() - 5..],
        [
            "session.error: compaction_limit_reached_error exhausted",
            "user.message processed",
            "session.thread_status_idle: retries_exhausted",
            "session.usage",
            "session.status_idle: retries_exhausted",
        ],
        "{log:?}"
    );
    assert!(
        !log.iter().any(|line| line.starts_with("agent.")),
        "nothing of it is shown: {log:?}"
    );
    let log = bed.turn("3").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.model.assert_done();
}

/// Runtime ER-5: summaries that do not help are given up, and the next message goes on.
#[tokio::test]
async fn er_5_too_many_summaries_in_a_row_end_the_turn() {
    let novel = "word ".repeat(20_000);
    let mut replies = vec![long("One.")];
    replies.extend((0..3).map(|_| Reply::text(novel.clone())));
    replies.push(Reply::text("Three."));
    let mut bed = small_bed(replies).await;
    bed.specs = |url| {
        let mut specs = small_specs(url);
        // Tools, system prompt and a full summary are more than this.
        specs[0].context_window = Some(2_000);
        specs
    };
    bed.wake();
    bed.turn("1").await;
    let log = bed.turn("2").await;
    let compacted = log
        .iter()
        .filter(|line| *line == "agent.thread_context_compacted");
    assert_eq!(compacted.count(), 3);
    assert_eq!(
        log[log.len() - 5..],
        [
            "session.error: compaction_limit_reached_error exhausted",
            "user.message processed",
            "session.thread_status_idle: retries_exhausted",
            "session.usage",
            "session.status_idle: retries_exhausted",
        ]
    );
    let log = bed.turn("3").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.model.assert_done();
}

/// Security LOG-3: the process dies at each step of a summary, and the turn ends the same way.
#[tokio::test]
async fn log_3_a_crash_around_a_summary_ends_the_same_way() {
    for (point, nth) in [
        ("brain::compact", 1),
        ("brain::span_start", 2),
        ("brain::span_started", 2),
        ("brain::summary", 1),
        ("brain::summarised", 1),
        ("brain::span_start", 3),
    ] {
        let mut bed = small_bed([]).await;
        bed.model.respond_with(|request| {
            let last = request.last_user_text();
            match last.lines().last().unwrap_or_default() {
                "1" => long("One."),
                "2" => Reply::text("Two."),
                _ => Reply::text("Summary."),
            }
        });
        let gate = Gate::new();
        bed.config.probe = Some(hold_at(point, nth, &gate));
        bed.wake();
        bed.turn("1").await;
        bed.say("2").await;
        gate.reached().await;
        bed.crash().await;
        bed.config.probe = None;
        bed.wake();
        bed.seen("session.status_idle", 2).await;
        let log = bed.log().await;
        let told: Vec<&String> = log
            .iter()
            .filter(|line| line.starts_with("agent.") || line.contains("status_idle"))
            .collect();
        assert_eq!(
            told,
            [
                "agent.message: One.",
                "session.thread_status_idle: end_turn",
                "session.status_idle: end_turn",
                "agent.thread_context_compacted",
                "agent.message: Two.",
                "session.thread_status_idle: end_turn",
                "session.status_idle: end_turn",
            ],
            "crash at {point}"
        );
        let count = |name: &str| log.iter().filter(|line| line.starts_with(name)).count();
        let (starts, ends) = (
            count("span.model_request_start"),
            count("span.model_request_end"),
        );
        assert_eq!(starts, ends, "crash at {point}");
        let last = bed.model.requests().last().unwrap().clone();
        assert_eq!(
            conversation(&last),
            [format!("user: {PREFACE}|2")],
            "crash at {point}"
        );
        assert_eq!(bed.record().await.status, SessionStatus::Idle);
        bed.model.assert_clean();
    }
}
