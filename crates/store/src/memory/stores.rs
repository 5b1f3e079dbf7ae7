//! Stores themselves (runtime ME-1, ME-11).

use manyhands_protocol::memory::MemoryStore;
use manyhands_protocol::{MemoryStoreId, Timestamp, WorkspaceId};

use super::memory_store_of;
use super::rows::write_store;
use crate::body;
use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::listing::{Filter, Query, Range};
use crate::log::json;
use crate::quota::{self, Thing};
use crate::reserve::Purpose;
use crate::resource::{Place, Resource, is_locked};
use crate::store::Store;

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
        self.find(Place::new(workspace, id.as_str())).await
    }

    /// Changes a memory store under its lock; as [`update_agent`](Self::update_agent).
    pub async fn update_memory_store<R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
        decide: impl FnOnce(&MemoryStore) -> Result<Option<MemoryStore>, R> + Send + 'static,
    ) -> Result<Option<Result<MemoryStore, R>>, Error> {
        let place = Place::new(workspace, id.as_str());
        self.update(place, None, decide).await
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
        let (place, id) = (Place::new(workspace, id.as_str()), id.clone());
        let purge = self.inner.services.purge.clone();
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    if !is_locked::<MemoryStore>(tx, &place).await? {
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
        filter: &Filter,
        range: &Range,
    ) -> Result<Vec<MemoryStore>, Error> {
        let query = Query::listed(
            "SELECT body, id, checksum FROM memory_stores WHERE workspace = ",
            workspace,
            filter,
            range,
        );
        self.inner
            .db
            .list(query.sql, query.values, memory_store_of)
            .await
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
                let id = MemoryStoreId::parse(row.text(0)?)
                    .map_err(|error| Error::damaged("the id of a memory store", error))?;
                Ok((id, StoreChange(row.int(1)?)))
            })
            .collect()
    }
}

/// How far a store has been written: two that are equal mean the same memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreChange(i64);

impl Resource for MemoryStore {
    const SELECT: &'static str =
        "SELECT body, id, checksum, written_at FROM memory_stores WHERE id = $1 AND workspace = $2";

    fn of(row: &Row) -> Result<Self, Error> {
        memory_store_of(row)
    }

    async fn write(tx: &mut Tx, _: &Place, _: Self, new: Self) -> Result<Self, Error> {
        write_store(tx, &new).await?;
        failpoint!("store::memory_store::updated");
        Ok(new)
    }
}

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
    let values = Place::new(workspace, id.as_str()).values();
    let locked = |row: &Row| {
        Ok(LockedStore {
            store: memory_store_of(row)?,
            written_at: row.time(3)?,
        })
    };
    tx.lock(Lock::Update, MemoryStore::SELECT, values, locked)
        .await
}
