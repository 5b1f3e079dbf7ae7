use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::models::Scripted;
use crate::testing::{Log, agent};

fn model() -> Resolved {
    Resolved {
        model: Arc::new(Scripted::built_in()),
        upstream_id: "m-1".to_owned(),
        max_output: 100,
        context_window: None,
        mid_conversation_system: true,
        thinking: Thinking::Unset,
        effort: true,
        prices: None,
    }
}

fn request(agent: &Definition, model: &Resolved, log: &Log) -> Value {
    let request = build(agent, model, &log.fold());
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn ht_7_a_request_has_these_members_and_no_others() {
    let body = build(&agent(), &model(), &Log::default().asked("a", "hi").fold()).body;
    let text = std::str::from_utf8(&body).unwrap();
    assert!(
        text.starts_with(
            r#"{"model":"m-1","max_tokens":100,"stream":true,"tools":[{"description":"#
        ),
        "{text}"
    );
    let value: Value = serde_json::from_slice(&body).unwrap();
    let members: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        [
            "max_tokens",
            "messages",
            "model",
            "stream",
            "system",
            "tools"
        ]
    );
    let messages = json!([{"role": "user", "content": [
        {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
    ]}]);
    assert_eq!(value["messages"], messages);
}

#[test]
fn fi_9_an_agent_with_a_sandbox_is_told_of_both_directories() {
    let log = Log::default().asked("a", "hi");
    let told = |agent: &Definition| request(agent, &model(), &log)["system"].to_string();
    let with = told(&agent());
    assert!(
        with.contains("/mnt/session/uploads") && with.contains("/mnt/session/outputs"),
        "{with}"
    );
    let mut without = agent();
    without.tools.clear();
    assert!(!told(&without).contains("/mnt/session"), "runtime FI-7");
}

#[test]
fn effort_and_thinking_are_sent_when_they_say_something() {
    let log = Log::default().asked("a", "hi");
    #[track_caller]
    fn check(value: &Value, effort: Value, thinking: Value) {
        assert_eq!(
            (&value["output_config"], &value["thinking"]),
            (&effort, &thinking)
        );
    }
    let mut agent = agent();
    check(&request(&agent, &model(), &log), Value::Null, Value::Null);
    agent.model.effort.level = EffortLevel::Low;
    check(
        &request(&agent, &model(), &log),
        json!({"effort": "low"}),
        Value::Null,
    );
    let mut model = model();
    model.effort = false;
    model.thinking = Thinking::Adaptive;
    check(
        &request(&agent, &model, &log),
        Value::Null,
        json!({"type": "adaptive"}),
    );
    model.thinking = Thinking::Budget(2048);
    let budget = json!({"type": "enabled", "budget_tokens": 2048});
    check(&request(&agent, &model, &log), Value::Null, budget);
}

#[test]
fn ag_10_tools_follow_the_snapshot() {
    let mut agent = agent();
    let names = |agent: &Definition| {
        let value = request(agent, &model(), &Log::default().asked("a", "hi"));
        let tools = value["tools"].as_array().cloned().unwrap_or_default();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&agent),
        [
            "bash",
            "read",
            "write",
            "edit",
            "glob",
            "web_fetch",
            "web_search",
            "ask"
        ]
    );
    for (name, expected) in [
        ("bash", Access::BuiltIn),
        ("grep", Access::None),
        ("ask", Access::Custom),
        ("web_fetch", Access::BuiltIn),
        ("", Access::None),
    ] {
        assert_eq!(access(&agent, name), expected, "{name}");
    }
    agent.tools.clear();
    agent.system = None;
    assert_eq!(names(&agent), Vec::<String>::new());
    let value = request(&agent, &model(), &Log::default().asked("a", "hi"));
    assert!(value.get("system").is_none() && value.get("tools").is_none());
}

#[test]
fn se_9_system_messages_are_turns_or_said_in_the_users() {
    let log = Log::default()
        .asked("a", "hi")
        .system("s", "brief")
        .processed("s")
        .said("ok")
        .asked("b", "more")
        .system("t", "kind")
        .processed("t");
    let told = |takes: bool| {
        let model = Resolved {
            mid_conversation_system: takes,
            ..model()
        };
        let request = request(&agent(), &model, &log);
        let messages = request["messages"].as_array().unwrap().clone();
        let told = messages.iter().map(|message| {
            let blocks = message["content"].as_array().unwrap().iter();
            let texts = blocks.map(|block| {
                let mark = if block["cache_control"].is_null() {
                    ""
                } else {
                    "*"
                };
                format!("{}{mark}", block["text"].as_str().unwrap())
            });
            let texts: Vec<String> = texts.collect();
            format!("{}: {}", message["role"].as_str().unwrap(), texts.join("|"))
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        told(true),
        [
            "user: hi*",
            "system: brief",
            "assistant: ok",
            "user: more*",
            "system: kind"
        ]
    );
    assert_eq!(
        told(false),
        [
            "user: hi|The operator of this session says:|brief*",
            "assistant: ok",
            "user: more|The operator of this session says:|kind*",
        ]
    );
}

#[test]
fn cc_5_four_marks_at_the_ends_that_stay() {
    let log = Log::default()
        .asked("a", "1")
        .said("x")
        .asked("b", "2")
        .called("sandbox", &["c"])
        .result("c", "out");
    let value = request(&agent(), &model(), &log);
    let mark = json!({"type": "ephemeral"});
    assert_eq!(value["tools"][7]["cache_control"], mark);
    assert_eq!(value["system"][1]["cache_control"], mark);
    assert_eq!(value["messages"][2]["content"][0]["cache_control"], mark);
    assert_eq!(value["messages"][4]["content"][0]["cache_control"], mark);
    assert_eq!(value.to_string().matches("cache_control").count(), 4);
}

#[test]
fn i_6_two_runs_give_the_same_bytes() {
    let log = Log::default().asked("a", "1").said("x").asked("b", "2");
    let once = build(&agent(), &model(), &log.fold());
    assert_eq!(once, build(&agent(), &model(), &log.fold()));
}

/// runtime MC-3, MC-4, invariant I6
#[test]
fn mc_4_listed_tools_stand_behind_the_agents_own() {
    let agent = crate::testing::mcp_agent(&["docs", "wiki"]);
    let asked = || Log::default().message("a", "hi").running();
    let names = |log: &Log| -> Vec<String> {
        let request = request(&agent, &model(), log);
        let tools = request["tools"].as_array().unwrap();
        let names = tools.iter().map(|tool| tool["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    };
    let own = names(&asked());
    assert_eq!(own.last().unwrap(), "ask");
    let listed = asked()
        .listed("wiki", Some(&["find"]))
        .listed("docs", Some(&["read it", "search"]));
    let all = names(&listed);
    assert_eq!(all[..own.len()], own);
    let rest: Vec<&str> = all[own.len()..].iter().map(String::as_str).collect();
    assert!(rest[0].starts_with("mcp__docs__read_it_"), "{rest:?}");
    assert_eq!(rest[1..], ["mcp__docs__search", "mcp__wiki__find"]);
    assert_eq!(names(&listed.listed("docs", None)).len(), own.len() + 1);
    let fixed = |log: &Log| fixed_bytes(&agent, &log.fold());
    assert!(fixed(&asked().listed("docs", Some(&["search"]))) > fixed(&asked()));
}
