//! Slow channels are judged: limits, the instrument, silence; and what is unusual of them ([`super::unusual`]).
//!
//! What is judged are the windows of the stream that is always there, in the order in which they fire, which is
//! that of event time. History neither raises nor clears nor teaches anything, as with waveforms.
//!
//! How a window is judged, gateways share: [`trunnion_common::slow`].

use super::condition::evidence;
use super::{ChannelKey, Pipeline};
use crate::advisory::{Cause, Evidence, Observation};
use crate::state::SeriesKey;
use trunnion_common::feature::FeatureKind;
use trunnion_common::level::Level;
use trunnion_common::monitor::{Judged, Settings};
use trunnion_common::slow::{Window, interval_ns};
use trunnion_common::time::EventTime;

impl Pipeline {
    /// Takes a live window of a slow channel in.
    pub(super) fn judge_slow(&mut self, key: ChannelKey, series: &SeriesKey, window: &Window) {
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
        let interval_ns = interval_ns(
            site_settings.interval_ns,
            window.end.nanos_since(window.start),
            channel.slow.rate_mhz,
            &channel.slow.delay,
        );
        let known = self.state.conditions.monitored(series);
        if known.monitor.last().is_some_and(|last| window.end <= last) {
            return;
        }
        known.interval_ns = interval_ns;
        let settings = known.settings(&site_settings);
        let memory = known.slow.get_or_insert_default();
        let assessed = memory.handle_window(&mut known.monitor, window, is_off, slow.below, &settings);
        let assessment = &assessed.assessment;
        known.note(assessment);
        let silent = known.monitor.silent_from(&settings);
        self.state.conditions.note_silence(silent);
        if let Some(limits) = assessed.limits {
            self.observe_limits(series, &settings, window.end, limits);
        }
        for judged in assessed.others() {
            self.observe(series, &settings, window.end, judged, None);
        }
        let mean = window.readings().map(|(mean, _)| mean as f32);
        if let (Some(mean), false, None) = (mean, is_off, assessment.fault) {
            self.learn_of(series, (window.start, window.end), &[(FeatureKind::Mean, mean)]);
        }
        self.judge_alone(series, slow.alone_ns, window, is_off);
        self.judge_together(series, window);
        self.concern(&series.asset);
    }

    /// High and low limits of a channel share one advisory.
    fn observe_limits(
        &mut self,
        series: &SeriesKey,
        settings: &Settings,
        at: EventTime,
        (judged, is_below): (Judged, bool),
    ) {
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
