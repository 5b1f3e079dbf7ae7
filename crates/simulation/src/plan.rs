//! What a world is made of and what befalls it: generated from a seed, before anything happens.

mod generate;

use std::fmt;

use crate::fate::Latency;
use crate::story::Story;

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
            for smaller in story.smaller() {
                without(&|plan| plan.stories[place] = smaller.clone());
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
            write!(formatter, "  session {number}: {story}")?;
        }
        for (after, fault) in faults {
            writeln!(formatter, "  after {after} ms: {fault:?}")?;
        }
        Ok(())
    }
}
