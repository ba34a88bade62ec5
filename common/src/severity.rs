//! How severe a vibration is: zones of a standard, and the limits that follow from a machine's own normal.
//!
//! A [`Criterion`] says which standard judges, with its edition, what it judges (broad-band velocity, RMS, in
//! a band), at which speeds, and the three limits between its zones:
//!
//! | zone | ISO 20816-1:2016, evaluation zones |
//! |---|---|
//! | [A](Zone::A) | as of newly commissioned machines |
//! | [B](Zone::B) | acceptable for unrestricted long-term operation |
//! | [C](Zone::C) | unsatisfactory for long-term operation: for a limited time, until there is an occasion for remedy |
//! | [D](Zone::D) | severe enough to cause damage |
//!
//! What is not declared is not graded: [`Criterion::grade`] refuses with a reason rather than guess a unit, a
//! band or a speed. A value on a limit belongs to the lower zone. Zones are for steady running; whether it is
//! steady is the caller's to know ([`crate::operating`]).
//!
//! Pumps have a standard of their own since 2009 (ISO 10816-7). Its limits are not built in: they are entered
//! as [`Standard::Entered`], as are a maker's.

use crate::quantity::Unit;
use serde::{Deserialize, Serialize};

/// Evaluation zones. The order is that of severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Zone {
    /// As new.
    A,
    /// Good for unrestricted operation.
    B,
    /// Good for a limited time.
    C,
    /// Damaging.
    D,
}

impl Zone {
    /// The letter.
    pub const fn label(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        }
    }
}

/// How a machine stands. ISO 20816-3:2022: rigid if the lowest natural frequency of machine and support, in the
/// direction of measurement, lies at least 25 % above its main excitation (mostly the speed); otherwise flexible.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// Stiff against its main excitation.
    Rigid,
    /// Not.
    Flexible,
}

/// Groups of ISO 20816-3 and ISO 10816-3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Above 300 kW, or an electrical machine with a shaft height of 315 mm and more.
    Large,
    /// Above 15 kW up to 300 kW, or an electrical machine with a shaft height of 160 mm up to 315 mm.
    Medium,
}

/// Classes of ISO 10816-1:1995, annex B.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Parts of engines and machines, such as electric motors up to 15 kW.
    I,
    /// Medium machines (15 to 75 kW) without special foundations; rigidly mounted ones up to 300 kW.
    II,
    /// Large machines on rigid and heavy foundations.
    III,
    /// Large machines on foundations that are soft in the direction of measurement.
    IV,
}

/// Who says what the limits are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standard {
    /// ISO 20816-3:2022, velocity.
    Iso20816Part3(Group, Support),
    /// ISO 10816-3:2009, velocity: the same limits over a narrower range of speeds.
    Iso10816Part3(Group, Support),
    /// ISO 10816-1:1995, annex B: withdrawn, and still what older machines were accepted by.
    Iso10816Part1(Class),
    /// Entered by the user.
    Entered,
}

impl Standard {
    /// The standard and its edition, as shown beside every grade.
    pub const fn edition(self) -> &'static str {
        match self {
            Self::Iso20816Part3(..) => "ISO 20816-3:2022",
            Self::Iso10816Part3(..) => "ISO 10816-3:2009",
            Self::Iso10816Part1(_) => "ISO 10816-1:1995 annex B",
            Self::Entered => "entered limits",
        }
    }

    /// The limits in mm/s RMS; none of a standard that has none of its own.
    ///
    /// ISO 20816-3:2022 annex A (as ISO 10816-3:2009 annex A), ISO 10816-1:1995 table B.1.
    pub const fn limits(self) -> Option<Limits> {
        let [ab, bc, cd] = match self {
            Self::Iso20816Part3(group, support) | Self::Iso10816Part3(group, support) => {
                match (group, support) {
                    (Group::Large, Support::Rigid) => [2.3, 4.5, 7.1],
                    (Group::Large, Support::Flexible) => [3.5, 7.1, 11.0],
                    (Group::Medium, Support::Rigid) => [1.4, 2.8, 4.5],
                    (Group::Medium, Support::Flexible) => [2.3, 4.5, 7.1],
                }
            }
            Self::Iso10816Part1(class) => match class {
                Class::I => [0.71, 1.8, 4.5],
                Class::II => [1.12, 2.8, 7.1],
                Class::III => [1.8, 4.5, 11.2],
                Class::IV => [2.8, 7.1, 18.0],
            },
            Self::Entered => return None,
        };
        Some(Limits { ab, bc, cd })
    }

    /// The speeds in its scope, revolutions per minute: lowest and highest, both inclusive.
    const fn speeds_rpm(self) -> [f32; 2] {
        match self {
            Self::Iso20816Part3(..) => [120.0, 30_000.0],
            Self::Iso10816Part3(..) => [120.0, 15_000.0],
            // The range of its band, 10 Hz to 1 kHz, as of ISO 2372 which it replaced: 10 to 200 turns a second.
            Self::Iso10816Part1(_) => [600.0, 12_000.0],
            Self::Entered => [0.0, f32::MAX],
        }
    }
}

/// Limits between zones, in the unit of what they judge.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Limits {
    ab: f32,
    bc: f32,
    cd: f32,
}

impl Limits {
    /// Share of B/C by which a vibration may change before that matters, whatever its zone, and by which an
    /// ALERT lies above the normal (ISO 20816-3:2022, criterion II and setting of alarms).
    pub const CHANGE: f32 = 0.25;

    /// An ALERT is at most so many times B/C, and a TRIP at most so many times C/D (ISO 20816-3:2022, setting of
    /// alarms and of trips).
    pub const CEILING: f32 = 1.25;

    /// Limits that rise from zone to zone; none otherwise.
    pub fn new(ab: f32, bc: f32, cd: f32) -> Option<Self> {
        (0.0 < ab && ab < bc && bc < cd && cd.is_finite()).then_some(Self { ab, bc, cd })
    }

    /// Upper end of zone A.
    pub const fn ab(&self) -> f32 {
        self.ab
    }

    /// Upper end of zone B.
    pub const fn bc(&self) -> f32 {
        self.bc
    }

    /// Upper end of zone C.
    pub const fn cd(&self) -> f32 {
        self.cd
    }

    /// The zone of a value that is a number; a value on a limit belongs to the lower one.
    pub fn zone(&self, value: f32) -> Zone {
        if value <= self.ab {
            Zone::A
        } else if value <= self.bc {
            Zone::B
        } else if value <= self.cd {
            Zone::C
        } else {
            Zone::D
        }
    }

    /// From where on a person is told. Without an accepted normal: where zone C begins.
    pub fn alert(&self, normal: Option<f32>) -> f32 {
        normal.map_or(self.bc, |normal| {
            (normal + Self::CHANGE * self.bc).min(Self::CEILING * self.bc)
        })
    }

    /// From where on the machine should stop, unless a lower one is set: it does not depend on the normal.
    pub fn trip(&self) -> f32 {
        Self::CEILING * self.cd
    }

    /// Whether a value is so far from the normal, above or below, that it matters whatever the zone.
    pub fn has_changed(&self, value: f32, normal: f32) -> bool {
        (value - normal).abs() > Self::CHANGE * self.bc
    }
}

/// An overall value as it was measured. What is `None` was not declared.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Overall {
    /// RMS, in the unit.
    pub rms: f32,
    /// Its unit.
    pub unit: Option<Unit>,
    /// The band over which it was taken, Hz.
    pub band_hz: Option<[f32; 2]>,
}

/// Why there is no zone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotGraded {
    /// No machine group or class and no limits are declared.
    Undeclared,
    /// The unit is not declared, or not the one that the limits are in.
    Unit,
    /// The band is not declared, or not the one that the limits are for.
    Band,
    /// The speed is not known.
    SpeedUnknown,
    /// The speed is not in the standard's scope.
    SpeedOutOfScope,
    /// The machine does not run.
    Off,
    /// Run-up, coast-down, or a change of speed.
    Transient,
    /// The value is not a number, or negative.
    Value,
    /// The sensor, its mounting or its cable are faulty.
    Instrument,
}

impl NotGraded {
    /// The reason on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Undeclared => "undeclared",
            Self::Unit => "unit",
            Self::Band => "band",
            Self::SpeedUnknown => "speed_unknown",
            Self::SpeedOutOfScope => "speed_out_of_scope",
            Self::Off => "off",
            Self::Transient => "transient",
            Self::Value => "value",
            Self::Instrument => "instrument",
        }
    }
}

/// What a machine is judged by.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Criterion {
    standard: Standard,
    limits: Limits,
    unit: Unit,
    /// Upper end of the band; where it begins follows from the speed.
    band_high_hz: f32,
}

impl Criterion {
    /// Upper end of the band of all three standards, Hz.
    pub const BAND_HIGH_HZ: f32 = 1_000.0;

    /// The criterion of a standard; none of [`Standard::Entered`], which has no limits of its own.
    pub fn of(standard: Standard) -> Option<Self> {
        Some(Self {
            limits: standard.limits()?,
            standard,
            unit: Unit::MillimetrePerSecond,
            band_high_hz: Self::BAND_HIGH_HZ,
        })
    }

    /// Limits that a user entered, for an overall value in that unit.
    pub const fn entered(limits: Limits, unit: Unit) -> Self {
        Self {
            standard: Standard::Entered,
            limits,
            unit,
            band_high_hz: Self::BAND_HIGH_HZ,
        }
    }

    /// Who says so.
    pub const fn standard(&self) -> Standard {
        self.standard
    }

    /// The limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The unit of the limits.
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The zone of an overall value at a shaft speed (Hz), or why it has none.
    ///
    /// The band begins at 10 Hz, and at 2 Hz where the shaft turns slower than 600 times a minute
    /// (ISO 20816-3:2022, frequency range): a value over a band that begins higher misses the machine's own turning. One
    /// that begins at 2 Hz does at any speed.
    pub fn grade(&self, overall: &Overall, speed_hz: Option<f32>) -> Result<Zone, NotGraded> {
        if overall.unit != Some(self.unit) {
            return Err(NotGraded::Unit);
        }
        let rpm = 60.0 * speed_hz.filter(|hz| *hz > 0.0).ok_or(NotGraded::SpeedUnknown)?;
        let [lowest, highest] = self.standard.speeds_rpm();
        if !(lowest <= rpm && rpm <= highest) {
            return Err(NotGraded::SpeedOutOfScope);
        }
        let [low, high] = overall.band_hz.ok_or(NotGraded::Band)?;
        let begins = if rpm < 600.0 { 2.0 } else { 10.0 };
        // One percent: an edge is where a filter has lost 3 dB, and no two filters agree closer than that.
        let ends_right = (high - self.band_high_hz).abs() <= 0.01 * self.band_high_hz;
        if !(low <= 1.01 * begins && ends_right) {
            return Err(NotGraded::Band);
        }
        if !(overall.rms >= 0.0 && overall.rms.is_finite()) {
            return Err(NotGraded::Value);
        }
        Ok(self.limits.zone(overall.rms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Standard; 8] = [
        Standard::Iso20816Part3(Group::Large, Support::Rigid),
        Standard::Iso20816Part3(Group::Large, Support::Flexible),
        Standard::Iso20816Part3(Group::Medium, Support::Rigid),
        Standard::Iso20816Part3(Group::Medium, Support::Flexible),
        Standard::Iso10816Part1(Class::I),
        Standard::Iso10816Part1(Class::II),
        Standard::Iso10816Part1(Class::III),
        Standard::Iso10816Part1(Class::IV),
    ];

    fn overall(rms: f32) -> Overall {
        Overall {
            rms,
            unit: Some(Unit::MillimetrePerSecond),
            band_hz: Some([10.0, 1_000.0]),
        }
    }

    fn above(limit: f32) -> f32 {
        f32::from_bits(limit.to_bits() + 1)
    }

    #[test]
    fn a_value_on_a_limit_belongs_to_the_lower_zone_of_every_machine() {
        let limits = [
            [2.3, 4.5, 7.1],
            [3.5, 7.1, 11.0],
            [1.4, 2.8, 4.5],
            [2.3, 4.5, 7.1],
            [0.71, 1.8, 4.5],
            [1.12, 2.8, 7.1],
            [1.8, 4.5, 11.2],
            [2.8, 7.1, 18.0],
        ];
        for (standard, [ab, bc, cd]) in ALL.into_iter().zip(limits) {
            let criterion = Criterion::of(standard).unwrap();
            let zone = |rms| criterion.grade(&overall(rms), Some(25.0));
            let expected = [
                (0.0, Zone::A),
                (ab, Zone::A),
                (above(ab), Zone::B),
                (bc, Zone::B),
                (above(bc), Zone::C),
                (cd, Zone::C),
                (above(cd), Zone::D),
                (f32::MAX, Zone::D),
            ];
            for (rms, expected) in expected {
                assert_eq!(zone(rms), Ok(expected), "{rms} mm/s by {standard:?}");
            }
        }
    }

    #[test]
    fn the_edition_of_2009_has_the_limits_of_2022_over_fewer_speeds() {
        let old = Criterion::of(Standard::Iso10816Part3(Group::Large, Support::Rigid)).unwrap();
        let new = Criterion::of(Standard::Iso20816Part3(Group::Large, Support::Rigid)).unwrap();
        assert_eq!(old.limits(), new.limits());
        assert_ne!(old.standard().edition(), new.standard().edition());
        let at = |criterion: &Criterion, rpm: f32| criterion.grade(&overall(1.0), Some(rpm / 60.0));
        assert_eq!(at(&old, 15_000.0), Ok(Zone::A));
        assert_eq!(at(&old, 15_060.0), Err(NotGraded::SpeedOutOfScope));
        assert_eq!(at(&new, 15_060.0), Ok(Zone::A));
        assert_eq!(at(&new, 30_000.0), Ok(Zone::A));
        assert_eq!(at(&new, 30_060.0), Err(NotGraded::SpeedOutOfScope));
        assert_eq!(at(&new, 119.0), Err(NotGraded::SpeedOutOfScope));
    }

    #[test]
    fn what_is_undeclared_is_not_graded() {
        let criterion = Criterion::of(ALL[2]).unwrap();
        let refused = |change: fn(&mut Overall), speed| {
            let mut overall = overall(1.0);
            change(&mut overall);
            criterion.grade(&overall, speed)
        };
        let speed = Some(25.0);
        assert_eq!(
            refused(|overall| overall.unit = None, speed),
            Err(NotGraded::Unit)
        );
        let acceleration = |overall: &mut Overall| overall.unit = Some(Unit::MetrePerSecondSquared);
        assert_eq!(refused(acceleration, speed), Err(NotGraded::Unit));
        assert_eq!(
            refused(|overall| overall.band_hz = None, speed),
            Err(NotGraded::Band)
        );
        let narrow = |overall: &mut Overall| overall.band_hz = Some([10.0, 500.0]);
        assert_eq!(refused(narrow, speed), Err(NotGraded::Band));
        let wide = |overall: &mut Overall| overall.band_hz = Some([10.0, 5_000.0]);
        assert_eq!(refused(wide, speed), Err(NotGraded::Band));
        assert_eq!(refused(|_| (), None), Err(NotGraded::SpeedUnknown));
        assert_eq!(refused(|_| (), Some(0.0)), Err(NotGraded::SpeedUnknown));
        assert_eq!(refused(|_| (), Some(f32::NAN)), Err(NotGraded::SpeedUnknown));
        assert_eq!(
            refused(|overall| overall.rms = f32::NAN, speed),
            Err(NotGraded::Value)
        );
        assert_eq!(
            refused(|overall| overall.rms = -1.0, speed),
            Err(NotGraded::Value)
        );
        assert_eq!(refused(|_| (), speed), Ok(Zone::A));
    }

    #[test]
    fn a_slow_shaft_needs_the_band_from_two_hertz_on() {
        let criterion = Criterion::of(ALL[0]).unwrap();
        let from = |low, rpm: f32| {
            let overall = Overall {
                band_hz: Some([low, 1_000.0]),
                ..overall(1.0)
            };
            criterion.grade(&overall, Some(rpm / 60.0))
        };
        assert_eq!(from(10.0, 600.0), Ok(Zone::A));
        assert_eq!(from(10.0, 590.0), Err(NotGraded::Band));
        assert_eq!(from(2.0, 590.0), Ok(Zone::A));
        assert_eq!(from(2.0, 1_500.0), Ok(Zone::A));
    }

    #[test]
    fn limits_of_a_user_need_not_be_of_a_standard_and_must_rise() {
        assert_eq!(Limits::new(2.0, 1.0, 3.0), None);
        assert_eq!(Limits::new(1.0, 1.0, 3.0), None);
        assert_eq!(Limits::new(0.0, 1.0, 3.0), None);
        assert_eq!(Limits::new(1.0, 2.0, f32::INFINITY), None);
        assert_eq!(Limits::new(f32::NAN, 2.0, 3.0), None);
        let limits = Limits::new(2.5, 4.0, 6.6).unwrap();
        let pump = Criterion::entered(limits, Unit::MillimetrePerSecond);
        assert_eq!(
            pump.grade(&overall(4.5), Some(1.0)).map_err(NotGraded::label),
            Err("band")
        );
        assert_eq!(pump.grade(&overall(4.5), Some(25.0)), Ok(Zone::C));
        assert_eq!(pump.standard().edition(), "entered limits");
        assert_eq!(Criterion::of(Standard::Entered), None);
    }

    #[test]
    fn the_alert_follows_the_normal_up_to_its_ceiling() {
        let limits = Standard::Iso20816Part3(Group::Medium, Support::Rigid)
            .limits()
            .unwrap();
        let close =
            |got: f32, expected: f32| assert!((got - expected).abs() < 1e-5, "{got} is not {expected}");
        close(limits.alert(None), 2.8);
        close(limits.alert(Some(0.5)), 1.2);
        close(limits.alert(Some(2.7)), 3.4);
        close(limits.alert(Some(2.8)), 3.5);
        close(limits.alert(Some(4.0)), 3.5);
        close(limits.trip(), 5.625);
    }

    #[test]
    fn more_than_a_quarter_of_the_limit_is_a_change_either_way() {
        let limits = Limits::new(1.0, 4.0, 8.0).unwrap();
        assert!(!limits.has_changed(2.0, 1.0));
        assert!(limits.has_changed(above(2.0), 1.0));
        assert!(!limits.has_changed(1.0, 2.0));
        assert!(limits.has_changed(0.5, 2.0));
    }
}
