//! Content blocks of clients' events, checked one by one (api §10.1, runtime SE-8, SE-12, SE-13). Pure.

use manyhands_protocol::FileId;
use manyhands_protocol::content::{ContentBlock, Source};
use serde_json::Value;
use url::Url;

use crate::api::error::ApiError;
use crate::api::json;

const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";
const PLAIN: &str = "text/plain";
/// The longest URL, in bytes.
const LONGEST: usize = 2048;

/// Where content stands, which says what it may hold.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// `user.message`: text, images, documents.
    Message,
    /// `system.message`: text.
    System,
    /// A tool's result: also search results.
    ToolResult,
}

/// The `content` of the event `at`, every block checked.
pub(super) fn content(
    blocks: &[Value],
    at: &str,
    place: Place,
) -> Result<Vec<ContentBlock>, ApiError> {
    let numbered = blocks.iter().enumerate();
    let read_one = |(index, block)| {
        let at = format!("{at}.content[{index}]");
        let block: ContentBlock = json::entry(block, &at)?;
        check(&block, &at, place).map(|()| block)
    };
    numbered.map(read_one).collect()
}

fn check(block: &ContentBlock, at: &str, place: Place) -> Result<(), ApiError> {
    match block {
        ContentBlock::Text { text } if text.trim().is_empty() => {
            Err(ApiError::field(format!("{at}.text"), "must not be empty"))
        }
        ContentBlock::Text { .. } => Ok(()),
        ContentBlock::Redacted => Err(ApiError::field(
            format!("{at}.type"),
            "clients cannot send redacted blocks",
        )),
        _ if place == Place::System => Err(ApiError::field(
            format!("{at}.type"),
            "a system message holds text blocks",
        )),
        ContentBlock::Image { source } => check_source(source, at, &IMAGES, false),
        ContentBlock::Document { source, .. } => check_source(source, at, &[PDF], true),
        ContentBlock::SearchResult { .. } if place == Place::ToolResult => Ok(()),
        ContentBlock::SearchResult { .. } => Err(ApiError::field(
            format!("{at}.type"),
            "a message holds text, image and document blocks",
        )),
    }
}

fn check_source(
    source: &Source,
    at: &str,
    media_types: &[&str],
    text: bool,
) -> Result<(), ApiError> {
    let at = format!("{at}.source");
    match source {
        Source::Base64 { data, media_type } => {
            if !media_types.contains(&media_type.as_str()) {
                let problem = format!("{media_type:?} is not one of {}", media_types.join(", "));
                return Err(ApiError::field(format!("{at}.media_type"), problem));
            }
            let decoded = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, data);
            if decoded.is_ok_and(|bytes| !bytes.is_empty()) {
                return Ok(());
            }
            Err(ApiError::field(
                format!("{at}.data"),
                "is not base64 of some bytes",
            ))
        }
        Source::Text { data, media_type } if text => {
            if media_type != PLAIN {
                return Err(ApiError::field(
                    format!("{at}.media_type"),
                    format!("expected {PLAIN:?}"),
                ));
            }
            if data.trim().is_empty() {
                return Err(ApiError::field(format!("{at}.data"), "must not be empty"));
            }
            Ok(())
        }
        Source::Text { .. } => Err(ApiError::field(
            format!("{at}.type"),
            "an image has no text source",
        )),
        // What is there is looked at when it is fetched.
        Source::Url { url } if url.len() > LONGEST => Err(ApiError::field(
            format!("{at}.url"),
            format!("has more than {LONGEST} bytes"),
        )),
        Source::Url { url } => match Url::parse(url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
            _ => Err(ApiError::field(
                format!("{at}.url"),
                "expected an http or https URL",
            )),
        },
        Source::File { file_id } => match FileId::parse(file_id) {
            Ok(_) => Ok(()),
            Err(problem) => Err(ApiError::field(
                format!("{at}.file_id"),
                problem.to_string(),
            )),
        },
    }
}
