//! What a sandbox has written goes where its session goes, and goes with it (runtime EN-17, EN-19, EN-20).

use std::time::Duration;

use futures::TryStreamExt;
use manyhands_blobs::Blobs;
use manyhands_protocol::SessionId;
use manyhands_server::{BlobPlace, Config, Overrides, Server};
use manyhands_store::Database;
use manyhands_testkit::http::Client;
use manyhands_testkit::model::{ModelServer, Reply};
use manyhands_testkit::postgres;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::app::{admitted, client, config, message};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what nobody tells of.
const LOOK: Duration = Duration::from_millis(10);

async fn start(config: &Config) -> Server {
    let server = Server::start(config.clone(), Overrides::default()).await;
    server.expect("it starts")
}

/// Runs a command in a session; its result.
async fn run(client: &Client, model: &ModelServer, path: &str, id: &str, command: &str) -> Value {
    model.push(Reply::tool_use(id, "bash", json!({"command": command})));
    model.push(Reply::text("Done."));
    let mut stream = client.stream(&format!("{path}/events/stream")).await;
    let events = json!({"events": [message("go on")]});
    client.post(&format!("{path}/events"), &events).await.ok();
    let result = stream
        .until("agent.tool_result")
        .await
        .pop()
        .expect("a result");
    stream.until("session.status_idle").await;
    result.data
}

/// runtime EN-17, EN-20: two servers with nothing in common but the database and the blobs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_17_files_survive_a_takeover_at_another_place() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    let model = ModelServer::start().await;
    let database = postgres::Database::create().await;
    let place = |dir| {
        let url = SecretString::from(database.url());
        let mut config = config(dir, Database::Postgres { url }, &model);
        config.blobs = BlobPlace::Folder(dirs[2].path().to_owned());
        config.sandbox.idle = Duration::from_secs(1);
        config
    };
    let (one, two) = (place(&dirs[0]), place(&dirs[1]));
    let server = start(&one).await;
    let (key, asked) = admitted(&server);
    let agent = json!({
        "name": "a", "model": "claude-x", "tools": [{"type": "agent_toolset_20260401"}],
    });
    let agent = asked.make("/v1/agents", &agent).await;
    let id = asked.session_of(&agent).await;
    let path = format!("/v1/sessions/{id}");
    run(
        &asked,
        &model,
        &path,
        "toolu_1",
        "echo kept > /workspace/f; ln -s f /workspace/l",
    )
    .await;
    let session = SessionId::parse(&id).expect("an id");
    let kept = async {
        while server
            .store()
            .checkpoint(&session)
            .await
            .expect("the store")
            .is_none()
        {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, kept)
        .await
        .expect("it is kept");
    server.stop().await;

    let server = start(&two).await;
    let client = client(&server, &key);
    let result = run(&client, &model, &path, "toolu_2", "cat /workspace/l").await;
    assert_eq!(
        result["content"],
        json!([{"type": "text", "text": "kept"}]),
        "{result}"
    );

    client.delete(&path).await.ok();
    let blobs = Blobs::folder(dirs[2].path()).expect("the blobs");
    let gone = async {
        loop {
            let left: Vec<_> = blobs
                .list("checkpoints")
                .try_collect()
                .await
                .expect("a list");
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("what was kept goes as well");
    server.stop().await;
    model.assert_clean();
}
