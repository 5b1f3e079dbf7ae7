//! API keys over HTTP, outside the public contract's name space (architecture §3): what `manyhands keys` and
//! `manyhands environment-keys` speak.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::{EnvironmentId, Timestamp, WorkspaceId};
use manyhands_store::audit::Actor;
use manyhands_store::key::{ApiKey, KeyRole, Opens};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::app::App;
use crate::keys::mint;

/// What stands for the role of a key that opens one environment.
const ENVIRONMENT: &str = "environment";

/// A key as shown: never the key itself, but for the one answer that made it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ShownKey {
    /// Its id, to revoke it by.
    pub(crate) id: String,
    /// Always `api_key`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What people call it.
    pub(crate) name: String,
    /// `admin`, `developer` or `read_only`; `environment` for the key of an environment.
    pub(crate) role: String,
    /// The workspace it is of.
    pub(crate) workspace_id: String,
    /// The only environment it opens.
    pub(crate) environment_id: Option<String>,
    /// Its first characters.
    pub(crate) hint: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was revoked.
    pub(crate) revoked_at: Option<Timestamp>,
    /// The key, in the answer to its create only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl From<ApiKey> for ShownKey {
    fn from(key: ApiKey) -> Self {
        let (role, environment) = match key.opens {
            Opens::Workspace(role) => (role.as_str(), None),
            Opens::Environment(id) => (ENVIRONMENT, Some(id.to_string())),
        };
        Self {
            id: key.id.to_string(),
            kind: "api_key".to_owned(),
            name: key.name,
            role: role.to_owned(),
            workspace_id: key.workspace.to_string(),
            environment_id: environment,
            hint: key.hint,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
            key: None,
        }
    }
}

/// All keys of the workspace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ShownKeys {
    /// Oldest first.
    pub(crate) data: Vec<ShownKey>,
}

/// Body of a create.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct KeyCreateParams {
    /// What people call it.
    pub(crate) name: String,
    /// `admin`, `developer` or `read_only`; without one, `developer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    /// The environment that it opens, instead of the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment_id: Option<String>,
    /// The workspace it is for; without one, that of the caller. Another one is the operator's to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workspace_id: Option<String>,
}

impl KeyCreateParams {
    /// What the key is to open.
    pub(crate) fn opens(&self) -> Result<Opens, ApiError> {
        match (&self.environment_id, &self.role) {
            (Some(_), Some(_)) => Err(ApiError::field(
                "role",
                "the key of an environment has no role",
            )),
            (Some(id), None) => EnvironmentId::parse(id)
                .map(Opens::Environment)
                .map_err(|problem| ApiError::field("environment_id", problem.to_string())),
            (None, None) => Ok(Opens::Workspace(KeyRole::Developer)),
            (None, Some(role)) => KeyRole::parse(role)
                .map(Opens::Workspace)
                .ok_or_else(|| ApiError::field("role", "expected admin, developer or read_only")),
        }
    }
}

/// What an answer of 404 names when a key cannot be made for this.
pub(crate) fn absent(opens: &Opens) -> &'static str {
    match opens {
        Opens::Workspace(_) => "workspace",
        Opens::Environment(_) => "environment",
    }
}

/// Whose keys are meant: the caller's workspace, or for the operator any.
async fn place(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
) -> Result<WorkspaceId, ApiError> {
    let Some(named) = named else {
        return Ok(principal.workspace.clone());
    };
    let named = WorkspaceId::parse(named)
        .map_err(|problem| ApiError::field("workspace_id", problem.to_string()))?;
    if named == principal.workspace {
        return Ok(named);
    }
    let is_operator = principal.workspace == app.workspace;
    let all = app.store.list_workspaces().await?;
    if is_operator && all.iter().any(|workspace| workspace.id == named) {
        return Ok(named);
    }
    Err(ApiError::not_found("workspace"))
}

/// `POST /v1/manyhands/keys`
pub(crate) async fn create_key(
    State(app): State<App>,
    principal: Principal,
    Json(params): Json<KeyCreateParams>,
) -> Result<Reply<ShownKey>, ApiError> {
    definition::text("name", &params.name, 1, 256)?;
    let opens = params.opens()?;
    let workspace = place(&app, &principal, params.workspace_id.as_deref()).await?;
    let (key, record, hash) = mint(&workspace, opens, params.name, app.now()).map_err(|error| {
        tracing::error!(%error, "no key can be made");
        ApiError::internal()
    })?;
    let actor = Actor::Key(principal.key);
    if !app.store.insert_key(actor, &record, &hash).await? {
        return Err(ApiError::not_found(absent(&record.opens)));
    }
    let key = Some(key.expose_secret().to_owned());
    Ok(Reply(ShownKey {
        key,
        ..record.into()
    }))
}

/// `GET /v1/manyhands/keys`
pub(crate) async fn list_keys(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<ShownKeys>, ApiError> {
    let workspace = place(&app, &principal, query.text("workspace_id")?).await?;
    let keys = app.store.list_keys(&workspace).await?;
    Ok(Reply(ShownKeys {
        data: keys.into_iter().map(ShownKey::from).collect(),
    }))
}

/// `DELETE /v1/manyhands/keys/{key_id}`: from the next request on (runtime SC-5). Repeating it changes nothing.
pub(crate) async fn revoke_key(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<ShownKey>, ApiError> {
    let id = ids.key()?;
    let workspace = place(&app, &principal, query.text("workspace_id")?).await?;
    let actor = Actor::Key(principal.key);
    let revoked = app.store.revoke_key(actor, &workspace, &id).await;
    app.keys.forget();
    if !revoked? {
        return Err(ApiError::not_found("key"));
    }
    let keys = app.store.list_keys(&workspace).await?;
    let key = keys.into_iter().find(|key| key.id == id);
    key.map(|key| Reply(key.into()))
        .ok_or_else(|| ApiError::not_found("key"))
}
