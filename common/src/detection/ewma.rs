//! The exponentially weighted moving average.
//!
//! S. W. Roberts, *Control chart tests based on geometric moving averages*, Technometrics 1 (1959).

use serde::{Deserialize, Serialize};

/// A level that follows the readings, the slower the smaller its weight.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ewma {
    /// Share of the newest reading in the level, above 0 and at most 1.
    weight: f64,
    level: Option<f64>,
}

impl Ewma {
    /// An average in which each reading has `weight`, held within 0.000001 and 1; it starts at the first.
    pub const fn new(weight: f64) -> Self {
        Self {
            weight: weight.clamp(1e-6, 1.0),
            level: None,
        }
    }

    /// An average whose readings are as old on average as those of a plain mean over `readings`.
    pub fn of_span(readings: u16) -> Self {
        Self::new(2.0 / (f64::from(readings) + 1.0))
    }

    /// The same, from a level on that was known before.
    #[must_use]
    pub const fn starting_at(self, level: f64) -> Self {
        Self {
            level: Some(level),
            ..self
        }
    }

    /// Takes the next reading, which must be finite, and gives the level.
    pub fn push(&mut self, reading: f64) -> f64 {
        let level = self
            .level
            .map_or(reading, |level| level + self.weight * (reading - level));
        self.level = Some(level);
        level
    }

    /// The level, once there was a reading.
    pub const fn level(&self) -> Option<f64> {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_starts_at_the_first_reading_and_closes_in_on_the_others() {
        let mut average = Ewma::new(0.25);
        assert_eq!(average.level(), None);
        assert_eq!(average.push(8.0), 8.0);
        assert_eq!(average.push(0.0), 6.0);
        assert_eq!(average.push(0.0), 4.5);
    }

    #[test]
    fn a_level_that_is_known_before_is_left_as_readings_say() {
        let mut average = Ewma::new(0.25).starting_at(8.0);
        assert_eq!([average.push(8.0), average.push(0.0)], [8.0, 6.0]);
    }

    #[test]
    fn a_span_of_one_reading_is_that_reading() {
        let mut average = Ewma::of_span(1);
        average.push(3.0);
        assert_eq!(average.push(5.0), 5.0);
    }

    #[test]
    fn a_weight_out_of_range_neither_freezes_nor_overshoots() {
        let mut average = Ewma::new(7.0);
        average.push(1.0);
        assert_eq!(average.push(2.0), 2.0);
        let mut average = Ewma::new(-1.0);
        average.push(1.0);
        assert!(average.push(2.0) > 1.0);
    }
}
