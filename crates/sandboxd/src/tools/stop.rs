//! How a running tool learns that it should end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Shared between a call and whoever may end it.
#[derive(Debug)]
pub struct Stop {
    interrupted: AtomicBool,
    deadline: Instant,
}

/// Why a tool should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody asked.
    Interrupted,
    /// The call's outer limit has passed (runtime TL-20).
    TimedOut,
}

impl Stop {
    /// Ends by itself after `limit` from now.
    pub fn after(limit: Duration) -> Self {
        // A limit beyond what the clock can hold is as good as a day.
        let now = Instant::now();
        let deadline = now
            .checked_add(limit)
            .unwrap_or(now + Duration::from_secs(86_400));
        Self {
            interrupted: AtomicBool::new(false),
            deadline,
        }
    }

    /// Asks the tool to end.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
    }

    /// When the outer limit passes.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.interrupted.load(Ordering::SeqCst) {
            Err(Stopped::Interrupted)
        } else if Instant::now() >= self.deadline {
            Err(Stopped::TimedOut)
        } else {
            Ok(())
        }
    }
}

impl Stopped {
    /// The text of the call's error result (runtime TL-20).
    pub fn text(self, tool: &str) -> String {
        match self {
            Self::Interrupted => format!("tool '{tool}' was interrupted"),
            Self::TimedOut => format!("tool '{tool}' timed out"),
        }
    }
}
