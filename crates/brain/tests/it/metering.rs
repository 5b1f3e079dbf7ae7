//! What requests cost, and when it is said (runtime §33, SQ-17). A token of input costs a cent here.

use std::time::Duration;

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::bed::{custom_result, hold_at, interrupt};
use crate::budgets::{PAUSED, ask_human, bash, capped, capped_asleep, cents, ending, shown, text};

/// A cent, as totals count it.
const CENT: u64 = 100_000_000_000;

/// runtime US-6, US-7: what an interrupted and a failed request used is paid for.
#[tokio::test]
async fn us_6_requests_without_an_answer_are_priced_too() {
    let gate = Gate::new();
    let bed = capped(
        100,
        [
            text("Never said.", 7).split_into(4).hold_before(4, &gate),
            text("Broken.", 5).error_after(2, "api_error", "no"),
            text("ok", 3),
        ],
    )
    .await;
    bed.say("1").await;
    gate.reached().await;
    bed.send(vec![interrupt()]).await;
    bed.seen("session.status_idle", 1).await;
    assert_eq!(bed.record().await.usage.token_cost, 7 * CENT);
    bed.turn("2").await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(bed.record().await.usage.token_cost, 15 * CENT);
    bed.model.assert_done();
}

/// runtime US-2, US-4: the time also runs when a client's answer starts the turn while a wake is still at work.
#[tokio::test]
async fn us_4_a_turn_that_a_client_starts_beside_a_wake_is_counted() {
    let gate = Gate::new();
    let mut bed = capped_asleep(
        100,
        [
            ask_human("toolu_1", 1).then_tool_use(
                "toolu_2",
                "ask_human",
                json!({"question": "??"}),
            ),
            text("ok", 1).delay_headers(Duration::from_millis(300)),
        ],
    )
    .await;
    // The rest behind the first answer: the session is idle, and its wake not yet over.
    bed.config.probe = Some(hold_at("brain::rest", 2, &gate));
    bed.wake();
    bed.turn("Go").await;
    let calls = bed.events("agent.custom_tool_use").await;
    let id = |at: usize| calls[at]["id"].as_str().unwrap().to_owned();
    bed.send(vec![custom_result(&id(0), "a")]).await;
    gate.reached().await;
    bed.send(vec![custom_result(&id(1), "b")]).await;
    gate.open();
    bed.seen("session.status_idle", 2).await;
    assert_eq!(ending(&bed).await[2], "session.status_idle: end_turn");
    let record = bed.record().await;
    let said = &bed.events("session.usage").await[1]["usage"]["active_seconds"];
    let said = (said.as_f64().unwrap() * 1000.0).round() as i64;
    // What is said was counted behind the answer, and before what is kept.
    let counted = 300..=record.active_millis;
    assert!(counted.contains(&said), "{said} is not in {counted:?}");
}

/// runtime US-7: a crash between an answer and anything else neither loses nor doubles what it cost.
#[tokio::test]
async fn us_7_a_crash_pays_each_answer_once() {
    for point in [
        "brain::answered",
        "brain::resulted",
        "brain::rest",
        "brain::rested",
    ] {
        let gate = Gate::new();
        let mut bed = capped_asleep(10, [bash("toolu_1", 10), text("ok", 1)]).await;
        bed.config.probe = Some(hold_at(point, 1, &gate));
        bed.die_on("Go", &gate).await;
        bed.seen("session.status_idle", 1).await;
        assert_eq!(ending(&bed).await, PAUSED, "{point}");
        assert_eq!(bed.record().await.usage.token_cost, 10 * CENT, "{point}");
        bed.set_budget(Some(20)).await;
        bed.seen("session.status_idle", 2).await;
        assert_eq!(bed.record().await.usage.token_cost, 11 * CENT, "{point}");
    }
}

/// runtime SQ-17, US-1: usage is said directly before every idle, and never goes down.
#[tokio::test]
async fn sq_17_usage_comes_before_every_idle() {
    let bed = capped(
        30,
        [
            ask_human("toolu_1", 1),
            text("a", 1),
            Reply::error(401, "authentication_error", "no"),
            Reply::text("x").usage(cents(1)).refusal("cyber", "no"),
            text("b", 40),
        ],
    )
    .await;
    bed.turn("1").await;
    let call = bed.events("agent.custom_tool_use").await[0]["id"].clone();
    bed.send(vec![custom_result(call.as_str().unwrap(), "yes")])
        .await;
    bed.seen("session.status_idle", 2).await;
    for (text, idles) in [("2", 3), ("3", 4), ("4", 5)] {
        bed.say(text).await;
        bed.seen("session.status_idle", idles).await;
    }
    let log = bed.log().await;
    let idles = log
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("session.status_idle"));
    let reasons: Vec<_> = idles
        .map(|(at, line)| {
            assert_eq!(log[at - 1], "session.usage");
            assert!(log[at - 2].starts_with("session.thread_status_idle"));
            line.rsplit(' ').next().unwrap()
        })
        .collect();
    assert_eq!(
        reasons,
        [
            "requires_action",
            "end_turn",
            "retries_exhausted",
            "refusal",
            "budget_reached"
        ]
    );
    let costs: Vec<Value> = shown(&bed)
        .await
        .into_iter()
        .map(|(cost, _)| cost)
        .collect();
    assert_eq!(costs, ["1", "2", "2", "3", "43"]);
    bed.model.assert_done();
}
