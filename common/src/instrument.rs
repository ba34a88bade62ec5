//! Faults of the instrument, told apart from faults of the machine.
//!
//! A sensor that has come loose, a cable that has been torn and an amplifier at its end look like a very good
//! or a very bad machine. So a window is first asked whether its signal can be one: while it cannot, the
//! machine is not graded, nothing is learned, and nothing is cleared.
//!
//! | fault | looks like |
//! |---|---|
//! | [stuck](Fault::Stuck) | not one sample differs from another; a machine never stands so still, and no converter is so quiet |
//! | [clipped](Fault::Clipped) | samples at the end of the range |
//! | [cable off](Fault::CableOff) | at rest at an end of the range, or all but silent while the machine runs |
//! | [drift](Fault::Drift) | the mean has moved far from what it was when the baseline was accepted |
//! | [silent](Fault::Silent) | nothing has come for three expected intervals |

use crate::baseline::Normal;
use crate::feature::statistics::Statistics;
use crate::time::EventTime;
use serde::{Deserialize, Serialize};

/// What is wrong with an instrument.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The value no longer moves.
    Stuck,
    /// The value is at the end of the range.
    Clipped,
    /// The cable or the loop is open, or the sensor has come off.
    CableOff,
    /// The zero has moved.
    Drift,
    /// No data.
    Silent,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 5] = [
        Self::Stuck,
        Self::Clipped,
        Self::CableOff,
        Self::Drift,
        Self::Silent,
    ];

    /// The name on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Clipped => "clipped",
            Self::CableOff => "cable_off",
            Self::Drift => "drift",
            Self::Silent => "silent",
        }
    }

    /// Whether the features of such a window can still be used: the vibration about a mean that has drifted is
    /// what it was.
    pub const fn spares_vibration(self) -> bool {
        matches!(self, Self::Drift)
    }
}

/// Samples within this share of the full scale are at its end: the last percent is where sensors differ on
/// what their range is.
const END_OF_RANGE: f32 = 0.99;

/// At rest: less movement than this share of the full scale.
const AT_REST: f32 = 0.01;

/// A vibration below this share of the normal one is none of a machine that runs: 26 dB less.
const SILENT_SHARE: f32 = 0.05;

/// A mean that has moved by more than this share of the full scale has drifted; beyond any change of gravity's
/// share in an accelerometer of 16 g and more, and beyond what temperature does.
const DRIFT_SHARE: f32 = 0.1;

/// Missed intervals after which data counts as gone.
pub const SILENT_INTERVALS: i64 = 3;

/// What is known about the instrument beside its samples.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Expectation {
    /// Full scale, in the unit of the samples.
    pub range: Option<f32>,
    /// Whether another witness says that the machine runs.
    pub is_running: Option<bool>,
    /// RMS about the mean, as normal while it runs.
    pub rms: Option<Normal>,
    /// The mean, as normal.
    pub mean: Option<Normal>,
}

/// What is wrong with the instrument that a vibration window came from, judged by that window alone.
pub fn examine(window: &Statistics, expected: &Expectation) -> Option<Fault> {
    let furthest = window.mean.abs() + window.peak;
    let at_end = expected
        .range
        .is_some_and(|range| furthest >= END_OF_RANGE * range);
    let at_rest = match expected.range {
        Some(range) => window.peak_to_peak < AT_REST * range,
        None => window.peak_to_peak == 0.0,
    };
    if at_end {
        return Some(if at_rest { Fault::CableOff } else { Fault::Clipped });
    }
    let is_running = expected.is_running == Some(true);
    let is_silent = expected
        .rms
        .is_some_and(|normal| window.rms < SILENT_SHARE * normal.centre);
    if is_running && is_silent {
        return Some(Fault::CableOff);
    }
    if window.peak_to_peak == 0.0 && expected.is_running != Some(false) {
        return Some(Fault::Stuck);
    }
    let (normal, range) = (expected.mean?, expected.range?);
    ((window.mean - normal.centre).abs() > DRIFT_SHARE * range).then_some(Fault::Drift)
}

/// Whether nothing has come for three expected intervals since `last`.
pub const fn is_silent(last: EventTime, interval_ns: i64, now: EventTime) -> bool {
    now.0 > silent_from(last, interval_ns).0
}

/// Until when it is not yet silent.
pub const fn silent_from(last: EventTime, interval_ns: i64) -> EventTime {
    last.plus_nanos(interval_ns.saturating_mul(SILENT_INTERVALS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::FeatureKind;

    fn window(mean: f32, amplitude: f32) -> Statistics {
        Statistics::of(&[mean - amplitude, mean + amplitude]).unwrap()
    }

    fn normal(kind: FeatureKind, centre: f32) -> Option<Normal> {
        Some(Normal {
            kind,
            centre,
            spread: 0.1,
        })
    }

    /// A sensor of 16 g on a machine that vibrates with 1 g RMS and has gravity in its axis.
    fn expected(is_running: Option<bool>) -> Expectation {
        Expectation {
            range: Some(16.0),
            is_running,
            rms: normal(FeatureKind::Rms, 1.0),
            mean: normal(FeatureKind::Mean, 1.0),
        }
    }

    fn check(window: Statistics, is_running: Option<bool>, fault: Option<Fault>) {
        assert_eq!(examine(&window, &expected(is_running)), fault, "{window:?}");
    }

    #[test]
    fn vibration_of_any_strength_within_the_range_is_no_fault_of_the_instrument() {
        check(window(1.0, 1.0), None, None);
        check(window(1.0, 14.0), None, None);
        check(window(1.0, 0.06), Some(true), None);
    }

    #[test]
    fn samples_at_the_end_of_the_range_are_clipped() {
        check(window(1.0, 14.85), None, Some(Fault::Clipped));
        check(window(-1.0, 14.85), None, Some(Fault::Clipped));
        check(window(1.0, 14.7), None, None);
    }

    #[test]
    fn a_signal_at_rest_at_the_end_of_the_range_is_a_cable() {
        check(window(16.0, 0.0), None, Some(Fault::CableOff));
        check(window(-15.95, 0.05), None, Some(Fault::CableOff));
    }

    #[test]
    fn silence_is_a_cable_only_while_the_machine_is_known_to_run() {
        check(window(1.0, 0.04), Some(true), Some(Fault::CableOff));
        check(window(1.0, 0.04), None, None);
        check(window(1.0, 0.04), Some(false), None);
    }

    #[test]
    fn a_value_that_does_not_move_at_all_is_stuck_unless_the_machine_stands() {
        check(window(1.0, 0.0), None, Some(Fault::Stuck));
        check(window(1.0, 0.0), Some(false), None);
    }

    #[test]
    fn a_mean_far_from_where_it_was_has_drifted() {
        check(window(2.5, 1.0), None, None);
        check(window(2.7, 1.0), None, Some(Fault::Drift));
        check(window(-0.7, 1.0), None, Some(Fault::Drift));
        assert!(Fault::Drift.spares_vibration());
        assert!(!Fault::Clipped.spares_vibration());
    }

    #[test]
    fn without_knowledge_only_a_signal_without_any_movement_is_a_fault() {
        let nothing = Expectation::default();
        assert_eq!(examine(&window(1e9, 1e6), &nothing), None);
        assert_eq!(examine(&window(3.0, 0.0), &nothing), Some(Fault::Stuck));
    }

    #[test]
    fn data_is_gone_after_three_intervals_and_not_before() {
        let (last, interval) = (EventTime(1_000), 10);
        assert!(!is_silent(last, interval, EventTime(1_030)));
        assert!(is_silent(last, interval, EventTime(1_031)));
        assert!(!is_silent(last, i64::MAX, EventTime(i64::MAX)));
    }
}
