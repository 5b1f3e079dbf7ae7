use manyhands_protocol::model::EffortParam;
use serde_json::{Value, json};

use super::tools::TOOLSET;
use super::*;

struct Two;

impl Catalog for Two {
    fn efforts(&self, id: &str) -> Option<&[EffortLevel]> {
        match id {
            "big" => Some(&[EffortLevel::Low, EffortLevel::High, EffortLevel::Max]),
            "small" => Some(&[EffortLevel::High]),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        vec!["big".to_owned(), "small".to_owned()]
    }

    fn is_priced(&self, id: &str) -> bool {
        id == "big"
    }

    fn takes_system_messages(&self, id: &str) -> bool {
        id == "big"
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, problem: &str) {
    let error = result.expect_err(problem);
    assert!(error.message().contains(problem), "{}", error.message());
}

#[test]
fn ag_3_models_are_resolved() {
    #[track_caller]
    fn check(given: Value, stored: Option<EffortLevel>, expected: EffortLevel) {
        let param: ModelParam = serde_json::from_value(given).expect("a model");
        let stored = stored.map(|level| ModelConfig {
            id: "big".to_owned(),
            effort: Effort { level },
            speed: Speed::Standard,
            inference_geo: None,
        });
        let resolved = model(&Two, param, stored.as_ref()).expect("accepted");
        assert_eq!(resolved.effort.level, expected);
    }
    check(json!("big"), None, EffortLevel::High);
    check(json!({"id": "big"}), None, EffortLevel::High);
    check(
        json!({"id": "big", "effort": null, "speed": "standard"}),
        None,
        EffortLevel::High,
    );
    check(
        json!({"id": "big", "effort": "max"}),
        None,
        EffortLevel::Max,
    );
    check(
        json!({"id": "big", "effort": {"type": "low"}}),
        None,
        EffortLevel::Low,
    );
    // AG-4: the same id keeps the stored effort, another id resets it.
    check(json!("big"), Some(EffortLevel::Max), EffortLevel::Max);
    check(
        json!({"id": "big", "effort": "low"}),
        Some(EffortLevel::Max),
        EffortLevel::Low,
    );
    check(json!("small"), Some(EffortLevel::Max), EffortLevel::High);
}

#[test]
fn ag_3_models_that_cannot_be_had_are_refused() {
    #[track_caller]
    fn check(given: Value, problem: &str) {
        let param: ModelParam = serde_json::from_value(given).expect("a model");
        refused(model(&Two, param, None), problem);
    }
    check(
        json!("huge"),
        "model: no model \"huge\" is configured; known models: big, small",
    );
    check(
        json!({"id": "small", "effort": "max"}),
        "model.effort: small does not have this level",
    );
    check(
        json!({"id": "big", "speed": "fast"}),
        "model.speed: fast is not supported",
    );
    check(
        json!({"id": "big", "inference_geo": "us"}),
        "model.inference_geo: a pin to a region is not supported",
    );
    let level = EffortParam::Level(EffortLevel::Low).level();
    assert_eq!(level, EffortLevel::Low);
}

#[test]
fn ag_10_toolsets_are_resolved_and_show_what_is_there() {
    #[track_caller]
    fn check(given: Value, expected: Value) {
        let tools = tools(&[given]).expect("accepted");
        assert_eq!(serde_json::to_value(&tools[0]).expect("JSON"), expected);
    }
    let allow = json!({"type": "always_allow"});
    let tool = |name: &str, enabled: bool| json!({"name": name, "type": name, "enabled": enabled, "permission_policy": allow});
    let set = |configs: Value, enabled: bool| json!({"type": TOOLSET, "configs": configs, "default_config": {"enabled": enabled, "permission_policy": allow}});
    check(json!({"type": TOOLSET}), set(json!([]), true));
    check(
        json!({"type": TOOLSET, "configs": null, "default_config": null}),
        set(json!([]), true),
    );
    check(
        json!({"type": TOOLSET, "configs": [{"name": "bash", "enabled": false}, {"name": "web_search", "enabled": false}]}),
        set(
            json!([tool("bash", false), tool("web_search", false)]),
            true,
        ),
    );
    check(
        json!({"type": TOOLSET, "default_config": {"enabled": false}, "configs": [{"name": "bash", "type": "bash", "enabled": true}, {"name": "read"}]}),
        set(json!([tool("bash", true), tool("read", false)]), false),
    );
}

/// runtime TC-1, TC-2
#[test]
fn tc_2_a_tools_own_policy_wins_over_the_toolsets() {
    let policy = |name: &str| json!({"type": name});
    let given = json!({"type": TOOLSET, "default_config": {"permission_policy": policy("always_ask")},
        "configs": [{"name": "read", "permission_policy": policy("always_allow")},
            {"name": "bash", "permission_policy": policy("auto")}, {"name": "grep"}]});
    let tools = tools(&[given]).expect("accepted");
    let resolved = serde_json::to_value(&tools[0]).expect("JSON");
    assert_eq!(
        resolved["default_config"],
        json!({"enabled": true, "permission_policy": policy("always_ask")})
    );
    let configs = resolved["configs"].as_array().expect("a list");
    let policies: Vec<(&str, &str)> = configs
        .iter()
        .filter_map(|config| {
            let policy = config["permission_policy"]["type"].as_str()?;
            Some((config["name"].as_str()?, policy))
        })
        .collect();
    let expected = [
        ("read", "always_allow"),
        ("bash", "auto"),
        ("grep", "always_ask"),
    ];
    assert_eq!(policies, expected);
}

#[test]
fn toolsets_with_what_is_not_built_are_refused_by_name() {
    #[track_caller]
    fn check(given: Value, problem: &str) {
        refused(
            tools(&[
                json!({"type": "custom", "name": "x", "description": "x", "input_schema": {"type": "object"}}),
                given,
            ]),
            problem,
        );
    }
    let one = |config: Value| json!({"type": TOOLSET, "configs": [config]});
    check(
        one(json!({"name": "bash", "permission_policy": {"type": "never"}})),
        "tools[1].configs[0].permission_policy",
    );
    check(
        one(json!({"name": "bash", "allowed_domains": ["a.com"]})),
        "tools[1].configs[0].allowed_domains: bash has no such setting",
    );
    check(
        one(json!({"name": "shell"})),
        "tools[1].configs[0].name: expected bash",
    );
    check(
        one(json!({"name": "bash", "type": "read"})),
        "tools[1].configs[0].type: expected \"bash\"",
    );
    check(
        one(json!({"name": "bash", "enabled": "yes"})),
        "tools[1].configs[0].enabled: invalid type",
    );
    check(
        json!({"type": TOOLSET, "configs": [{"name": "bash"}, {"name": "bash"}]}),
        "\"bash\" is listed twice",
    );
    check(
        json!({"type": "computer"}),
        "tools[1].type: expected agent_toolset",
    );
    check(json!({"name": "x"}), "tools[1].type: is required");
    check(json!("bash"), "tools[1]: expected an object");
    refused(
        tools(&[json!({"type": TOOLSET}), json!({"type": TOOLSET})]),
        "tools[1]: agent_toolset_20260401 is listed twice",
    );
}

#[test]
fn ct_1_custom_tools_are_checked() {
    let tool = |name: &str, description: &str, schema: Value| json!({"type": "custom", "name": name, "description": description, "input_schema": schema});
    #[track_caller]
    fn check(given: Value, problem: &str) {
        refused(tools(&[given]), problem);
    }
    let fine = json!({"type": "object", "properties": {"city.name-1_a": {"type": "string", "minLength": 1}}, "required": ["x"]});
    assert_eq!(
        tools(&[tool("get_weather-2", "Gets it.", fine.clone())])
            .expect("accepted")
            .len(),
        1
    );
    tools(&[tool(
        &"n".repeat(128),
        "x",
        json!({"type": "object", "properties": null}),
    )])
    .expect("accepted");
    check(
        tool("", "x", fine.clone()),
        "tools[0].name: expected 1 to 128",
    );
    check(
        tool(&"n".repeat(129), "x", fine.clone()),
        "tools[0].name: expected 1 to 128",
    );
    check(
        tool("get weather", "x", fine.clone()),
        "tools[0].name: expected 1 to 128",
    );
    check(
        tool("bash", "x", fine.clone()),
        "\"bash\" is the name of a built-in tool",
    );
    check(
        tool("web_search", "x", fine.clone()),
        "is the name of a built-in tool",
    );
    check(
        tool("mcp__x", "x", fine.clone()),
        "must not start with \"mcp__\"",
    );
    check(
        tool("x", " ", fine.clone()),
        "tools[0].description: must not be empty",
    );
    check(
        tool("x", "x", json!("object")),
        "tools[0].input_schema: expected an object",
    );
    check(
        tool("x", "x", json!({"type": "string"})),
        "tools[0].input_schema.type: expected \"object\"",
    );
    check(
        tool("x", "x", json!({})),
        "tools[0].input_schema.type: expected \"object\"",
    );
    check(
        tool("x", "x", json!({"type": "object", "anyOf": []})),
        "anyOf is not allowed",
    );
    check(
        tool(
            "x",
            "x",
            json!({"type": "object", "properties": {"a": {"items": [{"$ref": "#"}]}}}),
        ),
        "$ref is not allowed",
    );
    check(
        tool(
            "x",
            "x",
            json!({"type": "object", "properties": {"a b": {}}}),
        ),
        "\"a b\" is not 1 to 64",
    );
    check(
        tool("x", "x", json!({"type": "object", "properties": []})),
        "properties: expected an object",
    );
    check(
        tool("x", "x", json!({"type": "object", "required": [1]})),
        "required: expected a list of strings",
    );
    refused(
        tools(&[tool("x", "x", fine.clone()), tool("x", "y", fine)]),
        "tools[1].name: \"x\" is used twice",
    );
}

/// runtime AG-9, CONFLICT-7; security API-4
#[test]
fn limits_are_exact() {
    let custom = |n: usize| json!({"type": "custom", "name": format!("t{n}"), "description": "x", "input_schema": {"type": "object"}});
    let many = |n: usize| (0..n).map(custom).collect::<Vec<_>>();
    assert_eq!(tools(&many(128)).expect("accepted").len(), 128);
    refused(tools(&many(129)), "tools: has 129 entries");

    let bag = |pairs: usize, key: usize, value: usize| {
        (0..pairs)
            .map(|n| (format!("{n:0key$}"), "é".repeat(value)))
            .collect::<Metadata>()
    };
    metadata(bag(16, 64, 512)).expect("accepted");
    refused(metadata(bag(17, 3, 1)), "metadata: has 17 pairs");
    refused(metadata(bag(1, 65, 1)), "keys have 1 to 64");
    refused(metadata(bag(1, 64, 513)), "more than 512");
    refused(
        metadata(Metadata::from([(String::new(), String::new())])),
        "keys have 1 to 64",
    );

    text("name", &"é".repeat(256), 1, 256).expect("accepted");
    refused(
        text("name", &"é".repeat(257), 1, 256),
        "name: is 257 characters long; at most 256",
    );
    refused(text("name", "", 1, 256), "name: must not be empty");
    assert_eq!(
        optional_text("system", Some(String::new()), 5).expect("accepted"),
        None
    );
}

#[test]
fn ht_16_metadata_merges_per_key() {
    let current = Metadata::from([
        ("a".to_owned(), "1".to_owned()),
        ("b".to_owned(), "2".to_owned()),
    ]);
    let patch = BTreeMap::from([
        ("a".to_owned(), None),
        ("b".to_owned(), Some("3".to_owned())),
        ("c".to_owned(), Some(String::new())),
    ]);
    let merged = merge_metadata(&current, patch).expect("accepted");
    assert_eq!(
        serde_json::to_value(merged).expect("JSON"),
        json!({"b": "3", "c": ""})
    );
}

#[test]
fn ag_12_only_the_default_identity_is_built() {
    assert_eq!(
        execution_identity(None).expect("accepted"),
        ExecutionIdentity::ServiceAccount
    );
    refused(
        execution_identity(Some(ExecutionIdentity::AwsRole {
            role_arn: "x".to_owned(),
        })),
        "execution_identity: aws_role is not supported",
    );
}
