use serde_json::{Value, json};

use super::*;

fn body(messages: Value) -> Value {
    json!({"model": "m", "max_tokens": 100, "stream": true, "messages": messages})
}

fn translated(body: &Value, dialect: Dialect) -> Value {
    let translated = translate(body.to_string().as_bytes(), dialect).unwrap();
    serde_json::from_slice(&translated.body).unwrap()
}

#[track_caller]
fn check(messages: Value, expected: Value) {
    let found = translated(&body(messages), Dialect::default());
    assert_eq!(found["messages"], expected, "{:#}", found["messages"]);
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn image(data: &str) -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
}

fn image_part(data: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}})
}

#[test]
fn ht_7_a_request_has_these_members_and_no_others() {
    let mut all = body(json!([{"role": "user", "content": [text("hi")]}]));
    all["system"] = json!([text("Be kind."), {"type": "text", "text": "Note.", "cache_control": {"type": "ephemeral"}}]);
    all["thinking"] = json!({"type": "adaptive"});
    all["output_config"] = json!({"effort": "max"});
    let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
    all["tools"] = json!([{"name": "bash", "description": "Runs.", "input_schema": schema,
        "cache_control": {"type": "ephemeral"}}]);
    let messages = json!([
        {"role": "system", "content": "Be kind.\n\nNote."},
        {"role": "user", "content": "hi"},
    ]);
    let tools = json!([{"type": "function",
        "function": {"name": "bash", "description": "Runs.", "parameters": schema}}]);
    let usage = json!({"include_usage": true});
    assert_eq!(
        translated(&all, Dialect::default()),
        json!({"model": "m", "stream": true, "stream_options": usage, "tools": tools, "messages": messages})
    );
    let dialect = Dialect {
        output_limit: Some(OutputLimit::MaxTokens),
        effort: true,
    };
    assert_eq!(
        translated(&all, dialect),
        json!({"model": "m", "stream": true, "stream_options": usage, "tools": tools, "messages": messages,
            "max_tokens": 100, "reasoning_effort": "xhigh"})
    );
    all["output_config"].take();
    let dialect = Dialect {
        output_limit: Some(OutputLimit::MaxCompletionTokens),
        effort: true,
    };
    assert_eq!(
        translated(&all, dialect),
        json!({"model": "m", "stream": true, "stream_options": usage, "tools": tools, "messages": messages,
            "max_completion_tokens": 100, "reasoning_effort": "high"})
    );
}

#[test]
fn what_a_user_sends_keeps_its_place() {
    check(
        json!([{"role": "user", "content": "plain"}]),
        json!([{"role": "user", "content": "plain"}]),
    );
    check(
        json!([{"role": "user", "content": [text("a"), text("b")]}]),
        json!([{"role": "user", "content": "a\n\nb"}]),
    );
    check(
        json!([{"role": "user", "content": [text("look"), image("QUJD"),
            {"type": "image", "source": {"type": "url", "url": "https://x.example/i.png"}}]}]),
        json!([{"role": "user", "content": [text("look"), image_part("QUJD"),
            {"type": "image_url", "image_url": {"url": "https://x.example/i.png"}}]}]),
    );
    check(
        json!([{"role": "user", "content": [
            {"type": "document", "title": "Notes", "context": "Old.",
                "source": {"type": "text", "media_type": "text/plain", "data": "one"}},
            {"type": "search_result", "source": "https://x.example", "title": "Hit",
                "content": [text("two")], "citations": {"enabled": true}},
        ]}]),
        json!([{"role": "user", "content":
            "Document: Notes\nOld.\n\none\n\nSearch result from https://x.example: Hit\n\ntwo"}]),
    );
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBE"});
    let file = |name: &str| {
        json!({"type": "file",
            "file": {"filename": name, "file_data": "data:application/pdf;base64,JVBE"}})
    };
    check(
        json!([{"role": "user", "content": [
            {"type": "document", "source": pdf, "title": "a.pdf"}, {"type": "document", "source": pdf},
        ]}]),
        json!([{"role": "user", "content": [file("a.pdf"), file("document.pdf")]}]),
    );
}

#[test]
fn calls_and_results_become_calls_and_tool_messages() {
    let call = r#"{"role":"assistant","content":[
        {"type":"thinking","thinking":"Hm.","signature":"s"},
        {"type":"text","text":"I look. "},{"type":"text","text":"Now."},
        {"type":"tool_use","id":"a","name":"bash","input":{"b" : 1e2,"a":"\u00e9"}},
        {"type":"tool_use","id":"b","name":"read","input":{}}]}"#;
    let call: Box<serde_json::value::RawValue> = serde_json::from_str(call).unwrap();
    let results = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "a", "content": [text("x"), text("y")]},
        {"type": "tool_result", "tool_use_id": "b", "is_error": true, "content": "no such file"},
        text("And?"),
    ]});
    let request = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"go"}},{call},{results}]}}"#
    );
    let translated = translate(request.as_bytes(), Dialect::default()).unwrap();
    let found: Value = serde_json::from_slice(&translated.body).unwrap();
    let function = |name: &str, arguments: &str| json!({"name": name, "arguments": arguments});
    assert_eq!(
        found["messages"],
        json!([
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "I look. Now.", "tool_calls": [
                {"id": "a", "type": "function", "function": function("bash", r#"{"b" : 1e2,"a":"\u00e9"}"#)},
                {"id": "b", "type": "function", "function": function("read", "{}")},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": "x\ny"},
            {"role": "tool", "tool_call_id": "b", "content": "The tool reports an error:\nno such file"},
            {"role": "user", "content": "And?"},
        ])
    );
    assert_eq!(translated.call_ids.len(), 2);
}

#[test]
fn a_turn_of_calls_alone_has_no_text_and_one_of_nothing_an_empty_one() {
    check(
        json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "t", "input": {}}]}]),
        json!([{"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "t", "arguments": "{}"}}]}]),
    );
    check(
        json!([{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}]),
        json!([{"role": "assistant", "content": ""}]),
    );
}

#[test]
fn tl_4_images_of_results_follow_in_a_message_of_the_user() {
    check(
        json!([{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [text("seen"), image("QQ==")]},
            {"type": "tool_result", "tool_use_id": "b", "content": [image("Qg==")]},
            {"type": "tool_result", "tool_use_id": "c", "content": []},
            text("Well?"),
        ]}]),
        json!([
            {"role": "tool", "tool_call_id": "a", "content": "seen\n(attached to the message that follows)"},
            {"role": "tool", "tool_call_id": "b", "content": "(attached to the message that follows)"},
            {"role": "tool", "tool_call_id": "c", "content": "(no output)"},
            {"role": "user", "content": [
                text("From the result of a:"), image_part("QQ=="),
                text("From the result of b:"), image_part("Qg=="),
                text("Well?"),
            ]},
        ]),
    );
    let request = body(json!([{"role": "user", "content": [image("QUJD")]}]));
    let translated = translate(request.to_string().as_bytes(), Dialect::default()).unwrap();
    assert_eq!(translated.attached, 4);
}

#[test]
fn se_9_system_messages_stay_in_their_place() {
    check(
        json!([
            {"role": "user", "content": "a"},
            {"role": "system", "content": [text("Be"), text("brief.")]},
            {"role": "assistant", "content": "b"},
        ]),
        json!([
            {"role": "user", "content": "a"},
            {"role": "system", "content": "Be\n\nbrief."},
            {"role": "assistant", "content": "b"},
        ]),
    );
}

#[test]
fn what_has_no_form_is_refused_by_name() {
    #[track_caller]
    fn check(messages: Value, problem: &str) {
        let request = body(messages).to_string();
        let error = translate(request.as_bytes(), Dialect::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
        assert!(error.message.contains(problem), "{}", error.message);
    }
    check(
        json!([{"role": "user", "content": [{"type": "hologram"}]}]),
        "hologram",
    );
    check(
        json!([{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]),
        "image",
    );
    check(json!([{"role": "judge", "content": "x"}]), "judge");
    check(json!("none"), "not of the expected form");
}
