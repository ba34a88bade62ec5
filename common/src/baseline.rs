//! What is normal: learned from the machine itself, agreed to by a person, and then left alone.
//!
//! A [`Baseline`] belongs to one direction at one measurement point and one operating regime:
//!
//! ```text
//! learning --enough steady windows--> proposed --a person agrees--> accepted --first window judged--> frozen
//!     ^                                  |                              |                              |
//!     +----------------------------------+------ maintenance, or a person disagrees ------------------+
//! ```
//!
//! * **Learning** takes only steady windows in zone A or B, and says how many it has and how many it wants.
//! * **Proposed** is fixed: what a person looks at does not change while they do.
//! * **Accepted** is agreed to; no window has been judged by it yet.
//! * **Frozen** judges. Nothing that the machine does changes it: slow decay must not become normal. Only a
//!   maintenance entry ends it, and a new one is learned.
//!
//! Until one is accepted, absolute limits alone judge. Amplitudes are learned as logarithms: vibration
//! amplitudes vary by factors, and their logarithm is close to normally distributed (the reason why they are
//! told in decibels).

use crate::feature::FeatureKind;
use crate::severity::Zone;
use crate::time::EventTime;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Features of a measurement point that are watched at most.
pub const WATCHED_MAX: usize = 8;

/// The scale on which a feature is learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scale {
    /// Of an amplitude, which is never negative and varies by factors: its natural logarithm.
    Logarithm,
    /// The value itself.
    Value,
}

impl Scale {
    const fn of(kind: FeatureKind) -> Self {
        match kind {
            FeatureKind::Mean | FeatureKind::KurtosisExcess | FeatureKind::Skewness => Self::Value,
            _ => Self::Logarithm,
        }
    }

    /// A value's place on the scale; none where it has none.
    fn place(self, value: f32) -> Option<f64> {
        let value = f64::from(value);
        let place = match self {
            Self::Logarithm => (value > 0.0).then(|| libm::log(value))?,
            Self::Value => value,
        };
        place.is_finite().then_some(place)
    }

    fn value(self, place: f64) -> f32 {
        match self {
            Self::Logarithm => libm::exp(place) as f32,
            Self::Value => place as f32,
        }
    }
}

/// How far a baseline is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Collects steady windows.
    Learning,
    /// Has enough, and waits for a person.
    Proposed,
    /// Agreed to.
    Accepted,
    /// In force, and unchangeable.
    Frozen,
}

impl Stage {
    /// The stage on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Proposed => "proposed",
            Self::Accepted => "accepted",
            Self::Frozen => "frozen",
        }
    }
}

/// The least that a baseline is proposed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Minimum {
    /// Steady windows.
    pub windows: u32,
    /// From the first to the last of them, nanoseconds.
    pub span_ns: i64,
}

impl Default for Minimum {
    /// 300 windows over 24 h: of 300 the spread is known to 4 % (its standard error is 1 / sqrt(2 n)), and a
    /// day shows what temperature, shifts and neighbouring machines do.
    fn default() -> Self {
        Self {
            windows: 300,
            span_ns: 86_400 * 1_000_000_000,
        }
    }
}

/// What is normal of one feature.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Normal {
    /// Of what.
    pub kind: FeatureKind,
    /// The middle, in the feature's unit: of an amplitude the geometric mean.
    pub centre: f32,
    /// Standard deviation on the scale on which it was learned: of an amplitude that of its natural
    /// logarithm, else in its unit.
    pub spread: f32,
}

impl Normal {
    /// How many standard deviations a value lies above the middle; none where it has no place, or nothing has
    /// ever varied.
    pub fn deviations(&self, value: f32) -> Option<f64> {
        let scale = Scale::of(self.kind);
        let offset = scale.place(value)? - scale.place(self.centre)?;
        (self.spread > 0.0).then(|| offset / f64::from(self.spread))
    }

    /// The value that lies `deviations` standard deviations above the middle.
    pub fn above(&self, deviations: f32) -> f32 {
        let offset = f64::from(deviations * self.spread);
        let scale = Scale::of(self.kind);
        match scale.place(self.centre) {
            Some(centre) => scale.value(centre + offset),
            None => self.centre,
        }
    }
}

/// Normals of one regime.
pub type Normals = Vec<Normal, WATCHED_MAX>;

/// Why a baseline does not do what a person wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is nothing to agree to yet.
    NotProposed,
    /// It has been agreed to.
    AlreadyAccepted,
}

/// What is normal in one regime, and how far that is known.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Baseline {
    stage: Stage,
    windows: u32,
    first: EventTime,
    last: EventTime,
    accepted: Option<EventTime>,
    sums: Vec<Sums, WATCHED_MAX>,
}

/// Count, mean and sum of squared deviations (B. P. Welford, Technometrics 4 (1962), 419).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Sums {
    kind: FeatureKind,
    count: u32,
    mean: f64,
    squares: f64,
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            stage: Stage::Learning,
            windows: 0,
            first: EventTime(i64::MAX),
            last: EventTime(i64::MIN),
            accepted: None,
            sums: Vec::new(),
        }
    }
}

impl Baseline {
    /// One that was accepted elsewhere: an agent is told what its collector has agreed on.
    pub fn adopted(normals: &Normals, accepted: EventTime) -> Self {
        let sums = normals.iter().filter_map(|normal| {
            Some(Sums {
                kind: normal.kind,
                count: 2,
                mean: Scale::of(normal.kind).place(normal.centre)?,
                // Of two values, the sum of squares is the variance.
                squares: f64::from(normal.spread) * f64::from(normal.spread),
            })
        });
        Self {
            stage: Stage::Accepted,
            accepted: Some(accepted),
            sums: sums.collect(),
            ..Self::default()
        }
    }

    /// How far it is.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Windows learned from.
    pub const fn windows(&self) -> u32 {
        self.windows
    }

    /// From the end of the first window learned from to that of the last; none before any.
    pub fn learned(&self) -> Option<(EventTime, EventTime)> {
        (self.windows > 0).then_some((self.first, self.last))
    }

    /// When it was agreed to.
    pub const fn accepted(&self) -> Option<EventTime> {
        self.accepted
    }

    /// Learns from a steady window that ended then: its values, and its zone if it has one. Returns whether
    /// the baseline has just become a proposal.
    ///
    /// A window in zone C or D is not learned from, nor any once there is a proposal.
    pub fn learn(
        &mut self,
        end: EventTime,
        values: &[(FeatureKind, f32)],
        zone: Option<Zone>,
        minimum: &Minimum,
    ) -> bool {
        if self.stage != Stage::Learning || zone >= Some(Zone::C) {
            return false;
        }
        for (kind, value) in values {
            if let Some(place) = Scale::of(*kind).place(*value) {
                self.add(*kind, place);
            }
        }
        self.windows = self.windows.saturating_add(1);
        self.first = self.first.min(end);
        self.last = self.last.max(end);
        let is_enough =
            self.windows >= minimum.windows && self.last.nanos_since(self.first) >= minimum.span_ns;
        if is_enough {
            self.stage = Stage::Proposed;
        }
        is_enough
    }

    /// A person agrees to what is proposed.
    pub fn accept(&mut self, at: EventTime) -> Result<(), Refusal> {
        match self.stage {
            Stage::Learning => Err(Refusal::NotProposed),
            Stage::Accepted | Stage::Frozen => Err(Refusal::AlreadyAccepted),
            Stage::Proposed => {
                self.stage = Stage::Accepted;
                self.accepted = Some(at);
                Ok(())
            }
        }
    }

    /// A window is judged by it, if it has been agreed to. Returns whether it was frozen by that.
    pub fn freeze(&mut self) -> bool {
        let begins = self.stage == Stage::Accepted;
        if begins {
            self.stage = Stage::Frozen;
        }
        begins
    }

    /// What is normal of a feature, from the proposal on; what judges is only what [`Self::in_force`] tells.
    pub fn normal(&self, kind: FeatureKind) -> Option<Normal> {
        if self.stage == Stage::Learning {
            return None;
        }
        self.sums.iter().find(|sums| sums.kind == kind)?.normal()
    }

    /// What is normal of a feature, once a person has agreed.
    pub fn in_force(&self, kind: FeatureKind) -> Option<Normal> {
        match self.stage {
            Stage::Learning | Stage::Proposed => None,
            Stage::Accepted | Stage::Frozen => self.normal(kind),
        }
    }

    /// What is known so far of every feature, whatever the stage.
    pub fn normals(&self) -> Normals {
        self.sums.iter().filter_map(Sums::normal).collect()
    }

    fn add(&mut self, kind: FeatureKind, place: f64) {
        let index = self.sums.iter().position(|sums| sums.kind == kind);
        let index = index.or_else(|| {
            let empty = Sums {
                kind,
                count: 0,
                mean: 0.0,
                squares: 0.0,
            };
            // Of more features than can be watched the further ones are not: settings hold no more either.
            self.sums.push(empty).ok()?;
            Some(self.sums.len() - 1)
        });
        if let Some(sums) = index.and_then(|index| self.sums.get_mut(index)) {
            sums.add(place);
        }
    }
}

impl Sums {
    fn add(&mut self, place: f64) {
        self.count = self.count.saturating_add(1);
        let distance = place - self.mean;
        self.mean += distance / f64::from(self.count);
        self.squares += distance * (place - self.mean);
    }

    /// None of less than two values: one has no spread.
    fn normal(&self) -> Option<Normal> {
        let freedom = self.count.checked_sub(1).filter(|freedom| *freedom > 0)?;
        Some(Normal {
            kind: self.kind,
            centre: Scale::of(self.kind).value(self.mean),
            spread: libm::sqrt(self.squares / f64::from(freedom)) as f32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RMS: FeatureKind = FeatureKind::Rms;
    const SECOND: i64 = 1_000_000_000;

    const MINIMUM: Minimum = Minimum {
        windows: 4,
        span_ns: 10 * SECOND,
    };

    fn learn(baseline: &mut Baseline, second: i64, value: f32, zone: Option<Zone>) -> bool {
        baseline.learn(EventTime(second * SECOND), &[(RMS, value)], zone, &MINIMUM)
    }

    fn proposed() -> Baseline {
        let mut baseline = Baseline::default();
        for (second, value) in [(0, 1.0), (4, 4.0), (8, 1.0)] {
            assert!(!learn(&mut baseline, second, value, Some(Zone::A)));
        }
        assert!(learn(&mut baseline, 12, 4.0, Some(Zone::B)));
        baseline
    }

    #[test]
    fn a_proposal_needs_both_windows_and_time() {
        let mut baseline = Baseline::default();
        for second in 0..10 {
            assert!(!learn(&mut baseline, second, 1.0, None), "{second}");
        }
        assert_eq!(baseline.stage(), Stage::Learning);
        assert!(learn(&mut baseline, 10, 1.0, None));
        assert_eq!(baseline.stage(), Stage::Proposed);
        assert_eq!(baseline.windows(), 11);
        assert_eq!(baseline.learned(), Some((EventTime(0), EventTime(10 * SECOND))));
    }

    #[test]
    fn zones_c_and_d_are_never_learned() {
        let mut baseline = Baseline::default();
        for zone in [Zone::C, Zone::D] {
            assert!(!learn(&mut baseline, 0, 9.0, Some(zone)));
        }
        assert_eq!((baseline.windows(), baseline.learned()), (0, None));
    }

    #[test]
    fn a_proposal_does_not_change_and_judges_nothing_until_it_is_accepted() {
        let mut baseline = proposed();
        let normal = baseline.normal(RMS).unwrap();
        // The geometric mean of 1, 4, 1, 4, and the deviation of their logarithms with n - 1.
        assert!((normal.centre - 2.0).abs() < 1e-6);
        assert!((normal.spread - 2f32.ln() * (4f32 / 3.0).sqrt()).abs() < 1e-6);
        assert!(!learn(&mut baseline, 13, 100.0, None));
        assert_eq!(baseline.normal(RMS), Some(normal));
        assert_eq!(baseline.in_force(RMS), None);
        assert!(!baseline.freeze());
        assert_eq!(baseline.accept(EventTime(1)), Ok(()));
        assert_eq!(baseline.in_force(RMS), Some(normal));
    }

    #[test]
    fn the_life_of_a_baseline_goes_one_way() {
        assert_eq!(
            Baseline::default().accept(EventTime(1)),
            Err(Refusal::NotProposed)
        );
        let mut baseline = proposed();
        assert_eq!(baseline.accept(EventTime(7)), Ok(()));
        assert_eq!(
            (baseline.stage(), baseline.accepted()),
            (Stage::Accepted, Some(EventTime(7)))
        );
        assert_eq!(baseline.accept(EventTime(8)), Err(Refusal::AlreadyAccepted));
        assert!(baseline.freeze());
        assert!(!baseline.freeze());
        assert_eq!(
            (baseline.stage(), baseline.accepted()),
            (Stage::Frozen, Some(EventTime(7)))
        );
        assert_eq!(baseline.accept(EventTime(9)), Err(Refusal::AlreadyAccepted));
        assert!(!learn(&mut baseline, 99, 50.0, None));
        assert!((baseline.in_force(RMS).unwrap().centre - 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_value_without_a_place_on_its_scale_is_not_learned() {
        let mut baseline = Baseline::default();
        for (second, value) in [(0, 0.0), (1, f32::NAN), (2, -1.0), (20, f32::INFINITY)] {
            learn(&mut baseline, second, value, None);
        }
        assert_eq!(baseline.stage(), Stage::Proposed);
        assert_eq!(baseline.normal(RMS), None);
    }

    #[test]
    fn what_may_be_negative_is_learned_as_it_is() {
        let mean = FeatureKind::Mean;
        let mut baseline = Baseline::default();
        for second in [0, 5, 10, 15] {
            let value = if second % 2 == 0 { -1.0 } else { 3.0 };
            baseline.learn(EventTime(second * SECOND), &[(mean, value)], None, &MINIMUM);
        }
        let normal = baseline.normal(mean).unwrap();
        assert!((normal.centre - 1.0).abs() < 1e-6);
        assert!((normal.above(1.0) - (1.0 + normal.spread)).abs() < 1e-6);
    }

    #[test]
    fn limits_above_an_amplitude_are_factors() {
        let normal = Normal {
            kind: RMS,
            centre: 2.0,
            spread: 2f32.ln(),
        };
        assert!((normal.above(3.0) - 16.0).abs() < 1e-4);
    }

    #[test]
    fn an_adopted_baseline_is_the_one_that_was_accepted() {
        let mut original = proposed();
        original.accept(EventTime(7)).unwrap();
        let adopted = Baseline::adopted(&original.normals(), EventTime(7));
        let (of, from) = (adopted.in_force(RMS).unwrap(), original.in_force(RMS).unwrap());
        assert!((of.centre - from.centre).abs() < 1e-6);
        assert!((of.spread - from.spread).abs() < 1e-6);
        assert_eq!(adopted.accepted(), Some(EventTime(7)));
    }

    #[test]
    fn state_survives_a_checkpoint() {
        let mut baseline = Baseline::default();
        learn(&mut baseline, 3, 1.5, Some(Zone::A));
        let mut bytes = [0; 256];
        let saved = postcard::to_slice(&baseline, &mut bytes).unwrap();
        assert_eq!(postcard::from_bytes::<Baseline>(saved).unwrap(), baseline);
    }
}
