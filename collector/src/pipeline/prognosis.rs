//! From judged windows to how long a measurement point's machine has left.
//!
//! Every condition that a channel is judged by has a limit that ends life: of the overall velocity the boundary of
//! zones C and D, or a lower TRIP; of another feature its ALARM. A track follows each
//! ([`Tracks`]); what they say goes into every advisory of the point, and is told again with each reading.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | tracks | those of each channel of the fleet in force | those that a fleet no longer has are forgotten |

use super::Pipeline;
use crate::advisory::Cause;
use crate::prognosis::track::{Shown, Tracks, Window};
use crate::prognosis::{Forecast, Outlook};
use crate::state::SeriesKey;
use crate::window::Fired;
use trunnion_common::level::Level;
use trunnion_common::monitor::{Assessment, Judged, Monitor, Settings};

/// What a window shows of the features that life depends on, by the limits in force.
pub(super) fn shown(monitor: &Monitor, assessment: &Assessment, settings: &Settings) -> Vec<Shown> {
    let is_judged = |judged: &&Judged| judged.reached.is_some();
    if !assessment.judged.iter().any(|judged| is_judged(&judged)) {
        return Vec::new();
    }
    let limits = |level| monitor.limits(level, assessment.regime, settings);
    let ends = limits(Level::Alarm).into_iter().zip(limits(Level::Trip));
    let ends = ends.filter_map(|(alarm, trip)| {
        let judged = assessment.judged.iter().filter(is_judged);
        let mut judged = judged.filter(|judged| judged.condition == alarm.condition);
        Some(Shown {
            kind: alarm.kind,
            value: judged.next()?.evidence?.value,
            limit: alarm.limit.min(trip.limit),
            normal: alarm.normal,
        })
    });
    ends.collect()
}

impl Pipeline {
    /// Takes a live window in that was judged, and tells again of what stands when something has become of it.
    pub(super) fn follow(
        &mut self,
        series: &SeriesKey,
        window: &Fired,
        interval_ns: i64,
        assessment: &Assessment,
        shown: &[Shown],
    ) {
        if shown.is_empty() {
            return;
        }
        let site = self.fleets.range(..=window.start).next_back();
        let Some(site) = site.and_then(|(_, fleet)| fleet.site(series)) else {
            return;
        };
        let seen = Window {
            start: window.start,
            end: window.end,
            interval_ns,
            regime: assessment.regime,
        };
        let reading_ns = site.reading_ns;
        if !self.state.lives.contains_key(series) {
            self.state.lives.insert(series.clone(), Tracks::default());
        }
        let Some(tracks) = self.state.lives.get_mut(series) else {
            return;
        };
        let label = |tracks: &Tracks| {
            tracks
                .forecast("")
                .map_or("", |forecast| forecast.outlook.label())
        };
        let before = label(tracks);
        if !tracks.handle_window(&seen, shown, reading_ns) {
            return;
        }
        let after = label(tracks);
        // An end that comes nearer is told with each reading; that there is none in sight, once.
        if after == Outlook::LABELS[0] || after != before {
            // What this very window raises is told with it.
            self.retell(&series.asset, &series.point, |standing| {
                standing.cause != Cause::Instrument && standing.raised < window.end
            });
        }
    }

    /// What is said of the machine at a point; none where nothing is followed there.
    pub(super) fn forecast(&self, asset: &str, point: &str) -> Option<Forecast> {
        let first = SeriesKey {
            asset: asset.to_owned(),
            point: point.to_owned(),
            ..SeriesKey::default()
        };
        let channels = self.state.lives.range(first..);
        let channels = channels.take_while(|(series, _)| series.asset == asset && series.point == point);
        let forecasts = channels.filter_map(|(series, tracks)| tracks.forecast(&series.channel));
        forecasts
            .chain(self.learned_forecast(asset))
            .reduce(Forecast::earlier)
    }

    /// How many channels, and machines that live by what was learned of their fleet, there are by what is said of
    /// them, in the order of [`Outlook::LABELS`], and the shortest
    /// remaining life (median) of any, seconds.
    pub fn outlooks(&self) -> ([u64; Outlook::LABELS.len()], Option<f64>) {
        let mut channels = [0; Outlook::LABELS.len()];
        let mut shortest: Option<f64> = None;
        let tracks = self.state.lives.values();
        let trends = tracks.filter_map(|tracks| tracks.forecast(""));
        for forecast in trends.chain(self.learned_forecasts()) {
            let place = Outlook::LABELS
                .iter()
                .position(|label| *label == forecast.outlook.label());
            if let Some(count) = place.and_then(|place| channels.get_mut(place)) {
                *count += 1;
            }
            if let Some(remaining) = forecast.outlook.remaining() {
                shortest = Some(shortest.map_or(remaining.median_s, |least| least.min(remaining.median_s)));
            }
        }
        (channels, shortest)
    }
}
