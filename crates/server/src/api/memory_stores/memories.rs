//! Memories (api §17.2, §17.3, runtime ME-2 to ME-8).

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::memory::{
    CONTENT, MEMORIES, Memory, MemoryCreateParams, MemoryDeleted, MemoryListItem, MemoryPath,
    MemoryUpdateParams, Precondition, View, is_sha256,
};
use manyhands_protocol::page::Page;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::{MemoryId, MemoryStoreId};
use manyhands_store::memory::{Changed, Depth, MemoryRange, Mutation, Which};

use super::{FULL, LIMITS, actor, archived, missing, require, view};
use crate::api::auth::Principal;
use crate::api::cursor;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::app::App;

const LIST: &str = "memories";

fn no_memory() -> ApiError {
    ApiError::not_found("memory")
}

/// `POST /v1/memory_stores/{memory_store_id}/memories`
pub(crate) async fn create_memory(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
    Json(params): Json<MemoryCreateParams>,
) -> Result<Reply<Memory>, ApiError> {
    let view = view(&query, View::Basic)?;
    let store = ids.memory_store()?;
    let content = match params.content {
        Patch::Keep => return Err(ApiError::field("content", "is required")),
        Patch::Clear => String::new(),
        Patch::Set(content) => content,
    };
    let mutation = Mutation::Create {
        path: path(&params.path)?,
        content: checked(content)?,
    };
    let memory = changed(&app, &principal, &store, mutation).await?;
    Ok(Reply(shown(&app, memory, view).await?))
}

/// `GET /v1/memory_stores/{memory_store_id}/memories/{memory_id}`
pub(crate) async fn retrieve_memory(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Memory>, ApiError> {
    let view = view(&query, View::Full)?;
    let (store, id) = (ids.memory_store()?, ids.memory()?);
    require(&app, &principal, &store).await?;
    let found = app.store.memory(&store, &Which::Id(id)).await?;
    let memory = found.ok_or_else(no_memory)?;
    Ok(Reply(Memory {
        content: memory.content.filter(|_| view == View::Full),
        ..memory
    }))
}

/// `POST /v1/memory_stores/{memory_store_id}/memories/{memory_id}`
pub(crate) async fn update_memory(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
    Json(params): Json<MemoryUpdateParams>,
) -> Result<Reply<Memory>, ApiError> {
    let view = view(&query, View::Basic)?;
    let (store, id) = (ids.memory_store()?, ids.memory()?);
    let expected = params
        .precondition
        .map(|Precondition::ContentSha256 { content_sha256 }| {
            hash("precondition.content_sha256", content_sha256)
        })
        .transpose()?;
    let mutation = Mutation::Update {
        memory: Which::Id(id),
        content: params.content.map(checked).transpose()?,
        path: params.path.as_deref().map(path).transpose()?,
        expected,
    };
    let memory = changed(&app, &principal, &store, mutation).await?;
    Ok(Reply(shown(&app, memory, view).await?))
}

/// `DELETE /v1/memory_stores/{memory_store_id}/memories/{memory_id}`: its versions stay.
pub(crate) async fn delete_memory(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<MemoryDeleted>, ApiError> {
    const EXPECTED: &str = "expected_content_sha256";
    let (store, id) = (ids.memory_store()?, ids.memory()?);
    // An empty condition is a mistake of the caller's: nothing is deleted for it.
    let mut given = query.list(EXPECTED);
    let expected = match (given.next(), given.next()) {
        (None, _) => None,
        (Some(expected), None) => Some(hash(EXPECTED, expected.to_owned())?),
        (Some(_), Some(_)) => return Err(ApiError::field(EXPECTED, "is given more than once")),
    };
    let mutation = Mutation::Delete {
        memory: Which::Id(id),
        expected,
    };
    let memory = changed(&app, &principal, &store, mutation).await?;
    Ok(Reply(MemoryDeleted {
        id: memory.id,
        kind: Default::default(),
    }))
}

/// `GET /v1/memory_stores/{memory_store_id}/memories`: sorted by the bytes of their paths (runtime LI-9).
pub(crate) async fn list_memories(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<MemoryListItem>>, ApiError> {
    let view = view(&query, View::Basic)?;
    let limit = query.limit(LIMITS.0, LIMITS.1)?;
    let limit = match view {
        View::Basic => limit,
        View::Full => limit.min(FULL),
    };
    let range = MemoryRange {
        prefix: prefix(&query)?,
        depth: match query.text("depth")? {
            None | Some("0") => Depth::All,
            Some("1") => Depth::Children,
            Some(_) => return Err(ApiError::field("depth", "expected 0 or 1")),
        },
        after: after(&query)?,
        // One more, to know whether there is more.
        limit: limit + 1,
        view,
    };
    let store = require(&app, &principal, &ids.memory_store()?).await?.id;
    let mut data = app.store.list_memories(&store, &range).await?;
    let has_more = cursor::cut_off(&mut data, limit);
    let last = data.last().filter(|_| has_more);
    Ok(Reply(Page {
        next_page: last.map(|item| cursor::encode(LIST, &item.path())),
        data,
    }))
}

/// What the paths are to begin with: the root, or a path and a slash.
fn prefix(query: &Query) -> Result<String, ApiError> {
    const FIELD: &str = "path_prefix";
    let prefix = query.text(FIELD)?.unwrap_or("/");
    let folder = prefix
        .strip_suffix('/')
        .ok_or_else(|| ApiError::field(FIELD, "ends with /"))?;
    if !folder.is_empty() {
        MemoryPath::parse(folder).map_err(|problem| ApiError::field(FIELD, problem.to_string()))?;
    }
    Ok(prefix.to_owned())
}

/// The item at the cursor: a path, with a slash behind it for a folder.
fn after(query: &Query) -> Result<Option<String>, ApiError> {
    let after: Option<String> = cursor::decode(LIST, query)?;
    let is_item = |item: &String| MemoryPath::parse(item.strip_suffix('/').unwrap_or(item)).is_ok();
    if after.as_ref().is_none_or(is_item) {
        return Ok(after);
    }
    Err(ApiError::field("page", "is not a cursor of this list"))
}

fn path(text: &str) -> Result<MemoryPath, ApiError> {
    MemoryPath::parse(text).map_err(|problem| ApiError::field("path", problem.to_string()))
}

fn checked(content: String) -> Result<String, ApiError> {
    if content.len() <= CONTENT {
        return Ok(content);
    }
    let problem = format!("has {} bytes; at most {CONTENT} are allowed", content.len());
    Err(ApiError::field("content", problem))
}

fn hash(field: &str, text: String) -> Result<String, ApiError> {
    if is_sha256(&text) {
        return Ok(text);
    }
    let problem = "expected 64 lowercase hexadecimal digits";
    Err(ApiError::field(field, problem))
}

/// The memory after a change, without its text.
async fn changed(
    app: &App,
    principal: &Principal,
    store: &MemoryStoreId,
    mutation: Mutation,
) -> Result<Memory, ApiError> {
    let changed = app
        .store
        .change_memory(&principal.workspace, store, actor(principal), mutation)
        .await?;
    match changed {
        Changed::Done(memory) | Changed::Same(memory) => Ok(memory),
        Changed::NoStore => Err(missing()),
        Changed::NoMemory => Err(no_memory()),
        // The store says this to sessions alone.
        Changed::ReadOnly => Err(ApiError::forbidden("the memory store can only be read")),
        Changed::Archived => Err(archived()),
        Changed::Occupied { memory, path } => Err(occupied(&memory, &path)),
        Changed::Unexpected(_) => Err(ApiError::unexpected_memory(
            "the memory's content is not the one with the expected content_sha256: retrieve it again",
        )),
        Changed::Full => Err(ApiError::invalid(format!(
            "the memory store has {MEMORIES} memories, which is all it may have"
        ))),
    }
}

fn occupied(memory: &MemoryId, path: &MemoryPath) -> ApiError {
    let message =
        format!("the memory {memory} is at {path}: no other can be there, nor above or below it");
    ApiError::occupied_path(message, memory.as_str(), path.as_str())
}

/// A memory as it was written, in the view that was asked for.
async fn shown(app: &App, memory: Memory, view: View) -> Result<Memory, ApiError> {
    if view == View::Basic {
        return Ok(memory);
    }
    // The text of this version, whatever has become of the memory since.
    let (store, version) = (&memory.memory_store_id, &memory.memory_version_id);
    let version = app.store.memory_version(store, version, View::Full).await?;
    Ok(Memory {
        content: version.and_then(|version| version.content),
        ..memory
    })
}
