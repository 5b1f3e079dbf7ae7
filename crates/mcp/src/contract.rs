//! What this room offers, and what it asks for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::{CredentialId, SessionId, VaultId, WorkspaceId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::Failure;

/// On whose behalf a server is talked to. Nothing is shared between two callers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The session.
    pub session: SessionId,
    /// The session's vaults, in their order (runtime MC-6, VA-8).
    pub vaults: Vec<VaultId>,
}

/// A server as an agent names it (runtime MC-1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// The agent's name for it; only for messages.
    pub name: String,
    /// Where it is, as the agent's author wrote it.
    pub url: String,
}

/// A tool that a server offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its bare name, 1 to 128 characters, unique within its server (runtime MC-2, MC-4).
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// A JSON Schema object, as the server gave it.
    pub input_schema: Map<String, Value>,
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Never empty; no text block in it is empty.
    pub content: Vec<ContentBlock>,
    /// Whether the tool, or the server on its behalf, says that it failed (runtime MC-9).
    pub is_error: bool,
}

/// Opens connections.
#[async_trait]
pub trait Connector: Send + Sync {
    /// A connection on which the two sides have agreed how to speak. The same caller gets the same connection for the same
    /// server while one is open; nobody else does.
    ///
    /// # Errors
    /// [`Failure::Connection`] and [`Failure::Authentication`] (runtime MC-7), after retries of its own and within
    /// [`Settings::connect`](crate::Settings::connect).
    async fn connect(
        &self,
        caller: &Caller,
        server: &Server,
    ) -> Result<Arc<dyn Connection>, Failure>;
}

/// An open connection to one server on behalf of one caller.
#[async_trait]
pub trait Connection: Send + Sync {
    /// The server's tools, in its order.
    ///
    /// # Errors
    /// Any [`Failure`] but [`Failure::Unknown`].
    async fn tools(&self) -> Result<Vec<Tool>, Failure>;

    /// Calls a tool and waits for its answer, at most `within` and at most [`Settings::call`](crate::Settings::call). The
    /// call is sent again only when the server refused it before running it (security TOOL-2). Dropping the future gives the
    /// call up and tells the server so where it can be told.
    ///
    /// # Errors
    /// Any [`Failure`]; a tool that says that it failed is an [`Output`] with `is_error`.
    async fn call(
        &self,
        name: &str,
        input: &Map<String, Value>,
        within: Duration,
    ) -> Result<Output, Failure>;

    /// Ends the conversation; takes a few seconds at most. Whoever uses the connection after that opens a new conversation.
    async fn close(&self);
}

/// Gives the credentials that requests carry. The one implementation is over the vaults.
#[async_trait]
pub trait Authorization: Send + Sync {
    /// The credential for a request to this URL, valid now; `None` where the caller has none for it. Asked for each request,
    /// so that rotation and removal are seen at once (security CRED-8). `refused` is a token that the server has just
    /// answered with 401: then a fresh one is wanted.
    ///
    /// # Errors
    /// When there is a credential and it cannot be used: a refresh that failed, a sealed server.
    async fn token(
        &self,
        caller: &Caller,
        url: &Url,
        refused: Option<&Token>,
    ) -> Result<Option<Token>, Denied>;
}

/// A bearer token.
#[derive(Clone)]
pub struct Token {
    /// Which credential it belongs to: a conversation that was opened with one is not continued with another.
    pub credential: CredentialId,
    /// The secret.
    pub secret: SecretString,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

/// Why a credential cannot be used. The text has no secret in it; it is shown to the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);
