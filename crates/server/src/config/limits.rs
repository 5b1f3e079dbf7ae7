//! How much at once, and how long a turn may go on.

use std::time::Duration;

use manyhands_brain::Retries;
use serde::Deserialize;

use super::{Error, wrong};

/// The limits of sessions and their turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The most sessions at work at once.
    pub concurrent_sessions: usize,
    /// The most tool rounds of one turn (runtime ER-4).
    pub tool_rounds: u32,
    /// The most calls of one answer that are run (security MODEL-5).
    pub calls_per_answer: usize,
    /// The most calls of one answer that run at the same time.
    pub parallel_calls: usize,
    /// The most retries of one model request (security MODEL-2).
    pub retries: u32,
    /// The time from the first failure of a model request to its last try.
    pub retry_time: Duration,
    /// The part of a model's window that may be full before the conversation is summarised (runtime CC-1).
    pub compact_at: f64,
    /// The most summaries in a row (runtime ER-5).
    pub compactions_in_a_row: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let brain = manyhands_brain::Config::default();
        Self {
            concurrent_sessions: brain.wakes,
            tool_rounds: brain.tool_rounds,
            calls_per_answer: brain.calls_per_response,
            parallel_calls: brain.parallel_calls,
            retries: brain.retries.attempts,
            retry_time: brain.retries.total,
            compact_at: brain.compact_at,
            compactions_in_a_row: brain.compactions_in_a_row,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsSection {
    concurrent_sessions: Option<usize>,
    tool_rounds: Option<u32>,
    calls_per_answer: Option<usize>,
    parallel_calls: Option<usize>,
    retries: Option<u32>,
    retry_seconds: Option<u64>,
    compact_at: Option<f64>,
    compactions_in_a_row: Option<u32>,
}

impl LimitsSection {
    pub(super) fn effective(self) -> Result<Limits, Error> {
        let usual = Limits::default();
        let limits = Limits {
            concurrent_sessions: self
                .concurrent_sessions
                .unwrap_or(usual.concurrent_sessions),
            tool_rounds: self.tool_rounds.unwrap_or(usual.tool_rounds),
            calls_per_answer: self.calls_per_answer.unwrap_or(usual.calls_per_answer),
            parallel_calls: self.parallel_calls.unwrap_or(usual.parallel_calls),
            retries: self.retries.unwrap_or(usual.retries),
            retry_time: self
                .retry_seconds
                .map_or(usual.retry_time, Duration::from_secs),
            compact_at: self.compact_at.unwrap_or(usual.compact_at),
            compactions_in_a_row: self
                .compactions_in_a_row
                .unwrap_or(usual.compactions_in_a_row),
        };
        for (name, is_zero) in [
            ("concurrent_sessions", limits.concurrent_sessions == 0),
            ("tool_rounds", limits.tool_rounds == 0),
            ("calls_per_answer", limits.calls_per_answer == 0),
            ("parallel_calls", limits.parallel_calls == 0),
            ("compactions_in_a_row", limits.compactions_in_a_row == 0),
        ] {
            if is_zero {
                return Err(wrong(format!("limits.{name}"), "must be at least 1"));
            }
        }
        // A wait is kept with the session and counted in microseconds.
        if limits.retry_time > Duration::from_secs(24 * 60 * 60) {
            return Err(wrong("limits.retry_seconds", "must be at most one day"));
        }
        if !(0.1..=1.0).contains(&limits.compact_at) {
            return Err(wrong(
                "limits.compact_at",
                "must be a part of the window, from 0.1 to 1.0",
            ));
        }
        Ok(limits)
    }
}

impl Limits {
    /// The settings of the brain.
    pub fn brain(&self) -> manyhands_brain::Config {
        let usual = manyhands_brain::Config::default();
        manyhands_brain::Config {
            wakes: self.concurrent_sessions,
            tool_rounds: self.tool_rounds,
            calls_per_response: self.calls_per_answer,
            parallel_calls: self.parallel_calls,
            retries: Retries {
                attempts: self.retries,
                total: self.retry_time,
                ..usual.retries
            },
            compact_at: self.compact_at,
            compactions_in_a_row: self.compactions_in_a_row,
            ..usual
        }
    }
}
