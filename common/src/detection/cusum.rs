//! Cumulative sums: small shifts of a mean that last.
//!
//! E. S. Page, *Continuous inspection schemes*, Biometrika 41 (1954); in the tabular form of
//! D. C. Montgomery, *Introduction to Statistical Quality Control*, section 9.1.

use serde::{Deserialize, Serialize};

/// Which way something moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To higher values.
    Up,
    /// To lower values.
    Down,
}

/// A shift of the mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shift {
    /// Which way.
    pub direction: Direction,
    /// Readings since it began, by the last time that the sum was zero: an estimate.
    pub readings: u32,
}

/// One side's sum, and for how many readings it has been above zero.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Sum {
    value: f64,
    readings: u32,
}

impl Sum {
    fn add(&mut self, excess: f64) {
        self.value += excess;
        if self.value > 0.0 {
            self.readings = self.readings.saturating_add(1);
        } else {
            *self = Self::default();
        }
    }
}

/// The two-sided tabular CUSUM of standardised readings: (reading - target) / standard deviation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cusum {
    slack: f64,
    limit: f64,
    above: Sum,
    below: Sum,
}

impl Cusum {
    /// Half of the shift that matters, in standard deviations: that of one of them (Montgomery, 9.1.2).
    pub const SLACK: f64 = 0.5;
    /// What the sum may reach: with [`Self::SLACK`], a false shift in 465 independent readings on average
    /// and a shift of one standard deviation told after 10 (Montgomery, table 9.3).
    pub const LIMIT: f64 = 5.0;

    /// Sums at zero. `slack` is half of the shift that matters and `limit` what the sum may reach, both in
    /// standard deviations.
    pub const fn new(slack: f64, limit: f64) -> Self {
        Self {
            slack,
            limit,
            above: Sum {
                value: 0.0,
                readings: 0,
            },
            below: Sum {
                value: 0.0,
                readings: 0,
            },
        }
    }

    /// Takes the next reading in standard deviations from the target; one that is not finite changes
    /// nothing. A shift is told once, and the sums start anew.
    pub fn push(&mut self, deviation: f64) -> Option<Shift> {
        if !deviation.is_finite() {
            return None;
        }
        self.above.add(deviation - self.slack);
        self.below.add(-deviation - self.slack);
        let (direction, sum) = if self.above.value > self.limit {
            (Direction::Up, self.above)
        } else if self.below.value > self.limit {
            (Direction::Down, self.below)
        } else {
            return None;
        };
        *self = Self::new(self.slack, self.limit);
        Some(Shift {
            direction,
            readings: sum.readings,
        })
    }
}

impl Default for Cusum {
    fn default() -> Self {
        Self::new(Self::SLACK, Self::LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_of_one_standard_deviation_is_told_with_its_beginning() {
        let mut sums = Cusum::default();
        let told = (0..40).find_map(|i| {
            let shift = sums.push(if i < 20 { 0.0 } else { 1.0 })?;
            Some((i, shift))
        });
        // Each reading beyond the shift adds 0.5: the eleventh carries the sum over 5.
        let up = Shift {
            direction: Direction::Up,
            readings: 11,
        };
        assert_eq!(told, Some((30, up)));
    }

    #[test]
    fn what_is_within_the_slack_never_adds_up() {
        let mut sums = Cusum::default();
        assert!((0..10_000).all(|_| sums.push(-0.5).is_none()));
    }

    #[test]
    fn a_fall_is_told_as_one() {
        let mut sums = Cusum::default();
        let shift = (0..10).find_map(|_| sums.push(-3.0)).unwrap();
        assert_eq!((shift.direction, shift.readings), (Direction::Down, 3));
    }

    #[test]
    fn a_missing_reading_neither_raises_nor_clears() {
        let mut sums = Cusum::default();
        sums.push(3.0);
        let before = sums;
        assert_eq!(sums.push(f64::NAN), None);
        assert_eq!(sums, before);
    }
}
