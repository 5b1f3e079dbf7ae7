//! Files, and the file resources of sessions (api §8, §18).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FileId, ResourceId, SessionId, Timestamp, tag};

/// The largest file, bytes (runtime HT-14).
pub const LARGEST: u64 = 500 << 20;

/// Where a sandbox reads the files of its session.
pub const UPLOADS: &str = "/mnt/session/uploads";

/// A file's metadata, as shown in responses. Old and new clients read the same members (api §28).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Its id.
    pub id: FileId,
    /// Always `"file"`.
    #[serde(rename = "type")]
    pub kind: tag::File,
    /// The last part of the name it was sent with.
    pub filename: String,
    /// What kind of content it has.
    pub mime_type: String,
    /// How many bytes.
    pub size_bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether its content can be had: outputs of sessions, not what clients have sent.
    pub downloadable: bool,
    /// When its content goes away; null when it stays.
    pub expires_at: Option<Timestamp>,
    /// The session it belongs to and goes away with; null for what clients have sent.
    pub scope: Option<FileScope>,
}

/// What a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FileScope {
    /// A session.
    Session {
        /// Its id.
        id: SessionId,
    },
}

/// A page of files in both forms: cursors, and ids for old clients (api §28).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilePage {
    /// The files, newest first.
    pub data: Vec<File>,
    /// Send as `page` to go on; null at the end.
    pub next_page: Option<String>,
    /// Whether there are more in the direction asked for.
    pub has_more: bool,
    /// The first one's id; null when empty.
    pub first_id: Option<FileId>,
    /// The last one's id; null when empty.
    pub last_id: Option<FileId>,
}

/// The answer to a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDeleted {
    /// The file that is gone.
    pub id: FileId,
    /// Always `"file_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::FileDeleted,
}

/// A file that a session's sandbox reads (runtime FI-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileResource {
    /// Its id.
    pub id: ResourceId,
    /// Always `"file"`.
    #[serde(rename = "type")]
    pub kind: tag::File,
    /// The session's own copy of the file (runtime ID-3).
    pub file_id: FileId,
    /// Where the sandbox reads it.
    pub mount_path: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A file resource to be added.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct FileResourceParams {
    /// The file, which stays as it is.
    pub file_id: String,
    /// Where, below the folder of uploads; by default under the name of its id.
    #[serde(default)]
    pub mount_path: Option<String>,
}

/// The answer to a resource's delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceDeleted {
    /// The resource that is gone.
    pub id: ResourceId,
    /// Always `"session_resource_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::ResourceDeleted,
}
