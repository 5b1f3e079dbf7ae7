//! What a tool answered, as content for a model.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manyhands_protocol::content::{ContentBlock, Source};
use rmcp::model::{self, ResourceContents};
use serde_json::Value;

use crate::Output;

/// The pictures that models take, and the largest, in bytes.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const LARGEST: usize = 5 << 20;
/// Blocks that are shown; of the others their number is said.
const BLOCKS: usize = 500;

/// The content of a call's result.
pub(crate) fn output(mut result: Value) -> Output {
    let is_error = result
        .get("isError")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let listed = match result.get_mut("content").map(Value::take) {
        Some(Value::Array(listed)) => listed,
        _ => Vec::new(),
    };
    let more = listed.len().saturating_sub(BLOCKS);
    let mut content: Vec<ContentBlock> =
        listed.into_iter().take(BLOCKS).filter_map(block).collect();
    if more > 0 {
        content.push(ContentBlock::text(format!(
            "[{more} more blocks are not shown]"
        )));
    }
    if content.is_empty() {
        let structured = result
            .get("structuredContent")
            .filter(|value| !value.is_null());
        let text = structured.map_or_else(|| "(no output)".to_owned(), Value::to_string);
        content.push(ContentBlock::text(text));
    }
    Output { content, is_error }
}

/// A failure that the server tells in words.
pub(crate) fn error(text: String) -> Output {
    Output {
        content: vec![ContentBlock::text(text)],
        is_error: true,
    }
}

/// `None` for a block without content.
fn block(listed: Value) -> Option<ContentBlock> {
    let kind = listed
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind: String = kind.chars().take(40).collect();
    let Ok(block) = serde_json::from_value::<model::ContentBlock>(listed) else {
        return Some(note(format!(
            "content of type {kind:?} that cannot be shown"
        )));
    };
    match block {
        model::ContentBlock::Text(text) => {
            (!text.text.trim().is_empty()).then(|| ContentBlock::text(text.text))
        }
        model::ContentBlock::Image(image) => Some(picture(&image.mime_type, image.data)),
        model::ContentBlock::Audio(audio) => Some(note(format!(
            "audio, {}, {} bytes: it cannot be shown",
            audio.mime_type,
            size(&audio.data)
        ))),
        model::ContentBlock::Resource(embedded) => Some(resource(embedded.resource)),
        model::ContentBlock::ResourceLink(link) => Some(note(linked(&link))),
        _ => Some(note(format!(
            "content of type {kind:?} that cannot be shown"
        ))),
    }
}

fn picture(media_type: &str, data: String) -> ContentBlock {
    let media_type = media_type.to_ascii_lowercase();
    let length = size(&data);
    if !PICTURES.contains(&media_type.as_str()) || length > LARGEST {
        return note(format!(
            "a picture, {media_type}, {length} bytes: it cannot be shown"
        ));
    }
    // A model's endpoint would refuse the whole request.
    if data.is_empty() || BASE64_STANDARD.decode(&data).is_err() {
        return note("a picture whose bytes cannot be read".to_owned());
    }
    ContentBlock::Image {
        source: Source::Base64 { data, media_type },
    }
}

fn resource(contents: ResourceContents) -> ContentBlock {
    match contents {
        ResourceContents::TextResourceContents { uri, text, .. } => {
            ContentBlock::text(format!("[resource {uri}]\n{text}"))
        }
        ResourceContents::BlobResourceContents {
            uri,
            mime_type,
            blob,
            ..
        } => {
            let media_type = mime_type.unwrap_or_else(|| "application/octet-stream".to_owned());
            if PICTURES.contains(&media_type.to_ascii_lowercase().as_str()) {
                return picture(&media_type, blob);
            }
            note(format!(
                "resource {uri}, {media_type}, {} bytes: it cannot be shown",
                size(&blob)
            ))
        }
        _ => note("a resource that cannot be shown".to_owned()),
    }
}

fn linked(link: &model::Resource) -> String {
    let mut text = format!(
        "link to {} ({})",
        link.uri,
        link.title.as_ref().unwrap_or(&link.name)
    );
    for part in [&link.mime_type, &link.description].into_iter().flatten() {
        text.push_str(", ");
        text.push_str(part);
    }
    text
}

fn note(text: String) -> ContentBlock {
    ContentBlock::text(format!("[{text}]"))
}

/// Of what base 64 stands for, in bytes, about.
fn size(data: &str) -> usize {
    data.len() / 4 * 3
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(result: Value, expected: &[ContentBlock]) {
        let found = output(result);
        assert_eq!(found.content, expected);
        assert!(!found.is_error);
    }

    fn text(text: &str) -> ContentBlock {
        ContentBlock::text(text)
    }

    /// runtime MC-9
    #[test]
    fn mc_9_what_a_tool_answers_becomes_content() {
        let one = |block: Value| json!({"content": [block]});
        check(
            one(json!({"type": "text", "text": "hi", "annotations": {"priority": 1}})),
            &[text("hi")],
        );
        let image = ContentBlock::Image {
            source: Source::Base64 {
                data: "aGk=".to_owned(),
                media_type: "image/png".to_owned(),
            },
        };
        check(
            one(json!({"type": "image", "data": "aGk=", "mimeType": "image/PNG"})),
            std::slice::from_ref(&image),
        );
        let blob = json!({"type": "resource", "resource": {"uri": "a:b", "mimeType": "image/png", "blob": "aGk="}});
        check(one(blob), &[image]);
        for (block, note) in [
            (
                json!({"type": "image", "data": "aGk=", "mimeType": "image/tiff"}),
                "[a picture, image/tiff, 3 bytes: it cannot be shown]",
            ),
            (
                json!({"type": "image", "data": "a\n", "mimeType": "image/png"}),
                "[a picture whose bytes cannot be read]",
            ),
            (
                json!({"type": "image", "data": "", "mimeType": "image/png"}),
                "[a picture whose bytes cannot be read]",
            ),
            (
                json!({"type": "audio", "data": "aGkh", "mimeType": "audio/wav"}),
                "[audio, audio/wav, 3 bytes: it cannot be shown]",
            ),
            (
                json!({"type": "resource", "resource": {"uri": "a:b", "text": "hi"}}),
                "[resource a:b]\nhi",
            ),
            (
                json!({"type": "resource", "resource": {"uri": "a:b", "blob": "aGkh"}}),
                "[resource a:b, application/octet-stream, 3 bytes: it cannot be shown]",
            ),
            (
                json!({"type": "resource_link", "uri": "a:b", "name": "n", "description": "d"}),
                "[link to a:b (n), d]",
            ),
            (
                json!({"type": "dance"}),
                "[content of type \"dance\" that cannot be shown]",
            ),
            (
                json!({"type": "text"}),
                "[content of type \"text\" that cannot be shown]",
            ),
            (json!(7), "[content of type \"\" that cannot be shown]"),
        ] {
            check(one(block), &[text(note)]);
        }
        let large = json!({"type": "image", "data": "aaaa".repeat(LARGEST / 3 + 1), "mimeType": "image/png"});
        let Output { content, .. } = output(one(large));
        assert!(
            matches!(&content[..], [ContentBlock::Text { text }] if text.contains("cannot be shown"))
        );
    }

    #[test]
    fn an_answer_is_never_empty() {
        check(json!({}), &[text("(no output)")]);
        check(
            json!({"content": [], "structuredContent": null}),
            &[text("(no output)")],
        );
        check(
            json!({"content": [{"type": "text", "text": " \n"}], "structuredContent": {"a": 1}}),
            &[text("{\"a\":1}")],
        );
        check(
            json!({"content": [{"type": "text", "text": "x"}], "structuredContent": {"a": 1}}),
            &[text("x")],
        );
        let failed = output(json!({"content": [{"type": "text", "text": "x"}], "isError": true}));
        assert!(failed.is_error);
        let blocks = vec![json!({"type": "text", "text": "x"}); BLOCKS + 2];
        let many = output(json!({ "content": blocks })).content;
        assert_eq!(
            (many.len(), many.last()),
            (BLOCKS + 1, Some(&text("[2 more blocks are not shown]")))
        );
    }
}
