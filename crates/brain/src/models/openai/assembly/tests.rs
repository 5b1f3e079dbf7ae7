use serde_json::json;

use super::*;

#[derive(Default)]
struct Heard(Vec<String>);

impl Sink for Heard {
    fn delta(&mut self, delta: Delta<'_>) {
        self.0.push(match delta {
            Delta::Start { index, kind } => format!("{index} {kind:?}"),
            Delta::Text { index, text } => format!("{index} {text:?}"),
            Delta::Usage(usage) => format!("{}+{}", usage.input_tokens, usage.output_tokens),
        });
    }
}

fn assemble(events: &[Value]) -> (Result<Response, Error>, Vec<String>) {
    let mut heard = Heard::default();
    let mut assembly = Assembly::default();
    let request = Translated {
        body: vec![b'x'; 50].into(),
        model: "asked".to_owned(),
        call_ids: HashSet::from(["old".to_owned()]),
        attached: 10,
    };
    let mut taken = Ok(());
    for event in events {
        taken = taken.and_then(|()| match event {
            Value::String(text) => assembly.event(text, &mut heard),
            event => assembly.event(&event.to_string(), &mut heard),
        });
    }
    let result = taken.and_then(|()| assembly.finish(&request, &mut heard));
    (result, heard.0)
}

fn chunk(delta: Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "served",
        "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn call(index: Value, id: &str, name: &str, arguments: &str) -> Value {
    chunk(
        json!({"tool_calls": [{"index": index, "id": id, "type": "function",
        "function": {"name": name, "arguments": arguments}}]}),
    )
}

fn usage() -> Value {
    json!({"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 20}}})
}

fn done() -> Value {
    json!("[DONE]")
}

/// The blocks as short texts.
fn shown(response: &Response) -> Vec<String> {
    let blocks = response.blocks.iter();
    blocks
        .map(|block| match &block.view {
            View::Text(text) => text.clone(),
            View::ToolUse { id, name, input } => format!("{id} {name} {input}"),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn model_1_an_answer_of_all_kinds() {
    let (response, heard) = assemble(&[
        chunk(json!({"role": "assistant", "content": ""})),
        chunk(json!({"reasoning_content": "Hm"})),
        chunk(json!({"reasoning": "m."})),
        chunk(json!({"content": "Let me "})),
        chunk(json!({"content": "look."})),
        call(json!(0), "call_a", "bash", ""),
        call(json!(0), "", "", "{\"b\" : 1e2,"),
        call(json!(1), "call_b", "read", "{}"),
        call(json!(0), "", "", "\"a\":\"\\u00e9\"}"),
        finish("tool_calls"),
        usage(),
        done(),
    ]);
    let response = response.unwrap();
    assert_eq!(
        (response.id.as_str(), response.model.as_str()),
        ("chatcmpl-1", "served")
    );
    assert_eq!(response.stop, Stop::ToolUse);
    let raw: Vec<&str> = response
        .blocks
        .iter()
        .map(|block| block.raw.get())
        .collect();
    assert_eq!(
        raw,
        [
            r#"{"type":"redacted"}"#,
            r#"{"text":"Let me look.","type":"text"}"#,
            r#"{"type":"tool_use","id":"call_a","name":"bash","input":{"b" : 1e2,"a":"\u00e9"}}"#,
            r#"{"type":"tool_use","id":"call_b","name":"read","input":{}}"#,
        ]
    );
    let expected = Usage {
        input_tokens: 10,
        output_tokens: 7,
        cache_read_input_tokens: 20,
        ..Usage::default()
    };
    assert_eq!(response.usage, expected);
    assert_eq!(
        heard,
        [
            "0 Thinking",
            "1 Text",
            "1 \"Let me \"",
            "1 \"look.\"",
            "2 ToolUse",
            "3 ToolUse",
            "10+7"
        ]
    );
}

#[track_caller]
fn check_calls(deltas: &[Value], expected: &[&str]) {
    let mut events = deltas.to_vec();
    events.extend([finish("stop"), usage(), done()]);
    let response = assemble(&events).0.unwrap();
    assert_eq!(
        response.stop,
        Stop::ToolUse,
        "also when the server says `stop`"
    );
    assert_eq!(shown(&response), expected);
}

#[test]
fn calls_are_told_apart_however_servers_number_them() {
    let (zero, none) = (json!(0), Value::Null);
    // One index for all, as some servers do.
    check_calls(
        &[
            call(zero.clone(), "a", "bash", "{\"n\":1}"),
            call(zero.clone(), "b", "bash", "{\"n\":2}"),
            call(zero.clone(), "b", "", " "),
        ],
        &["a bash {\"n\":1}", "b bash {\"n\":2}"],
    );
    // No index.
    check_calls(
        &[
            call(none.clone(), "a", "bash", "{\"n\":"),
            call(none.clone(), "", "", "1}"),
            call(none.clone(), "b", "read", "{}"),
            call(none.clone(), "b", "read", ""),
        ],
        &["a bash {\"n\":1}", "b read {}"],
    );
    // The name and id again with every piece.
    check_calls(
        &[
            call(zero.clone(), "a", "bash", "{\"n\":"),
            call(zero.clone(), "a", "bash", "1}"),
        ],
        &["a bash {\"n\":1}"],
    );
    // The object itself.
    check_calls(
        &[chunk(json!({"tool_calls": [{"index": 0, "id": "a",
            "function": {"name": "bash", "arguments": {"n": 1}}}]}))],
        &["a bash {\"n\":1}"],
    );
    // Neither ids nor indices.
    let (response, _) = assemble(&[
        call(none.clone(), "", "bash", "{\"n\":1}"),
        call(none, "", "bash", "{\"n\":2}"),
        call(zero.clone(), "", "read", "{\"n\":3}"),
        call(zero, "", "read", "{\"n\":4}"),
        finish("tool_calls"),
        done(),
    ]);
    let inputs: Vec<String> = shown(&response.unwrap())
        .iter()
        .map(|call| call.rsplit_once(' ').unwrap().1.to_owned())
        .collect();
    assert_eq!(inputs, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}"]);
}

#[test]
fn ids_of_calls_are_unique_in_the_conversation_and_legal_everywhere() {
    let (response, _) = assemble(&[
        call(json!(0), "", "bash", "{}"),
        call(json!(1), "same", "bash", "{}"),
        call(json!(2), "same", "bash", "{}"),
        call(json!(3), "old", "bash", "{}"),
        call(json!(4), "functions.bash:0", "bash", "{}"),
        call(json!(5), &"x".repeat(65), "bash", "{}"),
        finish("tool_calls"),
        done(),
    ]);
    let ids: Vec<String> = shown(&response.unwrap())
        .iter()
        .map(|call| call.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(ids[1], "same");
    let made: Vec<&String> = ids.iter().filter(|id| id.starts_with("call_")).collect();
    assert_eq!(made.len(), 5, "{ids:?}");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 6);
}

#[test]
fn model_1_arguments_that_are_no_object_are_kept_for_the_error() {
    #[track_caller]
    fn check(arguments: &str, view: &str, raw: &str) {
        let (response, _) = assemble(&[
            call(json!(0), "a", "bash", arguments),
            finish("tool_calls"),
            done(),
        ]);
        let response = response.unwrap();
        assert_eq!(shown(&response), [format!("a bash {view}")]);
        let found: Value = serde_json::from_str(response.blocks[0].raw.get()).unwrap();
        assert_eq!(found["input"].to_string(), raw);
    }
    check("", "{}", "{}");
    check(" \n", "{}", "{}");
    check("ls -l", "\"ls -l\"", r#"{"unparsed_arguments":"ls -l"}"#);
    check(
        "{\"a\":1",
        "\"{\\\"a\\\":1\"",
        r#"{"unparsed_arguments":"{\"a\":1"}"#,
    );
    check("[1]", "[1]", r#"{"unparsed_arguments":"[1]"}"#);
    check("\"x\"", "\"x\"", r#"{"unparsed_arguments":"\"x\""}"#);
}

#[test]
fn a_call_cut_at_the_output_limit_was_never_made() {
    let parts = |arguments: &str| {
        [
            chunk(json!({"content": "So"})),
            call(json!(0), "a", "bash", arguments),
        ]
    };
    for cut in ["", "{\"a\":"] {
        let mut events = parts(cut).to_vec();
        events.extend([finish("length"), done()]);
        let response = assemble(&events).0.unwrap();
        assert_eq!(
            (response.stop.clone(), shown(&response)),
            (Stop::MaxTokens, vec!["So".to_owned()])
        );
    }
    let mut events = parts("{}").to_vec();
    events.extend([finish("length"), done()]);
    assert_eq!(assemble(&events).0.unwrap().blocks.len(), 2);
}

#[test]
fn sq_15_reasons_to_stop() {
    #[track_caller]
    fn check(events: &[Value], expected: Result<Stop, ErrorKind>) {
        let found = assemble(events).0;
        let found = found.map(|response| response.stop);
        assert_eq!(found.map_err(|error| error.kind), expected);
    }
    let text = || chunk(json!({"content": "x"}));
    check(&[text(), finish("stop"), done()], Ok(Stop::EndTurn));
    check(&[text(), finish("eos"), done()], Ok(Stop::EndTurn));
    check(&[text(), finish("tool_calls"), done()], Ok(Stop::EndTurn));
    check(&[text(), finish("length"), done()], Ok(Stop::MaxTokens));
    check(&[finish("stop"), done()], Ok(Stop::EndTurn));
    check(&[text(), finish("stop")], Ok(Stop::EndTurn));
    let refusal = |category: Option<&str>, explanation: Option<&str>| {
        Ok(Stop::Refusal {
            category: category.map(str::to_owned),
            explanation: explanation.map(str::to_owned),
        })
    };
    check(
        &[text(), finish("content_filter"), done()],
        refusal(Some("content_filter"), None),
    );
    check(
        &[
            chunk(json!({"refusal": "I will"})),
            chunk(json!({"refusal": " not."})),
            finish("stop"),
            done(),
        ],
        refusal(None, Some("I will not.")),
    );
    check(&[text(), finish("error"), done()], Err(ErrorKind::Failed));
    check(&[text(), finish("abort"), done()], Err(ErrorKind::Failed));
}

#[test]
fn model_1_what_is_not_complete_and_valid_is_no_response() {
    #[track_caller]
    fn check(events: &[Value], kind: ErrorKind) {
        assert_eq!(assemble(events).0.unwrap_err().kind, kind);
    }
    let text = || chunk(json!({"content": "x"}));
    check(&[], ErrorKind::Failed);
    check(&[text()], ErrorKind::Failed);
    check(&[text(), done()], ErrorKind::Failed);
    check(&[json!("{\"choices\":[")], ErrorKind::Failed);
    check(
        &[call(json!(0), "a", "", "{}"), finish("tool_calls"), done()],
        ErrorKind::Failed,
    );
    check(
        &[
            text(),
            json!({"error": {"message": "busy", "code": 429}}),
            finish("stop"),
            done(),
        ],
        ErrorKind::RateLimited,
    );
    check(
        &[json!({"object": "error", "message": "too long", "type": "exceed_context_size_error"})],
        ErrorKind::Overflow,
    );
    let many: Vec<Value> = (0..=MOST_BLOCKS)
        .map(|index| call(json!(index), &format!("c{index}"), "bash", "{}"))
        .collect();
    check(&many, ErrorKind::Failed);
}

#[test]
fn model_4_what_is_unknown_is_ignored() {
    let (response, _) = assemble(&[
        json!({"object": "weather", "sky": "clear"}),
        json!({"choices": null, "usage": null}),
        json!({"choices": [{"index": 1, "delta": {"content": "another choice"}}]}),
        json!({"choices": [{"index": 0, "delta": null}]}),
        chunk(json!({"content": [{"type": "text", "text": "a"}, {"type": "thing"}], "mood": 1})),
        chunk(json!({"reasoning": {"odd": 1}, "audio": {}})),
        finish("stop"),
        done(),
    ]);
    assert_eq!(shown(&response.unwrap()), ["a"]);
}

#[test]
fn us_5_usage_is_estimated_where_none_is_reported() {
    let (response, heard) = assemble(&[
        chunk(json!({"reasoning": "1234"})),
        chunk(json!({"content": "12345"})),
        call(json!(0), "a", "bash", "{}"),
        finish("tool_calls"),
    ]);
    let usage = response.unwrap().usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (10, 4));
    assert_eq!(heard.last().unwrap(), "10+4");
}
