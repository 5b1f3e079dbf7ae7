//! API keys: stored hashed, looked up by hash.

use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::{Timestamp, WorkspaceId};

/// SHA-256 of a key's text.
pub type KeyHash = [u8; 32];

/// A key's record; the key itself is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The workspace it opens.
    pub workspace: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// The first characters of the key, to recognise it by.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}
