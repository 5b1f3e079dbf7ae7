//! Environments.

use manyhands_protocol::environment::{Environment, EnvironmentConfig, Packages};
use manyhands_protocol::{EnvironmentId, WorkspaceId};

use crate::body;
use crate::db::{Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Filter, Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::resource::{Place, Resource};
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
        self.find(Place::new(workspace, id.as_str())).await
    }

    /// Changes an environment under its lock; as [`update_agent`](Self::update_agent).
    pub async fn update_environment<R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
        decide: impl FnOnce(&Environment) -> Result<Option<Environment>, R> + Send + 'static,
    ) -> Result<Option<Result<Environment, R>>, Error> {
        let place = Place::new(workspace, id.as_str());
        self.update(place, None, decide).await
    }

    /// Deletes an environment that no session refers to. `Some(false)` when one does, `None` when there is no such
    /// environment (runtime EN-5).
    pub async fn delete_environment(
        &self,
        workspace: &WorkspaceId,
        id: &EnvironmentId,
    ) -> Result<Option<bool>, Error> {
        let (place, id) = (Place::new(workspace, id.as_str()), id.clone());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if Environment::lock(tx, &place).await?.is_none() {
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
        let config = |row: &Row| Environment::of(row).map(|environment| environment.config);
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
        let query = Query::listed(
            "SELECT body, id, checksum FROM environments WHERE workspace = ",
            workspace,
            &Filter::archived_too(include_archived),
            range,
        );
        self.inner
            .db
            .list(query.sql, query.values, Environment::of)
            .await
    }
}

impl Resource for Environment {
    const SELECT: &'static str =
        "SELECT body, id, checksum FROM environments WHERE id = $1 AND workspace = $2";

    fn of(row: &Row) -> Result<Self, Error> {
        body::parsed(row, "environment")
    }

    async fn write(tx: &mut Tx, place: &Place, _: Self, new: Self) -> Result<Self, Error> {
        let body = json(&new)?;
        tx.run(
            "UPDATE environments SET body = $2, archived_at = $3, checksum = $4 WHERE id = $1",
            values![
                place.id.as_str(),
                body.as_str(),
                new.archived_at,
                body::checksum(&place.id, &body),
            ],
        )
        .await?;
        failpoint!("store::environment::updated");
        Ok(new)
    }
}
