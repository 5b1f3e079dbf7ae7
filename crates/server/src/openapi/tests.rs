use std::collections::BTreeSet;

use super::*;

/// All texts under `key`, anywhere in the document.
fn texts<'d>(value: &'d Value, key: &str, found: &mut Vec<&'d str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str().filter(|_| name == key) {
                    Some(text) => found.push(text),
                    None => texts(member, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        _ => {}
    }
}

#[test]
fn every_route_says_what_it_takes_and_gives() {
    let mut ids = BTreeSet::new();
    for route in routes::table() {
        let name = format!("{} {}", route.method, route.path);
        let operation = route.operation;
        assert!(!matches!(operation.gives, Content::Unsaid), "{name}");
        if !matches!(operation.gives, Content::Never) {
            assert!(ids.insert(operation.id), "{name}: {} twice", operation.id);
        }
        if matches!(operation.gives, Content::Never) {
            continue;
        }
        for parameter in path_parameters(route.path) {
            // Ids of other kinds have a prefix, and with it a pattern.
            let free = ["model_id", "skill_id", "version", "link", "key_id"];
            let known = parameter["schema"].get("pattern").is_some()
                || free.iter().any(|free| parameter["name"] == *free);
            assert!(known, "{name}: {parameter}");
        }
    }
    assert!(ids.len() > 60);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    texts(&document, "$ref", &mut references);
    assert!(references.len() > 200);
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// What is read may leave out what has a default; what is shown has all its members.
#[test]
fn what_is_read_is_kept_apart_from_what_is_shown() {
    let schemas = &document()["components"]["schemas"];
    let required = |name: &str| {
        let required = schemas[name]["required"].as_array().cloned();
        let names = required.unwrap_or_default();
        names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(required("AgentCreateParams"), ["name", "model"]);
    assert!(required("AgentUpdateParams").is_empty());
    let shown = required("Agent");
    for member in ["description", "archived_at", "tools", "type"] {
        assert!(
            shown.iter().any(|name| name == member),
            "{member} in {shown:?}"
        );
    }
}

/// The surface as it is committed: a change of it is seen in review.
#[test]
fn the_document_is_as_it_was_reviewed() {
    let settings = || {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings
    };
    settings().bind(|| insta::assert_json_snapshot!("openapi", document()));
}
