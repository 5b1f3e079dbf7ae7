//! MCP servers that cannot be used: told once, tried again, and never in the way of a turn (runtime MC-7 to MC-10, ER-9).

use manyhands_mcp::Failure;
use manyhands_mcp::scripted::Scripted;
use manyhands_protocol::agent::PermissionPolicy;
use manyhands_protocol::environment::Networking;
use manyhands_protocol::event::Confirmation;
use manyhands_testkit::model::{ModelServer, Reply};
use serde_json::{Value, json};

use crate::bed::{Bed, DONE, confirmation, docs_and_mail, down, offered, server_url};

const ALLOW: PermissionPolicy = PermissionPolicy::AlwaysAllow {};
const ASK: PermissionPolicy = PermissionPolicy::AlwaysAsk {};

/// The errors so far: type, server, what follows.
async fn errors(bed: &Bed) -> Vec<String> {
    let events = bed.events("session.error").await;
    let line = |event: &Value| {
        let error = &event["error"];
        let member = |name: &str| error[name].as_str().unwrap_or("-").to_owned();
        let retry = error["retry_status"]["type"].as_str().unwrap();
        format!("{} {} {retry}", member("type"), member("mcp_server_name"))
    };
    events.iter().map(line).collect()
}

/// How many tools of each server a request had.
fn offered_in(bed: &Bed, request: usize) -> [usize; 2] {
    let request = &bed.model.requests()[request];
    let names = request.tool_names();
    ["docs", "mail"].map(|server| {
        let begin = format!("mcp__{server}__");
        names.iter().filter(|name| name.starts_with(&begin)).count()
    })
}

/// runtime MC-7, MC-8, ER-9, ER-2
#[tokio::test]
async fn mc_7_a_server_that_fails_is_told_of_and_tried_with_the_next_turn() {
    let servers = docs_and_mail();
    servers.fail_next(&server_url("docs"), down());
    let refused = Failure::Authentication {
        reason: "the token is not taken".to_owned(),
    };
    servers.list(&server_url("mail"), Err(refused));
    let mut bed = Bed::asleep_at(&servers, ALLOW, []).await;
    // The beginning of requests changes with the tools.
    bed.model = ModelServer::start().await;
    bed.model.respond_with(|_| Reply::text("Done."));
    bed.wake();
    let log = bed.turn("Hi").await;
    assert_eq!(
        log[2..],
        [
            &[
                "session.status_running",
                "session.error: mcp_connection_failed_error retrying",
                "session.error: mcp_authentication_failed_error retrying",
                "user.message processed",
            ][..],
            &DONE
        ]
        .concat()
    );
    assert_eq!(
        errors(&bed).await,
        [
            "mcp_connection_failed_error docs retrying",
            "mcp_authentication_failed_error mail retrying"
        ]
    );
    let message = &bed.events("session.error").await[0]["error"]["message"];
    assert_eq!(*message, "MCP server \"docs\": nobody is there");
    assert_eq!(offered_in(&bed, 0), [0, 0]);
    bed.turn("Again").await;
    assert_eq!(offered_in(&bed, 1), [2, 0]);
    assert_eq!(errors(&bed).await.len(), 3, "told again, once in a turn");
    servers.list(&server_url("mail"), Ok(offered(&["send"])));
    bed.turn("Again").await;
    assert_eq!(offered_in(&bed, 2), [2, 1]);
    assert_eq!(errors(&bed).await.len(), 3);
}

/// runtime MC-8: a turn that goes on behind a pause is a transition to running, too.
#[tokio::test]
async fn mc_8_a_failed_server_is_tried_again_when_a_turn_goes_on() {
    let servers = docs_and_mail();
    servers.fail_next(&server_url("mail"), down());
    let search = Reply::tool_use("toolu_1", "mcp__docs__search", json!({}));
    let mut bed = Bed::asleep_at(&servers, ASK, []).await;
    bed.model = ModelServer::with([search, Reply::text("Done.")]).await;
    bed.wake();
    bed.turn("Go").await;
    let call = bed.events("agent.mcp_tool_use").await[0]["id"].clone();
    let allow = confirmation(call.as_str().unwrap(), Confirmation::Allow, None);
    bed.send(vec![allow]).await;
    bed.seen("session.status_idle", 2).await;
    assert_eq!(offered_in(&bed, 0), [2, 0]);
    assert_eq!(offered_in(&bed, 1), [2, 2]);
    let asked = servers.connected().into_iter();
    let asked: Vec<String> = asked.map(|(_, server)| server.name).collect();
    let count = |name: &str| asked.iter().filter(|asked| *asked == name).count();
    assert_eq!(count("mail"), 2, "{asked:?}");
    assert_eq!(errors(&bed).await.len(), 1);
}

/// runtime MC-7, MC-9, ER-9, ER-11, security TOOL-2: how a call fails, and who is told.
#[tokio::test]
async fn er_9_a_call_that_fails_is_news_for_the_model() {
    let failures = [
        (
            Failure::Connection {
                reason: "it hung up".to_owned(),
            },
            "The MCP server 'docs' cannot be used: it hung up",
            &["mcp_connection_failed_error docs retrying"][..],
        ),
        (
            Failure::Authentication {
                reason: "expired".to_owned(),
            },
            "The MCP server 'docs' cannot be used: expired",
            &["mcp_authentication_failed_error docs retrying"][..],
        ),
        (
            Failure::Unknown {
                reason: "it hung up".to_owned(),
            },
            "The MCP server 'docs': it hung up. Whether the call took effect is unknown. \
             Check the state before you repeat the call.",
            &[],
        ),
        (
            Failure::TooLarge { most: 7 },
            "The MCP server 'docs' has run the call: the answer is longer than 7 bytes, and is not shown.",
            &[],
        ),
    ];
    for (failure, text, told) in failures {
        let servers = docs_and_mail();
        let answer = failure.clone();
        servers.serve(&server_url("docs"), offered(&["search"]), move |_, _| {
            Err(answer.clone())
        });
        let twice = Reply::tool_use("toolu_1", "mcp__docs__search", json!({})).then_tool_use(
            "toolu_2",
            "mcp__docs__search",
            json!({}),
        );
        let again = Reply::tool_use("toolu_3", "mcp__docs__search", json!({}));
        let mut bed = Bed::asleep_at(&servers, ALLOW, [twice, again, Reply::text("Done.")]).await;
        bed.wake();
        bed.turn("Go").await;
        let results = bed.events("agent.mcp_tool_result").await;
        assert_eq!(results.len(), 3);
        for result in &results {
            assert_eq!(result["content"][0]["text"], text);
            assert_eq!(result["is_error"], true);
        }
        assert_eq!(errors(&bed).await, told, "{failure:?}: once in the turn");
        assert_eq!(servers.calls().len(), 3, "each is made once (TOOL-2)");
        bed.assert_each_call_has_one_result().await;
    }
}

/// runtime MC-10, security NET-1
#[tokio::test]
async fn mc_10_under_limited_networking_only_allowed_servers_are_talked_to() {
    let limited = |hosts: &[&str], allow_mcp_servers| Networking::Limited {
        allowed_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        allow_mcp_servers,
        allow_package_managers: false,
    };
    for (networking, offered, reached) in [
        (limited(&[], false), [0, 0], 0),
        (limited(&["docs.example.com"], false), [2, 0], 1),
        (limited(&[], true), [2, 2], 2),
    ] {
        let servers = docs_and_mail();
        let mut bed = Bed::asleep_at(&servers, ALLOW, [Reply::text("Done.")]).await;
        bed.set_networking(networking).await;
        bed.wake();
        bed.turn("Hi").await;
        assert_eq!(offered_in(&bed, 0), offered);
        assert_eq!(servers.connected().len(), reached, "no packet goes there");
        let errors = bed.events("session.error").await;
        assert_eq!(errors.len(), 2 - reached);
        for event in errors {
            let error = &event["error"];
            assert_eq!(error["type"], "mcp_connection_failed_error");
            let message = error["message"].as_str().unwrap();
            assert!(
                message.contains("environment limits its hosts"),
                "{message}"
            );
        }
    }
}

/// runtime MC-10: what the environment lets out is looked at when a call is made.
#[tokio::test]
async fn mc_10_a_server_that_is_shut_out_meanwhile_is_not_called() {
    let servers = docs_and_mail();
    let search = Reply::tool_use("toolu_1", "mcp__docs__search", json!({}));
    let mut bed = Bed::asleep_at(&servers, ASK, [search, Reply::text("Done.")]).await;
    bed.wake();
    bed.turn("Go").await;
    let nothing = Networking::Limited {
        allowed_hosts: Vec::new(),
        allow_mcp_servers: false,
        allow_package_managers: false,
    };
    bed.set_networking(nothing).await;
    let call = bed.events("agent.mcp_tool_use").await[0]["id"].clone();
    let allow = confirmation(call.as_str().unwrap(), Confirmation::Allow, None);
    bed.send(vec![allow]).await;
    bed.seen("session.status_idle", 2).await;
    assert!(servers.calls().is_empty());
    let result = &bed.events("agent.mcp_tool_result").await[0];
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("environment limits its hosts"), "{text}");
    assert_eq!(result["is_error"], true);
    assert_eq!(errors(&bed).await.len(), 1);
}

/// runtime MC-7: an installation without a client says so, and goes on.
#[tokio::test]
async fn mc_7_without_a_client_the_turn_goes_on() {
    let mut bed = Bed::asleep_at(&Scripted::new(), ALLOW, [Reply::text("Done.")]).await;
    bed.config.mcp = None;
    bed.wake();
    bed.turn("Hi").await;
    assert_eq!(
        errors(&bed).await,
        [
            "mcp_connection_failed_error docs retrying",
            "mcp_connection_failed_error mail retrying"
        ]
    );
}
