//! Tools that the client runs, checked (runtime CT-1).

use manyhands_hands::toolset;
use manyhands_protocol::agent::CustomToolParams;
use serde_json::Value;

use crate::api::error::ApiError;

/// A custom tool (runtime CT-1, api §4.1).
pub(super) fn check(params: &CustomToolParams, at: &str) -> Result<(), ApiError> {
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
