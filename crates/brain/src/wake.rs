//! One wake of one session: lease → replay → decide → act → append → rest.
//!
//! A wake may be dropped at any await point: what counts is in the log, and the next wake goes on from there
//! (security LOG-3). Nothing on the path of a message polls or sleeps.

mod active;
mod beside;
mod compact;
mod credentials;
mod dispatch;
mod execute;
mod finish;
mod judge;
mod log;
mod loss;
mod mcp;
mod memory;
mod recipe;
mod repositories;
mod sample;
mod skills;
mod spill;
mod stop;
mod web;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use manyhands_hands::{Provider, Sandbox};
use manyhands_mcp::Caller;
use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::budget::Consumption;
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::{EventId, Timestamp};
use manyhands_store::{Lease, SessionRecord, Store, UsageTotals};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::activity::{Activity, Doing};
use crate::cache::Cache;
use crate::compaction;
use crate::config::Config;
use crate::decide::{Limits, Step, decide};
use crate::failpoint;
use crate::fence::{Fence, Fenced};
use crate::history;
use crate::memory::Copies;
use crate::models::Registry;
use crate::record::Retry;
use crate::replay::Transcript;

use active::Active;
use mcp::Servers;
pub use recipe::uploads;
pub(crate) use stop::Stop;

/// What all wakes share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) hands: Arc<dyn Provider>,
    pub(crate) models: Arc<Registry>,
    pub(crate) clock: SharedClock,
    pub(crate) cache: Cache,
    pub(crate) permits: Arc<Semaphore>,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Decide again.
    Continue,
    /// The lease is given back.
    Rested,
}

/// A wake at work.
struct Wake {
    shared: Arc<Shared>,
    lease: Lease,
    /// Counts up when a client has sent something.
    signal: watch::Receiver<u64>,
    permit: Option<OwnedSemaphorePermit>,
    record: SessionRecord,
    transcript: Transcript,
    usage: UsageTotals,
    active: Active,
    /// The retry whose wait has been slept through, by the time it was for. The wall clock may not have got there.
    waited: Option<Timestamp>,
    /// The shared hands, as long as the lease can be trusted.
    hands: Arc<Fenced<dyn Provider>>,
    sandbox: Option<Arc<dyn Sandbox>>,
    /// The copies of the session's memory stores in it, once they are used.
    copies: Option<Copies>,
    /// What the model reads with the next result, about its new sandbox.
    note: Option<String>,
    /// The MCP servers of the session.
    servers: Arc<Servers>,
    /// Calls beside the server that this wake has begun.
    begun: HashSet<EventId>,
    activity: Arc<Activity>,
    /// Whether this wake's wish to have the outputs captured is durable (runtime FI-6).
    capture_wanted: bool,
}

/// Works on a session until there is nothing to do.
pub(crate) async fn run(
    shared: Arc<Shared>,
    lease: Lease,
    signal: watch::Receiver<u64>,
    permit: OwnedSemaphorePermit,
    activity: Arc<Activity>,
) -> Result<(), Stop> {
    failpoint::pass(&shared.config, "brain::claimed", &lease.session).await;
    let mut wake = Wake::begin(shared, lease, signal, permit, activity).await?;
    loop {
        wake.working();
        wake.hear().await?;
        let now = wake.shared.clock.now();
        let retry = wake.transcript.retry.map(Retry::until);
        let now = match wake.waited {
            Some(waited) if retry == Some(waited) => waited.max(now),
            _ => now,
        };
        let flow = match decide(&wake.transcript, wake.limits(), now) {
            Step::Interrupt { ids } => wake.interrupt(ids).await?,
            Step::Execute { calls } => wake.execute(calls).await?,
            Step::Reject { calls } => wake.reject(&calls).await?,
            Step::Wait { until } => wake.wait(until).await?,
            Step::Resume => wake.resume().await?,
            Step::List => wake.list().await?,
            Step::Sample { take } => wake.sample(take).await?,
            Step::Compact { form } => wake.compact(form).await?,
            Step::Rest(rest) => wake.rest(rest).await?,
        };
        if flow == Flow::Rested {
            break;
        }
    }
    let Wake {
        shared,
        lease,
        transcript,
        ..
    } = wake;
    failpoint::pass(&shared.config, "brain::rested", &lease.session).await;
    shared.config.rested.notify_one();
    shared.cache.put(lease.session, transcript);
    Ok(())
}

impl Wake {
    async fn begin(
        shared: Arc<Shared>,
        lease: Lease,
        signal: watch::Receiver<u64>,
        permit: OwnedSemaphorePermit,
        activity: Arc<Activity>,
    ) -> Result<Self, Stop> {
        let limit = shared.config.watchdog.look_up;
        activity.enter(Doing::Working, Some(limit), shared.clock.now());
        let fence = Fence::new(shared.store.clone());
        let hands = Arc::new(Fenced::new(fence.clone(), Arc::clone(&shared.hands)));
        let record = shared.store.leased_session(&lease).await?;
        let record = record.ok_or(Stop::Lost)?;
        let caller = Caller {
            workspace: record.workspace.clone(),
            session: record.id.clone(),
            vaults: record.vault_ids.clone(),
        };
        let servers = Servers::new(shared.config.mcp.clone(), caller, fence);
        let transcript = match shared.cache.take(&lease.session) {
            Some(transcript) => transcript,
            None => history::start(&shared.store, &record.id, record.last_position).await?,
        };
        let mut wake = Self {
            lease,
            signal,
            permit: Some(permit),
            usage: record.usage,
            active: Active::of(&record),
            record,
            transcript,
            waited: None,
            hands,
            sandbox: None,
            copies: None,
            note: None,
            servers: Arc::new(servers),
            begun: HashSet::new(),
            activity,
            capture_wanted: false,
            shared,
        };
        wake.pass("brain::begun").await;
        // The row is older than the log's end: what clients changed in between is heard here.
        wake.catch_up().await?;
        if wake.transcript.open_span.is_some() {
            metrics::counter!("manyhands_recoveries_total", "of" => "model_request").increment(1);
        }
        Ok(wake)
    }

    /// Says what is done from now on, and for how long nothing may come of it.
    fn enter(&self, doing: Doing, allowance: Duration) {
        let now = self.shared.clock.now();
        self.activity.enter(doing, Some(allowance), now);
    }

    /// Reads, decides and writes from now on.
    fn working(&self) {
        self.enter(Doing::Working, self.shared.config.watchdog.look_up);
    }

    /// Passes a failpoint of this session.
    async fn pass(&self, name: &'static str) {
        failpoint::pass(&self.shared.config, name, &self.lease.session).await;
    }

    /// Sleeps until a retry is due, or until a client sends something. Others may use the place meanwhile.
    async fn wait(&mut self, until: Timestamp) -> Result<Flow, Stop> {
        self.permit = None;
        let now = self.shared.clock.now();
        let left = self.transcript.retry.map(|retry| retry.left(now));
        let left = left.unwrap_or_default();
        self.enter(
            Doing::Waiting { until },
            left + self.shared.config.watchdog.grace,
        );
        let sleep = tokio::time::sleep(left);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                // What was sent meanwhile is read before anything is decided, so the order is of no weight but fixed.
                biased;
                () = &mut sleep => {
                    self.waited = Some(until);
                    break;
                }
                () = heard(&mut self.signal, self.shared.config.tick) => {
                    self.catch_up().await?;
                    if self.transcript.is_interrupted() {
                        break;
                    }
                }
            }
        }
        // Others give their places back in time: their watchdog sees to it.
        let now = self.shared.clock.now();
        self.activity.enter(Doing::Queueing, None, now);
        let permits = Arc::clone(&self.shared.permits);
        self.permit = permits.acquire_owned().await.ok();
        Ok(Flow::Continue)
    }

    /// What bounds the turn.
    fn limits(&self) -> Limits {
        let config = &self.shared.config;
        let agent = &self.agent().definition;
        let model = self.shared.models.resolve(&agent.model.id);
        let room =
            model.and_then(|model| compaction::room(config, agent, &model, &self.transcript));
        Limits {
            tool_rounds: config.tool_rounds,
            compactions_in_a_row: config.compactions_in_a_row,
            room,
            at_cap: self
                .consumed(self.usage)
                .exhausts(self.record.budget.as_ref()),
            unlisted: self.transcript.mcp.due(agent).next().is_some(),
        }
    }

    /// What the session has cost until now, with these totals (runtime BU-3).
    fn consumed(&self, totals: UsageTotals) -> Consumption {
        let now = self.shared.clock.now();
        totals.consumption(self.active.until(now), now)
    }

    /// The agent as it is now: the newest snapshot in the log, or the row's.
    fn agent(&self) -> &SessionAgent {
        match &self.transcript.agent {
            Some(agent) => agent,
            None => &self.record.agent,
        }
    }
}

/// Returns when a client has sent something, or after the tick.
async fn heard(signal: &mut watch::Receiver<u64>, tick: Duration) {
    match tokio::time::timeout(tick, signal.changed()).await {
        Ok(Ok(())) | Err(_) => {}
        // Nobody will signal again: the tick alone is left.
        Ok(Err(_)) => tokio::time::sleep(tick).await,
    }
}
