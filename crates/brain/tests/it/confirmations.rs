//! Calls that ask before they run (runtime §8, SQ-7 to SQ-9).

use manyhands_protocol::agent::PermissionPolicy;
use manyhands_protocol::event::Confirmation;
use manyhands_protocol::session::SessionStatus;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{
    Bed, DONE, confirmation, custom_result, hold_at, interrupt, message, tools_under,
};

const ALLOW: PermissionPolicy = PermissionPolicy::AlwaysAllow {};
const ASK: PermissionPolicy = PermissionPolicy::AlwaysAsk {};

const INTERRUPTED: &str =
    "agent.tool_result: Tool execution was interrupted before completion. Please retry. (error)";

fn bash(id: &str, command: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": command}))
}

/// A session whose tools ask by default, and a model that says these.
async fn asking(replies: impl IntoIterator<Item = Reply>) -> Bed {
    let mut bed = Bed::asleep(replies).await;
    bed.set_tools(tools_under(ASK, &[])).await;
    bed.wake();
    bed
}

/// The ids of the built-in calls so far.
async fn calls(bed: &Bed) -> Vec<String> {
    let events = bed.events("agent.tool_use").await;
    let id = |event: &serde_json::Value| event["id"].as_str().unwrap().to_owned();
    events.iter().map(id).collect()
}

fn allow(call: &str) -> manyhands_protocol::event::EventBody {
    confirmation(call, Confirmation::Allow, None)
}

/// The calls that the n-th idle event (from 1) says the session waits for.
async fn asked_for(bed: &Bed, nth: usize) -> serde_json::Value {
    bed.events("session.status_idle").await[nth - 1]["stop_reason"]["event_ids"].clone()
}

/// runtime SQ-7, TC-1, TC-3, TC-4, TC-7
#[tokio::test]
async fn sq_7_confirmation_pause() {
    let bed = asking([bash("toolu_1", "ls"), Reply::text("Done.")]).await;
    let log = bed.turn("Go").await;
    assert_eq!(
        log[4..],
        [
            "span.model_request_start",
            "agent.tool_use: bash {\"command\":\"ls\"} ask",
            "span.model_request_end",
            "session.thread_status_idle: requires_action",
            "session.usage",
            "session.status_idle: requires_action",
        ]
    );
    let call = calls(&bed).await.remove(0);
    assert_eq!(asked_for(&bed, 1).await, json!([call]));
    let evaluation = &bed.events("agent.tool_use").await[0]["evaluation"];
    assert_eq!(*evaluation, json!({"type": "always_ask"}));
    assert_eq!(
        bed.hands.starts().len(),
        0,
        "nothing runs before the answer"
    );
    let before = bed.log().await.len();
    bed.send(vec![allow(&call)]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..],
        [
            &[
                "user.tool_confirmation: allow",
                "user.tool_confirmation processed",
                "session.thread_status_running",
                "session.status_running",
                "agent.tool_result: bash: {\"command\":\"ls\"}",
            ][..],
            &DONE
        ]
        .concat()
    );
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn tc_7_a_denied_call_does_not_run_and_the_model_hears_why() {
    let bed = asking([
        bash("toolu_1", "rm -r /").then_tool_use("toolu_2", "bash", json!({"command": "ls"})),
        Reply::text("I see."),
    ])
    .await;
    bed.turn("Go").await;
    let calls = calls(&bed).await;
    let before = bed.log().await.len();
    bed.send(vec![
        confirmation(&calls[0], Confirmation::Deny, Some("Too much.")),
        confirmation(&calls[1], Confirmation::Deny, None),
    ])
    .await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before + 4..before + 9],
        [
            "session.thread_status_running",
            "session.status_running",
            "agent.tool_result: The user rejected this tool call. Reason: Too much. (error)",
            "agent.tool_result: The user rejected this tool call. (error)",
            "span.model_request_start",
        ]
    );
    assert_eq!(bed.hands.starts().len(), 0);
    let second = bed.model.request(2).await;
    assert!(second.tool_results().iter().all(|result| result.is_error));
    assert!(second.tool_results()[0].text.contains("Too much."));
    bed.assert_each_call_has_one_result().await;
}

/// runtime SQ-8, TC-7: three asks, answered one by one (scenario 6).
#[tokio::test]
async fn sq_8_partial_confirmations_name_the_remainder_and_run_nothing() {
    let bed = asking([
        bash("toolu_1", "1")
            .then_tool_use("toolu_2", "bash", json!({"command": "2"}))
            .then_tool_use("toolu_3", "bash", json!({"command": "3"})),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Go").await;
    let calls = calls(&bed).await;
    assert_eq!(asked_for(&bed, 1).await, json!(calls));
    let before = bed.log().await.len();
    bed.send(vec![allow(&calls[1])]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..],
        [
            "user.tool_confirmation: allow",
            "user.tool_confirmation processed",
            "session.thread_status_idle: requires_action",
            "session.usage",
            "session.status_idle: requires_action",
        ]
    );
    assert_eq!(asked_for(&bed, 2).await, json!([calls[0], calls[2]]));
    bed.send(vec![confirmation(&calls[0], Confirmation::Deny, None)])
        .await;
    bed.seen("session.status_idle", 3).await;
    assert_eq!(asked_for(&bed, 3).await, json!([calls[2]]));
    assert_eq!(bed.record().await.status, SessionStatus::Idle);
    assert_eq!((bed.hands.starts().len(), bed.model.hits()), (0, 1));
    bed.send(vec![allow(&calls[2])]).await;
    bed.seen("session.status_idle", 4).await;
    assert_eq!(bed.result_errors(2).await, [true, false, false]);
    bed.assert_each_call_has_one_result().await;
}

/// runtime SQ-9, TC-2: what needs nobody runs at once, what the client agreed to waits for the rest (scenario 5).
#[tokio::test]
async fn sq_9_a_mixed_batch_waits_with_the_blocking_calls_alone() {
    let mut bed = Bed::asleep([
        bash("toolu_1", "make")
            .then_tool_use("toolu_2", "read", json!({"file_path": "/a"}))
            .then_tool_use("toolu_3", "ask_human", json!({"question": "?"})),
        Reply::text("ok"),
    ])
    .await;
    bed.set_tools(tools_under(ALLOW, &[("bash", ASK)])).await;
    bed.wake();
    let log = bed.turn("Go").await;
    assert_eq!(
        log[8..],
        [
            "span.model_request_end",
            "agent.tool_result: read: {\"file_path\":\"/a\"}",
            "session.thread_status_idle: requires_action",
            "session.usage",
            "session.status_idle: requires_action",
        ]
    );
    let custom = &bed.events("agent.custom_tool_use").await[0];
    assert!(
        custom.get("evaluated_permission").is_none() && custom.get("evaluation").is_none(),
        "TC-1: custom tools have no policy"
    );
    let custom = custom["id"].as_str().unwrap().to_owned();
    let call = calls(&bed).await.remove(0);
    assert_eq!(asked_for(&bed, 1).await, json!([call, custom]));
    bed.send(vec![allow(&call)]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(asked_for(&bed, 2).await, json!([custom]));
    assert_eq!(bed.hands.starts().len(), 1, "the agreed call waits too");
    bed.send(vec![custom_result(&custom, "yes")]).await;
    bed.seen("session.status_idle", 3).await;
    assert_eq!(bed.hands.starts().len(), 2);
    assert_eq!(
        bed.result_texts(2).await,
        [
            "bash: {\"command\":\"make\"}",
            "read: {\"file_path\":\"/a\"}",
            "yes"
        ]
    );
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn sq_7_a_confirmation_may_come_before_the_idle() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([bash("toolu_1", "ls"), Reply::text("Done.")]).await;
    bed.set_tools(tools_under(ASK, &[])).await;
    bed.config.probe = Some(hold_at("brain::rest", 1, &gate));
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    let call = calls(&bed).await.remove(0);
    bed.send(vec![allow(&call)]).await;
    gate.open();
    bed.seen("session.status_idle", 1).await;
    let log = bed.log().await;
    assert!(
        !log.iter().any(|line| line.contains("requires_action")),
        "{log:?}"
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.assert_each_call_has_one_result().await;
}

/// runtime TC-5: an event of a call that nobody may run says so, and names no policy.
#[tokio::test]
async fn tc_5_refused_calls_of_asking_tools_wait_for_nobody() {
    let bed = asking([
        Reply::tool_use("toolu_1", "grep", json!({"pattern": "x"})).then_tool_use(
            "toolu_2",
            "read",
            json!({"path": "/a"}),
        ),
        Reply::text("ok"),
    ])
    .await;
    let log = bed.turn("Go").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    for used in bed.events("agent.tool_use").await {
        assert_eq!(used["evaluated_permission"], "deny");
        assert!(used.get("evaluation").is_none(), "{used}");
    }
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn tc_11_a_pending_ask_keeps_its_evaluation_when_the_policy_changes() {
    let bed = asking([
        bash("toolu_1", "1"),
        Reply::text("ok"),
        bash("toolu_2", "2"),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Go").await;
    bed.set_tools(tools_under(ALLOW, &[])).await;
    let call = calls(&bed).await.remove(0);
    assert_eq!(bed.record().await.status, SessionStatus::Idle);
    assert_eq!(bed.hands.starts().len(), 0, "still asked for");
    bed.send(vec![allow(&call)]).await;
    bed.seen("session.status_idle", 2).await;
    bed.turn("More").await;
    let used = bed.events("agent.tool_use").await;
    let permissions: Vec<_> = used
        .iter()
        .map(|used| &used["evaluated_permission"])
        .collect();
    assert_eq!(
        permissions,
        ["ask", "allow"],
        "the new policy is for the calls of the next turn"
    );
    bed.assert_each_call_has_one_result().await;
}

/// runtime IN-8, IN-6: an interrupt closes what the client was asked about; nothing is sampled.
#[tokio::test]
async fn in_8_an_interrupt_closes_pending_asks() {
    let bed = asking([
        bash("toolu_1", "1").then_tool_use("toolu_2", "bash", json!({"command": "2"})),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Go").await;
    let calls = calls(&bed).await;
    bed.send(vec![allow(&calls[0])]).await;
    bed.seen("session.status_idle", 2).await;
    let before = bed.log().await.len();
    bed.send(vec![interrupt()]).await;
    bed.seen("session.status_idle", 3).await;
    assert_eq!(
        bed.log().await[before..],
        [
            "user.interrupt",
            INTERRUPTED,
            INTERRUPTED,
            "user.interrupt processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    assert_eq!((bed.hands.starts().len(), bed.model.hits()), (0, 1));
    bed.turn("Go on").await;
    bed.assert_each_call_has_one_result().await;
}

/// runtime TC-6: the wait has no end, and no process has to stay for it.
#[tokio::test]
async fn tc_6_a_pending_ask_outlives_the_server() {
    let mut bed = asking([bash("toolu_1", "ls"), Reply::text("Done.")]).await;
    bed.turn("Go").await;
    let call = calls(&bed).await.remove(0);
    bed.crash().await;
    bed.send(vec![allow(&call)]).await;
    bed.crash().await;
    bed.wake();
    bed.seen("session.status_idle", 2).await;
    assert_eq!(bed.hands.starts().len(), 1);
    bed.model.assert_done();
    bed.assert_each_call_has_one_result().await;
}

/// runtime TC-7, invariants I3 and I4: a crash between a denial, its result and the other call's run.
#[tokio::test]
async fn tc_7_a_crash_behind_the_answers_repeats_nothing() {
    for point in [
        "brain::result",
        "brain::resulted",
        "brain::intent",
        "brain::intended",
    ] {
        let gate = Gate::new();
        let mut bed = Bed::asleep([
            bash("toolu_1", "1").then_tool_use("toolu_2", "bash", json!({"command": "2"})),
            Reply::text("ok"),
        ])
        .await;
        bed.set_tools(tools_under(ASK, &[])).await;
        bed.config.probe = Some(hold_at(point, 1, &gate));
        bed.wake();
        bed.turn("Go").await;
        let calls = calls(&bed).await;
        bed.send(vec![
            allow(&calls[0]),
            confirmation(&calls[1], Confirmation::Deny, None),
        ])
        .await;
        gate.reached().await;
        bed.crash().await;
        bed.config.probe = None;
        bed.wake();
        bed.seen("session.status_idle", 2).await;
        assert_eq!(bed.hands.starts().len(), 1, "{point}");
        assert_eq!(bed.result_errors(2).await, [false, true], "{point}");
        bed.assert_each_call_has_one_result().await;
    }
}

#[tokio::test]
async fn se_14_a_message_waits_behind_the_asks() {
    let bed = asking([bash("toolu_1", "ls"), Reply::text("ok")]).await;
    bed.turn("Go").await;
    bed.send(vec![message("Meanwhile")]).await;
    assert_eq!(bed.model.hits(), 1);
    let call = calls(&bed).await.remove(0);
    bed.send(vec![allow(&call)]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(bed.model.request(2).await.last_user_text(), "Meanwhile");
    bed.model.assert_done();
}
