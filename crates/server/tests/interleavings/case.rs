//! A case: what one session is made of and what befalls it, generated from a seed.

mod generate;

use std::fmt;

use manyhands_simulation::behaviour::Reply;
use manyhands_simulation::speech::{Input, Until};

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
