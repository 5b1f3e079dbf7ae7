//! A server without its port, its files and its sandboxes: parts that are given to it answer requests that are handed to
//! them in this process. For simulations, which run several in one thread.

use std::sync::Arc;

use manyhands_blobs::Blobs;
use manyhands_brain::Brain;
use manyhands_brain::models::Registry;
use manyhands_hands::Provider;
use manyhands_protocol::time::SharedClock;
use manyhands_store::{Error, Role, Store};
use manyhands_vault::oauth::{self, Refresher};
use manyhands_vault::{Source, Vaults};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::auth::{KnownKeys, hash};
use crate::app::{App, Parts, organization};
use crate::config::{Egress, Files};
use crate::parts::outbound;
use crate::routes;

/// What a service is made of.
pub struct Ingredients {
    /// What is remembered. Other services may share what is behind it.
    pub store: Store,
    /// Where sandboxes come from.
    pub hands: Arc<dyn Provider>,
    /// Who answers.
    pub models: Arc<Registry>,
    /// The time.
    pub clock: SharedClock,
    /// How the brain works.
    pub brain: manyhands_brain::Config,
}

/// A service that answers. Dropping it ends it as a crash does: wakes stop where they are and give nothing back.
pub struct Service {
    app: App,
    brain: Brain,
    waking: CancellationToken,
    shutdown: CancellationToken,
}

impl Service {
    /// Starts the brain; requests are answered when this returns.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(ingredients: Ingredients) -> Result<Self, Error> {
        let Ingredients {
            store,
            hands,
            models,
            clock,
            brain,
        } = ingredients;
        let workspace = store.default_workspace().await?;
        let vaults = Vaults::open(store.clone(), Source::Nowhere)
            .await
            .map_err(|error| Error::Invalid {
                operation: "opening the vaults",
                reason: error.to_string(),
            })?;
        let outbound = outbound(&Egress::default()).map_err(|error| Error::Invalid {
            operation: "making the guarded client",
            reason: format!("{error:#}"),
        })?;
        let settings = oauth::Settings::default();
        let refresher = Refresher::new(vaults.clone(), outbound.clone(), clock.clone(), settings);
        let (waking, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let brain = Brain::start(
            brain,
            store.clone(),
            Arc::clone(&hands),
            Arc::clone(&models),
            Arc::clone(&clock),
            waking.clone(),
        );
        let app = App::new(Parts {
            organization: organization(&workspace),
            keys: KnownKeys::new(false),
            store,
            vaults,
            refresher,
            mcp: Default::default(),
            models,
            activities: brain.activities(),
            blobs: Blobs::memory(),
            outbound,
            rates: None,
            files: Files::default(),
            hands: Some(hands),
            role: Role::All,
            clock,
            workspace,
            legacy_event_names: false,
            public_url: None,
            web_within_environment: true,
            draining: CancellationToken::new(),
            shutdown: shutdown.clone(),
            probed: Mutex::new(None),
            built_in: Default::default(),
        });
        Ok(Self {
            app,
            brain,
            waking,
            shutdown,
        })
    }

    /// Its routes.
    pub fn router(&self) -> axum::Router {
        routes::router(self.app.clone())
    }

    /// The store it works on.
    pub fn store(&self) -> &Store {
        &self.app.store
    }

    /// Gives sessions back, ends streams and closes the store. Running tool calls go on in their sandboxes.
    pub async fn stop(self) {
        if let Err(error) = self.app.store.stop_waking().await {
            tracing::warn!(%error, "the other servers were not told that this one stops");
        }
        self.waking.cancel();
        self.brain.stopped().await;
        self.shutdown.cancel();
        self.app.store.close().await;
    }
}

/// The stored form of a key that a simulation gives to its clients.
pub fn key_hash(key: &str) -> manyhands_store::key::KeyHash {
    hash(key)
}
