//! What an operator can set about the brain.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_egress::policy::Operator;
use manyhands_hands::web::Web;
use manyhands_mcp::{Connector, Settings};
use manyhands_protocol::SessionId;

use tokio::sync::{Notify, Semaphore};

use crate::judge::Judge;

/// Settings of the brain. All have sound defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sessions at work at once; more wait their turn. One that waits for a retry does not count.
    pub wakes: usize,
    /// How often to look for sessions whose nudge was lost, and for input while a request or a tool runs.
    pub tick: Duration,
    /// Rounds of tool calls in one turn (runtime ER-4).
    pub tool_rounds: u32,
    /// Calls of one response that are run; more are answered with an error (security MODEL-5).
    pub calls_per_response: usize,
    /// Calls of one response that run at the same time. `bash` calls take turns in any case.
    pub parallel_calls: usize,
    /// Who decides on calls under the policy `auto`; without one the client is asked (runtime TC-8).
    pub judge: Option<Arc<dyn Judge>>,
    /// How long a judge may be silent, before the client is asked about the calls that are left.
    pub judge_patience: Duration,
    /// When to give a model request up.
    pub retries: Retries,
    /// Random numbers from 0 to 1, which keep many sessions from trying again at one moment.
    pub jitter: fn() -> f64,
    /// The part of a model's window, without its output, that may be full before the conversation is summarised
    /// (runtime CC-1).
    pub compact_at: f64,
    /// Summaries in a row, without an answer in between, before the turn is given up (runtime ER-5).
    pub compactions_in_a_row: u32,
    /// When a wake counts as stuck.
    pub watchdog: Watchdog,
    /// Bytes of folded transcripts that are kept between wakes; 0 switches the cache off.
    pub transcript_cache: usize,
    /// The web tools; without them their calls fail.
    pub web: Option<Web>,
    /// The client of MCP servers; without one they cannot be used.
    pub mcp: Option<Mcp>,
    /// What is kept of repositories between sessions; without it every session clones from the host.
    pub clones: Option<Clones>,
    /// Whether an environment that limits its hosts limits the web tools too (runtime WB-9).
    pub web_within_environment: bool,
    /// What the operator says about the network of all sandboxes: what environments open is told by it (runtime ER-7).
    pub operator: Operator,
    /// When the sandbox of a session that has none yet is made.
    pub provisioning: Provisioning,
    /// Told when a session has come to rest.
    pub rested: Arc<Notify>,
    /// Called at every durable step.
    #[cfg(feature = "failpoints")]
    pub probe: Option<crate::failpoint::Probe>,
}

/// The client of MCP servers, and how long it is waited for (runtime MC-12).
#[derive(Clone)]
pub struct Mcp {
    /// Who talks to them.
    pub connector: Arc<dyn Connector>,
    /// For a server's tools when a turn begins, from the first packet on. The first request of the turn waits so long.
    pub listing: Duration,
    /// For one call, from the first packet on.
    pub calling: Duration,
}

impl Mcp {
    /// A client that keeps these limits itself: it is waited for as long as they allow.
    pub fn new(connector: Arc<dyn Connector>, settings: Settings) -> Self {
        /// Beyond the limits of the client: these end what they limit first.
        const GRACE: Duration = Duration::from_secs(5);
        Self {
            connector,
            listing: settings.connect + settings.list + GRACE,
            calling: settings.connect + settings.call + GRACE,
        }
    }
}

impl fmt::Debug for Mcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mcp")
            .field("listing", &self.listing)
            .field("calling", &self.calling)
            .finish_non_exhaustive()
    }
}

/// What is kept of repositories between the sessions of a workspace (runtime GH-3).
#[derive(Clone)]
pub struct Clones {
    /// Who asks the hosts of repositories.
    pub hosts: Arc<dyn Hosts>,
    /// The most bytes that are kept in a workspace.
    pub most: u64,
    /// The fewest bytes that are worth it: below, the host sends them as fast.
    pub least: u64,
    /// For how long.
    pub age: Duration,
    /// How many are written at the same time.
    pub permits: Arc<Semaphore>,
}

/// The hosts of git, as a session sees them.
#[async_trait]
pub trait Hosts: Send + Sync + 'static {
    /// Whether the host shows this repository, now, to who comes with the session's own credential for it, or without one if it has
    /// none (security CRED-9). Whatever is not a clear yes is a no.
    async fn shows(&self, session: &SessionId, url: &str) -> bool;
}

impl fmt::Debug for Clones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clones")
            .field("most", &self.most)
            .field("least", &self.least)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

/// When the first sandbox of a session is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provisioning {
    /// When its first call needs it (runtime AR-3).
    #[default]
    AtFirstCall,
    /// Beside the first model request, which never waits for it.
    BesideFirstRequest,
    /// Before the first model request, which waits for it: for comparison.
    BeforeFirstRequest,
}

/// When to give a model request up (security MODEL-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Retries of one request.
    pub attempts: u32,
    /// Time from the first failure to the last try.
    pub total: Duration,
    /// The wait before the first retry, before jitter; it doubles each time.
    pub base: Duration,
    /// The longest wait that doubling leads to.
    pub longest: Duration,
}

/// How long a wake may go without progress, beyond what it waits for (security I8). Progress is anything that comes of
/// the model, a result, an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Beyond the time limits of the model, of a tool call, of a judge: these end what they limit first.
    pub grace: Duration,
    /// A look-up or a write in the store, or a look-up in the hands.
    pub look_up: Duration,
    /// The start of a sandbox.
    pub provision: Duration,
    /// Between two looks for sessions that fell between two leases, which must not happen.
    pub strays: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            look_up: Duration::from_secs(60),
            provision: Duration::from_secs(5 * 60),
            strays: Duration::from_secs(60),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            wakes: 1024,
            tick: Duration::from_secs(1),
            tool_rounds: 500,
            calls_per_response: 128,
            parallel_calls: 8,
            judge: None,
            judge_patience: Duration::from_secs(30),
            retries: Retries::default(),
            jitter: rand::random,
            compact_at: 0.8,
            compactions_in_a_row: 3,
            watchdog: Watchdog::default(),
            transcript_cache: 8 << 20,
            provisioning: Provisioning::default(),
            rested: Arc::default(),
            web: None,
            mcp: None,
            clones: None,
            web_within_environment: true,
            operator: Operator::default(),
            #[cfg(feature = "failpoints")]
            probe: None,
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 8,
            total: Duration::from_secs(15 * 60),
            base: Duration::from_secs(1),
            longest: Duration::from_secs(120),
        }
    }
}
