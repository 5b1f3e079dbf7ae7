//! Repositories of sessions (api §8, runtime GH-1 to GH-6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::file::FileResource;
use crate::memory::MemoryStoreResource;
use crate::{ResourceId, Timestamp, tag};

/// The folder below which repositories are cloned (runtime GH-3).
pub const WORKSPACE: &str = "/workspace";

/// A repository that is cloned into a session's sandbox. Its token is never shown (runtime GH-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepositoryResource {
    /// Its id.
    pub id: ResourceId,
    /// Always `"github_repository"`, wherever the repository is.
    #[serde(rename = "type")]
    pub kind: tag::GithubRepository,
    /// Where it is: `https://host/owner/repository`.
    pub url: String,
    /// Where the sandbox has it.
    pub mount_path: String,
    /// What is checked out; null is the default branch.
    pub checkout: Option<Checkout>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it, or its token, last changed.
    pub updated_at: Timestamp,
}

/// What is checked out (runtime GH-3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Checkout {
    /// A branch, at what the host has.
    Branch {
        /// Its name, without `refs/heads/`.
        name: String,
    },
    /// A commit, on no branch.
    Commit {
        /// Its name in full: 40 hexadecimal digits, or 64.
        sha: String,
    },
}

/// What a session has beside its sandbox, as responses show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Resource {
    /// A file that the sandbox reads.
    File(FileResource),
    /// A repository that is cloned into the sandbox.
    Repository(RepositoryResource),
}

impl Resource {
    /// Its id.
    pub fn id(&self) -> &ResourceId {
        match self {
            Self::File(file) => &file.id,
            Self::Repository(repository) => &repository.id,
        }
    }

    /// When it was added.
    pub fn created_at(&self) -> Timestamp {
        match self {
            Self::File(file) => file.created_at,
            Self::Repository(repository) => repository.created_at,
        }
    }

    /// Where the sandbox has it.
    pub fn mount_path(&self) -> &str {
        match self {
            Self::File(file) => &file.mount_path,
            Self::Repository(repository) => &repository.mount_path,
        }
    }
}

/// What a session has, as responses show it: also its memory stores, which have neither an id nor times of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SessionResource {
    /// A file or a repository.
    Own(Resource),
    /// A memory store.
    MemoryStore(MemoryStoreResource),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// api §8: the kinds are told apart by their type, also when they are read again.
    #[test]
    fn gh_1_resources_are_read_as_what_they_were_written() {
        let at = "2026-11-01T00:00:00.000000Z";
        let repository = json!({
            "id": "sesrsc_01J8ZQ3V9X7K5M2N4P6R8T0W1Y", "type": "github_repository", "url": "https://github.com/acme/tools",
            "mount_path": "/workspace/tools", "checkout": {"type": "branch", "name": "main"},
            "created_at": at, "updated_at": at,
        });
        let read: Resource = serde_json::from_value(repository.clone()).expect("a repository");
        assert!(matches!(read, Resource::Repository(_)), "{read:?}");
        assert_eq!(serde_json::to_value(&read).expect("JSON"), repository);
        let mut file = repository;
        file["type"] = json!("file");
        file["file_id"] = json!("file_01J8ZQ3V9X7K5M2N4P6R8T0W1Y");
        let read: Resource = serde_json::from_value(file).expect("a file");
        assert!(matches!(read, Resource::File(_)), "{read:?}");
    }
}
