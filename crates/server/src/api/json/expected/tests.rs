use manyhands_protocol::agent::{
    AgentCreateParams, AgentToolsetParams, AgentUpdateParams, CustomToolParams, McpServerParams,
    McpToolsetParams,
};
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::environment::{EnvironmentCreateParams, EnvironmentUpdateParams};
use manyhands_protocol::file::FileResourceParams;
use manyhands_protocol::memory::{
    MemoryCreateParams, MemoryStoreCreateParams, MemoryStoreResourceParams,
    MemoryStoreUpdateParams, MemoryUpdateParams,
};
use manyhands_protocol::repository::Checkout;
use manyhands_protocol::session::{SessionCreateParams, SessionUpdateParams};
use manyhands_protocol::skill::SkillRefParams;
use manyhands_protocol::user_profile::{ActionUrlParams, UserProfileParams};
use manyhands_protocol::vault::{
    CredentialCreateParams, CredentialUpdateParams, VaultCreateParams, VaultUpdateParams,
};
use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::api::json::entry;
use crate::api::keys::KeyCreateParams;
use crate::api::workspaces::WorkspaceParams;

#[test]
fn what_is_expected_is_said_in_words_of_json() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(in_words(text.to_owned()), expected);
    }
    check(
        "invalid type: string \"x\", expected internally tagged enum Checkout at line 1 column 5",
        "invalid type: string \"x\", expected an object at line 1 column 5",
    );
    check(
        "invalid length 0, expected struct Params with 3 elements",
        "invalid length 0, expected an object",
    );
    check(
        "invalid type: map, expected a sequence",
        "invalid type: map, expected a list",
    );
    check(
        "invalid type: string \", expected struct X\", expected u32",
        "invalid type: string \", expected struct X\", expected a whole number that is not negative",
    );
    check(
        "unknown variant `x`, expected `map` or `struct`",
        "unknown variant `x`, expected `map` or `struct`",
    );
    check(
        "data did not match any variant of untagged enum Resource",
        "is in none of its documented forms",
    );
    check("missing field `name`", "missing field `name`");
}

/// What a text of an error must not have: a word of Rust, or the name of one of our types.
fn is_of_rust(text: &str) -> bool {
    let word = |word: &str| {
        let mut letters = word.chars();
        let camel = letters
            .next()
            .is_some_and(|first| first.is_ascii_uppercase())
            && letters
                .as_str()
                .contains(|letter: char| letter.is_ascii_uppercase())
            && letters
                .as_str()
                .contains(|letter: char| letter.is_ascii_lowercase());
        let kind = [
            "struct", "enum", "tuple", "variant", "u32", "u64", "i64", "f64",
        ];
        camel || kind.contains(&word)
    };
    let of_json = text.replace("unknown variant", "");
    of_json
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .any(word)
}

/// Every member of a body, with every kind of value that it may not be, and what stands in those members in the same way.
fn check<T: DeserializeOwned + JsonSchema>() {
    let schema = schema_for!(T);
    let name = schema.get("title").cloned().unwrap_or_default();
    let mut members: Vec<String> = Vec::new();
    named(schema.as_value(), &mut members);
    assert!(!members.is_empty(), "{name}");
    let wrong = [
        json!(5),
        json!(-0.5),
        json!("x"),
        json!([]),
        json!([[5]]),
        json!({}),
        json!({"type": 5}),
    ];
    let mut refused = 0;
    let kinds = kinds(schema.as_value());
    for member in &members {
        for value in &wrong {
            for kind in &kinds {
                let mut body = json!({"type": kind});
                body[member] = value.clone();
                for within in [
                    body.clone(),
                    json!({ member: body }),
                    json!({ member: [body] }),
                ] {
                    if let Err(error) = entry::<T>(&within, "at") {
                        refused += 1;
                        let message = error.message();
                        assert!(!is_of_rust(message), "{name}: {within}: {message}");
                    }
                }
            }
        }
    }
    assert!(refused > 0, "{name}");
}

/// The members that a schema names at any depth.
fn named(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                found.extend(properties.keys().cloned());
                found.sort();
                found.dedup();
            }
            members.values().for_each(|value| named(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| named(value, found)),
        _ => {}
    }
}

/// The texts that a schema allows for a `type`, and one that none does.
fn kinds(schema: &Value) -> Vec<Value> {
    fn of(schema: &Value, found: &mut Vec<Value>) {
        match schema {
            Value::Object(members) => {
                if let Some(kind) = members
                    .get("properties")
                    .and_then(|it| it["type"].get("const"))
                    && !found.contains(kind)
                {
                    found.push(kind.clone());
                }
                members.values().for_each(|value| of(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| of(value, found)),
            _ => {}
        }
    }
    let mut found = vec![json!("none")];
    of(schema, &mut found);
    found
}

#[test]
fn no_refusal_of_a_body_has_a_word_of_rust() {
    assert!(is_of_rust("expected struct Params") && is_of_rust("x: expected NameParam"));
    check::<AgentCreateParams>();
    check::<AgentUpdateParams>();
    check::<AgentToolsetParams>();
    check::<CustomToolParams>();
    check::<McpServerParams>();
    check::<McpToolsetParams>();
    check::<SkillRefParams>();
    check::<EnvironmentCreateParams>();
    check::<EnvironmentUpdateParams>();
    check::<SessionCreateParams>();
    check::<SessionUpdateParams>();
    check::<FileResourceParams>();
    check::<MemoryStoreResourceParams>();
    check::<Checkout>();
    check::<ContentBlock>();
    check::<VaultCreateParams>();
    check::<VaultUpdateParams>();
    check::<CredentialCreateParams>();
    check::<CredentialUpdateParams>();
    check::<MemoryStoreCreateParams>();
    check::<MemoryStoreUpdateParams>();
    check::<MemoryCreateParams>();
    check::<MemoryUpdateParams>();
    check::<UserProfileParams>();
    check::<ActionUrlParams>();
    check::<KeyCreateParams>();
    check::<WorkspaceParams>();
}
