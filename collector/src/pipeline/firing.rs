//! From the watermark on: windows fire, and become features, verdicts and advisories.

use super::{ChannelKey, FIRST_CHANNEL, Output, Pipeline, Stage};
use crate::advisory::{Advisories, AdvisoryChange};
use crate::detection::{Detection, Detector, Verdict};
use crate::features::PointContext;
use crate::fleet::NYQUIST_MARGIN;
use crate::state::{FeatureRow, SeriesKey, UNASSIGNED};
use crate::watermark::Span;
use crate::window::Fired;
use serde::{Deserialize, Serialize};
use trunnion_common::feature::FeatureKind;
use trunnion_common::id::{ChannelId, NodeId};
use trunnion_common::time::EventTime;

impl Pipeline {
    /// Looks at a node's channels again, and fires what is due.
    pub(super) fn fire_node(&mut self, node: NodeId) {
        if self.puts_off_firing(node) {
            return;
        }
        self.stages.enter(Stage::Windows);
        let mut fired = Vec::new();
        let settings = self.state.settings.at(self.state.now).windows;
        let channels = self.state.channels.range_mut((node, FIRST_CHANNEL)..);
        for (key, channel) in channels.take_while(|(key, _)| key.0 == node) {
            if channel.windows.is_empty() {
                continue;
            }
            let (frames, waiting) = (&self.state.frames, &self.state.waiting);
            channel.watermark.settle(|boot, class| {
                let received = frames.received(node, boot, class);
                (received, waiting.has((node, boot)))
            });
            let look = |span: &Span| channel.watermark.outlook(span, settings.patience());
            while let Some(window) = channel.windows.fire(&settings, look) {
                fired.push((*key, window));
            }
        }
        self.publish_all(fired);
    }

    /// Fires what is left of channels that fell silent.
    pub(super) fn fire_idle(&mut self) {
        self.stages.enter(Stage::Windows);
        let now = self.state.now;
        let settings = self.state.settings.at(now).windows;
        let mut fired = Vec::new();
        for (key, channel) in &mut self.state.channels {
            if channel.windows.is_empty() {
                continue;
            }
            let idle = [false, true].map(|lane| channel.watermark.is_idle(lane, now, settings.idle_ns));
            let look = |span: &Span| channel.watermark.outlook(span, settings.patience());
            while let Some(window) = channel.windows.fire_idle(now, idle, &settings, look) {
                fired.push((*key, window));
            }
        }
        self.publish_all(fired);
    }

    fn publish_all(&mut self, fired: Vec<(ChannelKey, Fired)>) {
        for ((node, channel), window) in fired {
            self.stages.enter(Stage::Features);
            self.publish(node, channel, window);
        }
        self.stages.enter(Stage::Decode);
    }

    /// A fired window: features, detection, advisory.
    fn publish(&mut self, node: NodeId, channel: ChannelId, window: Fired) {
        self.publish_again(node, channel, None, window);
    }

    /// As above, of a window that had fired as `before`.
    pub(super) fn publish_again(
        &mut self,
        node: NodeId,
        channel: ChannelId,
        before: Option<Fired>,
        mut window: Fired,
    ) {
        let (signal, rate_hz) = (window.signal, window.rate_hz());
        let counters = &mut self.state.counters;
        if window.revision == 0 {
            counters.windows_fired += 1;
            counters.windows_undecided += u64::from(!window.decided);
        } else {
            counters.windows_corrected += 1;
        }
        counters.windows_backfilled += u64::from(window.backfill);
        let fleet = self
            .fleets
            .range(..=window.start)
            .next_back()
            .map(|(_, fleet)| fleet);
        let site = fleet.and_then(|fleet| fleet.channel(node, channel));
        let factor = site.and_then(|site| signal.unit.factor_to(site.unit));
        counters.windows_contradicted += u64::from(site.is_some() && factor.is_none());
        let site = site.zip(factor);
        let (gain, context) = match site {
            Some((site, factor)) => (
                (site.gain * factor) as f32,
                site.context(rate_hz, signal.band_high_hz),
            ),
            None => (
                1.0,
                PointContext {
                    shaft_hz: 0.0,
                    bearing: None,
                    band_high_hz: signal.band_high_hz.min(rate_hz / NYQUIST_MARGIN),
                },
            ),
        };
        let series = site.map_or_else(
            || SeriesKey {
                asset: UNASSIGNED.to_owned(),
                point: node.to_string(),
                channel: channel.to_string(),
            },
            |(site, _)| site.series.clone(),
        );
        let mut evaluate = |window: &mut Fired| {
            if site.is_some() {
                window.samples.iter_mut().for_each(|sample| *sample *= gain);
            }
            if !window.decided {
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
            }
        };
        let old = before.map_or_else(Vec::new, |mut before| evaluate(&mut before).0);
        let (values, verdict) = evaluate(&mut window);
        if site.is_some() && signal.waveform {
            if window.current {
                self.detect(&series, &window, verdict);
            } else {
                self.look_back(&series, &window, verdict);
            }
        }
        self.outputs.push(Output::Features(FeatureRow {
            series,
            start: window.start,
            end: window.end,
            coverage: window.coverage,
            decided: window.decided,
            revision: window.revision,
            backfill: window.backfill,
            values,
            old,
        }));
    }

    /// Windows of one channel are looked at together; a point's channels speak for the same bearing.
    fn detect(&mut self, series: &SeriesKey, window: &Fired, verdict: Verdict) {
        let watch = self.state.detectors.entry(series.clone()).or_default();
        let detection = watch.handle_window(window.start, window.end, verdict.clone());
        let point = (series.asset.clone(), series.point.clone());
        let advisories = self
            .state
            .advisories
            .entry(point)
            .or_insert_with(|| Advisories::new(series.asset.as_str(), series.point.as_str()));
        for change in advisories.handle_window(window.end, &verdict, &detection) {
            match &change {
                AdvisoryChange::Raised(_) => self.state.counters.advisories_raised += 1,
                AdvisoryChange::Cleared(_) => self.state.counters.advisories_cleared += 1,
                AdvisoryChange::Updated(_) | AdvisoryChange::Found(_) => {}
            }
            self.outputs.push(Output::Advisory(change));
        }
    }

    /// What is not of now neither raises nor clears anything: a fault in it is told as one of the past.
    fn look_back(&mut self, series: &SeriesKey, window: &Fired, verdict: Verdict) {
        let history = self.state.histories.entry(series.clone()).or_default();
        let length = window.end.nanos_since(window.start);
        if let Some(found) = history.handle_window(series, window.end, length, verdict) {
            self.state.counters.advisories_found += u64::from(found.is_new);
            self.outputs
                .push(Output::Advisory(AdvisoryChange::Found(found.advisory)));
        }
    }
}

/// The live windows of one series.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    detector: Detector,
    /// Where the last one ended.
    end: Option<EventTime>,
}

impl Watch {
    /// Windows between the last one and this one that never came live keep their places.
    fn handle_window(&mut self, start: EventTime, end: EventTime, verdict: Verdict) -> Detection {
        let missed = self.end.map_or(0, |last| {
            let length = end.nanos_since(start).max(1);
            start.nanos_since(last).max(0) / length
        });
        self.detector.handle_gap(missed.unsigned_abs());
        self.end = self.end.max(Some(end));
        self.detector.handle_window(verdict)
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
