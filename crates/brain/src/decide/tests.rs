use serde_json::json;

use super::*;
use crate::testing::{Log, event_id};

const LIMITS: Limits = Limits {
    tool_rounds: 2,
    compactions_in_a_row: 3,
    room: None,
    at_cap: false,
    unlisted: false,
};

#[track_caller]
fn check(log: Log, expected: Step) {
    let now = Timestamp::from_micros(10);
    assert_eq!(decide(&log.fold(), LIMITS, now), expected);
}

fn ids(short: &[&str]) -> Vec<EventId> {
    short.iter().map(|id| event_id(id)).collect()
}

fn sample(take: &[&str]) -> Step {
    Step::Sample { take: ids(take) }
}

fn requires(calls: &[&str]) -> serde_json::Value {
    json!({"type": "requires_action", "event_ids": ids(calls)})
}

fn asked() -> Log {
    Log::default().asked("a", "hi")
}

#[test]
fn nothing_happened_nothing_to_do() {
    check(Log::default(), Step::Rest(Rest::Quiet));
    check(
        asked().said("x").idle(json!({"type": "end_turn"})),
        Step::Rest(Rest::Quiet),
    );
}

#[test]
fn sq_1_messages_are_taken_together() {
    let log = Log::default().message("a", "1").message("b", "2").running();
    check(log, sample(&["a", "b"]));
}

#[test]
fn sq_3_a_request_that_was_cut_off_is_sent_again_with_what_came_since() {
    check(asked(), sample(&[]));
    check(asked().message("b", "2"), sample(&["b"]));
}

#[test]
fn sq_1_an_answer_without_calls_ends_the_turn() {
    check(asked().said("x"), Step::Rest(Rest::EndTurn));
    check(
        asked().response("end_turn", json!([]), &[]),
        Step::Rest(Rest::EndTurn),
    );
}

#[test]
fn se_5_a_message_after_the_answer_belongs_to_the_next_turn() {
    check(
        asked().said("x").message("b", "2"),
        Step::Rest(Rest::EndTurn),
    );
    let log = asked()
        .said("x")
        .message("b", "2")
        .idle(json!({"type": "end_turn"}));
    check(log, Step::Resume);
}

#[test]
fn sq_5_calls_run_before_the_model_is_asked_again() {
    let log = || asked().called("sandbox", &["x", "y"]);
    check(
        log(),
        Step::Execute {
            calls: ids(&["x", "y"]),
        },
    );
    check(log().result("x", "1"), Step::Execute { calls: ids(&["y"]) });
    check(log().result("x", "1").result("y", "2"), sample(&[]));
    let joined = log().result("x", "1").message("b", "2").result("y", "2");
    check(joined, sample(&["b"]));
}

#[test]
fn sq_10_custom_calls_wait_for_the_client() {
    let log = || asked().called("custom", &["x", "y"]);
    let rest = |calls: &[&str]| Step::Rest(Rest::RequiresAction { ids: ids(calls) });
    check(log(), rest(&["x", "y"]));
    check(log().message("b", "2"), rest(&["x", "y"]));
    check(log().idle(requires(&["x", "y"])), Step::Rest(Rest::Quiet));
    check(
        log().idle(requires(&["x", "y"])).custom_result("x", "1"),
        rest(&["y"]),
    );
    let rest_said = log()
        .idle(requires(&["x", "y"]))
        .custom_result("x", "1")
        .idle(requires(&["y"]));
    check(rest_said.custom_result("y", "2").running(), sample(&[]));
    check(
        log().custom_result("x", "1").custom_result("y", "2"),
        sample(&[]),
    );
}

/// A response with one call of each kind: x runs, y asks, z is the client's.
fn mixed() -> Log {
    let block = |id: &str| json!({"type": "tool_use", "id": id, "name": "t", "input": {}});
    let calls = [
        ("x", "x", "t", "sandbox"),
        ("y", "y", "t", "asked"),
        ("z", "z", "t", "custom"),
    ];
    let content = json!([block("x"), block("y"), block("z")]);
    asked().response("tool_use", content, &calls)
}

#[test]
fn sq_9_what_needs_nobody_runs_and_the_rest_waits() {
    let rest = |calls: &[&str]| Step::Rest(Rest::RequiresAction { ids: ids(calls) });
    let run = |calls: &[&str]| Step::Execute { calls: ids(calls) };
    check(mixed(), run(&["x"]));
    check(mixed().confirmed("y", None), run(&["x"]));
    let ran = || mixed().result("x", "1");
    check(ran(), rest(&["y", "z"]));
    check(ran().idle(requires(&["y", "z"])), Step::Rest(Rest::Quiet));
    check(
        ran().idle(requires(&["y", "z"])).confirmed("y", None),
        rest(&["z"]),
    );
    check(
        ran().confirmed("y", None).custom_result("z", "2"),
        run(&["y"]),
    );
    let denied = ran().confirmed("y", Some("no")).custom_result("z", "2");
    check(denied, Step::Reject { calls: ids(&["y"]) });
}

#[test]
fn sq_8_agreed_calls_wait_for_the_last_answer() {
    let log = || asked().called("asked", &["x", "y", "z"]);
    let rest = |calls: &[&str]| Step::Rest(Rest::RequiresAction { ids: ids(calls) });
    check(log().confirmed("y", None), rest(&["x", "z"]));
    let answered = || {
        log()
            .confirmed("y", None)
            .confirmed("x", Some("no"))
            .confirmed("z", None)
    };
    check(answered(), Step::Reject { calls: ids(&["x"]) });
    check(
        answered().result("x", "rejected"),
        Step::Execute {
            calls: ids(&["y", "z"]),
        },
    );
    let settled = answered().result("x", "").result("y", "").result("z", "");
    check(settled, sample(&[]));
}

/// runtime MC-8: servers are asked right before a model request, and not where there will be none.
#[test]
fn mc_8_servers_are_asked_before_the_model_is() {
    #[track_caller]
    fn check(log: Log, at_cap: bool, expected: Step) {
        let limits = Limits {
            at_cap,
            unlisted: true,
            room: Some(Room {
                threshold: 0,
                fixed: 1,
            }),
            ..LIMITS
        };
        let now = Timestamp::from_micros(10);
        assert_eq!(decide(&log.fold(), limits, now), expected);
    }
    let asked = || Log::default().message("a", "hi").running();
    // Before a summary, too: it goes on with the same tools.
    check(asked(), false, Step::List);
    check(
        asked().processed("a").said("x").message("b", "2"),
        false,
        Step::Rest(Rest::EndTurn),
    );
    check(asked(), true, Step::Rest(Rest::BudgetReached));
    check(Log::default().message("a", "hi"), false, Step::Resume);
    check(
        asked().interrupt("b"),
        false,
        Step::Interrupt { ids: ids(&["b"]) },
    );
    let called = asked().processed("a").called("sandbox", &["x"]);
    check(called.clone(), false, Step::Execute { calls: ids(&["x"]) });
    check(called.result("x", "1"), false, Step::List);
    check(Log::default(), false, Step::Rest(Rest::Quiet));
}

#[test]
fn bu_4_at_the_cap_nothing_is_asked_and_it_is_said_once() {
    #[track_caller]
    fn check(log: Log, expected: Step) {
        let at_cap = Limits {
            at_cap: true,
            ..LIMITS
        };
        let now = Timestamp::from_micros(10);
        assert_eq!(decide(&log.fold(), at_cap, now), expected);
    }
    let pause = || Step::Rest(Rest::BudgetReached);
    let quiet = || Step::Rest(Rest::Quiet);
    let called = || asked().called("sandbox", &["x"]);
    check(asked(), pause());
    check(asked().paused(), quiet());
    check(called(), Step::Execute { calls: ids(&["x"]) });
    check(called().result("x", "1"), pause());
    check(called().result("x", "1").paused(), quiet());
    check(called().result("x", "1").paused().running(), pause());
    check(Log::default().message("a", "1").running(), pause());
    check(asked().said("x"), Step::Rest(Rest::EndTurn));
    let custom = asked().called("custom", &["x"]);
    let rest = Step::Rest(Rest::RequiresAction { ids: ids(&["x"]) });
    check(custom, rest);
    let failed = asked()
        .private("retry", json!({"attempt": 1, "wait": 1, "until": 1_000}))
        .event("r", "session.status_rescheduled", json!({}));
    check(failed, pause());
    let cut = asked().response("max_tokens", json!([{"type": "text", "text": "x"}]), &[]);
    check(cut.message("b", "go on"), pause());
}

#[test]
fn bu_9_a_raise_finds_what_is_owed() {
    let called = || asked().called("sandbox", &["x"]).result("x", "1");
    check(called().paused(), Step::Resume);
    check(called().message("b", "2").paused(), Step::Resume);
    check(
        Log::default().message("a", "1").running().paused(),
        Step::Resume,
    );
    check(asked().paused(), Step::Resume);
    let over = || asked().said("x").over_at_the_cap();
    check(over(), Step::Rest(Rest::Quiet));
    check(over().message("b", "2"), Step::Resume);
    let cut = || asked().response("max_tokens", json!([{"type": "text", "text": "x"}]), &[]);
    check(cut().message("b", "go on").paused(), Step::Resume);
    let rounds = called()
        .paused()
        .running()
        .span("s")
        .called("sandbox", &["y"])
        .result("y", "1");
    check(rounds, Step::Rest(Rest::ToolLimit));
}

#[test]
fn se_8_system_messages_alone_ask_for_nothing() {
    let log = || asked().said("x").idle(json!({"type": "end_turn"}));
    check(log().system("s", "brief"), Step::Rest(Rest::Quiet));
    check(
        log().system("s", "brief").message("b", "2").running(),
        sample(&["s", "b"]),
    );
    check(
        asked().said("x").system("s", "brief"),
        Step::Rest(Rest::EndTurn),
    );
    check(asked().system("s", "brief"), sample(&["s"]));
}

#[test]
fn se_6_an_interrupt_comes_first() {
    let interrupt = Step::Interrupt { ids: ids(&["i"]) };
    check(asked().interrupt("i"), interrupt.clone());
    check(asked().message("b", "2").interrupt("i"), interrupt.clone());
    check(
        asked().called("sandbox", &["x"]).interrupt("i"),
        interrupt.clone(),
    );
    check(
        asked()
            .called("custom", &["x"])
            .idle(requires(&["x"]))
            .interrupt("i"),
        interrupt,
    );
}

#[test]
fn er_4_rounds_are_counted_per_turn() {
    let round = |log: Log, id: &'static str| log.span("s").called("sandbox", &[id]).result(id, "1");
    let log = || round(round(asked(), "x"), "y");
    check(log(), Step::Rest(Rest::ToolLimit));
    check(
        log()
            .idle(json!({"type": "retries_exhausted"}))
            .message("b", "2")
            .running(),
        sample(&["b"]),
    );
}

#[test]
fn sq_12_a_retry_waits_its_time() {
    let failed = |until: i64| {
        asked()
            .event("end", "span.model_request_end", json!({}))
            .private("retry", json!({"attempt": 1, "wait": 1, "until": until}))
            .event("re", "session.status_rescheduled", json!({}))
    };
    let until = Timestamp::from_micros(11);
    check(failed(11), Step::Wait { until });
    check(failed(10), Step::Resume);
    check(
        failed(11).interrupt("i"),
        Step::Interrupt { ids: ids(&["i"]) },
    );
    check(failed(10).running(), sample(&[]));
    // A request for a summary failed: the message is not taken yet.
    let unasked = |until: i64| {
        Log::default()
            .message("a", "hi")
            .running()
            .private("retry", json!({"attempt": 1, "wait": 1, "until": until}))
            .event("re", "session.status_rescheduled", json!({}))
    };
    check(unasked(11), Step::Wait { until });
    check(unasked(10), Step::Resume);
}

#[test]
fn every_stop_reason_has_an_end() {
    let text = || json!([{"type": "text", "text": "x"}]);
    check(
        asked().response("max_tokens", text(), &[]),
        Step::Rest(Rest::CutOff),
    );
    check(
        asked()
            .response("max_tokens", text(), &[])
            .message("b", "2"),
        sample(&["b"]),
    );
    check(
        asked().response("tool_use", text(), &[]),
        Step::Rest(Rest::EndTurn),
    );
    let refusal = Rest::Refusal {
        category: None,
        explanation: None,
    };
    check(
        asked().response("refusal", text(), &[]),
        Step::Rest(refusal),
    );
}

#[test]
fn a_terminated_session_is_left_alone() {
    let log = asked().event("t", "session.status_terminated", json!({}));
    check(log.interrupt("i"), Step::Rest(Rest::Quiet));
}
