//! The harness: who thinks, one wake at a time. Keeps nothing between wakes.
//!
//! [`Brain`] finds sessions that have something to do. A wake takes the session's lease, folds its log into a
//! transcript (`replay`), decides the next step (`decide`), builds a request (`context`), asks a [model](models) or
//! runs tools in the hands, appends what happened, and goes on until there is nothing to do. Deciding is pure, doing is
//! in `wake`. This room knows no SQL and no routes. Start at `wake.rs`; `docs/design/brain.md` has the whole story.

mod activity;
mod answer;
mod cache;
mod compaction;
mod config;
mod context;
mod decide;
mod dispatcher;
mod failpoint;
mod fence;
mod history;
mod judge;
mod mcp;
mod memory;
pub mod models;
mod previews;
mod quarantine;
mod record;
mod replay;
mod repositories;
mod retry;
mod shown;
mod skills;
#[cfg(test)]
mod testing;
mod tools;
mod transcribe;
mod wake;
mod why;

pub use activity::Activities;
pub use config::{Clones, Config, Hosts, Mcp, Provisioning, Retries, Watchdog};
pub use dispatcher::Brain;
#[cfg(feature = "failpoints")]
pub use failpoint::Probe;
pub use history::{HistoryError, Summary, compactions};
pub use judge::{INDETERMINATE, Judge, JudgeError, Judged, ModelJudge};
pub use record::{Attached, TOOL_STARTED, agent_before, attached};
pub use repositories::{Cloned, repositories};
pub use skills::{Announced, skills};
pub use wake::uploads;
pub use why::{Details, Need, Party, State, WaitingCall, Why, why};
