use serde_json::json;

use super::super::tools;
use super::*;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, problem: &str) {
    let error = result.expect_err(problem);
    assert!(error.message().contains(problem), "{}", error.message());
}

fn server(name: &str, url: &str) -> Value {
    json!({"type": "url", "name": name, "url": url})
}

fn toolset_of(name: &str) -> Value {
    json!({"type": "mcp_toolset", "mcp_server_name": name})
}

#[test]
fn mc_1_servers_have_a_name_and_a_url_and_no_secrets() {
    let given = [
        server("docs", "https://MCP.example.com:443/mcp/?team=a"),
        server("päper", "http://localhost:8080/mcp"),
    ];
    let shown = servers(&given).expect("accepted");
    assert_eq!(
        serde_json::to_value(shown).expect("JSON"),
        json!(given),
        "as they were given"
    );
    #[track_caller]
    fn check(entry: Value, problem: &str) {
        refused(
            servers(&[server("a", "https://a.example.com"), entry]),
            problem,
        );
    }
    let url = |url: &str| server("b", url);
    check(json!("b"), "mcp_servers[1]: expected an object");
    check(
        json!({"name": "b", "url": "https://b.example.com"}),
        "mcp_servers[1].type: is required",
    );
    check(
        json!({"type": "stdio", "name": "b"}),
        "mcp_servers[1].type: expected url",
    );
    check(
        json!({"type": "url", "name": "b"}),
        "mcp_servers[1]: missing field `url`",
    );
    check(
        json!({"type": "url", "name": 1, "url": "https://b.example.com"}),
        "mcp_servers[1].name: invalid type",
    );
    check(
        server("", "https://b.example.com"),
        "mcp_servers[1].name: must not be empty",
    );
    check(
        server("a", "https://b.example.com"),
        "mcp_servers[1].name: \"a\" is used twice",
    );
    check(url(""), "mcp_servers[1].url: must not be empty");
    let scheme = "mcp_servers[1].url: the URL must begin with https:// or http://";
    check(url("b.example.com"), scheme);
    check(url("ftp://b.example.com"), scheme);
    let user = "mcp_servers[1].url: the URL must have no user and no password";
    check(url("https://me:key@b.example.com"), user);
    check(url("https://key@b.example.com"), user);
    check(
        url("https://b.example.com/#x"),
        "mcp_servers[1].url: the URL must have no fragment",
    );
    check(
        url("https://b.example.com/a/../b"),
        "mcp_servers[1].url: the URL's path must have no . or .. segments",
    );
    check(
        url("https://2130706433/mcp"),
        "mcp_servers[1].url: the host is an address",
    );
    check(
        url("https://b.example.com./mcp"),
        "mcp_servers[1].url: the host ends with a dot",
    );
}

/// runtime AG-9; api §29
#[test]
fn ag_9_the_limits_of_servers_are_exact() {
    let many = |n: usize| {
        (0..n)
            .map(|n| server(&format!("s{n}"), "https://a.example.com"))
            .collect::<Vec<_>>()
    };
    assert_eq!(servers(&many(20)).expect("accepted").len(), 20);
    refused(
        servers(&many(21)),
        "mcp_servers: has 21 entries; at most 20",
    );
    let long = |name: usize, url: usize| {
        let url = format!("https://a.example.com/{}", "x".repeat(url - 22));
        servers(&[server(&"é".repeat(name), &url)])
    };
    long(255, 2048).expect("accepted");
    refused(
        long(256, 2048),
        "mcp_servers[0].name: is 256 characters long",
    );
    refused(
        long(255, 2049),
        "mcp_servers[0].url: is 2049 characters long",
    );
}

#[test]
fn mc_2_toolsets_are_resolved_and_ask_by_default() {
    #[track_caller]
    fn check(more: Value, configs: Value, default: Value) {
        let mut given = toolset_of("docs");
        let members = given.as_object_mut().expect("an object");
        members.extend(more.as_object().expect("an object").clone());
        let shown = tools(&[given]).expect("accepted");
        let expected = json!([{"type": "mcp_toolset", "mcp_server_name": "docs", "configs": configs,
            "default_config": default}]);
        assert_eq!(serde_json::to_value(shown).expect("JSON"), expected);
    }
    let policy = |name: &str| json!({"type": name});
    let set =
        |enabled: bool, name: &str| json!({"enabled": enabled, "permission_policy": policy(name)});
    let one = |name: &str, enabled: bool, by: &str| json!({"name": name, "enabled": enabled, "permission_policy": policy(by)});
    check(json!({}), json!([]), set(true, "always_ask"));
    check(
        json!({"configs": null, "default_config": null}),
        json!([]),
        set(true, "always_ask"),
    );
    check(
        json!({"configs": [{"name": "get.it"}, {"name": "b", "enabled": false, "permission_policy": policy("auto")}]}),
        json!([one("get.it", true, "always_ask"), one("b", false, "auto")]),
        set(true, "always_ask"),
    );
    // MC-3: with a default of off, only what is named is on.
    check(
        json!({"default_config": {"enabled": false, "permission_policy": policy("always_allow")},
            "configs": [{"name": "a", "enabled": true}, {"name": "b", "enabled": null}]}),
        json!([
            one("a", true, "always_allow"),
            one("b", false, "always_allow")
        ]),
        set(false, "always_allow"),
    );
}

#[test]
fn mc_2_toolsets_that_are_wrong_are_refused_by_field() {
    #[track_caller]
    fn check(given: Value, problem: &str) {
        refused(tools(&[given]), problem);
    }
    let with = |configs: Value| json!({"type": "mcp_toolset", "mcp_server_name": "docs", "configs": configs});
    check(
        json!({"type": "mcp_toolset"}),
        "tools[0]: missing field `mcp_server_name`",
    );
    check(
        toolset_of(""),
        "tools[0].mcp_server_name: must not be empty",
    );
    check(
        toolset_of(&"x".repeat(256)),
        "tools[0].mcp_server_name: is 256 characters long",
    );
    check(
        with(json!([{"name": ""}])),
        "tools[0].configs[0].name: must not be empty",
    );
    check(
        with(json!([{"name": "x".repeat(129)}])),
        "tools[0].configs[0].name: is 129 characters long",
    );
    check(
        with(json!([{"name": "a"}, {"name": "a"}])),
        "tools[0].configs[1]: \"a\" is listed twice",
    );
    check(
        with(json!([{"enabled": true}])),
        "tools[0].configs[0]: missing field `name`",
    );
    check(
        with(json!([{"name": "a", "permission_policy": {"type": "never"}}])),
        "tools[0].configs[0].permission_policy",
    );
    tools(&[with(json!([{"name": "x".repeat(128)}]))]).expect("accepted");
}

/// runtime AG-9, CONFLICT-6
#[test]
fn conflict_6_all_toolsets_together_name_at_most_256_tools() {
    let named = |n: usize| {
        (0..n)
            .map(|n| json!({"name": format!("t{n}")}))
            .collect::<Vec<_>>()
    };
    let list = |n: usize| {
        let custom = json!({"type": "custom", "name": "c", "description": "x", "input_schema": {"type": "object"}});
        let mut set = toolset_of("docs");
        set["configs"] = json!(named(n));
        tools(&[json!({"type": "agent_toolset_20260401"}), custom, set])
    };
    list(256 - 8 - 1).expect("accepted");
    refused(list(256 - 8), "tools: name 257 tools; at most 256");
}

#[test]
fn ag_9_toolsets_and_servers_name_each_other() {
    #[track_caller]
    fn check(toolsets: &[&str], names: &[&str]) -> Result<(), ApiError> {
        let sets: Vec<Value> = toolsets.iter().map(|name| toolset_of(name)).collect();
        let entries: Vec<Value> = names
            .iter()
            .map(|name| server(name, "https://a.example.com"))
            .collect();
        agree(
            &tools(&sets).expect("tools"),
            &servers(&entries).expect("servers"),
        )
    }
    check(&[], &[]).expect("accepted");
    check(&["b", "a"], &["a", "b"]).expect("accepted");
    refused(
        check(&["a", "b"], &["a"]),
        "tools[1].mcp_server_name: \"b\" is not one of mcp_servers",
    );
    refused(
        check(&["a"], &["a", "b"]),
        "mcp_servers[1].name: no mcp_toolset names \"b\"",
    );
    refused(
        check(&["A"], &["a"]),
        "tools[0].mcp_server_name: \"A\" is not one",
    );
    refused(
        check(&["a", "a"], &["a"]),
        "tools[1].mcp_server_name: \"a\" has a toolset already",
    );
}
