//! Tools that the client runs (runtime §9, SQ-8 to SQ-10).

use manyhands_hands::Output;
use manyhands_protocol::session::SessionStatus;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, custom_result, hold_at, message};

fn ask(id: &str, question: &str) -> Reply {
    Reply::tool_use(id, "ask_human", json!({"question": question}))
}

async fn calls(bed: &Bed) -> Vec<String> {
    let events = bed.events("agent.custom_tool_use").await;
    events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn sq_10_custom_tool() {
    let bed = Bed::new([ask("toolu_1", "why?"), Reply::text("I see.")]).await;
    let log = bed.turn("Ask").await;
    assert_eq!(
        log[4..],
        [
            "span.model_request_start",
            "agent.custom_tool_use: ask_human {\"question\":\"why?\"}",
            "span.model_request_end",
            "session.thread_status_idle: requires_action",
            "session.usage",
            "session.status_idle: requires_action",
        ]
    );
    let idle = &bed.events("session.status_idle").await[0];
    let call = calls(&bed).await.remove(0);
    assert_eq!(idle["stop_reason"]["event_ids"], json!([call]));
    let before = bed.log().await.len();
    bed.send(vec![custom_result(&call, "because")]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..],
        [
            "user.custom_tool_result: because",
            "session.thread_status_running",
            "session.status_running",
            "span.model_request_start",
            "agent.message: I see.",
            "span.model_request_end",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    assert_eq!(bed.model.request(2).await.tool_results()[0].text, "because");
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn sq_8_partial_answers_name_the_remainder() {
    let bed = Bed::new([
        ask("toolu_1", "a").then_tool_use("toolu_2", "ask_human", json!({"question": "b"})),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Ask").await;
    let calls = calls(&bed).await;
    bed.send(vec![custom_result(&calls[1], "B")]).await;
    bed.seen("session.status_idle", 2).await;
    let idle = &bed.events("session.status_idle").await[1];
    assert_eq!(idle["stop_reason"]["event_ids"], json!([calls[0]]));
    assert_eq!(bed.record().await.status, SessionStatus::Idle);
    assert_eq!(bed.model.hits(), 1, "the loop does not run yet");
    let log = bed.log().await;
    assert_eq!(
        log.iter()
            .filter(|line| *line == "session.status_running")
            .count(),
        1
    );
    assert_eq!(log[log.len() - 2], "session.usage", "SQ-17");
    bed.send(vec![custom_result(&calls[0], "A")]).await;
    bed.seen("session.status_idle", 3).await;
    assert_eq!(bed.result_texts(2).await, ["A", "B"]);
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn sq_10_a_result_may_come_before_the_idle() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([ask("toolu_1", "why?"), Reply::text("I see.")]).await;
    bed.config.probe = Some(hold_at("brain::rest", 1, &gate));
    bed.wake();
    bed.say("Ask").await;
    gate.reached().await;
    let call = calls(&bed).await.remove(0);
    bed.send(vec![custom_result(&call, "because")]).await;
    gate.open();
    bed.idle().await;
    let log = bed.log().await;
    assert!(
        !log.iter().any(|line| line.contains("requires_action")),
        "{log:?}"
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.model.assert_done();
}

#[tokio::test]
async fn se_14_a_message_waits_behind_the_pending_calls() {
    let bed = Bed::new([ask("toolu_1", "why?"), Reply::text("I see.")]).await;
    bed.turn("Ask").await;
    bed.send(vec![message("Meanwhile")]).await;
    assert_eq!(bed.model.hits(), 1);
    let call = calls(&bed).await.remove(0);
    bed.send(vec![custom_result(&call, "because")]).await;
    bed.seen("session.status_idle", 2).await;
    let second = bed.model.request(2).await;
    assert_eq!(second.tool_results()[0].text, "because");
    assert_eq!(second.last_user_text(), "Meanwhile");
    bed.model.assert_done();
}

#[tokio::test]
async fn sq_9_built_in_calls_of_a_mixed_batch_run_before_the_pause() {
    let mut bed = Bed::asleep([
        ask("toolu_1", "why?").then_tool_use("toolu_2", "bash", json!({"command": "ls"})),
        Reply::text("ok"),
    ])
    .await;
    bed.hands = bed
        .hands
        .with_tool("bash", |_| async { Output::text("files") });
    bed.wake();
    let log = bed.turn("Go").await;
    assert_eq!(
        log[7..],
        [
            "span.model_request_end",
            "agent.tool_result: files",
            "session.thread_status_idle: requires_action",
            "session.usage",
            "session.status_idle: requires_action",
        ]
    );
    let call = calls(&bed).await.remove(0);
    bed.send(vec![custom_result(&call, "")]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(bed.result_texts(2).await, ["(no output)", "files"], "TL-4");
    bed.assert_each_call_has_one_result().await;
}
