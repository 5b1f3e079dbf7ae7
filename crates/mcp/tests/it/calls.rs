//! Calls: what comes back, and what is never sent twice.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use manyhands_mcp::{Failure, Settings};
use manyhands_testkit::mcp::{Asked, Reply, greeting, polite};
use serde_json::{Map, Value, json};

use crate::world::{AMPLE, Vault, World, but_calls, said, text};

fn answer(asked: &Asked) -> String {
    let answer = json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": text("done")});
    answer.to_string()
}

#[tokio::test]
async fn mc_1_a_call_is_answered_in_json_or_in_events() {
    let world = World::new(but_calls(|asked| match asked.tool() {
        "json" => Reply::result(asked, &text("done")),
        "array" => Reply::json(&json!([{"method": "notifications/progress"},
            {"id": asked.body["id"].to_string(), "result": text("done")}])),
        // A stream that goes on behind the answer.
        "events" => Reply::events(&format!(
            ": hello\n\nevent: keepalive\ndata: x\n\nevent: message\ndata: {{\"method\":\"notifications/message\",\"params\":{{}}}}\n\nid: 1\ndata: {}\n\n",
            answer(asked)
        ))
        .hold(),
        "charset" => {
            let kind = ("content-type", "Application/JSON; charset=utf-8");
            Reply::new(200, &[kind], answer(asked).as_bytes())
        }
        "failed" => Reply::result(asked, &json!({"content": [], "isError": true})),
        _ => Reply::error(asked, -32602, "no such tool"),
    }))
    .await;
    for tool in ["json", "array", "events", "charset"] {
        assert_eq!(said(world.call(tool).await), "done", "{tool}");
    }
    let failed = world.call("failed").await.expect("an output");
    assert!(failed.is_error);
    let unknown = world.call("unknown").await.expect("an output");
    assert!(unknown.is_error);
    let words = said(Ok(unknown));
    assert_eq!(words, "error -32602 of the MCP server: no such tool");
    assert_eq!(world.times("tools/call"), 6);
}

/// security TOOL-2: whatever happens after a call may have arrived, it is not sent again.
#[tokio::test]
async fn tool_2_a_call_that_may_have_arrived_is_never_repeated() {
    let world = World::new(but_calls(|asked| match asked.tool() {
        "nothing at all" => Reply::raw(""),
        "half a head" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-"),
        "half a body" => Reply::raw(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        ),
        "500" => Reply::status(500),
        "502" => Reply::new(
            502,
            &[("content-type", "text/html")],
            b"<h1>Bad gateway</h1>",
        ),
        "503 again and again" => Reply::status(503),
        "empty" => Reply::new(200, &[("content-type", "application/json")], b""),
        "accepted" => Reply::status(202),
        "no content" => Reply::status(204),
        "a page" => Reply::new(200, &[("content-type", "text/html")], b"<html>"),
        "no JSON" => Reply::new(200, &[("content-type", "application/json")], b"{]"),
        "to another" => Reply::json(&json!({"jsonrpc": "2.0", "id": 999, "result": text("done")})),
        "events without the answer" => Reply::events("data: {\"method\":\"a\"}\n\n"),
        "half an event" => Reply::events("data: {\"id\""),
        "no events" => Reply::events("data: <html>\n\n"),
        other => panic!("{other}"),
    }))
    .await;
    for tool in [
        "nothing at all",
        "half a head",
        "half a body",
        "500",
        "502",
        "503 again and again",
        "empty",
        "accepted",
        "no content",
        "a page",
        "no JSON",
        "to another",
        "events without the answer",
        "half an event",
        "no events",
    ] {
        let before = world.times("tools/call");
        let failure = world.call(tool).await.expect_err(tool);
        assert!(
            matches!(failure, Failure::Unknown { .. }),
            "{tool}: {failure:?}"
        );
        assert_eq!(world.times("tools/call") - before, 1, "{tool}");
    }
}

/// security TOOL-2: a refusal is known, and is not repeated either.
#[tokio::test]
async fn tool_2_a_call_that_was_refused_has_a_known_outcome() {
    let world = World::new(but_calls(|asked| match asked.tool() {
        "moved" => Reply::status(302).with("location", "http://elsewhere.example.com/"),
        "lost" => Reply::status(308),
        "told why" => Reply::new(413, &[], b"too\nmuch"),
        status => Reply::status(status.parse().expect("a status")),
    }))
    .await;
    for tool in [
        "400", "404", "409", "413", "429", "moved", "lost", "told why",
    ] {
        let before = world.times("tools/call");
        let failure = world.call(tool).await.expect_err(tool);
        assert!(
            matches!(failure, Failure::Connection { .. }),
            "{tool}: {failure:?}"
        );
        assert_eq!(world.times("tools/call") - before, 1, "{tool}");
        if tool == "told why" {
            let text = failure.to_string();
            assert_eq!(text, "the server answers with status 413: too much");
        }
    }
}

/// A server with sessions that forgets them at every call until `forgetful` calls have come.
fn forgetful(mut forgetful: usize) -> impl FnMut(&Asked) -> Reply {
    let mut sessions = 0;
    move |asked| match asked.what() {
        "initialize" => {
            sessions += 1;
            Reply::result(asked, &greeting()).with("mcp-session-id", &format!("s{sessions}"))
        }
        "tools/call" if forgetful > 0 => {
            forgetful -= 1;
            Reply::new(
                404,
                &[("content-type", "application/json")],
                b"{\"id\":2,\"error\":{\"code\":-32001}}",
            )
        }
        _ => polite(asked, &json!([]), |_, _| text("done")),
    }
}

/// security TOOL-2: a server that says 404 of its own session has done nothing; then the call is sent once more.
#[tokio::test]
async fn tool_2_a_forgotten_conversation_is_opened_anew() {
    let world = World::new(forgetful(1)).await;
    assert_eq!(said(world.call("tool").await), "done");
    let calls = world.peer.wait_for("tools/call", 2).await;
    let sessions: Vec<_> = calls
        .iter()
        .map(|call| call.header("mcp-session-id"))
        .collect();
    assert_eq!(sessions, [Some("s1"), Some("s2")]);
    assert_eq!(calls[0].header("mcp-protocol-version"), Some("2025-06-18"));

    let world = World::new(forgetful(usize::MAX)).await;
    let failure = world.call("tool").await.expect_err("it forgets");
    assert!(matches!(failure, Failure::Connection { .. }), "{failure:?}");
    assert_eq!(world.times("tools/call"), 2);
    assert_eq!(world.times("initialize"), 2);
}

/// runtime MC-12
#[tokio::test]
async fn mc_12_a_call_has_its_time_and_is_given_up_at_the_server() {
    let settings = Settings {
        call: Duration::from_millis(1_500),
        ..Settings::default()
    };
    let world = World::with(
        settings,
        Vault::default(),
        but_calls(|asked| match asked.tool() {
            "silent head" => Reply::raw("").hold(),
            "silent stream" => Reply::events(": hello\n\n").hold(),
            _ => Reply::events("").repeat("data: {\"method\":\"notifications/progress\"}\n\n"),
        }),
    )
    .await;
    for (number, tool) in ["silent head", "silent stream", "talks"]
        .into_iter()
        .enumerate()
    {
        let connection = world.connect().await.expect("a connection");
        // The setting binds where the caller would wait longer.
        let failure = connection
            .call(tool, &Map::new(), AMPLE)
            .await
            .expect_err(tool);
        // Talking all the time, one may reach the limit of bytes first on a fast machine.
        let known = matches!(failure, Failure::Unknown { .. } | Failure::TooLarge { .. });
        assert!(known, "{tool}: {failure:?}");
        let calls = world.peer.wait_for("tools/call", number + 1).await;
        world.peer.wait_for_left(number + 1).await;
        if matches!(failure, Failure::Unknown { .. }) {
            let given_up = world
                .peer
                .wait_for("notifications/cancelled", number + 1)
                .await;
            let id = &given_up[number].body["params"]["requestId"];
            assert_eq!(id, &calls[number].body["id"], "{tool}");
        }
    }
}

/// Whoever drops a call drops it at the server as well.
#[tokio::test]
async fn a_dropped_call_is_given_up_at_the_server() {
    let world = World::new(but_calls(|_| Reply::events(": hello\n\n").hold())).await;
    let connection = world.connect().await.expect("a connection");
    let input = Map::new();
    let call = connection.call("slow", &input, AMPLE);
    tokio::select! {
        answered = call => panic!("{answered:?}"),
        calls = world.peer.wait_for("tools/call", 1) => assert_eq!(calls.len(), 1),
    }
    let given_up = world.peer.wait_for("notifications/cancelled", 1).await;
    let calls = world.peer.wait_for("tools/call", 1).await;
    assert_eq!(given_up[0].body["params"]["requestId"], calls[0].body["id"]);
    world.peer.wait_for_left(1).await;
}

/// security INP-1
#[tokio::test]
async fn inp_1_an_answer_is_bounded() {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&vec![b' '; 4 << 20]).expect("memory");
    let packed = packer.finish().expect("memory");
    assert!(packed.len() < 10_000);

    let settings = Settings {
        answer_bytes: 10_000,
        ..Settings::default()
    };
    let world = World::with(
        settings,
        Vault::default(),
        but_calls(move |asked| {
            let long = "x".repeat(10_000);
            match asked.tool() {
                "one piece" => Reply::result(asked, &text(&long)),
                "packed" => {
                    let headers = [
                        ("content-type", "application/json"),
                        ("content-encoding", "gzip"),
                    ];
                    Reply::new(200, &headers, &packed)
                }
                "endless piece" => {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[";
                    Reply::raw(head).repeat("1,")
                }
                "one event" => Reply::events(&format!("data: {long}\n\n")),
                "endless event" => Reply::events("data: ").repeat("x"),
                "endless events" => Reply::events("").repeat("data: {\"method\":\"a\"}\n\n"),
                _ => Reply::events("").repeat(": nothing\n\n"),
            }
        }),
    )
    .await;
    for tool in [
        "one piece",
        "packed",
        "endless piece",
        "one event",
        "endless event",
        "endless events",
        "endless nothing",
    ] {
        let failure = world.call(tool).await.expect_err(tool);
        assert_eq!(failure, Failure::TooLarge { most: 10_000 }, "{tool}");
    }
    // Few bytes can be much in memory.
    let world = World::new(but_calls(|asked| {
        let many: Value = vec![json!([]); 300_000].into();
        Reply::result(asked, &json!({"content": many}))
    }))
    .await;
    let failure = world.call("many").await.expect_err("too many values");
    assert!(matches!(failure, Failure::Unknown { .. }), "{failure:?}");
}
