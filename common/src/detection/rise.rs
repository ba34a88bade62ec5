//! A feature that grows with damage, such as an RMS: whether it has risen and stays risen.
//!
//! The logarithm of the feature is learned over a fixed number of readings, never a share of the life to
//! come, and its smoothed value is compared with the learned mean. The limit is whichever is larger: a rise
//! that matters at all, or three learned standard deviations, widened where the feature wandered while it was
//! learned ([`super::spread`]). Only rises count: a feature that falls is another matter (run-in, load, a
//! loose sensor).
//!
//! A reading far below the learned mean is a machine at rest; after that, and after a pause in the
//! readings, some are let pass until the machine is warm.
//!
//! Chosen on the one development run of the IMS bearings (`test2`), by its failing bearing and its three
//! healthy ones: a fifth more or less of any number moves the alarm within 72.0 to 74.0 hours before the end,
//! and lets no healthy bearing raise one.

use super::ewma::Ewma;
use super::hysteresis::{Edge, Hysteresis, Limits};
use super::spread::Spread;
use crate::time::EventTime;
use serde::{Deserialize, Serialize};

/// What is set for a feature.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Readings learned from.
    pub learning: u16,
    /// Share of the newest reading in the smoothed one.
    pub weight: f64,
    /// Smallest rise that counts, natural logarithm: 0.08 is 8 %.
    pub least: f64,
    /// Learned standard deviations that a rise must exceed.
    pub deviations: f64,
    /// Readings in a row beyond the limit, or below `clear` of it.
    pub persistence: u16,
    /// Share of the limit below which the rise is over.
    pub clear: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learning: 300,
            weight: 0.3,
            least: 0.08,
            deviations: 3.0,
            persistence: 2,
            clear: 0.8,
        }
    }
}

/// Below this share of the learned mean a machine is at rest.
const RUNNING_SHARE: f64 = 0.3;

/// Usual intervals without a reading that are a pause.
const PAUSE_INTERVALS: f64 = 3.0;

/// Readings let pass after a pause: an hour at one in ten minutes.
const WARMING_UP: u8 = 6;

/// What is known of a feature.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Level {
    /// When it was read.
    pub at: EventTime,
    /// Smoothed rise over the learned mean, natural logarithm; negative below it.
    pub rise: f64,
    /// The rise that is the limit.
    pub limit: f64,
    /// Whether it has risen and stays so.
    pub raised: bool,
    /// That this is new, if it is.
    pub edge: Option<Edge>,
}

/// Watches one feature of one place. Readings go in in the order of their time.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rise {
    settings: Settings,
    learned: Spread,
    smooth: Ewma,
    state: Hysteresis,
    last: Option<EventTime>,
    /// Mean of the intervals while learning, nanoseconds.
    interval: f64,
    warming_up: u8,
}

impl Rise {
    /// A watch that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            learned: Spread::new(settings.learning),
            smooth: Ewma::new(settings.weight),
            state: Hysteresis::default(),
            last: None,
            interval: 0.0,
            warming_up: 0,
        }
    }

    /// Takes the next reading, which is above 0 unless it is missing. `None` while learning, and of a
    /// machine at rest or warming up.
    pub fn handle_reading(&mut self, at: EventTime, value: f32) -> Option<Level> {
        if !(value.is_finite() && value > 0.0) {
            return None;
        }
        let level = libm::log(value.into());
        if self.learned.count() > 0 && level < self.learned.mean() + libm::log(RUNNING_SHARE) {
            self.warming_up = WARMING_UP;
            return None;
        }
        if self.is_after_pause(at) {
            self.warming_up = WARMING_UP;
        }
        if self.warming_up > 0 {
            self.warming_up -= 1;
            return None;
        }
        let smoothed = self.smooth.push(level);
        if self.learned.count() < u32::from(self.settings.learning) {
            self.learned.push(level);
            return None;
        }
        let limit = self.limit();
        let limits = Limits {
            raise: limit,
            clear: limit * self.settings.clear,
            raise_after: self.settings.persistence,
            clear_after: self.settings.persistence,
        };
        let rise = smoothed - self.learned.mean();
        let edge = self.state.push(rise, &limits);
        Some(Level {
            at,
            rise,
            limit,
            raised: self.state.is_raised(),
            edge,
        })
    }

    fn limit(&self) -> f64 {
        let spread = self.learned.deviation() * self.learned.widening();
        (self.settings.deviations * spread).max(self.settings.least)
    }

    /// Whether far more time than usual has passed since the last reading.
    fn is_after_pause(&mut self, at: EventTime) -> bool {
        let Some(last) = self.last.replace(at) else {
            return false;
        };
        let passed = at.nanos_since(last) as f64;
        let count = self.learned.count();
        let pause = count > 1 && passed > PAUSE_INTERVALS * self.interval;
        if !pause && (1..u32::from(self.settings.learning)).contains(&count) {
            self.interval += (passed - self.interval) / f64::from(count);
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    fn noise(index: u32) -> f32 {
        (index.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5
    }

    /// Readings ten minutes apart.
    fn levels(count: u32, value: impl Fn(u32) -> f32) -> std::vec::Vec<(u32, Level)> {
        let mut watch = Rise::new(Settings::default());
        (0..count)
            .filter_map(|index| {
                let at = EventTime(i64::from(index) * 10 * MINUTE);
                Some((index, watch.handle_reading(at, value(index))?))
            })
            .collect()
    }

    fn edges(levels: &[(u32, Level)]) -> std::vec::Vec<(u32, Edge)> {
        levels
            .iter()
            .filter_map(|(index, level)| Some((*index, level.edge?)))
            .collect()
    }

    fn healthy(index: u32) -> f32 {
        0.08 * (1.0 + 0.03 * noise(index))
    }

    #[test]
    fn nothing_is_said_before_enough_is_learned_nor_of_what_stays() {
        let levels = levels(2_000, healthy);
        assert_eq!(levels.len(), 1_700);
        assert_eq!(edges(&levels), []);
    }

    #[test]
    fn a_rise_of_a_tenth_is_told_within_a_few_readings_and_clears_when_it_is_over() {
        let value = |index| healthy(index) * if (500..600).contains(&index) { 1.12 } else { 1.0 };
        let told = edges(&levels(900, value));
        let [(raised, Edge::Raised), (cleared, Edge::Cleared)] = told[..] else {
            panic!("{told:?}");
        };
        assert!((501..508).contains(&raised), "{raised}");
        assert!((601..610).contains(&cleared), "{cleared}");
    }

    #[test]
    fn a_fall_is_no_rise() {
        let value = |index| healthy(index) * if index > 500 { 0.6 } else { 1.0 };
        assert_eq!(edges(&levels(900, value)), []);
    }

    #[test]
    fn a_feature_that_wandered_while_it_was_learned_needs_a_larger_rise() {
        let steady = levels(301, healthy)[0].1.limit;
        let wandering = levels(301, |index| {
            healthy(index) * (1.0 + 0.05 * (index as f32 / 60.0).sin())
        });
        assert!(wandering[0].1.limit > 3.0 * steady, "{}", wandering[0].1.limit);
        assert_eq!(steady, 0.08);
    }

    #[test]
    fn a_machine_at_rest_and_one_that_warms_up_are_not_judged() {
        let value = |index| match index {
            500..510 => 0.001,
            510..515 => 0.16,
            _ => healthy(index),
        };
        let levels = levels(900, value);
        assert_eq!(edges(&levels), []);
        assert!(levels.iter().all(|(index, _)| !(500..515).contains(index)));
    }

    #[test]
    fn a_pause_is_followed_by_a_warm_up() {
        let mut watch = Rise::new(Settings::default());
        let mut judged = 0;
        for index in 0..400u32 {
            let pause = if index >= 350 { 24 * 60 * MINUTE } else { 0 };
            let at = EventTime(i64::from(index) * 10 * MINUTE + pause);
            judged += usize::from(watch.handle_reading(at, healthy(index)).is_some());
        }
        assert_eq!(judged, 100 - usize::from(WARMING_UP));
    }

    #[test]
    fn what_is_missing_or_not_above_zero_says_nothing() {
        let mut watch = Rise::new(Settings::default());
        watch.handle_reading(EventTime(0), 1.0);
        let before = watch;
        for value in [f32::NAN, 0.0, -1.0, f32::INFINITY] {
            assert_eq!(watch.handle_reading(EventTime(1), value), None);
        }
        assert_eq!(watch, before);
    }
}
