//! A running server: the parts built, the port open, and all of it ended again.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use manyhands_brain::models::Registry;
use manyhands_brain::{Activities, Brain};
use manyhands_hands::Provider;
use manyhands_protocol::time::{SharedClock, SystemClock};
use manyhands_store::replica::Uptime;
use manyhands_store::{Database, Role, Store};
use manyhands_vault::{Uses, Vaults};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::auth::KnownKeys;
use crate::api::rates::Rates;
use crate::app::{App, Parts, organization};
use crate::background::captures::Captures;
use crate::background::checkpoints::Keeper;
use crate::config::Config;
use crate::failpoint::failpoint;
use crate::failure::Failure;
use crate::gate::{gate, operator};
use crate::listener::Patience;
use crate::parts::{
    blobs, clones, judge_of, mcp_servers, open_store, outbound, provider, refresher, registry, web,
};
use crate::secrets::Holder;
use crate::tidy::tidy;
use crate::{background, keys, listener, routes, telemetry};

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
    /// What goes on evenly, for rate limits.
    pub uptime: Option<Uptime>,
    /// How the brain works.
    pub brain: Option<manyhands_brain::Config>,
}

/// A server that answers.
pub struct Server {
    address: SocketAddr,
    first_key: Option<SecretString>,
    scripted: bool,
    app: App,
    /// Absent where no session is woken.
    brain: Option<Brain>,
    /// Cancelled when wakes shall end.
    waking: CancellationToken,
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
        let figures = telemetry::recorder();
        make_data_dir(&config.data_dir)?;
        let listener = bind(config.listen).await?;
        let address = listener.local_addr().context("the port has no address")?;
        let clock = overrides.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let store = open_store(&config, &clock).await?;
        store.hold_to(config.limits.quotas);
        let workspace = store.default_workspace().await?;
        let (waking, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let vaults = Vaults::open(store.clone(), config.master_key.source()).await?;
        let first_key = match config.role {
            // It has no use for one.
            Role::Brain => None,
            Role::All | Role::Api => {
                keys::ensure_first(&store, &workspace, &config.data_dir, clock.now()).await?
            }
        };
        tokio::spawn(telemetry::fold_while_running(figures, waking.clone()));
        let models = match overrides.models {
            Some(models) => models,
            None => Arc::new(registry(&config, &clock)?),
        };
        let scripted = models.claude_is_scripted();
        let blobs = blobs(&config)?;
        let outbound = outbound(&config.egress)?;
        let refresher = refresher(&config, outbound.clone(), &vaults, &clock);
        let servers = mcp_servers(&config, outbound.clone(), &vaults, refresher.clone());
        let judge = config.judge.as_deref();
        let judge = judge.map(|id| judge_of(&models, id)).transpose()?;
        let keeps = background::blobs::Keeps {
            clones: config.repositories.age,
            clock: Arc::clone(&clock),
        };
        let brain_config = match overrides.brain {
            Some(brain) => brain,
            None => manyhands_brain::Config {
                mcp: Some(manyhands_brain::Mcp::new(Arc::new(servers), config.mcp)),
                judge,
                web: Some(web(&config, outbound.clone())?),
                web_within_environment: config.web.within_environment,
                clones: clones(&config.repositories, &vaults, outbound.clone()),
                operator: operator(&config),
                provisioning: config.environments.provisioning,
                ..config.limits.brain()
            },
        };
        let hands: Option<Arc<dyn Provider>> = match overrides.hands {
            _ if !config.role.wakes() => None,
            Some(hands) => Some(hands),
            None => {
                let secrets = Holder::new(vaults.clone(), Uses::new(store.clone()));
                let gate = gate(&config, &clock, Arc::new(secrets))?;
                let hands = provider(&config, Some(&blobs), Some(gate));
                tokio::spawn(tidy(Arc::clone(&hands), store.clone(), waking.clone()));
                Some(hands)
            }
        };
        tokio::spawn(background::blobs::remove_while_running(
            store.clone(),
            blobs.clone(),
            keeps,
            waking.clone(),
        ));
        tokio::spawn(background::memory_versions::drop_while_running(
            store.clone(),
            waking.clone(),
        ));
        if let Some(hands) = &hands {
            let captures = Captures {
                store: store.clone(),
                hands: Arc::clone(hands),
                blobs: blobs.clone(),
                clock: Arc::clone(&clock),
                rested: Arc::clone(&brain_config.rested),
            };
            tokio::spawn(captures.run(waking.clone()));
            let keeper = Keeper {
                store: store.clone(),
                hands: Arc::clone(hands),
                blobs: blobs.clone(),
                clock: Arc::clone(&clock),
                retention: config.sandbox.retention,
                spare: config.sandbox.spare,
            };
            tokio::spawn(keeper.run(waking.clone()));
        }
        let brain = hands.as_ref().map(|hands| {
            Brain::start(
                brain_config,
                store.clone(),
                Arc::clone(hands),
                Arc::clone(&models),
                Arc::clone(&clock),
                waking.clone(),
            )
        });
        let app = App::new(Parts {
            organization: organization(&workspace),
            keys: KnownKeys::new(matches!(config.database, Database::Sqlite { .. })),
            store,
            vaults,
            refresher,
            mcp: config.mcp,
            models,
            activities: brain
                .as_ref()
                .map_or_else(Activities::default, Brain::activities),
            blobs,
            outbound,
            rates: config
                .limits
                .rates
                .map(|rates| Rates::new(rates, overrides.uptime.unwrap_or_default())),
            files: config.files,
            hands,
            role: config.role,
            clock,
            workspace,
            legacy_event_names: config.legacy_event_names,
            public_url: config.public_url,
            web_within_environment: config.web.within_environment,
            draining: CancellationToken::new(),
            shutdown: shutdown.clone(),
            probed: Mutex::new(None),
            built_in: Default::default(),
        });
        let router = routes::router(app.clone());
        let accepting = tokio::spawn(listener::accept(
            listener,
            router,
            app.draining.clone(),
            shutdown.clone(),
            Patience::default(),
        ));
        // What sandboxes can do here is found out beside the first requests, not before them.
        let probing = app.clone();
        tokio::spawn(async move { warn_of_missing(&probing).await });
        let address_file = address_file(&config.data_dir);
        keys::write_private(&address_file, &url(address))
            .with_context(|| format!("{} cannot be written", address_file.display()))?;
        failpoint!("server::address_written");
        Ok(Self {
            address,
            first_key,
            scripted,
            app,
            brain,
            waking,
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
        if let Some(brain) = self.brain {
            brain.crashed().await;
        }
        self.waking.cancel();
        self.shutdown.cancel();
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, "the listener failed");
        }
        self.app.store.close().await;
    }

    /// Says that this server is about to stop: it is not ready from now on, so that balancers send nothing new, and clients
    /// are told to leave their connections. Requests are answered as before.
    pub fn drain(&self) {
        self.app.draining.cancel();
    }

    /// Gives sessions back, then closes the port, lets open answers end, and ends streams. Running tool calls go on in
    /// their sandboxes.
    pub async fn stop(self) {
        self.drain();
        if let Some(brain) = self.brain {
            // Other servers take over from here on, while this one still answers.
            let given_back = async {
                if let Err(error) = self.app.store.stop_waking().await {
                    tracing::warn!(%error, "the other servers were not told that this one stops");
                }
                self.waking.cancel();
                brain.stopped().await;
            };
            if tokio::time::timeout(BRAIN, given_back).await.is_err() {
                tracing::warn!("sessions were still held when the server stopped");
            }
        }
        self.waking.cancel();
        self.shutdown.cancel();
        if let Some(hands) = &self.app.hands {
            hands.close().await;
        }
        let accepted = self.accepting.await;
        if accepted.is_err_and(|error| error.is_panic()) {
            tracing::error!("the listener panicked");
        }
        self.app.store.close().await;
        remove_address(&self.address_file, &url(self.address));
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Removes the address file, unless another server of the data directory has written its own since.
fn remove_address(path: &Path, own: &str) {
    let removed = std::fs::read_to_string(path).and_then(|text| match text.trim() == own {
        true => std::fs::remove_file(path),
        false => Ok(()),
    });
    if let Err(error) = removed {
        tracing::debug!(%error, path = %path.display(), "the address file could not be removed");
    }
}

/// Where the server's own URL is kept while it runs, for commands that talk to it.
pub(crate) fn address_file(data_dir: &Path) -> PathBuf {
    data_dir.join("address")
}

fn make_data_dir(path: &Path) -> anyhow::Result<()> {
    manyhands_store::make_folder(path)
        .with_context(|| format!("the data directory {} cannot be made", path.display()))?;
    if let Some(problem) = keys::open_directory(path) {
        tracing::warn!(
            "{problem}; what the server makes in it is closed to them, chmod 700 closes the rest"
        );
    }
    Ok(())
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

async fn warn_of_missing(app: &App) {
    let missing = app.probe().await.map(|probe| probe.missing);
    for missing in missing.into_iter().flatten() {
        tracing::warn!(
            "no sandbox can be made, so tools will not run: {} ({}); {}",
            missing.what,
            missing.why,
            missing.install
        );
    }
}
