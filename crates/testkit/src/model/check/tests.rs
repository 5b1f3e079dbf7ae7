use hyper::header::HeaderValue;
use serde_json::json;

use super::*;

/// A well-formed request: one tool round, thinking kept, two cache marks.
fn request() -> Value {
    json!({
        "model": "claude-opus-5",
        "max_tokens": 1024,
        "stream": true,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "bash", "input_schema": {"type": "object", "properties": {}}}],
        "messages": [
            {"role": "user", "content": "List the files."},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "ls", "signature": "sig"},
                {"type": "tool_use", "id": "a", "name": "bash", "input": {"command": "ls"}},
                {"type": "tool_use", "id": "b", "name": "bash", "input": {"command": "pwd"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "x"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "/"}]},
                {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ]},
        ],
    })
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-api-key", "k"),
        ("anthropic-version", "2026-10-21"),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

#[track_caller]
fn expect(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut body = request();
    change(&mut body);
    assert_found(&check(&headers(), &body), expected);
}

/// Of each problem that is found, in order, it says what is expected.
#[track_caller]
pub(in crate::model) fn assert_found(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} is not {expected:?}");
    }
}

#[test]
fn a_good_request_passes() {
    expect(|_| {}, &[]);
}

#[test]
fn ht_7_sampling_and_assistant_documents() {
    expect(|body| body["temperature"] = json!(1), &["temperature: "]);
    expect(|body| body["top_p"] = json!(1), &["top_p: "]);
    expect(|body| body["top_k"] = json!(1), &["top_k: "]);
    expect(
        |body| body["messages"][1]["content"][0] = json!({"type": "document", "source": {}}),
        &["messages.1.content.0: block type \"document\""],
    );
}

#[test]
fn top_level_members() {
    expect(|body| body["stream"] = json!(false), &["stream: "]);
    expect(|body| body["max_tokens"] = json!(0), &["max_tokens: "]);
    expect(|body| body["model"] = json!(""), &["model: "]);
    expect(|body| body["colour"] = json!(""), &["colour: Extra"]);
    expect(|body| body["system"] = json!(""), &["system: text"]);
    expect(|body| body["system"] = json!([]), &["system: content"]);
    expect(|body| body["messages"] = json!([]), &["messages: at least"]);
    expect(|body| *body = json!([]), &["body: "]);
}

#[test]
fn tools_have_unique_names_and_schemas() {
    expect(
        |body| body["tools"][0]["name"] = json!("a b"),
        &["tools.0.name: must match"],
    );
    expect(
        |body| {
            let twin = body["tools"][0].clone();
            body["tools"].as_array_mut().unwrap().push(twin);
        },
        &["tools.1.name: must be unique"],
    );
    expect(
        |body| body["tools"][0]["input_schema"] = json!({}),
        &["tools.0.input_schema"],
    );
}

#[test]
fn i3_every_tool_use_is_answered_in_the_next_turn() {
    let content = |body: &mut Value| body["messages"][2]["content"].take();
    expect(
        |body| {
            let mut blocks = content(body);
            blocks.as_array_mut().unwrap().remove(1);
            body["messages"][2]["content"] = blocks;
        },
        &["\"b\" has no `tool_result`"],
    );
    expect(
        |body| {
            let mut blocks = content(body);
            blocks.as_array_mut().unwrap().swap(0, 2);
            body["messages"][2]["content"] = blocks;
        },
        &["must come first", "must come first"],
    );
    expect(
        |body| body["messages"][2]["content"][1]["tool_use_id"] = json!("a"),
        &["more than one", "\"b\" has no `tool_result`"],
    );
    expect(
        |body| body["messages"][2]["content"][1]["tool_use_id"] = json!("c"),
        &[
            "unexpected `tool_use_id` \"c\"",
            "\"b\" has no `tool_result`",
        ],
    );
    expect(
        |body| body["messages"][1]["content"][2]["id"] = json!("a"),
        &[
            "ids must be present and unique",
            "unexpected `tool_use_id` \"b\"",
        ],
    );
    expect(
        |body| {
            body["messages"].as_array_mut().unwrap().pop();
        },
        &["must end with a user message", "no `tool_result`"],
    );
}

#[test]
fn roles_and_blocks() {
    expect(
        |body| body["messages"][0]["role"] = json!("assistant"),
        &["first message"],
    );
    expect(
        |body| body["messages"][0]["role"] = json!("tool"),
        &["first message", "must be user"],
    );
    expect(
        |body| body["messages"][0]["content"] = json!([]),
        &["content must be non-empty"],
    );
    expect(
        |body| body["messages"][2]["content"][2] = json!({"type": "text", "text": " "}),
        &["non-whitespace"],
    );
    expect(
        |body| body["messages"][2]["content"][0]["content"] = json!([]),
        &["messages.2.content.0.content: content must be non-empty"],
    );
    expect(
        |body| body["messages"][2]["content"][2] = json!({"type": "hologram"}),
        &["block type \"hologram\""],
    );
    expect(
        |body| body["messages"][1]["content"][0]["signature"] = json!(""),
        &["thinking and signature"],
    );
    expect(
        |body| body["messages"][1]["content"][1]["input"] = json!("ls"),
        &["an input object"],
    );
}

#[test]
fn se_10_system_messages_stand_behind_user_turns() {
    let told = json!({"role": "system", "content": [{"type": "text", "text": "Be brief."}]});
    let insert = |at: usize, turn: Value| {
        move |body: &mut Value| body["messages"].as_array_mut().unwrap().insert(at, turn)
    };
    expect(insert(1, told.clone()), &[]);
    expect(insert(3, told.clone()), &[]);
    let misplaced = "goes behind a user message";
    expect(insert(0, told.clone()), &["first message", misplaced]);
    expect(
        insert(2, told.clone()),
        &["must not stand between", misplaced],
    );
    let two = |body: &mut Value| {
        insert(3, told.clone())(body);
        insert(4, told.clone())(body);
    };
    expect(two, &[misplaced, misplaced]);
    let mut with_image = told.clone();
    with_image["content"][0] = json!({"type": "image", "source": {}});
    expect(insert(3, with_image), &["block type \"image\""]);
}

#[test]
fn cache_marks() {
    let mark = json!({"type": "ephemeral"});
    expect(
        |body| body["messages"][1]["content"][0]["cache_control"] = mark.clone(),
        &["cannot carry cache_control"],
    );
    expect(
        |body| body["messages"][2]["content"][2]["cache_control"]["ttl"] = json!("2h"),
        &["for 5m or 1h"],
    );
    expect(
        |body| {
            body["tools"][0]["cache_control"] = mark.clone();
            body["messages"][2]["content"][0]["cache_control"] = mark.clone();
            body["messages"][2]["content"][1]["cache_control"] = mark.clone();
        },
        &["at most 4 marks, got 5"],
    );
}

#[test]
fn headers_are_required() {
    for (name, problem) in [
        ("x-api-key", "authentication: "),
        ("anthropic-version", "anthropic-version: "),
        ("content-type", "content-type: "),
    ] {
        let mut headers = headers();
        headers.remove(name);
        let found = check(&headers, &request());
        assert!(
            found.len() == 1 && found[0].starts_with(problem),
            "{found:?}"
        );
    }
    let mut headers = headers();
    headers.remove("x-api-key");
    headers.insert("authorization", HeaderValue::from_static("Bearer k"));
    assert!(check(&headers, &request()).is_empty());
}
