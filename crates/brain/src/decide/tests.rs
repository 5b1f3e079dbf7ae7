use serde_json::json;

use super::*;
use crate::testing::{Log, event_id};

const LIMITS: Limits = Limits { tool_rounds: 2 };

#[track_caller]
fn check(log: Log, expected: Step) {
    let now = Timestamp::from_micros(10);
    assert_eq!(decide(&log.fold(), LIMITS, now), expected);
}

fn ids(short: &[&str]) -> Vec<EventId> {
    short.iter().map(|id| event_id(id)).collect()
}

fn sample(take: &[&str], announce: bool) -> Step {
    Step::Sample {
        take: ids(take),
        announce,
    }
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
    check(log, sample(&["a", "b"], false));
}

#[test]
fn sq_3_a_request_that_was_cut_off_is_sent_again_with_what_came_since() {
    check(asked(), sample(&[], false));
    check(asked().message("b", "2"), sample(&["b"], false));
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
    check(log, sample(&["b"], true));
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
    check(log().result("x", "1").result("y", "2"), sample(&[], false));
    let joined = log().result("x", "1").message("b", "2").result("y", "2");
    check(joined, sample(&["b"], false));
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
    check(
        rest_said.custom_result("y", "2").running(),
        sample(&[], false),
    );
    check(
        log().custom_result("x", "1").custom_result("y", "2"),
        sample(&[], false),
    );
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
        sample(&["b"], false),
    );
}

#[test]
fn sq_12_a_retry_waits_its_time() {
    let failed = |until: i64| {
        asked()
            .event("end", "span.model_request_end", json!({}))
            .private(
                "retry",
                json!({"attempt": 1, "first_at": 1, "until": until}),
            )
            .event("re", "session.status_rescheduled", json!({}))
    };
    let until = Timestamp::from_micros(11);
    check(failed(11), Step::Wait { until });
    check(failed(10), sample(&[], true));
    check(
        failed(11).interrupt("i"),
        Step::Interrupt { ids: ids(&["i"]) },
    );
    check(failed(10).running(), sample(&[], false));
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
        sample(&["b"], false),
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
