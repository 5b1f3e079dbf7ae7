//! What a world is made of and what befalls it: generated from a seed, before anything happens.

mod generate;

use std::fmt;

use crate::behaviour::Reply;
use crate::fate::Latency;
use crate::speech::{Input, Until};

/// One world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What it was generated from.
    pub(crate) seed: u64,
    /// Servers on one store.
    pub(crate) replicas: usize,
    /// Whether all servers reach the same sandboxes.
    pub(crate) one_place: bool,
    /// How long uses of the database take.
    pub(crate) latency: Latency,
    /// Whether folded transcripts are kept between wakes.
    pub(crate) cached: bool,
    /// Tool rounds of a turn, calls of one answer, and the model's window, all so small that many sessions meet them.
    pub(crate) narrow: bool,
    /// The sessions.
    pub(crate) stories: Vec<Story>,
    /// What befalls the servers: after so many milliseconds, something.
    pub(crate) faults: Vec<(u64, Fault)>,
}

/// One session's life.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// Messages that the session is created with.
    pub(crate) initial: usize,
    /// Its budget, in cents.
    pub(crate) budget: Option<u64>,
    /// Whether its agent has an MCP server.
    pub(crate) letters: bool,
    /// The model's answers, one per request; after the last it says something short.
    pub(crate) replies: Vec<Reply>,
    /// What its client does, in order.
    pub(crate) steps: Vec<Step>,
}

/// Something that a session's client does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
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

/// Something that befalls servers, sandboxes or the model. Servers are named by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Dies at once.
    Dies(usize),
    /// Dies at the n-th use of the database from now on, before its effect or after it.
    DiesAt(usize, u32, bool),
    /// Is stopped in good order and started again.
    Stops(usize),
    /// Stands still for so many milliseconds.
    Sleeps(usize, u64),
    /// So many of a hundred uses of the database fail, for so many milliseconds.
    Storms(usize, u32, u64),
    /// Its wall clock is set by so many seconds.
    Jumps(usize, i64),
    /// It hears and tells nothing of the others for so many milliseconds.
    Parted(usize, u64),
    /// The model's endpoint is down for so many milliseconds.
    ModelDown(u64),
    /// The sandbox of a session is lost.
    SandboxLost(usize),
}

impl Fault {
    /// What it is, for counting.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dies(_) => "a server dies",
            Self::DiesAt(_, _, false) => "a server is to die before a use of the database",
            Self::DiesAt(_, _, true) => "a server is to die after a use of the database",
            Self::Stops(_) => "a server is stopped",
            Self::Sleeps(..) => "a server stands still",
            Self::Storms(..) => "a server's database fails",
            Self::Jumps(..) => "a server's clock jumps",
            Self::Parted(..) => "a server is parted from the others",
            Self::ModelDown(_) => "the model is down",
            Self::SandboxLost(_) => "a sandbox is lost",
        }
    }
}

impl Step {
    /// What it is, for counting.
    pub(crate) fn name(&self) -> &'static str {
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

impl Plan {
    /// Plans that are this one with something left out.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        let mut without = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            smaller.push(plan);
        };
        for place in (0..self.stories.len()).filter(|_| self.stories.len() > 1) {
            without(&|plan| {
                plan.stories.remove(place);
            });
        }
        for place in 0..self.faults.len() {
            without(&|plan| {
                plan.faults.remove(place);
            });
        }
        for (place, story) in self.stories.iter().enumerate() {
            for step in (0..story.steps.len()).rev() {
                without(&|plan| {
                    plan.stories[place].steps.remove(step);
                });
            }
            for reply in (0..story.replies.len()).rev() {
                without(&|plan| {
                    plan.stories[place].replies.remove(reply);
                });
            }
        }
        smaller
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            seed,
            replicas,
            one_place,
            latency,
            cached,
            narrow,
            stories,
            faults,
        } = self;
        writeln!(
            formatter,
            "seed {seed}: {replicas} servers, one place {one_place}, latency {latency:?}, cached {cached}, narrow {narrow}"
        )?;
        for (number, story) in stories.iter().enumerate() {
            let Story {
                initial,
                budget,
                letters,
                replies,
                steps,
            } = story;
            writeln!(
                formatter,
                "  session {number}: {initial} initial messages, budget {budget:?}, letters {letters}"
            )?;
            for reply in replies {
                writeln!(formatter, "    the model: {reply:?}")?;
            }
            for step in steps {
                writeln!(formatter, "    {step:?}")?;
            }
        }
        for (after, fault) in faults {
            writeln!(formatter, "  after {after} ms: {fault:?}")?;
        }
        Ok(())
    }
}
