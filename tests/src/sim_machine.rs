//! A simulated machine: a shaft in a rolling bearing, with a fault seeded on an element of choice.
//!
//! The vibration is the sum of
//! - harmonics of the shaft's speed, as unbalance and misalignment leave them;
//! - noise of the rolling itself: white, and once more through a resonance of the casing;
//! - from the fault's onset on, strikes. Each time the damaged spot is rolled over it excites a
//!   structural resonance that rings down exponentially, weighted with the load the spot carries at
//!   that moment: P. D. McFadden and J. D. Smith, "Model for the vibration produced by a single point
//!   defect in a rolling element bearing", *J. Sound Vib.* 96 (1984) 69. The time from strike to strike
//!   varies at random and the variations add up, because balls slide: R. B. Randall and J. Antoni,
//!   "Rolling element bearing diagnostics: a tutorial", *Mech. Syst. Signal Process.* 25 (2011) 485,
//!   section 3.
//!
//! The samples are a function of the specification alone, seed included, however they are fetched.

use std::f64::consts::TAU;
use trunnion_diagnosis::bearing::{BearingOrders, Element};

/// What machine, and what is wrong with it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MachineSpec {
    /// Samples a second.
    pub rate_hz: f64,
    /// Shaft speed, Hz.
    pub shaft_hz: f64,
    /// The bearing beside the sensor.
    pub bearing: BearingOrders,
    /// Amplitudes of the shaft's harmonics from the first, g.
    pub harmonics_g: [f64; 4],
    /// Standard deviation of the noise, g.
    pub noise_g: f64,
    /// The structural resonance that strikes excite, Hz; below half the rate.
    pub resonance_hz: f64,
    /// Damping ratio of that resonance, above 0 and below 1.
    pub damping: f64,
    /// The fault, if there is to be one.
    pub fault: Option<SeededFault>,
    /// What chance is drawn from.
    pub seed: u64,
}

/// A damaged spot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SeededFault {
    /// Where it is.
    pub element: Element,
    /// Amplitude at which a strike at full load begins to ring, g: against [`MachineSpec::noise_g`],
    /// 2 to 5 times is a small spall, 20 times a large one.
    pub severity_g: f64,
    /// When it appears, seconds from the first sample.
    pub onset_s: f64,
}

impl MachineSpec {
    /// A small motor at 1797 rpm on a 6205 that rings at 3.2 kHz, sampled at `rate_hz`.
    pub fn motor(rate_hz: f64, seed: u64) -> Self {
        let bearing = "6205".parse().expect("the catalogue has the 6205");
        Self {
            rate_hz,
            shaft_hz: 1797.0 / 60.0,
            bearing,
            harmonics_g: [0.06, 0.03, 0.015, 0.008],
            noise_g: 0.05,
            resonance_hz: 3200.0,
            damping: 0.05,
            fault: None,
            seed,
        }
    }

    /// The same with a fault.
    pub const fn with_fault(self, element: Element, severity_g: f64, onset_s: f64) -> Self {
        Self {
            fault: Some(SeededFault {
                element,
                severity_g,
                onset_s,
            }),
            ..self
        }
    }
}

/// A running machine with a sensor on it.
#[derive(Clone, Debug)]
pub struct SimMachine {
    spec: MachineSpec,
    /// Samples delivered so far.
    index: u64,
    casing: Resonator,
    structure: Resonator,
    /// Mean strikes a second; the constant part of the slip is in it.
    strike_hz: f64,
    /// Seconds from the first sample to the next strike.
    next_strike_s: f64,
    noise: Chance,
    strikes: Chance,
}

impl SimMachine {
    /// Standard deviation of the time between strikes, in parts of its mean.
    const JITTER: f64 = 0.005;
    /// Largest constant slip, in parts of the ideal frequency.
    const SLIP: f64 = 0.005;
    /// The casing's own resonance, in parts of the structure's, and its damping: broad, so that a healthy
    /// machine has a colour of its own.
    const CASING: (f64, f64) = (0.4, 0.1);

    /// A machine at its first sample.
    ///
    /// # Panics
    /// When the resonance is not below half the rate, or the damping not between 0 and 1.
    pub fn new(spec: MachineSpec) -> Self {
        assert!(
            spec.resonance_hz > 0.0 && spec.resonance_hz < spec.rate_hz / 2.0,
            "a resonance of {} Hz cannot be sampled at {} Hz",
            spec.resonance_hz,
            spec.rate_hz
        );
        assert!(
            spec.damping > 0.0 && spec.damping < 1.0,
            "a damping ratio of {}",
            spec.damping
        );
        let mut strikes = Chance::new(spec.seed ^ 0x5eed_0001);
        let (strike_hz, next_strike_s) = match spec.fault {
            Some(fault) => {
                let slip = 1.0 + Self::SLIP * (2.0 * strikes.uniform() - 1.0);
                let strike_hz = spec.bearing.of(fault.element) * spec.shaft_hz * slip;
                (strike_hz, fault.onset_s + strikes.uniform() / strike_hz)
            }
            None => (0.0, f64::INFINITY),
        };
        let (ratio, damping) = Self::CASING;
        Self {
            spec,
            index: 0,
            casing: Resonator::new(spec.resonance_hz * ratio, damping, spec.rate_hz),
            structure: Resonator::new(spec.resonance_hz, spec.damping, spec.rate_hz),
            strike_hz,
            next_strike_s,
            noise: Chance::new(spec.seed),
            strikes,
        }
    }

    /// Index of the sample that comes next, from 0.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The next samples, g.
    pub fn fill(&mut self, out: &mut [f32]) {
        for sample in out {
            *sample = self.step() as f32;
        }
    }

    fn step(&mut self) -> f64 {
        let now = self.index as f64 / self.spec.rate_hz;
        self.index += 1;
        let shaft: f64 = (1u8..)
            .zip(self.spec.harmonics_g)
            .map(|(harmonic, amplitude)| {
                let harmonic = f64::from(harmonic);
                // Each harmonic has a phase of its own; a radian apart keeps their peaks apart.
                amplitude * (TAU * harmonic * self.spec.shaft_hz * now + harmonic).sin()
            })
            .sum();
        let white = self.spec.noise_g * self.noise.normal();
        // What the casing's resonance adds is as strong as what excites it at about this gain.
        let coloured = self.casing.step(0.5 * white);
        let mut blow = 0.0;
        while self.next_strike_s <= now {
            blow += self.strike();
        }
        shaft + white + coloured + self.structure.step(blow)
    }

    /// The blow of the strike that is due, and when the next one is.
    fn strike(&mut self) -> f64 {
        let Some(fault) = self.spec.fault else { return 0.0 };
        let turns = self.next_strike_s * self.spec.shaft_hz;
        // Where in the load zone the spot is: on the inner race it turns with the shaft, on a ball with the
        // cage, on the outer race it stands, here in the middle. A damaged cage strikes once a turn, always
        // where its broken pocket enters the load zone.
        let angle = match fault.element {
            Element::OuterRace | Element::Cage => 0.0,
            Element::InnerRace => TAU * turns,
            Element::Ball => TAU * turns * self.spec.bearing.cage,
        };
        let jitter = 1.0 + Self::JITTER * self.strikes.normal();
        self.next_strike_s += jitter.max(0.5) / self.strike_hz;
        fault.severity_g * load(angle)
    }
}

/// Load at an angle from the middle of the load zone, in parts of the largest: Stribeck's distribution
/// of a ball bearing without clearance, cos^(3/2) over half a turn and none over the other (McFadden and
/// Smith 1984, equation 3, with a load distribution factor of 1/2).
fn load(angle: f64) -> f64 {
    angle.cos().max(0.0).powf(1.5)
}

/// A damped oscillation, sampled: a blow of 1 rings as exp(-damping w t) sin(w_d t).
#[derive(Clone, Copy, Debug)]
struct Resonator {
    feedback: [f64; 2],
    gain: f64,
    previous: [f64; 2],
}

impl Resonator {
    fn new(frequency_hz: f64, damping: f64, rate_hz: f64) -> Self {
        let step = TAU * frequency_hz / rate_hz;
        let decay = (-damping * step).exp();
        let turn = step * (1.0 - damping * damping).sqrt();
        Self {
            feedback: [2.0 * decay * turn.cos(), -decay * decay],
            gain: decay * turn.sin(),
            previous: [0.0; 2],
        }
    }

    fn step(&mut self, blow: f64) -> f64 {
        // The recursion of a sine under an exponential. The ringing begins with its first sample, not with
        // the zero that it is at the blow itself.
        let [last, before] = self.previous;
        let value = self.feedback[0] * last + self.feedback[1] * before + self.gain * blow;
        self.previous = [value, last];
        value
    }
}

/// SplitMix64: G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014. Written out, so that a seed means the same samples for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in (0, 1].
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// With mean 0 and deviation 1 (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(spec: MachineSpec, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        SimMachine::new(spec).fill(&mut out);
        out
    }

    #[test]
    fn the_samples_depend_on_the_seed_and_not_on_how_they_are_fetched() {
        let spec = MachineSpec::motor(12_800.0, 7).with_fault(Element::Ball, 1.0, 0.1);
        let whole = samples(spec, 5000);
        let mut machine = SimMachine::new(spec);
        let mut pieces = vec![0.0; 5000];
        for piece in pieces.chunks_mut(37) {
            machine.fill(piece);
        }
        assert_eq!(pieces, whole);
        assert_eq!(machine.index(), 5000);
        assert_ne!(samples(MachineSpec { seed: 8, ..spec }, 5000), whole);
    }

    #[test]
    fn a_fault_changes_nothing_before_its_onset() {
        let healthy = MachineSpec::motor(12_800.0, 3);
        let faulty = samples(healthy.with_fault(Element::OuterRace, 1.0, 0.25), 6400);
        let healthy = samples(healthy, 6400);
        assert_eq!(faulty[..3200], healthy[..3200]);
        assert_ne!(faulty[3200..], healthy[3200..]);
    }

    #[test]
    fn a_quiet_machine_only_turns() {
        let spec = MachineSpec {
            noise_g: 0.0,
            harmonics_g: [0.5, 0.0, 0.0, 0.0],
            ..MachineSpec::motor(10_000.0, 1)
        };
        for (index, sample) in samples(spec, 1000).into_iter().enumerate() {
            let expected = 0.5 * (TAU * spec.shaft_hz * index as f64 / 10_000.0 + 1.0).sin();
            assert!((f64::from(sample) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn a_blow_rings_at_the_resonance_and_dies_away() {
        let (rate, frequency, damping) = (20_000.0, 1000.0, 0.02);
        let mut resonator = Resonator::new(frequency, damping, rate);
        let mut value = resonator.step(1.0);
        for index in 1..200 {
            let t = f64::from(index) / rate;
            let w = TAU * frequency;
            let expected = (-damping * w * t).exp() * (w * (1.0 - damping * damping).sqrt() * t).sin();
            assert!(
                (value - expected).abs() < 1e-9,
                "sample {index}: {value} is not {expected}"
            );
            value = resonator.step(0.0);
        }
    }

    /// First values of the reference implementation for the seed 1234567.
    #[test]
    fn chance_is_splitmix64() {
        let mut chance = Chance::new(1_234_567);
        assert_eq!(
            [chance.next(), chance.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn noise_has_the_declared_deviation() {
        let mut chance = Chance::new(1);
        let values: Vec<f64> = (0..20_000).map(|_| chance.normal()).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        assert!(
            mean.abs() < 0.03 && (deviation - 1.0).abs() < 0.02,
            "{mean} {deviation}"
        );
    }

    #[test]
    fn the_load_zone_is_half_a_turn() {
        assert_eq!(load(0.0), 1.0);
        assert!((load(TAU / 6.0) - 0.5f64.powf(1.5)).abs() < 1e-12);
        assert_eq!(load(TAU / 2.0), 0.0);
    }
}
