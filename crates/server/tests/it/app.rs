//! The server under test: real but for the model, which is scripted, and the hands, which are fake.

use std::sync::Arc;

use manyhands_brain::models::{ModelSpec, ProviderSpec, Timeouts};
use manyhands_hands::Output;
use manyhands_hands::provider::fake::Fake;
use manyhands_server::{Config, Overrides, Sandbox, Server};
use manyhands_store::Database;
use manyhands_testkit::events::{Event, EventStream};
use manyhands_testkit::http::Client;
use manyhands_testkit::model::ModelServer;
use manyhands_testkit::postgres;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Declares stories (`async fn(TestApp)`) as tests on both databases.
macro_rules! stories {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let app = crate::app::TestApp::sqlite().await;
                super::$name(&app).await;
                app.end().await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let app = crate::app::TestApp::postgres().await;
                super::$name(&app).await;
                app.end().await;
            })*
        }
    };
}
pub(crate) use stories;

/// A running server, the key to it, and what plays its surroundings.
pub(crate) struct TestApp {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) key: String,
    pub(crate) model: ModelServer,
    pub(crate) hands: Fake,
    pub(crate) dir: TempDir,
    _database: Option<postgres::Database>,
}

/// The configuration of a server that tests start.
pub(crate) fn config(dir: &TempDir, database: Database, model: &ModelServer) -> Config {
    let anthropic = ProviderSpec::Anthropic {
        base_url: Some(model.url().parse().expect("a URL")),
        key: Some(SecretString::from("stub")),
        timeouts: Timeouts::default(),
    };
    let plain = ModelSpec {
        effort: false,
        ..ModelSpec::new("plain-1", anthropic.clone())
    };
    Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: dir.path().to_owned(),
        database,
        models: vec![ModelSpec::new("claude-*", anthropic), plain],
        legacy_event_names: false,
        sandbox: Sandbox::default(),
        concurrent_sessions: 16,
        tool_rounds: 20,
    }
}

pub(crate) fn sqlite(dir: &TempDir) -> Database {
    Database::Sqlite {
        directory: dir.path().to_owned(),
    }
}

impl TestApp {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database = sqlite(&dir);
        Self::start(dir, database, None, |_| {}).await
    }

    pub(crate) async fn postgres() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database = postgres::Database::create().await;
        let url = SecretString::from(database.url());
        Self::start(dir, Database::Postgres { url }, Some(database), |_| {}).await
    }

    /// A server on SQLite with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database = sqlite(&dir);
        Self::start(dir, database, None, change).await
    }

    async fn start(
        dir: TempDir,
        database: Database,
        kept: Option<postgres::Database>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let model = ModelServer::start().await;
        let hands = Fake::new().with_tool("bash", |call| async move {
            Output::text(format!(
                "ran {}",
                call.input["command"].as_str().unwrap_or_default()
            ))
        });
        let mut config = config(&dir, database, &model);
        change(&mut config);
        let overrides = Overrides {
            hands: Some(Arc::new(hands.clone())),
            ..Overrides::default()
        };
        let server = Server::start(config, overrides)
            .await
            .expect("the server starts");
        let key = server
            .first_key()
            .expect("a fresh store")
            .expose_secret()
            .to_owned();
        let url = format!("http://{}", server.address());
        Self {
            client: Client::with_key(&url, &key),
            server,
            key,
            model,
            hands,
            dir,
            _database: kept,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Stops the server; fails when the model was asked something malformed.
    pub(crate) async fn end(self) {
        self.model.assert_clean();
        self.server.stop().await;
    }

    /// An agent with the built-in tools.
    pub(crate) async fn agent(&self) -> String {
        self.agent_with(json!([{"type": "agent_toolset_20260401"}]))
            .await
    }

    /// An agent with these tools.
    pub(crate) async fn agent_with(&self, tools: Value) -> String {
        let body = json!({"name": "helper", "model": "claude-opus-4-8", "tools": tools});
        id(&self.client.post("/v1/agents", &body).await.ok())
    }

    pub(crate) async fn environment(&self) -> String {
        id(&self
            .client
            .post("/v1/environments", &json!({"name": "box"}))
            .await
            .ok())
    }

    /// A session of a fresh agent in a fresh environment.
    pub(crate) async fn session(&self) -> String {
        let agent = self.agent().await;
        self.session_of(&agent).await
    }

    pub(crate) async fn session_of(&self, agent: &str) -> String {
        let environment = self.environment().await;
        let body = json!({"agent": agent, "environment_id": environment});
        id(&self.client.post("/v1/sessions", &body).await.ok())
    }

    /// Sends one event and returns its echo.
    pub(crate) async fn send(&self, session: &str, event: Value) -> Value {
        let path = format!("/v1/sessions/{session}/events");
        let answer = self
            .client
            .post(&path, &json!({"events": [event]}))
            .await
            .ok();
        answer["data"][0].clone()
    }

    pub(crate) async fn stream(&self, session: &str, query: &str) -> EventStream {
        self.client
            .stream(&format!("/v1/sessions/{session}/events/stream{query}"))
            .await
    }

    /// All listed events of a session.
    pub(crate) async fn events(&self, session: &str) -> Vec<Value> {
        let page = self
            .client
            .get(&format!("/v1/sessions/{session}/events"))
            .await
            .ok();
        assert_eq!(page["next_page"], Value::Null);
        page["data"].as_array().expect("a list").clone()
    }

    /// Sends a message and waits until the session rests.
    pub(crate) async fn turn(&self, session: &str, text: &str) -> Vec<Event> {
        let mut stream = self.stream(session, "").await;
        self.send(session, message(text)).await;
        stream.until_idle().await
    }
}

/// The id of a resource.
pub(crate) fn id(resource: &Value) -> String {
    resource["id"].as_str().expect("an id").to_owned()
}

/// A text message.
pub(crate) fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

/// The types of events, in order.
pub(crate) fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::kind).collect()
}
