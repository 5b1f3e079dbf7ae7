//! Which entries a channel publishes next. Pure: positions only (security I2, STREAM-1).
//!
//! A channel is told of entries by commits of this process, by other instances and by looks at the log, in any order and
//! more than once. It publishes each position once and none before the one in front of it.

/// Where a channel is in its session's log.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// All entries up to here are published, or were read by whoever listens. Unknown until one of both is said.
    last: Option<i64>,
    /// The first entry that was published without knowing where its listeners are.
    blind: Option<i64>,
    /// A task looks at the log.
    looking: bool,
    /// Something was said since that task began its present look, or while there was nowhere to look from.
    again: bool,
    /// The session is gone: nothing follows.
    over: bool,
}

/// What to do with entries that are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Publish them from this index on.
    From(usize),
    /// All of them are published.
    Known,
    /// Others come before them: the log must be read.
    Gap,
}

impl Order {
    /// Entries without a hole between them, the first at position `first`; what is not a gap counts as published.
    pub(super) fn offer(&mut self, first: i64, count: usize) -> Offer {
        if self.over || count == 0 {
            return Offer::Known;
        }
        let end = first + count as i64 - 1;
        let known = match self.last {
            None => {
                self.blind = Some(first);
                0
            }
            Some(last) if first > last + 1 => return Offer::Gap,
            Some(last) if end <= last => return Offer::Known,
            Some(last) => usize::try_from(last + 1 - first).unwrap_or(0),
        };
        self.last = Some(end);
        Offer::From(known)
    }

    /// A listener has read the log up to here. Whether a look at the log must be started.
    pub(super) fn has_read(&mut self, position: i64) -> bool {
        match self.last {
            None => {
                self.last = Some(position);
                std::mem::take(&mut self.again) && self.look()
            }
            Some(last) => position > last && self.look(),
        }
    }

    /// Whether a listener that has read the log up to here was shown a later entry and not the one between.
    pub(super) fn has_skipped(&self, position: i64) -> bool {
        self.blind.is_some_and(|blind| position + 1 < blind)
    }

    /// The log is said to have entries up to here. Whether a look at the log must be started.
    pub(super) fn reaches(&mut self, position: i64) -> bool {
        self.last.is_none_or(|last| position > last) && self.look()
    }

    /// Something may have been missed. Whether a look at the log must be started.
    pub(super) fn look(&mut self) -> bool {
        if self.over {
            return false;
        }
        if self.looking || self.last.is_none() {
            self.again = true;
            return false;
        }
        self.looking = true;
        true
    }

    /// A look begins: entries after this position are wanted. `None` when there is nothing to look for any more.
    pub(super) fn begin(&mut self) -> Option<i64> {
        self.again = false;
        if self.over {
            self.looking = false;
            return None;
        }
        self.last
    }

    /// A look has ended. Whether another one must follow.
    pub(super) fn end(&mut self, more: bool) -> bool {
        self.looking = !self.over && (more || self.again);
        self.looking
    }

    /// Nobody looks any more, whatever was said.
    pub(super) fn give_up(&mut self) {
        self.looking = false;
        self.again = false;
    }

    /// The session is gone. False when that was said before.
    pub(super) fn finish(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }

    /// All up to here is published; `None` when that is not known.
    pub(super) fn last(&self) -> Option<i64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: i64) -> Order {
        let mut order = Order::default();
        assert!(!order.has_read(last));
        order
    }

    /// What an order that has published up to `last` does with entries, and where it is then.
    #[track_caller]
    fn check(last: Option<i64>, first: i64, count: usize, offer: Offer, then: Option<i64>) {
        let mut order = last.map_or_else(Order::default, at);
        assert_eq!(order.offer(first, count), offer);
        assert_eq!(order.last(), then);
    }

    #[test]
    fn i_2_each_position_is_published_once_and_behind_the_one_before_it() {
        check(None, 7, 2, Offer::From(0), Some(8));
        check(Some(6), 7, 2, Offer::From(0), Some(8));
        check(Some(7), 7, 2, Offer::From(1), Some(8));
        check(Some(8), 7, 2, Offer::Known, Some(8));
        check(Some(9), 7, 2, Offer::Known, Some(9));
        check(Some(5), 7, 2, Offer::Gap, Some(5));
        check(Some(0), 1, 1, Offer::From(0), Some(1));
        check(Some(5), 6, 0, Offer::Known, Some(5));
    }

    #[test]
    fn stream_1_what_is_said_during_a_look_causes_another_one() {
        let mut order = at(4);
        assert!(!order.reaches(4), "known");
        assert!(order.reaches(6));
        assert!(!order.reaches(7), "one task is enough");
        assert_eq!(order.begin(), Some(4));
        assert_eq!(order.offer(5, 2), Offer::From(0));
        assert!(!order.end(false), "7 was said before the look began");
        assert!(order.reaches(8));
        assert_eq!(order.begin(), Some(6));
        assert!(!order.reaches(9));
        assert!(order.end(false), "9 was said during the look");
        assert_eq!(order.begin(), Some(6));
        assert!(order.end(true), "the page was full");
        assert!(!order.end(false));
    }

    #[test]
    fn st_2_what_is_said_before_a_listener_knows_where_it_is_is_looked_for_then() {
        let mut order = Order::default();
        assert!(!order.reaches(3), "there is nowhere to look from");
        assert!(order.has_read(2));
        assert_eq!(order.begin(), Some(2));

        let mut order = at(2);
        assert!(!order.has_read(2));
        assert!(order.has_read(5), "another listener has read further");

        let mut order = Order::default();
        assert_eq!(
            order.offer(7, 1),
            Offer::From(0),
            "for who waits for no more"
        );
        assert!(order.has_skipped(5) && !order.has_skipped(6));
    }

    #[test]
    fn nothing_follows_the_end_of_a_session() {
        let mut order = at(2);
        assert!(order.look());
        assert!(order.finish());
        assert!(!order.finish(), "it is told once");
        assert_eq!(order.offer(3, 1), Offer::Known);
        assert_eq!(order.begin(), None);
        assert!(!order.look());
    }
}
