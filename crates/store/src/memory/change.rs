//! Changes of memories, each with its version (runtime ME-5, ME-6, ME-8).

mod write;

use manyhands_protocol::memory::{Access, Actor, CONTENT, Memory, MemoryPath};
use manyhands_protocol::{MemoryId, MemoryStoreId, Timestamp, WorkspaceId};

use super::attached::access_of;
use super::stores::lock_store;
use crate::db::Scope;
use crate::error::Error;
use crate::quota;
use crate::reserve::Purpose;
use crate::store::Store;

use write::Write;

/// A memory that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this id.
    Id(MemoryId),
    /// The one that is here now.
    Path(MemoryPath),
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A new memory; never in the place of another.
    Create {
        /// Where.
        path: MemoryPath,
        /// At most [`CONTENT`] bytes.
        content: String,
    },
    /// Another text, or another path, or both. Where nothing would be different nothing is done, whatever is expected.
    Update {
        /// Of which.
        memory: Which,
        /// At most [`CONTENT`] bytes; `None` keeps it.
        content: Option<String>,
        /// `None` keeps it.
        path: Option<MemoryPath>,
        /// The hash that its text must have now.
        expected: Option<String>,
    },
    /// The end.
    Delete {
        /// Of which.
        memory: Which,
        /// The hash that its text must have now.
        expected: Option<String>,
    },
}

impl Mutation {
    fn bytes(&self) -> usize {
        match self {
            Self::Create { content, .. } => content.len(),
            Self::Update { content, .. } => content.as_ref().map_or(0, String::len),
            Self::Delete { .. } => 0,
        }
    }

    fn purpose(&self) -> Purpose {
        match self {
            Self::Create { .. } | Self::Update { .. } => Purpose::Begins,
            Self::Delete { .. } => Purpose::Ends,
        }
    }
}

/// What became of a change. Unless it is done, nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Done: the memory as it is now, or was until now, without its text. `memory_version_id` is the new version.
    Done(Memory),
    /// The memory is so already; there is no new version.
    Same(Memory),
    /// There is no such store, or the session that asks does not have it.
    NoStore,
    /// There is no such memory in the store.
    NoMemory,
    /// The store is archived: memories are neither made nor changed (runtime ME-11).
    Archived,
    /// The session that asks may only read the store.
    ReadOnly,
    /// This memory is at the path, above it or below it (runtime ME-5).
    Occupied {
        /// Which.
        memory: MemoryId,
        /// Where.
        path: MemoryPath,
    },
    /// The memory's text is not the expected one (runtime ME-6). As it is, without the text.
    Unexpected(Memory),
    /// The store has [`MEMORIES`](manyhands_protocol::memory::MEMORIES) (runtime ME-4), or the workspace has all the bytes that it may have.
    Full,
}

impl Store {
    /// Changes a memory, and writes the version that says so, for this actor. A session must have the store, and may write to
    /// it only if it has it so.
    pub async fn change_memory(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        actor: Actor,
        mutation: Mutation,
    ) -> Result<Changed, Error> {
        if mutation.bytes() > CONTENT {
            return Err(Error::Invalid {
                operation: "changing a memory",
                reason: format!("its content has more than {CONTENT} bytes"),
            });
        }
        let (workspace, store) = (workspace.clone(), store.clone());
        let services = self.inner.services.clone();
        let scope = Scope::of(store.as_str())
            .with_bytes(mutation.bytes())
            .with_purpose(mutation.purpose());
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    // The workspace before the store, as who makes a session takes them: neither waits for the other.
                    if mutation.bytes() > 0 {
                        quota::hold(tx, &services, &workspace).await?;
                    }
                    let Some(locked) = lock_store(tx, &workspace, &store).await? else {
                        return Ok(Changed::NoStore);
                    };
                    if let Actor::SessionActor { session_id } = &actor {
                        match access_of(tx, session_id, &store).await? {
                            None => return Ok(Changed::NoStore),
                            Some(Access::ReadOnly) => return Ok(Changed::ReadOnly),
                            Some(Access::ReadWrite) => {}
                        }
                    }
                    if locked.store.archived_at.is_some()
                        && !matches!(mutation, Mutation::Delete { .. })
                    {
                        return Ok(Changed::Archived);
                    }
                    let now = services.clock.now();
                    let write = Write {
                        workspace,
                        services,
                        store,
                        actor,
                        at: now.max(Timestamp::from_micros(locked.written_at.as_micros() + 1)),
                    };
                    match mutation {
                        Mutation::Create { path, content } => write.create(tx, path, content).await,
                        Mutation::Update {
                            memory,
                            content,
                            path,
                            expected,
                        } => {
                            let Some(memory) = write.find(tx, memory).await? else {
                                return Ok(Changed::NoMemory);
                            };
                            write.update(tx, memory, content, path, expected).await
                        }
                        Mutation::Delete { memory, expected } => {
                            let Some(memory) = write.find(tx, memory).await? else {
                                return Ok(Changed::NoMemory);
                            };
                            write.delete(tx, memory, expected).await
                        }
                    }
                })
            })
            .await
    }
}
