//! Workspaces over HTTP, outside the public contract's name space (architecture §3): what `manyhands workspaces` speaks. They
//! are the operator's; each has keys of its own, and no key opens two.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::{Timestamp, WorkspaceId};
use manyhands_store::audit::Actor;
use manyhands_store::workspace::Workspace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::Ids;
use crate::app::App;

/// A workspace as shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ShownWorkspace {
    /// Its id.
    pub(crate) id: String,
    /// Always `workspace`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What people call it.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

impl From<Workspace> for ShownWorkspace {
    fn from(workspace: Workspace) -> Self {
        Self {
            id: workspace.id.to_string(),
            kind: "workspace".to_owned(),
            name: workspace.name,
            created_at: workspace.created_at,
        }
    }
}

/// All workspaces of the installation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ShownWorkspaces {
    /// Oldest first.
    pub(crate) data: Vec<ShownWorkspace>,
}

/// Body of a create, and of a change of name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorkspaceParams {
    /// What people call it: 1 to 256 characters.
    pub(crate) name: String,
}

/// `POST /v1/manyhands/workspaces`
pub(crate) async fn create_workspace(
    State(app): State<App>,
    principal: Principal,
    Json(params): Json<WorkspaceParams>,
) -> Result<Reply<ShownWorkspace>, ApiError> {
    definition::text("name", &params.name, 1, 256)?;
    let workspace = Workspace {
        id: WorkspaceId::generate(),
        name: params.name,
        created_at: app.now(),
    };
    let actor = Actor::Key(principal.key);
    app.store.insert_workspace(actor, &workspace).await?;
    Ok(Reply(workspace.into()))
}

/// `GET /v1/manyhands/workspaces`
pub(crate) async fn list_workspaces(
    State(app): State<App>,
    _: Principal,
) -> Result<Reply<ShownWorkspaces>, ApiError> {
    let all = app.store.list_workspaces().await?;
    Ok(Reply(ShownWorkspaces {
        data: all.into_iter().map(ShownWorkspace::from).collect(),
    }))
}

/// `POST /v1/manyhands/workspaces/{workspace_id}`: another name.
pub(crate) async fn rename_workspace(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    Json(params): Json<WorkspaceParams>,
) -> Result<Reply<ShownWorkspace>, ApiError> {
    let id = ids.workspace()?;
    definition::text("name", &params.name, 1, 256)?;
    let actor = Actor::Key(principal.key);
    let renamed = app.store.rename_workspace(actor, &id, &params.name).await?;
    renamed
        .map(|workspace| Reply(workspace.into()))
        .ok_or_else(|| ApiError::not_found("workspace"))
}
