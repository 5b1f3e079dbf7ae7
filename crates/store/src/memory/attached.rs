//! The stores that a session has, from its beginning to its end (runtime ME-12).

use manyhands_protocol::memory::{Access, MemoryStoreResource, mount_paths};
use manyhands_protocol::{MemoryStoreId, SessionId, WorkspaceId};

use super::{memory_store_of, resource_of};
use crate::body;
use crate::db::{Lock, Tx, values};
use crate::entry::NewEntry;
use crate::error::Error;
use crate::log::json;
use crate::store::Store;

/// A store that a session is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The store, of the same workspace; none is there twice.
    pub store: MemoryStoreId,
    /// What the session may do with it.
    pub access: Access,
    /// How it is to use it.
    pub instructions: Option<String>,
}

/// The type of the private entry with which the log of a session begins that has memory stores. Its body is a list of
/// [`MemoryStoreResource`]s, in their order.
pub const MEMORY_STORES: &str = "memory_stores";

/// Why a store is not attached. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachRefusal {
    /// There is no such store in the workspace: the one at this place among those asked for.
    NoStore(usize),
    /// The one at this place is archived (runtime ME-11).
    Archived(usize),
}

impl Store {
    /// The stores that a session has, in the order of its creation. Also those that are gone.
    pub async fn session_memory_stores(
        &self,
        session: &SessionId,
    ) -> Result<Vec<MemoryStoreResource>, Error> {
        let sql = "SELECT body, store_id, checksum FROM session_memory_stores WHERE session_id = $1 ORDER BY place";
        self.inner
            .db
            .list(sql, values![session.as_str()], resource_of)
            .await
    }

    /// The stores that several sessions have, of each in the order of its creation.
    pub async fn memory_stores_of(
        &self,
        sessions: &[SessionId],
    ) -> Result<Vec<(SessionId, MemoryStoreResource)>, Error> {
        self.of_sessions(
            sessions,
            "SELECT body, store_id, checksum, session_id FROM session_memory_stores WHERE place >= 0",
            " ORDER BY session_id, place",
            resource_of,
        )
        .await
    }
}

/// What a session may do with a store that it has.
pub(super) async fn access_of(
    tx: &mut Tx,
    session: &SessionId,
    store: &MemoryStoreId,
) -> Result<Option<Access>, Error> {
    let sql = "SELECT body, store_id, checksum FROM session_memory_stores WHERE session_id = $1 AND store_id = $2";
    let values = values![session.as_str(), store.as_str()];
    let resource = tx.find(sql, values, resource_of).await?;
    Ok(resource.map(|resource| resource.access))
}

/// Gives stores to a session that the transaction makes: all of them or none. What they are called is noted down as it is now,
/// and is what the session's log begins with, if there are any.
pub(crate) async fn attach_all(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    wanted: Vec<Attach>,
) -> Result<Result<Option<NewEntry>, AttachRefusal>, Error> {
    let mut stores = Vec::with_capacity(wanted.len());
    for (index, attach) in wanted.iter().enumerate() {
        let sql = "SELECT body, id, checksum FROM memory_stores WHERE id = $1 AND workspace = $2";
        let values = values![attach.store.as_str(), workspace.as_str()];
        match tx.lock(Lock::Share, sql, values, memory_store_of).await? {
            None => return Ok(Err(AttachRefusal::NoStore(index))),
            Some(store) if store.archived_at.is_some() => {
                return Ok(Err(AttachRefusal::Archived(index)));
            }
            Some(store) => stores.push(store),
        }
    }
    let paths = mount_paths(stores.iter().map(|store| store.name.as_str()));
    let wanted = wanted.into_iter().zip(stores).zip(paths);
    let mut attached = Vec::new();
    for (place, ((attach, store), mount_path)) in (0_i64..).zip(wanted) {
        let resource = MemoryStoreResource {
            kind: Default::default(),
            memory_store_id: attach.store,
            access: attach.access,
            instructions: attach.instructions,
            name: store.name,
            description: store.description,
            mount_path,
        };
        let (id, body) = (resource.memory_store_id.as_str(), json(&resource)?);
        tx.run(
            "INSERT INTO session_memory_stores (session_id, store_id, workspace, place, body, checksum)
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![
                session.as_str(),
                id,
                workspace.as_str(),
                place,
                body.as_str(),
                body::checksum(id, &body),
            ],
        )
        .await?;
        attached.push(resource);
    }
    let entry = NewEntry::Private {
        type_name: MEMORY_STORES,
        body: json(&attached)?,
    };
    Ok(Ok((!attached.is_empty()).then_some(entry)))
}

/// Takes all stores from a session that goes; they stay, and so does what it wrote.
pub(crate) async fn detach_all(tx: &mut Tx, session: &SessionId) -> Result<(), Error> {
    let sql = "DELETE FROM session_memory_stores WHERE session_id = $1";
    tx.run(sql, values![session.as_str()]).await
}
