//! Items on their way to several readers: each is kept until all have read it, and only so many of them (security
//! STREAM-1). Pure. Nothing is set aside ahead of time: an idle listener costs a few hundred bytes, and there are many.

use std::collections::VecDeque;

/// Items are numbered from 0; a reader keeps the number of the one it reads next.
pub(super) struct Ring<T> {
    items: VecDeque<Unread<T>>,
    /// The number of the oldest item that is kept.
    first: u64,
    readers: usize,
    most: usize,
    closed: bool,
}

struct Unread<T> {
    item: T,
    /// How many readers have yet to read it.
    readers: usize,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// The next item.
    Item(T),
    /// Items were dropped; the reader goes on with the oldest that is kept.
    Lagged,
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Closed,
}

/// Room that an empty ring keeps.
const SPARE: usize = 4;

impl<T: Clone> Ring<T> {
    /// Keeps `most` items for the slowest reader.
    pub(super) fn new(most: usize) -> Self {
        Self {
            items: VecDeque::new(),
            first: 0,
            readers: 0,
            most,
            closed: false,
        }
    }

    /// Adds a reader of what is pushed from now on; answers with its place.
    pub(super) fn attach(&mut self) -> u64 {
        self.readers += 1;
        self.end()
    }

    /// Takes a reader away that would have read `next`; answers with how many are left.
    pub(super) fn detach(&mut self, next: u64) -> usize {
        let read = usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        for unread in self.items.iter_mut().skip(read) {
            unread.readers -= 1;
        }
        self.readers -= 1;
        self.forget();
        self.readers
    }

    /// Adds an item; the oldest gives way when there are too many.
    pub(super) fn push(&mut self, item: T) {
        if self.readers == 0 {
            return;
        }
        if self.items.len() == self.most {
            self.items.pop_front();
            self.first += 1;
        }
        self.items.push_back(Unread {
            item,
            readers: self.readers,
        });
    }

    /// Reads the item `next` and moves `next` on.
    pub(super) fn next(&mut self, next: &mut u64) -> Next<T> {
        if *next < self.first {
            *next = self.first;
            return Next::Lagged;
        }
        let index = usize::try_from(*next - self.first).unwrap_or(usize::MAX);
        let Some(unread) = self.items.get_mut(index) else {
            return match self.closed {
                true => Next::Closed,
                false => Next::Nothing,
            };
        };
        *next += 1;
        unread.readers -= 1;
        let item = unread.item.clone();
        self.forget();
        Next::Item(item)
    }

    /// Nothing will be pushed any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Whether anybody reads.
    pub(super) fn has_readers(&self) -> bool {
        self.readers > 0
    }

    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Drops what all have read.
    fn forget(&mut self) {
        while self.items.front().is_some_and(|unread| unread.readers == 0) {
            self.items.pop_front();
            self.first += 1;
        }
        if self.items.is_empty() {
            self.items.shrink_to(SPARE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader gets until there is nothing.
    fn read(ring: &mut Ring<u32>, next: &mut u64) -> Vec<Next<u32>> {
        std::iter::from_fn(|| Some(ring.next(next)).filter(|found| *found != Next::Nothing))
            .collect()
    }

    fn items(numbers: std::ops::Range<u32>) -> Vec<Next<u32>> {
        numbers.map(Next::Item).collect()
    }

    #[test]
    fn each_reader_gets_each_item_pushed_after_it_came_and_then_it_is_forgotten() {
        let mut ring = Ring::new(8);
        ring.push(99);
        let mut one = ring.attach();
        ring.push(0);
        let mut two = ring.attach();
        ring.push(1);
        ring.push(2);
        assert_eq!(read(&mut ring, &mut one), items(0..3));
        assert_eq!(ring.items.len(), 2, "kept for the other");
        assert_eq!(read(&mut ring, &mut two), items(1..3));
        assert_eq!(ring.items.len(), 0);
        ring.push(3);
        assert_eq!(ring.detach(one), 1);
        assert_eq!(read(&mut ring, &mut two), items(3..4));
        assert_eq!(ring.detach(two), 0);
    }

    #[test]
    fn stream_1_a_slow_reader_is_told_what_it_lost_and_holds_no_more_than_the_limit() {
        let mut ring = Ring::new(4);
        let (mut slow, mut fast) = (ring.attach(), ring.attach());
        for number in 0..10 {
            ring.push(number);
            assert_eq!(read(&mut ring, &mut fast), items(number..number + 1));
            assert!(ring.items.len() <= 4);
        }
        let mut expected = vec![Next::Lagged];
        expected.extend(items(6..10));
        assert_eq!(read(&mut ring, &mut slow), expected);
        assert!(ring.items.is_empty() && ring.items.capacity() <= 8);
    }

    #[test]
    fn a_reader_that_leaves_takes_along_what_was_kept_for_it() {
        let mut ring = Ring::new(4);
        let (slow, mut fast) = (ring.attach(), ring.attach());
        for number in 0..9 {
            ring.push(number);
            assert_eq!(read(&mut ring, &mut fast), items(number..number + 1));
        }
        assert_eq!(ring.items.len(), 4);
        assert_eq!(ring.detach(slow), 1);
        assert_eq!(ring.items.len(), 0);
        ring.push(9);
        assert_eq!(read(&mut ring, &mut fast), items(9..10));
    }

    #[test]
    fn what_was_pushed_before_the_end_is_read_before_it() {
        let mut ring = Ring::new(4);
        let mut reader = ring.attach();
        ring.push(0);
        ring.close();
        assert_eq!(ring.next(&mut reader), Next::Item(0));
        assert_eq!(ring.next(&mut reader), Next::Closed);
    }
}
