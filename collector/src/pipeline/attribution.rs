//! Whose a rise of the vibration is, when several points of a machine show one.
//!
//! A failing bearing is heard at its neighbours, weaker and at the same time. How far the RMS of each channel is
//! above its accepted normal, as a logarithm and smoothed, is compared among the points of a machine
//! ([`attribute`]); the channel in the worst direction speaks for its point. What is heard from another point is
//! told as an ALERT at most, with where it is heard from; limits that hold whatever is normal are not softened.
//!
//! Windows of the points end one after the other. Until each of those that are judged as often has been judged as far
//! as the window that a channel first rose in, nobody knows whose the rise is, and it is an ALERT: for a window, or
//! until they are silent.

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
    /// The end of the window since which a level is held against it, if one is.
    raised: Option<EventTime>,
    /// Whose the rise was said to be, if not its own.
    others: Option<Attribution>,
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
        let since = self.risen.and_then(|risen| risen.raised).unwrap_or(at);
        self.risen = Some(Risen {
            smooth,
            raised: (judged.held > Level::Normal).then_some(since),
            others: self.risen.and_then(|risen| risen.others),
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
        let is_heard = || matches!(self.whose(series, at), Some(Whose::HeardFrom(_)));
        if may_be_heard && (self.is_early(series, at) || is_heard()) {
            Level::Alert
        } else {
            judged.held
        }
    }

    /// Tells again what stands of a rise that turns out to be another point's, or its own after all.
    pub(super) fn retell_rise(&mut self, series: &SeriesKey, at: EventTime) {
        let (attribution, _) = self.attribution(series, at);
        let others = attribution.filter(|whose| *whose != Attribution::Own);
        let known = self.state.conditions.monitored(series);
        let Some(risen) = &mut known.risen else {
            return;
        };
        let before = std::mem::replace(&mut risen.others, others);
        // What was raised with this very window has been told with it.
        let is_standing = risen.raised.is_some_and(|since| since < at);
        if is_standing && before != others {
            self.retell(&series.asset, &series.point, |told| is_rise(told.cause));
        }
    }

    /// Whether another point of the machine has yet to be judged as far as where this channel first rose.
    fn is_early(&self, series: &SeriesKey, at: EventTime) -> bool {
        let Some(own) = self.state.conditions.monitors.get(series) else {
            return false;
        };
        let Some(since) = own.risen.and_then(|risen| risen.raised) else {
            return false;
        };
        self.risen(&series.asset, at).any(|(known, other, risen)| {
            known.point != series.point && other.interval_ns <= own.interval_ns && risen.at < since
        })
    }

    /// The channels of a machine that have been heard of lately, by point: what has not says nothing of now.
    fn risen(&self, asset: &str, at: EventTime) -> impl Iterator<Item = (&SeriesKey, &Monitored, Risen)> {
        let first = SeriesKey {
            asset: asset.to_owned(),
            ..SeriesKey::default()
        };
        let monitors = self.state.conditions.monitors.range(first.clone()..);
        let of_machine = monitors.take_while(move |(known, _)| known.asset == first.asset);
        of_machine.filter_map(move |(known, monitored)| {
            let risen = monitored.risen?;
            (!instrument::is_silent(risen.at, monitored.interval_ns, at)).then_some((known, monitored, risen))
        })
    }

    /// What explains a deviation or a drift: that it is another point's, or the whole machine's.
    pub(super) fn explanation_of_rise(&self, cause: Cause, asset: &str, point: &str) -> Option<Explanation> {
        let series = SeriesKey {
            asset: asset.to_owned(),
            point: point.to_owned(),
            ..SeriesKey::default()
        };
        match is_rise(cause)
            .then(|| self.whose(&series, self.state.now))
            .flatten()?
        {
            Whose::HeardFrom(point) => Some(Explanation::Transmitted(point)),
            Whose::Machine => Some(Explanation::Shared),
        }
    }

    /// Whose the rise at a point is, if it is not its own.
    fn whose(&self, series: &SeriesKey, at: EventTime) -> Option<Whose> {
        let (attribution, points) = self.attribution(series, at);
        match attribution? {
            Attribution::Own => None,
            Attribution::TransmittedFrom(source) => {
                let point = points.get(usize::from(source))?;
                Some(Whose::HeardFrom((*point).to_owned()))
            }
            Attribution::Shared => Some(Whose::Machine),
        }
    }

    /// Whose the rise at a point is, if there is one, by place among the points of the machine.
    fn attribution(&self, series: &SeriesKey, at: EventTime) -> (Option<Attribution>, Vec<&str>) {
        let mut points: Vec<(&str, Element)> = Vec::new();
        for (known, _, risen) in self.risen(&series.asset, at) {
            let element = Element {
                rise: risen.smooth.level().unwrap_or_default(),
                raised: risen.raised.is_some(),
            };
            match points.last_mut().filter(|(point, _)| *point == known.point) {
                Some((_, worst)) => {
                    worst.raised |= element.raised;
                    worst.rise = worst.rise.max(element.rise);
                }
                None => points.push((&known.point, element)),
            }
        }
        let place = points.iter().position(|(point, _)| *point == series.point);
        let (points, elements): (Vec<&str>, Vec<Element>) = points.into_iter().unzip();
        (place.and_then(|place| attribute(place, &elements)), points)
    }
}

/// Whether a cause is one that another point may be the reason of.
const fn is_rise(cause: Cause) -> bool {
    matches!(cause, Cause::Deviation(FeatureKind::Rms) | Cause::Drift)
}

/// Whose a rise is that is not the point's own.
enum Whose {
    /// Heard from that point.
    HeardFrom(String),
    /// All points rise alike.
    Machine,
}
