//! Connections: a conversation keeps its own, and nobody else has a part in them.

use std::collections::HashSet;

use manyhands_mcp::Connector as _;
use manyhands_testkit::mcp::{Asked, Reply, polite};
use serde_json::{Map, json};

use crate::world::{AMPLE, Vault, World, caller, in_plain_http, said, text};

/// A well-behaved server that keeps its connections.
fn keeping(asked: &Asked) -> Reply {
    polite(asked, &json!([]), |_, _| text("done")).keep()
}

/// The connections over which requests of these kinds came.
fn connections(world: &World, kinds: &[&str]) -> Vec<usize> {
    let asked = world.peer.asked();
    let of_kind = asked.iter().filter(|asked| kinds.contains(&asked.what()));
    of_kind.map(|asked| asked.connection).collect()
}

#[tokio::test]
async fn mc_5_a_conversation_needs_one_connection() {
    let world = World::new(keeping).await;
    let connection = world.connect().await.expect("a connection");
    connection.tools().await.expect("tools");
    for _ in 0..2 {
        let called = connection.call("tool", &Map::new(), AMPLE).await;
        assert_eq!(said(called), "done");
    }
    connection.close().await;
    let kinds = ["initialize", "tools/list", "tools/call"];
    assert_eq!(connections(&world, &kinds), [0, 0, 0, 0]);
    assert_eq!(world.times("tools/call"), 2);
}

/// security CRED-7: nothing is shared, neither among workspaces nor among the sessions of one.
#[tokio::test]
async fn cred_7_two_callers_have_two_connections() {
    let world = World::new(keeping).await;
    let mut callers = [caller(), caller(), caller()];
    callers[2].workspace = callers[1].workspace.clone();
    let mut open = Vec::new();
    for caller in &callers {
        let connection = world.clients.connect(caller, &world.server).await;
        let connection = connection.expect("a connection");
        connection.tools().await.expect("tools");
        open.push(connection);
    }
    assert_eq!(connections(&world, &["tools/list"]), [0, 1, 2]);
}

/// security TOOL-2: each call arrives once, with an answer, whatever the server does with its connections.
#[tokio::test]
async fn tool_2_a_server_that_closes_its_connections_gets_each_call_once() {
    for close in [Reply::close_unsaid, |reply: Reply| reply] {
        let world = World::new(move |asked| {
            let answer = polite(asked, &json!([]), |_, _| text("done"));
            match asked.what() {
                "tools/call" => close(answer),
                _ => answer.keep(),
            }
        })
        .await;
        let connection = world.connect().await.expect("a connection");
        for times in 1..10 {
            connection.tools().await.expect("tools");
            let called = connection.call("tool", &Map::new(), AMPLE).await;
            assert_eq!(said(called), "done");
            assert_eq!(world.times("tools/call"), times);
        }
    }
}

/// security CRED-8: a connection has no credential; each request carries the one that counts now.
#[tokio::test]
async fn cred_8_another_credential_counts_at_once_over_a_kept_connection() {
    let world = World::with(in_plain_http(), Vault::of(&["first"]), keeping).await;
    let connection = world.connect().await.expect("a connection");
    let call = async || connection.call("tool", &Map::new(), AMPLE).await;
    assert_eq!(said(call().await), "done");
    world.vault.replace(&["second"]);
    assert_eq!(said(call().await), "done");
    let calls = world.peer.wait_for("tools/call", 2).await;
    let sent = calls.iter().map(|asked| asked.header("authorization"));
    let sent: Vec<_> = sent.collect();
    assert_eq!(sent, [Some("Bearer first"), Some("Bearer second")]);
    world.vault.deny();
    call().await.expect_err("no credential");
    assert_eq!(world.times("tools/call"), 2);
}

/// The end of a stream of events is read, too, so that its connection can be used again.
#[tokio::test]
async fn mc_5_answers_in_events_leave_their_connections_to_others() {
    const CALLS: usize = 20;
    let world = World::new(|asked| match asked.what() {
        "tools/call" => {
            let answer = json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": text("done")});
            // The end comes some time after the answer.
            let events = format!("data: {answer}\n\n: {}\n\n", " ".repeat(64 << 10));
            let length = events.len();
            let head =
                "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked";
            let bytes = format!("{head}\r\n\r\n{length:x}\r\n{events}\r\n0\r\n\r\n");
            Reply::raw(bytes).keep()
        }
        _ => keeping(asked),
    })
    .await;
    let connection = world.connect().await.expect("a connection");
    for _ in 0..CALLS {
        let called = connection.call("tool", &Map::new(), AMPLE).await;
        assert_eq!(said(called), "done");
    }
    let used: HashSet<_> = connections(&world, &["tools/call"]).into_iter().collect();
    assert!(used.len() < CALLS / 2, "{used:?}");
}
