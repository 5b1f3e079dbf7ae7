//! Versions: what was done to memories, and by whom (runtime ME-8 to ME-10).

use manyhands_protocol::memory::{Actor, MemoryVersion, Operation, View};
use manyhands_protocol::{MemoryId, MemoryStoreId, MemoryVersionId, Timestamp, WorkspaceId};

use super::stores::lock_store;
use super::{version_of, whole};
use crate::body;
use crate::db::{Row, Scope, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Query, Range};
use crate::log::json;
use crate::reserve::Purpose;
use crate::store::Store;

/// Filters of a store's list of versions. A version matches when it matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionFilter {
    /// Of this memory, which may be gone.
    pub memory: Option<MemoryId>,
    /// Of this kind.
    pub operation: Option<Operation>,
    /// Made by each of these, so by none when they are several: ids of sessions, keys, or service accounts.
    pub actors: Vec<String>,
    /// Made at or after.
    pub created_from: Option<Timestamp>,
    /// Made at or before.
    pub created_to: Option<Timestamp>,
}

/// What became of a redaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redacted {
    /// Its text, path, hash and size are gone, now or before.
    Done(Box<MemoryVersion>),
    /// There is no such store, or no such version in it.
    Missing,
    /// It is what a memory is now: that must be changed or deleted first.
    Head,
}

impl Store {
    /// A version.
    pub async fn memory_version(
        &self,
        store: &MemoryStoreId,
        id: &MemoryVersionId,
        view: View,
    ) -> Result<Option<MemoryVersion>, Error> {
        let sql = match view {
            View::Basic => SELECT_ONE,
            View::Full => SELECT_FULL,
        };
        let values = values![id.as_str(), store.as_str()];
        let row = self.inner.db.read_one(sql, values).await?;
        row.map(|row| shown(&row, view)).transpose()
    }

    /// A page of a store's versions.
    pub async fn list_memory_versions(
        &self,
        store: &MemoryStoreId,
        filter: &VersionFilter,
        range: &Range,
        view: View,
    ) -> Result<Vec<MemoryVersion>, Error> {
        let mut query = Query::new(match view {
            View::Basic => "SELECT body, id, checksum FROM memory_versions WHERE store_id = ",
            View::Full => {
                "SELECT body, id, checksum, content FROM memory_versions WHERE store_id = "
            }
        });
        query.bind(store.as_str());
        query.and_if("memory_id = ", filter.memory.as_ref().map(MemoryId::as_str));
        query.and_if("operation = ", filter.operation.map(Operation::as_str));
        for actor in &filter.actors {
            query.and("created_by = ", actor.as_str());
        }
        query.and_if("created_at >= ", filter.created_from);
        query.and_if("created_at <= ", filter.created_to);
        query.page("created_at", "id", range);
        self.inner
            .db
            .list(query.sql, query.values, |row| shown(row, view))
            .await
    }

    /// Takes text, path, hash and size from a version for good (runtime ME-10). Repeating it changes nothing.
    pub async fn redact_memory_version(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        id: &MemoryVersionId,
        actor: Actor,
    ) -> Result<Redacted, Error> {
        let (workspace, store, id) = (workspace.clone(), store.clone(), id.clone());
        let clock = self.inner.services.clock.clone();
        let scope = Scope::of(store.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if lock_store(tx, &workspace, &store).await?.is_none() {
                        return Ok(Redacted::Missing);
                    }
                    let values = values![id.as_str(), store.as_str()];
                    let Some(row) = tx.one(SELECT_ONE, values).await? else {
                        return Ok(Redacted::Missing);
                    };
                    let version = version_of(&row)?;
                    if version.redacted_at.is_some() {
                        return Ok(Redacted::Done(Box::new(version)));
                    }
                    let sql = "SELECT id FROM memories WHERE id = $1 AND version_id = $2";
                    let values = values![version.memory_id.as_str(), id.as_str()];
                    if tx.one(sql, values).await?.is_some() {
                        return Ok(Redacted::Head);
                    }
                    let redacted = MemoryVersion {
                        path: None,
                        content_sha256: None,
                        content_size_bytes: None,
                        redacted_at: Some(clock.now()),
                        redacted_by: Some(actor),
                        ..version
                    };
                    let body = json(&redacted)?;
                    tx.run(
                        "UPDATE memory_versions SET body = $2, checksum = $3, content = $4 WHERE id = $1",
                        values![
                            id.as_str(),
                            body.as_str(),
                            body::checksum(id.as_str(), &body),
                            &[] as &[u8],
                        ],
                    )
                    .await?;
                    failpoint!("store::memory_version::redacted");
                    Ok(Redacted::Done(Box::new(redacted)))
                })
            })
            .await
    }
}

const SELECT_ONE: &str =
    "SELECT body, id, checksum FROM memory_versions WHERE id = $1 AND store_id = $2";
const SELECT_FULL: &str =
    "SELECT body, id, checksum, content FROM memory_versions WHERE id = $1 AND store_id = $2";

/// A version in a view, whose content is the fourth column in the full one.
fn shown(row: &Row, view: View) -> Result<MemoryVersion, Error> {
    let mut version = version_of(row)?;
    if let (View::Full, Some(hash)) = (view, &version.content_sha256) {
        version.content = Some(whole(version.id.as_str(), row.bytes(3)?, hash)?);
    }
    Ok(version)
}
