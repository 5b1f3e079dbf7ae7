//! Chance → stories. Weights are chosen so that every branch is taken often enough, and lives are not cut short too often.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Step, Story};
use crate::behaviour::random_reply;
use crate::speech::{Input, Until, random_until};

/// How often what is part of one harness's stories.
pub struct Manner<S> {
    /// One story in so many has a budget.
    pub budgets: u32,
    /// Whether agents may have an MCP server.
    pub letters: bool,
    /// So many steps at most, beside what is waited for before them.
    pub steps: usize,
    /// Before so many steps of so many something is waited for.
    pub waits: (u32, u32),
    /// A step, but for those that have to do with a budget.
    pub step: fn(&mut StdRng) -> S,
}

impl<S: From<Step>> Manner<S> {
    /// A story.
    pub fn story(&self, rng: &mut StdRng) -> Story<S> {
        let replies = (0..rng.random_range(0..7)).map(|_| random_reply(rng));
        let replies = replies.collect();
        let initial = match rng.random_ratio(1, 6) {
            true => rng.random_range(1..4),
            false => 0,
        };
        let budget = rng
            .random_ratio(1, self.budgets)
            .then(|| rng.random_range(1..6));
        let letters = self.letters && rng.random();
        let mut steps = Vec::new();
        if initial == 0 {
            steps.push(Step::Send(vec![Input::Message]).into());
        }
        let (waits, of) = self.waits;
        for _ in 0..rng.random_range(1..=self.steps) {
            if rng.random_ratio(waits, of) {
                steps.push(Step::Await(random_until(rng)).into());
            }
            steps.push(match budget {
                Some(_) if rng.random_ratio(1, 5) => budgeting(rng).into(),
                _ => (self.step)(rng),
            });
        }
        if rng.random_ratio(1, 12) {
            let end = match rng.random() {
                true => Step::Archive,
                false => Step::Delete,
            };
            let last = [
                Step::Await(Until::Rest),
                end,
                Step::Send(vec![Input::Message]),
            ];
            steps.extend(last.map(S::from));
        }
        Story {
            initial,
            budget,
            letters,
            replies,
            steps,
        }
    }
}

fn budgeting(rng: &mut StdRng) -> Step {
    match rng.random_range(0..5) {
        0 => Step::RemoveBudget,
        _ => Step::SetBudget(rng.random_range(1..12)),
    }
}
