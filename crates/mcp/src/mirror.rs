//! Headers that repeat what a body says, so that whatever stands before a server need not read bodies (protocol 2026-07-28).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// How a tool's schema marks a parameter that is repeated.
const MARK: &str = "x-mcp-header";
/// Where schemas nest by name, and where only data is.
const NAMED: [&str; 4] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
];
const DATA: [&str; 4] = ["default", "const", "enum", "examples"];

/// A parameter that is repeated in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// From the input's root.
    path: Vec<String>,
    header: HeaderName,
}

/// The parameters that a tool's schema marks.
///
/// # Errors
/// What is wrong with a mark. Such a tool is not offered.
pub(crate) fn parameters(schema: &Map<String, Value>) -> Result<Vec<Parameter>, String> {
    if schema.contains_key(MARK) {
        return Err(format!("{MARK} is at the root of the schema"));
    }
    let mut found = BTreeMap::new();
    collect(schema, &mut Vec::new(), true, &mut found)?;
    Ok(found.into_values().collect())
}

/// Goes through a schema. `reached` says that only `properties` lead here.
fn collect(
    schema: &Map<String, Value>,
    path: &mut Vec<String>,
    reached: bool,
    found: &mut BTreeMap<String, Parameter>,
) -> Result<(), String> {
    if let Some(mark) = schema.get(MARK) {
        let at = path.join(".");
        if !reached {
            return Err(format!(
                "{at}: {MARK} is where no input can be told from the schema alone"
            ));
        }
        let header = mark.as_str().filter(|name| !name.is_empty());
        let header = header.ok_or_else(|| format!("{at}: {MARK} is no name"))?;
        let name = HeaderName::try_from(format!("mcp-param-{header}"));
        let name = name.map_err(|_| format!("{at}: {MARK} is no name of a header"))?;
        let kind = schema.get("type").and_then(Value::as_str);
        if !matches!(kind, Some("string" | "integer" | "boolean")) {
            return Err(format!(
                "{at}: {MARK} is on what is neither text, integer nor boolean"
            ));
        }
        let parameter = Parameter {
            path: path.clone(),
            header: name,
        };
        if found
            .insert(header.to_ascii_lowercase(), parameter)
            .is_some()
        {
            return Err(format!("{at}: {MARK} names a header twice"));
        }
    }
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => named(properties, path, reached, found)?,
            (key, Value::Object(schemas)) if NAMED.contains(&key) => {
                named(schemas, path, false, found)?
            }
            (key, _) if DATA.contains(&key) || key == MARK => {}
            (_, Value::Object(schema)) => collect(schema, path, false, found)?,
            (_, Value::Array(schemas)) => {
                for schema in schemas.iter().filter_map(Value::as_object) {
                    collect(schema, path, false, found)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn named(
    schemas: &Map<String, Value>,
    path: &mut Vec<String>,
    reached: bool,
    found: &mut BTreeMap<String, Parameter>,
) -> Result<(), String> {
    for (name, schema) in schemas {
        let Some(schema) = schema.as_object() else {
            continue;
        };
        path.push(name.clone());
        collect(schema, path, reached, found)?;
        path.pop();
    }
    Ok(())
}

/// The headers of a request: its method, what it names, and the marked parameters of a call's input.
pub(crate) fn headers(
    method: &'static str,
    name: Option<&str>,
    parameters: &[Parameter],
    input: &Map<String, Value>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("mcp-method", HeaderValue::from_static(method));
    if let Some(name) = name {
        headers.insert("mcp-name", encoded(name));
    }
    for Parameter { path, header } in parameters {
        let (first, rest) = path
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let value = rest
            .iter()
            .try_fold(input.get(first), |value, key| Some(value?.get(key)));
        let value = match value.flatten() {
            Some(Value::String(text)) => encoded(text),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => encoded(&value.to_string()),
            _ => continue,
        };
        headers.insert(header.clone(), value);
    }
    headers
}

/// As it is where a header can carry it unchanged, else in base 64.
fn encoded(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    let wrapped = || format!("=?base64?{}?=", BASE64_STANDARD.encode(text));
    let value = if plain { text.to_owned() } else { wrapped() };
    // Both forms are visible ASCII.
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn marked_parameters_are_repeated_in_headers() {
        let schema = object(json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "off": {"type": "boolean", "x-mcp-header": "Off"},
            "query": {"type": "string", "default": {"x-mcp-header": "data"}},
        }}));
        let parameters = parameters(&schema).expect("marks");
        #[track_caller]
        fn check(parameters: &[Parameter], input: Value, expected: &[(&str, &str)]) {
            let headers = headers("tools/call", Some("t"), parameters, &object(input));
            let mut found: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
                .collect();
            found.sort_unstable();
            let mut all = vec![("mcp-method", "tools/call"), ("mcp-name", "t")];
            all.extend(expected);
            all.sort_unstable();
            assert_eq!(found, all);
        }
        check(
            &parameters,
            json!({"region": "us west", "query": "q", "off": null}),
            &[("mcp-param-region", "us west")],
        );
        check(
            &parameters,
            json!({"deep": {"n": 4}, "off": false}),
            &[("mcp-param-n", "4"), ("mcp-param-off", "false")],
        );
        check(&parameters, json!({"deep": 1, "region": ["x"]}), &[]);
        for (text, expected) in [
            ("", ""),
            (" a", "=?base64?IGE=?="),
            ("a\nb", "=?base64?YQpi?="),
            ("é", "=?base64?w6k=?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ] {
            check(
                &parameters,
                json!({"region": text}),
                &[("mcp-param-region", expected)],
            );
        }
    }

    #[test]
    fn a_wrong_mark_is_named() {
        #[track_caller]
        fn check(schema: Value, problem: &str) {
            let refused = parameters(&object(schema)).expect_err(problem);
            assert!(refused.contains(problem), "{refused}");
        }
        let one = |mark: Value, kind: &str| json!({"properties": {"p": {"type": kind, "x-mcp-header": mark}}});
        check(json!({"x-mcp-header": "A"}), "at the root");
        check(one(json!(""), "string"), "p: x-mcp-header is no name");
        check(one(json!(1), "string"), "is no name");
        for name in ["My Region", "a:b", "Région", "a\tb"] {
            check(one(json!(name), "string"), "no name of a header");
        }
        for kind in ["object", "array", "null", "number"] {
            check(one(json!("A"), kind), "neither text, integer nor boolean");
        }
        let twice = json!({"properties": {
            "a": {"type": "string", "x-mcp-header": "My"}, "b": {"type": "string", "x-mcp-header": "my"}}});
        check(twice, "twice");
        for key in ["items", "anyOf", "$defs", "not"] {
            let inner = json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}}});
            let inner = match key {
                "anyOf" => json!([inner]),
                "$defs" => json!({"d": inner}),
                _ => inner,
            };
            check(
                json!({"properties": {"p": {key: inner}}}),
                "from the schema alone",
            );
        }
    }
}
