//! A memory store as a resource of a session (api §8, runtime ME-12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{MemoryStoreId, tag};

/// What a session may do with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Everything.
    #[default]
    ReadWrite,
    /// Its files cannot be written (runtime ME-14).
    ReadOnly,
}

/// A memory store that a session has, as responses show it: without an id and without times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStoreResource {
    /// Always `"memory_store"`.
    #[serde(rename = "type")]
    pub kind: tag::MemoryStore,
    /// The store, which may be gone.
    pub memory_store_id: MemoryStoreId,
    /// What the session may do with it.
    pub access: Access,
    /// How this session is to use it, for the prompt.
    pub instructions: Option<String>,
    /// The store's name when the session was made.
    pub name: String,
    /// The store's description when the session was made.
    pub description: String,
    /// Where the sandbox has it.
    pub mount_path: String,
}

/// A memory store in the body of a session create.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct MemoryStoreResourceParams {
    /// Required.
    pub memory_store_id: String,
    /// Null is `read_write`.
    #[serde(default)]
    pub access: Option<Access>,
    /// At most 4,096 characters.
    #[serde(default)]
    pub instructions: Option<String>,
}
