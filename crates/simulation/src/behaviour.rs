//! What models, tools and judges do in a case, and how often.

use manyhands_brain::models::ErrorKind;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// What the model does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
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
    Fails(ErrorKind),
    /// Breaks off in the middle of a text.
    BreaksOff,
    /// Falls silent in the middle of a text, until the request is cut or the case lets go.
    FallsSilent,
    /// Answers after others have had their turn many times.
    Slow,
}

/// What the model does with a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
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
    /// A tool of an MCP server.
    Remote(Remote),
}

/// What a tool of an MCP server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// It sends something.
    Sends,
    /// It fails.
    Fails,
    /// It sends something and goes on until it is given up or the case lets go.
    Hangs,
    /// It sends something, and nobody hears of it.
    BreaksOff,
    /// It sends something, and asks first.
    Posts,
    /// It is not there.
    Vanished,
}

/// What the judge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Allows,
    /// It must not run.
    Denies,
    /// The client is to decide.
    CannotTell,
    /// There is no word.
    Fails,
}

/// Something that a model does.
pub fn random_reply(rng: &mut StdRng) -> Reply {
    const FAULTS: [ErrorKind; 7] = [
        ErrorKind::Overloaded,
        ErrorKind::RateLimited,
        ErrorKind::Failed,
        ErrorKind::Overflow,
        ErrorKind::Refused,
        ErrorKind::Auth,
        ErrorKind::Billing,
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
    const REMOTES: [Remote; 8] = [
        Remote::Sends,
        Remote::Sends,
        Remote::Posts,
        Remote::Posts,
        Remote::Fails,
        Remote::Hangs,
        Remote::BreaksOff,
        Remote::Vanished,
    ];
    match rng.random_range(0..36) {
        30.. => Use::Remote(*REMOTES.choose(rng).expect("some")),
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
