//! The ids in paths, typed.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use manyhands_protocol::id::{ApiKeyId, IdError, UserProfileId};
use manyhands_protocol::{
    AgentId, CredentialId, EnvironmentId, FileId, MemoryId, MemoryStoreId, MemoryVersionId,
    ResourceId, SessionId, SkillId, ThreadId, VaultId, WorkspaceId,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api::error::ApiError;

/// The ids in the path, in order of the route's pattern.
#[derive(Clone, Debug)]
pub(crate) struct Ids(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::invalid("the path cannot be read"))?;
        Ok(Self(
            params
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        ))
    }
}

impl Ids {
    fn id<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, IdError>) -> Result<T, ApiError> {
        parse(self.text(name)).map_err(|problem| ApiError::field(name, problem.to_string()))
    }

    /// The raw text of a parameter.
    pub(crate) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map_or("", |(_, value)| value)
    }

    /// `{agent_id}`.
    pub(crate) fn agent(&self) -> Result<AgentId, ApiError> {
        self.id("agent_id", AgentId::parse)
    }

    /// `{environment_id}`.
    pub(crate) fn environment(&self) -> Result<EnvironmentId, ApiError> {
        self.id("environment_id", EnvironmentId::parse)
    }

    /// `{session_id}`.
    pub(crate) fn session(&self) -> Result<SessionId, ApiError> {
        self.id("session_id", SessionId::parse)
    }

    /// `{file_id}`.
    pub(crate) fn file(&self) -> Result<FileId, ApiError> {
        self.id("file_id", FileId::parse)
    }

    /// `{resource_id}`.
    pub(crate) fn resource(&self) -> Result<ResourceId, ApiError> {
        self.id("resource_id", ResourceId::parse)
    }

    /// `{vault_id}`.
    pub(crate) fn vault(&self) -> Result<VaultId, ApiError> {
        self.id("vault_id", VaultId::parse)
    }

    /// `{credential_id}`.
    pub(crate) fn credential(&self) -> Result<CredentialId, ApiError> {
        self.id("credential_id", CredentialId::parse)
    }

    /// `{user_profile_id}`.
    pub(crate) fn user_profile(&self) -> Result<UserProfileId, ApiError> {
        self.id("user_profile_id", UserProfileId::parse)
    }

    /// `{memory_store_id}`.
    pub(crate) fn memory_store(&self) -> Result<MemoryStoreId, ApiError> {
        self.id("memory_store_id", MemoryStoreId::parse)
    }

    /// `{memory_id}`.
    pub(crate) fn memory(&self) -> Result<MemoryId, ApiError> {
        self.id("memory_id", MemoryId::parse)
    }

    /// `{memory_version_id}`.
    pub(crate) fn memory_version(&self) -> Result<MemoryVersionId, ApiError> {
        self.id("memory_version_id", MemoryVersionId::parse)
    }

    /// `{skill_id}`.
    pub(crate) fn skill(&self) -> Result<SkillId, ApiError> {
        self.id("skill_id", SkillId::parse)
    }

    /// `{key_id}`.
    pub(crate) fn key(&self) -> Result<ApiKeyId, ApiError> {
        self.id("key_id", ApiKeyId::parse)
    }

    /// `{workspace_id}`.
    pub(crate) fn workspace(&self) -> Result<WorkspaceId, ApiError> {
        self.id("workspace_id", WorkspaceId::parse)
    }

    /// `{thread_id}`.
    pub(crate) fn thread(&self) -> Result<ThreadId, ApiError> {
        self.id("thread_id", ThreadId::parse)
    }
}

/// The schema of a path's parameter.
pub(crate) fn path_schema(name: &str) -> Schema {
    let generator = &mut SchemaGenerator::default();
    match name {
        "agent_id" => AgentId::json_schema(generator),
        "environment_id" => EnvironmentId::json_schema(generator),
        "session_id" => SessionId::json_schema(generator),
        "resource_id" => ResourceId::json_schema(generator),
        "thread_id" => ThreadId::json_schema(generator),
        "vault_id" => VaultId::json_schema(generator),
        "credential_id" => CredentialId::json_schema(generator),
        "file_id" => FileId::json_schema(generator),
        "memory_store_id" => MemoryStoreId::json_schema(generator),
        "memory_id" => MemoryId::json_schema(generator),
        "memory_version_id" => MemoryVersionId::json_schema(generator),
        "skill_id" => SkillId::json_schema(generator),
        "user_profile_id" => UserProfileId::json_schema(generator),
        "workspace_id" => WorkspaceId::json_schema(generator),
        _ => json_schema!({"type": "string"}),
    }
}
