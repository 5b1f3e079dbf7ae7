//! Turns with built-in tools: intents, results, what is refused, what a broken hand means.

use std::time::Duration;

use manyhands_hands::{Call, Output};
use manyhands_store::EntryKind;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, DONE, tools};

fn bash(id: &str, command: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": command}))
}

/// runtime SQ-5, TC-3, TC-4, ID-2
#[tokio::test]
async fn sq_5_built_in_tool_round() {
    let bed = Bed::new([
        Reply::text("Let me look.").then_tool_use("toolu_1", "bash", json!({"command": "ls"})),
        Reply::text("Done."),
    ])
    .await;
    let log = bed.turn("Look").await;
    assert_eq!(
        log[4..],
        [
            &[
                "span.model_request_start",
                "agent.message: Let me look.",
                "agent.tool_use: bash {\"command\":\"ls\"} allow",
                "span.model_request_end",
                "agent.tool_result: bash: {\"command\":\"ls\"}",
            ][..],
            &DONE
        ]
        .concat()
    );
    let second = bed.model.request(2).await;
    let results = second.tool_results();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].tool_use_id, "toolu_1");
    assert_eq!(results[0].text, "bash: {\"command\":\"ls\"}");
    assert!(!results[0].is_error);
    let used = &bed.events("agent.tool_use").await[0];
    assert_eq!(used["evaluation"], json!({"type": "always_allow"}));
    let result = &bed.events("agent.tool_result").await[0];
    assert_eq!(result["tool_use_id"], used["id"]);
    assert_eq!(bed.hands.starts()[0].1, used["id"].as_str().unwrap());
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn log_2_the_intent_is_durable_before_the_tool_starts() {
    let mut bed = Bed::asleep([
        bash("toolu_1", "1"),
        bash("toolu_2", "2"),
        Reply::text("ok"),
    ])
    .await;
    let (store, session) = (bed.store.clone(), bed.session.clone());
    bed.hands = bed.hands.with_tool("bash", move |call: Call| {
        let (store, session) = (store.clone(), session.clone());
        async move {
            let intent = store.last_private(&session, "tool_started").await.unwrap();
            let body = intent.map_or(String::new(), |entry| entry.body.to_string());
            Output::text(format!("intended: {}", body.contains(&call.call_id)))
        }
    });
    bed.wake();
    let log = bed.turn("Go").await;
    let results: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("agent.tool_result"))
        .collect();
    assert_eq!(results, ["agent.tool_result: intended: true"; 2]);
    // The first call starts the sandbox; the second finds it live, and its intent rides with the answer.
    let entries = bed.entries().await;
    let types: Vec<&str> = entries
        .iter()
        .filter(|entry| ["tool_started", "span.model_request_end"].contains(&&*entry.type_name))
        .map(|entry| &*entry.type_name)
        .collect();
    assert_eq!(
        types,
        [
            "span.model_request_end",
            "tool_started",
            "tool_started",
            "span.model_request_end",
            "span.model_request_end"
        ]
    );
    assert_eq!(bed.hands.provisions(), 1);
}

/// runtime LC-4, EN-15, as decided
#[tokio::test]
async fn no_sandbox_is_started_for_a_turn_without_tools() {
    let bed = Bed::new([Reply::text("ok")]).await;
    bed.turn("Hi").await;
    assert_eq!(bed.hands.provisions(), 0);
}

#[tokio::test]
async fn sq_5_parallel_calls_run_together_and_bash_in_order() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([
        bash("toolu_1", "first")
            .then_tool_use("toolu_2", "bash", json!({"command": "second"}))
            .then_tool_use("toolu_3", "read", json!({"file_path": "/a"})),
        Reply::text("ok"),
    ])
    .await;
    let held = gate.clone();
    bed.hands = bed.hands.with_tool("bash", move |call: Call| {
        let held = held.clone();
        async move {
            if call.input["command"] == "first" {
                held.pass().await;
            }
            Output::text(call.input["command"].as_str().unwrap())
        }
    });
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.seen("agent.tool_result", 1).await;
    assert_eq!(
        bed.hands.starts().len(),
        2,
        "the second bash call waits for the first"
    );
    gate.open();
    bed.idle().await;
    let log = bed.log().await;
    let results: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("agent.tool_result"))
        .collect();
    assert_eq!(
        results,
        [
            "agent.tool_result: read: {\"file_path\":\"/a\"}",
            "agent.tool_result: first",
            "agent.tool_result: second",
        ]
    );
    let second = bed.model.request(2).await;
    let ids: Vec<_> = second
        .tool_results()
        .into_iter()
        .map(|result| result.tool_use_id)
        .collect();
    assert_eq!(
        ids,
        ["toolu_1", "toolu_2", "toolu_3"],
        "in the model's order"
    );
    bed.assert_each_call_has_one_result().await;
}

/// runtime TL-5, TC-5
#[tokio::test]
async fn tl_5_unknown_disabled_and_invalid_calls_get_error_results() {
    let bed = Bed::new([
        Reply::tool_use("toolu_1", "fly", json!({}))
            .then_tool_use("toolu_2", "grep", json!({"pattern": "x"}))
            .then_tool_use("toolu_3", "read", json!({"path": "/a"}))
            .then_tool_use("toolu_4", "bash", json!({"command": "ls"})),
        Reply::text("ok"),
    ])
    .await;
    let log = bed.turn("Go").await;
    assert_eq!(log[5], "agent.tool_use: fly {} deny");
    assert_eq!(log[6], "agent.tool_use: grep {\"pattern\":\"x\"} deny");
    assert_eq!(log[7], "agent.tool_use: read {\"path\":\"/a\"} allow");
    assert_eq!(log[9], "span.model_request_end");
    for line in &log[10..13] {
        assert!(
            line.starts_with("agent.tool_result") && line.ends_with("(error)"),
            "{line}"
        );
    }
    assert_eq!(log[13], "agent.tool_result: bash: {\"command\":\"ls\"}");
    let used = bed.events("agent.tool_use").await;
    assert!(used[0].get("evaluation").is_none());
    assert_eq!(bed.hands.starts().len(), 1);
    assert_eq!(bed.result_errors(2).await, [true, true, true, false]);
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn model_5_calls_beyond_the_cap_are_answered_not_run() {
    let mut bed = Bed::asleep([
        bash("toolu_1", "1")
            .then_tool_use("toolu_2", "bash", json!({"command": "2"}))
            .then_tool_use("toolu_3", "bash", json!({"command": "3"})),
        Reply::text("ok"),
    ])
    .await;
    bed.config.calls_per_response = 2;
    bed.wake();
    bed.turn("Go").await;
    assert_eq!(bed.hands.starts().len(), 2);
    assert!(
        bed.model.request(2).await.tool_results()[2]
            .text
            .contains("at most 2")
    );
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn er_4_too_many_rounds_end_the_turn_and_the_next_message_goes_on() {
    let mut bed = Bed::asleep([
        bash("toolu_1", "1"),
        bash("toolu_2", "2"),
        Reply::text("ok"),
    ])
    .await;
    bed.config.tool_rounds = 2;
    bed.wake();
    let log = bed.turn("Go").await;
    assert_eq!(
        log[log.len() - 4..],
        [
            "session.error: tool_use_limit_reached_error exhausted",
            "session.thread_status_idle: retries_exhausted",
            "session.usage",
            "session.status_idle: retries_exhausted",
        ]
    );
    let log = bed.turn("Go on").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.model.assert_done();
    bed.assert_each_call_has_one_result().await;
}

/// runtime SQ-2, SE-5
#[tokio::test]
async fn a_message_sent_during_a_call_joins_the_next_request_behind_the_results() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([bash("toolu_1", "1"), Reply::text("ok")]).await;
    bed.hold_bash(&gate, "done");
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.say("And hurry").await;
    gate.open();
    bed.idle().await;
    let second = bed.model.request(2).await;
    assert_eq!(second.tool_results().len(), 1);
    assert_eq!(second.last_user_text(), "And hurry");
    let log = bed.log().await;
    let running = log
        .iter()
        .filter(|line| *line == "session.status_running")
        .count();
    assert_eq!(running, 1, "one turn (SQ-2)");
    bed.model.assert_done();
}

/// runtime ER-12, EN-19; security TOOL-3, I4
#[tokio::test]
async fn tool_3_i_4_a_lost_sandbox_is_an_unknown_outcome_and_the_next_call_works() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([
        bash("toolu_1", "1"),
        bash("toolu_2", "2"),
        Reply::text("ok"),
    ])
    .await;
    let held = gate.clone();
    bed.hands = bed.hands.with_tool("bash", move |call: Call| {
        let held = held.clone();
        async move {
            if call.input["command"] == "1" {
                held.pass().await;
            }
            Output::text("done")
        }
    });
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.hands.lose(bed.session.as_str());
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
    assert_eq!(results[1], "agent.tool_result: done");
    assert_eq!(bed.hands.provisions(), 2);
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn i_4_a_tool_that_only_looks_is_repeated_in_a_new_sandbox() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([
        Reply::tool_use("toolu_1", "read", json!({"file_path": "/a"})),
        Reply::text("ok"),
    ])
    .await;
    let (held, tries) = (
        gate.clone(),
        std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0)),
    );
    bed.hands = bed.hands.with_tool("read", move |_| {
        let (held, tries) = (held.clone(), tries.clone());
        async move {
            if tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                held.pass().await;
            }
            Output::text("content")
        }
    });
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.hands.lose(bed.session.as_str());
    bed.idle().await;
    assert_eq!(bed.model.request(2).await.tool_results()[0].text, "content");
    assert_eq!(bed.hands.provisions(), 2);
    let attempts: Vec<String> = bed
        .entries()
        .await
        .iter()
        .filter(|entry| entry.kind == EntryKind::Private && &*entry.type_name == "tool_started")
        .map(|entry| entry.body.to_string())
        .collect();
    assert_eq!(attempts.len(), 2);
    assert!(attempts[1].contains("\"attempt\":2"));
    bed.assert_each_call_has_one_result().await;
}

#[tokio::test]
async fn results_are_forgotten_by_the_sandbox_once_they_are_durable() {
    let bed = Bed::new([bash("toolu_1", "1"), Reply::text("ok")]).await;
    bed.turn("Go").await;
    let sandbox = manyhands_hands::Provider::find(&bed.hands, bed.session.as_str(), 1)
        .await
        .unwrap()
        .expect("it lives on");
    let id = bed.hands.starts()[0].1.clone();
    let call = Call {
        call_id: id,
        // As the turn's own: a higher one would keep it from dropping anything.
        epoch: 1,
        name: "bash".to_owned(),
        input: json!({"command": "1"}),
        deadline: Duration::from_secs(5),
    };
    // Dropping happens beside the turn: it may be a moment behind.
    let dropped = async {
        while sandbox.execute(&call).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::bed::PATIENCE, dropped)
        .await
        .expect("the result is dropped");
    assert_eq!(bed.hands.starts().len(), 1);
}

#[tokio::test]
async fn an_agent_without_built_in_tools_hears_nothing_of_a_sandbox() {
    let mut bed = Bed::asleep([Reply::text("ok")]).await;
    let custom = tools().split_off(1);
    bed.set_tools(custom).await;
    bed.wake();
    bed.turn("Hi").await;
    let request = bed.model.request(1).await;
    assert_eq!(request.tool_names(), ["ask_human"]);
    assert_eq!(request.system(), "You help.");
}
