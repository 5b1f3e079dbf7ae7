use hyper::header::HeaderValue;
use serde_json::json;

use super::*;
use crate::model::check::tests::assert_found;

/// A well-formed request: one round of two calls, an image, a word of the operator.
fn request() -> Value {
    let call = |id: &str| {
        json!({"id": id, "type": "function",
            "function": {"name": "bash", "arguments": "{\"command\": \"ls\"}"}})
    };
    json!({
        "model": "m",
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 100,
        "tools": [{"type": "function",
            "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}],
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "List the files."},
            {"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]},
            {"role": "tool", "tool_call_id": "a", "content": "x"},
            {"role": "tool", "tool_call_id": "b", "content": "y"},
            {"role": "user", "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
            ]},
            {"role": "system", "content": "Be brief."},
        ],
    })
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer k"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers
}

#[track_caller]
fn expect(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut body = request();
    change(&mut body);
    assert_found(&check_chat(&headers(), &body), expected);
}

#[test]
fn a_good_request_passes() {
    expect(|_| {}, &[]);
    expect(
        |body| drop(body["messages"].as_array_mut().unwrap().remove(0)),
        &[],
    );
}

#[test]
fn ht_7_members() {
    expect(
        |body| body["temperature"] = json!(1),
        &["temperature: is not sent"],
    );
    expect(
        |body| body["thinking"] = json!({}),
        &["thinking: is not sent"],
    );
    expect(|body| body["stream"] = json!(false), &["stream: "]);
    expect(
        |body| body["stream_options"] = json!({}),
        &["include_usage"],
    );
    expect(|body| body["model"] = json!(""), &["model: "]);
    expect(
        |body| body["max_tokens"] = json!(0),
        &["max_tokens: must be"],
    );
    expect(
        |body| body["max_completion_tokens"] = json!(1),
        &["excludes"],
    );
    expect(
        |body| body["messages"][0]["cache_control"] = json!({"type": "ephemeral"}),
        &["cache_control: "],
    );
    expect(|body| *body = json!([]), &["body: "]);
}

#[test]
fn tools_are_functions() {
    expect(|body| body["tools"] = json!([]), &["not empty"]);
    expect(
        |body| body["tools"][0]["type"] = json!("x"),
        &["a function"],
    );
    expect(
        |body| body["tools"][0]["function"]["name"] = json!("a b"),
        &["must match"],
    );
    expect(
        |body| body["tools"][0]["function"]["parameters"] = json!({}),
        &["schema of type object"],
    );
}

#[test]
fn i3_every_call_is_answered_at_once() {
    expect(
        |body| drop(body["messages"].as_array_mut().unwrap().remove(4)),
        &["the call \"b\" has no tool message"],
    );
    expect(
        |body| body["messages"][4]["tool_call_id"] = json!("a"),
        &[
            "no open call has the id \"a\"",
            "the call \"b\" has no tool message",
        ],
    );
    expect(
        |body| body["messages"].as_array_mut().unwrap().truncate(3),
        &["must not end", "have no tool messages"],
    );
    expect(
        |body| body["messages"][2]["tool_calls"][0]["id"] = json!("b"),
        &[
            "present and unique",
            "no open call has the id \"a\"",
            "the call \"b\"",
        ],
    );
}

#[test]
fn roles_and_contents() {
    expect(
        |body| body["messages"] = json!([]),
        &["at least one message"],
    );
    expect(
        |body| body["messages"][0]["role"] = json!("judge"),
        &["the role must be"],
    );
    expect(
        |body| body["messages"][6]["role"] = json!("user"),
        &["two user messages"],
    );
    expect(
        |body| body["messages"][3]["content"] = json!(""),
        &["not blank"],
    );
    expect(
        |body| body["messages"][5]["content"] = json!([{"type": "text", "text": "x"}]),
        &["text alone"],
    );
    expect(
        |body| body["messages"][5]["content"][1]["type"] = json!("hologram"),
        &["not a legal part"],
    );
    let arguments = |text: &'static str| {
        move |body: &mut Value| {
            body["messages"][2]["tool_calls"][0]["function"]["arguments"] = json!(text);
        }
    };
    expect(arguments("ls"), &["the text of a JSON object"]);
    expect(arguments("[]"), &["the text of a JSON object"]);
    expect(
        |body| {
            body["messages"] = json!([{"role": "user", "content": "a"},
                {"role": "assistant", "content": null}, {"role": "user", "content": "b"}]);
        },
        &["content must be text"],
    );
}

#[test]
fn headers_are_required() {
    for (name, problem) in [
        ("authorization", "authentication: "),
        ("content-type", "content-type: "),
    ] {
        let mut headers = headers();
        headers.remove(name);
        let found = check_chat(&headers, &request());
        assert!(
            found.len() == 1 && found[0].starts_with(problem),
            "{found:?}"
        );
    }
}
