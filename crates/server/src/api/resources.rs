//! Resources of a session (api §8). Mounting is not built, so every session's list is empty.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::page::Page;
use serde_json::Value;

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query};
use crate::app::App;

async fn require_session(app: &App, principal: &Principal, ids: &Ids) -> Result<(), ApiError> {
    let session = app
        .store
        .session(&principal.workspace, &ids.session()?)
        .await?;
    session
        .map(drop)
        .ok_or_else(|| ApiError::not_found("session"))
}

/// `GET /v1/sessions/{session_id}/resources`
pub(crate) async fn list_resources(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<Value>>, ApiError> {
    query.only(&["limit", "page"], &[])?;
    query.limit(1000, 1000)?;
    if query.text("page")?.is_some() {
        return Err(ApiError::field("page", "is not a cursor of this list"));
    }
    require_session(&app, &principal, &ids).await?;
    Ok(Reply(Page {
        data: Vec::new(),
        next_page: None,
    }))
}

/// `POST /v1/sessions/{session_id}/resources`
pub(crate) async fn add_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Value>, ApiError> {
    require_session(&app, &principal, &ids).await?;
    Err(ApiError::not_built("type", "mounting a resource"))
}

/// `GET`, `POST` and `DELETE /v1/sessions/{session_id}/resources/{resource_id}`
pub(crate) async fn missing_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Value>, ApiError> {
    require_session(&app, &principal, &ids).await?;
    Err(ApiError::not_found("resource"))
}
