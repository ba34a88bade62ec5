//! Features that leave their normal so slowly that no limit tells it soon.
//!
//! How far a feature is from its accepted normal, in standard deviations of that, is averaged over days, so that
//! shifts and temperature, which a normal has seen, come and go in it; the daily means go into the cumulative
//! sums of [`Cusum`] with its customary settings. So a lasting shift of one standard deviation is told after ten
//! days, and one of three after two. Days with less than [`WINDOWS_MIN`] judged windows say nothing.
//!
//! It is told as an ALERT, held until the daily means have been within the slack for [`CLEAR_DAYS`] in a row.
//! Transients, faulty instruments and history neither raise nor clear it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trunnion_common::detection::cusum::{Cusum, Direction};
use trunnion_common::feature::FeatureKind;
use trunnion_common::time::EventTime;

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// Windows of a day at least: the mean of so many is known to a third of a standard deviation.
pub(super) const WINDOWS_MIN: u32 = 10;

/// Daily means in a row that are normal again.
pub(super) const CLEAR_DAYS: u8 = 3;

/// How the features of a channel drift.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Drift {
    /// By number since the epoch.
    day: i64,
    features: BTreeMap<FeatureKind, Feature>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Feature {
    /// Of this day.
    sum: f64,
    count: u32,
    sums: Cusum,
    /// Which way it has moved, while that is held, and normal days since.
    held: Option<(Direction, u8)>,
}

/// A feature that has drifted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Drifted {
    pub(super) kind: FeatureKind,
    /// Mean of the day, in standard deviations from the normal.
    pub(super) deviations: f64,
}

/// How a channel stands after a day.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Day {
    /// When it ended.
    pub(super) end: EventTime,
    /// Whether any of its features has drifted, as is held.
    pub(super) is_held: bool,
    /// Of those that have, the furthest off in this day.
    pub(super) shown: Option<Drifted>,
}

impl Drift {
    /// Takes how far features were from their normal in a judged window that ended then. Says how the day before
    /// ended, if this is the first window of another one.
    pub(super) fn handle_window(
        &mut self,
        end: EventTime,
        deviations: impl Iterator<Item = (FeatureKind, f64)>,
    ) -> Option<Day> {
        let day = end.0.div_euclid(DAY_NS);
        let before = (day > self.day).then(|| self.close());
        if before.is_some() {
            self.day = day;
        }
        for (kind, deviation) in deviations.filter(|(_, deviation)| deviation.is_finite()) {
            let feature = self.features.entry(kind).or_default();
            feature.sum += deviation;
            feature.count = feature.count.saturating_add(1);
        }
        before.flatten()
    }

    /// Whether any feature has drifted, as is held.
    fn is_held(&self) -> bool {
        self.features.values().any(|feature| feature.held.is_some())
    }

    /// None where the day said nothing.
    fn close(&mut self) -> Option<Day> {
        let mut is_said = false;
        let mut shown: Option<Drifted> = None;
        for (kind, feature) in &mut self.features {
            let (sum, count) = (feature.sum, feature.count);
            (feature.sum, feature.count) = (0.0, 0);
            if count < WINDOWS_MIN {
                continue;
            }
            is_said = true;
            let deviations = sum / f64::from(count);
            if let Some(shift) = feature.sums.push(deviations) {
                feature.held = Some((shift.direction, 0));
            } else if let Some((direction, normal)) = feature.held {
                let normal = if deviations.abs() <= Cusum::SLACK {
                    normal + 1
                } else {
                    0
                };
                feature.held = (normal < CLEAR_DAYS).then_some((direction, normal));
            }
            let is_furthest = shown.is_none_or(|shown| deviations.abs() > shown.deviations.abs());
            if feature.held.is_some() && is_furthest {
                let kind = *kind;
                shown = Some(Drifted { kind, deviations });
            }
        }
        is_said.then(|| Day {
            end: EventTime((self.day + 1).saturating_mul(DAY_NS)),
            is_held: self.is_held(),
            shown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days of so many windows that far off; says for each day after which something is held.
    fn held(days: &[(u32, f64)]) -> Vec<bool> {
        let mut drift = Drift::default();
        let mut told = Vec::new();
        for (day, (windows, deviation)) in (1i64..).zip(days.iter().chain([&(1, 0.0)])) {
            for window in 0..*windows {
                let end = EventTime(day * DAY_NS + i64::from(window) * 1_000_000_000);
                let bytes = postcard::to_stdvec(&drift).unwrap();
                drift = postcard::from_bytes(&bytes).unwrap();
                let ended = drift.handle_window(end, [(FeatureKind::Rms, *deviation)].into_iter());
                if let Some(ended) = ended {
                    assert_eq!(ended.end, EventTime(day * DAY_NS));
                    assert_eq!(ended.is_held, ended.shown.is_some());
                    told.push(ended.is_held);
                }
            }
        }
        told
    }

    #[test]
    fn a_shift_of_three_deviations_is_told_on_the_third_day_and_of_one_on_the_eleventh() {
        assert_eq!(held(&[(20, 3.0); 4]), [false, false, true, true]);
        let told = held(&[(20, 1.0); 12]);
        assert_eq!(told.iter().position(|held| *held), Some(10));
    }

    #[test]
    fn what_comes_and_goes_within_a_day_is_no_drift() {
        assert!(held(&[(100, 0.4); 100]).iter().all(|held| !held));
        assert!(held(&[(5, 9.0); 20]).is_empty(), "too few windows say nothing");
    }

    #[test]
    fn it_is_over_after_three_normal_days_in_a_row() {
        let days = [
            [(20, 6.0)].as_slice(),
            &[(20, 0.0), (20, 0.0), (20, 2.0)],
            &[(20, 0.0), (20, 0.0), (20, 0.0)],
        ]
        .concat();
        assert_eq!(held(&days), [true, true, true, true, true, true, false]);
    }
}
