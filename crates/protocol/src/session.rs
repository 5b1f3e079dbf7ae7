//! Sessions (api §7).

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::agent::SessionAgent;
use crate::budget::{Budget, Money};
use crate::entry::{EventEntry, McpServerEntry, ResourceEntry, ToolEntry};
use crate::model::ModelParam;
use crate::patch::Patch;
use crate::shorthand::{text_or_object, text_or_object_schema};
use crate::{AgentId, EnvironmentId, MemoryStoreId, Metadata, SessionId, Timestamp, VaultId, tag};

/// Where a session is in its life (runtime LC-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// Nothing to do, or waiting for the client.
    Idle,
    /// A turn is running.
    Running,
    /// A turn waits to be tried again.
    Rescheduling,
    /// Archived, or beyond repair.
    Terminated,
}

impl SessionStatus {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Rescheduling => "rescheduling",
            Self::Terminated => "terminated",
        }
    }

    /// The status with this text.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Idle,
            Self::Running,
            Self::Rescheduling,
            Self::Terminated,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

/// A session, as shown in responses (api §7.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Always `"session"`.
    #[serde(rename = "type")]
    pub kind: tag::Session,
    /// Its title.
    pub title: Option<String>,
    /// Where it is in its life.
    pub status: SessionStatus,
    /// The environment of its sandbox.
    pub environment_id: EnvironmentId,
    /// Its snapshot of the agent.
    pub agent: SessionAgent,
    /// Its vaults.
    pub vault_ids: Vec<VaultId>,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// Its mounted resources.
    pub resources: Vec<Value>,
    /// Its outcomes.
    pub outcome_evaluations: Vec<Value>,
    /// Its cost cap; null when uncapped.
    pub budget: Option<Budget>,
    /// How long it was at work.
    pub stats: Stats,
    /// What it used.
    pub usage: Usage,
    /// The deployment that started it; null when none did.
    pub deployment_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// How long a session was at work (runtime US-2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Seconds of running threads, summed over threads.
    pub active_seconds: f64,
    /// Seconds since creation, frozen at termination.
    pub duration_seconds: f64,
}

/// What a session used in all (runtime US-1): cumulative, never decreasing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Input tokens that were neither read from nor written to a cache.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens read from a cache.
    pub cache_read_input_tokens: u64,
    /// Input tokens written to a cache.
    pub cache_creation: CacheCreation,
    /// Seconds with at least one running thread.
    pub active_seconds: f64,
    /// Cost at list prices; null where no price is known.
    pub list_cost: Option<Money>,
    /// Uses of server-side tools.
    pub server_tool_use: Option<ServerToolUse>,
}

/// Input tokens written to a cache, by time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheCreation {
    /// One hour.
    pub ephemeral_1h_input_tokens: u64,
    /// Five minutes.
    pub ephemeral_5m_input_tokens: u64,
}

/// Uses of server-side tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerToolUse {
    /// Web searches.
    pub web_search_requests: u64,
    /// Web fetches.
    pub web_fetch_requests: u64,
}

/// Body of a session create (api §7.1).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct SessionCreateParams {
    /// Which agent, and how it differs in this session.
    pub agent: AgentParam,
    /// Which environment.
    pub environment_id: String,
    /// Optional.
    #[serde(default)]
    pub title: Option<String>,
    /// Optional.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// Files, repositories, memory stores.
    #[serde(default)]
    #[schemars(with = "Option<Vec<ResourceEntry>>")]
    pub resources: Option<Entries>,
    /// Vaults.
    #[serde(default)]
    pub vault_ids: Option<Vec<String>>,
    /// Up to 50 events that start the work at once.
    #[serde(default)]
    #[schemars(with = "Option<Vec<EventEntry>>")]
    pub initial_events: Option<Vec<Value>>,
    /// A cost cap.
    #[serde(default)]
    #[schemars(with = "Option<Budget>")]
    pub budget: Option<Value>,
}

/// Entries of a request that are read later and may hold secrets: they are not printed (security CRED-2).
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Entries(pub Vec<Value>);

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries", self.0.len())
    }
}

/// Which agent a session runs (runtime LC-8).
#[derive(Clone, Debug)]
pub enum AgentParam {
    /// Its id: the latest version.
    Id(String),
    /// An object.
    Object(Box<AgentObjectParam>),
}

text_or_object_schema!(AgentParam, String, AgentObjectParam);

impl<'de> Deserialize<'de> for AgentParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "an agent id or an object with \"type\" and \"id\"";
        let param = text_or_object(deserializer, expecting)?;
        Ok(param.map_or_else(Self::Object, Self::Id))
    }
}

/// The object forms of a session's agent: a reference, or a reference with overrides (runtime LC-9:
/// absent inherits, a value replaces in full, null or empty clears).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct AgentObjectParam {
    /// `agent` or `agent_with_overrides`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The agent.
    pub id: String,
    /// Absent: the latest.
    #[serde(default)]
    pub version: Option<i64>,
    /// Null is refused with `agent_model_required`.
    #[serde(default)]
    pub model: Patch<ModelParam>,
    /// The system prompt.
    #[serde(default)]
    pub system: Patch<String>,
    /// Tool entries.
    #[serde(default)]
    #[schemars(with = "Patch<Vec<ToolEntry>>")]
    pub tools: Patch<Vec<Value>>,
    /// MCP servers.
    #[serde(default)]
    #[schemars(with = "Patch<Vec<McpServerEntry>>")]
    pub mcp_servers: Patch<Vec<Value>>,
    /// Skill references.
    #[serde(default)]
    pub skills: Patch<Vec<Value>>,
}

/// Body of a session update (api §7.3).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SessionUpdateParams {
    /// Null clears.
    pub title: Patch<String>,
    /// Per key: a text upserts, null deletes.
    pub metadata: Patch<BTreeMap<String, Option<String>>>,
    /// New tools or MCP servers; only while idle.
    pub agent: Patch<SessionAgentUpdateParams>,
    /// A new cap, or null for none.
    #[schemars(with = "Patch<Budget>")]
    pub budget: Patch<Value>,
    /// Always refused (runtime LC-13).
    #[schemars(with = "Patch<Vec<VaultId>>")]
    pub vault_ids: Patch<Value>,
}

/// The part of a session's agent that can change.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SessionAgentUpdateParams {
    /// Replaces in full.
    #[schemars(with = "Patch<Vec<ToolEntry>>")]
    pub tools: Patch<Vec<Value>>,
    /// Replaces in full.
    #[schemars(with = "Patch<Vec<McpServerEntry>>")]
    pub mcp_servers: Patch<Vec<Value>>,
}

/// The answer to a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionDeleted {
    /// The session that is gone.
    pub id: SessionId,
    /// Always `"session_deleted"`.
    #[serde(rename = "type")]
    pub kind: tag::SessionDeleted,
}

/// The filters of the sessions list (api §7.4).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionFilter {
    /// Sessions of this agent.
    pub agent_id: Option<AgentId>,
    /// And of this version of it.
    pub agent_version: Option<u32>,
    /// That have this memory store.
    pub memory_store_id: Option<MemoryStoreId>,
    /// In one of these states; empty means any.
    pub statuses: Vec<SessionStatus>,
    /// Created after.
    pub created_after: Option<Timestamp>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created before.
    pub created_before: Option<Timestamp>,
    /// Created at or before.
    pub created_to: Option<Timestamp>,
    /// Whether archived ones are shown too.
    pub include_archived: bool,
}
