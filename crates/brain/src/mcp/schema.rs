//! A tool of a server as a model API takes it. One that no API would take must not cost the session its turns: it is
//! shown with an open schema, and its own in words.

use serde_json::{Map, Value, json};

use super::{Offer, model_name};
use crate::transcribe;

/// Bytes of a description.
const DESCRIPTION: usize = 8 << 10;

/// Bytes of a schema that is told in words.
const SCHEMA: usize = 4 << 10;

/// How deep a schema may be nested.
const DEPTH: usize = 32;

const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

impl Offer<'_> {
    /// The tool as a member of a request's `tools`.
    pub(crate) fn definition(&self) -> Value {
        let mut description = transcribe::cut(&self.tool.description, DESCRIPTION);
        if description.trim().is_empty() {
            description = format!("{} of the MCP server {}", self.tool.name, self.server);
        }
        let mut schema = self.tool.input_schema.clone();
        schema.entry("type").or_insert_with(|| "object".into());
        if !is_accepted(&schema) {
            let told = transcribe::cut(&Value::Object(schema).to_string(), SCHEMA);
            description.push_str(&format!("\n\nThe schema of its input: {told}"));
            schema = Map::from_iter([("type".to_owned(), Value::from("object"))]);
        }
        let name = model_name(self.server, &self.tool.name);
        json!({"name": name, "description": description, "input_schema": schema})
    }
}

/// Whether model APIs take a schema for the input of a tool: an object, whose properties have plain names and no
/// alternatives at the top, and well-formed.
fn is_accepted(schema: &Map<String, Value>) -> bool {
    let object = schema.get("type").is_some_and(|kind| kind == "object");
    let alternatives = ["oneOf", "anyOf", "allOf", "not", "enum", "if"];
    let flat = alternatives.iter().all(|name| !schema.contains_key(*name));
    let properties = schema.get("properties").and_then(Value::as_object);
    let plain = properties.is_none_or(|properties| properties.keys().all(|name| is_plain(name)));
    object && flat && plain && is_well_formed(schema, DEPTH)
}

fn is_plain(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

/// Whether the members of a schema that have a meaning have the form of it, and references lead to what is there.
fn is_well_formed(schema: &Map<String, Value>, depth: usize) -> bool {
    depth > 0
        && schema.iter().all(|(name, value)| match name.as_str() {
            "type" => is_type(value),
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                let all = |schemas: &Map<String, Value>| {
                    schemas.values().all(|schema| is_schema(schema, depth))
                };
                value.as_object().is_some_and(all)
            }
            "items"
            | "additionalProperties"
            | "contains"
            | "propertyNames"
            | "not"
            | "if"
            | "then"
            | "else" => is_schema(value, depth),
            "oneOf" | "anyOf" | "allOf" | "prefixItems" => value.as_array().is_some_and(|all| {
                !all.is_empty() && all.iter().all(|schema| is_schema(schema, depth))
            }),
            "required" => value
                .as_array()
                .is_some_and(|names| names.iter().all(Value::is_string)),
            "enum" => value.is_array(),
            "description" | "title" | "pattern" | "format" | "$id" | "$schema" | "$comment" => {
                value.is_string()
            }
            "$ref" => value.as_str().is_some_and(|to| to.starts_with('#')),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                value.is_number()
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
            | "maxProperties" => value.is_u64(),
            "uniqueItems" => value.is_boolean(),
            _ => true,
        })
}

fn is_schema(value: &Value, depth: usize) -> bool {
    match value {
        Value::Bool(_) => true,
        Value::Object(schema) => is_well_formed(schema, depth - 1),
        _ => false,
    }
}

fn is_type(value: &Value) -> bool {
    let known = |value: &Value| value.as_str().is_some_and(|kind| TYPES.contains(&kind));
    match value {
        Value::Array(kinds) => !kinds.is_empty() && kinds.iter().all(known),
        _ => known(value),
    }
}

#[cfg(test)]
mod tests {
    use manyhands_mcp::Tool;
    use manyhands_protocol::agent::PermissionPolicy;

    use super::*;

    fn shown(schema: Value) -> Value {
        let Value::Object(input_schema) = schema else {
            panic!("an object")
        };
        let tool = Tool {
            name: "search".to_owned(),
            description: "Searches.".to_owned(),
            input_schema,
        };
        Offer {
            server: "docs",
            tool: &tool,
            policy: PermissionPolicy::AlwaysAllow {},
        }
        .definition()
    }

    #[test]
    fn mc_2_a_tool_is_shown_with_its_own_schema_where_models_take_it() {
        #[track_caller]
        fn check(schema: Value, taken: bool) {
            let shown = shown(schema.clone());
            assert_eq!(shown["name"], "mcp__docs__search");
            let description = shown["description"].as_str().unwrap();
            assert!(description.starts_with("Searches."), "{description}");
            if taken {
                let mut whole = schema;
                whole["type"] = "object".into();
                assert_eq!(shown["input_schema"], whole);
                assert_eq!(description, "Searches.");
            } else {
                assert_eq!(shown["input_schema"], json!({"type": "object"}), "{schema}");
                assert!(
                    description.contains("schema of its input: {"),
                    "{description}"
                );
            }
        }
        let with = |property: Value| json!({"type": "object", "properties": {"a": property}});
        check(json!({}), true);
        check(
            json!({"type": "object", "additionalProperties": false}),
            true,
        );
        check(
            json!({"properties": {"query": {"type": "string"}}, "required": ["query"]}),
            true,
        );
        check(
            with(json!({"type": ["string", "null"], "minLength": 1})),
            true,
        );
        check(
            with(json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"enum": [1]}}]})),
            true,
        );
        check(with(json!({"$ref": "#/$defs/x"})), true);
        check(with(json!(true)), true);
        check(json!({"type": "string"}), false);
        check(json!({"type": ["object"]}), false);
        check(
            json!({"type": "object", "oneOf": [{"type": "object"}]}),
            false,
        );
        check(json!({"type": "object", "properties": {"a b": {}}}), false);
        check(json!({"type": "object", "properties": {"": {}}}), false);
        check(json!({"type": "object", "properties": []}), false);
        check(json!({"type": "object", "required": "a"}), false);
        check(with(json!("string")), false);
        check(with(json!({"type": "text"})), false);
        check(with(json!({"type": 5})), false);
        check(with(json!({"type": []})), false);
        check(with(json!({"anyOf": []})), false);
        check(with(json!({"minLength": -1})), false);
        check(with(json!({"description": {}})), false);
        check(
            with(json!({"$ref": "https://example.com/schema.json"})),
            false,
        );
        let deep = |levels| (0..levels).fold(json!({}), |inner, _| json!({"items": inner}));
        check(with(deep(DEPTH - 2)), true);
        check(with(deep(DEPTH)), false);
    }

    #[test]
    fn mc_2_a_tool_without_a_description_gets_one() {
        let tool = Tool {
            name: "search".to_owned(),
            description: " ".to_owned(),
            input_schema: Map::new(),
        };
        let offer = Offer {
            server: "docs",
            tool: &tool,
            policy: PermissionPolicy::AlwaysAllow {},
        };
        let shown = offer.definition();
        assert_eq!(shown["description"], "search of the MCP server docs");
    }
}
