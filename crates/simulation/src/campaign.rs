//! Many seeds, on several threads, with what came of them added up. Each world has one thread to itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::lock;
use crate::run::{Outcome, run};

/// Which seeds to live.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first one.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// On how many threads.
    pub threads: usize,
}

/// What came of many seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many worlds were lived.
    pub worlds: u64,
    /// How much happened in them.
    pub steps: u64,
    /// How often each branch was taken.
    pub counts: BTreeMap<String, u64>,
    /// The seeds that broke something, and what, in one line each.
    pub violations: BTreeMap<u64, String>,
}

impl Totals {
    fn add(&mut self, outcome: Outcome) {
        self.worlds += 1;
        self.steps += outcome.steps;
        for (branch, count) in outcome.counts {
            *self.counts.entry(branch).or_default() += count;
        }
        if let Some(violation) = outcome.violation {
            self.violations.insert(outcome.seed, violation.problem);
        }
    }

    /// Adds what came of other seeds.
    pub fn join(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.steps += other.steps;
        for (branch, count) in other.counts {
            *self.counts.entry(branch).or_default() += count;
        }
        self.violations.extend(other.violations);
    }
}

impl Campaign {
    /// Lives all of them.
    pub fn run(&self) -> Totals {
        let next = AtomicU64::new(self.from);
        let end = self.from + self.seeds;
        let totals = Mutex::new(Totals::default());
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    let mut own = Totals::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            break;
                        }
                        own.add(run(seed, false));
                    }
                    lock(&totals).join(own);
                });
            }
        });
        totals.into_inner().unwrap_or_default()
    }
}
