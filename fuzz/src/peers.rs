//! What MCP servers and pages of the web send (security INP-1).

use manyhands_protocol::content::{ContentBlock, Source};
use serde_json::Value;
use url::Url;

use crate::{is_one_line, pieces, sse, text, wait};
use manyhands_mcp::fuzzing;

/// A stream is read as another reader reads it, however its bytes come.
pub(crate) fn stream(bytes: &[u8]) {
    let (pieces, whole) = pieces(bytes);
    let pieces = pieces.into_iter().map(<[u8]>::to_vec).collect();
    let (data, complete) = wait(fuzzing::events(pieces, 1 << 20, 1 << 20));
    let at_once = wait(fuzzing::events(vec![whole.to_vec()], 1 << 20, 1 << 20));
    assert_eq!((&data, complete), (&at_once.0, at_once.1), "in one piece");
    if let Some(expected) = sse::read(whole) {
        let expected: Vec<String> = expected.into_iter().map(|event| event.data).collect();
        assert!(complete, "it is text");
        let data: Vec<String> = data.into_iter().flatten().collect();
        assert_eq!(data, expected);
    }
    let (some, _) = wait(fuzzing::events(vec![whole.to_vec()], 16, 64));
    assert!(at_once.0.starts_with(&some));
}

/// Messages are bounded in number.
pub(crate) fn message(bytes: &[u8]) {
    if let Some(count) = fuzzing::messages(bytes) {
        assert!(count <= 1_000);
    }
}

/// A result is content that a model may be shown: never empty, of kinds that are taken, pictures of a legal size.
pub(crate) fn result(bytes: &[u8]) {
    let Ok(result) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let output = fuzzing::output(result);
    assert!((1..=501).contains(&output.content.len()));
    for block in &output.content {
        match block {
            ContentBlock::Text { .. } => {}
            ContentBlock::Image { source, .. } => {
                let Source::Base64 { media_type, data } = source else {
                    panic!("a picture comes with its bytes");
                };
                assert!(media_type.starts_with("image/") && data.len() <= 7 << 20);
            }
            other => panic!("{other:?} is nothing that a tool gives"),
        }
    }
}

/// Tools that are offered have names of their own, of a legal form, and the headers that they want can be sent.
pub(crate) fn tools(bytes: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let input = document.as_object().cloned().unwrap_or_default();
    let Some((mut names, _)) = fuzzing::page(document, &input) else {
        return;
    };
    let count = names.len();
    for name in &names {
        assert!(
            (1..=128).contains(&name.len()) && is_one_line(name),
            "{name}"
        );
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each name once");
}

/// A page is read, or refused, in a time that its length bounds.
pub(crate) fn page(bytes: &[u8]) {
    let Some(html) = text(bytes) else { return };
    let url = Url::parse("https://example.com/a/page").expect("a URL");
    if let Some((_, read)) = manyhands_hands::fuzzing::page(html, &url) {
        // Markdown writes a character as a few, and links with the page's address.
        assert!(
            read.len() <= 64 * html.len() + 1024,
            "{} of {}",
            read.len(),
            html.len()
        );
    }
}
