//! What happened, in order: hashed, counted, and told when it is to be told.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;

/// How much of one line is told.
const SHOWN: usize = 400;

/// A trace in the making. The same seed gives the same one.
pub(crate) struct Trace {
    hasher: DefaultHasher,
    begun: Instant,
    steps: u64,
    counts: BTreeMap<String, u64>,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Nothing has happened. `told` keeps the lines.
    pub(crate) fn new(told: bool) -> Self {
        Self {
            hasher: DefaultHasher::new(),
            begun: Instant::now(),
            steps: 0,
            counts: BTreeMap::new(),
            lines: told.then(Vec::new),
        }
    }

    /// Something happened. The text must not hold a secret, which is random.
    pub(crate) fn note(&mut self, what: &str, text: &str) {
        let at = self.begun.elapsed().as_micros();
        self.steps += 1;
        (at, what, text).hash(&mut self.hasher);
        if let Some(lines) = &mut self.lines {
            let cut: String = text.chars().take(SHOWN).collect();
            lines.push(format!("{:>10.3} {what} {cut}", at as f64 / 1000.0));
        }
    }

    /// Counts a branch.
    pub(crate) fn count(&mut self, branch: String) {
        *self.counts.entry(branch).or_default() += 1;
    }

    /// Counts a branch that was taken so many times.
    pub(crate) fn count_many(&mut self, branch: &str, times: u64) {
        if times > 0 {
            *self.counts.entry(branch.to_owned()).or_default() += times;
        }
    }

    /// Its hash, how many steps there were, what was counted, and the lines.
    pub(crate) fn end(self) -> (u64, u64, BTreeMap<String, u64>, Vec<String>) {
        let lines = self.lines.unwrap_or_default();
        (self.hasher.finish(), self.steps, self.counts, lines)
    }
}
