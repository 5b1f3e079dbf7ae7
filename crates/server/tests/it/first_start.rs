//! Starting: the first key, what stands in the way, and what a second start finds.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use manyhands_hands::provider::Missing;
use manyhands_hands::provider::fake::Fake;
use manyhands_hands::{Error, Probe, Provider, Recipe, Sandbox};
use manyhands_server::{Config, Failure, MasterKey, Overrides, Server};
use manyhands_store::Database;
use manyhands_testkit::model::Reply;
use manyhands_testkit::postgres;
use secrecy::SecretString;
use serde_json::json;

use crate::app::{TestApp, admitted, client, config, message, sqlite, surroundings};

async fn start(config: Config) -> anyhow::Result<Server> {
    let hands = Some(Arc::new(Fake::new()) as _);
    Server::start(
        config,
        Overrides {
            hands,
            ..Overrides::default()
        },
    )
    .await
}

async fn refused(config: Config) -> Failure {
    let error = start(config).await.err().expect("it does not start");
    error.downcast::<Failure>().expect("a failure with a hint")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_makes_a_key_and_the_second_does_not() {
    let (dir, model) = surroundings().await;
    let server = start(config(&dir, sqlite(&dir), &model))
        .await
        .expect("it starts");
    let (key, _) = admitted(&server);
    let file = dir.path().join("api-key");
    assert_eq!(std::fs::read_to_string(&file).expect("a file").trim(), key);
    assert_eq!(
        std::fs::metadata(&file)
            .expect("a file")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let address = std::fs::read_to_string(dir.path().join("address")).expect("a file");
    assert_eq!(address.trim(), format!("http://{}", server.address()));
    server.stop().await;
    assert!(!dir.path().join("address").exists());

    let server = start(config(&dir, sqlite(&dir), &model))
        .await
        .expect("it starts again");
    assert!(server.first_key().is_none());
    let client = client(&server, &key);
    client.get("/v1/agents").await.ok();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_data_directory_is_refused_with_the_pid() {
    let app = TestApp::sqlite().await;
    let failure = refused(config(&app.dir, sqlite(&app.dir), &app.model)).await;
    let pid = std::process::id().to_string();
    assert!(failure.to_string().contains(&pid), "{failure}");
    assert!(failure.hint().contains("--data-dir"));
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named() {
    let app = TestApp::sqlite().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(&dir, sqlite(&dir), &app.model);
    config.listen = app.server.address();
    let failure = refused(config).await;
    assert_eq!(
        failure.to_string(),
        format!("{} is in use by another program", app.server.address())
    );
    assert!(failure.hint().contains("--listen"));
    assert!(!dir.path().join("api-key").exists(), "nothing is half-made");
    app.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_postgresql_is_named_without_its_password() {
    let (dir, model) = surroundings().await;
    let socket = dir.path().join("nobody-listens");
    std::fs::create_dir(&socket).expect("a directory");
    let url = format!(
        "postgres://me:hunter2@localhost/db?host={}",
        socket.display()
    );
    let url = SecretString::from(url);
    let failure = refused(config(&dir, Database::Postgres { url }, &model)).await;
    let text = format!("{failure} {}", failure.hint());
    assert!(
        text.contains("PostgreSQL") && !text.contains("hunter2"),
        "{text}"
    );
}

/// security STORE-1, I9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_1_a_postgresql_that_would_lose_data_is_refused() {
    let (dir, model) = surroundings().await;
    let database = postgres::Database::create().await;
    let separator = if database.url().contains('?') {
        '&'
    } else {
        '?'
    };
    let weak = format!(
        "{}{separator}options=-csynchronous_commit%3Doff",
        database.url()
    );
    let url = SecretString::from(weak);
    let failure = refused(config(&dir, Database::Postgres { url }, &model)).await;
    assert!(
        failure.to_string().contains("synchronous_commit"),
        "{failure}"
    );
}

/// A host without what sandboxes need.
struct Bare;

#[async_trait::async_trait]
impl Provider for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    async fn probe(&self) -> Probe {
        let missing = Missing {
            what: "bubblewrap is missing".to_owned(),
            why: "no bwrap on the path".to_owned(),
            install: "install it with `apt-get install bubblewrap`".to_owned(),
        };
        Probe {
            missing: vec![missing],
            ..Fake::new().probe().await
        }
    }

    async fn provision(&self, _: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        Err(self.probe().await.missing.remove(0).into())
    }

    async fn find(&self, _: &str, _: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        Ok(None)
    }

    async fn release(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn destroy(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// OPS-1, SBX-2: a host that can make no sandbox is not ready, says what to install, and tells the model so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ops_1_a_host_without_sandboxes_is_not_ready() {
    let (dir, model) = surroundings().await;
    let overrides = Overrides {
        hands: Some(Arc::new(Bare)),
        ..Overrides::default()
    };
    let server = Server::start(config(&dir, sqlite(&dir), &model), overrides)
        .await
        .expect("it starts");
    let (_, client) = admitted(&server);
    let ready = client.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.json()["checks"],
        json!({"store": "ok", "key": "ok", "sandbox": "bubblewrap is missing; install it with `apt-get install bubblewrap`", "vaults": "ok"})
    );
    model.push(Reply::tool_use("toolu_1", "bash", json!({"command": "ls"})));
    model.push(Reply::text("I cannot."));
    let agent =
        json!({"name": "a", "model": "claude-x", "tools": [{"type": "agent_toolset_20260401"}]});
    let agent = client.post("/v1/agents", &agent).await.ok();
    let environment = client
        .post("/v1/environments", &json!({"name": "e"}))
        .await
        .ok();
    let body = json!({"agent": agent["id"], "environment_id": environment["id"], "initial_events": [message("look")]});
    client.post("/v1/sessions", &body).await.ok();
    let request = model.request(2).await;
    let result = &request.tool_results()[0];
    assert!(
        result.is_error && result.text.contains("apt-get install bubblewrap"),
        "{}",
        result.text
    );
    server.stop().await;
}

/// security CRED-1, OPS-1: without the key in use the server is ready, says what is missing, and notices when it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cred_1_a_sealed_server_says_so_and_is_ready() {
    let (dir, model) = surroundings().await;
    let key = dir.path().join("elsewhere");
    let server = start(Config {
        master_key: MasterKey::File(key.clone()),
        ..config(&dir, sqlite(&dir), &model)
    })
    .await
    .expect("it starts");
    let (_, client) = admitted(&server);
    let said = client.get("/readyz").await.ok();
    assert_eq!(said["status"], "ready");
    let vaults = said["checks"]["vaults"].as_str().expect("words");
    assert!(
        vaults.starts_with("sealed: there is no master key at "),
        "{vaults}"
    );
    assert!(vaults.contains("MANYHANDS_MASTER_KEY"), "{vaults}");
    client.get("/v1/agents").await.ok();
    let made = manyhands_vault::master::MasterKey::generate().expect("a key");
    made.write(&key, false).expect("written");
    let said = client.get("/readyz").await.ok();
    assert_eq!(said["checks"]["vaults"], "ok");
    server.stop().await;
}

/// Whatever the directory is to others, what the server makes in it is closed to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_closed_to_others() {
    let (dir, model) = surroundings().await;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("set");
    let server = start(config(&dir, sqlite(&dir), &model))
        .await
        .expect("it starts");
    let entries = std::fs::read_dir(dir.path()).expect("a directory");
    let mut names = Vec::new();
    for entry in entries.map(|entry| entry.expect("an entry")) {
        let mode = entry.metadata().expect("its mode").permissions().mode();
        let name = entry.file_name().into_string().expect("a name");
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
        names.push(name);
    }
    for name in [
        "manyhands.db",
        "manyhands.db-wal",
        "blobs",
        "master-key",
        "api-key",
    ] {
        assert!(names.iter().any(|it| it == name), "{name}: {names:?}");
    }
    server.stop().await;
}

/// LOG-1: what was answered is there after the process is gone, here by dropping the server without stopping it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_after_a_restart() {
    let app = TestApp::sqlite().await;
    app.model.push(Reply::text("One."));
    let session = app.session().await;
    app.turn(&session, "first").await;
    let before = app.events(&session).await;
    let TestApp {
        server,
        key,
        model,
        dir,
        ..
    } = app;
    server.stop().await;

    let server = start(config(&dir, sqlite(&dir), &model))
        .await
        .expect("it starts again");
    model.push(Reply::text("Two."));
    let client = client(&server, &key);
    let path = format!("/v1/sessions/{session}/events");
    assert_eq!(client.get(&path).await.ok()["data"], json!(before));
    let mut stream = client.stream(&format!("{path}/stream")).await;
    client
        .post(&path, &json!({"events": [message("second")]}))
        .await
        .ok();
    stream.until_idle().await;
    let request = model.request(2).await;
    assert!(
        String::from_utf8_lossy(&request.raw).contains("first"),
        "the log is the memory"
    );
    server.stop().await;
}
