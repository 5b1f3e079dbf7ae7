use serde_json::{Value, json};

use super::*;

struct Silent;

impl Sink for Silent {
    fn delta(&mut self, _: Delta<'_>) {}
}

fn assemble(events: &[Value]) -> Result<Response, Error> {
    let mut assembly = Assembly::default();
    for event in events {
        assembly.event(&event.to_string(), &mut Silent)?;
    }
    assembly.finish()
}

fn message(blocks: &[Value], stop: &str) -> Vec<Value> {
    let mut events = vec![json!({"type": "message_start", "message": {
        "id": "msg_1", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1,
            "cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 4}},
    }})];
    events.extend(blocks.iter().cloned());
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 7}}));
    events.push(json!({"type": "message_stop"}));
    events
}

fn start(index: usize, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: usize, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop_block(index: usize) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn call(index: usize, id: &str, input: &str) -> [Value; 3] {
    [
        start(
            index,
            json!({"type": "tool_use", "id": id, "name": "bash", "input": {}, "caller": {"type": "direct"}}),
        ),
        delta(
            index,
            json!({"type": "input_json_delta", "partial_json": input}),
        ),
        stop_block(index),
    ]
}

#[track_caller]
fn check_raw(blocks: &[Value], expected: &str) {
    let response = assemble(&message(blocks, "end_turn")).unwrap();
    assert_eq!(response.blocks[0].raw.get(), expected);
}

#[test]
fn model_4_blocks_keep_their_bytes_and_unknown_members() {
    check_raw(
        &call(0, "t", "{\"a\" : 1e2,\"b\":\"\\u00e9\"}"),
        r#"{"caller":{"type":"direct"},"id":"t","input":{"a" : 1e2,"b":"\u00e9"},"name":"bash","type":"tool_use"}"#,
    );
    check_raw(
        &call(0, "t", "[\"ls\"]"),
        r#"{"caller":{"type":"direct"},"id":"t","input":{"unparsed_arguments":"[\"ls\"]"},"name":"bash","type":"tool_use"}"#,
    );
    check_raw(
        &[
            start(0, json!({"type": "new_thing", "data": [1, 2]})),
            stop_block(0),
        ],
        r#"{"data":[1,2],"type":"new_thing"}"#,
    );
    check_raw(
        &[
            start(
                0,
                json!({"type": "thinking", "thinking": "", "signature": ""}),
            ),
            delta(0, json!({"type": "thinking_delta", "thinking": "a\n"})),
            delta(0, json!({"type": "signature_delta", "signature": "s="})),
            delta(0, json!({"type": "unheard_of_delta", "x": 1})),
            stop_block(0),
        ],
        r#"{"signature":"s=","thinking":"a\n","type":"thinking"}"#,
    );
    check_raw(
        &[
            start(0, json!({"type": "text", "text": ""})),
            delta(0, json!({"type": "text_delta", "text": "hi"})),
            delta(
                0,
                json!({"type": "citations_delta", "citation": {"b": 1, "a": 2}}),
            ),
            stop_block(0),
        ],
        r#"{"text":"hi","type":"text","citations":[{"a":2,"b":1}]}"#,
    );
}

#[test]
fn us_5_later_figures_replace_earlier_ones() {
    let response = assemble(&message(&[], "end_turn")).unwrap();
    let usage = response.usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (5, 7));
    let creation = (
        usage.cache_creation_5m_input_tokens,
        usage.cache_creation_1h_input_tokens,
    );
    assert_eq!(creation, (5, 4));
}

#[track_caller]
fn check_error(events: &[Value], kind: ErrorKind) {
    assert_eq!(assemble(events).unwrap_err().kind, kind);
}

#[test]
fn model_1_what_is_not_complete_and_valid_is_no_response() {
    let whole = message(&call(0, "t", "{}"), "tool_use");
    assert!(assemble(&whole).is_ok());
    for missing in 0..whole.len() {
        let mut events = whole.clone();
        events.remove(missing);
        // Without its only delta a call has the input of its start, which is a whole one.
        if missing != 2 {
            check_error(&events, ErrorKind::Failed);
        }
    }
    check_error(
        &message(&call(0, "t", "{\"a\":"), "tool_use"),
        ErrorKind::Failed,
    );
    check_error(&message(&call(0, "", "{}"), "tool_use"), ErrorKind::Failed);
    check_error(&message(&call(1, "t", "{}"), "tool_use"), ErrorKind::Failed);
    check_error(
        &message(
            &[delta(0, json!({"type": "text_delta", "text": "x"}))],
            "end_turn",
        ),
        ErrorKind::Failed,
    );
    check_error(&[json!({"type": "message_stop"})], ErrorKind::Failed);
    check_error(&[json!(["not", "an", "event"])], ErrorKind::Failed);
}

#[test]
fn a_call_cut_at_the_output_limit_was_never_made() {
    let mut blocks = vec![
        start(0, json!({"type": "text", "text": "So"})),
        stop_block(0),
    ];
    blocks.extend(call(1, "t", "{\"a\":").into_iter().take(2));
    let response = assemble(&message(&blocks, "max_tokens")).unwrap();
    assert_eq!(response.stop, Stop::MaxTokens);
    assert_eq!(response.blocks.len(), 1);
    check_error(&message(&blocks, "tool_use"), ErrorKind::Failed);
}

#[test]
fn model_3_errors_in_the_stream_are_sorted_like_statuses() {
    for (kind, expected) in [
        ("overloaded_error", ErrorKind::Overloaded),
        ("rate_limit_error", ErrorKind::RateLimited),
        ("api_error", ErrorKind::Failed),
        ("invalid_request_error", ErrorKind::Refused),
        ("authentication_error", ErrorKind::Auth),
        ("billing_error", ErrorKind::Billing),
        ("not_found_error", ErrorKind::NotFound),
    ] {
        check_error(
            &[json!({"type": "error", "error": {"type": kind, "message": "x"}})],
            expected,
        );
    }
}

#[test]
fn stop_reasons_that_no_feature_of_ours_causes_end_the_turn() {
    for (reason, expected) in [
        ("end_turn", Stop::EndTurn),
        ("stop_sequence", Stop::EndTurn),
        ("pause_turn", Stop::EndTurn),
        ("something_new", Stop::EndTurn),
        ("tool_use", Stop::ToolUse),
        ("max_tokens", Stop::MaxTokens),
        ("model_context_window_exceeded", Stop::MaxTokens),
    ] {
        assert_eq!(
            assemble(&message(&[], reason)).unwrap().stop,
            expected,
            "{reason}"
        );
    }
}
