//! Seeds → cases. Weights are chosen so that every branch is taken often enough, and lives are not cut short too often.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use manyhands_simulation::behaviour::random_reply;
use manyhands_simulation::speech::{Input, Until, random_inputs, random_until};

use super::{Case, POINTS, Step};

impl Case {
    /// The case of a seed: the same one each time.
    pub(crate) fn generate(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let replies = (0..rng.random_range(0..7)).map(|_| random_reply(&mut rng));
        let replies = replies.collect();
        let initial = if rng.random_ratio(1, 6) {
            rng.random_range(1..4)
        } else {
            0
        };
        let budget = rng.random_ratio(1, 3).then(|| rng.random_range(1..6));
        let mut steps = Vec::new();
        if initial == 0 {
            steps.push(Step::Send(vec![Input::Message]));
        }
        // Armed before anything happens, so that it is passed in most cases.
        if rng.random_ratio(1, 5) {
            steps.insert(0, death(&mut rng));
        }
        for _ in 0..rng.random_range(1..10) {
            if rng.random_ratio(2, 3) {
                steps.push(Step::Await(random_until(&mut rng)));
            }
            steps.push(match budget {
                Some(_) if rng.random_ratio(1, 5) => budgeting(&mut rng),
                _ => step(&mut rng),
            });
        }
        if rng.random_ratio(1, 12) {
            steps.push(Step::Await(Until::Rest));
            steps.push(if rng.random() {
                Step::Archive
            } else {
                Step::Delete
            });
            steps.push(Step::Send(vec![Input::Message]));
        }
        Self {
            seed,
            initial,
            budget,
            replies,
            steps,
        }
    }
}

fn step(rng: &mut StdRng) -> Step {
    match rng.random_range(0..40) {
        0..20 => Step::Send(random_inputs(rng)),
        20..24 => Step::SendBoth(random_inputs(rng), random_inputs(rng)),
        24 => Step::Rename,
        25..27 => Step::ChangeTools,
        27 => Step::Archive,
        28 => Step::Delete,
        29 => Step::Restart,
        30 => Step::Crash,
        31..34 => death(rng),
        34..36 => Step::LoseSandbox,
        _ => Step::LetGo,
    }
}

fn death(rng: &mut StdRng) -> Step {
    Step::CrashAt(POINTS.choose(rng).expect("some"), rng.random_range(1..3))
}

fn budgeting(rng: &mut StdRng) -> Step {
    match rng.random_range(0..5) {
        0 => Step::RemoveBudget,
        _ => Step::SetBudget(rng.random_range(1..12)),
    }
}
