//! Caps on what a session costs (runtime §11, §33). A token of input costs a cent here.

use manyhands_protocol::agent::PermissionPolicy;
use manyhands_protocol::event::Confirmation;
use manyhands_protocol::session::SessionStatus;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Usage};
use serde_json::{Value, json};

use crate::bed::{
    Bed, DONE, confirmation, custom_result, hold_at, interrupt, priced_specs, tools_under,
};

/// The idle events of a pause.
pub(crate) const PAUSED: [&str; 3] = [
    "session.thread_status_idle: budget_reached",
    "session.usage",
    "session.status_idle: budget_reached",
];

/// What a reply costs.
pub(crate) fn cents(input_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        ..Usage::default()
    }
}

pub(crate) fn text(text: &str, cost: u64) -> Reply {
    Reply::text(text).usage(cents(cost))
}

pub(crate) fn bash(id: &str, cost: u64) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": "ls"})).usage(cents(cost))
}

pub(crate) fn ask_human(id: &str, cost: u64) -> Reply {
    Reply::tool_use(id, "ask_human", json!({"question": "?"})).usage(cents(cost))
}

/// A session that may cost so many cents, and has no brain yet.
pub(crate) async fn capped_asleep(cap: u64, replies: impl IntoIterator<Item = Reply>) -> Bed {
    let mut bed = Bed::asleep(replies).await;
    bed.specs = priced_specs;
    bed.set_budget(Some(cap)).await;
    bed
}

/// A session that may cost so many cents.
pub(crate) async fn capped(cap: u64, replies: impl IntoIterator<Item = Reply>) -> Bed {
    let mut bed = capped_asleep(cap, replies).await;
    bed.wake();
    bed
}

/// Cost and cap of each `session.usage`.
pub(crate) async fn shown(bed: &Bed) -> Vec<(Value, Value)> {
    let events = bed.events("session.usage").await;
    let amount = |money: &Value| money["amount"].clone();
    let found = events.iter().map(|event| {
        (
            amount(&event["usage"]["list_cost"]),
            amount(&event["budget"]["max_list_cost"]),
        )
    });
    found.collect()
}

/// The last three events of the log.
pub(crate) async fn ending(bed: &Bed) -> Vec<String> {
    let log = bed.log().await;
    log[log.len() - 3..].to_vec()
}

/// runtime BU-4, BU-9, SQ-16, SQ-17: the request that crosses the cap finishes, the next one waits for a raise.
#[tokio::test]
async fn bu_4_the_cap_is_checked_before_each_request() {
    let bed = capped(10, [bash("toolu_1", 10), text("Done.", 3)]).await;
    let log = bed.turn("Go").await;
    assert_eq!(
        log[4..],
        [
            &[
                "span.model_request_start",
                "agent.tool_use: bash {\"command\":\"ls\"} allow",
                "span.model_request_end",
                "agent.tool_result: bash: {\"command\":\"ls\"}",
            ][..],
            &PAUSED
        ]
        .concat()
    );
    assert_eq!(bed.model.hits(), 1);
    assert_eq!(bed.record().await.status, SessionStatus::Idle);
    let before = bed.log().await.len();
    bed.set_budget(Some(20)).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..],
        [
            &[
                "session.updated",
                "session.thread_status_running",
                "session.status_running",
            ][..],
            &DONE
        ]
        .concat()
    );
    assert_eq!(
        shown(&bed).await,
        [(json!("10"), json!("10")), (json!("13"), json!("20"))]
    );
    bed.assert_each_call_has_one_result().await;
}

/// runtime BU-5
#[tokio::test]
async fn bu_5_a_turn_that_ends_beyond_the_cap_says_both() {
    let bed = capped(10, [text("Done.", 11), text("More.", 1)]).await;
    bed.turn("Go").await;
    let said = [
        "session.thread_status_idle: end_turn",
        "session.usage",
        "session.status_idle: budget_reached",
    ];
    assert_eq!(ending(&bed).await, said);
    let before = bed.log().await.len();
    bed.set_budget(Some(20)).await;
    bed.turn("Again").await;
    let log = bed.log().await;
    assert_eq!(
        log[before..before + 2],
        ["session.updated", "user.message: Again"],
        "nothing was owed"
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.model.assert_done();
}

/// runtime BU-7, BU-6: the client's answers come first; settled results are recorded, and no request follows.
#[tokio::test]
async fn bu_7_pending_calls_come_before_the_budget() {
    let bed = capped(10, [ask_human("toolu_1", 12), text("I see.", 1)]).await;
    let log = bed.turn("Go").await;
    assert_eq!(
        log[6..],
        [
            "span.model_request_end",
            "session.thread_status_idle: requires_action",
            "session.usage",
            "session.status_idle: requires_action",
        ]
    );
    let call = bed.events("agent.custom_tool_use").await[0]["id"].clone();
    let before = bed.log().await.len();
    bed.send(vec![custom_result(call.as_str().unwrap(), "yes")])
        .await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..],
        [
            &[
                "user.custom_tool_result: yes",
                "session.thread_status_running",
                "session.status_running",
            ][..],
            &PAUSED
        ]
        .concat()
    );
    assert_eq!(bed.model.hits(), 1);
    bed.set_budget(None).await;
    bed.seen("session.status_idle", 3).await;
    assert_eq!(bed.model.request(2).await.tool_results()[0].text, "yes");
    assert_eq!(
        shown(&bed).await[2],
        (json!("13"), Value::Null),
        "BU-10: removed for good"
    );
    bed.assert_each_call_has_one_result().await;
}

/// runtime BU-6, TC-7: a call that the client agrees to at the cap runs, and its result waits.
#[tokio::test]
async fn bu_6_a_confirmation_at_the_cap_runs_the_call_and_asks_no_model() {
    let mut bed = capped_asleep(10, [bash("toolu_1", 10), text("ok", 1)]).await;
    bed.set_tools(tools_under(PermissionPolicy::AlwaysAsk {}, &[]))
        .await;
    bed.wake();
    bed.turn("Go").await;
    assert_eq!(
        ending(&bed).await[2],
        "session.status_idle: requires_action"
    );
    let call = bed.events("agent.tool_use").await[0]["id"].clone();
    let word = confirmation(call.as_str().unwrap(), Confirmation::Allow, None);
    bed.send(vec![word]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(ending(&bed).await, PAUSED);
    assert_eq!((bed.hands.starts().len(), bed.model.hits()), (1, 1));
    bed.set_budget(Some(11)).await;
    bed.seen("session.status_idle", 3).await;
    bed.model.assert_done();
}

/// runtime IN-8, BU-5: an interrupt closes pending calls at the cap too; the session still says why it takes no message.
#[tokio::test]
async fn in_8_an_interrupt_of_pending_calls_at_the_cap() {
    let bed = capped(10, [ask_human("toolu_1", 12), text("ok", 1)]).await;
    bed.turn("Go").await;
    bed.send(vec![interrupt()]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        ending(&bed).await,
        [
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: budget_reached",
        ]
    );
    let before = bed.log().await.len();
    bed.set_budget(Some(20)).await;
    bed.turn("Go on").await;
    assert_eq!(
        bed.log().await[before + 1],
        "user.message: Go on",
        "the turn was over"
    );
    bed.assert_each_call_has_one_result().await;
}

/// runtime BU-9: what was sent before the pause waits behind it, and joins the turn that goes on.
#[tokio::test]
async fn bu_9_queued_messages_outlast_a_pause_in_the_middle_of_a_turn() {
    let gate = Gate::new();
    let mut bed = capped_asleep(10, [bash("toolu_1", 10), text("ok", 1)]).await;
    bed.hold_bash(&gate, "files");
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.say("Hurry").await;
    gate.open();
    bed.seen("session.status_idle", 1).await;
    assert_eq!(ending(&bed).await, PAUSED);
    bed.crash().await;
    bed.set_budget(Some(20)).await;
    bed.wake();
    bed.seen("session.status_idle", 2).await;
    let second = bed.model.request(2).await;
    assert_eq!(second.tool_results()[0].text, "files");
    assert_eq!(second.last_user_text(), "Hurry");
    assert_eq!(ending(&bed).await[2], "session.status_idle: end_turn");
    bed.model.assert_done();
}

/// runtime BU-5, BU-9: a message that came during the last answer opens its turn once the cap is raised.
#[tokio::test]
async fn bu_9_a_message_behind_a_finished_turn_waits_for_the_raise() {
    let gate = Gate::new();
    let slow = text("Done.", 12).split_into(4).hold_before(4, &gate);
    let bed = capped(10, [slow, text("Next.", 1)]).await;
    bed.say("1").await;
    gate.reached().await;
    bed.say("2").await;
    gate.open();
    bed.seen("session.status_idle", 1).await;
    assert_eq!(
        ending(&bed).await,
        [
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: budget_reached",
        ]
    );
    let before = bed.log().await.len();
    bed.set_budget(None).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..before + 5],
        [
            "session.updated",
            "session.thread_status_running",
            "session.status_running",
            "user.message processed",
            "span.model_request_start",
        ]
    );
    assert_eq!(bed.model.request(2).await.last_user_text(), "2");
    bed.model.assert_done();
}

/// runtime BU-9: a raise that comes while the pause is being written is not lost.
#[tokio::test]
async fn bu_9_a_raise_that_races_the_pause_goes_on_at_once() {
    let gate = Gate::new();
    let mut bed = capped_asleep(10, [bash("toolu_1", 10), text("ok", 1)]).await;
    bed.config.probe = Some(hold_at("brain::rest", 1, &gate));
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.set_budget(Some(20)).await;
    gate.open();
    bed.seen("session.status_idle", 1).await;
    assert_eq!(
        ending(&bed).await[2],
        "session.status_idle: end_turn",
        "{:#?}",
        bed.log().await
    );
    bed.model.assert_done();
}

/// runtime BU-10: a cap that is removed between a wake's looks at the row and at the log is gone for the wake.
#[tokio::test]
async fn bu_10_a_removal_that_races_the_start_of_a_wake_counts() {
    let gate = Gate::new();
    let mut bed = capped_asleep(10, [bash("toolu_1", 10), text("ok", 1)]).await;
    bed.config.probe = Some(hold_at("brain::begun", 1, &gate));
    bed.wake();
    gate.reached().await;
    bed.say("Go").await;
    bed.set_budget(None).await;
    gate.open();
    bed.seen("session.status_idle", 1).await;
    assert_eq!(ending(&bed).await[2], "session.status_idle: end_turn");
    bed.model.assert_done();
}

/// runtime BU-9: a raise that is too small for the next request pauses again behind it.
#[tokio::test]
async fn bu_9_each_raise_buys_what_it_covers() {
    let bed = capped(1, [bash("toolu_1", 5), bash("toolu_2", 5), text("ok", 5)]).await;
    bed.turn("Go").await;
    bed.set_budget(Some(6)).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(ending(&bed).await, PAUSED);
    bed.set_budget(Some(11)).await;
    bed.seen("session.status_idle", 3).await;
    assert_eq!(
        ending(&bed).await[2],
        "session.status_idle: budget_reached",
        "BU-5"
    );
    let costs: Vec<Value> = shown(&bed)
        .await
        .into_iter()
        .map(|(cost, _)| cost)
        .collect();
    assert_eq!(costs, ["5", "10", "15"], "US-1: cumulative");
}

/// runtime BU-11: the cost of a model without a price is not known; only the removal of the cap helps.
#[tokio::test]
async fn bu_11_an_unpriced_model_pauses_a_capped_session() {
    let mut bed = Bed::asleep([bash("toolu_1", 1), text("ok", 1)]).await;
    bed.set_budget(Some(1_000_000)).await;
    bed.wake();
    bed.turn("Go").await;
    assert_eq!(ending(&bed).await, PAUSED);
    assert_eq!(bed.record().await.usage.unpriced_requests, 1);
    bed.set_budget(None).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(ending(&bed).await[2], "session.status_idle: end_turn");
    let costs = shown(&bed).await;
    assert!(costs.iter().all(|(cost, _)| cost.is_null()), "{costs:?}");
}

/// runtime BU-4, SQ-12: a failed request that reaches the cap is not tried again before a raise.
#[tokio::test]
async fn bu_4_a_retry_waits_for_the_raise() {
    let broken = text("Broken.", 10).error_after(2, "api_error", "no");
    let bed = capped(10, [broken, text("ok", 1)]).await;
    bed.say("1").await;
    bed.seen("session.status_idle", 1).await;
    let log = bed.log().await;
    assert!(
        log.contains(&"session.status_rescheduled".to_owned()),
        "{log:?}"
    );
    assert_eq!(ending(&bed).await, PAUSED);
    bed.set_budget(Some(20)).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(ending(&bed).await[2], "session.status_idle: end_turn");
    bed.model.assert_done();
}

/// runtime LC-2: a raise and a message come together, and only one of them says that the session runs.
#[tokio::test]
async fn lc_2_a_message_during_a_resumption_says_once_that_the_session_runs() {
    let mut bed = capped_asleep(10, [bash("toolu_1", 10), text("Done.", 1)]).await;
    let gate = Gate::new();
    bed.config.probe = Some(hold_at("brain::resume", 1, &gate));
    bed.wake();
    bed.turn("Go").await;
    let before = bed.log().await.len();
    bed.set_budget(Some(20)).await;
    gate.reached().await;
    bed.say("Go on").await;
    gate.open();
    bed.seen("session.status_idle", 2).await;
    assert_eq!(
        bed.log().await[before..before + 6],
        [
            "session.updated",
            "user.message: Go on",
            "session.thread_status_running",
            "session.status_running",
            "user.message processed",
            "span.model_request_start",
        ]
    );
}

/// runtime IN-2, BU-9: an interrupt that follows a raise at once stops the turn that was about to go on.
#[tokio::test]
async fn in_2_an_interrupt_right_behind_a_raise_stops_what_would_go_on() {
    let mut bed = capped_asleep(10, [bash("toolu_1", 10), text("Hello.", 1)]).await;
    let gate = Gate::new();
    bed.config.probe = Some(hold_at("brain::resume", 1, &gate));
    bed.wake();
    bed.turn("Go").await;
    bed.set_budget(Some(20)).await;
    gate.reached().await;
    bed.send(vec![interrupt()]).await;
    gate.open();
    bed.seen("session.status_idle", 2).await;
    assert_eq!(ending(&bed).await[2], "session.status_idle: end_turn");
    assert_eq!(bed.model.hits(), 1, "nothing was asked");
    bed.turn("Hello").await;
    bed.model.assert_done();
}
