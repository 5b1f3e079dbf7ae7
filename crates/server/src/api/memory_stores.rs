//! Memory stores (api §17.1, runtime ME-1, ME-11), the memories in them, and their versions.

pub(crate) mod memories;
pub(crate) mod versions;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::memory::{
    Actor, MemoryStore, MemoryStoreCreateParams, MemoryStoreDeleted, MemoryStoreUpdateParams, View,
};
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::{MemoryStoreId, Timestamp};
use manyhands_store::listing::Filter;

use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::app::App;

const NAME: usize = 255;
const DESCRIPTION: usize = 1024;
/// Page sizes (runtime LI-6).
const LIMITS: (u32, u32) = (20, 100);
/// A page with texts has no more (runtime ME-7).
const FULL: u32 = 20;

/// `POST /v1/memory_stores`
pub(crate) async fn create_memory_store(
    State(app): State<App>,
    principal: Principal,
    Json(params): Json<MemoryStoreCreateParams>,
) -> Result<Reply<MemoryStore>, ApiError> {
    let description = params.description.unwrap_or_default();
    check(&params.name, &description)?;
    let now = app.now();
    let store = MemoryStore {
        id: MemoryStoreId::generate(),
        kind: Default::default(),
        name: params.name,
        description,
        metadata: definition::metadata(params.metadata.unwrap_or_default())?,
        created_at: now,
        updated_at: now,
        archived_at: None,
    };
    app.store
        .insert_memory_store(&principal.workspace, &store)
        .await?;
    Ok(Reply(store))
}

fn check(name: &str, description: &str) -> Result<(), ApiError> {
    definition::text("name", name, 1, NAME)?;
    if name.chars().any(char::is_control) {
        return Err(ApiError::field("name", "must not have control characters"));
    }
    definition::text("description", description, 0, DESCRIPTION)
}

/// `GET /v1/memory_stores/{memory_store_id}`
pub(crate) async fn retrieve_memory_store(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<MemoryStore>, ApiError> {
    let store = require(&app, &principal, &ids.memory_store()?).await?;
    Ok(Reply(store))
}

/// The store, if it is the caller's.
async fn require(
    app: &App,
    principal: &Principal,
    id: &MemoryStoreId,
) -> Result<MemoryStore, ApiError> {
    let store = app.store.memory_store(&principal.workspace, id).await?;
    store.ok_or_else(missing)
}

fn missing() -> ApiError {
    ApiError::not_found("memory store")
}

fn archived() -> ApiError {
    let problem = "the memory store is archived: neither it nor what is in it can be changed";
    ApiError::invalid(problem)
}

/// `POST /v1/memory_stores/{memory_store_id}`
pub(crate) async fn update_memory_store(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    Json(params): Json<MemoryStoreUpdateParams>,
) -> Result<Reply<MemoryStore>, ApiError> {
    let (id, now) = (ids.memory_store()?, app.now());
    let updated = app
        .store
        .update_memory_store(&principal.workspace, &id, move |current| {
            updated(current, params, now)
        })
        .await?;
    let store = updated.ok_or_else(missing)??;
    Ok(Reply(store))
}

/// The store after an update, or `None` when nothing changes.
fn updated(
    current: &MemoryStore,
    params: MemoryStoreUpdateParams,
    now: Timestamp,
) -> Result<Option<MemoryStore>, ApiError> {
    if current.archived_at.is_some() {
        return Err(archived());
    }
    let metadata = params.metadata.unwrap_or_default();
    let next = MemoryStore {
        name: params.name.unwrap_or_else(|| current.name.clone()),
        description: params
            .description
            .unwrap_or_else(|| current.description.clone()),
        metadata: definition::merge_metadata(&current.metadata, metadata)?,
        ..current.clone()
    };
    check(&next.name, &next.description)?;
    Ok((next != *current).then_some(MemoryStore {
        updated_at: now,
        ..next
    }))
}

/// `GET /v1/memory_stores`: newest first.
pub(crate) async fn list_memory_stores(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<Page<MemoryStore>>, ApiError> {
    let times = query.span()?;
    let filter = Filter {
        created_from: times.from,
        created_to: times.to,
        include_archived: query.flag("include_archived")?,
    };
    let paging = Paging::read("memory_stores", &query, Order::Desc, LIMITS)?;
    paging.require_within(&times)?;
    let found = app
        .store
        .list_memory_stores(&principal.workspace, &filter, &paging.range())
        .await?;
    Ok(Reply(paging.page(found, |store| {
        (store.created_at, store.id.to_string())
    })))
}

/// `DELETE /v1/memory_stores/{memory_store_id}`: with its memories and their versions (runtime ME-11).
pub(crate) async fn delete_memory_store(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<MemoryStoreDeleted>, ApiError> {
    let id = ids.memory_store()?;
    if !app
        .store
        .delete_memory_store(&principal.workspace, &id)
        .await?
    {
        return Err(missing());
    }
    Ok(Reply(MemoryStoreDeleted {
        id,
        kind: Default::default(),
    }))
}

/// `POST /v1/memory_stores/{memory_store_id}/archive`: for good, and repeating it changes nothing.
pub(crate) async fn archive_memory_store(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<MemoryStore>, ApiError> {
    let id = ids.memory_store()?;
    let archived = app
        .store
        .archive_memory_store(&principal.workspace, &id)
        .await?;
    let store = archived.ok_or_else(missing)?;
    Ok(Reply(store))
}

/// Who a caller is to versions (runtime ME-8).
fn actor(principal: &Principal) -> Actor {
    Actor::ApiActor {
        api_key_id: principal.key.clone(),
    }
}

/// How much is to be shown.
fn view(query: &Query, default: View) -> Result<View, ApiError> {
    match query.text("view")? {
        None => Ok(default),
        Some("basic") => Ok(View::Basic),
        Some("full") => Ok(View::Full),
        Some(_) => Err(ApiError::field("view", "expected basic or full")),
    }
}
