//! Models that say odd things: each ends in a defined way (runtime §10, security MODEL-1, MODEL-5).

use std::time::Duration;

use manyhands_protocol::agent::PermissionPolicy;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, from, interrupt, message, tools_under};

/// A message of so many calls of `bash`.
fn many(calls: usize) -> Reply {
    (0..calls).fold(Reply::empty(), |reply, number| {
        reply.then_tool_use(
            format!("toolu_{number}"),
            "bash",
            json!({"command": "true"}),
        )
    })
}

/// security MODEL-5: what is beyond the cap is answered and not run, and every call has exactly one result.
#[tokio::test]
async fn model_5_a_thousand_calls_in_one_message() {
    let bed = Bed::new([many(1000), Reply::text("ok")]).await;
    let log = bed.turn("Go").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert_eq!(bed.hands.starts().len(), 128);
    let second = bed.model.request(2).await;
    let results = second.tool_results();
    assert_eq!(results.len(), 1000);
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result.tool_use_id, format!("toolu_{number}"));
        assert_eq!(result.is_error, number >= 128);
        assert_eq!(result.text.contains("at most 128"), number >= 128);
    }
    bed.assert_each_call_has_one_result().await;
}

/// security MODEL-5, runtime TC-3: nobody is asked about calls beyond the cap.
#[tokio::test]
async fn model_5_a_thousand_calls_that_ask() {
    let mut bed = Bed::asleep([many(1000), Reply::text("ok")]).await;
    bed.set_tools(tools_under(PermissionPolicy::AlwaysAsk {}, &[]))
        .await;
    bed.wake();
    bed.turn("Go").await;
    let idle = bed.events("session.status_idle").await.remove(0);
    let asked = idle["stop_reason"]["event_ids"].as_array().unwrap().clone();
    assert_eq!(asked.len(), 128);
    let used = bed.events("agent.tool_use").await;
    let waits = used
        .iter()
        .filter(|used| used["evaluated_permission"] == "ask");
    let waits: Vec<_> = waits.map(|used| used["id"].clone()).collect();
    assert_eq!(waits, asked, "in the model's order");
    bed.send(vec![interrupt()]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(bed.hands.starts().len(), 0);
    bed.turn("Go on").await;
    bed.assert_each_call_has_one_result().await;
}

/// security MODEL-1: a call in a message that breaks off is neither run nor shown, wherever it breaks.
#[tokio::test]
async fn model_1_nothing_of_an_incomplete_message_is_acted_on() {
    let call = || Reply::text("Look.").then_tool_use("toolu_1", "bash", json!({"command": "ls"}));
    let whole = call().wire("claude-opus-4-8").len();
    let cuts = [whole / 2, whole * 3 / 4, whole * 9 / 10, whole - 1];
    let broken = cuts.into_iter().map(|at| call().cut_at(at));
    let broken = broken.chain([call().without_message_stop(), call().malformed_event()]);
    for bad in broken {
        let bed = Bed::new([bad.clone(), Reply::text("ok")]).await;
        let log = bed.turn("Go").await;
        assert_eq!(
            log.last().unwrap(),
            "session.status_idle: end_turn",
            "{bad:?}"
        );
        assert_eq!(bed.hands.starts().len(), 0, "{bad:?}");
        assert!(bed.events("agent.tool_use").await.is_empty(), "{bad:?}");
        assert_eq!(bed.model.request(2).await.messages().len(), 1, "{bad:?}");
    }
}

/// security MODEL-5, runtime ER-11: an input that is JSON and no object is the model's mistake, and it hears so.
#[tokio::test]
async fn model_5_inputs_that_are_no_objects_get_error_results() {
    let bed = Bed::new([
        Reply::empty()
            .then_tool_use_raw("toolu_1", "bash", "[\"ls\"]")
            .then_tool_use_raw("toolu_2", "ask_human", "\"why?\""),
        Reply::text("I see."),
    ])
    .await;
    let log = bed.turn("Go").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert!(
        !log.iter().any(|line| line.starts_with("session.error")),
        "{log:?}"
    );
    let second = bed.model.request(2).await;
    for result in second.tool_results() {
        assert!(result.is_error && result.text.contains("must be a JSON object"));
    }
    assert_eq!(bed.hands.starts().len(), 0);
    bed.assert_each_call_has_one_result().await;
}

/// security MODEL-5, INP-2: a number that would be run rounded is not run.
#[tokio::test]
async fn model_5_inputs_that_would_lose_digits_get_error_results() {
    let wide = r#"{"command":"ls","id":18446744073709551616}"#;
    let bed = Bed::new([
        Reply::empty()
            .then_tool_use_raw("toolu_1", "bash", wide)
            .then_tool_use_raw("toolu_2", "ask_human", wide),
        Reply::text("I see."),
    ])
    .await;
    let log = bed.turn("Go").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let second = bed.model.request(2).await;
    let results = second.tool_results();
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result.is_error && result.text.contains("64 bits"));
    }
    assert_eq!(bed.hands.starts().len(), 0);
    bed.assert_each_call_has_one_result().await;
}

/// runtime SQ-1, ER-2: an empty message after a round of tools ends the turn, and its results are not lost.
#[tokio::test]
async fn sq_1_an_empty_message_behind_results_ends_the_turn() {
    let bed = Bed::new([many(1), Reply::empty(), Reply::text("ok")]).await;
    let log = bed.turn("Go").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.turn("And?").await;
    let third = bed.model.request(3).await;
    assert_eq!(third.tool_results().len(), 1);
    assert_eq!(third.last_user_text(), "And?");
    bed.model.assert_done();
}

/// runtime SQ-15: a refusal that holds a call runs nothing; category and explanation may be unknown.
#[tokio::test]
async fn sq_15_a_refusal_runs_no_call() {
    let bed = Bed::new([many(1).stop_reason("refusal"), Reply::text("ok")]).await;
    let log = bed.turn("Go").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: refusal");
    assert_eq!(bed.hands.starts().len(), 0);
    let idle = bed.events("session.status_idle").await.remove(0);
    assert_eq!(
        idle["stop_details"],
        json!({"type": "refusal", "category": null, "explanation": null})
    );
    bed.turn("Again").await;
    bed.assert_each_call_has_one_result().await;
}

/// runtime IN-2, SE-6, SQ-12: an interrupt with a message ends the wait for a retry, and the message is answered at once.
#[tokio::test]
async fn se_6_a_message_behind_an_interrupt_ends_the_wait_for_a_retry() {
    let mut bed = Bed::asleep([Reply::overloaded(), Reply::text("ok")]).await;
    bed.config.retries.base = Duration::from_secs(3600);
    bed.config.retries.longest = Duration::from_secs(3600);
    bed.config.retries.total = Duration::from_secs(36_000);
    bed.wake();
    bed.say("1").await;
    bed.seen("session.status_rescheduled", 1).await;
    bed.send(vec![interrupt(), message("2")]).await;
    bed.seen("session.status_idle", 2).await;
    let log = bed.log().await;
    assert_eq!(
        from(&log, "user.interrupt processed")[..8],
        [
            "user.interrupt processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
            "session.thread_status_running",
            "session.status_running",
            "user.message processed",
            "span.model_request_start",
        ]
    );
    assert_eq!(bed.model.request(2).await.last_user_text(), "1\n2");
    bed.model.assert_done();
}
