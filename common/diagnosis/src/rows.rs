//! Slow channels side by side in event time. Pure.
//!
//! Event time is cut into rows of one length, aligned to the epoch. A row holds for each channel the mean of the
//! readings of those windows that begin in it, and nothing of a channel that has none: no reading is held over or
//! made up. It is over once every channel has come past it, by that channel's own windows; so which rows there
//! are, and what is in them, does not depend on how channels come in turns, as long as none falls
//! [`ROWS_MAX`] rows behind.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | rows that are not over | [`ROWS_MAX`] | the first is over with what it has, which says nothing where a channel is missing |

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::time::EventTime;

/// Rows that wait for a channel: ten minutes of rows of ten seconds, longer than readings come late.
pub const ROWS_MAX: usize = 64;

/// A row that is over.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Where it ends (exclusive).
    pub end: EventTime,
    /// Of each channel; not a number where there is none.
    pub values: Vec<f32>,
}

/// Sum and count of what a channel has in a row.
type Cell = (f64, u64);

/// The rows of one group of channels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rows {
    every_ns: i64,
    /// Of each channel, the first row that it may still add to.
    next: Vec<i64>,
    open: BTreeMap<i64, Vec<Cell>>,
    /// Rows below are over.
    over: i64,
}

impl Rows {
    /// Rows of that length, for so many channels.
    pub fn new(every_ns: i64, channels: usize) -> Self {
        Self {
            every_ns: every_ns.max(1),
            next: vec![i64::MIN; channels],
            open: BTreeMap::new(),
            over: i64::MIN,
        }
    }

    /// The same rows from the beginning: event time was set back.
    pub fn begin_anew(&mut self) {
        *self = Self::new(self.every_ns, self.width());
    }

    /// From one row to the next, nanoseconds.
    pub const fn every_ns(&self) -> i64 {
        self.every_ns
    }

    /// Places of a row.
    pub fn width(&self) -> usize {
        self.next.len()
    }

    /// Takes a window of a channel: from when to when, and mean and count of its readings, none where there
    /// are too few.
    pub fn add(
        &mut self,
        channel: usize,
        (start, end): (EventTime, EventTime),
        readings: Option<(f64, u64)>,
    ) {
        let row = start.0.div_euclid(self.every_ns);
        let channels = self.next.len();
        let Some(next) = self.next.get_mut(channel) else {
            return;
        };
        *next = (*next).max(end.0.div_euclid(self.every_ns));
        if row < self.over {
            return;
        }
        let cells = self.open.entry(row).or_insert_with(|| vec![(0.0, 0); channels]);
        if let (Some((mean, count)), Some(cell)) = (readings, cells.get_mut(channel)) {
            cell.0 += mean * count as f64;
            cell.1 += count;
        }
    }

    /// The next row that is over, if there is one.
    pub fn poll(&mut self) -> Option<Row> {
        let (&number, _) = self.open.first_key_value()?;
        let is_over = self.next.iter().all(|next| *next > number);
        if !is_over && self.open.len() <= ROWS_MAX {
            return None;
        }
        let cells = self.open.remove(&number)?;
        self.over = number + 1;
        let value = |(sum, count): Cell| match count {
            0 => f32::NAN,
            count => (sum / count as f64) as f32,
        };
        Some(Row {
            end: EventTime((number + 1).saturating_mul(self.every_ns)),
            values: cells.into_iter().map(value).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(rows: &mut Rows, channel: usize, start: i64, mean: f64) {
        rows.add(
            channel,
            (EventTime(start), EventTime(start + 10)),
            Some((mean, 2)),
        );
    }

    fn polled(rows: &mut Rows) -> Vec<(i64, Vec<f32>)> {
        std::iter::from_fn(|| rows.poll())
            .map(|row| (row.end.0, row.values))
            .collect()
    }

    #[test]
    fn a_row_is_over_when_every_channel_has_come_past_it_in_whatever_turns() {
        let windows = [
            (0, 0, 1.0),
            (0, 10, 3.0),
            (1, 0, 5.0),
            (0, 20, 9.0),
            (1, 10, 7.0),
            (1, 20, 9.0),
        ];
        let of = |order: &[usize]| {
            let mut rows = Rows::new(20, 2);
            let mut told = Vec::new();
            for at in order {
                let (channel, start, mean) = windows[*at];
                add(&mut rows, channel, start, mean);
                told.extend(polled(&mut rows));
            }
            told
        };
        let expected = vec![(20, vec![2.0, 6.0])];
        assert_eq!(of(&[0, 1, 2, 3, 4, 5]), expected);
        assert_eq!(of(&[0, 1, 3, 2, 4, 5]), expected);
        assert_eq!(of(&[2, 4, 5, 0, 1, 3]), expected);
    }

    #[test]
    fn a_channel_without_readings_leaves_a_gap() {
        let mut rows = Rows::new(10, 2);
        add(&mut rows, 0, -10, 1.0);
        rows.add(1, (EventTime(-10), EventTime(0)), None);
        let told = polled(&mut rows);
        assert_eq!(told[0].0, 0);
        assert!(told[0].1[0] == 1.0 && told[0].1[1].is_nan());
    }

    #[test]
    fn a_channel_that_has_fallen_silent_is_waited_for_no_longer_than_that() {
        let mut rows = Rows::new(10, 2);
        add(&mut rows, 1, 0, 1.0);
        let mut told = Vec::new();
        for row in 0..100 {
            add(&mut rows, 0, 10 * row, 1.0);
            told.extend(polled(&mut rows));
        }
        assert_eq!(told.len(), 100 - ROWS_MAX);
        assert!(told[1..].iter().all(|(_, values)| values[1].is_nan()));
        // What comes for a row that is over is late, and changes none.
        add(&mut rows, 1, 20, 5.0);
        assert_eq!(polled(&mut rows), []);
        rows.begin_anew();
        (0..2).for_each(|channel| add(&mut rows, channel, 20, 5.0));
        assert_eq!(
            polled(&mut rows),
            [(30, vec![5.0, 5.0])],
            "event time was set back"
        );
    }
}
