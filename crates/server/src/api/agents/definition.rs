//! What an agent may be: its texts, metadata, tools and model, checked and resolved. Pure.
//!
//! The same rules serve agents, session overrides and session updates. A documented value whose feature is not built
//! is refused with its field's name, never accepted and ignored.

mod web;

use std::collections::{BTreeMap, HashSet};

use manyhands_hands::toolset;
use manyhands_protocol::Metadata;
use manyhands_protocol::agent::{
    AgentToolsetParams, CustomToolParams, ExecutionIdentity, PermissionPolicy, Tool, ToolConfig,
    ToolConfigParam, ToolDefault, ToolDefaultParam,
};
use manyhands_protocol::model::{Effort, EffortLevel, ModelConfig, ModelParam, Speed};
use manyhands_protocol::web::WebSettings;
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::json;

pub(crate) use web::within;

/// Entries of a list of tools (runtime AG-9). So many cannot hold more than 256 tools, the limit over all toolsets
/// (CONFLICT-6), as long as the one built-in toolset is the only one.
const MAX_ENTRIES: usize = 128;
const TOOLSET: &str = "agent_toolset_20260401";

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

/// The tool entries, resolved (runtime AG-10, CT-1).
pub(crate) fn tools(entries: &[Value]) -> Result<Vec<Tool>, ApiError> {
    if entries.len() > MAX_ENTRIES {
        let problem = format!(
            "has {} entries; at most {MAX_ENTRIES} are allowed",
            entries.len()
        );
        return Err(ApiError::field("tools", problem));
    }
    let mut resolved = Vec::with_capacity(entries.len());
    let mut names = HashSet::new();
    let customs = customs(entries);
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("tools[{index}]");
        let tool = match json::tag(entry, &at)? {
            TOOLSET => {
                if !names.insert(TOOLSET.to_owned()) {
                    return Err(ApiError::field(at, format!("{TOOLSET} is listed twice")));
                }
                built_in(json::entry(entry, &at)?, &customs, &at)?
            }
            "mcp_toolset" => return Err(ApiError::not_built(at, "mcp_toolset")),
            "custom" => {
                let params: CustomToolParams = json::entry(entry, &at)?;
                check_custom(&params, &at)?;
                if !names.insert(params.name.clone()) {
                    return Err(ApiError::field(
                        format!("{at}.name"),
                        format!("{:?} is used twice", params.name),
                    ));
                }
                Tool::Custom {
                    name: params.name,
                    description: params.description,
                    input_schema: params.input_schema,
                }
            }
            _ => {
                return Err(ApiError::field(
                    format!("{at}.type"),
                    "expected agent_toolset_20260401, mcp_toolset or custom",
                ));
            }
        };
        resolved.push(tool);
    }
    Ok(resolved)
}

/// The names of the custom tools, as far as they can be told before the entries are checked.
fn customs(entries: &[Value]) -> HashSet<String> {
    let custom = entries.iter().filter(|entry| entry["type"] == "custom");
    custom
        .filter_map(|entry| Some(entry["name"].as_str()?.to_owned()))
        .collect()
}

fn built_in(
    params: AgentToolsetParams,
    customs: &HashSet<String>,
    at: &str,
) -> Result<Tool, ApiError> {
    let ToolDefaultParam {
        enabled,
        permission_policy,
    } = params.default_config.unwrap_or_default();
    let default_config = ToolDefault {
        enabled: enabled.unwrap_or(true),
        permission_policy: permission_policy.unwrap_or(PermissionPolicy::AlwaysAllow {}),
    };
    let mut configs = Vec::new();
    let mut seen = HashSet::new();
    for (index, config) in params.configs.unwrap_or_default().into_iter().enumerate() {
        let at = format!("{at}.configs[{index}]");
        if !seen.insert(config.name.clone()) {
            return Err(ApiError::field(
                at,
                format!("{:?} is listed twice", config.name),
            ));
        }
        configs.push(tool_config(config, &default_config, customs, &at)?);
    }
    Ok(Tool::AgentToolset {
        configs,
        default_config,
    })
}

fn tool_config(
    config: ToolConfigParam,
    default: &ToolDefault,
    customs: &HashSet<String>,
    at: &str,
) -> Result<ToolConfig, ApiError> {
    let name = config.name;
    if toolset::find(&name).is_none() {
        return Err(ApiError::field(
            format!("{at}.name"),
            "expected bash, edit, read, write, glob, grep, web_fetch or web_search",
        ));
    }
    if config.kind.as_ref().is_some_and(|kind| *kind != name) {
        return Err(ApiError::field(
            format!("{at}.type"),
            format!("expected {name:?}, the same as the name"),
        ));
    }
    let enabled = config.enabled.unwrap_or(default.enabled);
    let given = WebSettings {
        allowed_domains: config.allowed_domains,
        blocked_domains: config.blocked_domains,
        user_location: config.user_location,
        max_content_tokens: config.max_content_tokens,
        url_sources: config.url_sources,
    };
    Ok(ToolConfig {
        web: web::settings(&name, given, customs, at)?,
        kind: name.clone(),
        name,
        enabled,
        permission_policy: config
            .permission_policy
            .unwrap_or(default.permission_policy),
    })
}

fn check_custom(params: &CustomToolParams, at: &str) -> Result<(), ApiError> {
    let CustomToolParams {
        name,
        description,
        input_schema,
    } = params;
    let field = format!("{at}.name");
    let legal = |text: &str, more: &str, max: usize| {
        (1..=max).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte))
    };
    if !legal(name, "_-", 128) {
        return Err(ApiError::field(
            field,
            "expected 1 to 128 letters, digits, underscores or hyphens",
        ));
    }
    if toolset::find(name).is_some() {
        return Err(ApiError::field(
            field,
            format!("{name:?} is the name of a built-in tool"),
        ));
    }
    if name.starts_with("mcp__") {
        return Err(ApiError::field(field, "must not start with \"mcp__\""));
    }
    if description.trim().is_empty() {
        return Err(ApiError::field(
            format!("{at}.description"),
            "must not be empty",
        ));
    }
    let field = format!("{at}.input_schema");
    let Some(schema) = input_schema.as_object() else {
        return Err(ApiError::field(field, "expected an object"));
    };
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(ApiError::field(
            format!("{field}.type"),
            "expected \"object\"",
        ));
    }
    for keyword in ["oneOf", "anyOf", "allOf"] {
        if schema.contains_key(keyword) {
            return Err(ApiError::field(
                field,
                format!("{keyword} is not allowed at the top level"),
            ));
        }
    }
    if let Some(reference) = find_reference(input_schema) {
        return Err(ApiError::field(
            field,
            format!("{reference} is not allowed"),
        ));
    }
    match schema.get("properties") {
        None | Some(Value::Null) => {}
        Some(Value::Object(properties)) => {
            if let Some(name) = properties.keys().find(|name| !legal(name, "_.-", 64)) {
                let shown: String = name.chars().take(70).collect();
                let problem = format!(
                    "{shown:?} is not 1 to 64 letters, digits, underscores, dots or hyphens"
                );
                return Err(ApiError::field(format!("{field}.properties"), problem));
            }
        }
        Some(_) => {
            return Err(ApiError::field(
                format!("{field}.properties"),
                "expected an object",
            ));
        }
    }
    match schema.get("required") {
        None => Ok(()),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => Ok(()),
        Some(_) => Err(ApiError::field(
            format!("{field}.required"),
            "expected a list of strings",
        )),
    }
}

/// A `$ref`-style keyword anywhere in a schema.
fn find_reference(schema: &Value) -> Option<&'static str> {
    const KEYWORDS: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
    match schema {
        Value::Object(members) => KEYWORDS
            .into_iter()
            .find(|keyword| members.contains_key(*keyword))
            .or_else(|| members.values().find_map(find_reference)),
        Value::Array(items) => items.iter().find_map(find_reference),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
