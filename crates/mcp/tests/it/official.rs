//! Against the official servers, in TypeScript and in Python, over all their transports.

use std::sync::Arc;
use std::time::Duration;

use manyhands_mcp::{Connection, Connector as _, Failure, Output, Server, Settings};
use manyhands_protocol::content::{ContentBlock, Source};
use serde_json::{Map, Value, json};

use crate::peers::Running;
use crate::world::{AMPLE, Vault, caller, clients, said};

async fn connect(peer: &Running, path: &str, vault: Vault) -> Result<Arc<dyn Connection>, Failure> {
    // These servers take more than ten seconds where everything else runs beside them.
    let settings = Settings {
        tokens_in_plain_http: true,
        connect: AMPLE,
        ..Settings::default()
    };
    let server = Server {
        name: "official".to_owned(),
        url: format!("http://localhost:{}{path}", peer.port),
    };
    let clients = clients(settings, Arc::new(vault), &[peer.port]);
    clients.connect(&caller(), &server).await
}

async fn call(
    connection: &Arc<dyn Connection>,
    name: &str,
    input: Value,
) -> Result<Output, Failure> {
    let Value::Object(input) = input else {
        panic!("{input} is no object")
    };
    connection.call(name, &input, AMPLE).await
}

fn is_png(output: &Output) -> bool {
    output.content.iter().any(|block| {
        matches!(block, ContentBlock::Image { source: Source::Base64 { media_type, data } }
            if media_type == "image/png" && data.starts_with("iVBOR"))
    })
}

/// runtime MC-1
#[tokio::test]
async fn mc_1_the_official_test_server() {
    for (transport, path) in [("streamableHttp", "/mcp"), ("sse", "/sse")] {
        let peer = Running::everything(transport).await;
        let connection = connect(&peer, path, Vault::default())
            .await
            .expect(transport);
        let tools = connection.tools().await.expect("tools");
        let echo = tools
            .iter()
            .find(|tool| tool.name == "echo")
            .expect("it echoes");
        assert_eq!(echo.input_schema["required"], json!(["message"]));
        let echoed = call(&connection, "echo", json!({"message": "hé"})).await;
        assert_eq!(said(echoed), "Echo: hé");
        let sum = call(&connection, "get-sum", json!({"a": 2, "b": 3})).await;
        assert_eq!(said(sum), "The sum of 2 and 3 is 5.");
        let picture = call(&connection, "get-tiny-image", json!({}))
            .await
            .expect("a picture");
        assert!(is_png(&picture), "{picture:?}");
        let links = call(&connection, "get-resource-links", json!({"count": 2}))
            .await
            .expect("links");
        assert_eq!(links.content.len(), 3, "{links:?}");
        let steps = json!({"duration": 0.2, "steps": 4});
        let long = call(&connection, "trigger-long-running-operation", steps).await;
        assert!(said(long).contains("Long running operation completed"));
        let wrong = call(&connection, "get-sum", json!({"a": "x"}))
            .await
            .expect("an output");
        assert!(wrong.is_error, "{wrong:?}");
        let unknown = call(&connection, "no-such-tool", json!({}))
            .await
            .expect("an output");
        assert!(unknown.is_error, "{unknown:?}");

        // One that is given up does not keep the next from running.
        let hours = Map::from_iter([
            ("duration".to_owned(), json!(3_600)),
            ("steps".to_owned(), json!(1)),
        ]);
        let late = connection
            .call(
                "trigger-long-running-operation",
                &hours,
                Duration::from_millis(300),
            )
            .await;
        assert!(matches!(late, Err(Failure::Unknown { .. })), "{late:?}");
        let echoed = call(&connection, "echo", json!({"message": "again"})).await;
        assert_eq!(said(echoed), "Echo: again");
        connection.close().await;
    }
}

/// runtime MC-1, MC-7, MC-9
#[tokio::test]
async fn mc_1_servers_of_the_official_python_package() {
    for (transport, path) in [
        ("streamable", "/mcp"),
        ("stateless", "/mcp"),
        ("json", "/mcp"),
        ("sse", "/sse"),
    ] {
        let peer = Running::python(transport, "python-token-canary").await;
        let refused = connect(&peer, path, Vault::default()).await.err();
        assert!(
            matches!(refused, Some(Failure::Authentication { .. })),
            "{transport}: {refused:?}"
        );
        let vault = Vault::of(&["an-old-token-canary", "python-token-canary"]);
        let connection = connect(&peer, path, vault).await.expect(transport);
        let tools = connection.tools().await.expect("tools");
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["add", "fail", "picture", "progress", "forever"]);
        assert_eq!(
            said(call(&connection, "add", json!({"a": 2, "b": 3})).await),
            "5"
        );
        let failed = call(&connection, "fail", json!({}))
            .await
            .expect("an output");
        assert!(failed.is_error && said(Ok(failed)).contains("this tool fails"));
        let picture = call(&connection, "picture", json!({}))
            .await
            .expect("a picture");
        assert!(is_png(&picture), "{picture:?}");
        assert_eq!(said(call(&connection, "progress", json!({})).await), "done");
        let late = connection
            .call("forever", &Map::new(), Duration::from_millis(300))
            .await;
        assert!(
            matches!(late, Err(Failure::Unknown { .. })),
            "{transport}: {late:?}"
        );
        assert_eq!(
            said(call(&connection, "add", json!({"a": 1, "b": 1})).await),
            "2"
        );
        connection.close().await;
    }
}
