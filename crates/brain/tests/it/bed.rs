//! What the stories stand on: one session in a store of its own, a brain that can be killed, and its log as short lines.

mod deaths;
mod events;
mod parts;
mod reading;
mod servers;
mod settings;
mod vaults;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use manyhands_brain::models::{ModelSpec, Price, Prices, ProviderSpec, Registry, Timeouts};
use manyhands_brain::{Brain, Cloned, Config, Probe, Retries, Why, why};
use manyhands_hands::provider::fake::Fake;
use manyhands_hands::{Call, Output, Provider};
use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::memory::MemoryStore;
use manyhands_protocol::time::{Clock as _, SharedClock, SystemClock};
use manyhands_protocol::{EventId, SessionId, ThreadId, VaultId, WorkspaceId, tag};
use manyhands_store::repositories::NewRepository;
use manyhands_store::{
    Belongings, Change, Created, Database, Lease, NewSession, SharedMemory, Store,
};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{ModelServer, Reply};
use tokio_util::sync::CancellationToken;

pub(crate) use deaths::Noted;
pub(crate) use events::{confirmation, custom_result, interrupt, message, system};
pub(crate) use parts::{admit, agent, environment, server_url, tools, tools_under};
pub(crate) use reading::{DONE, from, spans};
pub(crate) use servers::{Slow, all_under, docs_and_mail, down, offered, said, talking_to};

/// How long a story may wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One session and all that is around it.
pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) model: ModelServer,
    pub(crate) hands: Fake,
    pub(crate) session: SessionId,
    pub(crate) config: Config,
    pub(crate) specs: fn(&str) -> Vec<ModelSpec>,
    pub(crate) workspace: WorkspaceId,
    thread: ThreadId,
    brain: Option<(Brain, CancellationToken)>,
    database: Database,
    _directory: tempfile::TempDir,
}

/// What a session has beside its agent and environment. Its stores and vaults are made, too.
#[derive(Default)]
pub(crate) struct Things {
    pub(crate) memory_stores: Vec<MemoryStore>,
    pub(crate) vault_ids: Vec<VaultId>,
    pub(crate) belongings: Belongings,
}

/// The models of a bed: the scripted server, with short patience.
pub(crate) fn specs(url: &str) -> Vec<ModelSpec> {
    let provider = ProviderSpec::Anthropic {
        base_url: Some(url.parse().expect("a URL")),
        key: Some("test-key".into()),
        timeouts: Timeouts {
            headers: Duration::from_secs(20),
            between: Duration::from_secs(20),
        },
    };
    vec![ModelSpec::new("claude-*", provider)]
}

/// As [`specs`], but silence is noticed soon: late enough for a busy machine to answer.
pub(crate) fn impatient_specs(url: &str) -> Vec<ModelSpec> {
    let mut specs = specs(url);
    if let ProviderSpec::Anthropic { timeouts, .. } = &mut specs[0].provider {
        *timeouts = Timeouts {
            headers: Duration::from_secs(2),
            between: Duration::from_secs(2),
        };
    }
    specs
}

/// As [`specs`], at a cent for each token of input, and nothing for others.
pub(crate) fn priced_specs(url: &str) -> Vec<ModelSpec> {
    let mut specs = specs(url);
    specs[0].prices = Some(Prices {
        input: Price::per_million(10_000.0).expect("a price"),
        ..Prices::default()
    });
    specs
}

/// As [`specs`], but requests may have 54,400 tokens before a summary is due.
pub(crate) fn small_specs(url: &str) -> Vec<ModelSpec> {
    let mut specs = specs(url);
    specs[0].context_window = Some(100_000);
    specs
}

/// Settings without waits that matter.
pub(crate) fn quick() -> Config {
    Config {
        retries: Retries {
            attempts: 3,
            total: Duration::from_secs(60),
            base: Duration::from_millis(2),
            longest: Duration::from_millis(5),
        },
        tick: Duration::from_millis(50),
        ..Config::default()
    }
}

/// Hands whose tools say what they were given.
pub(crate) fn hands() -> Fake {
    let echo = |call: Call| async move { Output::text(format!("{}: {}", call.name, call.input)) };
    let mut hands = Fake::new();
    for name in ["bash", "read", "write", "edit", "glob"] {
        hands = hands.with_tool(name, echo);
    }
    hands
}

impl Bed {
    /// A session that has not been sent anything, and a running brain.
    pub(crate) async fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut bed = Self::asleep(replies).await;
        bed.wake();
        bed
    }

    /// A session that has not been sent anything; no brain yet.
    pub(crate) async fn asleep(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::asleep_with(replies, Vec::new()).await
    }

    /// A session that has these repositories; no brain yet.
    pub(crate) async fn asleep_with(
        replies: impl IntoIterator<Item = Reply>,
        repositories: Vec<NewRepository>,
    ) -> Self {
        let belongings = Belongings {
            repositories,
            ..Belongings::default()
        };
        let things = Things {
            belongings,
            ..Things::default()
        };
        Self::asleep_having(replies, things).await
    }

    /// A session that has these things; no brain yet.
    pub(crate) async fn asleep_having(
        replies: impl IntoIterator<Item = Reply>,
        things: Things,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::Sqlite {
            directory: directory.path().to_owned(),
        };
        Self::on(database, directory, replies, things).await
    }

    /// A session whose store waits for no disk, for a brain with little patience; no brain yet.
    pub(crate) async fn asleep_in_memory(replies: impl IntoIterator<Item = Reply>) -> Self {
        let database = Database::Memory(SharedMemory::new(Arc::new(SystemClock)).unwrap());
        let directory = tempfile::tempdir().unwrap();
        Self::on(database, directory, replies, Things::default()).await
    }

    async fn on(
        database: Database,
        directory: tempfile::TempDir,
        replies: impl IntoIterator<Item = Reply>,
        things: Things,
    ) -> Self {
        let Things {
            memory_stores,
            vault_ids,
            belongings,
        } = things;
        // Only the first of all tests can install it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = open(&database).await;
        let workspace = store.default_workspace().await.unwrap();
        let (agent, environment) = (agent(), environment());
        store.insert_agent(&workspace, &agent).await.unwrap();
        store
            .insert_environment(&workspace, &environment)
            .await
            .unwrap();
        let (session, thread) = (SessionId::generate(), ThreadId::generate());
        let mut new = NewSession {
            workspace: workspace.clone(),
            id: session.clone(),
            thread_id: thread.clone(),
            environment_id: environment.id,
            agent: SessionAgent {
                id: agent.id,
                kind: tag::Agent::Value,
                version: 1,
                definition: agent.definition,
            },
            title: None,
            metadata: Default::default(),
            budget: None,
            vault_ids,
            change: Change::default(),
        };
        if !belongings.repositories.is_empty() {
            let cloned = belongings.repositories.iter().map(|repository| Cloned {
                url: repository.url.clone(),
                mount_path: repository.mount_path.clone(),
            });
            let cloned: Vec<Cloned> = cloned.collect();
            let entry = manyhands_brain::repositories(&cloned);
            new.change.append.entries.push(entry);
        }
        for memory_store in &memory_stores {
            let inserted = store.insert_memory_store(&workspace, memory_store);
            inserted.await.unwrap();
        }
        for vault in &new.vault_ids {
            vaults::insert(&store, &workspace, vault).await;
        }
        let created = store.create_session_with(new, belongings);
        assert_eq!(created.await, Ok(Created::Done));
        let model = ModelServer::with(replies).await;
        model.check_prefixes();
        Self {
            store,
            model,
            hands: hands(),
            session,
            config: quick(),
            specs,
            workspace,
            thread,
            brain: None,
            database,
            _directory: directory,
        }
    }

    /// Writes to the session as a client, whatever that leads to.
    pub(crate) async fn change(&self, change: Change) {
        let changed = self
            .store
            .change(&self.workspace, &self.session, &[], move |_| {
                Ok::<_, ()>((change, ()))
            })
            .await
            .unwrap();
        assert!(changed.is_some());
    }

    /// The types of the calls that wait for the client, as admission sees them.
    pub(crate) async fn waiting(&self) -> Vec<String> {
        let changed = self
            .store
            .change(&self.workspace, &self.session, &[], |state| {
                let types = state.calls.iter().map(|call| call.type_name.clone());
                Ok::<_, ()>((Change::default(), types.collect()))
            })
            .await
            .unwrap();
        changed.expect("the session").expect("not refused").1
    }

    /// Takes the session's lease, in no brain's name.
    pub(crate) async fn claim(&self) -> Lease {
        let lease = self.store.claim(&self.workspace, &self.session).await;
        lease.unwrap().expect("nobody holds it")
    }

    /// Starts the brain.
    pub(crate) fn wake(&mut self) {
        self.wake_with_hands(Arc::new(self.hands.clone()));
    }

    /// Starts the brain with other hands.
    pub(crate) fn wake_with_hands(&mut self, hands: Arc<dyn Provider>) {
        let clock: SharedClock = Arc::new(SystemClock);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let models = Registry::new((self.specs)(&self.model.url()), &client, &clock).unwrap();
        self.wake_with(models, hands);
    }

    /// Starts the brain with these neighbours.
    pub(crate) fn wake_with(&mut self, models: Registry, hands: Arc<dyn Provider>) {
        let cancel = CancellationToken::new();
        let brain = Brain::start(
            self.config.clone(),
            self.store.clone(),
            hands,
            Arc::new(models),
            Arc::new(SystemClock),
            cancel.clone(),
        );
        self.brain = Some((brain, cancel));
    }

    /// What the session waits for.
    pub(crate) async fn why(&self) -> Why {
        let activities = self.brain.as_ref().map(|(brain, _)| brain.activities());
        let record = self.record().await;
        let now = SystemClock.now();
        why(&self.store, &activities.unwrap_or_default(), &record, now)
            .await
            .unwrap()
    }

    /// The process dies: nothing of the brain is left, and the store is opened anew.
    pub(crate) async fn crash(&mut self) {
        self.end_brain().await;
        self.store.close().await;
        self.store = open(&self.database).await;
    }

    /// The brain dies; what it does not finish stays as it is.
    pub(crate) async fn end_brain(&mut self) {
        if let Some((brain, _)) = self.brain.take() {
            brain.crashed().await;
        }
    }

    /// The process is asked to stop, and does.
    pub(crate) async fn shut_down(&mut self) {
        let (brain, cancel) = self.brain.take().expect("a running brain");
        cancel.cancel();
        tokio::time::timeout(PATIENCE, brain.stopped())
            .await
            .expect("the brain stops");
        self.store.close().await;
        self.store = open(&self.database).await;
    }

    /// Sends events as the server does.
    pub(crate) async fn send(&self, events: Vec<EventBody>) -> Vec<EventId> {
        self.sender()(events).await
    }

    /// Sends events to the session, without the bed.
    pub(crate) fn sender(
        &self,
    ) -> impl Fn(Vec<EventBody>) -> BoxFuture<'static, Vec<EventId>> + Clone + Send + Sync + 'static
    {
        let (store, thread) = (self.store.clone(), self.thread.clone());
        let (workspace, session) = (self.workspace.clone(), self.session.clone());
        move |events| {
            let (store, thread) = (store.clone(), thread.clone());
            let (workspace, session) = (workspace.clone(), session.clone());
            async move {
                let changed = store
                    .change(&workspace, &session, &[], move |state| {
                        Ok::<_, ()>((admit(state, events, &thread), ()))
                    })
                    .await
                    .unwrap();
                let (entries, ()) = changed.expect("the session").expect("not refused");
                entries.into_iter().map(|entry| entry.event_id).collect()
            }
            .boxed()
        }
    }

    /// Sends one message.
    pub(crate) async fn say(&self, text: &str) -> EventId {
        self.send(vec![message(text)]).await.remove(0)
    }

    /// Sends a message and waits for the end of the turn.
    pub(crate) async fn turn(&self, text: &str) -> Vec<String> {
        let before = self.log().await.len();
        self.say(text).await;
        self.idle().await;
        self.log().await.split_off(before)
    }
}

/// Holds a wake at a failpoint of this name, the n-th time it comes there (from 1); others pass.
pub(crate) fn hold_at(point: &'static str, nth: usize, gate: &Gate) -> Probe {
    let gate = gate.clone();
    let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Probe(Arc::new(move |name, _| {
        let here =
            name == point && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == nth;
        let gate = gate.clone();
        async move {
            if here {
                gate.pass().await;
            }
        }
        .boxed()
    }))
}

async fn open(database: &Database) -> Store {
    Store::open(manyhands_store::Config {
        database: database.clone(),
        clock: Arc::new(SystemClock),
        replica: Default::default(),
    })
    .await
    .unwrap()
}
