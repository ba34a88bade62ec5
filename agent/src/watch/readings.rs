//! The windows of a slow channel, on the grid of event time that the collector cuts its own by.
//!
//! A window is judged with the reading that completes it by the channel's rate. One with a hole, or of a channel
//! that drifts across the grid, waits [`PATIENCE`] from the first reading behind its end, in which lost frames
//! are sent again, and is then judged by what it has.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | open windows | [`OPEN_MAX`], and those that one frame reaches into | the first is judged by what it has |

use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::id::BootId;
use trunnion_common::slow::{Delay, Memory, Summary, Window, period_ns, wanted};
use trunnion_common::time::EventTime;
use trunnion_common::watch::SlowWatch;

/// How long a window with a hole waits: a lost frame is repeated within a few polls.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Windows open at once: the one being filled, and those before it that wait for what is missing.
pub(super) const OPEN_MAX: usize = 4;

/// The windows of a slow channel, and what is remembered of it.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// By their start, the open ones.
    open: BTreeMap<i64, Open>,
    /// Windows that begin before are through.
    next: Option<i64>,
    /// Which life of the node they come from.
    pub(super) boot: Option<BootId>,
    /// Readings per thousand seconds, as that says.
    pub(super) rate_mhz: u32,
    pub(super) memory: Memory,
    pub(super) delay: Delay,
}

#[derive(Debug)]
struct Open {
    sum: Sum,
    /// When the first reading behind its end came, by the monotonic clock.
    passed: Option<Duration>,
}

/// Readings added up, by their distance from the first so that sums do not cancel.
#[derive(Clone, Copy, Debug)]
struct Sum {
    count: u64,
    origin: f64,
    distance: f64,
    square: f64,
    minimum: f64,
    maximum: f64,
}

impl Sum {
    const fn of(value: f64) -> Self {
        Self {
            count: 1,
            origin: value,
            distance: 0.0,
            square: 0.0,
            minimum: value,
            maximum: value,
        }
    }

    fn add(&mut self, value: f64) {
        let distance = value - self.origin;
        self.count += 1;
        self.distance += distance;
        self.square += distance * distance;
        self.minimum = self.minimum.min(value);
        self.maximum = self.maximum.max(value);
    }

    fn summary(&self) -> Summary {
        let count = self.count as f64;
        let mean = self.distance / count;
        let variance = (self.square / count - mean * mean).max(0.0);
        Summary {
            count: self.count,
            mean: self.origin + mean,
            deviation: variance.sqrt(),
            minimum: self.minimum,
            maximum: self.maximum,
        }
    }
}

impl Readings {
    /// Takes a reading, in the unit of the limits; one that comes for a window that is through is too late. One
    /// from further back than windows wait is of a clock that was set back: the windows begin anew.
    pub(super) fn take(&mut self, slow: &SlowWatch, time: EventTime, value: f64, mono: Duration) {
        let size = slow.size_ns.max(1);
        let start = time
            .0
            .saturating_sub(time.0.saturating_sub(slow.offset_ns).rem_euclid(size));
        if !value.is_finite() {
            return;
        }
        if let Some(next) = self.next.filter(|next| start < *next) {
            if start >= next.saturating_sub(size.saturating_mul(OPEN_MAX as i64)) {
                return;
            }
            self.open.clear();
            self.next = None;
        }
        // The window in which this begins is heard from its middle on.
        let is_begun = time.0 - start >= period_ns(self.rate_mhz);
        let first = if is_begun {
            start.saturating_add(size)
        } else {
            start
        };
        if start < *self.next.get_or_insert(first) {
            return;
        }
        self.open
            .entry(start)
            .and_modify(|open| open.sum.add(value))
            .or_insert(Open {
                sum: Sum::of(value),
                passed: None,
            });
        for (_, open) in self.open.range_mut(..start) {
            open.passed.get_or_insert(mono);
        }
    }

    /// The next window to be judged, if there is one.
    pub(super) fn next_window(&mut self, slow: &SlowWatch, mono: Duration) -> Option<Window> {
        let size = slow.size_ns.max(1);
        let wanted = wanted(self.rate_mhz, size);
        let (_, first) = self.open.first_key_value()?;
        // Where readings are further apart than a window is long, one is all that it can hold.
        let is_whole = self.rate_mhz > 0 && first.sum.count >= wanted.max(1);
        let is_given_up = first
            .passed
            .is_some_and(|since| mono.saturating_sub(since) >= PATIENCE);
        if !is_whole && !is_given_up && self.open.len() <= OPEN_MAX {
            return None;
        }
        let (start, open) = self.open.pop_first()?;
        let end = start.saturating_add(size);
        self.next = Some(end);
        let summary = open.sum.summary();
        let is_enough = summary.count.saturating_mul(1_000) >= u64::from(slow.coverage_min_permille) * wanted;
        Some(Window {
            start: EventTime(start),
            end: EventTime(end),
            summary: is_enough.then_some(summary),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::quantity::Unit;

    const SECOND: i64 = 1_000_000_000;

    fn slow() -> SlowWatch {
        SlowWatch {
            unit: Unit::DegreeCelsius,
            below: None,
            size_ns: 10 * SECOND,
            offset_ns: 0,
            coverage_min_permille: 950,
        }
    }

    /// Readings each second, by their seconds, that come when they are taken; the end and the number of readings
    /// of each window, and when it was judged, in seconds.
    fn judged(readings: impl IntoIterator<Item = i64>) -> Vec<(i64, Option<u64>, u64)> {
        let mut windows = Readings {
            rate_mhz: 1_000,
            ..Readings::default()
        };
        let mut judged = Vec::new();
        for second in readings {
            let mono = Duration::from_secs(second.unsigned_abs());
            windows.take(&slow(), EventTime(second * SECOND), 40.0, mono);
            while let Some(window) = windows.next_window(&slow(), mono) {
                let count = window.summary.map(|summary| summary.count);
                judged.push((window.end.0 / SECOND, count, mono.as_secs()));
            }
        }
        judged
    }

    #[test]
    fn a_window_is_judged_with_the_reading_that_completes_it() {
        assert_eq!(judged(0..20), [(10, Some(10), 9), (20, Some(10), 19)]);
    }

    #[test]
    fn where_readings_are_further_apart_than_a_window_is_long_each_is_judged_at_once() {
        let mut windows = Readings {
            rate_mhz: 16,
            ..Readings::default()
        };
        windows.take(&slow(), EventTime(3 * SECOND), 40.0, Duration::ZERO);
        let window = windows.next_window(&slow(), Duration::ZERO).unwrap();
        assert_eq!(window.summary.map(|summary| summary.mean), Some(40.0));
    }

    #[test]
    fn a_window_that_is_heard_from_its_middle_on_is_not_judged() {
        assert_eq!(judged(3..20), [(20, Some(10), 19)]);
    }

    #[test]
    fn a_window_with_a_hole_is_judged_two_seconds_after_the_first_reading_behind_it() {
        assert_eq!(judged((0..5).chain(6..14)), [(10, None, 12)]);
        let late = (0..5).chain(6..11).chain([5, 11]);
        assert_eq!(judged(late), [(10, Some(10), 5)], "the missing one came");
    }

    #[test]
    fn what_comes_for_a_window_that_is_through_is_too_late() {
        assert_eq!(judged((0..13).chain([4]).chain(13..20)).len(), 2);
    }

    #[test]
    fn when_the_clock_was_set_back_windows_begin_anew() {
        let judged = judged((1_000..1_020).chain(500..520));
        let ends: Vec<i64> = judged.iter().map(|(end, ..)| *end).collect();
        assert_eq!(ends, [1_010, 1_020, 510, 520]);
    }

    #[test]
    fn of_more_windows_than_can_wait_the_first_is_judged_by_what_it_has() {
        let sparse = (0..=OPEN_MAX as i64).map(|number| 10 * number);
        let mut windows = Readings {
            rate_mhz: 1_000,
            ..Readings::default()
        };
        sparse.for_each(|second| windows.take(&slow(), EventTime(second * SECOND), 1.0, Duration::ZERO));
        let judged = std::iter::from_fn(|| windows.next_window(&slow(), Duration::ZERO));
        let ends: Vec<i64> = judged.map(|window| window.end.0 / SECOND).collect();
        assert_eq!(ends, [10]);
    }

    #[test]
    fn mean_deviation_and_extremes_are_those_of_the_readings() {
        let mut sum = Sum::of(1e6 + 2.0);
        [4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
            .iter()
            .for_each(|value| sum.add(1e6 + value));
        let summary = sum.summary();
        assert_eq!((summary.count, summary.mean), (8, 1e6 + 5.0));
        assert_eq!(
            (summary.deviation, summary.minimum, summary.maximum),
            (2.0, 1e6 + 2.0, 1e6 + 9.0)
        );
    }
}
