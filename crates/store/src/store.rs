//! The store: opening it, and the list of all it can do.

use std::path::PathBuf;

use manyhands_protocol::agent::Agent;
use manyhands_protocol::environment::Environment;
use manyhands_protocol::event::Preview;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::session::SessionFilter;
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::{AgentId, EnvironmentId, EventId, SessionId, WorkspaceId};
use secrecy::SecretString;
use tokio::sync::mpsc;

use crate::entry::Entry;
use crate::error::{AppendError, Error};
use crate::key::{ApiKey, KeyHash};
use crate::lease::{Lease, Nudge};
use crate::listing::{AgentFilter, EventRange, Range};
use crate::session::{Append, Change, NewSession, SessionRecord, SessionState};
use crate::tail::Subscription;

/// Which database.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file in the data directory; one process at a time.
    Sqlite {
        /// The data directory; the file is `manyhands.db` in it.
        directory: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// Its URL, which may hold a password.
        url: SecretString,
    },
}

/// How to open a store.
#[derive(Clone)]
pub struct Config {
    /// Which database.
    pub database: Database,
    /// Where the time comes from.
    pub clock: SharedClock,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {}

#[expect(unused_variables, clippy::unimplemented, reason = "signatures first")]
impl Store {
    /// Opens the database, checks its durability settings (security STORE-1) and brings its schema up to date
    /// (security STORE-5). On SQLite it takes the data directory's lock and voids all older leases.
    pub async fn open(config: Config) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Finishes pending writes and closes the database.
    pub async fn close(&self) {
        unimplemented!()
    }

    /// A round trip to the database, for readiness.
    pub async fn ping(&self) -> Result<(), Error> {
        unimplemented!()
    }

    // Workspaces and keys.

    /// The workspace of single-workspace installations, created when there is none.
    pub async fn default_workspace(&self) -> Result<WorkspaceId, Error> {
        unimplemented!()
    }

    /// Adds a key.
    pub async fn insert_key(&self, key: &ApiKey, hash: &KeyHash) -> Result<(), Error> {
        unimplemented!()
    }

    /// The key with this hash, unless it is revoked.
    pub async fn key_by_hash(&self, hash: &KeyHash) -> Result<Option<ApiKey>, Error> {
        unimplemented!()
    }

    /// All keys of a workspace, oldest first.
    pub async fn list_keys(&self, workspace: &WorkspaceId) -> Result<Vec<ApiKey>, Error> {
        unimplemented!()
    }

    /// Revokes a key; false when there is no such key. Repeating it changes nothing.
    pub async fn revoke_key(&self, workspace: &WorkspaceId, id: &ApiKeyId) -> Result<bool, Error> {
        unimplemented!()
    }

    // Agents.

    /// Adds an agent (its first version).
    pub async fn insert_agent(&self, workspace: &WorkspaceId, agent: &Agent) -> Result<(), Error> {
        unimplemented!()
    }

    /// An agent: its latest version, or the one asked for. `archived_at` is the agent's, also on old versions.
    pub async fn agent(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        version: Option<u32>,
    ) -> Result<Option<Agent>, Error> {
        unimplemented!()
    }

    /// Changes an agent under its lock. `decide` gets the latest version and answers with the new state (a higher
    /// `version` is stored as a new version; the same version only replaces the row, as archiving does), `None` for
    /// no change, or a refusal. The outer option is empty when there is no such agent.
    pub async fn update_agent<R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        decide: impl FnOnce(&Agent) -> Result<Option<Agent>, R> + Send + 'static,
    ) -> Result<Option<Result<Agent, R>>, Error> {
        unimplemented!()
    }

    /// A page of agents (latest versions).
    pub async fn list_agents(
        &self,
        workspace: &WorkspaceId,
        filter: &AgentFilter,
        range: &Range,
    ) -> Result<Vec<Agent>, Error> {
        unimplemented!()
    }

    /// Versions of an agent, newest first, below `before` when given.
    pub async fn list_agent_versions(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Agent>, Error> {
        unimplemented!()
    }

    // Environments.

    /// Adds an environment.
    pub async fn insert_environment(
        &self,
        workspace: &WorkspaceId,
        environment: &Environment,
    ) -> Result<(), Error> {
        unimplemented!()
    }

    /// An environment.
    pub async fn environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<Option<Environment>, Error> {
        unimplemented!()
    }

    /// Changes an environment under its lock; as [`update_agent`](Self::update_agent).
    pub async fn update_environment<R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
        decide: impl FnOnce(&Environment) -> Result<Option<Environment>, R> + Send + 'static,
    ) -> Result<Option<Result<Environment, R>>, Error> {
        unimplemented!()
    }

    /// Deletes an environment that no session refers to. `Some(false)` when one does, `None` when there is no such
    /// environment (runtime EN-5).
    pub async fn delete_environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<Option<bool>, Error> {
        unimplemented!()
    }

    /// A page of environments.
    pub async fn list_environments(
        &self,
        workspace: &WorkspaceId,
        include_archived: bool,
        range: &Range,
    ) -> Result<Vec<Environment>, Error> {
        unimplemented!()
    }

    // Sessions, as clients write them.

    /// Creates a session and its first entries in one transaction (runtime LC-6). The agent and the environment must
    /// still be there and not archived: false when one is not, and nothing is written.
    pub async fn create_session(&self, session: NewSession) -> Result<bool, Error> {
        unimplemented!()
    }

    /// A session.
    pub async fn session(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
    ) -> Result<Option<SessionRecord>, Error> {
        unimplemented!()
    }

    /// A page of sessions.
    pub async fn list_sessions(
        &self,
        workspace: &WorkspaceId,
        filter: &SessionFilter,
        range: &Range,
    ) -> Result<Vec<SessionRecord>, Error> {
        unimplemented!()
    }

    /// A client's write: `decide` sees the session under its lock and answers with what to write and a value of its
    /// own, or refuses, and then nothing is written. `referenced` names the tool-use events whose calls `decide` wants
    /// to see even when they are answered. The outer option is empty when there is no such session.
    ///
    /// Gives the stored entries (the ones of `change.append`, in order) and the value.
    pub async fn change<T: Send + 'static, R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        referenced: &[EventId],
        decide: impl FnOnce(&SessionState) -> Result<(Change, T), R> + Send + 'static,
    ) -> Result<Option<Result<(Vec<Entry>, T), R>>, Error> {
        unimplemented!()
    }

    // The log.

    /// Entries after a position (private ones included), oldest first.
    pub async fn read(
        &self,
        session: &SessionId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        unimplemented!()
    }

    /// The last entry of a private type, if any: where replay starts (a compaction), or an intent.
    pub async fn last_private(
        &self,
        session: &SessionId,
        type_name: &str,
    ) -> Result<Option<Entry>, Error> {
        unimplemented!()
    }

    /// One event in its present state: the last appearance of its id.
    pub async fn event(&self, session: &SessionId, id: &EventId) -> Result<Option<Entry>, Error> {
        unimplemented!()
    }

    /// A page of the public event list, each with its key: one row per event, sorted by the position at which it was
    /// processed, queued ones last (runtime LI-4, LI-5).
    pub async fn list_events(
        &self,
        session: &SessionId,
        range: &EventRange,
    ) -> Result<Vec<(crate::listing::EventKey, Entry)>, Error> {
        unimplemented!()
    }

    /// Listens to a session. Attached when it returns.
    pub fn subscribe(&self, session: &SessionId) -> Subscription {
        unimplemented!()
    }

    /// How many listeners a session has, to save work on previews nobody sees.
    pub fn has_listeners(&self, session: &SessionId) -> bool {
        unimplemented!()
    }

    /// Shows a preview to the session's listeners. Never stored.
    pub fn preview(&self, session: &SessionId, preview: Preview) {
        unimplemented!()
    }

    // The brain's side.

    /// The receiving end of nudges; can be taken once per store. While it is taken, writes that want a brain grant the
    /// lease to this process in the same transaction when nobody holds it.
    pub fn nudges(&self) -> Option<mpsc::Receiver<Nudge>> {
        unimplemented!()
    }

    /// Sessions that want a brain and that no living instance holds, oldest wish first. The timer behind lost nudges.
    pub async fn wanting(&self, limit: u32) -> Result<Vec<Nudge>, Error> {
        unimplemented!()
    }

    /// Takes the lease of a session that wants a brain; `None` when a living instance holds it or nothing is wanted.
    pub async fn claim(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<Option<Lease>, Error> {
        unimplemented!()
    }

    /// The session as its brain sees it. `None` when it is gone.
    pub async fn leased_session(&self, lease: &Lease) -> Result<Option<SessionRecord>, Error> {
        unimplemented!()
    }

    /// A brain's append. Refused when the epoch is not the current one.
    pub async fn append(&self, lease: &Lease, append: Append) -> Result<Vec<Entry>, AppendError> {
        unimplemented!()
    }

    /// A brain's last append: as [`append`](Self::append), and the lease ends in the same transaction. Refused with
    /// `UnreadInput` when a client's input lies after `read_to`.
    pub async fn append_and_rest(
        &self,
        lease: &Lease,
        append: Append,
        read_to: i64,
    ) -> Result<Vec<Entry>, AppendError> {
        unimplemented!()
    }

    /// Gives a lease back without having rested: the session still wants a brain (shutdown, failures).
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        unimplemented!()
    }
}
