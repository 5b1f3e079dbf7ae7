//! Agents: versioned configuration (api §3, §4).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entry::{McpServerEntry, ToolEntry};
use crate::model::{ModelConfig, ModelParam};
use crate::patch::Patch;
use crate::web::{UrlSources, UserLocation, WebSettings};
use crate::{AgentId, Metadata, Timestamp, tag};

/// An agent, or one version of it, as shown in responses (api §3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Always `"agent"`.
    #[serde(rename = "type")]
    pub kind: tag::Agent,
    /// 1, then one more with every change (runtime AG-1).
    pub version: u32,
    /// What it is and does.
    #[serde(flatten)]
    pub definition: Definition,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// When the first version was made.
    pub created_at: Timestamp,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// The part of an agent that sessions snapshot: what it is and does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// The model, resolved.
    pub model: ModelConfig,
    /// Its tools, resolved.
    pub tools: Vec<Tool>,
    /// Its MCP servers.
    pub mcp_servers: Vec<McpServer>,
    /// Its skills, with their versions.
    pub skills: Vec<SkillRef>,
    /// Its roster; null when it works alone.
    pub multiagent: Option<Value>,
    /// On whose behalf it acts (runtime AG-12).
    pub execution_identity: ExecutionIdentity,
}

/// The snapshot of an agent inside a session (api §7.5, runtime AG-13).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionAgent {
    /// The base agent.
    pub id: AgentId,
    /// Always `"agent"`.
    #[serde(rename = "type")]
    pub kind: tag::Agent,
    /// The base agent's version.
    pub version: u32,
    /// What it is and does, after overrides.
    #[serde(flatten)]
    pub definition: Definition,
}

/// One entry of an agent's tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Tool {
    /// The built-in tools (runtime §15).
    #[serde(rename = "agent_toolset_20260401")]
    AgentToolset {
        /// Settings of single tools; each entry names its tool once.
        configs: Vec<ToolConfig>,
        /// Settings of all others.
        default_config: ToolDefault,
    },
    /// The tools of an MCP server.
    McpToolset {
        /// One of the agent's servers.
        mcp_server_name: String,
        /// Settings of single tools.
        configs: Vec<McpToolConfig>,
        /// Settings of all others.
        default_config: ToolDefault,
    },
    /// A tool that the client runs (runtime §9).
    Custom {
        /// Its name.
        name: String,
        /// What it does, for the model.
        description: String,
        /// The JSON schema of its input.
        input_schema: Value,
    },
}

/// Settings of one built-in tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolConfig {
    /// The tool.
    pub name: String,
    /// The same as `name` (runtime AG-10).
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the model may call it.
    pub enabled: bool,
    /// Who must agree first.
    pub permission_policy: PermissionPolicy,
    /// What bounds a web tool.
    #[serde(flatten)]
    pub web: WebSettings,
}

/// Settings of one tool of an MCP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct McpToolConfig {
    /// The tool.
    pub name: String,
    /// Whether the model may call it.
    pub enabled: bool,
    /// Who must agree first.
    pub permission_policy: PermissionPolicy,
}

/// Settings of all tools of a toolset that have none of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolDefault {
    /// Whether the model may call them.
    pub enabled: bool,
    /// Who must agree first.
    pub permission_policy: PermissionPolicy,
}

/// Who must agree before a tool runs (runtime TC-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PermissionPolicy {
    /// Nobody.
    AlwaysAllow {},
    /// The client, for each call.
    AlwaysAsk {},
    /// The server judges each call.
    Auto {},
}

/// An MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum McpServer {
    /// Behind a URL.
    Url {
        /// Unique in the agent.
        name: String,
        /// Its endpoint.
        url: String,
    },
}

/// A skill and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillRef {
    /// `anthropic` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The skill.
    pub skill_id: String,
    /// Its concrete version.
    pub version: String,
}

/// On whose behalf an agent acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecutionIdentity {
    /// The workspace's service account.
    #[default]
    ServiceAccount,
    /// An AWS role.
    AwsRole {
        /// Its ARN.
        role_arn: String,
    },
}

/// Body of an agent create (api §3.1). Lists of tools and the like stay raw JSON here: they are
/// validated entry by entry, so that an error can name the entry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct AgentCreateParams {
    /// Required, 1 to 256 characters.
    pub name: String,
    /// Required.
    pub model: ModelParam,
    /// Up to 2048 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Up to 100,000 characters.
    #[serde(default)]
    pub system: Option<String>,
    /// Tool entries.
    #[serde(default)]
    #[schemars(with = "Option<Vec<ToolEntry>>")]
    pub tools: Option<Vec<Value>>,
    /// MCP servers.
    #[serde(default)]
    #[schemars(with = "Option<Vec<McpServerEntry>>")]
    pub mcp_servers: Option<Vec<Value>>,
    /// Skill references.
    #[serde(default)]
    pub skills: Option<Vec<Value>>,
    /// A roster.
    #[serde(default)]
    pub multiagent: Option<Value>,
    /// Null is the default.
    #[serde(default)]
    pub execution_identity: Option<ExecutionIdentity>,
    /// The client's own pairs.
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// Body of an agent update (api §3.2).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentUpdateParams {
    /// Must be the current version when sent (runtime AG-2).
    pub version: Option<i64>,
    /// Not clearable.
    pub name: Patch<String>,
    /// Not clearable; see runtime AG-4 for effort.
    pub model: Patch<ModelParam>,
    /// Null or `""` clears.
    pub description: Patch<String>,
    /// Null or `""` clears.
    pub system: Patch<String>,
    /// Null or `[]` clears; replaces in full.
    #[schemars(with = "Patch<Vec<ToolEntry>>")]
    pub tools: Patch<Vec<Value>>,
    /// Null or `[]` clears; replaces in full.
    #[schemars(with = "Patch<Vec<McpServerEntry>>")]
    pub mcp_servers: Patch<Vec<Value>>,
    /// Null or `[]` clears; replaces in full.
    pub skills: Patch<Vec<Value>>,
    /// Null clears.
    pub multiagent: Patch<Value>,
    /// Null restores the default.
    pub execution_identity: Patch<ExecutionIdentity>,
    /// Per key: a text upserts, null deletes.
    pub metadata: Option<BTreeMap<String, Option<String>>>,
}

/// A built-in toolset in a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentToolsetParams {
    /// Settings of single tools.
    pub configs: Option<Vec<ToolConfigParam>>,
    /// Settings of all others.
    pub default_config: Option<ToolDefaultParam>,
}

/// Settings of one built-in tool in a request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ToolConfigParam {
    /// The tool.
    pub name: String,
    /// Absent, or the same as `name`.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Absent or null: the default's.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Absent or null: the default's.
    #[serde(default)]
    pub permission_policy: Option<PermissionPolicy>,
    /// Web tools only.
    #[serde(default)]
    pub allowed_domains: Option<Vec<String>>,
    /// Web tools only.
    #[serde(default)]
    pub blocked_domains: Option<Vec<String>>,
    /// `web_search` only.
    #[serde(default)]
    pub user_location: Option<UserLocation>,
    /// `web_fetch` only.
    #[serde(default)]
    pub max_content_tokens: Option<u64>,
    /// `web_fetch` only.
    #[serde(default)]
    pub url_sources: Option<UrlSources>,
}

/// Settings of all other tools in a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ToolDefaultParam {
    /// Absent or null: true.
    pub enabled: Option<bool>,
    /// Absent or null: always_allow for built-in tools, always_ask for those of MCP servers.
    pub permission_policy: Option<PermissionPolicy>,
}

/// An MCP server in a request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct McpServerParams {
    /// 1 to 255 characters, unique in the agent.
    pub name: String,
    /// Its endpoint, up to 2048 characters.
    pub url: String,
}

/// The tools of an MCP server in a request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct McpToolsetParams {
    /// One of the agent's servers.
    pub mcp_server_name: String,
    /// Settings of single tools.
    #[serde(default)]
    pub configs: Option<Vec<McpToolConfigParam>>,
    /// Settings of all others.
    #[serde(default)]
    pub default_config: Option<ToolDefaultParam>,
}

/// Settings of one tool of an MCP server in a request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct McpToolConfigParam {
    /// The tool, as the server calls it: 1 to 128 characters.
    pub name: String,
    /// Absent or null: the default's.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Absent or null: the default's.
    #[serde(default)]
    pub permission_policy: Option<PermissionPolicy>,
}

/// A custom tool in a request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct CustomToolParams {
    /// 1 to 128 of letters, digits, `_`, `-`.
    pub name: String,
    /// Not empty.
    pub description: String,
    /// An object schema.
    pub input_schema: Value,
}
