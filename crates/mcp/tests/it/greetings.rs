//! How a conversation begins, who shares it, and how it ends.

use std::time::Duration;

use manyhands_mcp::{Connector as _, Failure, Settings};
use manyhands_testkit::mcp::{Asked, Pieces, Reply, greeting, polite};
use serde_json::{Map, Value, json};

use crate::world::{AMPLE, Vault, World, caller, said, text};

fn discovered(asked: &Asked) -> Reply {
    let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}});
    Reply::result(asked, &result)
}

#[tokio::test]
async fn mc_1_a_server_of_the_newest_protocol_is_spoken_to_without_a_handshake() {
    let marked = json!([{"name": "tool", "inputSchema":
        {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}}]);
    let world = World::new(move |asked| match asked.what() {
        "server/discover" => discovered(asked),
        _ => polite(asked, &marked, |_, _| text("done")).with("mcp-session-id", "unasked"),
    })
    .await;
    let connection = world.connect().await.expect("a connection");
    connection.tools().await.expect("tools");
    let input = json!({"region": "west", "other": 1});
    let Value::Object(input) = input else {
        unreachable!("it is one")
    };
    assert_eq!(said(connection.call("tool", &input, AMPLE).await), "done");
    connection.close().await;
    assert_eq!(
        world.peer.what(),
        ["server/discover", "tools/list", "tools/call"]
    );
    for asked in world.peer.asked() {
        let meta = &asked.body["params"]["_meta"];
        assert_eq!(
            meta["io.modelcontextprotocol/protocolVersion"],
            "2026-07-28"
        );
        assert_eq!(
            meta["io.modelcontextprotocol/clientInfo"]["name"],
            "manyhands"
        );
        assert_eq!(
            meta["io.modelcontextprotocol/clientCapabilities"],
            json!({})
        );
        assert_eq!(asked.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(asked.header("mcp-method"), Some(asked.what()));
        assert_eq!(asked.header("mcp-session-id"), None);
        assert_eq!(
            asked.header("accept"),
            Some("application/json, text/event-stream")
        );
    }
    let call = world.peer.wait_for("tools/call", 1).await.remove(0);
    assert_eq!(call.header("mcp-name"), Some("tool"));
    assert_eq!(call.header("mcp-param-region"), Some("west"));
    assert_eq!(
        call.body["params"]["arguments"],
        json!({"region": "west", "other": 1})
    );
}

/// A server that wants headers of a list that this connection has not seen: it did nothing, and is asked for the list.
#[tokio::test]
async fn a_call_whose_headers_were_missing_is_made_with_them() {
    let marked = json!([{"name": "tool", "inputSchema":
        {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}}]);
    let world = World::new(move |asked| match asked.what() {
        "server/discover" => discovered(asked),
        "tools/call" if asked.header("mcp-param-region").is_none() => {
            let body =
                json!({"id": asked.body["id"], "error": {"code": -32020, "message": "headers"}});
            Reply::new(
                400,
                &[("content-type", "application/json")],
                body.to_string().as_bytes(),
            )
        }
        _ => polite(asked, &marked, |_, _| text("done")),
    })
    .await;
    let connection = world.connect().await.expect("a connection");
    let input = Map::from_iter([("region".to_owned(), json!("west"))]);
    assert_eq!(said(connection.call("tool", &input, AMPLE).await), "done");
    let refused = connection
        .call("tool", &Map::new(), AMPLE)
        .await
        .expect("an output");
    assert!(refused.is_error);
    assert_eq!(world.times("tools/call"), 4);
}

/// What a server wants to know before it runs a call is declined; it says so without having run it.
#[tokio::test]
async fn a_question_before_a_call_is_declined() {
    let question = |state: Option<&str>, method: &str| {
        let mut result =
            json!({"resultType": "input_required", "inputRequests": {"q": {"method": method}}});
        if let Some(state) = state {
            result["requestState"] = json!(state);
        }
        result
    };
    let world = World::new(move |asked| {
        let params = &asked.body["params"];
        match (asked.what(), asked.tool()) {
            ("server/discover", _) => discovered(asked),
            ("tools/call", "asks") if params["inputResponses"].is_null() => {
                Reply::result(asked, &question(Some("{s}"), "elicitation/create"))
            }
            ("tools/call", "samples") => {
                Reply::result(asked, &question(None, "sampling/createMessage"))
            }
            ("tools/call", "asks forever") => {
                Reply::result(asked, &question(None, "elicitation/create"))
            }
            ("tools/call", "later") => {
                Reply::result(asked, &json!({"resultType": "task", "task": {}}))
            }
            _ => polite(asked, &json!([]), |_, _| text("declined")),
        }
    })
    .await;
    assert_eq!(said(world.call("asks").await), "declined");
    let calls = world.peer.wait_for("tools/call", 2).await;
    assert_eq!(
        calls[1].body["params"]["inputResponses"],
        json!({"q": {"action": "decline"}})
    );
    assert_eq!(calls[1].body["params"]["requestState"], "{s}");
    assert_ne!(calls[0].body["id"], calls[1].body["id"]);
    for (tool, times) in [("samples", 1), ("asks forever", 6), ("later", 1)] {
        let before = world.times("tools/call");
        let output = world.call(tool).await.expect("an output");
        assert!(output.is_error, "{tool}");
        assert_eq!(world.times("tools/call") - before, times, "{tool}");
    }
}

#[tokio::test]
async fn mc_1_a_server_that_shakes_hands_is_remembered() {
    let world = World::new(|asked| match asked.what() {
        "initialize" => Reply::result(asked, &greeting()).with("mcp-session-id", "s-1"),
        "DELETE" => Reply::status(200),
        _ => polite(asked, &json!([]), |_, _| text("done")),
    })
    .await;
    assert_eq!(said(world.call("tool").await), "done");
    // Nobody holds the connection any more.
    let ended = world.peer.wait_for("DELETE", 1).await.remove(0);
    assert_eq!(ended.header("mcp-session-id"), Some("s-1"));
    let connection = world.connect().await.expect("a connection");
    connection.close().await;
    connection.close().await;
    let handshake = ["initialize", "notifications/initialized"];
    let expected = [
        &["server/discover"],
        &handshake[..],
        &["tools/call", "DELETE"],
        &handshake[..],
        &["DELETE"],
    ]
    .concat();
    assert_eq!(world.peer.what(), expected);
    let greeted = &world.peer.asked()[1];
    assert_eq!(greeted.body["params"]["protocolVersion"], "2025-11-25");
    assert_eq!(greeted.body["params"]["capabilities"], json!({}));
    assert_eq!(greeted.header("mcp-session-id"), None);
    // A closed connection opens a new conversation where it is used again.
    assert_eq!(
        said(connection.call("tool", &Map::new(), AMPLE).await),
        "done"
    );
    assert_eq!(world.times("initialize"), 3);
}

/// security CRED-9: nothing is shared between two sessions.
#[tokio::test]
async fn one_caller_has_one_connection_and_another_has_another() {
    let mut sessions = 0;
    let world = World::new(move |asked| {
        let reply = polite(asked, &json!([]), |_, _| text("done"));
        if asked.what() != "initialize" {
            return reply;
        }
        sessions += 1;
        reply.with("mcp-session-id", &format!("s{sessions}"))
    })
    .await;
    let (first, again) = tokio::join!(world.connect(), world.connect());
    let (first, again) = (first.expect("a connection"), again.expect("a connection"));
    assert_eq!(world.times("initialize"), 1);
    let other = world.clients.connect(&caller(), &world.server).await;
    let other = other.expect("a connection");
    assert_eq!(world.times("initialize"), 2);

    // Who closes takes the conversation from nobody else.
    first.close().await;
    first.close().await;
    assert_eq!(world.times("DELETE"), 0);
    assert_eq!(said(again.call("tool", &Map::new(), AMPLE).await), "done");
    again.close().await;
    assert_eq!(world.times("DELETE"), 1);
    assert_eq!(said(other.call("tool", &Map::new(), AMPLE).await), "done");
    assert_eq!(world.times("initialize"), 2);
    drop(other);
    let ended = world.peer.wait_for("DELETE", 2).await;
    let sessions: Vec<_> = ended
        .iter()
        .map(|asked| asked.header("mcp-session-id"))
        .collect();
    assert_eq!(sessions, [Some("s1"), Some("s2")]);
}

/// runtime MC-7: what may pass is asked for again, twice.
#[tokio::test]
async fn mc_7_a_server_that_comes_up_is_waited_for_a_moment() {
    let up_after = |mut failures: usize, status: u16| {
        move |asked: &Asked| match asked.what() {
            "initialize" if failures > 0 => {
                failures -= 1;
                Reply::status(status)
            }
            _ => polite(asked, &json!([]), |_, _| text("done")),
        }
    };
    for (failures, status, works, attempts) in
        [(2, 503, true, 3), (3, 503, false, 3), (1, 429, true, 2)]
    {
        let world = World::new(up_after(failures, status)).await;
        let connected = world.connect().await;
        assert_eq!(connected.is_ok(), works);
        assert_eq!(world.times("initialize"), attempts);
        if let Err(failure) = connected {
            let reason = "the server answers with status 503".to_owned();
            assert_eq!(failure, Failure::Connection { reason });
        }
    }
}

/// runtime MC-7, MC-12: the end of the handshake may take as long as all of it; a slow server is not greeted twice.
#[tokio::test]
async fn mc_7_a_server_that_is_slow_to_hear_the_end_of_the_handshake_is_greeted_once() {
    let settings = Settings {
        connect: Duration::from_secs(120),
        ..Settings::default()
    };
    let slow = Pieces::default();
    let taken = slow.clone();
    let world = World::with(settings, Vault::default(), move |asked| {
        match asked.what() {
            "notifications/initialized" => Reply::raw("").give(&taken),
            _ => polite(asked, &json!([]), |_, _| Value::Null),
        }
    })
    .await;
    let hearing = async {
        world.peer.wait_for("notifications/initialized", 1).await;
        tokio::time::pause();
        tokio::time::advance(settings.connect / 4).await;
        tokio::time::resume();
        slow.push("HTTP/1.1 202 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        slow.end();
    };
    let (connected, ()) = tokio::join!(world.connect(), hearing);
    assert!(connected.is_ok());
    assert_eq!(world.times("initialize"), 1);
}

/// runtime MC-7
#[tokio::test]
async fn mc_7_what_does_not_speak_the_protocol_is_a_connection_failure() {
    let settings = Settings {
        connect: Duration::from_millis(1_500),
        page_bytes: 10_000,
        ..Settings::default()
    };
    let version = |version: &str| {
        let mut greeting = greeting();
        greeting["protocolVersion"] = json!(version);
        greeting
    };
    type Answer = Box<dyn FnMut(&Asked) -> Reply + Send>;
    let servers: [(&str, Answer); 9] = [
        (
            "a page",
            Box::new(|_| Reply::new(200, &[("content-type", "text/html")], b"<html>")),
        ),
        ("not found", Box::new(|_| Reply::status(404))),
        (
            "errors",
            Box::new(|asked| Reply::error(asked, -32603, "broken")),
        ),
        ("silence", Box::new(|_| Reply::raw("").hold())),
        ("endless", Box::new(|_| Reply::events("").repeat(": x\n\n"))),
        (
            "large",
            Box::new(|asked| Reply::result(asked, &text(&"x".repeat(10_000)))),
        ),
        (
            "old",
            Box::new(move |asked| Reply::result(asked, &version("2020-01-01"))),
        ),
        (
            "newer than a handshake",
            Box::new(move |asked| Reply::result(asked, &version("2026-07-28"))),
        ),
        (
            "a bad session",
            Box::new(|asked| Reply::result(asked, &greeting()).with("mcp-session-id", "caf\u{e9}")),
        ),
    ];
    for (name, answer) in servers {
        let world = World::with(settings, Vault::default(), answer).await;
        let failure = world.connect().await.err();
        assert!(
            matches!(failure, Some(Failure::Connection { .. })),
            "{name}: {failure:?}"
        );
        assert_eq!(world.times("tools/call"), 0);
    }
}
