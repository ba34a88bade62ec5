//! Change points: when a channel's level moved, whatever it was before.
//!
//! The mean of the last readings is compared with the mean of those before them, in terms of how far the two
//! were apart while the channels were learned: a matched filter for a step. A change is told when a channel
//! goes beyond the limit, and not again until all have come back and some readings have passed. What
//! drifts slower than the reference is long is no change.

use super::cusum::Direction;
use super::hotelling::{CHANNELS_MAX, Row, deviation_or_floor};
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Readings whose mean is looked at.
pub const RECENT: usize = 15;
/// Readings before them whose mean it is compared with.
pub const REFERENCE: usize = 60;
/// Both together: before these, nothing is told.
pub const HISTORY: usize = RECENT + REFERENCE;
/// Readings until another change may be told: those that the recent mean needs to leave the first one behind twice.
const REST: u32 = 2 * RECENT as u32;
/// Cells of the history.
const CELLS_MAX: usize = HISTORY * CHANNELS_MAX;

/// By what the largest squared distance learned is multiplied to be the limit.
///
/// Chosen on the 16 runs of the valve that the Skoltech Anomaly Benchmark gives for development: 2.25 to 4
/// stay within five points of each other there, with 10 to 20 false changes.
pub const FACTOR: f64 = 3.0;

/// A change of level.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The channel that moved most, by its place in the row.
    pub channel: u8,
    /// Which way.
    pub direction: Direction,
    /// By how much, channel unit: mean of the last readings minus the mean before.
    pub by: f64,
}

/// The last rows, of which the oldest makes room.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct History {
    cells: Vec<f32, CELLS_MAX>,
    /// The oldest row.
    oldest: u16,
}

impl History {
    fn push(&mut self, row: &[f32]) {
        let row = row.get(..CHANNELS_MAX).unwrap_or(row);
        if self.cells.len() < HISTORY * row.len() {
            // Not beyond its bound: no row has more than `CHANNELS_MAX` channels.
            self.cells.extend_from_slice(row).unwrap_or_default();
            return;
        }
        let start = usize::from(self.oldest) * row.len();
        for (cell, value) in self.cells.iter_mut().skip(start).zip(row) {
            *cell = *value;
        }
        self.oldest = (self.oldest + 1) % HISTORY as u16;
    }

    /// Recent mean minus the mean before, by channel; none before there is a whole history.
    fn distances(&self, channels: usize) -> Option<Row> {
        if channels == 0 || self.cells.len() < HISTORY * channels {
            return None;
        }
        let mut recent: Row = (0..channels).map(|_| 0.0).collect();
        let mut reference = recent.clone();
        for age in 0..HISTORY {
            let row = (usize::from(self.oldest) + age) % HISTORY;
            let sums = if age < REFERENCE {
                &mut reference
            } else {
                &mut recent
            };
            let cells = self.cells.iter().skip(row * channels);
            for (sum, cell) in sums.iter_mut().zip(cells) {
                *sum += f64::from(*cell);
            }
        }
        let pairs = recent.iter().zip(&reference);
        Some(
            pairs
                .map(|(recent, reference)| recent / RECENT as f64 - reference / REFERENCE as f64)
                .collect(),
        )
    }
}

/// Watches the channels of one asset. Rows go in in the order of their time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ChangePoints {
    history: History,
    /// Mean square of the learned distances, by channel.
    usual: Row,
    limit: f64,
    /// Whether all channels have been within the limit since the last change.
    settled: bool,
    since_change: u32,
}

impl ChangePoints {
    /// Learns from rows of so many channels how far the means of an unchanged asset are apart. `means` are those of
    /// the channels. Without a whole history among them, no change is ever told.
    pub fn learn<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, means: &[f64]) -> Self {
        let channels = means.len().min(CHANNELS_MAX);
        let distances = |each: &mut dyn FnMut(&Row)| {
            let mut history = History::default();
            for row in rows.clone() {
                history.push(row);
                if let Some(distances) = history.distances(channels) {
                    each(&distances);
                }
            }
            history
        };
        let mut squares: Row = (0..channels).map(|_| 0.0).collect();
        let mut count = 0u32;
        distances(&mut |row| {
            count += 1;
            for (square, distance) in squares.iter_mut().zip(row) {
                *square += distance * distance;
            }
        });
        let usual = squares.iter().zip(means).map(|(square, mean)| {
            let deviation = libm::sqrt(square / f64::from(count.max(1)));
            let floored = deviation_or_floor(deviation, *mean);
            floored * floored
        });
        let mut learned = Self {
            usual: usual.collect(),
            limit: f64::INFINITY,
            settled: true,
            since_change: REST,
            history: History::default(),
        };
        let mut largest = 0.0f64;
        learned.history = distances(&mut |row| largest = largest.max(learned.statistic(row).0));
        if count > 0 {
            // An asset that stood still has a limit too: four times the floor.
            learned.limit = FACTOR * largest.max(4.0);
        }
        learned
    }

    /// The largest squared distance in terms of the usual ones, and its channel.
    fn statistic(&self, distances: &Row) -> (f64, usize) {
        let squares = distances
            .iter()
            .zip(&self.usual)
            .map(|(distance, usual)| distance * distance / usual);
        squares.enumerate().fold((0.0, 0), |largest, (channel, square)| {
            if square > largest.0 {
                (square, channel)
            } else {
                largest
            }
        })
    }

    /// Takes the next row, whose values must be finite.
    pub fn handle_row(&mut self, row: &[f32]) -> Option<Change> {
        self.history.push(row);
        self.since_change = self.since_change.saturating_add(1);
        let distances = self.history.distances(self.usual.len())?;
        let (statistic, channel) = self.statistic(&distances);
        if statistic <= self.limit {
            self.settled = true;
            return None;
        }
        if !self.settled || self.since_change < REST {
            return None;
        }
        self.settled = false;
        self.since_change = 0;
        let by = distances.get(channel).copied().unwrap_or(0.0);
        Some(Change {
            channel: channel as u8,
            direction: if by < 0.0 { Direction::Down } else { Direction::Up },
            by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(index: u32) -> f32 {
        (index.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5
    }

    /// A level with noise, and one that stands still.
    fn rows(count: u32, level: impl Fn(u32) -> f32) -> std::vec::Vec<[f32; 2]> {
        (0..count).map(|i| [level(i) + noise(i), 5.0]).collect()
    }

    fn changes(learned: &[[f32; 2]], then: &[[f32; 2]]) -> std::vec::Vec<(usize, Change)> {
        let mut watch = ChangePoints::learn(learned.iter().map(<[f32; 2]>::as_slice), &[100.0, 5.0]);
        then.iter()
            .enumerate()
            .filter_map(|(index, row)| Some((index, watch.handle_row(row)?)))
            .collect()
    }

    #[test]
    fn a_step_is_told_once_with_its_channel_and_direction() {
        let told = changes(
            &rows(400, |_| 100.0),
            &rows(600, |i| if i < 200 { 100.0 } else { 97.0 }),
        );
        assert_eq!(told.len(), 1, "{told:?}");
        let (index, change) = told[0];
        assert!((200..215).contains(&index), "{told:?}");
        assert_eq!((change.channel, change.direction), (0, Direction::Down));
        assert!((-3.5..0.0).contains(&change.by));
    }

    #[test]
    fn a_step_and_the_step_back_are_two_changes() {
        let level = |i| if (200..400).contains(&i) { 104.0 } else { 100.0 };
        let told = changes(&rows(400, |_| 100.0), &rows(700, level));
        let directions: std::vec::Vec<_> = told.iter().map(|(_, change)| change.direction).collect();
        assert_eq!(directions, [Direction::Up, Direction::Down]);
    }

    #[test]
    fn noise_and_a_drift_over_hours_are_no_change() {
        assert_eq!(
            changes(
                &rows(400, |_| 100.0),
                &rows(3_000, |i| 100.0 + i as f32 / 1_000.0)
            ),
            []
        );
    }

    #[test]
    fn too_short_a_history_learns_nothing_and_tells_nothing() {
        let told = changes(&rows(50, |_| 100.0), &rows(300, |i| i as f32));
        assert_eq!(told, []);
    }
}
