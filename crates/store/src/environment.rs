//! Environments.

use manyhands_protocol::environment::{Environment, EnvironmentConfig, Packages};
use manyhands_protocol::{EnvironmentId, WorkspaceId};

use crate::body;
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::store::Store;

impl Store {
    /// Adds an environment.
    pub async fn insert_environment(
        &self,
        workspace: &WorkspaceId,
        environment: &Environment,
    ) -> Result<(), Error> {
        let (workspace, environment) = (workspace.clone(), environment.clone());
        let services = self.inner.services.clone();
        self.inner
            .db
            .write(Scope::of(environment.id.as_str()), move |tx| {
                Box::pin(async move {
                    quota::one_more(tx, &services, &workspace, Thing::Environment).await?;
                    let body = json(&environment)?;
                    tx.run(
                        "INSERT INTO environments (id, workspace, body, created_at, archived_at, checksum)
                         VALUES ($1, $2, $3, $4, $5, $6)",
                        values![
                            environment.id.as_str(),
                            workspace.as_str(),
                            body.as_str(),
                            environment.created_at,
                            environment.archived_at,
                            body::checksum(environment.id.as_str(), &body),
                        ],
                    )
                    .await
                })
            })
            .await
    }

    /// An environment.
    pub async fn environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<Option<Environment>, Error> {
        let row = self
            .inner
            .db
            .read_one(SELECT_ONE, values![id.as_str(), workspace.as_str()])
            .await?;
        row.as_ref().map(environment_of).transpose()
    }

    /// Changes an environment under its lock; as [`update_agent`](Self::update_agent).
    pub async fn update_environment<R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
        decide: impl FnOnce(&Environment) -> Result<Option<Environment>, R> + Send + 'static,
    ) -> Result<Option<Result<Environment, R>>, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    let Some(environment) = lock_environment(tx, &workspace, &id).await? else {
                        return Ok(None);
                    };
                    let new = match decide(&environment) {
                        Ok(Some(new)) => new,
                        Ok(None) => return Ok(Some(Ok(environment))),
                        Err(refusal) => return Ok(Some(Err(refusal))),
                    };
                    let body = json(&new)?;
                    tx.run(
                        "UPDATE environments SET body = $2, archived_at = $3, checksum = $4 WHERE id = $1",
                        values![
                            id.as_str(),
                            body.as_str(),
                            new.archived_at,
                            body::checksum(id.as_str(), &body),
                        ],
                    )
                    .await?;
                    failpoint!("store::environment::updated");
                    Ok(Some(Ok(new)))
                })
            })
            .await
    }

    /// Deletes an environment that no session refers to. `Some(false)` when one does, `None` when there is no such
    /// environment (runtime EN-5).
    pub async fn delete_environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<Option<bool>, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if lock_environment(tx, &workspace, &id).await?.is_none() {
                        return Ok(None);
                    }
                    let used = tx
                        .one(
                            "SELECT id FROM sessions WHERE environment_id = $1 LIMIT 1",
                            values![id.as_str()],
                        )
                        .await?;
                    if used.is_some() {
                        return Ok(Some(false));
                    }
                    tx.run(
                        "DELETE FROM environments WHERE id = $1",
                        values![id.as_str()],
                    )
                    .await?;
                    failpoint!("store::environment::deleted");
                    Ok(Some(true))
                })
            })
            .await
    }

    /// The packages of all environments that sessions have or may still get, in every workspace (runtime EN-7).
    pub async fn wanted_packages(&self) -> Result<Vec<Packages>, Error> {
        let select = "SELECT body, id, checksum FROM environments WHERE archived_at IS NULL
             OR EXISTS (SELECT 1 FROM sessions WHERE environment_id = environments.id)";
        let rows = self.inner.db.read(select, values![]).await?;
        let config = |row: &Row| environment_of(row).map(|environment| environment.config);
        let configs: Result<Vec<_>, Error> = rows.iter().map(config).collect();
        let packages = configs?.into_iter().filter_map(|config| match config {
            EnvironmentConfig::Cloud { packages, .. } => Some(packages),
            EnvironmentConfig::SelfHosted {} => None,
        });
        Ok(packages.collect())
    }

    /// A page of environments.
    pub async fn list_environments(
        &self,
        workspace: &WorkspaceId,
        include_archived: bool,
        range: &Range,
    ) -> Result<Vec<Environment>, Error> {
        let mut query =
            Query::new("SELECT body, id, checksum FROM environments WHERE workspace = ");
        query.bind(workspace.as_str());
        if !include_archived {
            query.push(" AND archived_at IS NULL");
        }
        query.page("created_at", "id", range);
        let rows = self.inner.db.read(query.sql, query.values).await?;
        rows.iter().map(environment_of).collect()
    }
}

const SELECT_ONE: &str =
    "SELECT body, id, checksum FROM environments WHERE id = $1 AND workspace = $2";

fn environment_of(row: &Row) -> Result<Environment, Error> {
    let id = row.text(1)?;
    let read = || -> Result<Environment, String> {
        let text = body::intact(row, id, 0, 2)?;
        serde_json::from_str(text).map_err(|error| error.to_string())
    };
    read().map_err(|reason| Error::Damaged {
        item: format!("environment {id}"),
        reason,
    })
}

async fn lock_environment(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &EnvironmentId,
) -> Result<Option<Environment>, Error> {
    let rows = tx
        .locked(
            Lock::Update,
            SELECT_ONE,
            values![id.as_str(), workspace.as_str()],
        )
        .await?;
    rows.first().map(environment_of).transpose()
}
