//! Versions of memories (api §17.4, runtime ME-8 to ME-10).

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::memory::{MemoryVersion, Operation, View};
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::{MemoryId, SessionId, id::ApiKeyId};
use manyhands_store::memory::{Redacted, VersionFilter};

use super::{FULL, LIMITS, actor, require, view};
use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query, Times};
use crate::app::App;

fn no_version() -> ApiError {
    ApiError::not_found("memory version")
}

/// `GET /v1/memory_stores/{memory_store_id}/memory_versions/{memory_version_id}`
pub(crate) async fn retrieve_memory_version(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<MemoryVersion>, ApiError> {
    let view = view(&query, View::Full)?;
    let (store, id) = (ids.memory_store()?, ids.memory_version()?);
    require(&app, &principal, &store).await?;
    let found = app.store.memory_version(&store, &id, view).await?;
    found.map(Reply).ok_or_else(no_version)
}

/// `GET /v1/memory_stores/{memory_store_id}/memory_versions`: newest first.
pub(crate) async fn list_memory_versions(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<MemoryVersion>>, ApiError> {
    let view = view(&query, View::Basic)?;
    let times = query.span()?;
    let filter = filter(&query, times)?;
    let paging = Paging::read("memory_versions", &query, Order::Desc, LIMITS)?;
    let paging = match view {
        View::Basic => paging,
        View::Full => paging.at_most(FULL),
    };
    paging.require_within(&times)?;
    let store = require(&app, &principal, &ids.memory_store()?).await?.id;
    let found = app
        .store
        .list_memory_versions(&store, &filter, &paging.range(), view)
        .await?;
    Ok(Reply(paging.page(found, |version| {
        (version.created_at, version.id.to_string())
    })))
}

fn filter(query: &Query, times: Times) -> Result<VersionFilter, ApiError> {
    let memory = query.id("memory_id", MemoryId::parse)?;
    let operation = query.text("operation")?.map(|text| {
        let problem = "expected created, modified or deleted";
        Operation::parse(text).ok_or_else(|| ApiError::field("operation", problem))
    });
    let mut actors = Vec::new();
    let session = query.id("session_id", SessionId::parse)?;
    actors.extend(session.map(|id| id.to_string()));
    let key = query.id("api_key_id", ApiKeyId::parse)?;
    actors.extend(key.map(|id| id.to_string()));
    if let Some(text) = query.text("service_account_id")? {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !text.starts_with("svac_") || !text.bytes().all(legal) {
            let problem = "expected an id that starts with \"svac_\"";
            return Err(ApiError::field("service_account_id", problem));
        }
        actors.push(text.to_owned());
    }
    Ok(VersionFilter {
        memory,
        operation: operation.transpose()?,
        actors,
        created_from: times.from,
        created_to: times.to,
    })
}

/// `POST /v1/memory_stores/{memory_store_id}/memory_versions/{memory_version_id}/redact`: for good, and repeating it changes
/// nothing.
pub(crate) async fn redact_memory_version(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<MemoryVersion>, ApiError> {
    let (store, id) = (ids.memory_store()?, ids.memory_version()?);
    require(&app, &principal, &store).await?;
    let redacted = app
        .store
        .redact_memory_version(&principal.workspace, &store, &id, actor(&principal))
        .await?;
    match redacted {
        Redacted::Done(version) => Ok(Reply(*version)),
        Redacted::Missing => Err(no_version()),
        Redacted::Head => Err(ApiError::invalid(
            "the version is what the memory is now: change or delete the memory first",
        )),
    }
}
