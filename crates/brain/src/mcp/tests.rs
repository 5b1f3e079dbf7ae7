use manyhands_mcp::Failure;
use manyhands_protocol::agent::{McpToolConfig, ToolDefault};
use serde_json::{Value, json};

use super::listing::Listed;
use super::*;
use crate::testing::mcp_agent as with;

const ALLOW: PermissionPolicy = PermissionPolicy::AlwaysAllow {};
const ASK: PermissionPolicy = PermissionPolicy::AlwaysAsk {};

fn configure(
    agent: &mut Definition,
    configs: &[(&str, bool, PermissionPolicy)],
    default: ToolDefault,
) {
    let toolset = agent.tools.iter_mut().rev().find_map(|tool| match tool {
        AgentTool::McpToolset {
            configs,
            default_config,
            ..
        } => Some((configs, default_config)),
        _ => None,
    });
    let (all, default_config) = toolset.expect("a toolset");
    *default_config = default;
    all.extend(configs.iter().map(|(name, enabled, policy)| McpToolConfig {
        name: (*name).to_owned(),
        enabled: *enabled,
        permission_policy: *policy,
    }));
}

fn tool(name: &str) -> Tool {
    sized(name, 0)
}

fn sized(name: &str, bytes: usize) -> Tool {
    Tool {
        name: name.to_owned(),
        description: "d".repeat(bytes),
        input_schema: serde_json::Map::new(),
    }
}

fn tools(names: &[&str]) -> Vec<Tool> {
    names.iter().map(|name| tool(name)).collect()
}

/// What is known once these servers have answered.
fn known(agent: &Definition, answers: &[(&str, &[&str])]) -> Listings {
    let mut listings = Listings::default();
    let answers = answers.iter().map(|(name, listed)| {
        let server = server(agent, name).expect("the agent's");
        (server, Ok(tools(listed)))
    });
    let (said, told) = admit(agent, &listings, answers.collect());
    assert!(told.is_empty());
    listings.fold(said);
    listings
}

fn offered(agent: &Definition, listings: &Listings) -> Vec<String> {
    let offers = offers(agent, listings);
    offers
        .map(|offer| format!("{} {}", offer.server, offer.tool.name))
        .collect()
}

/// runtime MC-2, MC-3, TC-1, TC-2
#[test]
fn mc_2_a_tools_own_setting_comes_before_the_default_of_its_toolset() {
    #[track_caller]
    fn check(
        configs: &[(&str, bool, PermissionPolicy)],
        default: (bool, PermissionPolicy),
        expected: Option<PermissionPolicy>,
    ) {
        let mut agent = with(&["docs"]);
        let default = ToolDefault {
            enabled: default.0,
            permission_policy: default.1,
        };
        configure(&mut agent, configs, default);
        assert_eq!(policy(&agent, "docs", "search"), expected);
        assert_eq!(policy(&agent, "other", "search"), None, "no toolset (I9)");
    }
    check(&[], (true, ASK), Some(ASK));
    check(&[], (true, ALLOW), Some(ALLOW));
    // Tools that appear later follow the default.
    check(&[("read", true, ALLOW)], (true, ASK), Some(ASK));
    check(&[("read", true, ALLOW)], (false, ALLOW), None);
    check(&[("search", true, ALLOW)], (false, ASK), Some(ALLOW));
    check(&[("search", false, ALLOW)], (true, ALLOW), None);
}

/// runtime MC-4, TL-5
#[test]
fn mc_4_a_name_means_a_tool_that_is_offered_or_one_that_is_not() {
    let mut agent = with(&["docs", "wiki"]);
    let default = ToolDefault {
        enabled: true,
        permission_policy: ALLOW,
    };
    configure(&mut agent, &[("edit", false, ALLOW)], default);
    let listings = known(
        &agent,
        &[("docs", &["search"]), ("wiki", &["search", "edit", "a b"])],
    );
    #[track_caller]
    fn check(agent: &Definition, listings: &Listings, name: &str, expected: Value) {
        let told = match meaning(agent, listings, name) {
            None => Value::Null,
            Some(Meaning::Offered(target, policy)) => json!([target, policy]),
            Some(Meaning::Absent(target)) => json!([target]),
        };
        assert_eq!(told, expected, "{name}");
    }
    let check = |name: &str, expected: Value| check(&agent, &listings, name, expected);
    let target = |server: &str, tool: &str| json!({"server": server, "tool": tool});
    let ask = json!({"type": "always_ask"});
    let allow = json!({"type": "always_allow"});
    check("mcp__docs__search", json!([target("docs", "search"), ask]));
    check(
        "mcp__wiki__search",
        json!([target("wiki", "search"), allow]),
    );
    check(
        &model_name("wiki", "a b"),
        json!([target("wiki", "a b"), allow]),
    );
    // Switched off, and not listed.
    check("mcp__wiki__edit", json!([target("wiki", "edit")]));
    check("mcp__docs__gone", json!([target("docs", "gone")]));
    check("mcp__other__search", Value::Null);
    check("mcp__docs__", Value::Null);
    check("search", Value::Null);
    check("bash", Value::Null);
}

/// runtime MC-3, MC-4, CC-5
#[test]
fn mc_3_offers_are_in_the_order_of_toolsets_and_names() {
    let mut agent = with(&["wiki", "docs"]);
    // A server without a toolset is none of the model's.
    agent.mcp_servers.push(McpServer::Url {
        name: "spare".to_owned(),
        url: "https://spare.example.com/".to_owned(),
    });
    let listings = known(
        &agent,
        &[("docs", &["b", "c", "a", "b"]), ("wiki", &["z", "y"])],
    );
    let expected = ["wiki y", "wiki z", "docs a", "docs b", "docs c"];
    assert_eq!(offered(&agent, &listings), expected);
    // Behind another URL it is another server.
    agent.mcp_servers[1] = McpServer::Url {
        name: "docs".to_owned(),
        url: "https://other.example.com/".to_owned(),
    };
    assert_eq!(offered(&agent, &listings), &expected[..2]);
    let due: Vec<&str> = listings.due(&agent).map(|server| server.name).collect();
    assert_eq!(due, ["docs"]);
}

/// runtime MC-8
#[test]
fn mc_8_servers_are_asked_when_a_turn_begins_and_failed_ones_when_it_goes_on() {
    let agent = with(&["docs", "wiki"]);
    let due = |listings: &Listings| -> Vec<String> {
        let due = listings.due(&agent);
        due.map(|server| server.name.to_owned()).collect()
    };
    let mut listings = Listings::default();
    assert_eq!(due(&listings), ["docs", "wiki"]);
    let failed = || Failure::Connection {
        reason: "it is down".to_owned(),
    };
    let answer = |listings: &mut Listings, answers: Vec<(&str, Result<Vec<Tool>, Failure>)>| {
        let answers = answers.into_iter();
        let answers =
            answers.map(|(name, answer)| (server(&agent, name).expect("the agent's"), answer));
        let (said, told) = admit(&agent, listings, answers.collect());
        let written = serde_json::to_value(&said).unwrap();
        listings.fold(serde_json::from_value(written.clone()).unwrap());
        let of = |server: &Value| match &server["listed"] {
            Value::Object(tools) => tools["tools"].as_array().unwrap().len().to_string(),
            other => other.as_str().unwrap().to_owned(),
        };
        let written: Vec<String> = written["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(of)
            .collect();
        (written, told.len())
    };
    let said = answer(
        &mut listings,
        vec![("docs", Ok(tools(&["a"]))), ("wiki", Err(failed()))],
    );
    assert_eq!(said, (vec!["1".to_owned(), "failed".to_owned()], 1));
    assert!(due(&listings).is_empty(), "once in a turn");
    assert_eq!(offered(&agent, &listings), ["docs a"]);
    assert!(listings.is_failure_told("wiki") && !listings.is_failure_told("docs"));

    listings.turn_resumes();
    assert_eq!(due(&listings), ["wiki"]);
    listings.turn_begins();
    assert_eq!(due(&listings), ["docs", "wiki"]);
    assert_eq!(
        offered(&agent, &listings),
        ["docs a"],
        "the last known, until then"
    );

    let said = answer(
        &mut listings,
        vec![("docs", Ok(tools(&["a"]))), ("wiki", Ok(tools(&["b"])))],
    );
    assert_eq!(said, (vec!["same".to_owned(), "1".to_owned()], 0));
    assert_eq!(offered(&agent, &listings), ["docs a", "wiki b"]);
    assert!(!listings.is_failure_told("wiki"));
    listings.failure_told("wiki");
    assert!(listings.is_failure_told("wiki"));
}

/// runtime MC-7
#[test]
fn mc_7_failures_are_told_by_what_the_client_can_do() {
    #[track_caller]
    fn check(failure: Failure, kind: &str) {
        let error = json!(session_error("docs", &failure));
        assert_eq!(error["type"], kind);
        assert_eq!(error["mcp_server_name"], "docs");
        assert_eq!(error["retry_status"], json!({"type": "retrying"}));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("docs"), "{message}");
    }
    let reason = || "it is down".to_owned();
    let connection = "mcp_connection_failed_error";
    check(Failure::Connection { reason: reason() }, connection);
    check(Failure::Unknown { reason: reason() }, connection);
    check(Failure::TooLarge { most: 1 }, connection);
    check(
        Failure::Authentication { reason: reason() },
        "mcp_authentication_failed_error",
    );
}

/// runtime MC-12, security INP-1
#[test]
fn inp_1_lists_are_taken_up_to_a_limit_and_what_is_left_out_is_told() {
    let mut agent = with(&["docs", "wiki"]);
    let none = Listings::default();
    let answer = |agent: &Definition, known: &Listings, name: &str, tools: Vec<Tool>| {
        let server = server(agent, name).expect("the agent's");
        let (said, told) = admit(agent, known, vec![(server, Ok(tools))]);
        let taken = match &said.servers[0].listed {
            Listed::Tools(tools) => tools.len(),
            other => panic!("{other:?}"),
        };
        let mut known = known.clone();
        known.fold(said);
        (taken, told, known)
    };
    let many = |count: usize, bytes: usize| -> Vec<Tool> {
        let names = (0..count).map(|number| format!("t{number:04}"));
        names.map(|name| sized(&name, bytes)).collect()
    };
    let (taken, told, known) = answer(&agent, &none, "docs", many(600, 10));
    assert_eq!(taken, 512);
    let message = &told[0].message;
    assert!(message.contains("88 of its tools"), "{message}");
    // What the others have taken is gone.
    let (taken, told, _) = answer(&agent, &known, "wiki", many(3, 10));
    assert_eq!((taken, told.len()), (0, 1));
    let (taken, _, known) = answer(&agent, &none, "docs", many(500, 10));
    assert_eq!(taken, 500);
    assert_eq!(answer(&agent, &known, "wiki", many(20, 10)).0, 12);
    // The same list again is nothing new.
    let server = server(&agent, "docs").expect("the agent's");
    let (said, told) = admit(&agent, &known, vec![(server, Ok(many(500, 10)))]);
    assert_eq!((&said.servers[0].listed, told.len()), (&Listed::Same, 0));

    assert_eq!(answer(&agent, &none, "docs", many(40, 30 << 10)).0, 34);
    assert_eq!(answer(&agent, &none, "docs", many(2, 70 << 10)).0, 0);
    // What is switched off takes no place.
    let off = ToolDefault {
        enabled: false,
        permission_policy: ASK,
    };
    agent.tools.pop();
    agent.mcp_servers.pop();
    configure(&mut agent, &[("t0599", true, ASK)], off);
    let (taken, told, _) = answer(&agent, &none, "docs", many(600, 10));
    assert_eq!((taken, told.len()), (1, 0));
}
