//! How long is waited and how much is taken.

use std::time::Duration;

/// Limits towards MCP servers (runtime MC-12, security INP-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For a connection until both sides have agreed how to speak, retries included.
    pub connect: Duration,
    /// For the whole list of tools, retries included.
    pub list: Duration,
    /// For one call.
    pub call: Duration,
    /// Bytes of the answer to a call.
    pub answer_bytes: usize,
    /// Bytes of one page of a list of tools, and of any other answer.
    pub page_bytes: usize,
    /// Whether tokens are sent over `http` (security CRED-4). Off, a server that needs one is an authentication failure.
    pub tokens_in_plain_http: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            list: Duration::from_secs(30),
            call: Duration::from_secs(120),
            answer_bytes: 16 << 20,
            page_bytes: 1 << 20,
            tokens_in_plain_http: false,
        }
    }
}
