//! What a change writes: the memory as it is from now on, and the version that made it so.

use manyhands_protocol::memory::{Actor, MEMORIES, Memory, MemoryPath, MemoryVersion, Operation};
use manyhands_protocol::{MemoryId, MemoryStoreId, MemoryVersionId, Timestamp, WorkspaceId};

use super::{Changed, Which};
use crate::db::{Row, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::memory::rows::{add_version, memory_columns, put_memory};
use crate::memory::{memory_of, sha256, whole};
use crate::quota;
use crate::store::Services;

/// So many versions of a memory that is there are kept however old they get (runtime ME-9).
const RECENT: u32 = 10;

/// A change of a store whose lock the transaction has.
pub(super) struct Write {
    pub(super) workspace: WorkspaceId,
    pub(super) services: Services,
    pub(super) store: MemoryStoreId,
    pub(super) actor: Actor,
    pub(super) at: Timestamp,
}

impl Write {
    pub(super) async fn find(&self, tx: &mut Tx, which: Which) -> Result<Option<Memory>, Error> {
        let (sql, value) = match &which {
            Which::Id(id) => (SELECT_BY_ID, id.as_str()),
            Which::Path(path) => (SELECT_BY_PATH, path.as_str()),
        };
        tx.find(sql, values![self.store.as_str(), value], memory_of)
            .await
    }

    pub(super) async fn create(
        self,
        tx: &mut Tx,
        path: MemoryPath,
        content: String,
    ) -> Result<Changed, Error> {
        if let Some(occupied) = self.occupied(tx, &path, None).await? {
            return Ok(occupied);
        }
        let sql = "SELECT COUNT(*) FROM memories WHERE store_id = $1";
        let count = tx.one(sql, values![self.store.as_str()]).await?;
        if count.map_or(Ok(0), |row| row.int(0))? >= i64::from(MEMORIES) {
            return Ok(Changed::Full);
        }
        if let Some(full) = self.full(tx, content.len() as u64).await? {
            return Ok(full);
        }
        let memory = Memory {
            id: MemoryId::generate(),
            kind: Default::default(),
            memory_store_id: self.store.clone(),
            memory_version_id: MemoryVersionId::generate(),
            path,
            content: None,
            content_sha256: sha256(content.as_bytes()),
            content_size_bytes: content.len() as u64,
            created_at: self.at,
            updated_at: self.at,
        };
        self.keep(tx, memory, Operation::Created, content.as_bytes())
            .await
    }

    pub(super) async fn update(
        self,
        tx: &mut Tx,
        memory: Memory,
        content: Option<String>,
        path: Option<MemoryPath>,
        expected: Option<String>,
    ) -> Result<Changed, Error> {
        let hash = content.as_ref().map(|content| sha256(content.as_bytes()));
        let hash = hash.unwrap_or_else(|| memory.content_sha256.clone());
        let path = path.unwrap_or_else(|| memory.path.clone());
        if hash == memory.content_sha256 && path == memory.path {
            return Ok(Changed::Same(memory));
        }
        if expected.is_some_and(|expected| expected != memory.content_sha256) {
            return Ok(Changed::Unexpected(memory));
        }
        if path != memory.path
            && let Some(occupied) = self.occupied(tx, &path, Some(&memory.id)).await?
        {
            return Ok(occupied);
        }
        // What gets smaller, and what only moves, may be what somebody does who is short of room.
        let grown = content.as_ref().map_or(0, String::len) as u64;
        if hash != memory.content_sha256
            && grown >= memory.content_size_bytes
            && let Some(full) = self.full(tx, grown).await?
        {
            return Ok(full);
        }
        let content = match content {
            Some(content) => content.into_bytes(),
            None => self.content_of(tx, &memory).await?,
        };
        let memory = Memory {
            memory_version_id: MemoryVersionId::generate(),
            path,
            content_sha256: hash,
            content_size_bytes: content.len() as u64,
            updated_at: self.at,
            ..memory
        };
        self.keep(tx, memory, Operation::Modified, &content).await
    }

    /// Whether a text of so many bytes is too much for the workspace: a session's agent is told that there is no room, and goes
    /// on; others are refused.
    async fn full(&self, tx: &mut Tx, bytes: u64) -> Result<Option<Changed>, Error> {
        match quota::more_bytes(tx, &self.services, &self.workspace, bytes).await {
            Ok(()) => Ok(None),
            Err(Error::OverQuota { .. }) if matches!(self.actor, Actor::SessionActor { .. }) => {
                Ok(Some(Changed::Full))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn delete(
        self,
        tx: &mut Tx,
        memory: Memory,
        expected: Option<String>,
    ) -> Result<Changed, Error> {
        if expected.is_some_and(|expected| expected != memory.content_sha256) {
            return Ok(Changed::Unexpected(memory));
        }
        let memory = Memory {
            memory_version_id: MemoryVersionId::generate(),
            updated_at: self.at,
            ..memory
        };
        for sql in [
            "DELETE FROM memories WHERE id = $1",
            "UPDATE memory_versions SET kept = 0 WHERE memory_id = $1 AND kept = 1",
        ] {
            tx.run(sql, values![memory.id.as_str()]).await?;
        }
        let version = self.version(&memory, Operation::Deleted);
        add_version(tx, &version, &[], false).await?;
        self.wrote(tx).await?;
        failpoint!("store::memory::deleted");
        Ok(Changed::Done(memory))
    }

    /// Writes a memory as it is from now on, and the version that made it so.
    async fn keep(
        &self,
        tx: &mut Tx,
        memory: Memory,
        operation: Operation,
        content: &[u8],
    ) -> Result<Changed, Error> {
        put_memory(tx, &memory).await?;
        add_version(tx, &self.version(&memory, operation), content, true).await?;
        tx.run(
            "UPDATE memory_versions SET kept = 0 WHERE id = (SELECT id FROM memory_versions
             WHERE memory_id = $1 AND kept = 1 ORDER BY created_at DESC LIMIT 1 OFFSET $2)",
            values![memory.id.as_str(), RECENT],
        )
        .await?;
        self.wrote(tx).await?;
        failpoint!("store::memory::written");
        Ok(Changed::Done(memory))
    }

    fn version(&self, memory: &Memory, operation: Operation) -> MemoryVersion {
        let is_there = operation != Operation::Deleted;
        MemoryVersion {
            id: memory.memory_version_id.clone(),
            kind: Default::default(),
            memory_id: memory.id.clone(),
            memory_store_id: self.store.clone(),
            operation,
            path: Some(memory.path.clone()),
            content: None,
            content_sha256: is_there.then(|| memory.content_sha256.clone()),
            content_size_bytes: is_there.then_some(memory.content_size_bytes),
            created_by: Some(self.actor.clone()),
            created_at: self.at,
            redacted_at: None,
            redacted_by: None,
        }
    }

    async fn wrote(&self, tx: &mut Tx) -> Result<(), Error> {
        let sql = "UPDATE memory_stores SET written_at = $2 WHERE id = $1";
        tx.run(sql, values![self.store.as_str(), self.at]).await
    }

    async fn content_of(&self, tx: &mut Tx, memory: &Memory) -> Result<Vec<u8>, Error> {
        let version = memory.memory_version_id.as_str();
        let sql = "SELECT content FROM memory_versions WHERE id = $1";
        let row = tx.one(sql, values![version]).await?;
        let row = row.ok_or_else(|| {
            Error::damaged(format!("memory {}", memory.id), "its version is missing")
        })?;
        let content = whole(version, row.bytes(0)?, &memory.content_sha256)?;
        Ok(content.into_bytes())
    }

    /// Whether another memory than `but` is at a path, above it or below it (api §17.2).
    async fn occupied(
        &self,
        tx: &mut Tx,
        path: &MemoryPath,
        but: Option<&MemoryId>,
    ) -> Result<Option<Changed>, Error> {
        let but = but.map_or("", MemoryId::as_str);
        for place in path.ancestors().chain([path.as_str()]) {
            let sql =
                "SELECT id, path FROM memories WHERE store_id = $1 AND path = $2 AND id <> $3";
            let row = tx
                .one(sql, values![self.store.as_str(), place, but])
                .await?;
            if let Some(row) = row {
                return occupied_by(&row).map(Some);
            }
        }
        let (from, to) = (format!("{path}/"), format!("{path}0"));
        tx.find("SELECT id, path FROM memories WHERE store_id = $1 AND path > $2 AND path < $3 AND id <> $4
                 ORDER BY path LIMIT 1",
                values![self.store.as_str(), from, to, but], occupied_by).await
    }
}

const SELECT_BY_ID: &str = concat!(
    "SELECT ",
    memory_columns!(),
    " FROM memories m WHERE m.store_id = $1 AND m.id = $2"
);
const SELECT_BY_PATH: &str = concat!(
    "SELECT ",
    memory_columns!(),
    " FROM memories m WHERE m.store_id = $1 AND m.path = $2"
);

fn occupied_by(row: &Row) -> Result<Changed, Error> {
    let damaged = |reason: String| Error::damaged("a memory", reason);
    Ok(Changed::Occupied {
        memory: MemoryId::parse(row.text(0)?).map_err(|error| damaged(error.to_string()))?,
        path: MemoryPath::parse(row.text(1)?).map_err(|error| damaged(error.to_string()))?,
    })
}
