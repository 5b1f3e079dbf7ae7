//! A message as the chunks of a streamed chat completion (pure).

use bytes::Bytes;
use serde_json::{Value, json};

use super::reply::{Block, Message};
use super::wire::split;

/// The chunk with the reason to stop, the chunk with the usage, and the word that all is said.
pub(super) const CLOSING_FRAMES: usize = 3;

/// One server-sent event.
pub(super) fn frame(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// The error that may take the place of a chunk.
pub(super) fn error_frame(kind: &str, message: &str) -> Bytes {
    frame(&error(kind, message))
}

/// The body of a refused request.
pub(super) fn error_body(kind: &str, message: &str) -> Bytes {
    Bytes::from(error(kind, message).to_string())
}

fn error(kind: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}

/// Whether a frame holds something the model says: not the opening chunk, which only names the role.
pub(super) fn is_token(frame: &[u8]) -> bool {
    let text = String::from_utf8_lossy(frame);
    text.contains(r#""delta":{"#) && !text.contains(r#""role":"#)
}

/// All frames of a complete message, the opening chunk to `[DONE]`.
pub(super) fn frames(message: &Message, id: &str, model: &str) -> Vec<Bytes> {
    let chunk = |delta: Value, finish: Option<&str>| {
        frame(&json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }))
    };
    let opening = chunk(json!({"role": "assistant", "content": ""}), None);
    // Gateways keep the connection awake with comments.
    let mut frames = vec![opening, Bytes::from_static(b": keep-alive\n\n")];
    let mut calls = 0;
    for block in &message.blocks {
        for delta in deltas(block, message.pieces, calls) {
            frames.push(chunk(delta, None));
        }
        calls += usize::from(matches!(block, Block::ToolUse { .. }));
    }
    frames.push(chunk(json!({}), Some(finish_reason(message.stop_reason()))));
    let usage = &message.usage;
    let prompt =
        usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens;
    frames.push(frame(&json!({
        "id": id,
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": usage.output_tokens,
            "total_tokens": prompt + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_input_tokens},
        },
    })));
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    frames
}

/// The reasons of the Messages API in this form's words; any other goes as it is.
fn finish_reason(reason: &str) -> &str {
    match reason {
        "end_turn" => "stop",
        "tool_use" => "tool_calls",
        "max_tokens" => "length",
        "refusal" => "content_filter",
        other => other,
    }
}

fn deltas(block: &Block, pieces: usize, calls: usize) -> Vec<Value> {
    match block {
        Block::Text { text } => split(text, pieces)
            .map(|text| json!({"content": text}))
            .collect(),
        Block::Thinking { thinking, .. } => split(thinking, pieces)
            .map(|thinking| json!({"reasoning_content": thinking}))
            .collect(),
        Block::RedactedThinking { .. } => vec![],
        Block::ToolUse { id, name, input } => {
            let opening = json!({"tool_calls": [{"index": calls, "id": id, "type": "function",
                "function": {"name": name, "arguments": ""}}]});
            let pieces = split(input, pieces).map(
                |text| json!({"tool_calls": [{"index": calls, "function": {"arguments": text}}]}),
            );
            std::iter::once(opening).chain(pieces).collect()
        }
    }
}
