//! The server under test: real but for the model, which is scripted, and the hands, which are fake.

mod deeds;

use std::sync::Arc;
use std::time::Duration;

use manyhands_blobs::Blobs;
use manyhands_brain::models::{ModelSpec, Price, Prices, ProviderSpec, Timeouts};
use manyhands_hands::Output;
use manyhands_hands::provider::fake::Fake;
use manyhands_protocol::time::SharedClock;
use manyhands_server::{
    BlobPlace, Config, Egress, Files, Limits, MasterKey, Overrides, Rates, Sandbox, Server, Web,
};
use manyhands_store::replica::Uptime;
use manyhands_store::{Database, Role};
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::events::Event;
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
    clocks: Clocks,
    _database: Option<postgres::Database>,
}

/// Clocks of a server that a test moves; those that are absent are the machine's.
#[derive(Clone, Debug, Default)]
struct Clocks {
    wall: Option<TestClock>,
    /// What rate limits go by.
    steady: Option<TestClock>,
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

/// A folder and a model for a server that tests start.
pub(crate) async fn surroundings() -> (TempDir, ModelServer) {
    let dir = tempfile::tempdir().expect("a directory");
    (dir, ModelServer::start().await)
}

/// A client with this key.
pub(crate) fn client(server: &Server, key: &str) -> Client {
    Client::with_key(&format!("http://{}", server.address()), key)
}

/// The key of a server on a fresh store, and a client with it.
pub(crate) fn admitted(server: &Server) -> (String, Client) {
    let key = server.first_key().expect("a fresh store");
    let key = key.expose_secret().to_owned();
    let client = client(server, &key);
    (key, client)
}

async fn serve(config: &Config, hands: &Fake, clocks: &Clocks) -> Server {
    let wall = clocks.wall.clone();
    let uptime = |clock: TestClock| Uptime::new(move || clock.elapsed());
    let overrides = Overrides {
        hands: Some(Arc::new(hands.clone())),
        clock: wall.map(|clock| Arc::new(clock) as SharedClock),
        uptime: clocks.steady.clone().map(uptime),
        ..Overrides::default()
    };
    let server = Server::start(config.clone(), overrides).await;
    server.expect("the server starts")
}

impl TestApp {
    pub(crate) async fn sqlite() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn postgres() -> Self {
        let database = postgres::Database::create().await;
        let url = SecretString::from(database.url());
        let app = Self::on(Database::Postgres { url }).await;
        Self {
            _database: Some(database),
            ..app
        }
    }

    /// A server on a fresh database of the test's own.
    pub(crate) async fn on(database: Database) -> Self {
        Self::start(Some(database), Clocks::default(), |_| {}).await
    }

    /// A server on SQLite with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start(None, Clocks::default(), change).await
    }

    /// A server on SQLite whose wall clock the test sets.
    pub(crate) async fn by(clock: &TestClock) -> Self {
        let clocks = Clocks {
            wall: Some(clock.clone()),
            ..Clocks::default()
        };
        Self::start(None, clocks, |_| {}).await
    }

    /// A server on SQLite with these rate limits, for which time passes when the test says so.
    pub(crate) async fn limited(rates: Rates, clock: &TestClock) -> Self {
        let clocks = Clocks {
            steady: Some(clock.clone()),
            ..Clocks::default()
        };
        let rates = Some(rates);
        Self::start(None, clocks, |config| config.limits.rates = rates).await
    }

    /// Without a database it is SQLite.
    async fn start(
        database: Option<Database>,
        clocks: Clocks,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let (dir, model) = surroundings().await;
        let database = database.unwrap_or_else(|| sqlite(&dir));
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
        let server = serve(&config, &hands, &clocks).await;
        let (key, client) = admitted(&server);
        Self {
            client,
            server,
            key,
            model,
            hands,
            dir,
            config,
            clocks,
            _database: None,
        }
    }

    /// Stops the server and starts another one on the same store, at another address.
    pub(crate) async fn restarted(mut self) -> Self {
        self.server.stop().await;
        self.server = serve(&self.config, &self.hands, &self.clocks).await;
        self.client = client(&self.server, &self.key);
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
