//! The parts that handlers are given.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use manyhands_blobs::Blobs;
use manyhands_brain::Activities;
use manyhands_brain::models::Registry;
use manyhands_egress::outbound::Outbound;
use manyhands_hands::{Probe, Provider};
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::{Timestamp, WorkspaceId};
use manyhands_store::{Role, Store};
use manyhands_vault::Vaults;
use manyhands_vault::oauth::Refresher;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::agents::definition::Catalog;
use crate::api::auth::KnownKeys;
use crate::api::rates::Rates;
use crate::api::skills::Installed;
use crate::config::Files;

/// For how long what a probe found is believed.
const PROBE: Duration = Duration::from_secs(10);

/// The parts, shared by all requests.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub(crate) struct Parts {
    /// What is remembered.
    pub(crate) store: Store,
    /// The secrets in it.
    pub(crate) vaults: Vaults,
    /// What refreshes OAuth tokens of theirs.
    pub(crate) refresher: Refresher,
    /// Limits towards MCP servers.
    pub(crate) mcp: manyhands_mcp::Settings,
    /// The keys that were looked up.
    pub(crate) keys: KnownKeys,
    /// The models that agents can name.
    pub(crate) models: Arc<Registry>,
    /// What the wakes of this process are doing.
    pub(crate) activities: Activities,
    /// The bytes of files.
    pub(crate) blobs: Blobs,
    /// What fetches images and documents that clients name by URL (security NET-9).
    pub(crate) outbound: Outbound,
    /// How many requests a workspace may make; `None` without bounds.
    pub(crate) rates: Option<Rates>,
    /// Bounds of files.
    pub(crate) files: Files,
    /// Where sandboxes come from; `None` where no session is woken.
    pub(crate) hands: Option<Arc<dyn Provider>>,
    /// What this server does.
    pub(crate) role: Role,
    /// Where the time comes from.
    pub(crate) clock: SharedClock,
    /// The one workspace of this installation.
    pub(crate) workspace: WorkspaceId,
    /// The organisation's id, shown on every answer to a key (runtime HT-10).
    pub(crate) organization: HeaderValue,
    /// Whether all stream frames are named `message` (runtime ST-4).
    pub(crate) legacy_event_names: bool,
    /// What links to this server begin with; `None` when each request says it.
    pub(crate) public_url: Option<String>,
    /// Whether an environment that limits its hosts limits the web tools too (runtime WB-9).
    pub(crate) web_within_environment: bool,
    /// Cancelled when the server is told to stop: it is not ready any more, and clients leave their connections.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the server stops: streams end.
    pub(crate) shutdown: CancellationToken,
    /// What the sandbox provider said last, and when.
    pub(crate) probed: Mutex<Option<(Instant, Probe)>>,
    /// The skills that come with the server.
    pub(crate) built_in: Installed,
}

impl App {
    /// Shares the parts.
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Removes a blob that gets no row; the sweep finds what stays.
    pub(crate) async fn discard_blob(&self, name: &str) {
        if let Err(error) = self.blobs.delete(name).await {
            tracing::debug!(%error, "a blob is left to the sweep");
        }
    }

    /// What validation wants to know about models.
    pub(crate) fn catalog(&self) -> &dyn Catalog {
        &*self.0.models
    }

    /// What this host can give in sandboxes, as of some seconds ago; `None` when this server makes none.
    pub(crate) async fn probe(&self) -> Option<Probe> {
        let hands = self.hands.as_ref()?;
        let mut probed = self.probed.lock().await;
        match &*probed {
            Some((at, probe)) if at.elapsed() < PROBE => Some(probe.clone()),
            _ => {
                let probe = hands.probe().await;
                probe.measure();
                *probed = Some((Instant::now(), probe.clone()));
                Some(probe)
            }
        }
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The id of the organisation that a workspace stands in: this installation has one of each.
pub(crate) fn organization(workspace: &WorkspaceId) -> HeaderValue {
    let tail = workspace
        .as_str()
        .strip_prefix(WorkspaceId::PREFIX)
        .unwrap_or_default();
    HeaderValue::from_str(&format!("org_{tail}")).unwrap_or(HeaderValue::from_static("org_local"))
}
