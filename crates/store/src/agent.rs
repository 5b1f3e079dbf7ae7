//! Agents and their versions. A version is written once; the agent's row points to the latest.

use manyhands_protocol::agent::Agent;
use manyhands_protocol::{AgentId, Timestamp, WorkspaceId};

use crate::body;
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Filter, Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::resource::{Place, Resource};
use crate::store::Store;

/// The columns of an agent `a` and one of its versions `v`, as [`agent_of`] takes them.
macro_rules! agent_columns {
    () => {
        "v.body, a.archived_at, a.id, v.checksum, v.version"
    };
}

impl Store {
    /// Adds an agent (its first version).
    pub async fn insert_agent(&self, workspace: &WorkspaceId, agent: &Agent) -> Result<(), Error> {
        let (workspace, agent) = (workspace.clone(), agent.clone());
        let services = self.inner.services.clone();
        self.inner
            .db
            .write(Scope::of(agent.id.as_str()), move |tx| {
                Box::pin(async move {
                    quota::one_more(tx, &services, &workspace, Thing::Agent).await?;
                    tx.run(
                        "INSERT INTO agents (id, workspace, version, created_at, archived_at)
                         VALUES ($1, $2, $3, $4, $5)",
                        values![
                            agent.id.as_str(),
                            workspace.as_str(),
                            agent.version,
                            agent.created_at,
                            agent.archived_at,
                        ],
                    )
                    .await?;
                    insert_version(tx, &workspace, &agent).await
                })
            })
            .await
    }

    /// An agent: its latest version, or the one asked for. `archived_at` is the agent's, also on old versions.
    pub async fn agent(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        version: Option<u32>,
    ) -> Result<Option<Agent>, Error> {
        self.inner
            .db
            .find(
                concat!(
                    "SELECT ",
                    agent_columns!(),
                    " FROM agents a
                     JOIN agent_versions v ON v.agent_id = a.id AND v.version = COALESCE($3, a.version)
                     WHERE a.id = $1 AND a.workspace = $2"
                ),
                values![id.as_str(), workspace.as_str(), version.map(i64::from)],
                agent_of,
            )
            .await
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
        let place = Place::new(workspace, id.as_str());
        self.update(place, None, decide).await
    }

    /// A page of agents (latest versions).
    pub async fn list_agents(
        &self,
        workspace: &WorkspaceId,
        filter: &Filter,
        range: &Range,
    ) -> Result<Vec<Agent>, Error> {
        let query = Query::listed(
            concat!(
                "SELECT ",
                agent_columns!(),
                " FROM agents a
                 JOIN agent_versions v ON v.agent_id = a.id AND v.version = a.version
                 WHERE a.workspace = "
            ),
            workspace,
            filter,
            range,
        );
        self.inner.db.list(query.sql, query.values, agent_of).await
    }

    /// Versions of an agent, newest first, below `before` when given.
    pub async fn list_agent_versions(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Agent>, Error> {
        self.inner
            .db
            .list(
                concat!(
                    "SELECT ",
                    agent_columns!(),
                    " FROM agents a
                     JOIN agent_versions v ON v.agent_id = a.id AND v.version < $3
                     WHERE a.id = $1 AND a.workspace = $2
                     ORDER BY v.version DESC LIMIT $4"
                ),
                values![
                    id.as_str(),
                    workspace.as_str(),
                    before.map_or(i64::MAX, i64::from),
                    limit,
                ],
                agent_of,
            )
            .await
    }
}

fn agent_of(row: &Row) -> Result<Agent, Error> {
    let archived_at: Option<Timestamp> = row.optional_time(1)?;
    let id = row.text(2)?;
    let owner = body::version_of(id, row.int(4)?);
    let agent: Agent = body::read(row, &owner, 0, 3)
        .map_err(|reason| Error::damaged(format!("agent {id}"), reason))?;
    Ok(Agent {
        archived_at,
        ..agent
    })
}

impl Resource for Agent {
    const SELECT: &'static str = concat!(
        "SELECT ",
        agent_columns!(),
        " FROM agents a
         JOIN agent_versions v ON v.agent_id = a.id AND v.version = a.version
         WHERE a.id = $1 AND a.workspace = $2"
    );

    fn of(row: &Row) -> Result<Self, Error> {
        agent_of(row)
    }

    async fn lock(tx: &mut Tx, place: &Place) -> Result<Option<Self>, Error> {
        // The agent's row alone, before its latest version is looked for.
        let sql = "SELECT id FROM agents WHERE id = $1 AND workspace = $2";
        if tx
            .locked(Lock::Update, sql, place.values())
            .await?
            .is_empty()
        {
            return Ok(None);
        }
        tx.find(Self::SELECT, place.values(), agent_of).await
    }

    async fn write(tx: &mut Tx, place: &Place, old: Self, new: Self) -> Result<Self, Error> {
        tx.run(
            "UPDATE agents SET version = $2, archived_at = $3 WHERE id = $1",
            values![old.id.as_str(), new.version, new.archived_at],
        )
        .await?;
        failpoint!("store::agent::bumped");
        if new.version > old.version {
            insert_version(tx, &place.workspace, &new).await?;
            return Ok(new);
        }
        let body = json(&new)?;
        let owner = body::version_of(old.id.as_str(), i64::from(old.version));
        tx.run(
            "UPDATE agent_versions SET body = $3, checksum = $4 WHERE agent_id = $1 AND version = $2",
            values![
                old.id.as_str(),
                old.version,
                body.as_str(),
                body::checksum(&owner, &body),
            ],
        )
        .await?;
        Ok(new)
    }
}

async fn insert_version(tx: &mut Tx, workspace: &WorkspaceId, agent: &Agent) -> Result<(), Error> {
    let body = json(agent)?;
    let owner = body::version_of(agent.id.as_str(), i64::from(agent.version));
    tx.run(
        "INSERT INTO agent_versions (agent_id, version, workspace, body, checksum) VALUES ($1, $2, $3, $4, $5)",
        values![
            agent.id.as_str(),
            agent.version,
            workspace.as_str(),
            body.as_str(),
            body::checksum(&owner, &body),
        ],
    )
    .await
}
