//! Change points: when a channel's level moved, whatever it was before.
//!
//! The mean of the last readings is compared with the mean of those before them, in terms of how far the
//! two were apart while the channels were learned: a matched filter for a step. Once a change is told, what
//! was before it is forgotten: the next one is a change against the level since the last, and is told after
//! twice the recent readings at the earliest. What drifts slower than the reference is long is no change.

use super::cusum::Direction;
use super::hotelling::{CHANNELS_MAX, Row, deviation_or_floor};
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Readings whose mean is looked at, and fewest that it is compared with.
pub const RECENT: usize = 15;
/// Readings before them whose mean it is compared with, if there are as many since the last change.
pub const REFERENCE: usize = 60;
/// Both together.
pub const HISTORY: usize = RECENT + REFERENCE;
/// Cells of the history.
const CELLS_MAX: usize = HISTORY * CHANNELS_MAX;

/// By what the largest squared distance learned is multiplied to be the limit.
///
/// Chosen on the 16 runs of valve 1 of the Skoltech Anomaly Benchmark: from 1.8 to 2.7, its score falls from
/// 60 to 53 and the false changes from 19 to 10.
pub const FACTOR: f64 = 2.25;

/// A change of level.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The channel that moved most, by its place in the row.
    pub channel: u8,
    /// Which way.
    pub direction: Direction,
    /// By how much at least, channel unit: mean of the last readings minus the mean before. Told early in a
    /// change, it is part of it.
    pub by: f64,
}

/// The last rows, of which the oldest makes room.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct History {
    cells: Vec<f32, CELLS_MAX>,
    /// Where the newest row is, by rows.
    newest: u16,
    /// Rows since the last change, at most [`HISTORY`].
    held: u16,
}

impl History {
    fn push(&mut self, row: &[f32]) {
        let row = row.get(..CHANNELS_MAX).unwrap_or(row);
        if self.cells.len() < HISTORY * row.len() {
            self.newest = (self.cells.len() / row.len()) as u16;
            // Not beyond its bound: no row has more than `CHANNELS_MAX` channels.
            self.cells.extend_from_slice(row).unwrap_or_default();
        } else {
            self.newest = (self.newest + 1) % HISTORY as u16;
            let start = usize::from(self.newest) * row.len();
            for (cell, value) in self.cells.iter_mut().skip(start).zip(row) {
                *cell = *value;
            }
        }
        self.held = (self.held + 1).min(HISTORY as u16);
    }

    /// Forgets all rows: what comes is the new level.
    fn restart(&mut self) {
        self.held = 0;
    }

    /// Whether there are as many rows as there are ever held.
    fn is_whole(&self) -> bool {
        usize::from(self.held) == HISTORY
    }

    /// Recent mean minus the mean before, by channel; none before there are rows enough to compare. Of a
    /// short reference it is made as much smaller as independent readings make it uncertain.
    fn distances(&self, channels: usize) -> Option<Row> {
        let held = usize::from(self.held);
        if channels == 0 || held < 2 * RECENT {
            return None;
        }
        let mut recent: Row = (0..channels).map(|_| 0.0).collect();
        let mut reference = recent.clone();
        for age in 0..held {
            let row = (usize::from(self.newest) + HISTORY - age) % HISTORY;
            let sums = if age < RECENT { &mut recent } else { &mut reference };
            let cells = self.cells.iter().skip(row * channels);
            for (sum, cell) in sums.iter_mut().zip(cells) {
                *sum += f64::from(*cell);
            }
        }
        let rows = (held - RECENT) as f64;
        let noise = |rows: f64| 1.0 / RECENT as f64 + 1.0 / rows;
        let certainty = libm::sqrt(noise(REFERENCE as f64) / noise(rows));
        let means = recent.iter().zip(&reference);
        let distance = |(recent, reference)| (recent / RECENT as f64 - reference / rows) * certainty;
        Some(means.map(distance).collect())
    }
}

/// Watches the channels of one asset. Rows go in in the order of their time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ChangePoints {
    history: History,
    /// Mean square of the learned distances, by channel.
    usual: Row,
    limit: f64,
}

impl ChangePoints {
    /// Learns from rows of so many channels how far the means of an unchanged asset are apart. `means` are
    /// those of the channels. Without a whole history among them, no change is ever told.
    pub fn learn<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, means: &[f64]) -> Self {
        let channels = means.len().min(CHANNELS_MAX);
        let distances = |each: &mut dyn FnMut(&Row)| {
            let mut history = History::default();
            for row in rows.clone() {
                history.push(row);
                if history.is_whole()
                    && let Some(distances) = history.distances(channels)
                {
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
        let distances = self.history.distances(self.usual.len())?;
        let (statistic, channel) = self.statistic(&distances);
        if statistic <= self.limit {
            return None;
        }
        self.history.restart();
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
    fn a_ramp_is_told_again_while_it_goes_on_and_no_more_once_it_has_ended() {
        let level = |i: u32| 100.0 + (i.clamp(200, 300) - 200) as f32 * 0.1;
        let told = changes(&rows(400, |_| 100.0), &rows(900, level));
        assert!(told.len() >= 2, "{told:?}");
        assert!(
            told.iter().all(|(index, _)| (200..340).contains(index)),
            "{told:?}"
        );
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
