//! Why work rests, and what failed in it (api §10.5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EventId;

/// Why a session or a thread rests (runtime SQ-24).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StopReason {
    /// The turn is over.
    EndTurn,
    /// The client has to answer these tool-use events.
    RequiresAction {
        /// The calls that block.
        event_ids: Vec<EventId>,
    },
    /// The turn failed for good.
    RetriesExhausted,
    /// The cost cap is reached.
    BudgetReached,
    /// The model refused.
    Refusal,
}

/// More about a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StopDetails {
    /// The model refused.
    Refusal {
        /// An open set.
        category: Option<String>,
        /// For people.
        explanation: Option<String>,
    },
}

/// What failed inside a session (api §10.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionError {
    /// The class.
    #[serde(rename = "type")]
    pub kind: SessionErrorType,
    /// For people.
    pub message: String,
    /// What happens next.
    pub retry_status: RetryStatus,
    /// MCP errors only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_server_name: Option<String>,
    /// Credential errors only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<String>,
    /// Credential errors only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<String>,
    /// Repository errors only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_url: Option<String>,
}

impl SessionError {
    /// An error of a class without members of its own.
    pub fn new(
        kind: SessionErrorType,
        message: impl Into<String>,
        retry_status: RetryStatus,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_status,
            mcp_server_name: None,
            credential_id: None,
            vault_id: None,
            repository_url: None,
        }
    }
}

/// The classes of session errors (runtime ER-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionErrorType {
    /// None of the others.
    UnknownError,
    /// The model has no room.
    ModelOverloadedError,
    /// The model's rate limit.
    ModelRateLimitedError,
    /// The model refused the request, or broke off.
    ModelRequestFailedError,
    /// An MCP server is out of reach.
    McpConnectionFailedError,
    /// An MCP server refused the credential.
    McpAuthenticationFailedError,
    /// The account cannot make model calls.
    BillingError,
    /// The environment blocks a host that a credential needs.
    CredentialHostUnreachableError,
    /// Too many tool rounds in one turn.
    ToolUseLimitReachedError,
    /// Too many compactions in a row.
    CompactionLimitReachedError,
    /// A repository refused the credential.
    RepositoryAuthenticationError,
    /// A repository is not allowed.
    RepositoryForbiddenError,
    /// A repository is not there.
    RepositoryNotFoundError,
    /// A checkout failed.
    RepositoryCheckoutError,
    /// A clone failed.
    RepositoryCloneError,
}

/// What happens after an error (runtime ER-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RetryStatus {
    /// The server tries again by itself.
    Retrying,
    /// The turn is dead; the session goes idle.
    Exhausted,
    /// The session terminates.
    Terminal,
}
