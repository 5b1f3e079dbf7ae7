//! API keys over HTTP, outside the public contract's name space (architecture §3): what `manyhands keys` speaks.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::Timestamp;
use manyhands_protocol::id::ApiKeyId;
use manyhands_store::audit::Actor;
use manyhands_store::key::ApiKey;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::Ids;
use crate::app::App;
use crate::keys::mint;

/// A key as shown: never the key itself, but for the one answer that made it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShownKey {
    /// Its id, to revoke it by.
    pub(crate) id: String,
    /// Always `api_key`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What people call it.
    pub(crate) name: String,
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
        Self {
            id: key.id.to_string(),
            kind: "api_key".to_owned(),
            name: key.name,
            hint: key.hint,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
            key: None,
        }
    }
}

/// All keys of the workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShownKeys {
    /// Oldest first.
    pub(crate) data: Vec<ShownKey>,
}

/// Body of a create.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyCreateParams {
    /// What people call it.
    pub(crate) name: String,
}

/// `POST /v1/manyhands/keys`
pub(crate) async fn create_key(
    State(app): State<App>,
    principal: Principal,
    Json(params): Json<KeyCreateParams>,
) -> Result<Reply<ShownKey>, ApiError> {
    definition::text("name", &params.name, 1, 256)?;
    let (key, record, hash) =
        mint(&principal.workspace, params.name, app.now()).map_err(|error| {
            tracing::error!(%error, "no key can be made");
            ApiError::internal()
        })?;
    app.store
        .insert_key(Actor::Key(principal.key), &record, &hash)
        .await?;
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
) -> Result<Reply<ShownKeys>, ApiError> {
    let keys = app.store.list_keys(&principal.workspace).await?;
    Ok(Reply(ShownKeys {
        data: keys.into_iter().map(ShownKey::from).collect(),
    }))
}

/// `DELETE /v1/manyhands/keys/{key_id}`: from the next request on (runtime SC-5). Repeating it changes nothing.
pub(crate) async fn revoke_key(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<ShownKey>, ApiError> {
    let id = ApiKeyId::parse(ids.text("key_id"))
        .map_err(|problem| ApiError::field("key_id", problem.to_string()))?;
    let actor = Actor::Key(principal.key.clone());
    let revoked = app.store.revoke_key(actor, &principal.workspace, &id).await;
    app.keys.forget();
    if !revoked? {
        return Err(ApiError::not_found("key"));
    }
    let keys = app.store.list_keys(&principal.workspace).await?;
    let key = keys.into_iter().find(|key| key.id == id);
    key.map(|key| Reply(key.into()))
        .ok_or_else(|| ApiError::not_found("key"))
}
