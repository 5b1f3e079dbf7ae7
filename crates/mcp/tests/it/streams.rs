//! Streams of events that break off, and what a server asks of us in them.

use std::sync::atomic::{AtomicUsize, Ordering};

use manyhands_mcp::Failure;
use manyhands_testkit::mcp::{Asked, Reply, polite};
use serde_json::{Value, json};

use crate::world::{World, said, text};

/// A server whose calls get these events; each GET gets the next of the others, and 405 when there are no more.
fn broken(call: &'static str, later: &'static [&'static str]) -> impl FnMut(&Asked) -> Reply {
    let next = AtomicUsize::new(0);
    let mut id = Value::Null;
    move |asked| match asked.what() {
        "tools/call" => {
            id = asked.body["id"].clone();
            Reply::events(call)
        }
        "GET" => {
            let next = later.get(next.fetch_add(1, Ordering::Relaxed));
            let done = json!({"id": id, "result": text("done")}).to_string();
            next.map_or(Reply::status(405), |events| {
                Reply::events(&events.replace("DONE", &done))
            })
        }
        _ => polite(asked, &json!([]), |_, _| Value::Null),
    }
}

/// security TOOL-2: the stream is taken up again where its events are numbered; the call is not made again.
#[tokio::test]
async fn tool_2_a_broken_stream_is_taken_up_where_it_broke() {
    let world = World::new(broken(
        "id: 7\nretry: 1\ndata: {\"method\":\"notifications/progress\"}\n\n",
        &["id: 8\ndata: \n\n", "id: 9\ndata: DONE\n\n"],
    ))
    .await;
    assert_eq!(said(world.call("tool").await), "done");
    let resumed = world.peer.wait_for("GET", 2).await;
    let from: Vec<_> = resumed
        .iter()
        .map(|get| get.header("last-event-id"))
        .collect();
    assert_eq!(from, [Some("7"), Some("8")]);
    assert_eq!(resumed[0].header("accept"), Some("text/event-stream"));
    assert_eq!(world.times("tools/call"), 1);
}

/// security TOOL-2
#[tokio::test]
async fn tool_2_a_stream_that_cannot_be_taken_up_leaves_the_outcome_unknown() {
    for (call, later, gets) in [
        // Nothing is numbered.
        ("data: {\"method\":\"a\"}\n\n", &["data: DONE\n\n"][..], 0),
        // The server does not take it up.
        ("id: 1\ndata:\n\n", &[], 1),
        // It takes it up again and again, and says nothing.
        ("id: 1\ndata:\n\n", &[""; 9], 3),
        ("id: 1\ndata:\n\n", &["id: 2\ndata: <html>\n\n"], 1),
        ("id: \ndata:\n\n", &["data: DONE\n\n"], 0),
    ] {
        let world = World::new(broken(call, later)).await;
        let failure = world.call("tool").await.expect_err(call);
        assert!(
            matches!(failure, Failure::Unknown { .. }),
            "{call:?}: {failure:?}"
        );
        assert_eq!(world.times("GET"), gets, "{call:?}");
        assert_eq!(world.times("tools/call"), 1);
    }
}

#[tokio::test]
async fn what_a_server_asks_of_us_is_refused_politely() {
    let world = World::new(|asked| match asked.what() {
        "tools/call" => {
            let mut events = String::new();
            for (id, method) in ["ping", "sampling/createMessage", "elicitation/create", "roots/list"].iter().enumerate() {
                let message = json!({"jsonrpc": "2.0", "id": format!("s{id}"), "method": method, "params": {}});
                events.push_str(&format!("data: {message}\n\n"));
            }
            let done = json!({"id": asked.body["id"], "result": text("done")});
            Reply::events(&format!("{events}data: {done}\n\n"))
        }
        _ => polite(asked, &json!([]), |_, _| Value::Null),
    })
    .await;
    assert_eq!(said(world.call("tool").await), "done");
    let answers = world.peer.wait_for("POST", 4).await;
    let answers: Vec<(&Value, &Value, &Value)> = answers
        .iter()
        .map(|asked| {
            (
                &asked.body["id"],
                &asked.body["result"],
                &asked.body["error"]["code"],
            )
        })
        .collect();
    assert_eq!(answers[0], (&json!("s0"), &json!({}), &Value::Null));
    for (number, answer) in answers.iter().enumerate().skip(1) {
        assert_eq!(
            answer,
            &(&json!(format!("s{number}")), &Value::Null, &json!(-32601))
        );
    }
}

/// A server that only ever asks is heard out, and answered a few times.
#[tokio::test]
async fn what_a_server_asks_of_us_is_bounded() {
    let world = World::new(|asked| match asked.what() {
        "tools/call" => {
            let ping = "data: {\"id\":1,\"method\":\"ping\"}\n\n".repeat(100);
            let done = json!({"id": asked.body["id"], "result": text("done")});
            Reply::events(&format!("{ping}data: {done}\n\n"))
        }
        _ => polite(asked, &json!([]), |_, _| Value::Null),
    })
    .await;
    assert_eq!(said(world.call("tool").await), "done");
    assert_eq!(world.times("POST"), 16);
}
