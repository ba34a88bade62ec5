//! Vibration velocity in a band, from acceleration, sample by sample: what ISO 20816 judges by.
//!
//! A third-order Butterworth high-pass and low-pass bound the band, as ISO 2954:2012 has them. Their
//! corners lie a third of an octave (10^0.1) outside it, so that its edges are told with 0.89 of their
//! height; ISO 2954 allows 0.8 to 1.1 there, and 0.9 to 1.1 between. One of the three zeros of the high-pass
//! cancels against the integration, which therefore never runs away with the bias of a sensor.
//!
//! The sections are state-variable filters with trapezoidal integrators (V. Zavalishin, *The Art of VA
//! Filter Design*, 2012, chapters 3 and 4): unlike a direct form they keep their corner at 2 Hz and
//! 51,200 samples a second in f32, which is what a microcontroller computes in. A trapezoidal integrator
//! loses height towards half the sampling rate; five taps give it back.
//!
//! Everything before [`VelocityFilter::settling_samples`] is the filter's own start and no measurement.

use super::mean_square::MeanSquare;
use crate::quantity::{Quantity, Unit};
use core::f64::consts::PI;
use serde::{Deserialize, Serialize};

/// Frequencies that a broad-band value tells of, Hz.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Passband {
    /// Lower edge, Hz.
    pub low_hz: f32,
    /// Upper edge, Hz.
    pub high_hz: f32,
}

impl Passband {
    /// From 10 to 1000 Hz: ISO 20816-1:2016, 4.3.1 for machines from 600 to 12,000 rpm.
    pub const STANDARD: Self = Self {
        low_hz: 10.0,
        high_hz: 1_000.0,
    };

    /// From 2 Hz on, for machines below 600 rpm (ISO 20816-3:2022, 4.3.2).
    pub const SLOW: Self = Self {
        low_hz: 2.0,
        high_hz: 1_000.0,
    };

    /// The band for a shaft of that speed, Hz. An unknown speed (0) is taken for one of 600 rpm and more.
    pub fn for_speed(shaft_hz: f64) -> Self {
        if shaft_hz > 0.0 && shaft_hz < 10.0 {
            Self::SLOW
        } else {
            Self::STANDARD
        }
    }

    /// Time after which the filter's start has died away to a hundredth, seconds: five time constants of the
    /// high-pass, whose slowest pole falls with half its corner's angular frequency.
    pub fn settling_s(&self) -> f64 {
        5.0 / (PI * f64::from(self.low_hz) / THIRD_OCTAVE)
    }

    /// Time that is measured over at least, seconds: five periods of the lower edge.
    pub fn duration_min_s(&self) -> f64 {
        5.0 / f64::from(self.low_hz)
    }
}

/// A third of an octave, as ISO 266 has it: 10^0.1.
const THIRD_OCTAVE: f64 = 1.258_925_411_794_167;

/// Samples a second for each Hz of the upper edge, at least.
const RATE_OVER_HIGH: f64 = 2.56;

/// Taps that give back what a trapezoidal integrator loses: their gain is tan(x/2) / (x/2) to the fourth order
/// of x, the angle that a frequency turns by in a sample, which is 1 + x^2/12 + x^4/120.
const RESTORE: [f32; 5] = {
    let (near, far) = (-13.0 / 90.0, 11.0 / 720.0);
    [far, near, 1.0 - 2.0 * (near + far), near, far]
};

/// A filter for one channel.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct VelocityFilter {
    high_pass: SecondOrder,
    corner: FirstOrder,
    low_pass: SecondOrder,
    edge: FirstOrder,
    /// What turns samples into mm/s2, or mm/s.
    gain: f32,
    /// None for a channel that is velocity already.
    integrates: Option<Restoring>,
    settling: u32,
}

/// The last outputs of the integrator, and its gain.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Restoring {
    /// Seconds: one over the high-pass's angular frequency.
    gain: f32,
    last: [f32; 4],
}

impl VelocityFilter {
    /// A filter for samples of `unit` at `rate_hz`; none for a unit that is neither acceleration nor
    /// velocity, or a rate too low for the band.
    pub fn new(unit: Unit, rate_hz: f64, band: Passband) -> Option<Self> {
        let (gain, integrates) = match unit.quantity() {
            Quantity::Acceleration => (1e3 * unit.factor_to(Unit::MetrePerSecondSquared)?, true),
            Quantity::Velocity => (unit.factor_to(Unit::MillimetrePerSecond)?, false),
            _ => return None,
        };
        let (low, high) = (f64::from(band.low_hz), f64::from(band.high_hz));
        let is_usable = low > 0.0 && high > low && rate_hz >= RATE_OVER_HIGH * high;
        if !is_usable || !rate_hz.is_finite() {
            return None;
        }
        let corner = tangent(PI * low / THIRD_OCTAVE / rate_hz);
        // The corner of the low-pass may reach half the sampling rate, and not lie beyond it.
        let edge = tangent(PI * (high * THIRD_OCTAVE / rate_hz).min(0.49));
        Some(Self {
            high_pass: SecondOrder::new(corner),
            corner: FirstOrder::new(corner),
            low_pass: SecondOrder::new(edge),
            edge: FirstOrder::new(edge),
            gain: gain as f32,
            integrates: integrates.then_some(Restoring {
                gain: (0.5 / (corner * rate_hz)) as f32,
                last: [0.0; 4],
            }),
            settling: libm::ceil(band.settling_s() * rate_hz) as u32,
        })
    }

    /// Samples after which what comes out is a measurement.
    pub const fn settling_samples(&self) -> u32 {
        self.settling
    }

    /// The velocity at the next sample, mm/s; two samples late if it was integrated. The sample must be
    /// finite: whoever lacks one gives the mean.
    // In a loop over many samples the states stay in registers.
    #[inline]
    pub fn step(&mut self, sample: f32) -> f32 {
        let high = self.high_pass.step(sample * self.gain).high;
        let banded = match &mut self.integrates {
            Some(restoring) => restoring.step(self.corner.step(high).low),
            None => self.corner.step(high).high,
        };
        self.low_pass.step(self.edge.step(banded).low).low
    }
}

impl Restoring {
    #[inline]
    fn step(&mut self, sample: f32) -> f32 {
        let [a, b, c, d] = self.last;
        let now = sample * self.gain;
        self.last = [now, a, b, c];
        RESTORE[0] * (now + d) + RESTORE[1] * (a + c) + RESTORE[2] * b
    }
}

/// The tangent of an angle from 0 to below a quarter turn, by Lambert's continued fraction (M. Abramowitz and I. A.
/// Stegun, *Handbook of Mathematical Functions*, 4.3.94): a library's reduces angles of any size first, with tables
/// that take 3 KiB of a microcontroller's flash.
fn tangent(angle: f64) -> f64 {
    /// Odd number that the fraction begins with, from below: below a quarter turn it is exact to the digits of f64.
    const DEEPEST: u32 = 31;
    let square = angle * angle;
    let mut fraction = f64::from(DEEPEST);
    for odd in (1..DEEPEST).step_by(2).rev() {
        fraction = f64::from(odd) - square / fraction;
    }
    angle / fraction
}

/// The RMS of the velocity of a stretch of samples that are not kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct VelocityMeter {
    filter: VelocityFilter,
    /// Samples still to come before it is settled.
    settling: u32,
    squares: MeanSquare,
    peak: f32,
}

impl VelocityMeter {
    /// A meter that has not settled yet.
    pub const fn new(filter: VelocityFilter) -> Self {
        Self {
            filter,
            settling: filter.settling,
            squares: MeanSquare::new(),
            peak: 0.0,
        }
    }

    /// Takes the next sample, which must be finite.
    #[inline]
    pub fn push(&mut self, sample: f32) {
        let velocity = self.filter.step(sample);
        if self.settling > 0 {
            self.settling -= 1;
            return;
        }
        self.squares.push(velocity);
        self.peak = self.peak.max(libm::fabsf(velocity));
    }

    /// Begins the next stretch; the filter stays settled.
    pub fn restart(&mut self) {
        self.squares = MeanSquare::new();
        self.peak = 0.0;
    }

    /// Samples measured over since the start of the stretch.
    pub const fn count(&self) -> u32 {
        self.squares.count()
    }

    /// Root mean square, mm/s; none before it has settled.
    pub fn rms(&self) -> Option<f32> {
        self.squares.rms()
    }

    /// Largest distance from 0 (true peak), mm/s; none before it has settled.
    pub const fn peak(&self) -> Option<f32> {
        if self.squares.count() > 0 {
            Some(self.peak)
        } else {
            None
        }
    }
}

/// s^2 + s + 1 over its corner: the second-order part of a third-order Butterworth filter.
#[derive(Clone, Copy, PartialEq, Debug)]
struct SecondOrder {
    gains: [f32; 3],
    states: [f32; 2],
}

/// What a section parts a signal into.
struct Parted {
    low: f32,
    high: f32,
}

impl SecondOrder {
    /// `corner` is the tangent of half the angle that the corner turns by in a sample.
    fn new(corner: f64) -> Self {
        let first = 1.0 / (1.0 + corner * (corner + 1.0));
        Self {
            gains: [first, corner * first, corner * corner * first].map(|gain| gain as f32),
            states: [0.0; 2],
        }
    }

    #[inline]
    fn step(&mut self, sample: f32) -> Parted {
        let [middle, low] = self.states;
        let rest = sample - low;
        let band = self.gains[0] * middle + self.gains[1] * rest;
        let below = low + self.gains[1] * middle + self.gains[2] * rest;
        self.states = [2.0 * band - middle, 2.0 * below - low];
        Parted {
            low: below,
            high: sample - band - below,
        }
    }
}

/// s + 1 over its corner: the first-order part.
#[derive(Clone, Copy, PartialEq, Debug)]
struct FirstOrder {
    gain: f32,
    state: f32,
}

impl FirstOrder {
    fn new(corner: f64) -> Self {
        Self {
            gain: (corner / (1.0 + corner)) as f32,
            state: 0.0,
        }
    }

    #[inline]
    fn step(&mut self, sample: f32) -> Parted {
        let change = (sample - self.state) * self.gain;
        let low = self.state + change;
        self.state = low + change;
        Parted {
            low,
            high: sample - low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::TAU;

    /// The RMS that is told of a sine of 1 mm/s RMS, `seconds` long.
    fn told(unit: Unit, rate_hz: f64, band: Passband, hz: f64, bias: f64, seconds: f64) -> f32 {
        let mut meter = VelocityMeter::new(VelocityFilter::new(unit, rate_hz, band).unwrap());
        let amplitude = match unit {
            Unit::StandardGravity => 2f64.sqrt() * TAU * hz / 9_806.65,
            Unit::MetrePerSecondSquared => 2f64.sqrt() * TAU * hz / 1e3,
            _ => 2f64.sqrt(),
        };
        for index in 0..(seconds * rate_hz) as usize {
            let at = index as f64 / rate_hz;
            meter.push((bias + amplitude * (TAU * hz * at + 0.4).sin()) as f32);
        }
        meter.rms().unwrap()
    }

    #[test]
    fn the_tangent_is_that_of_the_library() {
        for step in 0..=490_u32 {
            let angle = PI * f64::from(step) / 1e3;
            let (found, expected) = (tangent(angle), libm::tan(angle));
            assert!(
                (found - expected).abs() <= 1e-14 * (1.0 + expected * expected),
                "{angle}: {found} is not {expected}"
            );
        }
    }

    #[test]
    fn a_sine_in_the_band_is_told_as_it_is_at_every_rate() {
        for rate_hz in [3_200.0, 6_400.0, 12_000.0, 25_600.0, 51_200.0] {
            for hz in [12.5, 25.0, 50.0, 160.0, 500.0] {
                let rms = told(Unit::StandardGravity, rate_hz, Passband::STANDARD, hz, 0.0, 2.0);
                let error = if hz > 12.5 { 0.02 } else { 0.05 };
                assert!((rms - 1.0).abs() < error, "{hz} Hz at {rate_hz}: {rms}");
            }
            // The edges: what ISO 2954 has within 0.8 to 1.1.
            for hz in [10.0, 1_000.0] {
                let rms = told(
                    Unit::MetrePerSecondSquared,
                    rate_hz,
                    Passband::STANDARD,
                    hz,
                    0.0,
                    2.0,
                );
                assert!((0.8..1.1).contains(&rms), "{hz} Hz at {rate_hz}: {rms}");
            }
            let slow = told(Unit::StandardGravity, rate_hz, Passband::SLOW, 2.5, 0.0, 6.0);
            assert!((slow - 1.0).abs() < 0.05, "2.5 Hz at {rate_hz}: {slow}");
        }
    }

    #[test]
    fn what_lies_outside_the_band_is_not_told() {
        for rate_hz in [3_200.0, 25_600.0, 51_200.0] {
            let rms = |hz| told(Unit::StandardGravity, rate_hz, Passband::STANDARD, hz, 0.0, 4.0);
            assert!(rms(1.0) < 3e-3, "1 Hz at {rate_hz}: {}", rms(1.0));
            assert!(rms(2.5) < 0.05);
        }
        let fast = told(
            Unit::StandardGravity,
            25_600.0,
            Passband::STANDARD,
            5_000.0,
            0.0,
            2.0,
        );
        assert!(fast < 0.02, "{fast}");
    }

    #[test]
    fn gravity_and_the_bias_of_a_sensor_leave_nothing() {
        let filter = VelocityFilter::new(Unit::StandardGravity, 25_600.0, Passband::STANDARD).unwrap();
        let mut meter = VelocityMeter::new(filter);
        (0..25_600).for_each(|_| meter.push(1.0));
        meter.restart();
        (0..25_600).for_each(|_| meter.push(1.0));
        assert!(meter.rms().unwrap() < 1e-2, "{:?}", meter.rms());
    }

    #[test]
    fn a_velocity_sensor_is_bounded_and_not_integrated() {
        for (hz, from, to) in [(50.0, 0.99, 1.01), (10.0, 0.85, 0.95), (2.0, 0.0, 0.02)] {
            let rms = told(
                Unit::MillimetrePerSecond,
                12_800.0,
                Passband::STANDARD,
                hz,
                0.0,
                2.0,
            );
            assert!((from..to).contains(&rms), "{hz} Hz: {rms}");
        }
    }

    #[test]
    fn a_rate_or_unit_that_cannot_tell_the_band_has_no_filter() {
        let filter = |unit, rate| VelocityFilter::new(unit, rate, Passband::STANDARD);
        assert!(filter(Unit::StandardGravity, 2_560.0).is_some());
        for (unit, rate) in [
            (Unit::StandardGravity, 2_559.0),
            (Unit::StandardGravity, f64::NAN),
            (Unit::StandardGravity, f64::INFINITY),
            (Unit::DegreeCelsius, 25_600.0),
            (Unit::Micrometre, 25_600.0),
        ] {
            assert!(filter(unit, rate).is_none(), "{unit:?} at {rate}");
        }
        assert_eq!(Passband::for_speed(9.9), Passband::SLOW);
        assert_eq!(
            [10.0, 0.0, f64::NAN].map(Passband::for_speed),
            [Passband::STANDARD; 3]
        );
    }

    #[test]
    fn nothing_is_told_before_the_filter_has_settled() {
        let filter = VelocityFilter::new(Unit::StandardGravity, 25_600.0, Passband::STANDARD).unwrap();
        let mut meter = VelocityMeter::new(filter);
        for _ in 0..filter.settling_samples() {
            meter.push(0.0);
        }
        assert_eq!((meter.rms(), meter.peak()), (None, None));
        meter.push(0.0);
        assert_eq!((meter.rms(), meter.count()), (Some(0.0), 1));
        meter.restart();
        assert_eq!(meter.rms(), None);
    }

    #[test]
    fn the_start_has_died_away_when_it_has_settled() {
        // The worst start: a cosine of acceleration whose velocity is all at once there, and a step.
        let filter = VelocityFilter::new(Unit::MetrePerSecondSquared, 5_120.0, Passband::STANDARD).unwrap();
        let mut stepped = filter;
        let mut largest = 0.0f32;
        for index in 0..5_120u32 {
            let left = stepped.step(1.0).abs();
            if index < filter.settling_samples() {
                largest = largest.max(left);
            } else {
                assert!(left < 0.02 * largest, "{left} of {largest} at {index}");
            }
        }
    }
}
