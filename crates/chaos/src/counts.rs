//! What was counted, by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts by name; sums of sums are sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Counts some more.
    pub(crate) fn add(&mut self, name: &str, more: u64) {
        if let Some(count) = self.0.get_mut(name) {
            *count += more;
        } else {
            self.0.insert(name.to_owned(), more);
        }
    }

    /// Counts what others counted.
    pub(crate) fn merge(&mut self, others: &Self) {
        for (name, count) in &others.0 {
            self.add(name, *count);
        }
    }

    /// How many of this name.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let mut counts = Counts::default();
        counts.add("a", 2);
        let mut others = counts.clone();
        others.add("b", 1);
        counts.merge(&others);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [("a", 4), ("b", 1)]);
        assert_eq!((counts.get("a"), counts.get("c")), (4, 0));
    }
}
