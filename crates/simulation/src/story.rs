//! The story of a session: what it is made of, what its model says, and what its client does.

mod generate;

use std::fmt;

use crate::behaviour::Reply;
use crate::speech::{Input, Until};

pub use generate::Manner;

/// One session's life. `S` are its steps: a client's, or these among others.
#[derive(Clone, Debug)]
pub struct Story<S = Step> {
    /// Messages that the session is created with.
    pub initial: usize,
    /// Its budget, in cents.
    pub budget: Option<u64>,
    /// Whether its agent has an MCP server.
    pub letters: bool,
    /// The model's answers, one per request; after the last it says something short.
    pub replies: Vec<Reply>,
    /// What is done, in order.
    pub steps: Vec<S>,
}

/// Something that a session's client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these in one request.
    Send(Vec<Input>),
    /// Sends these in two requests at the same time.
    SendBoth(Vec<Input>, Vec<Input>),
    /// Gives the session another title.
    Rename,
    /// Gives the session other tools, which it takes only when it is idle.
    ChangeTools,
    /// Sets the budget to so many cents.
    SetBudget(u64),
    /// Removes the budget.
    RemoveBudget,
    /// Archives the session.
    Archive,
    /// Deletes the session.
    Delete,
    /// Nothing, until something has happened.
    Await(Until),
    /// Nothing, for so many milliseconds.
    Wait(u64),
    /// Breaks its stream off and takes it up again.
    Reconnect,
    /// Reads the list of events, and compares it with what was heard.
    List,
    /// Silent models and hanging commands go on.
    LetGo,
}

impl Step {
    /// What it is, for counting.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Send(_) => "send",
            Self::SendBoth(..) => "send both",
            Self::Rename => "rename",
            Self::ChangeTools => "change tools",
            Self::SetBudget(_) => "set the budget",
            Self::RemoveBudget => "remove the budget",
            Self::Archive => "archive",
            Self::Delete => "delete",
            Self::Await(Until::Events(_)) => "await events",
            Self::Await(Until::OpenCall) => "await an open call",
            Self::Await(Until::Asked) => "await a request",
            Self::Await(Until::Rest) => "await rest",
            Self::Wait(_) => "wait",
            Self::Reconnect => "reconnect",
            Self::List => "list",
            Self::LetGo => "let go",
        }
    }
}

impl<S: Clone> Story<S> {
    /// Stories that are this one with a step or a reply left out.
    pub fn smaller(&self) -> Vec<Self> {
        let without_step = (0..self.steps.len()).rev().map(|place| {
            let mut story = self.clone();
            story.steps.remove(place);
            story
        });
        let without_reply = (0..self.replies.len()).rev().map(|place| {
            let mut story = self.clone();
            story.replies.remove(place);
            story
        });
        without_step.chain(without_reply).collect()
    }
}

impl<S: fmt::Debug> fmt::Display for Story<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            initial,
            budget,
            letters,
            replies,
            steps,
        } = self;
        writeln!(
            formatter,
            "{initial} initial messages, budget {budget:?}, letters {letters}"
        )?;
        for reply in replies {
            writeln!(formatter, "    the model: {reply:?}")?;
        }
        for step in steps {
            writeln!(formatter, "    {step:?}")?;
        }
        Ok(())
    }
}
