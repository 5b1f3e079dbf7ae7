//! Models: how an agent names one (api §4.5), and the models list (api §22).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::shorthand::{text_or_object, text_or_object_schema};
use crate::{Timestamp, tag};

/// How hard the model should think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EffortLevel {
    /// Least.
    Low,
    /// Between low and high.
    Medium,
    /// The default of models that know effort.
    High,
    /// More than high.
    Xhigh,
    /// Most.
    Max,
}

/// The response form of an effort: `{"type": level}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Effort {
    /// The level.
    #[serde(rename = "type")]
    pub level: EffortLevel,
}

/// The request form of an effort: a level or `{"type": level}` (runtime AG-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffortParam {
    /// `"high"`.
    Level(EffortLevel),
    /// `{"type": "high"}`.
    Object(Effort),
}

text_or_object_schema!(EffortParam, EffortLevel, Effort);

impl<'de> Deserialize<'de> for EffortParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "an effort level or an object with it as \"type\"";
        let param = text_or_object(deserializer, expecting)?;
        Ok(param.map_or_else(Self::Object, Self::Level))
    }
}

impl EffortParam {
    /// The level that is asked for.
    pub fn level(self) -> EffortLevel {
        match self {
            Self::Level(level) | Self::Object(Effort { level }) => level,
        }
    }
}

/// The speed of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// The usual one.
    #[default]
    Standard,
    /// Faster, at another price.
    Fast,
}

/// The resolved model of an agent, as shown in every response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelConfig {
    /// The model's id.
    pub id: String,
    /// Always shown (runtime AG-3).
    pub effort: Effort,
    /// Always shown.
    pub speed: Speed,
    /// Where inference has to run; absent when free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_geo: Option<String>,
}

/// The request form of a model: its id, or an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelParam {
    /// A bare model id.
    Id(String),
    /// The object form.
    Object(ModelObjectParam),
}

/// The object form of a model in a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ModelObjectParam {
    /// The model's id.
    pub id: String,
    /// Absent or null: the model's default, or the stored one (runtime AG-4).
    #[serde(default)]
    pub effort: Option<EffortParam>,
    /// Absent or null: standard.
    #[serde(default)]
    pub speed: Option<Speed>,
    /// Absent or null: no pin.
    #[serde(default)]
    pub inference_geo: Option<String>,
}

text_or_object_schema!(ModelParam, String, ModelObjectParam);

impl<'de> Deserialize<'de> for ModelParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let param = text_or_object(deserializer, "a model id or an object with an \"id\"")?;
        Ok(param.map_or_else(Self::Object, Self::Id))
    }
}

impl ModelParam {
    /// The object form of either.
    pub fn into_object(self) -> ModelObjectParam {
        match self {
            Self::Id(id) => ModelObjectParam {
                id,
                effort: None,
                speed: None,
                inference_geo: None,
            },
            Self::Object(object) => object,
        }
    }
}

/// Whether a capability is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Supported {
    /// Whether it is.
    pub supported: bool,
}

/// Where a model is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// In use.
    Active,
    /// Will go.
    Deprecated,
    /// Gone.
    Retired,
}

/// A model that this server can reach (api §22).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// The id that agents name.
    pub id: String,
    /// Always `"model"`.
    #[serde(rename = "type")]
    pub kind: tag::Model,
    /// A name for people.
    pub display_name: String,
    /// When it came out; the epoch when unknown.
    pub created_at: Timestamp,
    /// Its stage.
    pub lifecycle: Lifecycle,
    /// Its family, where it has a known one.
    pub line: Option<String>,
    /// Context window in tokens, where known.
    pub max_input_tokens: Option<u64>,
    /// Most output tokens of one request, where known.
    pub max_tokens: Option<u64>,
    /// When it was deprecated.
    pub deprecated_at: Option<Timestamp>,
    /// When it goes.
    pub retires_at: Option<Timestamp>,
    /// Models that may answer in its place; null when there is no such list.
    pub allowed_fallback_models: Option<Vec<String>>,
    /// What it can do; null when unknown.
    pub capabilities: Option<serde_json::Value>,
}

impl Model {
    /// A model of which nothing is known but its id.
    pub fn named(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            kind: Default::default(),
            display_name: id.to_owned(),
            created_at: Timestamp::from_micros(0),
            lifecycle: Lifecycle::Active,
            line: None,
            max_input_tokens: None,
            max_tokens: None,
            deprecated_at: None,
            retires_at: None,
            allowed_fallback_models: None,
            capabilities: None,
        }
    }
}
