//! What can go wrong, sorted by what is to be done.

/// Why there is no connection, no list or no answer. Texts have no secret in them, and of what the server said at most 500
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server cannot be reached, or does not speak the protocol, and it did not run a call. Tell the session
    /// (`mcp_connection_failed_error`); the next turn tries again (runtime MC-7, MC-8).
    #[error("{reason}")]
    Connection {
        /// What happened.
        reason: String,
    },
    /// The server wants another credential, or there is none that can be used. Tell the session
    /// (`mcp_authentication_failed_error`).
    #[error("{reason}")]
    Authentication {
        /// What happened.
        reason: String,
    },
    /// The call may have run; nobody knows. Tell the model; it is not repeated (security TOOL-2).
    #[error("the outcome is unknown: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The answer is longer than what is taken. A call has run. Tell the model (security INP-1).
    #[error("the answer is longer than {most} bytes")]
    TooLarge {
        /// The most that is taken, in bytes.
        most: usize,
    },
}
