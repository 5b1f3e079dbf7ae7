//! The older transport: one stream from the server, and a place that it names.

use std::time::Duration;

use manyhands_mcp::{Failure, Settings};
use manyhands_testkit::mcp::{Asked, Peer, Pieces, Reply, polite};
use serde_json::{Map, Value, json};

use crate::world::{AMPLE, Vault, World, in_plain_http, said, text};

/// A server of the older transport. Its streams begin with `first`; answers go onto the newest as `answer` says.
fn older(first: String, mut answer: impl FnMut(&Asked, &Pieces)) -> impl FnMut(&Asked) -> Reply {
    let mut newest = Pieces::default();
    move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/mcp") => {
            newest = Pieces::default();
            Reply::events(&first).give(&newest)
        }
        ("POST", "/message?id=1") => {
            answer(asked, &newest);
            Reply::new(202, &[], b"Accepted")
        }
        _ => Reply::status(405),
    }
}

const ENDPOINT: &str = "event: endpoint\ndata: /message?id=1\n\n";

fn event(asked: &Asked, result: &Value) -> String {
    let message = json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": result});
    format!("event: message\ndata: {message}\n\n")
}

/// Answers as a well-behaved server does.
fn well(asked: &Asked, pieces: &Pieces) {
    match asked.what() {
        "initialize" => {
            let mut greeting = manyhands_testkit::mcp::greeting();
            greeting["protocolVersion"] = json!("2024-11-05");
            pieces.push(&event(asked, &greeting));
        }
        "tools/list" => pieces.push(&event(asked, &json!({"tools": []}))),
        "tools/call" => pieces.push(&event(asked, &text(asked.tool()))),
        _ => {}
    }
}

#[tokio::test]
async fn mc_1_a_server_of_the_older_transport_is_found_and_spoken_to() {
    let mut waiting: Option<String> = None;
    let world = World::new(older(
        ENDPOINT.to_owned(),
        move |asked, pieces| match asked.tool() {
            // Answered behind the other one, with a question of the server's between them.
            "first" => waiting = Some(event(asked, &text("first"))),
            "second" => {
                well(asked, pieces);
                pieces.push(": hello\n\nevent: message\ndata: {\"id\":1,\"method\":\"ping\"}\n\n");
                pieces.push(&waiting.take().expect("the first call"));
            }
            _ => well(asked, pieces),
        },
    ))
    .await;
    let connection = world.connect().await.expect("a connection");
    assert_eq!(connection.tools().await, Ok(Vec::new()));
    let input = Map::new();
    let first = connection.call("first", &input, AMPLE);
    let second = async {
        world.peer.wait_for("tools/call", 1).await;
        connection.call("second", &input, AMPLE).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(
        (said(first), said(second)),
        ("first".to_owned(), "second".to_owned())
    );
    let answers = world.peer.wait_for("POST", 1).await;
    assert_eq!(
        answers[0].body,
        json!({"jsonrpc": "2.0", "id": 1, "result": {}})
    );
    connection.close().await;
    world.peer.wait_for_left(1).await;
}

/// security TOOL-2
#[tokio::test]
async fn tool_2_a_call_is_not_made_again_when_the_stream_ends() {
    let world = World::new(older(ENDPOINT.to_owned(), |asked, pieces| {
        match asked.tool() {
            "breaks" => pieces.end(),
            _ => well(asked, pieces),
        }
    }))
    .await;
    let connection = world.connect().await.expect("a connection");
    let failure = connection.call("breaks", &Map::new(), AMPLE).await;
    assert!(
        matches!(failure, Err(Failure::Unknown { .. })),
        "{failure:?}"
    );
    assert_eq!((world.times("tools/call"), world.times("GET")), (1, 1));
    assert_eq!(
        said(connection.call("works", &Map::new(), AMPLE).await),
        "works"
    );
    assert_eq!((world.times("tools/call"), world.times("GET")), (2, 2));
}

/// security CRED-7: the place for messages is within the origin.
#[tokio::test]
async fn cred_7_the_place_that_a_stream_names_is_within_the_origin() {
    let other = Peer::start(|asked| polite(asked, &json!([]), |_, _| Value::Null)).await;
    let port = other.address().port();
    for place in [
        format!("http://mcp.example.com:{port}/message"),
        format!("//other.example.com:{port}/message"),
        "https://mcp.example.com/message".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let first = format!("event: endpoint\ndata: {place}\n\n");
        let world = World::with(
            in_plain_http(),
            Vault::of(&["token-canary"]),
            older(first, well),
        )
        .await
        .reaching(port);
        let failure = world.connect().await.err();
        assert!(
            matches!(failure, Some(Failure::Connection { .. })),
            "{place}: {failure:?}"
        );
    }
    assert!(other.asked().is_empty(), "{:?}", other.what());
}

/// security INP-1, runtime MC-7
#[tokio::test]
async fn inp_1_a_stream_that_only_talks_is_left() {
    let settings = Settings {
        connect: Duration::from_secs(4),
        answer_bytes: 10_000,
        ..Settings::default()
    };
    for (first, then) in [
        ("", ": nothing\n\n"),
        ("data: x\n\n", "data: x\n\n"),
        ("event: endpoint\ndata: ", "x"),
        (ENDPOINT, "data: x\n\n"),
        (ENDPOINT, "data: x"),
    ] {
        let world = World::with(settings, Vault::default(), move |asked| {
            match asked.method.as_str() {
                "GET" => Reply::events(first).repeat(then),
                _ if asked.path == "/mcp" => Reply::status(404),
                _ => Reply::status(202),
            }
        })
        .await;
        let failure = world.connect().await.err();
        assert!(
            matches!(failure, Some(Failure::Connection { .. })),
            "{first:?}: {failure:?}"
        );
        world.peer.wait_for_left(1).await;
    }
}
