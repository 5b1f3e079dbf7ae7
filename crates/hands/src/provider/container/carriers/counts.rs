//! How many carriers a container has, and how many it is to have (pure).

use manyhands_sandboxd::door::porch::CARRIERS;

/// How many wait while nothing goes out.
const SPARE: usize = 2;

/// How many are started at once, at most.
const BURST: usize = 16;

/// How many stay after a burst.
const KEPT: usize = 8;

/// How many carriers do what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    starting: usize,
    waiting: usize,
    busy: usize,
}

impl Counts {
    /// How many are to wait: the more, the more have clients already.
    fn spare(self) -> usize {
        self.busy.clamp(SPARE, BURST)
    }

    /// How many are to be started.
    pub(super) fn lacking(self) -> usize {
        let coming = self.starting + self.waiting;
        let room = CARRIERS.saturating_sub(coming + self.busy);
        self.spare().saturating_sub(coming).min(room)
    }

    /// Whether one whose client has gone is to wait for another.
    pub(super) fn keeps(self) -> bool {
        self.starting + self.waiting < self.spare().max(KEPT)
    }

    /// How many do this.
    pub(super) fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Starting => &mut self.starting,
            State::Waiting => &mut self.waiting,
            State::Busy => &mut self.busy,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Waiting,
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_wait_as_may_be_needed_next_and_no_more() {
        #[track_caller]
        fn check((starting, waiting, busy): (usize, usize, usize), lacking: usize, keeps: bool) {
            let counts = Counts {
                starting,
                waiting,
                busy,
            };
            assert_eq!((counts.lacking(), counts.keeps()), (lacking, keeps));
        }
        check((0, 0, 0), SPARE, true);
        check((1, 1, 0), 0, true);
        check((0, KEPT, 0), 0, false);
        // A burst finds twice as many each time, within bounds.
        check((0, 0, 2), 2, true);
        check((0, 0, 12), 12, true);
        check((4, 0, 12), 8, true);
        check((0, 0, 30), BURST, true);
        check((0, BURST, 30), 0, false);
        check((0, 0, CARRIERS - 3), 3, true);
        check((3, 0, CARRIERS - 3), 0, true);
        check((0, 0, CARRIERS), 0, true);
    }
}
