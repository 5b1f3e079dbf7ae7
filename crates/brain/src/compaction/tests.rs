use std::sync::Arc;

use manyhands_protocol::Timestamp;
use manyhands_store::{Entry, EntryKind};
use serde_json::{Value, json};

use super::*;
use crate::decide::{Limits, Step, decide};
use crate::models::{Scripted, Thinking};
use crate::record::{COMPACTION, OVERFLOW};
use crate::replay::{Carried, Compaction};
use crate::testing::{Log, agent, event_id};

fn model(window: Option<u64>) -> Resolved {
    Resolved {
        model: Arc::new(Scripted::built_in()),
        upstream_id: "m-1".to_owned(),
        max_output: 100,
        context_window: window,
        mid_conversation_system: true,
        thinking: Thinking::Unset,
        effort: true,
        prices: None,
    }
}

fn room(threshold: u64) -> Option<Room> {
    Some(Room {
        threshold,
        fixed: 0,
    })
}

/// A conversation of 4,000 bytes, 1,000 tokens.
fn long() -> Log {
    Log::default()
        .asked("a", &"q".repeat(2_000))
        .said(&"a".repeat(2_000))
        .idle(json!({"type": "end_turn"}))
}

fn summary(log: Log, text: &str) -> Log {
    let compaction = Compaction {
        summary: text.to_owned(),
        model: "m".to_owned(),
        tokens_before: 1_000,
        carried: Carried::of(&log.fold()),
    };
    let body: Value = serde_json::to_value(&compaction).unwrap();
    log.private(COMPACTION, body)
}

#[track_caller]
fn check(log: Log, room: Option<Room>, expected: Option<Due>) {
    assert_eq!(due(&log.fold(), room, 3), expected);
}

const CONVERSATION: Option<Due> = Some(Due::Compact(Form::Conversation));

#[test]
fn cc_1_a_summary_is_due_when_the_next_request_would_pass_the_threshold() {
    let next = || long().message("b", &"n".repeat(4_000));
    check(next(), None, None);
    check(next(), room(2_100), None);
    check(next(), room(1_900), CONVERSATION);
    // The first message alone is too long: there is nothing to summarise.
    check(
        Log::default().message("a", &"q".repeat(8_000)),
        room(10),
        None,
    );
}

#[test]
fn cc_1_the_providers_count_goes_before_our_estimate() {
    let counted = |tokens: u64| {
        Log::default()
            .asked("a", "hi")
            .private(
                "response",
                json!({
                    "message_id": "msg_1", "model": "m", "stop": {"reason": "end_turn"},
                    "content": [{"type": "text", "text": "x"}], "calls": [], "context_tokens": tokens,
                }),
            )
            .message("b", &"n".repeat(400))
    };
    check(counted(5_000), room(5_050), CONVERSATION);
    check(counted(5_000), room(5_200), None);
}

#[test]
fn cc_1_images_and_documents_count_as_what_they_show() {
    let image = |kind: &str, bytes: usize| {
        let source = json!({"type": "base64", "media_type": "x/y", "data": "A".repeat(bytes)});
        json!({"type": kind, "source": source}).to_string()
    };
    #[track_caller]
    fn check(block: &str, least: usize, most: usize) {
        let found = bytes(block) / 4;
        assert!((least..=most).contains(&found), "{found}");
    }
    check(&image("image", 4_000_000), 1_600, 1_700);
    check(&image("image", 400), 100, 150);
    check(&image("document", 400_000), 10_000, 10_100);
    let nested = format!(
        "{{\"type\":\"tool_result\",\"content\":[{}]}}",
        image("image", 1_000_000)
    );
    check(&nested, 1_600, 1_700);
    let word = json!({"type": "text", "text": "\"base64\"".repeat(1_000)}).to_string();
    check(&word, 2_000, 4_000);
}

#[test]
fn er_5_summaries_in_a_row_that_do_not_help_have_a_limit() {
    let big = "s".repeat(8_000);
    let mut log = long().message("b", "go on").running();
    for _ in 0..3 {
        check(log.clone(), room(500), CONVERSATION);
        log = summary(log, &big);
    }
    check(log.clone(), room(500), Some(Due::Limit));
    let limits = Limits {
        tool_rounds: 500,
        compactions_in_a_row: 3,
        room: room(500),
        at_cap: false,
        unlisted: false,
    };
    let step = decide(&log.fold(), limits, Timestamp::from_micros(0));
    assert_eq!(step, Step::Rest(crate::decide::Rest::CompactionLimit));
    // The end of the turn begins a new row, and then nothing is left that a summary could shorten.
    let log = log.idle(json!({"type": "retries_exhausted"}));
    check(log.message("c", "again"), room(500), None);
}

#[test]
fn er_5_an_answer_in_between_ends_the_row() {
    let log = summary(long().message("b", "go on").running(), "short");
    assert_eq!(log.fold().compactions, 1);
    let log = log.processed("b").span("span").said("ok");
    assert_eq!(log.fold().compactions, 0);
}

#[test]
fn cc_1_a_short_summary_beside_a_long_message_is_not_summarised_again() {
    let log = long().message("b", &"n".repeat(8_000)).running();
    check(summary(log, "short"), room(500), None);
}

#[test]
fn model_4_what_overflows_is_asked_about_in_ever_shorter_texts() {
    let mut log = long().asked("b", "go on");
    assert!(answers_overflow(&log.fold()));
    for attempt in 1..=TEXTS {
        log = log.private(OVERFLOW, json!({}));
        let form = Form::Text { attempt };
        check(log.clone(), None, Some(Due::Compact(form)));
    }
    let log = summary(log, "short");
    check(log.clone(), None, None);
    assert!(!answers_overflow(&log.fold()), "once, then it is an error");
    assert!(
        !answers_overflow(&Log::default().asked("a", "long").fold()),
        "nothing to summarise"
    );
}

#[test]
fn cc_1_the_texts_fit_the_window_and_shrink() {
    let most = |window, attempt| text_budget(&model(window), attempt);
    assert_eq!(most(Some(100_100), 1), 200_000);
    assert_eq!(most(Some(100_100), 2), 50_000);
    assert_eq!(most(None, 1), 256 << 10);
    assert_eq!(most(None, 3), 16 << 10);
    // A window that is smaller than the longest answer.
    assert_eq!(most(Some(100), 1), 100);
}

#[test]
fn cc_5_the_request_for_a_summary_extends_the_conversation() {
    let log = long().asked("b", "go on");
    let before = context::build(&agent(), &model(None), &log.fold());
    let asked = request(Form::Conversation, &agent(), &model(None), &log.fold());
    let (before, asked): (Value, Value) = (
        serde_json::from_slice(&before.body).unwrap(),
        serde_json::from_slice(&asked.body).unwrap(),
    );
    for part in ["model", "max_tokens", "tools", "system"] {
        assert_eq!(before[part], asked[part], "{part}");
    }
    let messages = asked["messages"].as_array().unwrap();
    assert_eq!(
        messages[..2],
        before["messages"].as_array().unwrap()[..2],
        "{asked}"
    );
    let last = messages[2]["content"].as_array().unwrap();
    assert_eq!(last[0]["text"], "go on");
    assert_eq!(last[1]["text"], WISH);
}

#[test]
fn cc_1_a_conversation_that_does_not_fit_is_asked_about_as_a_text_without_tools() {
    let form = Form::Text { attempt: 1 };
    let asked = request(form, &agent(), &model(Some(1_000)), &long().fold());
    let asked: Value = serde_json::from_slice(&asked.body).unwrap();
    assert!(asked.get("tools").is_none());
    let blocks = asked["messages"][0]["content"].as_array().unwrap();
    let text = blocks[0]["text"].as_str().unwrap();
    assert!(text.contains("User: qqq") && text.contains("Assistant: aaa"));
    assert!(text.len() < 1_900, "{}", text.len());
    assert_eq!(blocks[1]["text"], WISH);
}

#[test]
fn cc_1_a_summary_is_bounded() {
    let long = "s".repeat(10_000);
    assert!(bounded(&long, &model(Some(1_000))).len() < 1_100);
    assert_eq!(bounded("  short ", &model(None)), "short");
}

/// What the model is told after a summary, block by block.
fn told(log: &Log) -> Vec<(String, String)> {
    let request = context::build(&agent(), &model(None), &log.fold());
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let messages = body["messages"].as_array().unwrap().clone();
    let blocks = messages.into_iter().flat_map(|message| {
        let role = message["role"].as_str().unwrap().to_owned();
        let blocks = message["content"].as_array().unwrap().clone();
        blocks.into_iter().map(move |block| {
            (
                role.clone(),
                block["text"].as_str().unwrap_or("?").to_owned(),
            )
        })
    });
    blocks.collect()
}

#[test]
fn cc_3_system_messages_and_unanswered_messages_survive() {
    let log = long()
        .message("b", "with a note")
        .system("n1", "Answer in French.")
        .running()
        .processed("b")
        .processed("n1")
        .said("oui")
        .idle(json!({"type": "end_turn"}))
        .message("c", "not answered yet")
        .system("n2", "Be brief.")
        .running()
        .processed("c")
        .processed("n2")
        .message("d", "still queued");
    let log = summary(log, "They talked.");
    let log = log.processed("d");
    let told = told(&log);
    let roles: Vec<&str> = told.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["user", "user", "user", "system", "system"]);
    assert!(told[0].1.contains("They talked."));
    let rest: Vec<&str> = told[1..].iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        rest,
        [
            "not answered yet",
            "still queued",
            "Answer in French.",
            "Be brief."
        ]
    );
    // A second summary takes the first one's place and keeps the notes.
    let log = log
        .span("span")
        .said("ok")
        .idle(json!({"type": "end_turn"}));
    let log = summary(log.message("e", "and now?"), "They talked more.").processed("e");
    let told = self::told(&log);
    assert!(told[0].1.contains("They talked more."));
    let rest: Vec<&str> = told[1..].iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(rest, ["and now?", "Answer in French.", "Be brief."]);
}

/// Runtime CC-2, invariant I6: a replay from a summary is a replay from the beginning.
#[test]
fn i_6_a_fold_from_the_summary_equals_the_fold_of_all() {
    let tools = || {
        Log::default()
            .asked("a", "1")
            .called("sandbox", &["x", "y"])
            .result("x", "rx")
            .message("b", "2")
            .result("y", "ry")
            .processed("b")
            .span("span2")
            .said("one")
            .message("c", "3")
            .interrupt("i")
            .processed("i")
            .idle(json!({"type": "end_turn"}))
            .running()
            .processed("c")
            .system("n", "note")
            .span("span3")
            .called("custom", &["z"])
            .idle(json!({"type": "requires_action", "event_ids": [event_id("z")]}))
            .custom_result("z", "rz")
            .running()
            .processed("n")
            .span("span4")
            .private("retry", json!({"attempt": 1, "wait": 1, "until": 2}))
            .event("r", "session.status_rescheduled", json!({}))
            .private(OVERFLOW, json!({}))
            .said("two")
            .idle(json!({"type": "end_turn"}))
    };
    let log = tools();
    let entries = log.entries();
    let mut cuts = 0;
    for cut in 1..=entries.len() {
        let mut before = Transcript::default();
        for entry in &entries[..cut] {
            before.fold(entry).unwrap();
        }
        if before.open_calls().next().is_some() {
            continue;
        }
        cuts += 1;
        let compaction = Compaction {
            summary: format!("Up to {cut}."),
            model: "m".to_owned(),
            tokens_before: 1,
            carried: Carried::of(&before),
        };
        let entry = Entry {
            position: cut as i64 + 1,
            kind: EntryKind::Private,
            type_name: COMPACTION.into(),
            body: serde_json::to_string(&compaction).unwrap().into(),
            ..entries[cut - 1].clone()
        };
        let mut whole = before;
        whole.fold(&entry).unwrap();
        let mut from_summary = Transcript::from_compaction(&entry).unwrap();
        assert_eq!(whole, from_summary, "cut {cut}");
        for later in &entries[cut..] {
            let later = Entry {
                position: later.position + 1,
                ..later.clone()
            };
            whole.fold(&later).unwrap();
            from_summary.fold(&later).unwrap();
        }
        assert_eq!(whole, from_summary, "cut {cut}, at the end");
    }
    assert!(cuts > 15, "{cuts}");
}
