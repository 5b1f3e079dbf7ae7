//! Samples and what they say (pure).

use std::time::Duration;

/// Durations of one thing done many times, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Takes samples in any order. Panics when there are none.
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "no samples");
        samples.sort_unstable();
        Self(samples)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The nearest-rank percentile, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        millis(self.0[rank - 1])
    }

    /// The median, in milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let samples =
            |count: u64| Samples::new((1..=count).rev().map(Duration::from_millis).collect());
        let check = |count, percent, expected: f64| {
            assert_eq!(
                samples(count).percentile(percent),
                expected,
                "p{percent} of {count}"
            );
        };
        check(1, 50, 1.0);
        check(1, 99, 1.0);
        check(4, 50, 2.0);
        check(5, 50, 3.0);
        check(100, 95, 95.0);
        check(100, 99, 99.0);
        check(150, 99, 149.0);
    }
}
