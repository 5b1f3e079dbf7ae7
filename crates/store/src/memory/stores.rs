//! Stores themselves (runtime ME-1, ME-11).

use manyhands_protocol::memory::MemoryStore;
use manyhands_protocol::{MemoryStoreId, Timestamp, WorkspaceId};

use super::memory_store_of;
use super::rows::write_store;
use crate::body;
use crate::db::{Lock, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::store::Store;

/// Filters of the list of stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStoreFilter {
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created at or before.
    pub created_to: Option<Timestamp>,
    /// Whether archived ones are shown too.
    pub include_archived: bool,
}

impl Store {
    /// Adds a memory store.
    pub async fn insert_memory_store(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStore,
    ) -> Result<(), Error> {
        let (workspace, store) = (workspace.clone(), store.clone());
        let services = self.inner.services.clone();
        self.inner
            .db
            .write(Scope::of(store.id.as_str()), move |tx| {
                Box::pin(async move {
                    quota::one_more(tx, &services, &workspace, Thing::MemoryStore).await?;
                    let body = json(&store)?;
                    tx.run(
                        "INSERT INTO memory_stores (id, workspace, body, checksum, written_at, created_at, archived_at)
                         VALUES ($1, $2, $3, $4, $5, $5, $6)",
                        values![
                            store.id.as_str(),
                            workspace.as_str(),
                            body.as_str(),
                            body::checksum(store.id.as_str(), &body),
                            store.created_at,
                            store.archived_at,
                        ],
                    )
                    .await?;
                    failpoint!("store::memory_store::inserted");
                    Ok(())
                })
            })
            .await
    }

    /// A memory store.
    pub async fn memory_store(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
    ) -> Result<Option<MemoryStore>, Error> {
        let values = values![id.as_str(), workspace.as_str()];
        let row = self.inner.db.read_one(SELECT_ONE, values).await?;
        row.as_ref().map(memory_store_of).transpose()
    }

    /// Changes a memory store under its lock; as [`update_agent`](Self::update_agent).
    pub async fn update_memory_store<R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
        decide: impl FnOnce(&MemoryStore) -> Result<Option<MemoryStore>, R> + Send + 'static,
    ) -> Result<Option<Result<MemoryStore, R>>, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.inner
            .db
            .write(Scope::of(id.as_str()), move |tx| {
                Box::pin(async move {
                    let Some(locked) = lock_store(tx, &workspace, &id).await? else {
                        return Ok(None);
                    };
                    match decide(&locked.store) {
                        Ok(Some(new)) => {
                            write_store(tx, &new).await?;
                            failpoint!("store::memory_store::updated");
                            Ok(Some(Ok(new)))
                        }
                        Ok(None) => Ok(Some(Ok(locked.store))),
                        Err(refusal) => Ok(Some(Err(refusal))),
                    }
                })
            })
            .await
    }

    /// Archives a memory store for good (runtime ME-11). Repeating it changes nothing. `None` when there is no such store.
    pub async fn archive_memory_store(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
    ) -> Result<Option<MemoryStore>, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let clock = self.inner.services.clock.clone();
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let Some(locked) = lock_store(tx, &workspace, &id).await? else {
                        return Ok(None);
                    };
                    let mut store = locked.store;
                    if store.archived_at.is_none() {
                        let now = clock.now();
                        (store.archived_at, store.updated_at) = (Some(now), now);
                        write_store(tx, &store).await?;
                        failpoint!("store::memory_store::archived");
                    }
                    Ok(Some(store))
                })
            })
            .await
    }

    /// Deletes a memory store with its memories and their versions, which are gone at once; false when there is no such
    /// store. What sessions have of it stays and leads nowhere.
    pub async fn delete_memory_store(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
    ) -> Result<bool, Error> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let purge = self.inner.services.purge.clone();
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    // Also one whose body is damaged can be deleted.
                    let values = values![id.as_str(), workspace.as_str()];
                    let found = tx.locked(Lock::Update, SELECT_ONE, values).await?;
                    if found.is_empty() {
                        return Ok(false);
                    }
                    for sql in [
                        "INSERT INTO memory_remains (store_id) VALUES ($1)",
                        "DELETE FROM memory_stores WHERE id = $1",
                    ] {
                        tx.run(sql, values![id.as_str()]).await?;
                    }
                    failpoint!("store::memory_store::deleted");
                    tx.after_commit(move || purge.notify_one());
                    Ok(true)
                })
            })
            .await
    }

    /// A page of memory stores.
    pub async fn list_memory_stores(
        &self,
        workspace: &WorkspaceId,
        filter: &MemoryStoreFilter,
        range: &Range,
    ) -> Result<Vec<MemoryStore>, Error> {
        let mut query =
            Query::new("SELECT body, id, checksum FROM memory_stores WHERE workspace = ");
        query.bind(workspace.as_str());
        for (relation, at) in [
            ("created_at >= ", filter.created_from),
            ("created_at <= ", filter.created_to),
        ] {
            if let Some(at) = at {
                query.and(relation, at);
            }
        }
        if !filter.include_archived {
            query.push(" AND archived_at IS NULL");
        }
        query.page("created_at", "id", range);
        let rows = self.inner.db.read(query.sql, query.values).await?;
        rows.iter().map(memory_store_of).collect()
    }

    /// How far each of these stores has been written; those that are gone are left out. Whoever has read a store's memories
    /// after this needs to read them again only when it has changed.
    pub async fn memory_store_changes(
        &self,
        workspace: &WorkspaceId,
        ids: &[MemoryStoreId],
    ) -> Result<Vec<(MemoryStoreId, StoreChange)>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = Query::new("SELECT id, written_at FROM memory_stores WHERE workspace = ");
        query.bind(workspace.as_str());
        query.and_in("id", ids.iter().map(MemoryStoreId::as_str));
        let rows = self.inner.db.read(query.sql, query.values).await?;
        rows.iter()
            .map(|row| {
                let id = MemoryStoreId::parse(row.text(0)?).map_err(|error| Error::Damaged {
                    item: "the id of a memory store".to_owned(),
                    reason: error.to_string(),
                })?;
                Ok((id, StoreChange(row.int(1)?)))
            })
            .collect()
    }
}

/// How far a store has been written: two that are equal mean the same memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreChange(i64);

const SELECT_ONE: &str =
    "SELECT body, id, checksum, written_at FROM memory_stores WHERE id = $1 AND workspace = $2";

/// A store under its lock.
pub(super) struct LockedStore {
    pub(super) store: MemoryStore,
    pub(super) written_at: Timestamp,
}

pub(super) async fn lock_store(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &MemoryStoreId,
) -> Result<Option<LockedStore>, Error> {
    let values = values![id.as_str(), workspace.as_str()];
    let rows = tx.locked(Lock::Update, SELECT_ONE, values).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(LockedStore {
        store: memory_store_of(row)?,
        written_at: row.time(3)?,
    }))
}
