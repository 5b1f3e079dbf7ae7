//! The rows of stores, memories and versions.

use aws_lc_rs::digest::{SHA256, digest};
use manyhands_protocol::memory::{Memory, MemoryStore, MemoryStoreResource, MemoryVersion};

use crate::body;
use crate::db::{Row, Tx, values};
use crate::error::Error;
use crate::log::json;

/// The columns of a memory `m`, as [`memory_of`] takes them.
macro_rules! memory_columns {
    () => {
        "m.body, m.id, m.checksum, m.path, m.version_id"
    };
}
pub(super) use memory_columns;

/// The SHA-256 of a memory's bytes, in lowercase hex (runtime ME-2).
pub fn sha256(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A store whose body, id and checksum are a row's first columns.
pub(crate) fn memory_store_of(row: &Row) -> Result<MemoryStore, Error> {
    let store: MemoryStore = body::parsed(row, "memory store")?;
    if store.id.as_str() == row.text(1)? {
        return Ok(store);
    }
    let reason = "its body is that of another store";
    Err(Error::damaged(
        format!("memory store {}", row.text(1)?),
        reason,
    ))
}

/// A memory, without its text, from its columns.
pub(crate) fn memory_of(row: &Row) -> Result<Memory, Error> {
    let memory: Memory = body::parsed(row, "memory")?;
    let is_it = memory.id.as_str() == row.text(1)?
        && memory.path.as_str() == row.text(3)?
        && memory.memory_version_id.as_str() == row.text(4)?;
    if is_it {
        return Ok(memory);
    }
    let reason = "its body is that of another memory, path or version";
    Err(Error::damaged(format!("memory {}", row.text(1)?), reason))
}

/// A version, without its text, whose body, id and checksum are a row's first columns.
pub(crate) fn version_of(row: &Row) -> Result<MemoryVersion, Error> {
    let version: MemoryVersion = body::parsed(row, "memory version")?;
    if version.id.as_str() == row.text(1)? {
        return Ok(version);
    }
    let reason = "its body is that of another version";
    Err(Error::damaged(
        format!("memory version {}", row.text(1)?),
        reason,
    ))
}

/// What a session has of a store, from its body, its session's id and its checksum.
pub(crate) fn resource_of(row: &Row) -> Result<MemoryStoreResource, Error> {
    body::parsed(row, "a memory store of session")
}

/// The text of stored bytes, when they have the hash that is noted down for them (security STORE-3).
pub(crate) fn whole(id: &str, bytes: &[u8], expected: &str) -> Result<String, Error> {
    let damaged =
        |reason: &str| Error::damaged(format!("the content of memory version {id}"), reason);
    if sha256(bytes) != expected {
        return Err(damaged("it does not have its hash"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|error| damaged(&error.to_string()))
}

pub(super) async fn write_store(tx: &mut Tx, store: &MemoryStore) -> Result<(), Error> {
    let body = json(store)?;
    tx.run(
        "UPDATE memory_stores SET body = $2, checksum = $3, archived_at = $4 WHERE id = $1",
        values![
            store.id.as_str(),
            body.as_str(),
            body::checksum(store.id.as_str(), &body),
            store.archived_at,
        ],
    )
    .await
}

/// Writes a memory's row, which is there or is not.
pub(super) async fn put_memory(tx: &mut Tx, memory: &Memory) -> Result<(), Error> {
    let (id, body) = (memory.id.as_str(), json(memory)?);
    tx.run(
        "INSERT INTO memories (id, store_id, path, version_id, body, checksum) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET path = excluded.path, version_id = excluded.version_id,
             body = excluded.body, checksum = excluded.checksum",
        values![
            id,
            memory.memory_store_id.as_str(),
            memory.path.as_str(),
            memory.memory_version_id.as_str(),
            body.as_str(),
            body::checksum(id, &body),
        ],
    )
    .await
}

/// Adds a version with these bytes as its text; its own `content` is empty.
pub(super) async fn add_version(
    tx: &mut Tx,
    version: &MemoryVersion,
    content: &[u8],
    kept: bool,
) -> Result<(), Error> {
    let (id, body) = (version.id.as_str(), json(version)?);
    tx.run(
        "INSERT INTO memory_versions (id, store_id, memory_id, operation, created_by, body, checksum, content, kept,
             created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        values![
            id,
            version.memory_store_id.as_str(),
            version.memory_id.as_str(),
            version.operation.as_str(),
            version.created_by.as_ref().map(|actor| actor.id()),
            body.as_str(),
            body::checksum(id, &body),
            content,
            kept,
            version.created_at,
        ],
    )
    .await
}
