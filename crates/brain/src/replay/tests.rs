use serde_json::json;

use super::*;
use crate::testing::{Log, event_id};
use crate::tools::Hand;

/// The conversation as the model would read it: a letter for the speaker, then the blocks.
fn conversation(transcript: &Transcript) -> Vec<String> {
    let line = |role: Role, blocks: &[Json]| {
        let speaker = match role {
            Role::User => "u",
            Role::System => "s",
            Role::Assistant => "a",
        };
        let texts = blocks.iter().map(|block| {
            let block: serde_json::Value = serde_json::from_str(block).unwrap();
            match block["type"].as_str().unwrap() {
                "text" => block["text"].as_str().unwrap().to_owned(),
                "tool_use" => format!("call {}", block["id"].as_str().unwrap()),
                "tool_result" => format!(
                    "result {} {}{}",
                    block["tool_use_id"].as_str().unwrap(),
                    block["content"][0]["text"].as_str().unwrap(),
                    if block["is_error"] == true { "!" } else { "" }
                ),
                other => other.to_owned(),
            }
        });
        format!("{speaker}: {}", texts.collect::<Vec<_>>().join(" | "))
    };
    let mut lines: Vec<String> = transcript
        .turns
        .iter()
        .map(|turn| line(turn.role, &turn.blocks))
        .collect();
    let tail = transcript.tail().filter(|turn| !turn.blocks.is_empty());
    lines.extend(tail.map(|turn| line(turn.role, &turn.blocks)));
    lines
}

#[track_caller]
fn check(log: Log, expected: &[&str]) -> Transcript {
    let transcript = log.fold();
    assert_eq!(conversation(&transcript), expected);
    transcript
}

#[test]
fn se_3_queued_messages_are_no_part_of_the_conversation() {
    let transcript = check(Log::default().message("a", "hi").running(), &[]);
    assert_eq!(transcript.inputs(), [event_id("a")]);
    assert!(!transcript.owes_answer);
}

#[test]
fn sq_1_a_turn_is_a_question_and_an_answer() {
    let transcript = check(
        Log::default()
            .asked("a", "hi")
            .said("hello")
            .idle(json!({"type": "end_turn"})),
        &["u: hi", "a: hello"],
    );
    assert_eq!(transcript.status, Status::Idle);
    assert!(!transcript.owes_answer && transcript.open_span.is_none());
}

#[test]
fn results_come_in_the_models_order_before_messages() {
    let log = Log::default()
        .asked("a", "go")
        .called("sandbox", &["x", "y"])
        .result("y", "2")
        .message("b", "more")
        .result("x", "1")
        .processed("b");
    let transcript = check(
        log,
        &[
            "u: go",
            "a: call x | call y",
            "u: result x 1 | result y 2 | more",
        ],
    );
    assert!(transcript.owes_answer);
    assert_eq!(transcript.rounds, 1);
}

#[test]
fn i_3_only_the_first_result_of_a_call_counts() {
    let log = Log::default()
        .asked("a", "go")
        .called("custom", &["x"])
        .custom_result("x", "first")
        .result("x", "second")
        .result("nobody", "third");
    check(log, &["u: go", "a: call x", "u: result x first"]);
}

#[test]
fn sq_3_a_span_without_an_end_stays_open() {
    let transcript = Log::default().asked("a", "hi").fold();
    assert_eq!(transcript.open_span, Some(event_id("span")));
    assert!(transcript.owes_answer);
}

#[test]
fn sq_15_refused_answers_and_blank_ones_are_no_turns() {
    let text = json!([{"type": "text", "text": "I"}]);
    check(
        Log::default()
            .asked("a", "hi")
            .response("refusal", text, &[]),
        &["u: hi"],
    );
    let blank = json!([{"type": "text", "text": " \n"}]);
    check(
        Log::default()
            .asked("a", "hi")
            .response("end_turn", blank, &[]),
        &["u: hi"],
    );
    let thinking = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]);
    check(
        Log::default()
            .asked("a", "hi")
            .response("end_turn", thinking, &[]),
        &["u: hi"],
    );
    let log = Log::default()
        .asked("a", "hi")
        .response("end_turn", json!([]), &[]);
    check(log.asked("b", "still there?"), &["u: hi | still there?"]);
}

#[test]
fn tl_4_blank_content_is_named() {
    let log = Log::default()
        .asked("a", " ")
        .called("sandbox", &["x", "y"])
        .result("x", "")
        .event(
            "r",
            "agent.tool_result",
            json!({"tool_use_id": event_id("y"), "is_error": true}),
        );
    check(
        log,
        &[
            "u: (empty message)",
            "a: call x | call y",
            "u: result x (no output) | result y (no output)!",
        ],
    );
}

#[test]
fn sq_13_flushed_messages_never_reach_the_model() {
    let log = Log::default()
        .asked("a", "hi")
        .message("b", "lost")
        .private("flushed", json!({"events": [event_id("b")]}))
        .processed("b")
        .idle(json!({"type": "retries_exhausted"}));
    let transcript = check(log, &["u: hi"]);
    assert!(transcript.queued.is_empty() && !transcript.owes_answer);
}

#[test]
fn withheld_input_leaves_the_context_but_calls_keep_a_result() {
    let log = Log::default()
        .asked("a", "go")
        .called("sandbox", &["x"])
        .result("x", "poison")
        .message("b", "poison")
        .processed("b")
        .system("s", "brief")
        .processed("s")
        .private("withheld", json!({}))
        .asked("c", "next");
    let transcript = log.fold();
    let said = conversation(&transcript);
    assert_eq!(said[3], "s: brief", "SE-9: for all later turns");
    assert!(
        said[2].starts_with("u: result x (The result is withheld") && said[2].ends_with("! | next")
    );
    assert!(!said.concat().contains("poison"));
}

#[test]
fn sq_12_a_retry_counts_until_an_answer_or_the_end_of_the_turn() {
    let failed = || {
        Log::default()
            .asked("a", "hi")
            .private("retry", json!({"attempt": 2, "wait": 1, "until": 2}))
    };
    assert_eq!(failed().fold().retry.map(|retry| retry.attempt), Some(2));
    assert_eq!(failed().said("ok").fold().retry, None);
    assert_eq!(
        failed().idle(json!({"type": "end_turn"})).fold().retry,
        None
    );
}

#[test]
fn se_9_a_system_message_is_a_turn_behind_the_users() {
    let log = Log::default()
        .message("a", "hi")
        .system("s", "brief")
        .running()
        .processed("a")
        .processed("s");
    let transcript = check(log, &["u: hi", "s: brief"]);
    assert!(transcript.owes_answer);
    let joined = Log::default()
        .asked("a", "hi")
        .system("s", "brief")
        .processed("s")
        .message("b", "more")
        .processed("b")
        .said("ok");
    check(joined, &["u: hi | more", "s: brief", "a: ok"]);
    let alone = Log::default().asked("a", "hi").said("ok").event(
        "s",
        "system.message",
        json!({"content": [{"type": "text", "text": "brief"}, {"type": "text", "text": " "}]}),
    );
    let transcript = check(alone, &["u: hi", "a: ok", "s: brief"]);
    assert!(!transcript.owes_answer, "SE-8: it opens no turn");
    let blank = Log::default()
        .asked("a", "hi")
        .system("s", " ")
        .processed("s");
    check(blank, &["u: hi"]);
}

#[test]
fn tc_7_the_first_word_on_a_call_counts() {
    let log = || Log::default().asked("a", "go").called("asked", &["x", "y"]);
    let consent = |log: Log| log.fold().calls[&event_id("x")].consent.clone();
    let refused = |message: &str| {
        Some(Consent::Refused {
            message: Some(message.to_owned()),
        })
    };
    assert_eq!(consent(log()), None);
    assert_eq!(consent(log().confirmed("x", None)), Some(Consent::Given));
    assert_eq!(consent(log().confirmed("x", Some("no"))), refused("no"));
    let twice = log().confirmed("x", Some("no")).confirmed("x", None);
    assert_eq!(consent(twice), refused("no"), "SE-18");
    assert_eq!(
        consent(log().confirmed("y", None).confirmed("gone", None)),
        None
    );
    let interrupted = log().result("x", "interrupted").confirmed("x", None);
    assert_eq!(consent(interrupted), None, "a settled call asks no more");
    let sandbox = Log::default().asked("a", "go").called("sandbox", &["x"]);
    assert_eq!(
        consent(sandbox.confirmed("x", None)),
        None,
        "it never asked"
    );
}

#[test]
fn bu_9_an_update_tells_the_new_cap() {
    #[track_caller]
    fn check(type_name: &str, body: serde_json::Value, expected: Option<Option<u64>>) {
        let mut body = body;
        body["type"] = json!(type_name);
        let log = Log::default().event("u", type_name, body);
        let found = new_budget(&log.entries()[0]);
        let cents = found.map(|budget| budget.map(|budget| budget.max_list_cost.cents));
        assert_eq!(cents, expected);
    }
    let budget = json!({"type": "limit", "max_list_cost": {"amount": "20", "currency": "USD"}});
    check("session.updated", json!({"budget": budget}), Some(Some(20)));
    check(
        "session.updated",
        json!({"budget": null, "title": "x"}),
        Some(None),
    );
    check("session.updated", json!({"title": null}), None);
    check("session.status_running", json!({}), None);
}

/// security MODEL-5, I6: what a provider would refuse is not replayed; all else is, byte for byte.
#[test]
fn model_5_a_call_without_an_object_is_replayed_with_an_empty_one() {
    let content = json!([
        {"type": "tool_use", "id": "x", "name": "bash", "input": ["ls"]},
        {"type": "tool_use", "id": "y", "name": "bash", "input": {"command": "ls"}},
    ]);
    let calls = [("x", "x", "bash", "refused"), ("y", "y", "bash", "sandbox")];
    let transcript = Log::default()
        .asked("a", "go")
        .response("tool_use", content.clone(), &calls)
        .fold();
    let blocks = &transcript.turns[1].blocks;
    let first: serde_json::Value = serde_json::from_str(&blocks[0]).unwrap();
    assert_eq!(
        first,
        json!({"type": "tool_use", "id": "x", "name": "bash", "input": {}})
    );
    assert_eq!(*blocks[1], *content[1].to_string());
}

#[test]
fn log_2_an_intent_belongs_to_its_call() {
    let log = Log::default()
        .asked("a", "go")
        .called("sandbox", &["x", "y"])
        .private(
            "tool_started",
            json!({"call": event_id("y"), "instance": "i1", "attempt": 1}),
        )
        .private(
            "tool_started",
            json!({"call": event_id("gone"), "instance": "i1", "attempt": 1}),
        );
    let transcript = log.fold();
    assert!(transcript.calls[&event_id("x")].started.is_none());
    let started = transcript.calls[&event_id("y")].started.clone().unwrap();
    assert_eq!((started.instance.as_str(), started.attempt), ("i1", 1));
    assert_eq!(
        &*transcript.calls[&event_id("y")].input,
        "{\"command\":\"y\"}"
    );
}

#[test]
fn i_6_folding_in_pieces_is_folding_at_once() {
    let log = Log::default()
        .asked("a", "go")
        .called("sandbox", &["x"])
        .message("b", "more")
        .interrupt("c")
        .result("x", "1")
        .processed("c")
        .idle(json!({"type": "end_turn"}))
        .running()
        .processed("b")
        .span("span2")
        .said("done");
    let whole = log.fold();
    for cut in 0..log.entries().len() {
        let mut pieces = Transcript::default();
        for entry in &log.entries()[..cut] {
            pieces.fold(entry).unwrap();
        }
        let mut pieces = pieces.clone();
        for entry in &log.entries()[cut..] {
            pieces.fold(entry).unwrap();
        }
        assert_eq!(pieces, whole, "cut at {cut}");
    }
}

#[test]
fn i_2_a_gap_and_a_body_of_another_form_are_refused() {
    let log = Log::default().asked("a", "hi");
    let mut transcript = Transcript::default();
    assert!(matches!(
        transcript.fold(&log.entries()[1]),
        Err(FoldError::Gap {
            position: 0,
            found: 2
        })
    ));
    let bad = Log::default().private("response", json!({"content": 1}));
    let error = transcript.fold(&bad.entries()[0]).unwrap_err().to_string();
    assert!(error.contains("entry 1 (response)"), "{error}");
    let unknown = Log::default().private("from_the_future", json!({})).event(
        "e",
        "agent.new_thing",
        json!({}),
    );
    assert_eq!(unknown.fold().position, 2);
}

/// invariant I6: bytes that were attached to an event are what the model reads, wherever the fold is cut.
#[test]
fn i_6_attached_bytes_take_the_place_of_their_blocks_source() {
    let source = json!({"type": "base64", "media_type": "image/png", "data": "cG5n"});
    let attached = |event: &str, block: usize| json!({"event": event_id(event), "blocks": [{"block": block, "source": source}]});
    let content = json!({"content": [
        {"type": "text", "text": "see"},
        {"type": "document", "title": "t", "source": {"type": "file", "file_id": "file_1"}},
    ]});
    let log = Log::default()
        .private("attached", attached("a", 1))
        .event("a", "user.message", content.clone())
        .private("attached", attached("elsewhere", 0))
        .event("b", "user.message", content);
    for cut in 0..=log.entries().len() {
        let mut transcript = Transcript::default();
        for (index, entry) in log.entries().iter().enumerate() {
            if index == cut {
                transcript = transcript.clone();
            }
            transcript.fold(entry).unwrap();
        }
        let blocks: Vec<serde_json::Value> = transcript
            .tail()
            .flat_map(|turn| turn.blocks)
            .map(|block| serde_json::from_str(&block).unwrap())
            .collect();
        assert_eq!(
            blocks[1],
            json!({"type": "document", "title": "t", "source": source})
        );
        assert_eq!(
            blocks[3]["source"]["type"], "file",
            "another event's bytes are not its own"
        );
    }
}

/// runtime MC-9, invariants I3, I6
#[test]
fn i_3_a_call_of_an_mcp_tool_has_its_intent_and_one_result() {
    let called = || {
        Log::default()
            .asked("a", "hi")
            .called_mcp("sandbox", "x", "docs", "read")
    };
    let call = |log: Log| log.fold().calls[&event_id("x")].clone();
    let open = call(called());
    assert_eq!(open.hand(), Hand::Mcp, "not the built-in tool of that name");
    assert_eq!(open.name, "mcp__docs__read");
    let intent = json!({"call": event_id("x"), "instance": "server-1", "attempt": 1});
    let begun = called().private("mcp_started", intent);
    assert_eq!(call(begun.clone()).started.unwrap().instance, "server-1");
    let done = begun.mcp_result("x", "first").mcp_result("x", "second");
    assert!(done.fold().owes_answer);
    let result = call(done).result.unwrap();
    assert_eq!(&*result.blocks[0], r#"{"text":"first","type":"text"}"#);
}

/// runtime MC-8: which servers are asked depends on where in a turn the session stops and goes on.
#[test]
fn mc_8_a_turn_that_begins_asks_all_servers_and_one_that_goes_on_those_that_failed() {
    let agent = crate::testing::mcp_agent(&["docs", "wiki"]);
    #[track_caller]
    fn check(agent: &manyhands_protocol::agent::Definition, log: Log, expected: &[&str]) {
        let transcript = log.fold();
        let due = transcript.mcp.due(agent).map(|server| server.name);
        assert_eq!(due.collect::<Vec<_>>(), expected);
        // A summary changes nothing about it.
        let compaction = Compaction {
            summary: "all of it".to_owned(),
            model: "m".to_owned(),
            tokens_before: 1,
            carried: Carried::of(&transcript),
        };
        let compacted = log.private("compaction", json!(compaction)).fold();
        assert_eq!(compacted.mcp, transcript.mcp);
    }
    let check = |log: Log, expected: &[&str]| check(&agent, log, expected);
    let asked = || Log::default().message("a", "hi").running();
    check(asked(), &["docs", "wiki"]);
    let listed = || {
        asked()
            .listed("docs", Some(&["read"]))
            .listed("wiki", None)
            .processed("a")
            .span("span")
    };
    check(listed(), &[]);
    check(
        listed()
            .event("r", "session.status_rescheduled", json!({}))
            .running(),
        &[],
    );
    let paused = || {
        listed()
            .called_mcp("asked", "x", "docs", "read")
            .idle(json!({"type": "requires_action", "event_ids": [event_id("x")]}))
    };
    check(paused(), &[]);
    check(paused().confirmed("x", None).running(), &["wiki"]);
    check(listed().paused().running(), &["wiki"]);
    let over = || listed().said("done").idle(json!({"type": "end_turn"}));
    check(over(), &[]);
    check(over().message("b", "more").running(), &["docs", "wiki"]);
    check(
        listed().over_at_the_cap().message("b", "2").running(),
        &["docs", "wiki"],
    );
}
