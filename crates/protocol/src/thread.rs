//! Threads of sessions (api §12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{ExecutionIdentity, McpServer, SessionAgent, SkillRef, Tool};
use crate::model::ModelConfig;
use crate::session::{SessionStatus, Stats, Usage};
use crate::{AgentId, SessionId, ThreadId, Timestamp, tag};

/// A thread as shown in responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionThread {
    /// Its id.
    pub id: ThreadId,
    /// Always `"session_thread"`.
    #[serde(rename = "type")]
    pub kind: tag::SessionThread,
    /// Its session.
    pub session_id: SessionId,
    /// Who speaks in it.
    pub agent: ThreadAgent,
    /// What it is doing.
    pub status: SessionStatus,
    /// The thread that made it; null for the primary one.
    pub parent_thread_id: Option<ThreadId>,
    /// The workflow run that made it.
    pub workflow_run_id: Option<String>,
    /// Its times; null until its status first changed.
    pub stats: Option<Stats>,
    /// What it used; null until it first rested after work.
    pub usage: Option<Usage>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// The agent of a thread: a snapshot without a roster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadAgent {
    /// The base agent.
    pub id: AgentId,
    /// Always `"agent"`.
    #[serde(rename = "type")]
    pub kind: tag::Agent,
    /// The base agent's version.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// The model.
    pub model: ModelConfig,
    /// Its tools.
    pub tools: Vec<Tool>,
    /// Its MCP servers.
    pub mcp_servers: Vec<McpServer>,
    /// Its skills.
    pub skills: Vec<SkillRef>,
    /// On whose behalf it acts.
    pub execution_identity: ExecutionIdentity,
}

impl From<SessionAgent> for ThreadAgent {
    fn from(agent: SessionAgent) -> Self {
        let SessionAgent {
            id,
            kind,
            version,
            definition,
        } = agent;
        Self {
            id,
            kind,
            version,
            name: definition.name,
            description: definition.description,
            system: definition.system,
            model: definition.model,
            tools: definition.tools,
            mcp_servers: definition.mcp_servers,
            skills: definition.skills,
            execution_identity: definition.execution_identity,
        }
    }
}
