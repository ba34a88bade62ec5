//! How far a channel spreads while it is learned, and how much of that is slow.
//!
//! Four hundred readings of white noise say where the next four hundred will lie; four hundred readings of
//! a temperature that wanders say little, for they are a handful of independent values. What the means of
//! ten blocks differ by, against all of the spread, tells the two apart, and a limit drawn from few
//! independent values is drawn wider.

use serde::{Deserialize, Serialize};

/// Blocks that the learned readings are divided into.
pub const BLOCKS: u16 = 10;

/// Mean and variance of what has come, each reading once.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Moments {
    count: u32,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// B. P. Welford's update (Technometrics 4, 1962): no large sums to cancel.
    fn push(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        let before = value - self.mean;
        self.mean += before / f64::from(self.count);
        self.squares += before * (value - self.mean);
    }

    fn variance(&self) -> f64 {
        self.squares / f64::from(self.count.max(1))
    }
}

/// The spread of the readings that are learned from.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    all: Moments,
    blocks: Moments,
    block: Moments,
    block_length: u32,
}

impl Spread {
    /// None yet; so many are to come. More may, and less than [`BLOCKS`] have no slow part.
    pub fn new(readings: u16) -> Self {
        Self {
            all: Moments::default(),
            blocks: Moments::default(),
            block: Moments::default(),
            block_length: u32::from((readings / BLOCKS).max(1)),
        }
    }

    /// Takes the next reading, which must be finite.
    pub fn push(&mut self, reading: f64) {
        self.all.push(reading);
        self.block.push(reading);
        if self.block.count == self.block_length {
            self.blocks.push(self.block.mean);
            self.block = Moments::default();
        }
    }

    /// Readings taken.
    pub const fn count(&self) -> u32 {
        self.all.count
    }

    /// Their mean; 0 of none.
    pub const fn mean(&self) -> f64 {
        self.all.mean
    }

    /// Their standard deviation; 0 of none.
    pub fn deviation(&self) -> f64 {
        libm::sqrt(self.all.variance())
    }

    /// How much of the variance lies between the blocks: near 0 for white noise, near 1 for what wanders.
    pub fn slow_share(&self) -> f64 {
        let variance = self.all.variance();
        if variance > 0.0 {
            (self.blocks.variance() / variance).min(1.0)
        } else {
            0.0
        }
    }

    /// By what the standard deviation is multiplied to say where later readings may lie: 1 for white noise,
    /// up to sqrt(1 + [`BLOCKS`]) where all of the variance is between the blocks.
    pub fn widening(&self) -> f64 {
        libm::sqrt(1.0 + f64::from(BLOCKS) * self.slow_share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(readings: impl Iterator<Item = f64>) -> Spread {
        let mut spread = Spread::new(400);
        readings.for_each(|reading| spread.push(reading));
        spread
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_readings() {
        let spread = of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter());
        assert_eq!((spread.count(), spread.mean(), spread.deviation()), (8, 5.0, 2.0));
    }

    #[test]
    fn what_alternates_has_no_slow_part_and_what_wanders_has_nothing_else() {
        let alternating = of((0..400).map(|i| f64::from(i % 2)));
        assert!(alternating.slow_share() < 1e-12);
        assert!((alternating.widening() - 1.0).abs() < 1e-9);
        let wandering = of((0..400).map(f64::from));
        // Within a block of a tenth of the ramp lies a hundredth of the variance.
        assert!((wandering.slow_share() - 0.99).abs() < 1e-3);
        assert!(wandering.widening() > 3.0);
    }

    #[test]
    fn nothing_and_a_standstill_spread_by_nothing() {
        let none = of(core::iter::empty());
        assert_eq!((none.deviation(), none.slow_share()), (0.0, 0.0));
        let still = of((0..400).map(|_| 7.0));
        assert_eq!((still.deviation(), still.widening()), (0.0, 1.0));
    }
}
