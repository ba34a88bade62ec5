//! Prognostic assessment: how long until the limit is reached, with an interval (ISO 13374-2, block PA;
//! ISO 13381-1 for the terms). Pure.
//!
//! Before its onset a fault says nothing about the end, and nothing is said. After it, what is given is
//! an interval of [`RemainingLife::COVERAGE`], wide while little of the way has been seen.
//!
//! Two ways behind one trait:
//!
//! - [`degradation`]: from the trend of one feature and its limit alone. Needs no history of others.
//! - [`fleet_model`]: learned from machines of the same kind that were run to failure.
//!
//! In the pipeline [`track`] gives the first one its readings, and the stage of learned lives the second, with
//! what [`fleet_life`] keeps of a fleet.

pub mod boosting;
pub mod degradation;
pub mod fleet_life;
pub mod fleet_model;
mod history;
pub mod onset;
mod passage;
pub mod track;

use serde::{Deserialize, Serialize};
use trunnion_common::feature::FeatureKind;
use trunnion_common::time::EventTime;

/// Remaining useful life at one time: how long from then until the limit is reached, seconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct RemainingLife {
    /// The end comes before this with a chance of 5 %.
    pub lower_s: f64,
    /// The end comes before this as likely as not.
    pub median_s: f64,
    /// The end comes before this with a chance of 85 %.
    pub upper_s: f64,
}

impl RemainingLife {
    /// Chances of the end before each bound. Further in above than below: whoever plans a repair errs on
    /// the early side, and the long tail above is what makes an interval wide.
    pub const QUANTILES: [f64; 3] = [0.05, 0.5, 0.85];
    /// Nominal share of the time in which the interval holds the truth.
    pub const COVERAGE: f64 = Self::QUANTILES[2] - Self::QUANTILES[0];

    /// Whether this much life is within the interval.
    pub fn holds(&self, life_s: f64) -> bool {
        (self.lower_s..=self.upper_s).contains(&life_s)
    }

    /// Width of the interval, seconds.
    pub fn width_s(&self) -> f64 {
        self.upper_s - self.lower_s
    }

    /// The one that ends earlier: of several measurement points the first to fail decides.
    pub fn earlier(self, other: Self) -> Self {
        if other.median_s < self.median_s {
            other
        } else {
            self
        }
    }
}

/// What can be said about the end.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum Outlook {
    /// Normal is not known yet.
    Learning,
    /// Normal and the limit lie too close together for a way between them to be measured.
    Undetermined,
    /// No fault has begun; nothing is said.
    BeforeOnset,
    /// A fault has begun.
    Declining {
        /// When (event time): the first reading of those that showed it.
        since: EventTime,
        /// How long is left.
        remaining: RemainingLife,
    },
}

impl Outlook {
    /// What can be said, by name.
    pub const LABELS: [&str; 4] = ["declining", "before_onset", "learning", "undetermined"];

    /// The name on the API.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Declining { .. } => Self::LABELS[0],
            Self::BeforeOnset => Self::LABELS[1],
            Self::Learning => Self::LABELS[2],
            Self::Undetermined => Self::LABELS[3],
        }
    }

    /// How long is left, if anything is said about it.
    pub const fn remaining(&self) -> Option<RemainingLife> {
        match self {
            Self::Declining { remaining, .. } => Some(*remaining),
            Self::Learning | Self::Undetermined | Self::BeforeOnset => None,
        }
    }
}

/// What is said of the end of a machine at one measurement point, and by what.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Forecast {
    /// What can be said.
    pub outlook: Outlook,
    /// As of when (event time): the end of the last reading.
    pub as_of: EventTime,
    /// By which method.
    pub method: Method,
}

/// How a forecast was made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The trend of one feature.
    Trend {
        /// Which channel of the point.
        channel: String,
        /// Which of its features.
        feature: FeatureKind,
        /// Where life ends, in the feature's unit.
        limit: f32,
        /// What is normal, where that has been accepted; else it was learned from the first readings.
        normal: Option<f32>,
    },
    /// Machines of the same kind that were run to failure.
    Fleet {
        /// The name of what was learned.
        model: String,
        /// From how many machines.
        machines: usize,
    },
}

/// A model of how one thing comes to its end.
pub trait Prognosis {
    /// Takes the readings of one time, in the order of event time; as many as the model was made for.
    /// Readings that are not numbers, and times that do not come after the last, change nothing.
    ///
    /// Readings are of a running machine: whoever calls leaves out what was read while it stood. Time
    /// goes on meanwhile, and what is left is calendar time at the use made of the machine so far.
    fn handle_readings(&mut self, at: EventTime, readings: &[f64]) -> Outlook;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_fail_decides() {
        let near = RemainingLife {
            lower_s: 1.0,
            median_s: 10.0,
            upper_s: 90.0,
        };
        let far = RemainingLife {
            lower_s: 5.0,
            median_s: 20.0,
            upper_s: 40.0,
        };
        assert_eq!(far.earlier(near), near);
        assert_eq!(near.earlier(far), near);
        assert!(near.holds(90.0) && !near.holds(0.9));
    }
}
