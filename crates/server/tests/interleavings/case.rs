//! A case: what one session is made of and what befalls it, generated from a seed.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use manyhands_simulation::speech::random_inputs;
use manyhands_simulation::story::{self, Manner, Story};

/// One session's life.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it was generated from.
    pub(crate) seed: u64,
    pub(crate) story: Story<Step>,
}

/// Something that befalls the session.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// What its client does.
    Client(story::Step),
    /// The server is stopped and started again.
    Restart,
    /// The server dies and is started again.
    Crash,
    /// The server dies when this session's brain comes to this durable step for the n-th time.
    CrashAt(&'static str, usize),
    /// The sandbox is lost.
    LoseSandbox,
}

impl From<story::Step> for Step {
    fn from(step: story::Step) -> Self {
        Self::Client(step)
    }
}

/// The durable steps of a brain at which it may die.
pub(crate) const POINTS: [&str; 21] = [
    "brain::claimed",
    "brain::begun",
    "brain::span_start",
    "brain::span_started",
    "brain::answer",
    "brain::answered",
    "brain::provision",
    "brain::intent",
    "brain::intended",
    "brain::result",
    "brain::resulted",
    "brain::failed",
    "brain::rescheduled",
    "brain::resume",
    "brain::interrupt",
    "brain::rest",
    "brain::rested",
    "brain::compact",
    "brain::summary",
    "brain::summarised",
    "brain::overflowed",
];

const MANNER: Manner<Step> = Manner {
    budgets: 3,
    letters: false,
    steps: 9,
    waits: (2, 3),
    step,
};

impl Case {
    /// The case of a seed: the same one each time.
    pub(crate) fn generate(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut story = MANNER.story(&mut rng);
        // Armed before anything happens, so that it is passed in most cases.
        if rng.random_ratio(1, 5) {
            story.steps.insert(0, death(&mut rng));
        }
        Self { seed, story }
    }

    /// Cases that are this one with something left out.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let stories = self.story.smaller().into_iter();
        let seed = self.seed;
        stories.map(|story| Self { seed, story }).collect()
    }
}

fn step(rng: &mut StdRng) -> Step {
    let step = match rng.random_range(0..40) {
        0..20 => story::Step::Send(random_inputs(rng)),
        20..24 => story::Step::SendBoth(random_inputs(rng), random_inputs(rng)),
        24 => story::Step::Rename,
        25..27 => story::Step::ChangeTools,
        27 => story::Step::Archive,
        28 => story::Step::Delete,
        29 => return Step::Restart,
        30 => return Step::Crash,
        31..34 => return death(rng),
        34..36 => return Step::LoseSandbox,
        _ => story::Step::LetGo,
    };
    step.into()
}

fn death(rng: &mut StdRng) -> Step {
    Step::CrashAt(POINTS.choose(rng).expect("some"), rng.random_range(1..3))
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "seed {}: {}", self.seed, self.story)
    }
}
