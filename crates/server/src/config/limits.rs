//! How much at once, and how long a turn may go on.

use std::num::NonZeroU32;
use std::time::Duration;

use manyhands_brain::Retries;
use manyhands_store::quota::Quotas;
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
    /// How many requests each workspace may make; `None` without bounds (runtime RL-2).
    pub rates: Option<Rates>,
    /// How much each workspace may keep (security STORE-4).
    pub quotas: Quotas,
}

/// How many requests a workspace may make in a minute, at each server (runtime RL-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of those that make something.
    pub creates: NonZeroU32,
    /// Of all others.
    pub reads: NonZeroU32,
}

/// The documented numbers (runtime RL-1, security API-6).
const CREATES: u32 = 300;
const READS: u32 = 1200;

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
            rates: None,
            quotas: Quotas::default(),
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
    rates: Option<bool>,
    creates_per_minute: Option<u32>,
    reads_per_minute: Option<u32>,
    quotas: QuotasSection,
}

/// `[limits.quotas]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QuotasSection {
    bytes: Option<u64>,
    agents: Option<u64>,
    environments: Option<u64>,
    sessions: Option<u64>,
    files: Option<u64>,
    vaults: Option<u64>,
    skills: Option<u64>,
    memory_stores: Option<u64>,
}

impl QuotasSection {
    fn effective(self) -> Quotas {
        Quotas {
            bytes: self.bytes,
            agents: self.agents,
            environments: self.environments,
            sessions: self.sessions,
            files: self.files,
            vaults: self.vaults,
            skills: self.skills,
            memory_stores: self.memory_stores,
        }
    }
}

/// The rate limits: on when they are switched on, or when one of their numbers is given and they are not switched off.
fn rates(
    on: Option<bool>,
    creates: Option<u32>,
    reads: Option<u32>,
) -> Result<Option<Rates>, Error> {
    let number = |name: &str, given: Option<u32>, documented: u32| {
        NonZeroU32::new(given.unwrap_or(documented))
            .ok_or_else(|| wrong(format!("limits.{name}"), "must be at least 1"))
    };
    let rates = Rates {
        creates: number("creates_per_minute", creates, CREATES)?,
        reads: number("reads_per_minute", reads, READS)?,
    };
    let given = creates.is_some() || reads.is_some();
    Ok(on.unwrap_or(given).then_some(rates))
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
            rates: rates(self.rates, self.creates_per_minute, self.reads_per_minute)?,
            quotas: self.quotas.effective(),
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
