//! One slow channel: which readings are rare.
//!
//! A reading is put on a logarithmic scale of the channel's own range, and so is the mean of the last
//! readings: the first shows a spike, the second a level, a rhythm or a silence that was not there before. Of
//! each it is asked how rare its neighbourhood has been of late, and how rare it is on this channel to be as
//! rare as that, which makes a noisy channel and a quiet one comparable. The sum of both surprises is the
//! score, in nats; the larger one of reading and mean counts. An anomaly is told where the score is beyond
//! the threshold *and* higher than with any of the readings before it: what goes on is told once.
//!
//! What is rare is no fault: this is evidence beside severity and diagnosis. The densities follow the
//! channel (memory of 5,000 readings), so what stays becomes normal; limits and baselines do not.
//!
//! The numbers were chosen on the 35 development series of the Numenta Anomaly Benchmark, as plateaus rather
//! than peaks. Its standard score stays within three points with a resolution of 50 to 70, a memory of 2,500
//! to 10,000, a mean over 40 to 60 and a silence of 50 to 200, each with its best threshold, and within four
//! with a threshold of 14 to 16.25. A threshold is a logarithm: a fifth of it is a factor of 20 in
//! probability, and costs 5 to 12 points.

use super::density::Histogram;
use super::ewma::Ewma;
use crate::time::EventTime;
use heapless::{Deque, Vec};
use serde::{Deserialize, Serialize};

/// Readings learned from at most: the buffer until then is part of the state.
pub const LEARNING_MAX: usize = 750;

/// Bins to the learned range.
const RESOLUTION: usize = 60;
/// Learned ranges, on the logarithmic scale, that the bins cover: two below it, itself, and two above. What
/// lies beyond counts as the outermost.
const RANGES: usize = 5;
const BINS: usize = RESOLUTION * RANGES;
/// How far a value's neighbourhood reaches, in bins to both sides: a twentieth of the learned range.
const REACH: usize = 2;

/// Bins of the channel's own surprises, and up to which, in nats; higher ones count as the last.
const SURPRISES: usize = 100;
const SURPRISE_MAX: f64 = 25.0;

/// Readings that an anomaly must stand out from: three spans of the mean.
const SILENCE: usize = 150;
/// Readings in the mean of the last ones.
const SPAN: u16 = 50;

/// What is set for a channel.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Readings learned from before any is judged, at most [`LEARNING_MAX`]. A cycle of the process should
    /// fit in them.
    pub learning: u16,
    /// Readings after which one counts 1/e.
    pub memory: f32,
    /// Score of an anomaly, nats: at 15.5 a reading is as rare as 1 in 5 million.
    pub threshold: f64,
}

impl Settings {
    /// Misses and false anomalies weigh as they do on most channels.
    pub const STANDARD: Self = Self {
        learning: LEARNING_MAX as u16,
        memory: 5_000.0,
        threshold: 15.5,
    };
    /// False anomalies cost twice as much.
    pub const FEW_FALSE: Self = Self {
        threshold: 16.0,
        ..Self::STANDARD
    };
    /// A miss costs twice as much.
    pub const FEW_MISSED: Self = Self {
        threshold: 14.75,
        ..Self::STANDARD
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// What was rare.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rare {
    /// The reading.
    Reading,
    /// The mean of the last readings.
    Mean,
}

/// A rare reading.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Anomaly {
    /// When.
    pub at: EventTime,
    /// The reading, channel unit.
    pub value: f32,
    /// How rare, nats.
    pub score: f64,
    /// What of it.
    pub rare: Rare,
}

/// The detector of one channel. Readings go in in the order of their time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scalar {
    settings: Settings,
    mean: Ewma,
    phase: Phase,
    /// The scores of the last readings that no later one has reached, highest first, with the number of
    /// the reading: the first is the highest of the last [`SILENCE`].
    highest: Deque<(u32, f32), { SILENCE + 1 }>,
    /// Number of the next reading, around again at its end.
    next: u32,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "without allocation, and both are needed in turn"
)]
enum Phase {
    Learning(Vec<f32, LEARNING_MAX>),
    Judging { reading: Rarity, mean: Rarity },
}

impl Scalar {
    /// A detector that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            mean: Ewma::of_span(SPAN),
            phase: Phase::Learning(Vec::new()),
            highest: Deque::new(),
            next: 0,
        }
    }

    /// Takes the next reading. One that is not finite, a gap, says nothing and interrupts nothing.
    pub fn handle_reading(&mut self, at: EventTime, value: f32) -> Option<Anomaly> {
        if !value.is_finite() {
            return None;
        }
        if let Phase::Learning(readings) = &mut self.phase {
            // The buffer is never full here: it is emptied at `learning`, which is no more than it holds.
            readings.push(value).unwrap_or_default();
            let enough = usize::from(self.settings.learning).clamp(2, LEARNING_MAX);
            if readings.len() >= enough {
                let readings = core::mem::take(readings);
                self.learn(&readings);
            }
            return None;
        }
        let (score, rare) = self.score(value);
        let stands_out = self.stands_out(score);
        (stands_out && score >= self.settings.threshold).then_some(Anomaly {
            at,
            value,
            score,
            rare,
        })
    }

    /// Whether readings are judged yet.
    pub const fn is_judging(&self) -> bool {
        matches!(self.phase, Phase::Judging { .. })
    }

    /// Takes the ranges of what was learned, and then its readings as if they came now.
    fn learn(&mut self, readings: &[f32]) {
        let mut means = Ewma::of_span(SPAN);
        let mean_range = Range::of(readings.iter().map(|&reading| means.push(reading.into())));
        let reading_range = Range::of(readings.iter().map(|&reading| f64::from(reading)));
        self.phase = Phase::Judging {
            reading: Rarity::new(reading_range, self.settings.memory),
            mean: Rarity::new(mean_range, self.settings.memory),
        };
        for &reading in readings {
            let (score, _) = self.score(reading);
            self.stands_out(score);
        }
    }

    fn score(&mut self, value: f32) -> (f64, Rare) {
        let average = self.mean.push(value.into());
        match &mut self.phase {
            Phase::Learning(_) => (0.0, Rare::Reading),
            Phase::Judging { reading, mean } => {
                let (of_reading, of_mean) = (reading.score(value.into()), mean.score(average));
                if of_mean > of_reading {
                    (of_mean, Rare::Mean)
                } else {
                    (of_reading, Rare::Reading)
                }
            }
        }
    }

    /// Whether the score is higher than that of each of the last [`SILENCE`] readings.
    fn stands_out(&mut self, score: f64) -> bool {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let expired = |&(of, _): &(u32, f32)| number.wrapping_sub(of) > SILENCE as u32;
        while self.highest.front().is_some_and(expired) {
            self.highest.pop_front();
        }
        let score = score as f32;
        let stands_out = self.highest.front().is_none_or(|&(_, highest)| score > highest);
        while self.highest.back().is_some_and(|&(_, last)| last <= score) {
            self.highest.pop_back();
        }
        // There is room for the scores of `SILENCE` readings and this one.
        self.highest.push_back((number, score)).unwrap_or_default();
        stands_out
    }
}

/// Smallest and largest value learned.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Range {
    lowest: f64,
    width: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (lowest, highest) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(lowest, highest), value| {
                (lowest.min(value), highest.max(value))
            });
        let width = highest - lowest;
        // A channel that stood still: a hundredth of its value, or a thousandth of its unit, is a change.
        let width = if width > 0.0 {
            width
        } else {
            (0.01 * libm::fabs(highest)).max(1e-3)
        };
        Self { lowest, width }
    }

    /// The bin on the scale ln(1 + distance from the lowest, in widths), the same downwards.
    fn bin(&self, value: f64) -> usize {
        let distance = (value - self.lowest) / self.width;
        let level = libm::copysign(libm::log1p(libm::fabs(distance)), distance);
        let bin = libm::floor(level / core::f64::consts::LN_2 * RESOLUTION as f64) + (2 * RESOLUTION) as f64;
        bin.clamp(0.0, (BINS - 1) as f64) as usize
    }
}

/// How rare values are, and how rare it is that they are that rare.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Rarity {
    range: Range,
    values: Histogram<BINS>,
    surprises: Histogram<SURPRISES>,
}

impl Rarity {
    fn new(range: Range, memory: f32) -> Self {
        Self {
            range,
            values: Histogram::new(memory),
            surprises: Histogram::new(memory),
        }
    }

    fn score(&mut self, value: f64) -> f64 {
        let bin = self.range.bin(value);
        let surprise = self.values.surprise(bin, REACH);
        let level = (surprise / SURPRISE_MAX * SURPRISES as f64).clamp(0.0, (SURPRISES - 1) as f64) as usize;
        let score = surprise + self.surprises.surprise_above(level);
        self.values.add(bin);
        self.surprises.add(level);
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daily cycle of 288 readings with some noise.
    fn cycle(index: u32) -> f32 {
        let noise = (index.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5;
        50.0 + 10.0 * (index as f32 * core::f32::consts::TAU / 288.0).sin() + noise
    }

    fn anomalies(readings: impl Iterator<Item = f32>) -> Vec<(usize, Rare), 64> {
        let mut detector = Scalar::new(Settings::default());
        let told = |(index, value)| {
            let at = EventTime(index as i64);
            let anomaly = detector.handle_reading(at, value)?;
            assert_eq!(anomaly.at, at);
            Some((index, anomaly.rare))
        };
        readings.enumerate().filter_map(told).collect()
    }

    #[test]
    fn a_daily_cycle_is_normal() {
        assert_eq!(anomalies((0..10_000).map(cycle)), []);
    }

    #[test]
    fn a_spike_is_told_at_once_and_once() {
        let spike = |i| cycle(i) + if (5_000..5_005).contains(&i) { 40.0 } else { 0.0 };
        let told = anomalies((0..8_000).map(spike));
        assert_eq!(told.first(), Some(&(5_000, Rare::Reading)));
        assert!(
            told.iter().all(|(index, _)| (5_000..5_100).contains(index)),
            "{told:?}"
        );
    }

    #[test]
    fn a_noise_that_loses_its_rhythm_is_told_by_the_mean() {
        // Readings of 0 and 1 in turn, then 1 only: no single reading is rare.
        let readings = (0..4_000).map(|i| if i < 3_000 { (i % 2) as f32 } else { 1.0 });
        let told = anomalies(readings);
        assert!(
            matches!(told.first(), Some((3_001..3_060, Rare::Mean))),
            "{told:?}"
        );
    }

    #[test]
    fn nothing_is_told_while_learning_nor_of_a_channel_that_stands_still() {
        assert_eq!(anomalies((0..700).map(|i| if i == 600 { 1e6 } else { 1.0 })), []);
        assert_eq!(anomalies((0..5_000).map(|_| 7.0)), []);
    }

    #[test]
    fn a_channel_that_stood_still_and_moves_is_told() {
        let told = anomalies((0..2_000).map(|i| if i < 1_500 { 7.0 } else { 8.0 }));
        assert_eq!(told.first(), Some(&(1_500, Rare::Reading)));
    }

    #[test]
    fn a_gap_changes_nothing() {
        let mut with = Scalar::new(Settings::default());
        let mut without = with.clone();
        for i in 0..2_000 {
            let at = EventTime(i.into());
            assert_eq!(
                with.handle_reading(at, cycle(i)),
                without.handle_reading(at, cycle(i))
            );
            assert_eq!(with.handle_reading(at, f32::NAN), None);
        }
        assert_eq!(with, without);
    }

    #[test]
    fn its_state_survives_a_restart() {
        let mut detector = Scalar::new(Settings::default());
        for i in 0..1_000 {
            detector.handle_reading(EventTime(i.into()), cycle(i));
        }
        let mut buffer = [0; 16_384];
        let bytes = postcard::to_slice(&detector, &mut buffer).unwrap();
        let mut restarted: Scalar = postcard::from_bytes(bytes).unwrap();
        assert_eq!(restarted, detector);
        let at = EventTime(1_000);
        assert_eq!(
            restarted.handle_reading(at, 500.0),
            detector.handle_reading(at, 500.0)
        );
    }
}
