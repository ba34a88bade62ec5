//! Slow channels are judged: limits, the instrument, silence; and what is unusual of them ([`super::unusual`]).
//!
//! What is judged are the windows of the stream that is always there, in the order in which they fire, which is
//! that of event time. History neither raises nor clears nor teaches anything, as with waveforms.
//!
//! Limits hold whether the machine runs or not: a bearing that is hot is hot after the stop, too.

use super::condition::{SlowMemory, evidence};
use super::{ChannelKey, Pipeline};
use crate::advisory::{Cause, Evidence, Observation};
use crate::state::SeriesKey;
use crate::window::scalar::Summary;
use serde::{Deserialize, Serialize};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::level::Level;
use trunnion_common::monitor::{Condition, Judged, Settings, Window, judge_below};
use trunnion_common::operating::{Operating, Run};
use trunnion_common::time::EventTime;

/// A sensor is stuck when not one reading differs for a day while its machine is not known to stand still: the
/// temperature of a hall, or the load of a day, moves what is measured. One that reads zero may be at rest.
const STUCK_NS: i64 = 86_400 * 1_000_000_000;

const HOUR_NS: i64 = 3_600 * 1_000_000_000;

/// A window of a slow channel that has fired.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlowWindow<'a> {
    pub(super) start: EventTime,
    pub(super) end: EventTime,
    /// Of its readings; none where they are too few to decide on.
    pub(super) summary: Option<&'a Summary>,
}

impl SlowWindow<'_> {
    /// Mean and count of its readings.
    pub(super) fn readings(&self) -> Option<(f64, u64)> {
        self.summary.map(|summary| (summary.mean, summary.count))
    }
}

/// How long live readings of a channel take to arrive: the longest of this hour of the journal's clock and the
/// one before. Readings are sent many at a time; a channel is not silent before as long as that has passed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Delay {
    hour: i64,
    this_ns: i64,
    before_ns: i64,
}

impl Delay {
    /// A reading of that time has come.
    pub(super) fn note(&mut self, taken: EventTime, now: EventTime) {
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

/// A reading that does not move, and since when.
pub(super) type Still = (f64, EventTime);

/// What the readings of a window say of the instrument, in the terms of a vibration: a window in which nothing
/// moves counts as still only once it has been so for [`STUCK_NS`].
fn statistics(window: &SlowWindow<'_>, still: &mut Option<Still>, is_off: bool) -> Option<Statistics> {
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
        rms: summary.deviation() as f32,
        peak: (high - summary.mean).max(summary.mean - low) as f32,
        peak_to_peak: if is_stuck {
            0.0
        } else {
            moved.max(f32::MIN_POSITIVE)
        },
        shape: None,
    })
}

impl Pipeline {
    /// Takes a live window of a slow channel in.
    pub(super) fn judge_slow(&mut self, key: ChannelKey, series: &SeriesKey, window: &SlowWindow<'_>) {
        let Some((_, fleet)) = self.fleets.range(..=window.start).next_back() else {
            return;
        };
        let Some(site) = fleet.site(series) else {
            return;
        };
        let (Some(site_settings), Some(slow)) = (site.monitor.clone(), site.slow.clone()) else {
            return;
        };
        let operating = self.operating_at(fleet, site, window.end);
        let is_off = operating.is_running == Some(false);
        let Some(channel) = self.state.channels.get(&key) else {
            return;
        };
        let period_ns = match channel.slow.rate_mhz {
            0 => 0,
            rate_mhz => 1_000_000_000_000 / i64::from(rate_mhz),
        };
        let interval_ns = site_settings
            .interval_ns
            .max(window.end.nanos_since(window.start))
            .max(period_ns)
            .max(channel.slow.delay.longest_ns());
        let known = self.state.conditions.monitored(series);
        if known.monitor.last().is_some_and(|last| window.end <= last) {
            return;
        }
        known.interval_ns = interval_ns;
        let settings = known.settings(&site_settings);
        let memory = known.slow.get_or_insert_default();
        let SlowMemory { low, still } = &mut **memory;
        let statistics = statistics(window, still, is_off);
        let mean = window.summary.map(|summary| summary.mean as f32);
        let values: Vec<_> = mean.map(|mean| (FeatureKind::Mean, mean)).into_iter().collect();
        let seen = Window {
            start: window.start,
            end: window.end,
            is_decided: window.summary.is_some(),
            statistics: statistics.as_ref(),
            values: &values,
        };
        let assessment = known
            .monitor
            .handle_window(&seen, &Operating::default(), &settings);
        let below = slow.below.map(|limits| {
            let is_judged = assessment.run == Some(Run::Steady) && assessment.fault.is_none();
            let value = mean.filter(|_| is_judged);
            judge_below(low, FeatureKind::Mean, limits, value, settings.persistence)
        });
        known.note(&assessment);
        let silent = known.monitor.silent_from(&settings);
        self.state.conditions.note_silence(silent);
        let is_limit = |judged: &&Judged| judged.condition == Condition::Deviation(FeatureKind::Mean);
        let above = assessment.judged.iter().find(is_limit).copied();
        self.observe_limits(series, &settings, window.end, [above, below]);
        for judged in assessment.judged.iter().filter(|judged| !is_limit(judged)) {
            self.observe(series, &settings, window.end, judged, None);
        }
        if let (Some(mean), false, None) = (mean, is_off, assessment.fault) {
            self.learn_of(series, (window.start, window.end), &[(FeatureKind::Mean, mean)]);
        }
        self.judge_alone(series, slow.alone_ns, window, is_off);
        self.judge_together(series, window);
        self.concern(&series.asset);
    }

    /// High and low limits of a channel share one advisory: the side that holds the higher level tells of it.
    fn observe_limits(
        &mut self,
        series: &SeriesKey,
        settings: &Settings,
        at: EventTime,
        [above, below]: [Option<Judged>; 2],
    ) {
        let sides = [
            above.map(|judged| (judged, false)),
            below.map(|judged| (judged, true)),
        ];
        let told = sides
            .into_iter()
            .flatten()
            .max_by_key(|(judged, _)| (judged.held, judged.reached));
        let Some((judged, is_below)) = told else {
            return;
        };
        let point = (series.asset.clone(), series.point.clone());
        if judged.held == Level::Normal && !self.state.conditions.has_notice(&point) {
            return;
        }
        let mut evidence = judged
            .evidence
            .and_then(|shown| evidence(&series.channel, settings, &shown, None, None));
        if let Some(Evidence::Limit(limit)) = &mut evidence {
            limit.is_below = is_below;
        }
        self.notice(
            series,
            Observation {
                channel: series.channel.clone(),
                cause: Cause::Deviation(FeatureKind::Mean),
                at,
                held: judged.held,
                is_seen: judged.reached > Some(Level::Normal),
                evidence,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

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

    /// Windows of ten minutes with those lowest and highest readings; at the end of which, in hours, one counts
    /// as still.
    fn stuck(window: impl Fn(i64) -> (f64, f64), is_off: bool) -> Option<i64> {
        let mut still = None;
        (0..300).find_map(|number| {
            let (minimum, maximum) = window(number);
            let summary = Summary {
                count: 10,
                mean: minimum,
                variance: 0.0,
                minimum,
                maximum,
                quantiles: None,
            };
            let window = SlowWindow {
                start: EventTime(number * 600 * SECOND),
                end: EventTime((number + 1) * 600 * SECOND),
                summary: Some(&summary),
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
}
