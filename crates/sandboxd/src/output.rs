//! What a tool call gives back: Messages content blocks and whether it failed.

use serde::{Deserialize, Serialize};

/// One content block of a tool result; serialises exactly as the block of the same type in the Messages API
/// (runtime TL-4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Plain text.
    Text {
        /// The text; never empty in a finished [`Output`].
        text: String,
    },
    /// A picture, read from a file.
    Image {
        /// Where the bytes are.
        source: Source,
    },
    /// A PDF, read from a file.
    Document {
        /// Where the bytes are.
        source: Source,
    },
}

/// The bytes of an image or document block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// Inline, in standard base64 with padding.
    Base64 {
        /// For example `image/png` or `application/pdf`.
        media_type: String,
        /// The encoded bytes.
        data: String,
    },
}

/// The result of one tool call: at least one block (runtime TL-4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The blocks, in order.
    pub content: Vec<Block>,
    /// Whether the model should take this as a failure.
    pub is_error: bool,
}

/// What the model reads when a tool had nothing to say (runtime TL-4).
pub const NO_OUTPUT: &str = "(no output)";

impl Output {
    /// A success of one text block; empty text becomes [`NO_OUTPUT`].
    pub fn text(text: impl Into<String>) -> Self {
        Self::of_text(text.into(), false)
    }

    /// A failure of one text block; empty text becomes [`NO_OUTPUT`].
    pub fn error(text: impl Into<String>) -> Self {
        Self::of_text(text.into(), true)
    }

    /// A success of one block.
    pub fn block(block: Block) -> Self {
        Self {
            content: vec![block],
            is_error: false,
        }
    }

    fn of_text(text: String, is_error: bool) -> Self {
        let text = if text.is_empty() {
            NO_OUTPUT.to_owned()
        } else {
            text
        };
        Self {
            content: vec![Block::Text { text }],
            is_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tl_4_blocks_serialise_as_content_blocks() {
        #[track_caller]
        fn check(block: Block, expected: serde_json::Value) {
            assert_eq!(serde_json::to_value(&block).unwrap(), expected);
            assert_eq!(serde_json::from_value::<Block>(expected).unwrap(), block);
        }
        let source = |media_type: &str| Source::Base64 {
            media_type: media_type.into(),
            data: "aGk=".into(),
        };
        check(
            Block::Text { text: "hi".into() },
            json!({"type": "text", "text": "hi"}),
        );
        check(
            Block::Image {
                source: source("image/png"),
            },
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}),
        );
        check(
            Block::Document {
                source: source("application/pdf"),
            },
            json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}),
        );
    }

    #[test]
    fn tl_4_empty_output_is_named() {
        assert_eq!(Output::text(""), Output::text("(no output)"));
        assert!(Output::error("").is_error);
    }
}
