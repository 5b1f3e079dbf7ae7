//! A case: what one session is made of and what befalls it, generated from a seed.

use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// One session's life.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What it was generated from.
    pub(crate) seed: u64,
    /// Messages that the session is created with.
    pub(crate) initial: usize,
    /// Its budget, in cents.
    pub(crate) budget: Option<u64>,
    /// The model's answers, one per request; after the last it says something short.
    pub(crate) replies: Vec<Reply>,
    /// What clients, operators and machines do, in order.
    pub(crate) steps: Vec<Step>,
}

/// What the model does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Says something and calls tools.
    Answer {
        /// Whether it thinks first.
        thinks: bool,
        /// Whether it says something.
        speaks: bool,
        /// Its calls.
        calls: Vec<Use>,
    },
    /// Is cut at its output limit, after a text or without one.
    MaxTokens {
        /// Whether there is a text.
        speaks: bool,
    },
    /// Declines.
    Refusal,
    /// A message without any block.
    Nothing,
    /// A message of white space.
    Blank,
    /// Fails before the first byte.
    Fails(Fault),
    /// Breaks off in the middle of a text.
    BreaksOff,
    /// Falls silent in the middle of a text, until the request is cut or the case lets go.
    FallsSilent,
    /// Answers after others have had their turn many times.
    Slow,
}

/// How a provider fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Overloaded,
    RateLimited,
    Failed,
    Overflow,
    Refused,
    Auth,
    Billing,
}

/// What the model does with a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A command that gives something.
    Runs,
    /// A command that fails.
    Fails,
    /// A command without output.
    SaysNothing,
    /// A command that goes on until it is killed or the case lets go.
    Hangs,
    /// A command during which the sandbox is lost.
    LosesSandbox,
    /// A tool that only looks.
    Reads,
    /// As before, and the sandbox is lost meanwhile.
    ReadsAndLosesSandbox,
    /// A tool that is switched off.
    Disabled,
    /// A tool that nobody knows.
    Unknown,
    /// An input that does not fit the tool's schema.
    BadInput,
    /// An input that is no object.
    NoObject,
    /// The client's own tool.
    Custom,
    /// A tool that asks first.
    Asks,
    /// A tool that a judge is asked about.
    Judged(Verdict),
}

/// What the judge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allows,
    Denies,
    CannotTell,
    Fails,
}

/// Something that befalls the session.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A client sends these in one request.
    Send(Vec<Input>),
    /// Two clients send at the same time.
    SendBoth(Vec<Input>, Vec<Input>),
    /// A client gives the session another title.
    Rename,
    /// A client gives the session other tools, which it takes only when it is idle.
    ChangeTools,
    /// A client sets the budget to so many cents.
    SetBudget(u64),
    /// A client removes the budget.
    RemoveBudget,
    /// A client archives the session.
    Archive,
    /// A client deletes the session.
    Delete,
    /// Nothing, until something has happened.
    Await(Until),
    /// The server is stopped and started again.
    Restart,
    /// The server dies and is started again.
    Crash,
    /// The server dies when this session's brain comes to this durable step for the n-th time.
    CrashAt(&'static str, usize),
    /// The sandbox is lost.
    LoseSandbox,
    /// Silent models and hanging commands go on.
    LetGo,
}

/// One event that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Message,
    /// A message of the operator, for the model alone.
    System,
    Interrupt,
    /// An answer to a call.
    Answer(Target),
}

/// Which call an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One of those that wait for the client.
    Open,
    /// One that was answered before.
    Answered,
    /// One that nobody has to answer.
    NotAsked,
    /// None there is.
    Unknown,
}

/// What is waited for. A wait also ends when nothing more can happen by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// So many more events.
    Events(usize),
    /// A call that waits for the client, be the session idle already or not.
    OpenCall,
    /// The model has a request in hand.
    Asked,
    /// The session is at rest.
    Rest,
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

impl Case {
    /// The case of a seed: the same one each time.
    pub(crate) fn generate(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let replies = (0..rng.random_range(0..7)).map(|_| reply(&mut rng));
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
                steps.push(Step::Await(until(&mut rng)));
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

impl Case {
    /// Cases that are this one with something left out.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let without_step = (0..self.steps.len()).rev().map(|place| {
            let mut case = self.clone();
            case.steps.remove(place);
            case
        });
        let without_reply = (0..self.replies.len()).rev().map(|place| {
            let mut case = self.clone();
            case.replies.remove(place);
            case
        });
        without_step.chain(without_reply).collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            seed,
            initial,
            budget,
            replies,
            steps,
        } = self;
        let budget = budget.map_or("no budget".to_owned(), |cents| format!("{cents} cents"));
        writeln!(
            formatter,
            "seed {seed}, {initial} initial messages, {budget}"
        )?;
        for reply in replies {
            writeln!(formatter, "  the model: {reply:?}")?;
        }
        for step in steps {
            writeln!(formatter, "  {step:?}")?;
        }
        Ok(())
    }
}

fn reply(rng: &mut StdRng) -> Reply {
    const FAULTS: [Fault; 7] = [
        Fault::Overloaded,
        Fault::RateLimited,
        Fault::Failed,
        Fault::Overflow,
        Fault::Refused,
        Fault::Auth,
        Fault::Billing,
    ];
    match rng.random_range(0..30) {
        0..4 => Reply::Answer {
            thinks: rng.random_ratio(1, 4),
            speaks: true,
            calls: Vec::new(),
        },
        4..18 => Reply::Answer {
            thinks: rng.random_ratio(1, 4),
            speaks: rng.random(),
            calls: (0..rng.random_range(1..5)).map(|_| tool_use(rng)).collect(),
        },
        18 => Reply::MaxTokens {
            speaks: rng.random(),
        },
        19 => Reply::Refusal,
        20 => Reply::Nothing,
        21 => Reply::Blank,
        22..25 => Reply::Fails(*FAULTS.choose(rng).expect("some")),
        25..27 => Reply::BreaksOff,
        27..29 => Reply::FallsSilent,
        _ => Reply::Slow,
    }
}

fn tool_use(rng: &mut StdRng) -> Use {
    const VERDICTS: [Verdict; 4] = [
        Verdict::Allows,
        Verdict::Denies,
        Verdict::CannotTell,
        Verdict::Fails,
    ];
    match rng.random_range(0..30) {
        0..5 => Use::Runs,
        5 => Use::Fails,
        6 => Use::SaysNothing,
        7..10 => Use::Hangs,
        10 => Use::LosesSandbox,
        11 => Use::Reads,
        12 => Use::ReadsAndLosesSandbox,
        13 => Use::Disabled,
        14 => Use::Unknown,
        15 => Use::BadInput,
        16 => Use::NoObject,
        17..20 => Use::Judged(*VERDICTS.choose(rng).expect("some")),
        20..25 => Use::Asks,
        _ => Use::Custom,
    }
}

fn step(rng: &mut StdRng) -> Step {
    match rng.random_range(0..40) {
        0..20 => Step::Send(inputs(rng)),
        20..24 => Step::SendBoth(inputs(rng), inputs(rng)),
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

/// What goes in one request: a message of the operator stands last (runtime SE-8).
fn inputs(rng: &mut StdRng) -> Vec<Input> {
    let mut inputs: Vec<Input> = (0..rng.random_range(1..4)).map(|_| input(rng)).collect();
    if rng.random_ratio(1, 6) {
        if rng.random_ratio(1, 3) {
            inputs.clear();
        }
        inputs.push(Input::System);
    }
    inputs
}

fn input(rng: &mut StdRng) -> Input {
    match rng.random_range(0..20) {
        0..7 => Input::Message,
        7..9 => Input::Interrupt,
        9..16 => Input::Answer(Target::Open),
        16..18 => Input::Answer(Target::Answered),
        18 => Input::Answer(Target::NotAsked),
        _ => Input::Answer(Target::Unknown),
    }
}

fn until(rng: &mut StdRng) -> Until {
    match rng.random_range(0..8) {
        0..3 => Until::Events(rng.random_range(1..9)),
        3..5 => Until::OpenCall,
        5 => Until::Asked,
        _ => Until::Rest,
    }
}
