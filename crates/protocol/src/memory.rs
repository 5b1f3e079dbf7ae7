//! Memory stores, the memories in them, and their versions (api §17). The rules of paths and contents, and where a session has
//! its stores, are beside: all pure.

mod mount;
mod path;
mod resource;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ApiKeyId;
use crate::patch::Patch;
use crate::{MemoryId, MemoryStoreId, MemoryVersionId, Metadata, SessionId, Timestamp, tag};

pub use mount::{MOUNTS, mount_paths, slug};
pub use path::{MemoryPath, PathProblem};
pub use resource::{Access, MemoryStoreResource, MemoryStoreResourceParams};

/// A memory has at most so many bytes (runtime ME-2).
pub const CONTENT: usize = 102_400;
/// A store has at most so many memories (runtime ME-4).
pub const MEMORIES: u32 = 10_000;
/// A session has at most so many stores (runtime ME-12).
pub const STORES: usize = 8;

/// A memory store, as shown in responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStore {
    /// Its id.
    pub id: MemoryStoreId,
    /// Always `"memory_store"`.
    #[serde(rename = "type")]
    pub kind: tag::MemoryStore,
    /// Its name; others may have the same.
    pub name: String,
    /// What it is for, as agents read it; empty when it is not said.
    pub description: String,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it, not what is in it, last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Body of a memory store create.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct MemoryStoreCreateParams {
    /// Required, 1 to 255 characters, none of them a control character.
    pub name: String,
    /// Optional, up to 1,024 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Optional.
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// Body of a memory store update: omitted fields keep their value.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MemoryStoreUpdateParams {
    /// Null keeps.
    pub name: Option<String>,
    /// Null keeps, an empty text clears.
    pub description: Option<String>,
    /// Per key; null deletes.
    pub metadata: Option<BTreeMap<String, Option<String>>>,
}

/// The answer to a delete of a memory store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStoreDeleted {
    /// The store that is gone.
    pub id: MemoryStoreId,
    /// Always `"memory_store_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::MemoryStoreDeleted,
}

/// A memory: a text at a path of its store (runtime ME-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Its id, which a rename does not change.
    pub id: MemoryId,
    /// Always `"memory"`.
    #[serde(rename = "type")]
    pub kind: tag::Memory,
    /// Its store.
    pub memory_store_id: MemoryStoreId,
    /// The version that is its present state.
    pub memory_version_id: MemoryVersionId,
    /// Where it is.
    pub path: MemoryPath,
    /// Its text; null in the basic view (runtime ME-7).
    pub content: Option<String>,
    /// The SHA-256 of the text's bytes, in lowercase hex.
    pub content_sha256: String,
    /// How many bytes the text has.
    pub content_size_bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Memories further down than a list was asked for, as one item of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryPrefix {
    /// Always `"memory_prefix"`.
    #[serde(rename = "type")]
    pub kind: tag::MemoryPrefix,
    /// What their paths begin with, up to and with a slash.
    pub path: String,
}

/// An item of a list of memories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MemoryListItem {
    /// A memory.
    Memory(Memory),
    /// What lies further down.
    Prefix(MemoryPrefix),
}

impl MemoryListItem {
    /// Where it stands in a list, which is sorted by the bytes of this.
    pub fn path(&self) -> &str {
        match self {
            Self::Memory(memory) => memory.path.as_str(),
            Self::Prefix(prefix) => &prefix.path,
        }
    }
}

/// How much of a memory or of a version is shown (runtime ME-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// All but the text.
    Basic,
    /// The text too.
    Full,
}

/// Body of a memory create.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct MemoryCreateParams {
    /// Required; free in the store.
    pub path: String,
    /// Required; null is the empty text.
    #[serde(default)]
    pub content: Patch<String>,
}

/// Body of a memory update: what is omitted or null stays.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MemoryUpdateParams {
    /// The new text.
    pub content: Option<String>,
    /// The new path.
    pub path: Option<String>,
    /// What must be so for the update to be made.
    pub precondition: Option<Precondition>,
}

/// What must be so for an update to be made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Precondition {
    /// The memory's present text has this SHA-256, in lowercase hex.
    ContentSha256 {
        /// The hash.
        content_sha256: String,
    },
}

/// The answer to a delete of a memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryDeleted {
    /// The memory that is gone.
    pub id: MemoryId,
    /// Always `"memory_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::MemoryDeleted,
}

/// What a version records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The memory's beginning.
    Created,
    /// A new text, or a new path.
    Modified,
    /// The memory's end.
    Deleted,
}

impl Operation {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
        }
    }

    /// The operation with this text.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Created, Self::Modified, Self::Deleted];
        all.into_iter().find(|each| each.as_str() == text)
    }
}

/// Who changed a memory, or redacted a version (runtime ME-8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Actor {
    /// An agent, through the files of its session.
    SessionActor {
        /// The session, which may be gone.
        session_id: SessionId,
    },
    /// A client with an API key.
    ApiActor {
        /// The key's record, not the key.
        api_key_id: ApiKeyId,
    },
    /// A person who is signed in.
    UserActor {
        /// Who.
        user_id: String,
    },
    /// A service account.
    ServiceAccountActor {
        /// Which.
        service_account_id: String,
    },
}

impl Actor {
    /// The id of whoever it is; ids of different kinds are different.
    pub fn id(&self) -> &str {
        match self {
            Self::SessionActor { session_id } => session_id.as_str(),
            Self::ApiActor { api_key_id } => api_key_id.as_str(),
            Self::UserActor { user_id } => user_id,
            Self::ServiceAccountActor { service_account_id } => service_account_id,
        }
    }
}

/// One change of a memory. Nothing but its redaction alters it (runtime ME-8, ME-10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryVersion {
    /// Its id.
    pub id: MemoryVersionId,
    /// Always `"memory_version"`.
    #[serde(rename = "type")]
    pub kind: tag::MemoryVersion,
    /// The memory, which may be gone.
    pub memory_id: MemoryId,
    /// The store.
    pub memory_store_id: MemoryStoreId,
    /// What was done.
    pub operation: Operation,
    /// Where the memory was then; null once redacted.
    pub path: Option<MemoryPath>,
    /// Its text then; null in the basic view, of a deletion, and once redacted.
    pub content: Option<String>,
    /// The text's SHA-256 in lowercase hex; null of a deletion, and once redacted.
    pub content_sha256: Option<String>,
    /// The text's bytes; null of a deletion, and once redacted.
    pub content_size_bytes: Option<u64>,
    /// Who did it.
    pub created_by: Option<Actor>,
    /// When it was done: of two versions in a store the later one's time is later.
    pub created_at: Timestamp,
    /// When it was redacted.
    pub redacted_at: Option<Timestamp>,
    /// Who redacted it.
    pub redacted_by: Option<Actor>,
}

/// Whether a text can be a SHA-256 in lowercase hex.
pub fn is_sha256(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn me_6_a_hash_is_64_lowercase_hexadecimal_digits() {
        #[track_caller]
        fn check(text: &str, expected: bool) {
            assert_eq!(is_sha256(text), expected, "{text}");
        }
        check(&"0af9".repeat(16), true);
        check(&"0AF9".repeat(16), false);
        check(&"0af9".repeat(15), false);
        check(&"0afg".repeat(16), false);
        check("", false);
    }

    /// api §17.4
    #[test]
    fn me_8_actors_are_told_apart_by_their_type() {
        let actor = Actor::ApiActor {
            api_key_id: ApiKeyId::parse("apikey_1").expect("an id"),
        };
        let json = serde_json::to_value(&actor).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({"type": "api_actor", "api_key_id": "apikey_1"})
        );
        assert_eq!(
            serde_json::from_value::<Actor>(json).expect("an actor"),
            actor
        );
    }
}
