//! What is to be done in one folder, in the order of what was found (pure).

use std::time::{SystemTime, UNIX_EPOCH};

use manyhands_hands::memory::{Odd, Oddity, Over, Stamp};

use super::super::base::Known;
use super::super::plan::Step;

/// A file, as far as it can be told without reading it.
pub(super) enum File {
    /// There is none.
    Missing,
    /// As it was.
    Same,
    /// It has to be read.
    Unread(Stamp),
}

/// What is still to be done in a folder.
#[derive(Default)]
pub(super) struct Work {
    pub(super) takes: Vec<(String, Stamp)>,
    pub(super) lays: Vec<Lay>,
    pub(super) clears: Vec<Clear>,
    /// Whether something was changed meanwhile and has to be looked at again.
    pub(super) unsettled: bool,
}

/// A memory that goes into the sandbox.
pub(super) struct Lay {
    pub(super) path: String,
    pub(super) over: Over,
    pub(super) why: Why,
}

/// Something that goes from the sandbox and is kept beside.
pub(super) struct Clear {
    /// Whatever bytes it has.
    pub(super) path: Vec<u8>,
    pub(super) why: Why,
}

/// Why something is done in a folder.
pub(super) enum Why {
    /// The store has changed.
    News,
    /// Both sides have.
    Conflict,
    /// The store does not take what was written.
    Refused(String),
}

impl Work {
    /// A step that is done in the folder.
    pub(super) fn plan(&mut self, step: Step, path: &str, stamp: Option<Stamp>, store_has: bool) {
        let path = path.to_owned();
        match (step, stamp) {
            (Step::Lay, stamp) => {
                let over = stamp.map_or(Over::Nothing, |stamp| Over::File { stamp });
                let why = Why::News;
                self.lays.push(Lay { path, over, why });
            }
            (Step::Take, Some(stamp)) => self.takes.push((path, stamp)),
            (Step::Yield, _) if store_has => self.lays.push(Lay {
                path,
                over: Over::Kept,
                why: Why::Conflict,
            }),
            (Step::Yield, Some(_)) => self.clears.push(Clear {
                path: path.as_bytes()[1..].to_owned(),
                why: Why::Conflict,
            }),
            // Nothing of it is in the folder.
            (
                Step::Nothing | Step::Agree | Step::Push | Step::Drop | Step::Take | Step::Yield,
                _,
            ) => {
                self.unsettled = true;
            }
        }
    }

    /// What was written is not taken: the folder shows what the store has.
    pub(super) fn refuse(&mut self, path: &str, why: String, store_has: bool) {
        let why = Why::Refused(why);
        match store_has {
            true => self.lays.push(Lay {
                path: path.to_owned(),
                over: Over::Kept,
                why,
            }),
            false => self.clears.push(Clear {
                path: path.as_bytes()[1..].to_owned(),
                why,
            }),
        }
    }
}

/// A store that is only read: whatever is not as the store has it is laid again.
pub(super) fn read_only(
    work: &mut Work,
    path: &str,
    base: Option<&str>,
    store: Option<&str>,
    file: &File,
    stamp: Option<&Stamp>,
) {
    let step = match file {
        File::Same if base == store => return,
        File::Missing if store.is_none() => return,
        _ if store.is_some() => Step::Lay,
        _ => Step::Take,
    };
    work.plan(step, path, stamp.copied(), store.is_some());
}

/// What can be told of a file without reading it.
pub(super) fn file(base: Option<&Known>, stamp: Option<&Stamp>, whole: bool) -> File {
    match (base, stamp) {
        (Some(known), Some(stamp)) if known.stamp.as_ref() == Some(stamp) => File::Same,
        (_, Some(stamp)) => File::Unread(*stamp),
        (Some(known), None) if known.unshown || !whole => File::Same,
        (_, None) => File::Missing,
    }
}

pub(super) fn odd(odd: Odd) -> Clear {
    let why = match odd.what {
        Oddity::Link => "a memory is a file, and no link",
        Oddity::Special => "a memory is a regular file",
        Oddity::NoText => "its path is no UTF-8 text",
    };
    Clear {
        path: odd.path,
        why: Why::Refused(why.to_owned()),
    }
}

/// Now, as files have it.
#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with the times that the machine gives to files"
)]
pub(super) fn nanoseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
