//! What the shell has to do.

use std::sync::Arc;
use std::time::Duration;

use crate::output::Output;
use crate::tools::{Bash, Stop};

/// A call on its way to the shell.
pub struct Job {
    /// The id of the tool use.
    pub call_id: String,
    /// What to run.
    pub input: Bash,
    /// The call's outer limit.
    pub stop: Arc<Stop>,
    /// Called once with the result.
    pub done: Box<dyn FnOnce(Output) + Send>,
}

impl Job {
    /// A command that belongs to no call, and whose output is nobody's.
    pub(super) fn of_nobody(command: String, limit: Duration) -> Self {
        Self {
            call_id: String::new(),
            input: Bash {
                command: Some(command),
                restart: None,
                timeout_ms: None,
            },
            stop: Arc::new(Stop::after(limit)),
            done: Box::new(|_| {}),
        }
    }
}
