//! What lists in requests may hold, for the schemas of those requests. The lists themselves are read entry by entry, so
//! that an error can name the entry: nothing is ever made of these types.

use schemars::JsonSchema;

use crate::EventId;
use crate::agent::{AgentToolsetParams, CustomToolParams, McpServerParams, McpToolsetParams};
use crate::content::ContentBlock;
use crate::event::Confirmation;
use crate::file::FileResourceParams;
use crate::repository::Checkout;

/// One of an agent's tools (api §4.1).
#[derive(JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case")]
pub enum ToolEntry {
    /// The built-in tools.
    #[schemars(rename = "agent_toolset_20260401")]
    AgentToolset(AgentToolsetParams),
    /// The tools of an MCP server.
    McpToolset(McpToolsetParams),
    /// A tool that the client runs.
    Custom(CustomToolParams),
}

/// One of an agent's MCP servers (api §4.4).
#[derive(JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case")]
pub enum McpServerEntry {
    /// Behind a URL.
    Url(McpServerParams),
}

/// One of a session's resources (api §8).
#[derive(JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case")]
pub enum ResourceEntry {
    /// A copy of a file.
    File(FileResourceParams),
    /// A clone of a repository.
    GithubRepository {
        /// `https://host/owner/name`.
        url: String,
        /// What is checked out; the default branch when absent.
        #[schemars(default)]
        checkout: Option<Checkout>,
        /// Below `/workspace`; the repository's name when absent.
        #[schemars(default)]
        mount_path: Option<String>,
        /// A token of the host. Never shown again.
        #[schemars(default)]
        authorization_token: Option<String>,
    },
    /// A memory store.
    MemoryStore {
        /// The store.
        memory_store_id: String,
        /// `read_write` when absent.
        #[schemars(default)]
        access: Option<String>,
        /// What the agent is to do with it, up to 4,096 characters.
        #[schemars(default)]
        instructions: Option<String>,
    },
}

/// One of the events that a client sends (api §9.1).
#[derive(JsonSchema)]
#[schemars(tag = "type")]
pub enum EventEntry {
    /// A message of the user.
    #[schemars(rename = "user.message")]
    UserMessage {
        /// At least one block.
        content: Vec<ContentBlock>,
    },
    /// Stop what is running.
    #[schemars(rename = "user.interrupt")]
    UserInterrupt {
        /// Only this thread; absent means all.
        #[schemars(default)]
        session_thread_id: Option<String>,
    },
    /// The answer to a call that asked.
    #[schemars(rename = "user.tool_confirmation")]
    UserToolConfirmation {
        /// The tool-use event.
        tool_use_id: EventId,
        /// Run it or not.
        result: Confirmation,
        /// Why not; only with `deny`.
        #[schemars(default)]
        deny_message: Option<String>,
    },
    /// The result of a tool that the client ran.
    #[schemars(rename = "user.custom_tool_result")]
    UserCustomToolResult {
        /// The tool-use event.
        custom_tool_use_id: EventId,
        /// What it gave.
        #[schemars(default)]
        content: Option<Vec<ContentBlock>>,
        /// Whether it failed.
        #[schemars(default)]
        is_error: Option<bool>,
    },
    /// A message of the operator.
    #[schemars(rename = "system.message")]
    SystemMessage {
        /// 1 to 1,000 text blocks.
        content: Vec<ContentBlock>,
    },
}
