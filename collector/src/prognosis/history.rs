//! What a machine's rows so far say, as columns for a learned model. Pure, streaming: training and use are
//! the same code, and no row sees one after it.
//!
//! Readings are standardised by regime ([`Scaling`]) and, beside standing for themselves, summed up along a
//! few directions ([`Directions`]). Columns are levels, slopes over windows of several lengths and the
//! number of rows: how far, how fast, for how long. Long slopes carry most; levels of single rows drown in
//! scatter.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Windows of the slopes of each reading, rows; also the rows remembered.
const READING_SLOPES: [usize; 2] = [70, REMEMBERED];
/// Windows of the slopes along each direction, rows.
const DIRECTION_SLOPES: [usize; 4] = [30, 70, 140, REMEMBERED];
/// Windows of the levels along each direction, rows.
const DIRECTION_LEVELS: [usize; 2] = [10, 25];
/// Rows of a machine that are remembered; slopes over all of its life reach back that far.
const REMEMBERED: usize = 400;
/// Directions.
const DIRECTIONS: usize = 3;
/// Two values of a setting further apart than this share of its range are two regimes.
const REGIME_GAP: f64 = 0.1;
/// A regime has at least this share of all rows.
const REGIME_SHARE: f64 = 0.02;
/// Spread of a reading, as a share of its size, below which it is constant.
const CONSTANT: f64 = 1e-9;

/// Standardisation by regime: a machine under another load reads otherwise without being another.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Scaling {
    settings: usize,
    /// Spread of each setting, for distances.
    setting_ranges: Vec<f64>,
    regimes: Vec<Regime>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Regime {
    /// Mean of each setting.
    at: Vec<f64>,
    /// Mean and spread of each reading; a spread of 0 is a reading that says nothing here.
    readings: Vec<(f64, f64)>,
}

impl Scaling {
    /// Learns from rows of `settings` settings and then readings. Regimes are the combinations of what
    /// gaps in each setting tell apart; rare ones are no regimes.
    pub(super) fn learn(rows: &[&[f64]], settings: usize) -> Self {
        let gaps: Vec<Vec<f64>> = (0..settings).map(|setting| gaps(rows, setting)).collect();
        let key = |row: &[f64]| -> Vec<usize> {
            let side = |(value, gaps): (&f64, &Vec<f64>)| gaps.partition_point(|gap| gap < value);
            row.iter().zip(&gaps).map(side).collect()
        };
        let mut groups = std::collections::BTreeMap::<Vec<usize>, Vec<&[f64]>>::new();
        for row in rows {
            groups.entry(key(row)).or_default().push(row);
        }
        let least = REGIME_SHARE * rows.len() as f64;
        let regimes = groups
            .values()
            .filter(|group| group.len() as f64 >= least)
            .map(|group| Regime::of(group, settings))
            .collect();
        let setting_ranges = (0..settings).map(|setting| range(rows, setting)).collect();
        Self {
            settings,
            setting_ranges,
            regimes,
        }
    }

    /// The readings of a row, standardised for the regime whose settings are nearest.
    pub(super) fn apply(&self, row: &[f64]) -> Vec<f64> {
        let distance = |regime: &Regime| -> f64 {
            let each = regime.at.iter().zip(row).zip(&self.setting_ranges);
            each.map(|((at, value), range)| {
                if *range > 0.0 {
                    ((at - value) / range).powi(2)
                } else {
                    0.0
                }
            })
            .sum()
        };
        let nearest = self
            .regimes
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let readings = row.iter().skip(self.settings);
        let Some(regime) = nearest else {
            return readings.map(|_| 0.0).collect();
        };
        let standardise = |(value, (mean, spread)): (&f64, &(f64, f64))| {
            if *spread > 0.0 {
                (value - mean) / spread
            } else {
                0.0
            }
        };
        readings.zip(&regime.readings).map(standardise).collect()
    }
}

impl Regime {
    fn of(rows: &[&[f64]], settings: usize) -> Self {
        let count = rows.len() as f64;
        let mean = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>() / count;
        let spread = |column: usize, mean: f64| {
            let squares = rows.iter().map(|row| (row[column] - mean).powi(2)).sum::<f64>();
            (squares / count).sqrt()
        };
        let columns = rows.first().map_or(0, |row| row.len());
        let reading = |column: usize| {
            let mean = mean(column);
            let spread = spread(column, mean);
            (
                mean,
                if spread > CONSTANT * mean.abs() {
                    spread
                } else {
                    0.0
                },
            )
        };
        Self {
            at: (0..settings).map(mean).collect(),
            readings: (settings..columns).map(reading).collect(),
        }
    }
}

fn range(rows: &[&[f64]], column: usize) -> f64 {
    let ends = rows
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), row| {
            (low.min(row[column]), high.max(row[column]))
        });
    (ends.1 - ends.0).max(0.0)
}

/// The middles of the gaps in a setting.
fn gaps(rows: &[&[f64]], setting: usize) -> Vec<f64> {
    let mut values: Vec<f64> = rows.iter().map(|row| row[setting]).collect();
    values.sort_by(f64::total_cmp);
    let least = REGIME_GAP * range(rows, setting);
    values
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > least)
        .map(|pair| f64::midpoint(pair[0], pair[1]))
        .collect()
}

/// Directions among standardised readings along which the remaining life shows: the Krylov sequence of
/// their covariance with it, which is what partial least squares spans (I. S. Helland, "On the structure
/// of partial least squares regression", Communications in Statistics 17 (1988)), made orthonormal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Directions(Vec<Vec<f64>>);

impl Directions {
    /// Learns from standardised rows and the life that remained at each.
    pub(super) fn learn(rows: &[Vec<f64>], lives: &[f64]) -> Self {
        let columns = rows.first().map_or(0, Vec::len);
        let mean = lives.iter().sum::<f64>() / lives.len().max(1) as f64;
        let mut direction = vec![0.0; columns];
        let mut products = vec![vec![0.0; columns]; columns];
        for (row, life) in rows.iter().zip(lives) {
            for (column, value) in row.iter().enumerate() {
                direction[column] += value * (life - mean);
                for (sum, other) in products[column].iter_mut().zip(row) {
                    *sum += value * other;
                }
            }
        }
        let mut found: Vec<Vec<f64>> = Vec::new();
        while found.len() < DIRECTIONS.min(columns) {
            for before in &found {
                let along = dot(&direction, before);
                for (value, step) in direction.iter_mut().zip(before) {
                    *value -= along * step;
                }
            }
            let length = dot(&direction, &direction).sqrt();
            // Readings that all stand still, or hold something that is no number.
            if length.is_nan() || length <= 0.0 {
                break;
            }
            let unit: Vec<f64> = direction.iter().map(|value| value / length).collect();
            direction = products.iter().map(|product| dot(product, &unit)).collect();
            found.push(unit);
        }
        Self(found)
    }

    fn apply(&self, readings: &[f64]) -> Vec<f64> {
        self.0.iter().map(|direction| dot(direction, readings)).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The rows of one machine so far.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    /// Rows before the first that was seen.
    before: u64,
    rows: u64,
    /// Standardised readings and then directions, newest last; at most [`REMEMBERED`].
    recent: VecDeque<Vec<f64>>,
    /// Sum of each direction over all rows.
    sums: Vec<f64>,
}

impl History {
    /// Of a machine that had run for so many rows before the first that is seen. What they held is not known: levels
    /// and slopes begin anew, the machine's age does not.
    pub(super) fn aged(before: u64) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Rows before the first that was seen.
    #[cfg(test)]
    pub(super) const fn before(&self) -> u64 {
        self.before
    }

    /// Takes the next row, standardised, and tells its columns.
    pub(super) fn handle_row(&mut self, readings: Vec<f64>, directions: &Directions) -> Vec<f64> {
        let width = readings.len();
        let along = directions.apply(&readings);
        self.sums.resize(along.len(), 0.0);
        for (sum, value) in self.sums.iter_mut().zip(&along) {
            *sum += value;
        }
        self.rows += 1;
        while self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        let mut row = readings;
        row.extend(along);
        self.recent.push_back(row);

        let mut columns = vec![self.before.saturating_add(self.rows) as f64];
        for window in READING_SLOPES {
            columns.extend((0..width).map(|column| self.slope(column, window)));
        }
        for direction in 0..self.sums.len() {
            let column = width + direction;
            columns.extend(DIRECTION_LEVELS.map(|window| self.level(column, window)));
            columns.extend(DIRECTION_SLOPES.map(|window| self.slope(column, window)));
            columns.push(self.sums[direction] / self.rows as f64);
        }
        columns
    }

    fn last(&self, column: usize, window: usize) -> impl Iterator<Item = f64> + '_ {
        let skipped = self.recent.len().saturating_sub(window);
        self.recent.iter().skip(skipped).map(move |row| row[column])
    }

    /// Mean of the last rows.
    fn level(&self, column: usize, window: usize) -> f64 {
        let count = self.recent.len().min(window);
        self.last(column, window).sum::<f64>() / count.max(1) as f64
    }

    /// Slope of the least-squares line through the last rows, a row; 0 of fewer than three.
    fn slope(&self, column: usize, window: usize) -> f64 {
        let count = self.recent.len().min(window);
        if count < 3 {
            return 0.0;
        }
        let middle = (count - 1) as f64 / 2.0;
        let (mut with, mut without) = (0.0, 0.0);
        for (index, value) in self.last(column, window).enumerate() {
            let time = index as f64 - middle;
            with += time * value;
            without += time * time;
        }
        with / without
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_told_by_row_over_its_window() {
        let directions = Directions(vec![vec![1.0]]);
        let mut history = History::default();
        let mut columns = Vec::new();
        for row in 0..500 {
            let value = f64::from(row.max(450)) * 0.5;
            columns = history.handle_row(vec![value], &directions);
        }
        // Rows; slopes of the reading over 70 and 400; levels over 10 and 25; slopes over 30 ...
        assert_eq!(columns[0], 500.0);
        assert!(columns[1] > columns[2] && columns[2] > 0.0);
        assert!((columns[3] - 0.5 * 494.5).abs() < 1e-9);
        assert!((columns[5] - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_machine_that_ran_before_is_as_much_older_and_nothing_else() {
        let directions = Directions(vec![vec![1.0]]);
        let columns = |mut history: History| {
            let rows = (0..50).map(|row| history.handle_row(vec![f64::from(row)], &directions));
            rows.last().unwrap()
        };
        let (new, old) = (columns(History::default()), columns(History::aged(200)));
        assert_eq!((new[0], old[0]), (50.0, 250.0));
        assert_eq!(new[1..], old[1..]);
    }

    #[test]
    fn readings_are_compared_within_their_regime() {
        let rows: Vec<Vec<f64>> = (0..200)
            .map(|row| {
                let regime = f64::from(row % 2);
                // 10 higher at the other setting, and a scatter of its own.
                vec![regime * 40.0, 10.0 * regime + f64::from(row / 2 % 5)]
            })
            .collect();
        let borrowed: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let scaling = Scaling::learn(&borrowed, 1);
        assert_eq!(scaling.regimes.len(), 2);
        let low = scaling.apply(&[0.0, 3.0]);
        let high = scaling.apply(&[39.0, 13.0]);
        assert!((low[0] - high[0]).abs() < 1e-9);
    }

    #[test]
    fn a_constant_reading_says_nothing() {
        let rows = [[0.0, 5.0], [0.1, 5.0], [0.05, 5.0]];
        let borrowed: Vec<&[f64]> = rows.iter().map(<[f64; 2]>::as_slice).collect();
        assert_eq!(Scaling::learn(&borrowed, 1).apply(&[0.0, 6.0]), [0.0]);
    }
}
