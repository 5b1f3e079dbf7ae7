//! A message as the frames of the public streaming form (pure).

use bytes::Bytes;
use serde_json::{Value, json};

use super::reply::{Block, Message};

/// One server-sent event: its name and its JSON on a single data line.
pub(super) fn frame(event: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {event}\ndata: {data}\n\n"))
}

/// The `error` event that may follow a 200, as the hosted API sends it.
pub(super) fn error_frame(kind: &str, message: &str) -> Bytes {
    let data = json!({"type": "error", "error": {"type": kind, "message": message}});
    frame("error", &data)
}

/// The error envelope of a refused request (api §26.1).
pub(super) fn error_body(kind: &str, message: &str, request_id: &str) -> Bytes {
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    });
    Bytes::from(body.to_string())
}

/// All frames of a complete message, `message_start` to `message_stop`.
pub(super) fn frames(message: &Message, id: &str, model: &str) -> Vec<Bytes> {
    let mut frames = vec![message_start(message, id, model)];
    for (index, block) in message.blocks.iter().enumerate() {
        frames.push(frame(
            "content_block_start",
            &json!({"type": "content_block_start", "index": index, "content_block": opening(block)}),
        ));
        if index == 0 {
            frames.push(frame("ping", &json!({"type": "ping"})));
        }
        for delta in deltas(block, message.pieces) {
            frames.push(frame(
                "content_block_delta",
                &json!({"type": "content_block_delta", "index": index, "delta": delta}),
            ));
        }
        frames.push(frame(
            "content_block_stop",
            &json!({"type": "content_block_stop", "index": index}),
        ));
    }
    frames.push(message_delta(message));
    frames.push(frame("message_stop", &json!({"type": "message_stop"})));
    frames
}

fn message_start(message: &Message, id: &str, model: &str) -> Bytes {
    let usage = &message.usage;
    frame(
        "message_start",
        &json!({
            "type": "message_start",
            "message": {
                "id": id,
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [],
                "stop_reason": null,
                "stop_sequence": null,
                "usage": {
                    "input_tokens": usage.input_tokens,
                    "cache_creation_input_tokens": usage.cache_creation_input_tokens,
                    "cache_read_input_tokens": usage.cache_read_input_tokens,
                    "output_tokens": 1,
                },
            },
        }),
    )
}

fn message_delta(message: &Message) -> Bytes {
    let usage = &message.usage;
    let mut delta = json!({"stop_reason": message.stop_reason(), "stop_sequence": null});
    if let Some(details) = &message.stop_details {
        delta["stop_details"] = details.clone();
    }
    frame(
        "message_delta",
        &json!({
            "type": "message_delta",
            "delta": delta,
            "usage": {
                "input_tokens": usage.input_tokens,
                "cache_creation_input_tokens": usage.cache_creation_input_tokens,
                "cache_read_input_tokens": usage.cache_read_input_tokens,
                "output_tokens": usage.output_tokens,
            },
        }),
    )
}

fn opening(block: &Block) -> Value {
    match block {
        Block::Text { .. } => json!({"type": "text", "text": ""}),
        Block::Thinking { .. } => json!({"type": "thinking", "thinking": "", "signature": ""}),
        Block::RedactedThinking { data } => json!({"type": "redacted_thinking", "data": data}),
        Block::ToolUse { id, name, .. } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": {}})
        }
    }
}

fn deltas(block: &Block, pieces: usize) -> Vec<Value> {
    match block {
        Block::Text { text } => split(text, pieces)
            .map(|text| json!({"type": "text_delta", "text": text}))
            .collect(),
        Block::Thinking {
            thinking,
            signature,
        } => split(thinking, pieces)
            .map(|thinking| json!({"type": "thinking_delta", "thinking": thinking}))
            .chain([json!({"type": "signature_delta", "signature": signature})])
            .collect(),
        Block::RedactedThinking { .. } => vec![],
        // The hosted API opens every tool input with an empty fragment.
        Block::ToolUse { input, .. } => std::iter::once("")
            .chain(split(input, pieces))
            .map(|json| json!({"type": "input_json_delta", "partial_json": json}))
            .collect(),
    }
}

/// Cuts `text` into at most `pieces` parts of about equal length, at character boundaries.
pub(super) fn split(text: &str, pieces: usize) -> impl Iterator<Item = &str> {
    let length = text.chars().count().div_ceil(pieces.max(1)).max(1);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .char_indices()
            .nth(length)
            .map_or(rest.len(), |(at, _)| at);
        let (part, tail) = rest.split_at(end);
        rest = tail;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_split(text: &str, pieces: usize, expected: &[&str]) {
        assert_eq!(split(text, pieces).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn splits_at_characters_and_loses_nothing() {
        check_split("", 3, &[]);
        check_split("hello", 1, &["hello"]);
        check_split("hello", 2, &["hel", "lo"]);
        check_split("hello", 9, &["h", "e", "l", "l", "o"]);
        check_split("äöü€", 2, &["äö", "ü€"]);
        check_split("ab", 0, &["ab"]);
    }
}
