//! A Messages request, as far as it is translated.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) model: Cow<'a, str>,
    pub(super) max_tokens: Option<u32>,
    #[serde(borrow)]
    pub(super) output_config: Option<Effort<'a>>,
    #[serde(borrow, default)]
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(borrow, default, deserialize_with = "blocks")]
    pub(super) system: Vec<Block<'a>>,
    #[serde(borrow)]
    pub(super) messages: Vec<Turn<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Effort<'a> {
    #[serde(borrow)]
    pub(super) effort: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct Tool<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) description: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) input_schema: &'a RawValue,
}

#[derive(Deserialize)]
pub(super) struct Turn<'a> {
    #[serde(borrow)]
    pub(super) role: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "blocks")]
    pub(super) content: Vec<Block<'a>>,
}

/// A content block of any kind: the members that some kind has.
#[derive(Default, Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_use_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "blocks")]
    pub(super) content: Vec<Block<'a>>,
    pub(super) is_error: Option<bool>,
    #[serde(borrow)]
    pub(super) source: Option<Source<'a>>,
    #[serde(borrow)]
    pub(super) title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) context: Option<Cow<'a, str>>,
}

impl Block<'_> {
    /// The text of a text block.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref().filter(|_| self.kind == "text")
    }
}

/// Where the bytes of a block are; of a search result, where it was found.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Source<'a> {
    Inline {
        #[serde(borrow)]
        data: Cow<'a, str>,
        #[serde(borrow)]
        media_type: Cow<'a, str>,
    },
    Url {
        #[serde(borrow)]
        url: Cow<'a, str>,
    },
    Name(#[serde(borrow)] Cow<'a, str>),
    /// A form that cannot be sent on.
    Other(serde::de::IgnoredAny),
}

/// A list of blocks, or the text that stands for a list of one.
fn blocks<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Block<'a>>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Vec<Block<'de>>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("text or a list of blocks")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![Block {
                kind: Cow::Borrowed("text"),
                text: Some(Cow::Owned(text.to_owned())),
                ..Block::default()
            }])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut blocks = Vec::new();
            while let Some(block) = list.next_element()? {
                blocks.push(block);
            }
            Ok(blocks)
        }
    }
    deserializer.deserialize_any(Either)
}
