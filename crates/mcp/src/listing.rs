//! One page of a server's tools: what is taken, and what is left out.

use std::collections::HashSet;

use rmcp::model;
use serde_json::Value;

use crate::Tool;
use crate::mirror::{self, Parameter};

/// The longest name, in characters (runtime MC-2).
const NAME: usize = 128;
/// The longest description and the longest schema, in bytes.
const DESCRIPTION: usize = 32 << 10;
const SCHEMA: usize = 128 << 10;
/// The longest cursor that is sent back, in bytes.
const CURSOR: usize = 16 << 10;

/// What a page has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Page {
    pub(crate) tools: Vec<(Tool, Vec<Parameter>)>,
    /// The tools that cannot be offered, and why.
    pub(crate) left_out: Vec<String>,
    /// What to ask for next.
    pub(crate) next: Option<String>,
}

/// Reads a page. `names` are those of the pages before and grow with it. `marks` says whether the agreed protocol knows
/// marked parameters.
///
/// # Errors
/// It is no page.
pub(crate) fn page(
    mut result: Value,
    names: &mut HashSet<String>,
    marks: bool,
) -> Result<Page, &'static str> {
    let Some(Value::Array(listed)) = result.get_mut("tools").map(Value::take) else {
        return Err("the server's list of tools is none");
    };
    let next = match result.get_mut("nextCursor").map(Value::take) {
        None | Some(Value::Null) => None,
        Some(Value::String(cursor)) if cursor.len() <= CURSOR => Some(cursor),
        Some(_) => return Err("the server's cursor is none"),
    };
    let mut page = Page {
        next,
        ..Page::default()
    };
    for listed in listed {
        let name = listed
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let name: String = name.chars().take(NAME).collect();
        match tool(listed, names, marks) {
            Ok(tool) => page.tools.push(tool),
            Err(reason) => page.left_out.push(format!("{name:?}: {reason}")),
        }
    }
    Ok(page)
}

fn tool(
    listed: Value,
    names: &mut HashSet<String>,
    marks: bool,
) -> Result<(Tool, Vec<Parameter>), String> {
    let listed: model::Tool = serde_json::from_value(listed).map_err(|error| error.to_string())?;
    let name = listed.name.into_owned();
    if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
        return Err(format!("a name has 1 to {NAME} characters"));
    }
    let description = listed
        .description
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    if description.len() > DESCRIPTION {
        return Err(format!(
            "its description is longer than {DESCRIPTION} bytes"
        ));
    }
    let input_schema = std::sync::Arc::unwrap_or_clone(listed.input_schema);
    let length = serde_json::to_string(&input_schema).map_or(usize::MAX, |text| text.len());
    if length > SCHEMA {
        return Err(format!("its schema is longer than {SCHEMA} bytes"));
    }
    let parameters = if marks {
        mirror::parameters(&input_schema)?
    } else {
        Vec::new()
    };
    if !names.insert(name.clone()) {
        return Err("there is another of this name".to_owned());
    }
    Ok((
        Tool {
            name,
            description,
            input_schema,
        },
        parameters,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mc_2_what_cannot_be_offered_is_left_out_and_the_rest_stays() {
        let long = "x".repeat(NAME + 1);
        let schema = json!({"type": "object", "$defs": {"a": {"$anchor": "b"}}, "if": {}, "additionalProperties": false});
        let result = json!({"tools": [
            {"name": "good", "description": "d", "inputSchema": schema, "annotations": {"readOnlyHint": true}},
            {"name": "good", "inputSchema": {}},
            {"name": "", "inputSchema": {}},
            {"name": long, "inputSchema": {}},
            {"name": "a\nb", "inputSchema": {}},
            {"name": "no schema"},
            {"name": "talks", "description": "x".repeat(DESCRIPTION + 1), "inputSchema": {}},
            {"name": "huge", "inputSchema": {"x": "x".repeat(SCHEMA)}},
            {"name": "marked", "inputSchema": {"x-mcp-header": "A"}},
            7,
        ], "nextCursor": "2"});
        let mut names = HashSet::new();
        let found = page(result.clone(), &mut names, true).expect("a page");
        let [(good, parameters)] = &found.tools[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (good.name.as_str(), good.description.as_str()),
            ("good", "d")
        );
        assert_eq!(Value::Object(good.input_schema.clone()), schema);
        assert!(parameters.is_empty());
        assert_eq!(found.left_out.len(), 9);
        assert_eq!(found.next.as_deref(), Some("2"));
        let without_marks = page(result, &mut HashSet::new(), false).expect("a page");
        assert_eq!(without_marks.tools.len(), 2);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for result in [
            json!({}),
            json!([]),
            json!({"tools": {}}),
            json!({"tools": [], "nextCursor": 1}),
        ] {
            assert!(
                page(result.clone(), &mut HashSet::new(), false).is_err(),
                "{result}"
            );
        }
        let long = "x".repeat(CURSOR + 1);
        assert!(
            page(
                json!({"tools": [], "nextCursor": long}),
                &mut HashSet::new(),
                false
            )
            .is_err()
        );
        assert_eq!(
            page(json!({"tools": []}), &mut HashSet::new(), false),
            Ok(Page::default())
        );
    }
}
