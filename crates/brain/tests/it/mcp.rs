//! Turns with tools of MCP servers (runtime §17).

use std::sync::{Arc, Mutex};

use manyhands_brain::State;
use manyhands_hands::{Call, Output};
use manyhands_mcp::scripted::Scripted;
use manyhands_protocol::agent::{McpToolConfig, PermissionPolicy, Tool};
use manyhands_protocol::event::{Confirmation, EventBody};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{ModelServer, Reply};
use serde_json::{Value, json};

use crate::bed::{
    Bed, DONE, Slow, confirmation, docs_and_mail, interrupt, offered, said, server_url, talking_to,
};

const ALLOW: PermissionPolicy = PermissionPolicy::AlwaysAllow {};
const ASK: PermissionPolicy = PermissionPolicy::AlwaysAsk {};

async fn bed(
    servers: &Scripted,
    policy: PermissionPolicy,
    replies: impl IntoIterator<Item = Reply>,
) -> Bed {
    let mut bed = Bed::asleep_at(servers, policy, replies).await;
    bed.wake();
    bed
}

fn search(id: &str) -> Reply {
    Reply::tool_use(id, "mcp__docs__search", json!({"query": "x"}))
}

/// The ids of the calls so far.
async fn calls(bed: &Bed) -> Vec<String> {
    let events = bed.events("agent.mcp_tool_use").await;
    let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
    events.iter().map(id).collect()
}

/// The private entries of what servers have listed, a line for each: its servers.
async fn listed(bed: &Bed) -> Vec<String> {
    let entries = bed.entries().await;
    let lists = entries
        .iter()
        .filter(|entry| &*entry.type_name == "mcp_tools");
    let line = |body: &str| {
        let body: Value = serde_json::from_str(body).unwrap();
        let servers = body["servers"].as_array().unwrap().iter().map(|server| {
            let said = match &server["listed"] {
                Value::Object(tools) => tools["tools"].as_array().unwrap().len().to_string(),
                other => other.as_str().unwrap().to_owned(),
            };
            format!("{} {said}", server["name"].as_str().unwrap())
        });
        servers.collect::<Vec<_>>().join(", ")
    };
    lists.map(|entry| line(&entry.body)).collect()
}

/// runtime MC-4, MC-5, SQ-6, TC-3, TC-4, MC-11
#[tokio::test]
async fn mc_5_a_tool_of_a_server_is_called_beside_the_sandbox() {
    let servers = docs_and_mail();
    let mut bed = bed(&servers, ALLOW, [search("toolu_1"), Reply::text("Done.")]).await;
    let log = bed.turn("Look it up").await;
    assert_eq!(
        log[3..],
        [
            &[
                "user.message processed",
                "span.model_request_start",
                "agent.mcp_tool_use: search of docs {\"query\":\"x\"} allow",
                "span.model_request_end",
                "agent.mcp_tool_result: search: {\"query\":\"x\"}",
            ][..],
            &DONE
        ]
        .concat()
    );
    let event = &bed.events("agent.mcp_tool_use").await[0];
    assert_eq!(event["evaluation"], json!({"type": "always_allow"}));
    let result = &bed.events("agent.mcp_tool_result").await[0];
    assert_eq!(result["mcp_tool_use_id"], event["id"]);
    assert_eq!(result["is_error"], false);

    let requests = bed.model.requests();
    let names = requests[0].tool_names();
    let own: Vec<&&str> = names
        .iter()
        .filter(|name| name.starts_with("mcp__"))
        .collect();
    let expected = [
        "mcp__docs__read",
        "mcp__docs__search",
        "mcp__mail__list",
        "mcp__mail__send",
    ];
    assert_eq!(own, expected.iter().collect::<Vec<_>>());
    let results = requests[1].tool_results();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].tool_use_id, "toolu_1");

    let made = servers.calls();
    assert_eq!(made.len(), 1);
    assert_eq!(
        (&*made[0].name, &*made[0].url),
        ("search", &*server_url("docs"))
    );
    assert_eq!(made[0].caller.session, bed.session);
    assert!(bed.hands.starts().is_empty(), "no sandbox is needed");
    assert_eq!(listed(&bed).await, ["docs 2, mail 2"]);
    bed.assert_each_call_has_one_result().await;
    bed.shut_down().await;
    assert!(servers.closed() > 0, "conversations end with the wake");
}

/// runtime MC-2, TC-1, TC-7, SQ-7, API-5
#[tokio::test]
async fn mc_2_tools_of_servers_run_only_once_the_client_agrees() {
    let servers = docs_and_mail();
    let both = search("toolu_1").then_tool_use("toolu_2", "mcp__mail__send", json!({}));
    let bed = bed(&servers, ASK, [both, Reply::text("Done.")]).await;
    bed.turn("Go").await;
    let calls = calls(&bed).await;
    let idle = &bed.events("session.status_idle").await[0]["stop_reason"];
    assert_eq!(
        *idle,
        json!({"type": "requires_action", "event_ids": calls})
    );
    assert!(servers.calls().is_empty(), "nothing runs before the answer");
    assert_eq!(bed.waiting().await, ["agent.mcp_tool_use"; 2], "SE-15");
    let answers = [
        confirmation(&calls[0], Confirmation::Allow, None),
        confirmation(&calls[1], Confirmation::Deny, Some("Not to them.")),
    ];
    bed.send(answers.into()).await;
    bed.seen("session.status_idle", 2).await;
    let log = bed.log().await;
    let results: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with("agent.mcp_tool_result"))
        .collect();
    assert_eq!(
        results,
        [
            "agent.mcp_tool_result: The user rejected this tool call. Reason: Not to them. (error)",
            "agent.mcp_tool_result: search: {\"query\":\"x\"}",
        ]
    );
    let made: Vec<String> = servers.calls().into_iter().map(|call| call.name).collect();
    assert_eq!(made, ["search"]);
    assert_eq!(listed(&bed).await, ["docs 2, mail 2"], "once in the turn");
    bed.assert_each_call_has_one_result().await;
}

/// runtime MC-2, MC-3, TC-2, TL-5, TC-5
#[tokio::test]
async fn mc_3_what_is_switched_off_or_not_there_is_refused() {
    let servers = docs_and_mail();
    let reply = search("toolu_1")
        .then_tool_use("toolu_2", "mcp__docs__read", json!({}))
        .then_tool_use("toolu_3", "mcp__docs__gone", json!({}))
        .then_tool_use("toolu_4", "mcp__nowhere__search", json!({}));
    let mut bed = Bed::asleep_at(&servers, ALLOW, [reply, Reply::text("Done.")]).await;
    let mut tools = bed.record().await.agent.definition.tools;
    for tool in &mut tools {
        if let Tool::McpToolset {
            configs,
            default_config,
            ..
        } = tool
        {
            default_config.enabled = false;
            configs.push(McpToolConfig {
                name: "read".to_owned(),
                enabled: true,
                permission_policy: ALLOW,
            });
        }
    }
    bed.set_tools(tools).await;
    bed.wake();
    bed.turn("Go").await;
    let request = &bed.model.requests()[0];
    let names = request.tool_names();
    let own: Vec<_> = names.iter().filter(|name| name.contains("mcp_")).collect();
    assert_eq!(own, [&"mcp__docs__read"]);
    let log = bed.log().await;
    let told: Vec<&String> = log.iter().filter(|line| line.contains("tool_")).collect();
    assert_eq!(
        told,
        [
            "agent.mcp_tool_use: search of docs {\"query\":\"x\"} deny",
            "agent.mcp_tool_use: read of docs {} allow",
            "agent.mcp_tool_use: gone of docs {} deny",
            "agent.tool_use: mcp__nowhere__search {} deny",
            "agent.mcp_tool_result: the MCP server 'docs' offers no tool 'search' in this session now (error)",
            "agent.mcp_tool_result: the MCP server 'docs' offers no tool 'gone' in this session now (error)",
            "agent.tool_result: there is no tool named 'mcp__nowhere__search' (error)",
            "agent.mcp_tool_result: read: {}",
        ]
    );
    let events = bed.events("agent.mcp_tool_use").await;
    assert_eq!(events[0]["evaluation"], Value::Null);
    bed.assert_each_call_has_one_result().await;
}

/// runtime MC-3, CC-5, invariant I6: the tools of a turn are those at its beginning, and a list that did not change leaves
/// the request's beginning as it is.
#[tokio::test]
async fn mc_3_tools_that_appear_later_are_there_in_the_next_turn() {
    let servers = docs_and_mail();
    let mut bed = Bed::asleep_at(&servers, ALLOW, []).await;
    // It would refuse a request whose beginning changes.
    bed.model = ModelServer::start().await;
    bed.model
        .respond_with(|request| match request.messages().len() {
            3 => search("toolu_1"),
            _ => Reply::text("Done."),
        });
    bed.wake();
    bed.turn("One").await;
    bed.turn("Two").await;
    let tools = |number: usize| bed.model.requests()[number].body["tools"].to_string();
    assert_eq!(tools(1), tools(0));
    assert_eq!(tools(2), tools(0));
    servers.list(
        &server_url("docs"),
        Ok(offered(&["search", "edit", "read"])),
    );
    bed.turn("Three").await;
    let requests = bed.model.requests();
    let of = |number: usize| -> usize {
        let names = requests[number].tool_names();
        names.iter().filter(|name| name.contains("docs")).count()
    };
    let counts: Vec<usize> = (0..requests.len()).map(of).collect();
    assert_eq!(counts, [2, 2, 2, 3]);
    assert_eq!(
        listed(&bed).await,
        [
            "docs 2, mail 2",
            "docs same, mail same",
            "docs 3, mail same"
        ]
    );
}

/// runtime MC-8, invariant I8: an agent without servers waits for none.
#[tokio::test]
async fn mc_8_without_servers_nothing_is_asked() {
    let servers = docs_and_mail();
    let mut bed = Bed::asleep([Reply::text("Done.")]).await;
    bed.config.mcp = talking_to(servers.clone());
    bed.wake();
    bed.turn("Hi").await;
    assert!(listed(&bed).await.is_empty());
    assert!(servers.connected().is_empty());
}

/// runtime TL-3, MC-9, TL-4
#[tokio::test]
async fn mc_9_a_long_result_goes_to_a_file_of_the_sandbox() {
    let servers = docs_and_mail();
    let long = "0123456789".repeat(10_000) + "x";
    let answer = long.clone();
    servers.serve(&server_url("docs"), offered(&["search"]), move |_, _| {
        said(answer.clone())
    });
    let mut bed = Bed::asleep_at(&servers, ALLOW, [search("toolu_1"), Reply::text("Done.")]).await;
    let written: Arc<Mutex<Vec<Value>>> = Arc::default();
    let files = Arc::clone(&written);
    bed.hands = bed.hands.with_tool("write", move |call: Call| {
        files.lock().unwrap().push(call.input);
        async { Output::text("written") }
    });
    bed.wake();
    bed.turn("Look it up").await;
    let files = written.lock().unwrap().clone();
    let [file] = files.as_slice() else {
        panic!("one file: {files:?}")
    };
    assert_eq!(file["content"], *long, "the file is complete");
    let result = &bed.events("agent.mcp_tool_result").await[0];
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with(&long[..20_000]));
    let path = file["file_path"].as_str().unwrap();
    let note = format!(
        "[output truncated: 20000 of 100001 characters are shown. The whole output is in {path}.]"
    );
    assert!(text.ends_with(&note), "{}", &text[text.len() - 300..]);
    assert_eq!(result["is_error"], false);
    bed.assert_each_call_has_one_result().await;
}

/// runtime SQ-6, TL-21: tools of servers run beside each other and beside the sandbox's.
#[tokio::test]
async fn sq_6_calls_of_a_response_run_beside_each_other() {
    let servers = docs_and_mail();
    let gate = Gate::new();
    let reply = search("toolu_1")
        .then_tool_use("toolu_2", "bash", json!({"command": "ls"}))
        .then_tool_use("toolu_3", "web_search", json!({"query": "x"}));
    let mut bed = Bed::asleep_at(&servers, ALLOW, [reply, Reply::text("Done.")]).await;
    bed.config.mcp = talking_to(Slow {
        servers,
        lists: None,
        calls: Some(gate.clone()),
    });
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.seen("agent.tool_result", 2).await;
    let why = bed.why().await;
    assert_eq!(why.state, State::RunningTools);
    assert_eq!(
        why.details.calls[0].mcp_server_name.as_deref(),
        Some("docs")
    );
    gate.open();
    bed.idle().await;
    bed.assert_each_call_has_one_result().await;
}

/// runtime IN-2, IN-6
#[tokio::test]
async fn in_2_an_interrupt_ends_a_call_and_a_look_for_tools() {
    for lists in [true, false] {
        let servers = docs_and_mail();
        let gate = Gate::new();
        let mut bed = Bed::asleep_at(&servers, ALLOW, []).await;
        bed.model
            .respond_with(|request| match request.messages().len() {
                1 => search("toolu_1"),
                _ => Reply::text("Done."),
            });
        bed.config.mcp = talking_to(Slow {
            servers,
            lists: lists.then(|| gate.clone()),
            calls: (!lists).then(|| gate.clone()),
        });
        bed.wake();
        bed.say("Go").await;
        gate.reached().await;
        if lists {
            let why = bed.why().await;
            assert_eq!(why.state, State::ListingTools, "{}", why.sentence);
        }
        bed.send(vec![interrupt()]).await;
        bed.seen("session.status_idle", 1).await;
        let log = bed.log().await;
        let result = "agent.mcp_tool_result: Tool execution was interrupted before completion. Please retry. (error)";
        let cut_off = log.iter().any(|line| line == result);
        assert_eq!(cut_off, !lists, "{log:?}");
        let idle = "session.status_idle: end_turn".to_owned();
        assert!(log.contains(&idle), "{log:?}");
        bed.assert_each_call_has_one_result().await;
        // The next turn is as any other.
        gate.open();
        bed.idle().await;
        bed.turn("Again").await;
        let log = bed.log().await;
        assert!(log.contains(&"agent.message: Done.".to_owned()), "{log:?}");
    }
}

/// runtime TC-8: under `auto` the judge hears the name that the model used.
#[tokio::test]
async fn tc_8_tools_of_servers_are_judged() {
    #[derive(Debug)]
    struct Strict(Mutex<Vec<String>>);
    #[async_trait::async_trait]
    impl manyhands_brain::Judge for Strict {
        async fn judge(
            &self,
            call: &manyhands_brain::Judged,
        ) -> Result<manyhands_protocol::event::Judgement, manyhands_brain::JudgeError> {
            self.0.lock().unwrap().push(call.tool.clone());
            Ok(manyhands_protocol::event::Judgement::Deny {
                reason_code: "high_risk".to_owned(),
            })
        }
    }
    let servers = docs_and_mail();
    let auto = PermissionPolicy::Auto {};
    let mut bed = Bed::asleep_at(&servers, auto, [search("toolu_1"), Reply::text("Done.")]).await;
    let judge = Arc::new(Strict(Mutex::default()));
    bed.config.judge = Some(Arc::clone(&judge) as Arc<dyn manyhands_brain::Judge>);
    bed.wake();
    let log = bed.turn("Go").await;
    assert_eq!(*judge.0.lock().unwrap(), ["mcp__docs__search"]);
    let denied =
        "agent.mcp_tool_result: Permission to use mcp__docs__search has been denied. (error)";
    assert!(log.contains(&denied.to_owned()), "{log:?}");
    assert!(servers.calls().is_empty());
}

/// runtime UP-3, TC-11: a call that waits for a word is made at the server it was asked of, whatever the agent has since.
#[tokio::test]
async fn up_3_a_waiting_call_keeps_its_server() {
    let servers = docs_and_mail();
    let bed = bed(&servers, ASK, [search("toolu_1"), Reply::text("Done.")]).await;
    bed.turn("Go").await;
    bed.set_servers(&[]).await;
    let call = calls(&bed).await.remove(0);
    let allow: EventBody = confirmation(&call, Confirmation::Allow, None);
    bed.send(vec![allow]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(servers.calls().len(), 1);
    bed.assert_each_call_has_one_result().await;
}
