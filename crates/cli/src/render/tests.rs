use serde_json::{Value, json};

use super::text::{count, dollars, duration, summary};
use super::*;

const FIRST: &str = "sevt_01111111111111111111111111";
const SECOND: &str = "sevt_01222222222222222222222222";

fn event(id: &str, at: &str, body: Value) -> Item {
    let mut event = body;
    event["id"] = json!(id);
    event["processed_at"] = json!(format!("2026-11-21T10:00:{at}Z"));
    Item::Event(Box::new(serde_json::from_value(event).unwrap()))
}

fn preview(body: Value) -> Item {
    Item::Preview(serde_json::from_value(body).unwrap())
}

fn start(id: &str) -> Item {
    preview(json!({"type": "event_start", "event": {"type": "agent.message", "id": id}}))
}

fn delta(id: &str, text: &str) -> Item {
    preview(json!({
        "type": "event_delta",
        "event_id": id,
        "delta": {"type": "content_delta", "content": {"type": "text", "text": text}},
    }))
}

fn message(id: &str, text: &str) -> Item {
    let content = json!([{"type": "text", "text": text}]);
    event(
        id,
        "01.000",
        json!({"type": "agent.message", "content": content}),
    )
}

fn check(items: &[Item], expected: &str) {
    let mut renderer = Renderer::new(Style::Plain);
    let printed: String = items.iter().map(|item| renderer.item(item)).collect();
    assert_eq!(printed, expected);
}

#[test]
fn st_8_deltas_are_printed_as_they_come_and_the_whole_message_adds_only_the_rest() {
    let mut renderer = Renderer::new(Style::Plain);
    let steps = [
        (start(FIRST), "agent      "),
        (delta(FIRST, "Hel"), "Hel"),
        (delta(FIRST, "lo\nyou"), "lo\n           you"),
        (message(FIRST, "Hello\nyou!"), "!\n"),
    ];
    for (item, expected) in steps {
        assert_eq!(renderer.item(&item), expected);
    }
}

#[test]
fn a_message_without_preview_is_printed_whole() {
    check(&[message(FIRST, "Hello")], "agent      Hello\n");
}

#[test]
fn a_preview_of_an_attempt_that_failed_is_closed_by_its_span() {
    let span = json!({
        "type": "span.model_request_end",
        "model_request_start_id": SECOND,
        "is_error": true,
        "model_usage": {
            "input_tokens": 0, "output_tokens": 0,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        },
    });
    check(
        &[
            start(FIRST),
            delta(FIRST, "Hel"),
            event(SECOND, "01.000", span),
            message(SECOND, "Hello"),
        ],
        "agent      Hel\nagent      Hello\n",
    );
}

#[test]
fn deltas_of_another_event_are_not_mixed_in() {
    check(
        &[
            start(FIRST),
            delta(SECOND, "foreign"),
            message(FIRST, "mine"),
        ],
        "agent      mine\n",
    );
}

/// runtime MC-4: a server's tool cannot pass for a built-in one of its name.
#[test]
fn mc_4_a_call_of_an_mcp_tool_names_its_server() {
    let call = json!({
        "type": "agent.mcp_tool_use", "mcp_server_name": "docs", "name": "bash", "input": {"command": "ls"},
    });
    let result = json!({
        "type": "agent.mcp_tool_result", "mcp_tool_use_id": FIRST, "is_error": false,
        "content": [{"type": "text", "text": "found"}],
    });
    check(
        &[
            event(FIRST, "01.000", call),
            event(SECOND, "01.042", result),
        ],
        "  docs/bash {\"command\":\"ls\"}\n           │ found\n           └ docs/bash 42 ms\n",
    );
}

#[test]
fn a_tool_call_is_one_line_and_its_result_is_indented_and_timed() {
    let call = json!({"type": "agent.tool_use", "name": "bash", "input": {"command": "seq 14"}});
    let result = |lines: std::ops::Range<u32>, is_error: bool| {
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        json!({
            "type": "agent.tool_result",
            "tool_use_id": FIRST,
            "content": [{"type": "text", "text": text}],
            "is_error": is_error,
        })
    };
    check(
        &[
            event(FIRST, "01.000", call.clone()),
            event(SECOND, "01.042", result(0..2, false)),
        ],
        "  bash     seq 14\n           │ 0\n           │ 1\n           └ bash 42 ms\n",
    );
    check(
        &[
            event(FIRST, "01.000", call.clone()),
            event(SECOND, "03.500", result(0..1, true)),
        ],
        "  bash     seq 14\n           │ 0\n           └ bash failed 2.5 s\n",
    );

    let mut renderer = Renderer::new(Style::Plain);
    renderer.item(&event(FIRST, "01.000", call));
    let shown = renderer.item(&event(SECOND, "01.000", result(0..14, false)));
    assert!(
        shown.contains("│ 5\n           │ … 8 more lines\n"),
        "{shown}"
    );
    assert!(renderer.last_result().unwrap().ends_with("12\n13\n"));
}

#[test]
fn sq_17_the_rest_of_the_session_ends_the_turn_with_its_figures() {
    let mut renderer = Renderer::new(Style::Plain);
    let running = event(FIRST, "01.000", json!({"type": "session.status_running"}));
    let usage = json!({
        "type": "session.usage",
        "usage": {
            "input_tokens": 10, "output_tokens": 7, "cache_read_input_tokens": 30,
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 2},
            "active_seconds": 1.5, "list_cost": null, "server_tool_use": null,
        },
        "budget": null,
    });
    let idle = json!({
        "type": "session.status_idle", "stop_reason": {"type": "end_turn"}, "stop_details": null,
    });
    assert_eq!(renderer.item(&running), "");
    assert_eq!(renderer.item(&event(FIRST, "02.000", usage)), "");
    assert_eq!(renderer.ending(), None);
    assert_eq!(
        renderer.item(&event(FIRST, "02.500", idle)),
        "idle       done: 0 model requests, 1.5 s, 42 tokens in, 7 out\n"
    );
    assert_eq!(renderer.ending().unwrap().reason, StopReason::EndTurn);
}

#[test]
fn er_2_an_error_is_shown_and_is_part_of_the_ending() {
    let mut renderer = Renderer::new(Style::Plain);
    let error = json!({
        "type": "session.error",
        "error": {
            "type": "model_request_failed_error",
            "message": "key refused",
            "retry_status": {"type": "exhausted"},
        },
    });
    let idle = json!({
        "type": "session.status_idle", "stop_reason": {"type": "retries_exhausted"}, "stop_details": null,
    });
    assert_eq!(
        renderer.item(&event(FIRST, "01.000", error)),
        "error      key refused\n"
    );
    renderer.item(&event(SECOND, "01.000", idle));
    let ending = renderer.ending().unwrap();
    assert_eq!(ending.reason, StopReason::RetriesExhausted);
    assert_eq!(ending.error.as_deref(), Some("key refused"));
}

#[test]
fn text_from_outside_cannot_drive_the_terminal() {
    check(
        &[message(FIRST, "a\x1b]0;title\x07b\u{202e}c\r")],
        "agent      a\u{fffd}]0;title\u{fffd}b\u{fffd}c\u{fffd}\n",
    );
}

#[test]
fn colours_only_on_a_terminal_and_without_no_color() {
    let no_color = |value: &'static str| Some(std::ffi::OsStr::new(value));
    for (terminal, variable, expected) in [
        (true, None, Style::Coloured),
        (true, no_color(""), Style::Coloured),
        (true, no_color("1"), Style::Plain),
        (false, None, Style::Plain),
    ] {
        assert_eq!(Style::choose(terminal, variable), expected);
    }
    assert_eq!(Style::Coloured.label("you"), "\x1b[1;36myou\x1b[0m        ");
    assert_eq!(Style::Plain.label("you"), "you        ");
}

#[test]
fn inputs_are_summed_up_on_one_line() {
    let check = |name: &str, input: Value, expected: &str| {
        assert_eq!(summary(name, input.as_object().unwrap()), expected);
    };
    check(
        "bash",
        json!({"command": "cd /workspace &&\n  ls"}),
        "cd /workspace && ls",
    );
    check(
        "write",
        json!({"file_path": "/a", "content": "x\ny\n"}),
        "/a (2 lines)",
    );
    check("read", json!({"file_path": "/a"}), "/a");
    check("grep", json!({"pattern": "x.*y", "path": "/"}), "x.*y");
    check("bash", json!({"restart": true}), r#"{"restart":true}"#);
    check("mine", json!({"a": 1}), r#"{"a":1}"#);
    let long = summary(
        "bash",
        json!({"command": "é".repeat(300)}).as_object().unwrap(),
    );
    assert_eq!((long.chars().count(), long.ends_with('…')), (100, true));
}

#[test]
fn numbers_are_said_as_people_do() {
    for (millis, expected) in [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_999, "59.9 s"),
        (61_000, "1 min 1 s"),
    ] {
        assert_eq!(duration(millis), expected);
    }
    assert_eq!(
        (count(1, "line"), count(2, "line")),
        ("1 line".into(), "2 lines".into())
    );
}

#[test]
fn bu_3_cents_are_shown_as_dollars() {
    for (cents, expected) in [(0, "$0.00"), (7, "$0.07"), (1234, "$12.34")] {
        assert_eq!(
            dollars(manyhands_protocol::budget::Money { cents }),
            expected
        );
    }
}

#[test]
fn sq_10_the_result_of_a_custom_tool_is_shown_like_any_other() {
    let call = json!({"type": "agent.custom_tool_use", "name": "lookup", "input": {"q": 1}});
    let result = json!({
        "type": "user.custom_tool_result",
        "custom_tool_use_id": FIRST,
        "content": [{"type": "text", "text": "found"}],
    });
    check(
        &[
            event(FIRST, "01.000", call),
            event(SECOND, "02.000", result),
        ],
        "  lookup   {\"q\":1}\n           │ found\n           └ lookup 1.0 s\n",
    );
}

#[test]
fn cc_1_a_compaction_is_told() {
    check(
        &[event(
            FIRST,
            "01.000",
            json!({"type": "agent.thread_context_compacted"}),
        )],
        "context    the model goes on with a summary\n",
    );
}

#[test]
fn long_lines_are_wrapped_between_words() {
    assert_eq!(wrapped("a  b\nc"), "a b c");
    let words = vec!["four"; 40].join(" ");
    let lines: Vec<String> = wrapped(&words).lines().map(str::to_owned).collect();
    assert!(
        lines.iter().all(|line| line.chars().count() <= 100),
        "{lines:?}"
    );
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.starts_with("           four")),
        "{lines:?}"
    );
    let back: Vec<&str> = lines
        .iter()
        .flat_map(|line| line.split_whitespace())
        .collect();
    assert_eq!(back.join(" "), words);
    assert_eq!(wrapped(&"x".repeat(200)), "x".repeat(200));
}
