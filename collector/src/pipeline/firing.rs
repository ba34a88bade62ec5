//! From the watermark on: windows fire, and become features, verdicts and advisories.

use super::{ChannelKey, FIRST_CHANNEL, Output, Pipeline};
use crate::advisory::{Advisories, AdvisoryChange};
use crate::detection::Verdict;
use crate::features::PointContext;
use crate::fleet::NYQUIST_MARGIN;
use crate::state::{FeatureRow, SeriesKey, UNASSIGNED};
use crate::window::Fired;
use trunnion_common::block::Lane;
use trunnion_common::feature::FeatureKind;
use trunnion_common::id::{ChannelId, NodeId};

impl Pipeline {
    /// Moves the watermarks of a node's channels on, and fires what they have passed.
    pub(super) fn fire_node(&mut self, node: NodeId) {
        let mut fired = Vec::new();
        let settings = self.state.settings.at(self.state.now).windows;
        let first = (node, FIRST_CHANNEL, false);
        let channels = self.state.channels.range_mut(first..);
        for (key, channel) in channels.take_while(|(key, _)| key.0 == node) {
            if channel.windows.is_empty() {
                continue;
            }
            let received = self.state.frames.received(node, channel.boot, channel.class);
            let waiting = self.state.waiting.has((node, channel.boot)).then_some(u64::MAX);
            let hole = received.holes().last().map(|hole| hole.end()).or(waiting);
            let lane = if key.2 { Lane::Backfill } else { Lane::Live };
            let reached = channel.watermark.advance(hole, lane, settings.trail_ns);
            while let Some(window) = channel.windows.fire(reached, &settings) {
                fired.push((*key, window));
            }
        }
        self.publish_all(fired);
    }

    /// Fires what is left of channels that fell silent.
    pub(super) fn fire_idle(&mut self) {
        let now = self.state.now;
        let settings = self.state.settings.at(now).windows;
        let mut fired = Vec::new();
        for (key, channel) in &mut self.state.channels {
            if !channel.windows.is_empty() && channel.watermark.is_idle(now, settings.idle_ns) {
                while let Some(window) = channel.windows.fire_idle(now, &settings) {
                    fired.push((*key, window));
                }
            }
        }
        self.publish_all(fired);
    }

    fn publish_all(&mut self, fired: Vec<(ChannelKey, Fired)>) {
        for ((node, channel, _), window) in fired {
            self.publish(node, channel, window);
        }
    }

    /// A fired window: features, detection, advisory.
    fn publish(&mut self, node: NodeId, channel: ChannelId, mut window: Fired) {
        let (signal, rate_hz) = (window.signal, window.rate_hz());
        let counters = &mut self.state.counters;
        counters.windows_fired += 1;
        counters.windows_undecided += u64::from(!window.decided);
        let fleet = self
            .fleets
            .range(..=window.start)
            .next_back()
            .map(|(_, fleet)| fleet);
        let site = fleet.and_then(|fleet| fleet.channel(node, channel));
        let factor = site.and_then(|site| signal.unit.factor_to(site.unit));
        counters.windows_contradicted += u64::from(site.is_some() && factor.is_none());
        let site = site.zip(factor);
        let context = match site {
            Some((site, factor)) => {
                let gain = (site.gain * factor) as f32;
                window.samples.iter_mut().for_each(|sample| *sample *= gain);
                site.context(rate_hz, signal.band_high_hz)
            }
            None => PointContext {
                shaft_hz: 0.0,
                bearing: None,
                band_high_hz: signal.band_high_hz.min(rate_hz / NYQUIST_MARGIN),
            },
        };
        let series = site.map_or_else(
            || SeriesKey {
                asset: UNASSIGNED.to_owned(),
                point: node.to_string(),
                channel: channel.to_string(),
            },
            |(site, _)| site.series.clone(),
        );
        let (values, verdict) = if !window.decided {
            let coverage = window.coverage;
            (Vec::new(), Verdict::Undecided { coverage })
        } else if signal.waveform {
            let features = self.analyzer.analyze(&window.samples, rate_hz, &context);
            let values = features
                .values
                .into_iter()
                .map(|(kind, value)| (kind.label(), value));
            (values.collect(), Verdict::new(window.coverage, features.finding))
        } else {
            (summarise(&window.samples), Verdict::Healthy)
        };
        if site.is_some() && signal.waveform {
            self.detect(&series, &window, verdict);
        }
        self.outputs.push(Output::Features(FeatureRow {
            series,
            start: window.start,
            end: window.end,
            coverage: window.coverage,
            decided: window.decided,
            revision: 0,
            backfill: window.backfill,
            values,
        }));
    }

    /// Windows of one channel are looked at together; a point's channels speak for the same bearing.
    fn detect(&mut self, series: &SeriesKey, window: &Fired, verdict: Verdict) {
        let detector = self.state.detectors.entry(series.clone()).or_default();
        let detection = detector.handle_window(verdict.clone());
        let point = (series.asset.clone(), series.point.clone());
        let advisories = self
            .state
            .advisories
            .entry(point)
            .or_insert_with(|| Advisories::new(series.asset.as_str(), series.point.as_str()));
        let lane = if window.backfill {
            Lane::Backfill
        } else {
            Lane::Live
        };
        for change in advisories.handle_window(window.end, &verdict, &detection, lane) {
            match &change {
                AdvisoryChange::Raised(_) => self.state.counters.advisories_raised += 1,
                AdvisoryChange::Cleared(_) => self.state.counters.advisories_cleared += 1,
                AdvisoryChange::Updated(_) => {}
            }
            self.outputs.push(Output::Advisory(change));
        }
    }
}

/// What is said of a window of readings.
fn summarise(readings: &[f32]) -> Vec<(&'static str, f32)> {
    let values = || readings.iter().copied().filter(|value| !value.is_nan());
    let count = values().count();
    if count == 0 {
        return Vec::new();
    }
    // By index and in double precision: the same whatever the order of arrival.
    let mean = values().map(f64::from).sum::<f64>() / count as f64;
    vec![
        ("count", count as f32),
        (FeatureKind::Mean.label(), mean as f32),
        ("minimum", values().fold(f32::INFINITY, f32::min)),
        ("maximum", values().fold(f32::NEG_INFINITY, f32::max)),
    ]
}
