//! The stream events of the Messages API, as far as they are read.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::models::raw_json;

/// The members of a JSON object in the order and bytes they came in.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    pub(super) fn raw(&self, name: &str) -> Option<&RawValue> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, raw)| &**raw)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// The object with these members (names in plain ASCII, values JSON) replaced, or added at its end.
    pub(super) fn with(&self, parts: &[(&str, String)]) -> Box<RawValue> {
        let replaced = |key: &str| parts.iter().find(|(name, _)| *name == key);
        let kept = self.0.iter().map(|(key, raw)| {
            let value = replaced(key).map_or(raw.get(), |(_, value)| value);
            format!("{}:{value}", serde_json::Value::from(key.as_str()))
        });
        let added = parts.iter().filter(|(name, _)| self.raw(name).is_none());
        let added = added.map(|(name, value)| format!("\"{name}\":{value}"));
        let members: Vec<String> = kept.chain(added).collect();
        raw_json(format!("{{{}}}", members.join(",")))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[derive(Deserialize)]
pub(super) struct Kind<'a> {
    #[serde(rename = "type", borrow, default)]
    pub(super) kind: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct MessageStart {
    pub(super) message: StartedMessage,
}

#[derive(Deserialize)]
pub(super) struct StartedMessage {
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) model: String,
    pub(super) usage: Option<WireUsage>,
}

#[derive(Deserialize)]
pub(super) struct BlockStart {
    pub(super) index: usize,
    pub(super) content_block: Members,
}

#[derive(Deserialize)]
pub(super) struct BlockDelta {
    pub(super) index: usize,
    pub(super) delta: BlockChange,
}

#[derive(Deserialize)]
pub(super) struct BlockChange {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) partial_json: Option<String>,
    pub(super) citation: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct BlockStop {
    pub(super) index: usize,
}

#[derive(Deserialize)]
pub(super) struct MessageDelta {
    pub(super) delta: StopDelta,
    pub(super) usage: Option<WireUsage>,
}

#[derive(Deserialize)]
pub(super) struct StopDelta {
    pub(super) stop_reason: Option<String>,
    pub(super) stop_details: Option<StopDetails>,
}

#[derive(Default, Deserialize)]
pub(super) struct StopDetails {
    pub(super) category: Option<String>,
    pub(super) explanation: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct WireUsage {
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) cache_read_input_tokens: Option<u64>,
    pub(super) cache_creation_input_tokens: Option<u64>,
    pub(super) cache_creation: Option<CacheParts>,
}

#[derive(Deserialize)]
pub(super) struct CacheParts {
    pub(super) ephemeral_1h_input_tokens: Option<u64>,
}
