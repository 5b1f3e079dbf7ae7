//! The constant `"type"` members of resources, as types that serialise to exactly one string.

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            /// The only value.
            #[default]
            #[serde(rename = $text)]
            Value,
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                concat!("tag::", stringify!($name)).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "const": $text})
            }
        }
    )*};
}

tags! {
    /// `"agent"`.
    Agent = "agent";
    /// `"environment"`.
    Environment = "environment";
    /// `"environment_deleted"`.
    EnvironmentDeleted = "environment_deleted";
    /// `"session"`.
    Session = "session";
    /// `"session_thread"`.
    SessionThread = "session_thread";
    /// `"session_deleted"`.
    SessionDeleted = "session_deleted";
    /// `"model"`.
    Model = "model";
    /// `"error"`.
    Error = "error";
    /// `"limit"`.
    Limit = "limit";
    /// `"cloud"`.
    Cloud = "cloud";
    /// `"packages"`.
    Packages = "packages";
    /// `"file"`.
    File = "file";
    /// `"file_deleted"`.
    FileDeleted = "file_deleted";
    /// `"github_repository"`.
    GithubRepository = "github_repository";
    /// `"session_resource_deleted"`.
    ResourceDeleted = "session_resource_deleted";
    /// `"tool_reference"`.
    ToolReference = "tool_reference";
    /// `"vault"`.
    Vault = "vault";
    /// `"vault_deleted"`.
    VaultDeleted = "vault_deleted";
    /// `"vault_credential"`.
    VaultCredential = "vault_credential";
    /// `"vault_credential_deleted"`.
    VaultCredentialDeleted = "vault_credential_deleted";
    /// `"vault_credential_validation"`.
    VaultCredentialValidation = "vault_credential_validation";
    /// `"memory_store"`.
    MemoryStore = "memory_store";
    /// `"memory_store_deleted"`.
    MemoryStoreDeleted = "memory_store_deleted";
    /// `"memory"`.
    Memory = "memory";
    /// `"memory_prefix"`.
    MemoryPrefix = "memory_prefix";
    /// `"memory_deleted"`.
    MemoryDeleted = "memory_deleted";
    /// `"memory_version"`.
    MemoryVersion = "memory_version";
    /// `"user_profile"`.
    UserProfile = "user_profile";
    /// `"user_profile_deleted"`.
    UserProfileDeleted = "user_profile_deleted";
    /// `"enrollment_url"`.
    EnrollmentUrl = "enrollment_url";
    /// `"user_profile_action_url"`.
    ActionUrl = "user_profile_action_url";
    /// `"skill"`.
    Skill = "skill";
    /// `"skill_deleted"`.
    SkillDeleted = "skill_deleted";
    /// `"skill_version"`.
    SkillVersion = "skill_version";
    /// `"skill_version_deleted"`.
    SkillVersionDeleted = "skill_version_deleted";
}
