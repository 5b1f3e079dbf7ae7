//! Workspaces: whose things are whose. The first one is made at the first start, and its admins are the operator.

use manyhands_protocol::{Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::audit::{self, Act, Action, Actor};
use crate::db::{Lock, Row, Scope, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::log::json;
use crate::store::Store;

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// What people call it; several may have one name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The columns of a workspace, as [`workspace_of`] takes them.
macro_rules! workspace_columns {
    () => {
        "id, body, created_at"
    };
}

impl Store {
    /// The workspace of single-workspace installations, created when there is none.
    pub async fn default_workspace(&self) -> Result<WorkspaceId, Error> {
        const SELECT: &str = "SELECT id FROM workspaces WHERE slot = 'default'";
        let now = self.inner.services.clock.now();
        let mut found = self.inner.db.read_one(SELECT, Vec::new()).await?;
        if found.is_none() {
            found = self
                .inner
                .db
                .write(Scope::of("default workspace"), move |tx| {
                    Box::pin(async move {
                        tx.run(
                            "INSERT INTO workspaces (id, slot, created_at) VALUES ($1, 'default', $2)
                             ON CONFLICT (slot) DO NOTHING",
                            values![WorkspaceId::generate().as_str(), now],
                        )
                        .await?;
                        tx.one(SELECT, Vec::new()).await
                    })
                })
                .await?;
        }
        let damaged = |reason: String| Error::damaged("the default workspace", reason);
        let row = found.ok_or_else(|| damaged("it is not there".to_owned()))?;
        WorkspaceId::parse(row.text(0)?).map_err(|error| damaged(error.to_string()))
    }

    /// Adds a workspace that this actor makes.
    pub async fn insert_workspace(&self, actor: Actor, workspace: &Workspace) -> Result<(), Error> {
        let (services, workspace) = (self.inner.services.clone(), workspace.clone());
        self.inner
            .db
            .write(Scope::of(workspace.id.as_str()), move |tx| {
                Box::pin(async move {
                    let act = Act::new(&workspace.id, actor, Action::WorkspaceCreate);
                    audit::append(tx, &services, &act.to(workspace.id.as_str())).await?;
                    // A slot is taken once: all but the first have one of their own.
                    tx.run(
                        "INSERT INTO workspaces (id, slot, body, created_at) VALUES ($1, $1, $2, $3)",
                        values![
                            workspace.id.as_str(),
                            body_of(&workspace.name)?,
                            workspace.created_at
                        ],
                    )
                    .await?;
                    failpoint!("store::workspace::inserted");
                    Ok(())
                })
            })
            .await
    }

    /// All workspaces, oldest first.
    pub async fn list_workspaces(&self) -> Result<Vec<Workspace>, Error> {
        let sql = concat!(
            "SELECT ",
            workspace_columns!(),
            " FROM workspaces ORDER BY created_at, id"
        );
        self.inner.db.list(sql, Vec::new(), workspace_of).await
    }

    /// Gives a workspace another name; `None` when there is no such workspace.
    pub async fn rename_workspace(
        &self,
        actor: Actor,
        id: &WorkspaceId,
        name: &str,
    ) -> Result<Option<Workspace>, Error> {
        let (services, id, name) = (self.inner.services.clone(), id.clone(), name.to_owned());
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    let sql = concat!(
                        "SELECT ",
                        workspace_columns!(),
                        " FROM workspaces WHERE id = $1"
                    );
                    let found = tx.locked(Lock::Update, sql, values![id.as_str()]).await?;
                    let Some(row) = found.first() else {
                        return Ok(None);
                    };
                    let old = workspace_of(row)?;
                    let act = Act::new(&id, actor, Action::WorkspaceRename).to(id.as_str());
                    audit::append(tx, &services, &act).await?;
                    let sql = "UPDATE workspaces SET body = $2 WHERE id = $1";
                    tx.run(sql, values![id.as_str(), body_of(&name)?]).await?;
                    Ok(Some(Workspace { name, ..old }))
                })
            })
            .await
    }
}

/// The part of a workspace's row that is text of people, as stored.
#[derive(Serialize, Deserialize)]
struct Body {
    name: String,
}

fn body_of(name: &str) -> Result<String, Error> {
    json(&Body {
        name: name.to_owned(),
    })
}

fn workspace_of(row: &Row) -> Result<Workspace, Error> {
    let id = row.text(0)?;
    let damaged = |reason: String| Error::damaged(format!("workspace {id}"), reason);
    let body: Body =
        serde_json::from_str(row.text(1)?).map_err(|error| damaged(error.to_string()))?;
    Ok(Workspace {
        id: WorkspaceId::parse(id).map_err(|error| damaged(error.to_string()))?,
        name: body.name,
        created_at: row.time(2)?,
    })
}
