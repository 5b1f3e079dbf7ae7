//! Ids that depend on a seed alone, for tests whose every byte has to come out again.

use std::cell::Cell;

thread_local! {
    static NEXT: Cell<Option<u128>> = const { Cell::new(None) };
}

/// For as long as it lives, ids that are made on this thread are counted from a seed.
#[derive(Debug)]
pub struct Seeded(());

impl Seeded {
    /// Ids of this thread are the same ones for the same seed from now on, in the order in which they are made.
    pub fn from(seed: u64) -> Self {
        NEXT.set(Some(u128::from(seed) << 64));
        Self(())
    }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        NEXT.set(None);
    }
}

/// The next id's number, when this thread's ids are seeded.
pub(super) fn next() -> Option<u128> {
    let next = NEXT.get()?;
    NEXT.set(Some(next + 1));
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionId;

    #[test]
    fn id_1_seeded_ids_come_out_again_and_sort_by_creation() {
        let make = |seed| {
            let _seeded = Seeded::from(seed);
            (0..100).map(|_| SessionId::generate()).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert!(make(7).is_sorted());
        assert!(make(7).iter().all(|id| !make(8).contains(id)));
        assert_ne!(SessionId::generate(), SessionId::generate());
    }
}
