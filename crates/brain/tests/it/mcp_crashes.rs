//! The process dies while MCP servers are asked or called: no call is made twice, and each has one result (security LOG-2,
//! TOOL-2, invariants I3, I4).

use manyhands_protocol::agent::PermissionPolicy;
use manyhands_protocol::event::Confirmation;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, all_under, confirmation, docs_and_mail, hold_at, talking_to};
use crate::crashes::hold_step;

const ALLOW: PermissionPolicy = PermissionPolicy::AlwaysAllow {};
const ASK: PermissionPolicy = PermissionPolicy::AlwaysAsk {};

/// A turn with two rounds of calls.
async fn bed(servers: &manyhands_mcp::scripted::Scripted, policy: PermissionPolicy) -> Bed {
    let mut bed = Bed::asleep([]).await;
    bed.set_servers(&[("docs", all_under(ALLOW)), ("mail", all_under(policy))])
        .await;
    bed.config.mcp = talking_to(servers.clone());
    bed.model
        .respond_with(|request| match request.messages().len() {
            1 => Reply::tool_use("toolu_1", "mcp__mail__send", json!({"query": "a"}))
                .then_tool_use("toolu_2", "bash", json!({"command": "ls"})),
            3 => Reply::tool_use("toolu_3", "mcp__mail__send", json!({"query": "b"})),
            _ => Reply::text("Done."),
        });
    bed
}

/// What was sent, in order; nothing is ever sent twice.
fn sent(servers: &manyhands_mcp::scripted::Scripted) -> Vec<String> {
    let calls = servers.calls().into_iter();
    calls
        .map(|call| call.input["query"].as_str().unwrap().to_owned())
        .collect()
}

/// security LOG-2, LOG-3, TOOL-2, invariants I3, I4
#[tokio::test]
async fn log_3_a_crash_at_every_step_repeats_no_call() {
    let points = {
        let servers = docs_and_mail();
        let mut bed = bed(&servers, ALLOW).await;
        let passed = bed.note_points();
        bed.wake();
        bed.turn("Go").await;
        assert_eq!(sent(&servers), ["a", "b"]);
        bed.shut_down().await;
        std::mem::take(&mut *passed.lock().unwrap())
    };
    assert!(points.contains(&"brain::list") && points.contains(&"brain::listed"));
    let (mut unknown, mut whole) = (0, 0);
    for (crash_at, point) in points.into_iter().enumerate() {
        let servers = docs_and_mail();
        let mut bed = bed(&servers, ALLOW).await;
        let gate = Gate::new();
        bed.config.probe = Some(hold_step(crash_at, &gate));
        bed.die_on("Go", &gate).await;
        bed.idle().await;
        let at = format!("crash {crash_at} at {point}");
        bed.assert_each_call_has_one_result().await;
        let sent = sent(&servers);
        let mut once = sent.clone();
        once.dedup();
        assert_eq!(sent, once, "{at}");
        let log = bed.log().await;
        assert_eq!(log.last().unwrap(), "session.status_idle: end_turn", "{at}");
        let results = bed.events("agent.mcp_tool_result").await;
        assert_eq!(results.len(), 2, "{at}: {log:?}");
        let lost = results.iter().filter(|result| result["is_error"] == true);
        for result in lost.clone() {
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(text.contains("took effect is unknown"), "{at}: {text}");
        }
        let lost = lost.count();
        assert!(lost <= 1, "{at}: {log:?}");
        // What is said to have run has run.
        assert!(sent.len() + lost >= 2, "{at}: {sent:?}");
        if lost == 0 {
            whole += 1;
        } else {
            unknown += 1;
        }
        let lists = bed.entries().await;
        let lists = lists
            .iter()
            .filter(|entry| &*entry.type_name == "mcp_tools")
            .count();
        assert_eq!(lists, 1, "{at}: what was listed stays for the turn (I6)");
    }
    assert!(unknown > 2 && whole > 10, "{unknown} {whole}");
}

/// security LOG-2, TOOL-2: a call that the client has allowed is made once, however its wake ends.
#[tokio::test]
async fn tool_2_an_allowed_call_is_made_once() {
    for (point, made, known) in [
        ("brain::intent", true, true),
        ("brain::intended", false, false),
        ("brain::result", true, false),
        ("brain::resulted", true, true),
    ] {
        let servers = docs_and_mail();
        let mut bed = bed(&servers, ASK).await;
        bed.wake();
        bed.turn("Go").await;
        bed.end_brain().await;
        let gate = Gate::new();
        bed.config.probe = Some(hold_at(point, 1, &gate));
        let call = bed.events("agent.mcp_tool_use").await[0]["id"].clone();
        let allow = confirmation(call.as_str().unwrap(), Confirmation::Allow, None);
        bed.send(vec![allow]).await;
        bed.wake();
        gate.reached().await;
        bed.crash().await;
        bed.config.probe = None;
        bed.wake();
        bed.seen("session.status_idle", 2).await;
        assert_eq!(sent(&servers), ["a"].repeat(usize::from(made)), "{point}");
        let result = &bed.events("agent.mcp_tool_result").await[0];
        assert_eq!(result["is_error"] == false, known, "{point}: {result}");
        let started = bed.entries().await;
        let started = started
            .iter()
            .filter(|entry| &*entry.type_name == "mcp_started")
            .count();
        assert_eq!(started, 1, "{point}: an intent is durable before each call");
    }
}
