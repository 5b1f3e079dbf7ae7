//! Environments: the template of a session's sandbox (api §5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patch::Patch;
use crate::{EnvironmentId, Metadata, Timestamp, tag};

/// An environment, as shown in responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Always `"environment"`.
    #[serde(rename = "type")]
    pub kind: tag::Environment,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The sandbox it describes.
    pub config: EnvironmentConfig,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// Who can see it.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Who can see an environment. API organisations know only one value (runtime EN-6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The organisation.
    #[default]
    Organization,
    /// One account. Refused in requests.
    Account,
}

/// The sandbox an environment describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EnvironmentConfig {
    /// A sandbox made by this server.
    Cloud {
        /// What it may reach.
        networking: Networking,
        /// What is installed in it.
        packages: Packages,
    },
    /// The client's own workers.
    SelfHosted {},
}

impl Default for EnvironmentConfig {
    fn default() -> Self {
        Self::Cloud {
            networking: Networking::Unrestricted {},
            packages: Packages::default(),
        }
    }
}

/// What a sandbox may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Networking {
    /// Everything but the safety block-list.
    Unrestricted {},
    /// Nothing but what is listed.
    Limited {
        /// Bare hosts or `*.` wildcards.
        #[serde(default)]
        allowed_hosts: Vec<String>,
        /// Whether the hosts of the agent's MCP servers are open.
        #[serde(default)]
        allow_mcp_servers: bool,
        /// Whether the package managers' hosts are open.
        #[serde(default)]
        allow_package_managers: bool,
    },
}

/// What is installed in a sandbox, by package manager, in native version syntax.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Packages {
    /// Always `"packages"`.
    #[serde(rename = "type", default)]
    pub kind: tag::Packages,
    /// Debian packages.
    #[serde(default)]
    pub apt: Vec<String>,
    /// Rust crates with programs.
    #[serde(default)]
    pub cargo: Vec<String>,
    /// Ruby gems.
    #[serde(default)]
    pub gem: Vec<String>,
    /// Go modules with programs.
    #[serde(default)]
    pub go: Vec<String>,
    /// Node packages.
    #[serde(default)]
    pub npm: Vec<String>,
    /// Python packages.
    #[serde(default)]
    pub pip: Vec<String>,
}

/// Body of an environment create.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct EnvironmentCreateParams {
    /// Required, 1 to 256 characters.
    pub name: String,
    /// Optional.
    #[serde(default)]
    pub description: Option<String>,
    /// Absent or null: cloud, unrestricted (api §5.1).
    #[serde(default)]
    pub config: Option<EnvironmentConfigParam>,
    /// Optional.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// Optional.
    #[serde(default)]
    pub scope: Option<Scope>,
}

/// Body of an environment update: omitted fields keep their value (api §5.2).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EnvironmentUpdateParams {
    /// Null keeps.
    pub name: Option<String>,
    /// Null clears; `""` is stored as it is.
    pub description: Patch<String>,
    /// Merged into the stored one.
    pub config: Option<EnvironmentConfigParam>,
    /// Per key; null or `""` deletes.
    pub metadata: Option<std::collections::BTreeMap<String, Option<String>>>,
    /// Null keeps.
    pub scope: Option<Scope>,
}

/// A config in a request.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EnvironmentConfigParam {
    /// A sandbox made by this server.
    Cloud {
        /// Absent or null: the default, or the stored one.
        #[serde(default)]
        networking: Option<NetworkingParam>,
        /// Absent or null: none, or the stored ones.
        #[serde(default)]
        packages: Option<PackagesParam>,
    },
    /// The client's own workers.
    SelfHosted {},
}

/// Networking in a request.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NetworkingParam {
    /// Everything but the safety block-list.
    Unrestricted {},
    /// Nothing but what is listed.
    Limited {
        /// Absent keeps on update.
        #[serde(default)]
        allowed_hosts: Option<Vec<String>>,
        /// Absent keeps on update.
        #[serde(default)]
        allow_mcp_servers: Option<bool>,
        /// Absent keeps on update.
        #[serde(default)]
        allow_package_managers: Option<bool>,
    },
}

/// Packages in a request: an absent or null list keeps on update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PackagesParam {
    /// Debian packages.
    pub apt: Option<Vec<String>>,
    /// Rust crates with programs.
    pub cargo: Option<Vec<String>>,
    /// Ruby gems.
    pub gem: Option<Vec<String>>,
    /// Go modules with programs.
    pub go: Option<Vec<String>>,
    /// Node packages.
    pub npm: Option<Vec<String>>,
    /// Python packages.
    pub pip: Option<Vec<String>>,
}

/// The answer to a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentDeleted {
    /// The environment that is gone.
    pub id: EnvironmentId,
    /// Always `"environment_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::EnvironmentDeleted,
}
