//! The server under test: real but for the model, which is scripted, and the hands, which are fake.

use std::sync::Arc;
use std::time::Duration;

use manyhands_blobs::Blobs;
use manyhands_brain::models::{ModelSpec, Price, Prices, ProviderSpec, Timeouts};
use manyhands_hands::Output;
use manyhands_hands::provider::fake::Fake;
use manyhands_protocol::time::SharedClock;
use manyhands_server::{
    BlobPlace, Config, Egress, Files, Limits, MasterKey, Overrides, Sandbox, Server, Web,
};
use manyhands_store::{Database, Role};
use manyhands_testkit::clock::TestClock;
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
    config: Config,
    clock: Option<TestClock>,
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
    // A token of input costs a hundredth of a cent.
    let prices = Prices {
        input: Price::per_million(100.0).expect("a price"),
        ..Prices::default()
    };
    let priced = ModelSpec {
        prices: Some(prices),
        ..ModelSpec::new("priced-1", anthropic.clone())
    };
    Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: dir.path().to_owned(),
        database,
        role: Role::All,
        drain: Duration::ZERO,
        models: vec![ModelSpec::new("claude-*", anthropic), plain, priced],
        legacy_event_names: false,
        public_url: None,
        sandbox: Sandbox::default(),
        blobs: BlobPlace::default_in(dir.path()),
        files: Files::default(),
        repositories: Default::default(),
        environments: Default::default(),
        egress: Egress::default(),
        mcp: Default::default(),
        web: Web::default(),
        master_key: MasterKey::Made(dir.path().join("master-key")),
        limits: Limits {
            concurrent_sessions: 16,
            tool_rounds: 20,
            ..Limits::default()
        },
        judge: None,
    }
}

pub(crate) fn sqlite(dir: &TempDir) -> Database {
    Database::Sqlite {
        directory: dir.path().to_owned(),
    }
}

async fn serve(config: &Config, hands: &Fake, clock: Option<&TestClock>) -> Server {
    let clock = clock.map(|clock| Arc::new(clock.clone()) as SharedClock);
    let overrides = Overrides {
        hands: Some(Arc::new(hands.clone())),
        clock,
        ..Overrides::default()
    };
    let server = Server::start(config.clone(), overrides).await;
    server.expect("the server starts")
}

impl TestApp {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database = sqlite(&dir);
        Self::start(dir, database, None, None, |_| {}).await
    }

    pub(crate) async fn postgres() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database = postgres::Database::create().await;
        let url = SecretString::from(database.url());
        Self::start(
            dir,
            Database::Postgres { url },
            Some(database),
            None,
            |_| {},
        )
        .await
    }

    /// A server on a fresh database of the test's own.
    pub(crate) async fn on(database: Database) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::start(dir, database, None, None, |_| {}).await
    }

    /// A server on SQLite with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database = sqlite(&dir);
        Self::start(dir, database, None, None, change).await
    }

    /// A server on SQLite whose wall clock the test sets.
    pub(crate) async fn by(clock: &TestClock) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database = sqlite(&dir);
        Self::start(dir, database, None, Some(clock.clone()), |_| {}).await
    }

    async fn start(
        dir: TempDir,
        database: Database,
        kept: Option<postgres::Database>,
        clock: Option<TestClock>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let model = ModelServer::start().await;
        let hands = Fake::new().with_tool("bash", |call| async move {
            Output::text(format!(
                "ran {}",
                call.input["command"].as_str().unwrap_or_default()
            ))
        });
        let blobs = Blobs::folder(&dir.path().join("blobs")).expect("a folder of blobs");
        let hands = hands.with_blobs(blobs);
        let mut config = config(&dir, database, &model);
        change(&mut config);
        let server = serve(&config, &hands, clock.as_ref()).await;
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
            config,
            clock,
            _database: kept,
        }
    }

    /// Stops the server and starts another one on the same store, at another address.
    pub(crate) async fn restarted(mut self) -> Self {
        self.server.stop().await;
        self.server = serve(&self.config, &self.hands, self.clock.as_ref()).await;
        self.client = Client::with_key(&self.url(), &self.key);
        self
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
        self.agent_of("claude-opus-4-8", tools).await
    }

    /// An agent of this model with these tools.
    pub(crate) async fn agent_of(&self, model: &str, tools: Value) -> String {
        let body = json!({"name": "helper", "model": model, "tools": tools});
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

    /// A session as clients see it.
    pub(crate) async fn retrieve(&self, session: &str) -> Value {
        self.client
            .get(&format!("/v1/sessions/{session}"))
            .await
            .ok()
    }

    /// Sends events that are refused; the message, once it is clear that nothing was stored.
    pub(crate) async fn refused(&self, session: &str, events: Value) -> String {
        let before = self.events(session).await;
        let path = format!("/v1/sessions/{session}/events");
        let answer = self.client.post(&path, &json!({"events": events})).await;
        let message = answer.error(400, "invalid_request_error");
        assert_eq!(self.events(session).await, before, "nothing is stored");
        message
    }

    /// Sends several events in one request and returns their echoes.
    pub(crate) async fn send_all(&self, session: &str, events: Value) -> Vec<Value> {
        let path = format!("/v1/sessions/{session}/events");
        let answer = self.client.post(&path, &json!({"events": events})).await;
        answer.ok()["data"].as_array().expect("a list").clone()
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

/// The ids of the events of this type.
pub(crate) fn ids(events: &[Event], kind: &str) -> Vec<String> {
    let of_kind = events.iter().filter(|event| event.kind() == kind);
    of_kind.map(|event| id(&event.data)).collect()
}

/// The answer to a call that asks; a reason makes it a denial.
pub(crate) fn confirmation(call: &str, denied: Option<&str>) -> Value {
    let mut event =
        json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"});
    if let Some(reason) = denied {
        event["result"] = json!("deny");
        event["deny_message"] = json!(reason);
    }
    event
}

/// The types of events, in order.
pub(crate) fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::kind).collect()
}
