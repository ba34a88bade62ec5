//! How often values have been seen of late: a histogram that forgets.

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Counts by bin, in which a value weighs the less the longer ago it came.
///
/// Instead of shrinking every bin with each value, what comes weighs more than what came before; the
/// counts are brought back to size now and then.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Histogram<const BINS: usize> {
    counts: Vec<f32, BINS>,
    total: f64,
    /// What the next value weighs.
    weight: f64,
    /// By how much each value weighs more than the one before.
    growth: f64,
}

/// The weight at which counts are brought back to size: far below where f32 loses single values.
const WEIGHT_MAX: f64 = 1e6;

impl<const BINS: usize> Histogram<BINS> {
    /// Nothing seen. After `memory` values, at least 1, a value weighs 1/e of what it did.
    pub fn new(memory: f32) -> Self {
        let mut counts = Vec::new();
        counts.resize(BINS, 0.0).unwrap_or_default();
        Self {
            counts,
            total: 0.0,
            weight: 1.0,
            growth: 1.0 / (1.0 - 1.0 / f64::from(memory.max(1.0 + f32::EPSILON))),
        }
    }

    /// Counts a value in `bin`; one past the last counts there.
    pub fn add(&mut self, bin: usize) {
        self.weight *= self.growth;
        if self.weight > WEIGHT_MAX {
            for count in &mut self.counts {
                *count = (f64::from(*count) / self.weight) as f32;
            }
            self.total /= self.weight;
            self.weight = 1.0;
        }
        if let Some(count) = self.counts.get_mut(bin.min(BINS.saturating_sub(1))) {
            *count = (f64::from(*count) + self.weight) as f32;
            self.total += self.weight;
        }
    }

    /// Values seen, each as much as it still weighs.
    pub fn total(&self) -> f64 {
        self.total / self.weight
    }

    /// Values in `bin` and around it, the fewer the farther: a triangular kernel that reaches `reach` bins
    /// to both sides and sums to 1.
    pub fn near(&self, bin: usize, reach: usize) -> f64 {
        let first = bin.saturating_sub(reach);
        let share = |(index, count): (usize, &f32)| {
            let distance = (first + index).abs_diff(bin);
            f64::from(*count) * (reach + 1).saturating_sub(distance) as f64
        };
        let around = self.counts.iter().skip(first).take(bin + reach + 1 - first);
        let sum: f64 = around.enumerate().map(share).sum();
        sum / ((reach + 1) * (reach + 1)) as f64 / self.weight
    }

    /// Values in `bin` and all above it.
    pub fn from(&self, bin: usize) -> f64 {
        let sum: f64 = self.counts.iter().skip(bin).map(|&count| f64::from(count)).sum();
        sum / self.weight
    }

    /// How unexpected a value in `bin` is: -ln of the share of values seen around it, with half a value
    /// spread over all bins so that what was never seen is not impossible.
    pub fn surprise(&self, bin: usize, reach: usize) -> f64 {
        let never = 0.5 / BINS as f64;
        -libm::log((self.near(bin, reach) + never) / (self.total() + 0.5))
    }

    /// How unexpected it is that a value lies in `bin` or above: -ln of the share that did, half a value
    /// more in each part.
    pub fn surprise_above(&self, bin: usize) -> f64 {
        -libm::log((self.from(bin) + 0.5) / (self.total() + 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_often_surprises_less_than_what_was_never_seen() {
        let mut seen = Histogram::<10>::new(1000.0);
        for i in 0..300 {
            seen.add(4 + usize::from(i % 10 == 0));
        }
        assert!(seen.surprise(4, 0) < seen.surprise(5, 0));
        assert!(seen.surprise(5, 0) < seen.surprise(9, 0));
        // A neighbour of what is seen often is half expected.
        assert!(seen.surprise(3, 1) < seen.surprise(9, 1));
    }

    #[test]
    fn a_value_fades_to_a_third_over_the_memory() {
        let mut seen = Histogram::<2>::new(1000.0);
        seen.add(0);
        for _ in 0..1000 {
            seen.add(1);
        }
        let left = seen.near(0, 0);
        assert!((left - (-1f64).exp()).abs() < 1e-3, "{left}");
    }

    #[test]
    fn the_weight_of_all_values_settles_at_the_memory_however_long_it_runs() {
        let mut seen = Histogram::<4>::new(50.0);
        for i in 0..100_000 {
            seen.add(i % 4);
        }
        assert!((seen.total() - 50.0).abs() < 1e-3);
        assert!((seen.from(0) - 50.0).abs() < 1e-3);
    }

    #[test]
    fn the_kernel_sums_to_one() {
        let mut seen = Histogram::<9>::new(1e6);
        seen.add(4);
        let sum: f64 = (0..9).map(|bin| seen.near(bin, 2)).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        assert!((seen.near(4, 2) - 1.0 / 3.0).abs() < 1e-5);
    }

    #[test]
    fn a_bin_past_the_last_counts_as_the_last() {
        let mut seen = Histogram::<3>::new(100.0);
        seen.add(17);
        assert!((seen.from(2) - 1.0).abs() < 1e-6);
    }
}
