//! Whose a rise of the vibration is, when several points of a machine show one.
//!
//! A failing bearing is heard at its neighbours, weaker and at the same time. How far the RMS of each channel is
//! above its accepted normal, as a logarithm and smoothed, is compared among the points of a machine
//! ([`attribute`]); the channel in the worst direction speaks for its point. What is heard from another point is
//! told as an ALERT at most, with where it is heard from; limits that hold whatever is normal are not softened.

use super::Pipeline;
use super::condition::Monitored;
use crate::advisory::{Cause, Explanation};
use crate::state::SeriesKey;
use serde::{Deserialize, Serialize};
use trunnion_common::detection::attribution::{Attribution, Element, attribute};
use trunnion_common::detection::ewma::Ewma;
use trunnion_common::feature::FeatureKind;
use trunnion_common::instrument;
use trunnion_common::level::Level;
use trunnion_common::monitor::{Basis, Condition, Judged};
use trunnion_common::time::EventTime;

/// Share of the newest window in the smoothed rise: ten windows, so that whose it is does not come and go.
const WEIGHT: f64 = 0.1;

/// How far a channel is above its normal.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Risen {
    /// Natural logarithm of the RMS over its normal.
    smooth: Ewma,
    /// Whether a level is held against it.
    raised: bool,
    at: EventTime,
}

impl Monitored {
    /// Takes how far the RMS of a window is above its normal, where one is accepted.
    pub(super) fn note_rise(&mut self, judged: &[Judged], at: EventTime) {
        let is_rms = |judged: &&Judged| judged.condition == Condition::Deviation(FeatureKind::Rms);
        let Some(judged) = judged.iter().find(is_rms) else {
            return;
        };
        let shown = judged
            .evidence
            .and_then(|shown| Some((shown.value, shown.normal?)));
        let Some((value, normal)) = shown.filter(|(value, normal)| *value > 0.0 && *normal > 0.0) else {
            return;
        };
        let mut smooth = self.risen.map_or_else(|| Ewma::new(WEIGHT), |risen| risen.smooth);
        smooth.push(f64::from(value / normal).ln());
        self.risen = Some(Risen {
            smooth,
            raised: judged.held > Level::Normal,
            at,
        });
    }
}

impl Pipeline {
    /// The level that is told of what is held against a channel.
    pub(super) fn softened(&self, series: &SeriesKey, judged: &Judged, at: EventTime) -> Level {
        let is_relative = judged
            .evidence
            .is_some_and(|shown| shown.basis == Basis::Baseline);
        let may_be_heard = is_relative && judged.held > Level::Alert;
        if may_be_heard && matches!(self.whose(series, at), Some(Whose::HeardFrom(_))) {
            Level::Alert
        } else {
            judged.held
        }
    }

    /// What explains a deviation or a drift: that it is another point's, or the whole machine's.
    pub(super) fn explanation_of_rise(&self, cause: Cause, asset: &str, point: &str) -> Option<Explanation> {
        let is_rise = matches!(cause, Cause::Deviation(FeatureKind::Rms) | Cause::Drift);
        let series = SeriesKey {
            asset: asset.to_owned(),
            point: point.to_owned(),
            ..SeriesKey::default()
        };
        match is_rise.then(|| self.whose(&series, self.state.now)).flatten()? {
            Whose::HeardFrom(point) => Some(Explanation::Transmitted(point)),
            Whose::Machine => Some(Explanation::Shared),
        }
    }

    /// Whose the rise at a point is, if it is not its own.
    fn whose(&self, series: &SeriesKey, at: EventTime) -> Option<Whose> {
        let first = SeriesKey {
            asset: series.asset.clone(),
            ..SeriesKey::default()
        };
        let monitors = self.state.conditions.monitors.range(first..);
        let monitors = monitors.take_while(|(known, _)| known.asset == series.asset);
        let mut points: Vec<(&str, Element)> = Vec::new();
        for (known, monitored) in monitors {
            let risen = monitored.risen.filter(|risen| {
                // What has not been heard of for long says nothing of now.
                !instrument::is_silent(risen.at, monitored.interval_ns, at)
            });
            let Some(risen) = risen else {
                continue;
            };
            let element = Element {
                rise: risen.smooth.level().unwrap_or_default(),
                raised: risen.raised,
            };
            match points.last_mut().filter(|(point, _)| *point == known.point) {
                Some((_, worst)) => {
                    worst.raised |= element.raised;
                    worst.rise = worst.rise.max(element.rise);
                }
                None => points.push((&known.point, element)),
            }
        }
        let place = points.iter().position(|(point, _)| *point == series.point)?;
        let elements: Vec<Element> = points.iter().map(|(_, element)| *element).collect();
        match attribute(place, &elements)? {
            Attribution::Own => None,
            Attribution::TransmittedFrom(source) => {
                let (point, _) = points.get(usize::from(source))?;
                Some(Whose::HeardFrom((*point).to_owned()))
            }
            Attribution::Shared => Some(Whose::Machine),
        }
    }
}

/// Whose a rise is that is not the point's own.
enum Whose {
    /// Heard from that point.
    HeardFrom(String),
    /// All points rise alike.
    Machine,
}
