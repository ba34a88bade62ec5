//! From the watermark on: windows fire, and become features, verdicts and advisories.

use super::analysis::{Evaluated, Pending, Said};
use super::{Channel, ChannelKey, FIRST_CHANNEL, Output, Pipeline, Stage};
use crate::advisory::{Advisories, AdvisoryChange, Cause};
use crate::state::{FeatureRow, SeriesKey, Told, UNASSIGNED};
use crate::watermark::Span;
use crate::window::{Fired, WindowSettings};
use std::collections::BTreeMap;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::{BANDS_MAX, Basis, SpeedSource};
use trunnion_common::id::NodeId;
use trunnion_common::operating::Operating;
use trunnion_common::time::EventTime;
use trunnion_diagnosis::bearing::Neighbours;
use trunnion_diagnosis::detection::Verdict;
use trunnion_diagnosis::features::{Depth, Envelope, NYQUIST_MARGIN, PointContext, ShaftSpeed};

impl Pipeline {
    /// Looks at a node's channels again, and fires what is due.
    pub(super) fn fire_node(&mut self, node: NodeId) {
        if self.puts_off_firing(node) {
            return;
        }
        self.stages.enter(Stage::Windows);
        let mut fired = Vec::new();
        let settings = self.state.settings.at(self.state.now).windows;
        let (frames, waiting) = (&self.state.frames, &self.state.waiting);
        let idle = &mut self.idle;
        let look_at = |key: &ChannelKey, channel: &mut Channel| {
            if channel.windows.is_empty() && channel.slow.is_empty() {
                return;
            }
            channel.watermark.settle(|boot, class| {
                let received = frames.received(node, boot, class);
                (received, waiting.has((node, boot)))
            });
            let look = |span: &Span| channel.watermark.outlook(span, settings.patience());
            while let Some(window) = channel.windows.fire(&settings, look) {
                fired.push((*key, window));
            }
            channel
                .idle_from(&settings)
                .into_iter()
                .for_each(|at| idle.note(at));
        };
        let first = (node, FIRST_CHANNEL);
        self.state
            .channels
            .for_each_mut_while(first, |key| key.0 == node, look_at);
        self.publish_all(fired);
        self.advance_slow(node);
    }

    /// Fires what is left of channels that fell silent. Which those are is looked for when there may be one:
    /// a commit must not cost the more, the more channels there are.
    pub(super) fn fire_idle(&mut self) {
        self.stages.enter(Stage::Windows);
        let now = self.state.now;
        let settings = self.state.settings.at(now).windows;
        if !self.idle.begin(now, settings) {
            return;
        }
        let mut fired = Vec::new();
        let watch = &mut self.idle;
        self.state.channels.for_each_mut(|key, channel| {
            if channel.windows.is_empty() {
                return;
            }
            let idle = [false, true].map(|lane| channel.watermark.is_idle(lane, now, settings.idle_ns));
            let look = |span: &Span| channel.watermark.outlook(span, settings.patience());
            while let Some(window) = channel.windows.fire_idle(now, idle, &settings, look) {
                fired.push((*key, window));
            }
            channel
                .idle_from(&settings)
                .into_iter()
                .for_each(|at| watch.note(at));
        });
        self.publish_all(fired);
    }

    /// Lets fired windows wait for the others of their commit.
    fn publish_all(&mut self, fired: Vec<(ChannelKey, Fired)>) {
        for (key, window) in fired {
            let pending = self.look_up(key, window);
            self.analysis.push(pending);
            if self.analysis.is_full() {
                self.publish_pending();
            }
        }
        self.stages.enter(Stage::Decode);
    }

    /// The windows that wait: features, detection, advisory.
    pub(super) fn publish_pending(&mut self) {
        self.stages.enter(Stage::Features);
        for evaluated in self.analysis.run() {
            self.publish(evaluated);
        }
    }

    /// Lets a window wait that had fired as `before`.
    pub(super) fn publish_again(&mut self, key: ChannelKey, before: Option<Fired>, window: Fired) {
        let pending = self.look_up(key, window);
        self.analysis.push(Pending { before, ..pending });
        if self.analysis.is_full() {
            self.publish_pending();
        }
    }

    /// A fired window, with everything that its features depend on as of now.
    fn look_up(&mut self, key: ChannelKey, window: Fired) -> Pending {
        let (node, channel) = key;
        let (signal, rate_hz) = (window.signal, window.rate_hz());
        let seconds = window.end.nanos_since(window.start) as f64 / 1e9;
        let counters = &mut self.state.counters;
        if window.revision == 0 {
            counters.windows_fired += 1;
            counters.windows_undecided += u64::from(!window.decided);
        } else {
            counters.windows_corrected += 1;
        }
        counters.windows_backfilled += u64::from(window.backfill);
        let depth = self.state.depth;
        counters.windows_shed += u64::from(depth == Depth::Severity && window.decided && signal.waveform);
        let is_live = window.current && window.decided && signal.waveform;
        let fleet = self
            .fleets
            .range(..=window.start)
            .next_back()
            .map(|(_, fleet)| fleet);
        let site = fleet.and_then(|fleet| fleet.channel(node, channel));
        let factor = site.and_then(|site| signal.unit.factor_to(site.unit));
        counters.windows_contradicted += u64::from(site.is_some() && factor.is_none());
        let (operating, shaft) = match (fleet, site) {
            (Some(fleet), Some(site)) => {
                let operating = self.operating_at(fleet, site, window.end);
                (operating, fleet.shaft(site, &operating))
            }
            _ => (Operating::default(), ShaftSpeed::UNKNOWN),
        };
        match site.zip(factor) {
            Some((site, factor)) => Pending {
                key,
                series: site.series.clone(),
                assigned: true,
                gain: (site.gain * factor) as f32,
                context: PointContext {
                    shaft,
                    ..site.context(rate_hz, signal.band_high_hz)
                },
                operating,
                basis: site.basis(rate_hz, signal.band_high_hz, seconds),
                // What is of another time says nothing of now.
                examination: is_live
                    .then(|| self.state.conditions.examination(site, &operating))
                    .flatten(),
                depth,
                before: None,
                window,
            },
            None => Pending {
                key,
                series: SeriesKey {
                    asset: UNASSIGNED.to_owned(),
                    point: node.to_string(),
                    channel: channel.to_string(),
                },
                assigned: false,
                gain: 1.0,
                operating,
                context: PointContext {
                    shaft: ShaftSpeed::UNKNOWN,
                    bearing: None,
                    neighbours: Neighbours::default(),
                    band_high_hz: signal.band_high_hz.min(rate_hz / NYQUIST_MARGIN),
                },
                // Nobody has said how low its sensor reaches, nor how fast the machine turns: nothing that
                // depends on either is told.
                basis: Basis {
                    unit: signal.unit,
                    rate_hz,
                    seconds,
                    usable_low_hz: f64::INFINITY,
                    usable_high_hz: signal.band_high_hz.min(rate_hz / NYQUIST_MARGIN),
                    shaft_hz: 0.0,
                    speed: SpeedSource::Unknown,
                    envelope_hz: None,
                    bands: [None; BANDS_MAX],
                },
                examination: None,
                depth,
                before: None,
                window,
            },
        }
    }

    /// What a window says: detection, advisory, and the row of its features.
    fn publish(&mut self, evaluated: Evaluated) {
        let Evaluated { pending, old, said } = evaluated;
        let Said {
            features,
            values,
            verdict,
            envelope,
            outcome,
            is_examined,
        } = said;
        let Pending {
            key,
            series,
            assigned,
            operating,
            basis,
            window,
            ..
        } = pending;
        self.state.counters.windows_examined += u64::from(is_examined);
        if assigned && window.signal.waveform {
            if window.current {
                self.detect(&series, &window, verdict, envelope.as_ref());
                self.judge(&series, &window, &features, &operating, outcome);
            } else {
                self.look_back(&series, &window, verdict);
            }
        }
        let kept = self.keep_told(key, &window, features);
        let old = old.unwrap_or(kept);
        self.outputs.push(Output::Features(FeatureRow {
            series,
            start: window.start,
            end: window.end,
            coverage: window.coverage,
            decided: window.decided,
            revision: window.revision,
            told: match window.revision {
                0 => Told::Fired,
                _ => Told::Corrected { at: self.state.now },
            },
            backfill: window.backfill,
            values,
            old,
            basis: window.signal.waveform.then_some(basis),
            ..FeatureRow::default()
        }));
    }

    /// Keeps what is told of a window that may be corrected; returns what was told of it before.
    fn keep_told(
        &mut self,
        key: ChannelKey,
        window: &Fired,
        features: Vec<(FeatureKind, f32)>,
    ) -> Vec<(&'static str, f32)> {
        let Some(channel) = self.state.channels.get_mut(&key) else {
            return Vec::new();
        };
        let windows = &channel.windows;
        let before = channel.told.remove(&window.start);
        channel.told.retain(|start, _| windows.may_correct(*start));
        if windows.may_correct(window.start) {
            channel.told.insert(window.start, features);
        }
        before.map_or_else(Vec::new, |before| labelled(&before))
    }

    /// Windows of one channel are looked at together; a point's channels speak for the same bearing.
    fn detect(&mut self, series: &SeriesKey, window: &Fired, verdict: Verdict, envelope: Option<&Envelope>) {
        let sequence = self.state.detectors.entry(series.clone()).or_default();
        let (verdict, detection) = sequence.handle_window(window.start, window.end, verdict, envelope);
        let words = &self.state.conditions.words;
        let fleet = self.fleets.range(..=window.start).next_back();
        let is_held = |element| fleet.is_some_and(|(_, fleet)| words.hold(fleet, series, element));
        let advisories = advisories(&mut self.state.advisories, series);
        let changes = advisories.handle_window(window.end, &verdict, &detection, is_held);
        self.tell_of_bearing(series, changes);
    }

    /// Tells of changes of a point's advisories of its bearing.
    pub(super) fn tell_of_bearing(&mut self, series: &SeriesKey, changes: Vec<AdvisoryChange>) {
        let is_other = changes
            .iter()
            .any(|change| matches!(change, AdvisoryChange::Raised(_) | AdvisoryChange::Cleared(_)));
        for change in changes {
            self.tell_advisory(change);
        }
        if is_other {
            self.retell(&series.asset, &series.point, |standing| {
                standing.cause == Cause::Severity
            });
        }
    }

    /// What is not of now neither raises nor clears anything: a fault in it is told as one of the past.
    fn look_back(&mut self, series: &SeriesKey, window: &Fired, verdict: Verdict) {
        let history = self.state.histories.entry(series.clone()).or_default();
        let length = window.end.nanos_since(window.start);
        if let Some(found) = history.handle_window(series, window.end, length, verdict) {
            // What its gateway has told is told already.
            let fleet = self.fleets.range(..=window.start).next_back();
            let words = &self.state.conditions.words;
            if fleet.is_some_and(|(_, fleet)| words.tell_of(fleet, series, &found.advisory)) {
                return;
            }
            self.state.counters.advisories_found += u64::from(found.is_new);
            self.outputs
                .push(Output::Advisory(AdvisoryChange::Found(found.advisory)));
        }
    }
}

/// Those of the bearing at a place.
pub(super) fn advisories<'a>(
    known: &'a mut BTreeMap<(String, String), Advisories>,
    series: &SeriesKey,
) -> &'a mut Advisories {
    known
        .entry((series.asset.clone(), series.point.clone()))
        .or_insert_with(|| Advisories::new(series.asset.as_str(), series.point.as_str()))
}

impl Channel {
    /// When its open windows may fire for silence, if nothing more comes; none without one.
    fn idle_from(&self, settings: &WindowSettings) -> Option<EventTime> {
        let silent = self.watermark.silent_from(settings.idle_ns);
        self.windows.idle_from(silent, settings)
    }
}

/// Features as they are told.
pub(super) fn labelled(features: &[(FeatureKind, f32)]) -> Vec<(&'static str, f32)> {
    let labelled = features.iter().map(|(kind, value)| (kind.label(), *value));
    labelled.collect()
}
