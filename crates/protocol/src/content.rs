//! Content blocks of messages and tool results (api §10.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One block of content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        source: Source,
    },
    /// A document: PDF or plain text.
    Document {
        /// Where its bytes are.
        source: Source,
        /// A title for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// Context for the model that is not part of the document.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// One result of a search.
    SearchResult {
        /// Where it was found.
        source: String,
        /// Its title.
        title: String,
        /// Its text blocks.
        content: Vec<SearchResultText>,
        /// Whether the model may cite it.
        #[serde(default)]
        citations: Citations,
    },
    /// Content that is withheld. Never accepted from a client (runtime SE-12).
    Redacted,
}

impl ContentBlock {
    /// A text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// Where the bytes of an image or a document are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// In the block.
    Base64 {
        /// Base64 of the bytes.
        data: String,
        /// Their media type.
        media_type: String,
    },
    /// Plain text in the block (documents only).
    Text {
        /// The text.
        data: String,
        /// `text/plain`.
        media_type: String,
    },
    /// Behind a URL.
    Url {
        /// The URL.
        url: String,
    },
    /// In an uploaded file.
    File {
        /// The file's id.
        file_id: String,
    },
}

/// A text block inside a search result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SearchResultText {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
}

/// Whether a search result may be cited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Citations {
    /// Whether citations are on.
    pub enabled: bool,
}
