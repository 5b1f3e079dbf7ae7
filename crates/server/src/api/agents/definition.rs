//! What an agent may be: its texts, metadata, tools and model, checked and resolved. Pure.
//!
//! The same rules serve agents, session overrides and session updates. A documented value whose feature is not built
//! is refused with its field's name, never accepted and ignored.

mod custom;
mod mcp;
mod skills;
mod tools;
mod web;

use std::collections::BTreeMap;

use manyhands_protocol::Metadata;
use manyhands_protocol::agent::ExecutionIdentity;
use manyhands_protocol::model::{Effort, EffortLevel, ModelConfig, ModelParam, Speed};

use crate::api::error::ApiError;

pub(crate) use mcp::{agree, servers};
pub(crate) use skills::readable;
pub(crate) use tools::tools;
pub(crate) use web::within;

/// What is known about models: the registry's answers that validation needs.
pub(crate) trait Catalog {
    /// The effort levels of a model, or `None` when nobody serves it.
    fn efforts(&self, id: &str) -> Option<&[EffortLevel]>;
    /// The ids to show to whoever names an unknown one.
    fn names(&self) -> Vec<String>;
    /// Whether the model has list prices, so that a session of it can have a cost cap (runtime BU-2).
    fn is_priced(&self, id: &str) -> bool;
    /// Whether the model takes system messages in mid-conversation (runtime SE-10).
    fn takes_system_messages(&self, id: &str) -> bool;
}

/// A text of `min` to `max` characters.
pub(crate) fn text(field: &str, text: &str, min: usize, max: usize) -> Result<(), ApiError> {
    let length = text.chars().count();
    if length < min {
        return Err(ApiError::field(field, "must not be empty"));
    }
    if length > max {
        return Err(ApiError::field(
            field,
            format!("is {length} characters long; at most {max} are allowed"),
        ));
    }
    Ok(())
}

/// An agent's name, description and system prompt (api §29). An empty text is none.
pub(crate) fn optional_text(
    field: &str,
    given: Option<String>,
    max: usize,
) -> Result<Option<String>, ApiError> {
    let given = given.filter(|given| !given.is_empty());
    if let Some(given) = &given {
        text(field, given, 0, max)?;
    }
    Ok(given)
}

/// The limits of metadata (api §29), on the whole bag.
pub(crate) fn metadata(bag: Metadata) -> Result<Metadata, ApiError> {
    let refuse =
        |problem: String| Err(ApiError::field("metadata", problem).with_code("invalid_metadata"));
    if bag.len() > 16 {
        return refuse(format!("has {} pairs; at most 16 are allowed", bag.len()));
    }
    for (key, value) in &bag {
        if key.is_empty() || key.chars().count() > 64 {
            return refuse("keys have 1 to 64 characters".to_owned());
        }
        if value.chars().count() > 512 {
            return refuse(format!("the value of {key:?} has more than 512 characters"));
        }
    }
    Ok(bag)
}

/// Merges a patch per key (runtime HT-16): a text upserts, null deletes; limits apply to the result.
pub(crate) fn merge_metadata(
    current: &Metadata,
    patch: BTreeMap<String, Option<String>>,
) -> Result<Metadata, ApiError> {
    let mut merged = current.clone();
    for (key, value) in patch {
        match value {
            Some(value) => merged.insert(key, value),
            None => merged.remove(&key),
        };
    }
    metadata(merged)
}

/// The agent's model, resolved (runtime AG-3). `stored` is the one it replaces, whose effort is kept when the id stays
/// the same and no effort is sent (AG-4).
pub(crate) fn model(
    catalog: &dyn Catalog,
    param: ModelParam,
    stored: Option<&ModelConfig>,
) -> Result<ModelConfig, ApiError> {
    let param = param.into_object();
    let Some(levels) = catalog.efforts(&param.id) else {
        let known = catalog.names().join(", ");
        let shown: String = param.id.chars().take(100).collect();
        return Err(ApiError::field(
            "model",
            format!("no model {shown:?} is configured; known models: {known}"),
        ));
    };
    if param.speed == Some(Speed::Fast) {
        return Err(ApiError::not_built("model.speed", "fast"));
    }
    if param.inference_geo.is_some() {
        return Err(ApiError::not_built(
            "model.inference_geo",
            "a pin to a region",
        ));
    }
    let kept = stored
        .filter(|stored| stored.id == param.id)
        .map(|stored| stored.effort.level);
    let level = match param.effort {
        None => kept.unwrap_or(EffortLevel::High),
        Some(effort) if levels.contains(&effort.level()) => effort.level(),
        Some(_) => {
            return Err(ApiError::field(
                "model.effort",
                format!("{} does not have this level", param.id),
            ));
        }
    };
    Ok(ModelConfig {
        id: param.id,
        effort: Effort { level },
        speed: Speed::Standard,
        inference_geo: None,
    })
}

/// Lists of features that are not built: only the empty list is accepted.
pub(crate) fn none_of<T>(field: &str, entries: &[T], what: &str) -> Result<(), ApiError> {
    if entries.is_empty() {
        Ok(())
    } else {
        Err(ApiError::not_built(field, what))
    }
}

/// On whose behalf: only the default is built.
pub(crate) fn execution_identity(
    given: Option<ExecutionIdentity>,
) -> Result<ExecutionIdentity, ApiError> {
    match given {
        None | Some(ExecutionIdentity::ServiceAccount) => Ok(ExecutionIdentity::ServiceAccount),
        Some(ExecutionIdentity::AwsRole { .. }) => {
            Err(ApiError::not_built("execution_identity", "aws_role"))
        }
    }
}

#[cfg(test)]
mod tests;
