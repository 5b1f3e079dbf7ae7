//! The process dies at every durable step; the next one ends the turn the same way (security §2, LOG-3).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use manyhands_brain::Probe;
use manyhands_hands::{Output, Provider, Recipe};
use manyhands_protocol::session::SessionStatus;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, Noted, hold_at, spans};

/// The ledger of an outside world: what a tool did, however often it was told about.
type Ledger = Noted<String>;

/// A turn with two rounds of tools; the answer depends on the request, so that a repeated request gets the same one.
fn script(bed: &Bed) {
    bed.model
        .respond_with(|request| match request.messages().len() {
            1 => Reply::text("One.")
                .then_tool_use("toolu_1", "bash", json!({"command": "append a"}))
                .then_tool_use("toolu_2", "bash", json!({"command": "append b"})),
            3 => Reply::tool_use("toolu_3", "bash", json!({"command": "append c"})),
            _ => Reply::text("Done."),
        });
}

async fn bed(ledger: &Ledger) -> Bed {
    let mut bed = Bed::asleep([]).await;
    script(&bed);
    bed.note_commands(ledger);
    bed
}

/// The failpoints that a turn without crashes passes, in order.
async fn points() -> Vec<&'static str> {
    let ledger = Ledger::default();
    let mut bed = bed(&ledger).await;
    let passed = bed.note_points();
    bed.wake();
    bed.turn("Go").await;
    bed.shut_down().await;
    std::mem::take(&mut passed.lock().unwrap())
}

/// Holds the wake at the step with this number, from 0, whatever its name.
pub(crate) fn hold_step(number: usize, gate: &Gate) -> Probe {
    let (held, passed) = (gate.clone(), AtomicUsize::new(0));
    Probe(Arc::new(move |_, _| {
        let here = passed.fetch_add(1, Ordering::SeqCst) == number;
        let held = held.clone();
        async move {
            if here {
                held.pass().await;
            }
        }
        .boxed()
    }))
}

/// What a client can tell apart of an ended turn: what was said and done, without spans and interim states.
pub(crate) fn told(log: &[String]) -> Vec<String> {
    let told = log.iter().filter(|line| {
        line.starts_with("agent.")
            || line.starts_with("user.")
            || line.contains("idle")
            || line.contains("error")
    });
    told.filter(|line| !line.starts_with("span"))
        .cloned()
        .collect()
}

/// runtime ER-13, AR-2; security LOG-3
#[tokio::test]
async fn log_3_a_crash_at_every_step_ends_the_same_way() {
    let expected = {
        let ledger = Ledger::default();
        let mut bed = bed(&ledger).await;
        bed.wake();
        told(&bed.turn("Go").await)
    };
    let points = points().await;
    assert!(points.len() > 15, "{points:?}");
    for (crash_at, point) in points.into_iter().enumerate() {
        let ledger = Ledger::default();
        let mut bed = bed(&ledger).await;
        let gate = Gate::new();
        bed.config.probe = Some(hold_step(crash_at, &gate));
        bed.die_on("Go", &gate).await;
        bed.idle().await;
        assert_eq!(
            told(&bed.log().await),
            expected,
            "crash {crash_at} at {point}"
        );
        assert_eq!(
            *ledger.lock().unwrap(),
            ["append a", "append b", "append c"],
            "crash {crash_at} at {point}: each tool ran once (I4)"
        );
        let log = bed.log().await;
        let (starts, ends) = spans(&log);
        assert_eq!(
            starts, ends,
            "crash {crash_at} at {point}: spans are pairs (SQ-3)"
        );
        bed.assert_each_call_has_one_result().await;
        bed.model.assert_clean();
    }
}

/// A crash with calls under way, whose sandbox is gone when the next process comes.
async fn lost(another: bool) {
    let ledger = Ledger::default();
    let mut bed = bed(&ledger).await;
    let gate = Gate::new();
    bed.config.probe = Some(hold_at("brain::result", 1, &gate));
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.crash().await;
    bed.hands.lose(bed.session.as_str());
    if another {
        let recipe = Recipe::new(bed.session.as_str(), 1);
        bed.hands.provision(&recipe).await.unwrap();
    }
    bed.config.probe = None;
    bed.wake();
    bed.idle().await;
    let log = bed.log().await;
    let results: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("agent.tool_result"))
        .collect();
    assert!(
        results[0].contains("unknown") && results[0].ends_with("(error)"),
        "{results:?}"
    );
    assert!(results[1].contains("unknown"));
    assert_eq!(results[2], "agent.tool_result: did append c");
    let done = ledger.lock().unwrap().clone();
    assert_eq!(
        done.iter().filter(|what| *what == "append a").count(),
        1,
        "not repeated"
    );
    bed.assert_each_call_has_one_result().await;
}

/// runtime AR-6; security I4, LOG-2
#[tokio::test]
async fn i_4_a_crash_with_the_sandbox_lost_is_an_unknown_outcome() {
    lost(false).await;
}

#[tokio::test]
async fn i_4_another_instance_of_the_sandbox_is_not_asked_for_old_calls() {
    lost(true).await;
}

#[tokio::test]
async fn a_call_that_runs_on_through_a_crash_is_attached_to() {
    let ledger = Ledger::default();
    let mut bed = bed(&ledger).await;
    let gate = Gate::new();
    let (held, kept) = (gate.clone(), Arc::clone(&ledger));
    bed.hands = bed.hands.with_tool("bash", move |_| {
        let (held, kept) = (held.clone(), Arc::clone(&kept));
        async move {
            kept.lock().unwrap().push("started".to_owned());
            held.pass().await;
            Output::text("at last")
        }
    });
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.crash().await;
    bed.wake();
    gate.open();
    bed.idle().await;
    assert_eq!(
        ledger.lock().unwrap().len(),
        3,
        "three calls, each started once"
    );
    let log = bed.log().await;
    assert!(log.contains(&"agent.tool_result: at last".to_owned()));
    assert_eq!(bed.hands.provisions(), 1);
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn us_7_a_crash_counts_no_usage_twice() {
    let ledger = Ledger::default();
    let mut bed = bed(&ledger).await;
    let gate = Gate::new();
    bed.config.probe = Some(hold_at("brain::answered", 1, &gate));
    bed.die_on("Go", &gate).await;
    bed.idle().await;
    assert_eq!(bed.record().await.usage.input_tokens, 3 * 12);
}

#[tokio::test]
async fn a_crash_during_a_retrys_wait_keeps_the_count() {
    let mut bed = Bed::asleep(vec![Reply::overloaded(); 4]).await;
    let gate = Gate::new();
    bed.config.probe = Some(hold_at("brain::rescheduled", 2, &gate));
    bed.die_on("Go", &gate).await;
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(
        log.iter().filter(|line| line.ends_with("retrying")).count(),
        3
    );
    assert_eq!(
        log.last().unwrap(),
        "session.status_idle: retries_exhausted"
    );
    assert_eq!(bed.model.hits(), 4);
}

#[tokio::test]
async fn a_shutdown_leaves_running_calls_alone() {
    let ledger = Ledger::default();
    let mut bed = bed(&ledger).await;
    let gate = Gate::new();
    bed.hold_bash(&gate, "finished");
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.shut_down().await;
    gate.open();
    bed.wake();
    bed.idle().await;
    let log = bed.log().await;
    let results: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("agent.tool_result"))
        .collect();
    assert_eq!(results, ["agent.tool_result: finished"; 3]);
}

/// runtime SQ-14, ER-2; security LOG-4
#[tokio::test]
async fn log_4_the_same_failure_three_times_ends_the_session_and_not_the_server() {
    let mut bed = Bed::asleep([Reply::text("never")]).await;
    // What is owed is given back at once: each failure was written down before.
    bed.config.tick = Duration::from_millis(1);
    let faults = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&faults);
    bed.config.probe = Some(Probe(Arc::new(move |name, _| {
        let here = name == "brain::span_start";
        counted.fetch_add(usize::from(here), Ordering::SeqCst);
        async move { assert!(!here, "a fault of this session") }.boxed()
    })));
    bed.wake();
    bed.say("Go").await;
    bed.until(|record, _| record.status == SessionStatus::Terminated)
        .await;
    let log = bed.log().await;
    assert_eq!(
        log[3..],
        [
            "user.message processed",
            "session.error: unknown_error terminal",
            "session.thread_status_terminated",
            "session.status_terminated",
        ]
    );
    assert_eq!(faults.load(Ordering::SeqCst), 3);
    assert_eq!(bed.model.hits(), 0);
}
