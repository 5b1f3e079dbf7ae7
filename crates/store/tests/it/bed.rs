//! What the tests stand on: a fresh database, a clock that stands still, and short ways to say things.

use std::sync::Arc;

use manyhands_protocol::agent::{Agent, SessionAgent};
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{
    AgentId, EnvironmentId, EventId, SessionId, ThreadId, Timestamp, WorkspaceId,
};
use manyhands_store::{
    Append, Change, Config, Database, Entry, Lease, NewEntry, NewSession, Replica, SessionRecord,
    SharedMemory, Store,
};
use manyhands_testkit::clock::TestClock;
use manyhands_testkit::{postgres, resources};
use secrecy::ExposeSecret as _;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

/// A fresh database that can be opened more than once.
pub(crate) struct Bed {
    pub(crate) database: Database,
    pub(crate) clock: TestClock,
    /// Removed with the bed.
    _directory: Option<tempfile::TempDir>,
}

impl Bed {
    /// A database somewhere the test has chosen.
    pub(crate) fn on(database: Database, clock: TestClock) -> Self {
        Self {
            database,
            clock,
            _directory: None,
        }
    }

    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            database: Database::Sqlite {
                directory: directory.path().join("data"),
            },
            clock: TestClock::default(),
            _directory: Some(directory),
        }
    }

    pub(crate) async fn postgres() -> Self {
        let database = postgres::Database::create().await;
        Self {
            database: Database::Postgres {
                url: database.url().into(),
            },
            clock: TestClock::default(),
            _directory: None,
        }
    }

    /// In memory. Its own clock stands still, so instances live until [`expire_instances`](Self::expire_instances).
    pub(crate) async fn memory() -> Self {
        let database = SharedMemory::new(Arc::new(TestClock::default())).unwrap();
        Self::on(Database::Memory(database), TestClock::default())
    }

    /// Runs SQL behind the store's back.
    pub(crate) async fn sql(&self, sql: &'static str) {
        self.try_sql(sql).await.unwrap();
    }

    /// Runs SQL behind the store's back that the database may refuse.
    pub(crate) async fn try_sql(&self, sql: &'static str) -> Result<(), String> {
        let words = |error: sqlx::Error| error.to_string();
        match &self.database {
            Database::Sqlite { directory } => {
                let file = directory.join("manyhands.db");
                let options = SqliteConnectOptions::new().filename(file);
                let mut connection = options.connect().await.unwrap();
                let done = sqlx::raw_sql(sql).execute(&mut connection).await;
                connection.close().await.unwrap();
                done.map(drop).map_err(words)
            }
            Database::Postgres { url } => {
                let url = url.expose_secret();
                let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
                let done = sqlx::raw_sql(sql).execute(&mut connection).await;
                connection.close().await.unwrap();
                done.map(drop).map_err(words)
            }
            Database::Memory(shared) => shared.execute(sql).map_err(|error| error.to_string()),
        }
    }

    /// Runs out the time to live of all instances of now, for good: whatever they renew fails.
    pub(crate) async fn expire_instances(&self) {
        self.sql("CREATE TABLE stopped (id TEXT)").await;
        self.sql(if matches!(self.database, Database::Memory(_)) {
            "CREATE TRIGGER stop BEFORE UPDATE ON instances
             WHEN NEW.expires_at <> 0 AND NEW.id IN (SELECT id FROM stopped)
             BEGIN SELECT RAISE(ABORT, 'this instance is stopped by the test'); END"
        } else {
            "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF EXISTS (SELECT 1 FROM stopped WHERE id = NEW.id AND NEW.expires_at <> 0) THEN
                     RAISE EXCEPTION 'this instance is stopped by the test';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER stop BEFORE INSERT OR UPDATE ON instances FOR EACH ROW EXECUTE FUNCTION stop()"
        })
        .await;
        self.sql(
            "UPDATE instances SET expires_at = 0;
             INSERT INTO stopped SELECT id FROM instances",
        )
        .await;
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            database: self.database.clone(),
            clock: Arc::new(self.clock.clone()),
            replica: Default::default(),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_as(Replica::default()).await
    }

    /// Opens it as one of several instances.
    pub(crate) async fn open_as(&self, replica: Replica) -> Store {
        let config = Config {
            replica,
            ..self.config()
        };
        Store::open(config).await.unwrap()
    }
}

/// A store with one workspace, one agent and one environment.
pub(crate) struct World {
    pub(crate) bed: Bed,
    pub(crate) store: Store,
    pub(crate) workspace: WorkspaceId,
    pub(crate) agent: Agent,
    pub(crate) environment: Environment,
}

impl World {
    pub(crate) async fn new(bed: Bed) -> Self {
        Self::new_as(bed, Replica::default()).await
    }

    /// With a store that is one of several instances.
    pub(crate) async fn new_as(bed: Bed, replica: Replica) -> Self {
        let store = bed.open_as(replica).await;
        let workspace = store.default_workspace().await.unwrap();
        let agent = agent("helper", bed.clock.now());
        let environment = environment("plain", bed.clock.now());
        store.insert_agent(&workspace, &agent).await.unwrap();
        store
            .insert_environment(&workspace, &environment)
            .await
            .unwrap();
        Self {
            bed,
            store,
            workspace,
            agent,
            environment,
        }
    }

    pub(crate) fn new_session(&self, change: Change) -> NewSession {
        NewSession {
            workspace: self.workspace.clone(),
            id: SessionId::generate(),
            thread_id: ThreadId::generate(),
            environment_id: self.environment.id.clone(),
            agent: SessionAgent {
                id: self.agent.id.clone(),
                kind: Default::default(),
                version: self.agent.version,
                definition: self.agent.definition.clone(),
            },
            title: Some("a title with a \0 in it".to_owned()),
            metadata: [("k".to_owned(), "v\0".to_owned())].into(),
            budget: None,
            vault_ids: Vec::new(),
            change,
        }
    }

    /// A session without events.
    pub(crate) async fn session(&self) -> SessionId {
        self.session_with(Change::default()).await
    }

    pub(crate) async fn session_with(&self, change: Change) -> SessionId {
        let session = self.new_session(change);
        let id = session.id.clone();
        assert!(self.store.create_session(session).await.unwrap());
        id
    }

    /// A session that was just given work, and the lease on it.
    pub(crate) async fn leased(&self) -> (SessionId, Lease) {
        let id = self.session_with(work(vec![queued("go")])).await;
        let lease = self.claim(&id).await.expect("nobody holds it");
        (id, lease)
    }

    pub(crate) async fn claim(&self, id: &SessionId) -> Option<Lease> {
        self.store.claim(&self.workspace, id).await.unwrap()
    }

    pub(crate) async fn record(&self, id: &SessionId) -> SessionRecord {
        self.store
            .session(&self.workspace, id)
            .await
            .unwrap()
            .expect("the session is there")
    }

    /// A client's write that is not refused.
    pub(crate) async fn change(&self, id: &SessionId, change: Change) -> Vec<Entry> {
        let (entries, ()) = self
            .store
            .change(&self.workspace, id, &[], move |_| {
                Ok::<_, std::convert::Infallible>((change, ()))
            })
            .await
            .unwrap()
            .expect("the session is there")
            .unwrap();
        entries
    }

    /// A client archives the session.
    pub(crate) async fn archive_session(&self, id: &SessionId) {
        let archive = Change {
            archive: true,
            ..Change::default()
        };
        self.change(id, archive).await;
    }

    pub(crate) async fn log(&self, id: &SessionId) -> Vec<Entry> {
        self.store.read(id, 0, 100_000).await.unwrap()
    }
}

pub(crate) fn agent(name: &str, now: Timestamp) -> Agent {
    let mut agent = Agent {
        id: AgentId::generate(),
        created_at: now,
        updated_at: now,
        ..resources::agent()
    };
    agent.definition.name = name.to_owned();
    agent.definition.system = Some("Be brief.\0".to_owned());
    agent
}

pub(crate) fn environment(name: &str, now: Timestamp) -> Environment {
    Environment {
        id: EnvironmentId::generate(),
        name: name.to_owned(),
        config: Default::default(),
        created_at: now,
        updated_at: now,
        ..resources::environment()
    }
}

pub(crate) fn said(text: &str) -> EventBody {
    EventBody::UserMessage {
        content: vec![text_block(text)],
    }
}

pub(crate) fn answered(text: &str) -> EventBody {
    EventBody::AgentMessage {
        content: vec![text_block(text)],
    }
}

fn text_block(text: &str) -> ContentBlock {
    serde_json::from_value(serde_json::json!({"type": "text", "text": text})).unwrap()
}

/// A user's message that waits for the brain.
pub(crate) fn queued(text: &str) -> NewEntry {
    NewEntry::Event {
        id: EventId::generate(),
        body: said(text),
        queued: true,
    }
}

pub(crate) fn entries(entries: Vec<NewEntry>) -> Append {
    Append {
        entries,
        ..Append::default()
    }
}

/// Input that wants a brain and starts the active clock.
pub(crate) fn work(new: Vec<NewEntry>) -> Change {
    Change {
        append: Append {
            entries: new,
            status: Some(SessionStatus::Running),
            ..Append::default()
        },
        wants_brain: true,
        ..Change::default()
    }
}

pub(crate) fn positions(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.position).collect()
}

/// A client's events that count as processed at once.
pub(crate) fn notes(texts: &[&str]) -> Change {
    Change {
        append: entries(
            texts
                .iter()
                .map(|text| NewEntry::event(said(text)))
                .collect(),
        ),
        ..Change::default()
    }
}

/// Waits until so many transactions of a PostgreSQL wait for locks that others have.
pub(crate) async fn until_waiting(connection: &mut sqlx::PgConnection, transactions: i64) {
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()";
    soon(async {
        while sqlx::query_scalar::<_, i64>(waiting)
            .fetch_one(&mut *connection)
            .await
            .unwrap()
            < transactions
        {}
    })
    .await;
}

/// Waits for something that must come, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(60), future)
        .await
        .expect("it comes within 60 s")
}
