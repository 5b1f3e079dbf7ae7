//! A running server: the parts built, the port open, and all of it ended again.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use manyhands_brain::models::Registry;
use manyhands_brain::{Brain, Judge, ModelJudge};
use manyhands_egress::Timeouts;
use manyhands_hands::Provider;
use manyhands_hands::provider::namespace::{self, Namespace};
use manyhands_protocol::page::Order;
use manyhands_protocol::session::SessionFilter;
use manyhands_protocol::time::{SharedClock, SystemClock};
use manyhands_protocol::{SessionId, WorkspaceId};
use manyhands_store::listing::{Key, Range};
use manyhands_store::{Database, Store};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::auth::KnownKeys;
use crate::app::{App, Parts, organization};
use crate::config::{Config, show};
use crate::failure::Failure;
use crate::listener::Patience;
use crate::{keys, listener, routes, telemetry};

/// How long the brain may take to let go of its sessions.
const BRAIN: Duration = Duration::from_millis(700);

/// Parts that a test brings along; what is absent is built from the configuration.
#[derive(Clone, Default)]
pub struct Overrides {
    /// Where sandboxes come from.
    pub hands: Option<Arc<dyn Provider>>,
    /// Who answers.
    pub models: Option<Arc<Registry>>,
    /// The time.
    pub clock: Option<SharedClock>,
    /// How the brain works.
    pub brain: Option<manyhands_brain::Config>,
}

/// A server that answers.
pub struct Server {
    address: SocketAddr,
    first_key: Option<SecretString>,
    scripted: bool,
    app: App,
    brain: Brain,
    shutdown: CancellationToken,
    accepting: tokio::task::JoinHandle<()>,
    address_file: PathBuf,
}

impl Server {
    /// Builds the parts and opens the port. It answers when this returns.
    ///
    /// # Errors
    /// What is in the way and what to do: a port or data directory in use, a database that is absent or would lose
    /// data, a model that cannot be had.
    pub async fn start(config: Config, overrides: Overrides) -> anyhow::Result<Self> {
        telemetry::recorder();
        make_data_dir(&config.data_dir)?;
        let listener = bind(config.listen).await?;
        let address = listener.local_addr().context("the port has no address")?;
        let clock = overrides.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let store = open_store(&config, &clock).await?;
        let workspace = store.default_workspace().await?;
        let first_key =
            keys::ensure_first(&store, &workspace, &config.data_dir, clock.now()).await?;
        let models = match overrides.models {
            Some(models) => models,
            None => Arc::new(registry(&config, &clock)?),
        };
        let scripted = models.claude_is_scripted();
        let hands: Arc<dyn Provider> = match overrides.hands {
            Some(hands) => hands,
            None => {
                let hands = namespace(&config);
                tokio::spawn(tidy(hands.clone(), store.clone(), workspace.clone()));
                Arc::new(hands)
            }
        };
        let shutdown = CancellationToken::new();
        let judge = config.judge.as_deref();
        let judge = judge.map(|id| judge_of(&models, id)).transpose()?;
        let brain_config = overrides.brain.unwrap_or_else(|| manyhands_brain::Config {
            judge,
            ..config.limits.brain()
        });
        let brain = Brain::start(
            brain_config,
            store.clone(),
            Arc::clone(&hands),
            Arc::clone(&models),
            Arc::clone(&clock),
            shutdown.child_token(),
        );
        let app = App::new(Parts {
            organization: organization(&workspace),
            keys: KnownKeys::new(matches!(config.database, Database::Sqlite { .. })),
            store,
            models,
            activities: brain.activities(),
            hands,
            clock,
            workspace,
            legacy_event_names: config.legacy_event_names,
            shutdown: shutdown.clone(),
            probed: Mutex::new(None),
        });
        let router = routes::router(app.clone());
        let accepting = tokio::spawn(listener::accept(
            listener,
            router,
            shutdown.clone(),
            Patience::default(),
        ));
        // What sandboxes can do here is found out beside the first requests, not before them.
        let probing = app.clone();
        tokio::spawn(async move { warn_of_missing(&probing).await });
        let address_file = address_file(&config.data_dir);
        keys::write_private(&address_file, &format!("http://{address}"))
            .with_context(|| format!("{} cannot be written", address_file.display()))?;
        Ok(Self {
            address,
            first_key,
            scripted,
            app,
            brain,
            shutdown,
            accepting,
            address_file,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key that was made at this start, if one was: to be shown once.
    pub fn first_key(&self) -> Option<&SecretString> {
        self.first_key.as_ref()
    }

    /// Whether `claude-*` models are answered by a script.
    pub fn is_scripted(&self) -> bool {
        self.scripted
    }

    /// The store it works on.
    pub fn store(&self) -> &Store {
        &self.app.store
    }

    /// The service without its listener: requests can be handed to it in this process.
    pub fn router(&self) -> axum::Router {
        routes::router(self.app.clone())
    }

    /// Ends as a crash does, for tests: wakes stop where they are and give nothing back.
    #[cfg(feature = "failpoints")]
    pub async fn crash(self) {
        self.brain.crashed().await;
        self.shutdown.cancel();
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, "the listener failed");
        }
        self.app.store.close().await;
    }

    /// Ends streams, lets open answers end, gives sessions back. Running tool calls go on in their sandboxes.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let stopped = async {
            let accepted = self.accepting.await;
            if accepted.is_err_and(|error| error.is_panic()) {
                tracing::error!("the listener panicked");
            }
            if tokio::time::timeout(BRAIN, self.brain.stopped())
                .await
                .is_err()
            {
                tracing::warn!("sessions were still held when the server stopped");
            }
        };
        stopped.await;
        self.app.store.close().await;
        remove_address(&self.address_file);
    }
}

fn remove_address(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "the address file could not be removed");
    }
}

/// Where the server's own URL is kept while it runs, for commands that talk to it.
pub(crate) fn address_file(data_dir: &Path) -> PathBuf {
    data_dir.join("address")
}

fn make_data_dir(path: &Path) -> anyhow::Result<()> {
    manyhands_store::make_folder(path)
        .with_context(|| format!("the data directory {} cannot be made", path.display()))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Failure::new(
                format!("{address} is in use by another program"),
                "choose another address with --listen; port 0 takes any free port",
            )
            .into(),
            io::ErrorKind::PermissionDenied => Failure::new(
                format!("this user may not listen on {address}"),
                "choose a port from 1024 with --listen",
            )
            .into(),
            _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
        })
}

/// Opens the store, with a hint for each way it may not open.
pub(crate) async fn open_store(config: &Config, clock: &SharedClock) -> anyhow::Result<Store> {
    let opened = Store::open(manyhands_store::Config {
        database: config.database.clone(),
        clock: Arc::clone(clock),
    })
    .await;
    opened.map_err(|error| {
        use manyhands_store::Error;
        let hint = match &error {
            Error::InUse { .. } => {
                "stop that server, or give this one another --data-dir".to_owned()
            }
            Error::NoSpace { .. } => "free some disk space".to_owned(),
            Error::Unavailable { .. } => {
                format!(
                    "check that {} is up and reachable, then start again",
                    show::database(&config.database)
                )
            }
            Error::Setup { .. } | Error::Damaged { .. } | Error::Invalid { .. } => {
                format!(
                    "the database is {}; see the message for what to change",
                    show::database(&config.database)
                )
            }
        };
        Failure::new(error.to_string(), hint).into()
    })
}

/// The judge that asks this model.
fn judge_of(models: &Arc<Registry>, id: &str) -> anyhow::Result<Arc<dyn Judge>> {
    anyhow::ensure!(
        models.resolve(id).is_some(),
        "permissions.judge: no model is configured for the id {id:?}"
    );
    Ok(Arc::new(ModelJudge::new(Arc::clone(models), id)))
}

/// The models of the configuration.
pub(crate) fn registry(config: &Config, clock: &SharedClock) -> anyhow::Result<Registry> {
    let client = manyhands_egress::client(Timeouts::default())?;
    Registry::new(config.models.clone(), &client, clock).map_err(|error| {
        let message = format!("{:#}", anyhow::Error::new(error));
        Failure::new(
            message,
            "correct the model's entry in the configuration, or the script",
        )
        .into()
    })
}

/// The sandbox provider of the configuration. Nothing is looked at before it is needed.
pub(crate) fn namespace(config: &Config) -> Namespace {
    Namespace::new(namespace::Config {
        first_uid: config.sandbox.first_uid,
        uids: config.sandbox.uids,
        idle: config.sandbox.idle,
        read_only: config.sandbox.read_only.clone(),
        ..namespace::Config::new(&config.data_dir)
    })
}

/// Makes the first sandbox start fast, and removes what deleted sessions left behind (security SBX-8).
async fn tidy(hands: Namespace, store: Store, workspace: WorkspaceId) {
    // Ids are in order of time: later sessions are not in the list below, and are kept.
    let horizon = SessionId::generate();
    if let Err(error) = hands.prepare().await {
        tracing::debug!(%error, "sandboxes cannot be prepared");
    }
    let swept = async {
        let known = all_sessions(&store, &workspace).await?;
        let keep = |id: &str| id >= horizon.as_str() || known.contains(id);
        anyhow::Ok(hands.sweep(keep).await?)
    };
    if let Err(error) = swept.await {
        tracing::warn!("what deleted sessions left behind stays: {error:#}");
    }
}

async fn all_sessions(store: &Store, workspace: &WorkspaceId) -> anyhow::Result<HashSet<String>> {
    const PAGE: u32 = 500;
    let filter = SessionFilter {
        include_archived: true,
        ..SessionFilter::default()
    };
    let mut range = Range {
        after: None,
        order: Order::Asc,
        limit: PAGE,
    };
    let mut known = HashSet::new();
    loop {
        let page = store.list_sessions(workspace, &filter, &range).await?;
        range.after = page.last().map(|last| Key {
            created_at: last.created_at,
            id: last.id.to_string(),
        });
        let last = page.len() < PAGE as usize;
        known.extend(page.into_iter().map(|record| record.id.to_string()));
        if last {
            return Ok(known);
        }
    }
}

async fn warn_of_missing(app: &App) {
    for missing in app.probe().await.missing {
        tracing::warn!(
            "no sandbox can be made, so tools will not run: {} ({}); {}",
            missing.what,
            missing.why,
            missing.install
        );
    }
}
