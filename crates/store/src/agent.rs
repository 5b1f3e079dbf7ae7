//! Agents and their versions. A version is written once; the agent's row points to the latest.

use manyhands_protocol::agent::Agent;
use manyhands_protocol::{AgentId, Timestamp, WorkspaceId};

use crate::body;
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{AgentFilter, Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::store::Store;

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
        let row = self
            .inner
            .db
            .read_one(
                "SELECT v.body, a.archived_at, a.id, v.checksum, v.version FROM agents a
                 JOIN agent_versions v ON v.agent_id = a.id AND v.version = COALESCE($3, a.version)
                 WHERE a.id = $1 AND a.workspace = $2",
                values![id.as_str(), workspace.as_str(), version.map(i64::from)],
            )
            .await?;
        row.as_ref().map(agent_of).transpose()
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
        let (workspace, id) = (workspace.clone(), id.clone());
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    let Some(agent) = lock_agent(tx, &workspace, &id).await? else {
                        return Ok(None);
                    };
                    match decide(&agent) {
                        Ok(None) => Ok(Some(Ok(agent))),
                        Ok(Some(new)) => {
                            replace(tx, &workspace, &agent, &new).await?;
                            Ok(Some(Ok(new)))
                        }
                        Err(refusal) => Ok(Some(Err(refusal))),
                    }
                })
            })
            .await
    }

    /// A page of agents (latest versions).
    pub async fn list_agents(
        &self,
        workspace: &WorkspaceId,
        filter: &AgentFilter,
        range: &Range,
    ) -> Result<Vec<Agent>, Error> {
        let mut query = Query::new(
            "SELECT v.body, a.archived_at, a.id, v.checksum, v.version FROM agents a
             JOIN agent_versions v ON v.agent_id = a.id AND v.version = a.version
             WHERE a.workspace = ",
        );
        query.bind(workspace.as_str());
        if let Some(from) = filter.created_from {
            query.and("a.created_at >= ", from);
        }
        if let Some(to) = filter.created_to {
            query.and("a.created_at <= ", to);
        }
        if !filter.include_archived {
            query.push(" AND a.archived_at IS NULL");
        }
        query.page("a.created_at", "a.id", range);
        let rows = self.inner.db.read(query.sql, query.values).await?;
        rows.iter().map(agent_of).collect()
    }

    /// Versions of an agent, newest first, below `before` when given.
    pub async fn list_agent_versions(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Agent>, Error> {
        let rows = self
            .inner
            .db
            .read(
                "SELECT v.body, a.archived_at, a.id, v.checksum, v.version FROM agents a
                 JOIN agent_versions v ON v.agent_id = a.id AND v.version < $3
                 WHERE a.id = $1 AND a.workspace = $2
                 ORDER BY v.version DESC LIMIT $4",
                values![
                    id.as_str(),
                    workspace.as_str(),
                    before.map_or(i64::MAX, i64::from),
                    limit,
                ],
            )
            .await?;
        rows.iter().map(agent_of).collect()
    }
}

fn agent_of(row: &Row) -> Result<Agent, Error> {
    let archived_at: Option<Timestamp> = row.optional_time(1)?;
    let id = row.text(2)?;
    let read = || -> Result<Agent, String> {
        let version = row.int(4).map_err(|error| error.to_string())?;
        let text = body::intact(row, &body::version_of(id, version), 0, 3)?;
        serde_json::from_str(text).map_err(|error| error.to_string())
    };
    let agent = read().map_err(|reason| Error::Damaged {
        item: format!("agent {id}"),
        reason,
    })?;
    Ok(Agent {
        archived_at,
        ..agent
    })
}

async fn lock_agent(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &AgentId,
) -> Result<Option<Agent>, Error> {
    let locked = tx
        .locked(
            Lock::Update,
            "SELECT id FROM agents WHERE id = $1 AND workspace = $2",
            values![id.as_str(), workspace.as_str()],
        )
        .await?;
    if locked.is_empty() {
        return Ok(None);
    }
    let row = tx
        .one(
            "SELECT v.body, a.archived_at, a.id, v.checksum, v.version FROM agents a
             JOIN agent_versions v ON v.agent_id = a.id AND v.version = a.version WHERE a.id = $1",
            values![id.as_str()],
        )
        .await?;
    row.as_ref().map(agent_of).transpose()
}

async fn replace(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    old: &Agent,
    new: &Agent,
) -> Result<(), Error> {
    tx.run(
        "UPDATE agents SET version = $2, archived_at = $3 WHERE id = $1",
        values![old.id.as_str(), new.version, new.archived_at],
    )
    .await?;
    failpoint!("store::agent::bumped");
    if new.version > old.version {
        insert_version(tx, workspace, new).await
    } else {
        let body = json(new)?;
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
        .await
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
