//! A slow channel (temperature, current, pressure) is judged: limits, the instrument, silence. Pure.
//!
//! One code for the collector and the gateway's agent: readings are summed up in windows, and the [`Monitor`]
//! of the channel judges the mean of each, with what a slow channel needs beside ([`Memory`]): limits for
//! values that are too low, and how long a reading has not moved.
//!
//! Limits hold whether the machine runs or not: a bearing that is hot is hot after the stop, too.

use crate::feature::FeatureKind;
use crate::feature::statistics::Statistics;
use crate::level::Latch;
use crate::monitor::{self, Assessment, Condition, Judged, Monitor, Settings, judge_below};
use crate::operating::{Operating, Run};
use crate::time::EventTime;
use serde::{Deserialize, Serialize};

/// A sensor is stuck when not one reading differs for a day while its machine is not known to stand still: the
/// temperature of a hall, or the load of a day, moves what is measured. One that reads zero may be at rest.
const STUCK_NS: i64 = 86_400 * 1_000_000_000;

const HOUR_NS: i64 = 3_600 * 1_000_000_000;

/// Millihertz times nanoseconds of a reading.
const NANOS_MILLI: i64 = 1_000_000_000_000;

/// What the readings of a window come to, in their unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// How many there are.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation.
    pub deviation: f64,
    /// The smallest one.
    pub minimum: f64,
    /// The largest one.
    pub maximum: f64,
}

/// A window of readings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    /// Start (event time, inclusive).
    pub start: EventTime,
    /// End (event time, exclusive).
    pub end: EventTime,
    /// Of its readings; none where they are too few to decide on.
    pub summary: Option<Summary>,
}

impl Window {
    /// Mean and count of its readings.
    pub fn readings(&self) -> Option<(f64, u64)> {
        self.summary.map(|summary| (summary.mean, summary.count))
    }
}

/// A reading that does not move, and since when.
pub type Still = (f64, EventTime);

/// What is remembered of a slow channel beside its monitor.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Of its low limits.
    low: Latch,
    /// The reading that does not move, if it does not.
    still: Option<Still>,
}

/// What a window of a slow channel says.
#[derive(Clone, PartialEq, Debug)]
pub struct Assessed {
    /// What the monitor says.
    pub assessment: Assessment,
    /// How the limits stand, where there are any, and whether those for low values are meant. Both share one
    /// condition: the side that holds the higher level tells of it.
    pub limits: Option<(Judged, bool)>,
}

impl Assessed {
    /// How everything but the limits stands.
    pub fn others(&self) -> impl Iterator<Item = &Judged> {
        self.assessment.judged.iter().filter(|judged| !is_limit(judged))
    }
}

impl Memory {
    /// Takes the next window, in the order of event time, into the channel's monitor too. `below` are ALERT and
    /// ALARM for low values; `is_off` says that the machine is known to stand still.
    pub fn handle_window(
        &mut self,
        monitor: &mut Monitor,
        window: &Window,
        is_off: bool,
        below: Option<[f32; 2]>,
        settings: &Settings,
    ) -> Assessed {
        let statistics = statistics(window, &mut self.still, is_off);
        let mean = window.summary.map(|summary| summary.mean as f32);
        let value = mean.map(|mean| [(FeatureKind::Mean, mean)]);
        let seen = monitor::Window {
            start: window.start,
            end: window.end,
            is_decided: window.summary.is_some(),
            statistics: statistics.as_ref(),
            values: value.as_ref().map_or(&[], |value| value),
        };
        let assessment = monitor.handle_window(&seen, &Operating::default(), settings);
        let below = below.map(|limits| {
            let is_judged = assessment.run == Some(Run::Steady) && assessment.fault.is_none();
            let value = mean.filter(|_| is_judged);
            judge_below(
                &mut self.low,
                FeatureKind::Mean,
                limits,
                value,
                settings.persistence,
            )
        });
        let above = assessment.judged.iter().find(|judged| is_limit(judged)).copied();
        let sides = [
            above.map(|judged| (judged, false)),
            below.map(|judged| (judged, true)),
        ];
        let limits = sides
            .into_iter()
            .flatten()
            .max_by_key(|(judged, _)| (judged.held, judged.reached));
        Assessed { assessment, limits }
    }
}

fn is_limit(judged: &Judged) -> bool {
    judged.condition == Condition::Deviation(FeatureKind::Mean)
}

/// What the readings of a window say of the instrument, in the terms of a vibration: a window in which nothing
/// moves counts as still only once it has been so for [`STUCK_NS`].
fn statistics(window: &Window, still: &mut Option<Still>, is_off: bool) -> Option<Statistics> {
    let summary = window.summary?;
    let (low, high) = (summary.minimum, summary.maximum);
    let is_same = low == high && still.is_some_and(|(value, _)| value == low);
    if !is_same || is_off || low == 0.0 {
        *still = (low == high).then_some((low, window.start));
    }
    let is_stuck = low == high && still.is_some_and(|(_, since)| window.end.nanos_since(since) >= STUCK_NS);
    let moved = (high - low) as f32;
    Some(Statistics {
        mean: summary.mean as f32,
        rms: summary.deviation as f32,
        peak: (high - summary.mean).max(summary.mean - low) as f32,
        peak_to_peak: if is_stuck {
            0.0
        } else {
            moved.max(f32::MIN_POSITIVE)
        },
        shape: None,
    })
}

/// From one window to the next, as expected, nanoseconds: as declared, and no less than a window is long, than
/// readings are apart (`rate_mhz`, 0 where that is not known), and than they take to arrive.
pub fn interval_ns(declared_ns: i64, window_ns: i64, rate_mhz: u32, delay: &Delay) -> i64 {
    declared_ns
        .max(window_ns)
        .max(period_ns(rate_mhz))
        .max(delay.longest_ns())
}

/// From one reading to the next, nanoseconds; 0 where the rate is not known.
pub fn period_ns(rate_mhz: u32) -> i64 {
    NANOS_MILLI.checked_div(rate_mhz.into()).unwrap_or(0)
}

/// How many readings a window of so long is to hold; 0 where the rate is not known.
pub fn wanted(rate_mhz: u32, window_ns: i64) -> u64 {
    let milli = i128::from(NANOS_MILLI);
    let wanted = (i128::from(rate_mhz) * i128::from(window_ns) + milli / 2) / milli;
    u64::try_from(wanted).unwrap_or(0)
}

/// How long live readings of a channel take to arrive: the longest of this hour of the judge's clock and the
/// one before. Readings are sent many at a time; a channel is not silent before as long as that has passed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Delay {
    hour: i64,
    this_ns: i64,
    before_ns: i64,
}

impl Delay {
    /// A reading of that time has come.
    pub fn note(&mut self, taken: EventTime, now: EventTime) {
        let hour = now.0.div_euclid(HOUR_NS);
        if hour != self.hour {
            self.before_ns = if hour == self.hour + 1 { self.this_ns } else { 0 };
            (self.hour, self.this_ns) = (hour, 0);
        }
        self.this_ns = self.this_ns.max(now.nanos_since(taken));
    }

    fn longest_ns(&self) -> i64 {
        self.this_ns.max(self.before_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn of(minimum: f64, maximum: f64) -> Option<Summary> {
        Some(Summary {
            count: 10,
            mean: minimum,
            deviation: 0.0,
            minimum,
            maximum,
        })
    }

    #[test]
    fn readings_that_come_a_minute_at_a_time_are_late_by_a_minute_for_two_hours() {
        let mut delay = Delay::default();
        let at = |seconds: i64| EventTime(seconds * SECOND);
        delay.note(at(10), at(70));
        delay.note(at(69), at(70));
        assert_eq!(delay.longest_ns(), 60 * SECOND);
        delay.note(at(3_600), at(3_601));
        assert_eq!(delay.longest_ns(), 60 * SECOND);
        delay.note(at(7_200), at(7_201));
        assert_eq!(delay.longest_ns(), SECOND);
    }

    #[test]
    fn a_window_is_expected_as_seldom_as_the_slowest_of_its_reasons() {
        let mut delay = Delay::default();
        let expected = |delay: &Delay| interval_ns(5 * SECOND, 10 * SECOND, 50, delay) / SECOND;
        assert_eq!(expected(&delay), 20, "a reading each 20 s");
        delay.note(EventTime(0), EventTime(30 * SECOND));
        assert_eq!(expected(&delay), 30);
        assert_eq!(interval_ns(5, 10, 0, &Delay::default()), 10);
    }

    #[test]
    fn a_window_wants_as_many_readings_as_its_rate_makes() {
        assert_eq!(wanted(1_000, 10 * SECOND), 10);
        assert_eq!(wanted(50, 10 * SECOND), 1, "a reading each 20 s, rounded");
        assert_eq!(wanted(0, 10 * SECOND), 0);
    }

    /// Windows of ten minutes with those lowest and highest readings; at the end of which, in hours, one counts
    /// as still.
    fn stuck(window: impl Fn(i64) -> (f64, f64), is_off: bool) -> Option<i64> {
        let mut still = None;
        (0..300).find_map(|number| {
            let (minimum, maximum) = window(number);
            let window = Window {
                start: EventTime(number * 600 * SECOND),
                end: EventTime((number + 1) * 600 * SECOND),
                summary: of(minimum, maximum),
            };
            let found = statistics(&window, &mut still, is_off)?;
            (found.peak_to_peak == 0.0).then_some((number + 1) / 6)
        })
    }

    #[test]
    fn a_sensor_is_stuck_when_nothing_has_moved_for_a_day() {
        assert_eq!(stuck(|_| (21.5, 21.5), false), Some(24));
        assert_eq!(stuck(|_| (21.5, 21.5), true), None, "its machine stands still");
        assert_eq!(stuck(|_| (0.0, 0.0), false), None, "zero may be at rest");
        assert_eq!(stuck(|number| (21.5, 21.5 + (number % 100) as f64), false), None);
        assert_eq!(
            stuck(
                |number| ((number / 100) as f64 + 1.0, (number / 100) as f64 + 1.0),
                false
            ),
            None
        );
    }

    #[test]
    fn of_high_and_low_limits_the_side_that_holds_more_tells() {
        let watched = monitor::Watched {
            kind: FeatureKind::Mean,
            absolute: Some([80.0, 95.0]),
            relative: None,
        };
        let settings = Settings {
            watched: [watched].into_iter().collect(),
            learning: None,
            interval_ns: 10 * SECOND,
            ..Settings::default()
        };
        let told = |value: f64| {
            let (mut memory, mut monitor) = (Memory::default(), Monitor::default());
            let assessed = (0..3).map(|number| {
                let window = Window {
                    start: EventTime(10 * SECOND * number),
                    end: EventTime(10 * SECOND * (number + 1)),
                    summary: of(value, value + 0.1),
                };
                memory.handle_window(&mut monitor, &window, false, Some([5.0, 2.0]), &settings)
            });
            let (judged, is_below) = assessed.last().and_then(|assessed| assessed.limits).unwrap();
            (judged.held.label(), is_below)
        };
        assert_eq!(told(85.0), ("alert", false));
        assert_eq!(told(99.0), ("alarm", false));
        assert_eq!(told(4.0), ("alert", true));
        assert_eq!(told(1.0), ("alarm", true));
        assert_eq!(told(40.0).0, "normal");
    }
}
