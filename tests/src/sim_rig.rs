//! Simulated rigs drawn at random: a [`SimMachine`] whose geometry, speed, rate, resonance and fault chance decides,
//! beside what else rattles in a plant: a gear mesh, another shaft, the field of a motor, a damaged bearing next
//! door. Each is a function of its seed.
//!
//! The speed that is declared is off by as much as its tolerance allows, which is what nameplates and loads leave.

use crate::sim_machine::{Chance, MachineSpec, SeededFault, SimMachine};
use std::f64::consts::TAU;
use trunnion_diagnosis::bearing::{BearingGeometry, BearingOrders, Element};

/// Rates of customary converters, Hz.
const RATES_HZ: [f64; 8] = [
    12_000.0, 12_800.0, 20_000.0, 25_600.0, 48_000.0, 48_828.0, 51_200.0, 97_656.0,
];

/// Tolerances of declared speeds: read from the shaft, from a converter, and from a nameplate.
const TOLERANCES: [f64; 4] = [0.003, 0.003, 0.01, 0.02];

/// A rig, and what is true of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Rig {
    /// The machine as it is, true speed included.
    pub machine: MachineSpec,
    /// The speed that is declared, Hz.
    pub declared_hz: f64,
    /// How far that may be off, as a share.
    pub tolerance: f64,
    /// A damaged bearing next door, on the same shaft; the rig's own is healthy then.
    pub neighbour: Option<MachineSpec>,
    /// The bearing next door, damaged or not, where it is declared: three times in four.
    pub declared_neighbour: Option<BearingOrders>,
    tones: Vec<Tone>,
}

/// A line with sidebands.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Tone {
    hz: f64,
    amplitude_g: f64,
    phase: f64,
    /// How often it swells, Hz, and by what share.
    modulation: (f64, f64),
}

impl Rig {
    /// The rig of a seed: three in eight healthy (one of them beside a damaged bearing), the others damaged, half of
    /// all with a gear, another shaft or a motor's field beside it.
    pub fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x0816_5eed);
        let bearing = draw_bearing(&mut chance);
        let shaft_hz = within(&mut chance, 15.0, 60.0);
        let rate_hz = *one_of(&mut chance, &RATES_HZ);
        let harmonics_g = {
            let first = logarithmic(&mut chance, 0.005, 0.2);
            std::array::from_fn(|index| first * logarithmic(&mut chance, 0.1, 0.8).powi(index as i32))
        };
        let healthy = MachineSpec {
            rate_hz,
            shaft_hz,
            bearing,
            harmonics_g,
            noise_g: 0.05,
            resonance_hz: within(&mut chance, 0.12, 0.36) * rate_hz.min(40_000.0),
            damping: within(&mut chance, 0.02, 0.1),
            fault: None,
            seed: chance.next(),
        };
        let element = *one_of(
            &mut chance,
            &[
                Element::OuterRace,
                Element::OuterRace,
                Element::InnerRace,
                Element::InnerRace,
                Element::Ball,
                Element::Ball,
                Element::Cage,
            ],
        );
        let severity_g = logarithmic(&mut chance, 0.1, 3.0);
        let damaged = |machine: MachineSpec| machine.with_fault(element, severity_g, 0.0);
        let (machine, neighbour) = match seed % 8 {
            0 | 1 => (healthy, None),
            2 => {
                let beside = MachineSpec {
                    bearing: draw_bearing(&mut chance),
                    harmonics_g: [0.0; 4],
                    noise_g: 0.0,
                    seed: chance.next(),
                    ..healthy
                };
                (healthy, Some(damaged(beside)))
            }
            _ => (damaged(healthy), None),
        };
        let tolerance = *one_of(&mut chance, &TOLERANCES);
        let declared_hz = shaft_hz * (1.0 + tolerance * within(&mut chance, -1.0, 1.0));
        let tones = if chance.next().is_multiple_of(2) {
            draw_tones(&mut chance, shaft_hz)
        } else {
            Vec::new()
        };
        let mut beside = Chance::new(seed ^ 0x0816_5eed_0002);
        let drawn = draw_bearing(&mut beside);
        let declared_neighbour = (!beside.next().is_multiple_of(4))
            .then(|| neighbour.map_or(drawn, |neighbour| neighbour.bearing));
        Self {
            machine,
            declared_hz,
            tolerance,
            neighbour,
            declared_neighbour,
            tones,
        }
    }

    /// What is damaged of the rig's own bearing.
    pub fn truth(&self) -> Option<Element> {
        self.machine.fault.map(|SeededFault { element, .. }| element)
    }

    /// The first seconds of its vibration, g.
    pub fn samples(&self, seconds: f64) -> Vec<f32> {
        let rate_hz = self.machine.rate_hz;
        let mut samples = vec![0.0; (seconds * rate_hz) as usize];
        SimMachine::new(self.machine).fill(&mut samples);
        if let Some(neighbour) = self.neighbour {
            let mut beside = vec![0.0; samples.len()];
            SimMachine::new(neighbour).fill(&mut beside);
            add(&mut samples, beside);
        }
        for tone in &self.tones {
            let heard = (0..samples.len()).map(|index| tone.at(index as f64 / rate_hz) as f32);
            add(&mut samples, heard);
        }
        samples
    }
}

fn add(samples: &mut [f32], others: impl IntoIterator<Item = f32>) {
    for (sample, other) in samples.iter_mut().zip(others) {
        *sample += other;
    }
}

impl Tone {
    fn at(&self, seconds: f64) -> f64 {
        let (modulation_hz, depth) = self.modulation;
        let swell = 1.0 + depth * (TAU * modulation_hz * seconds).cos();
        self.amplitude_g * swell * (TAU * self.hz * seconds + self.phase).sin()
    }
}

/// Rollers that fill half to nine tenths of the pitch circle, at a contact angle of a deep-groove or an
/// angular-contact bearing.
fn draw_bearing(chance: &mut Chance) -> BearingOrders {
    loop {
        let balls = 7 + (chance.next() % 10) as u8;
        let fill = within(chance, 0.5, 0.9);
        let ratio = fill * std::f64::consts::PI / f64::from(balls);
        let angle = *one_of(chance, &[0.0, 0.0, 15.0, 25.0]);
        if let Ok(geometry) = BearingGeometry::new(balls, ratio, 1.0, angle) {
            return geometry.orders();
        }
    }
}

fn draw_tones(chance: &mut Chance, shaft_hz: f64) -> Vec<Tone> {
    let tone = |chance: &mut Chance, hz: f64, amplitude_g: f64, modulation: (f64, f64)| Tone {
        hz,
        amplitude_g: amplitude_g * logarithmic(chance, 0.3, 1.0),
        phase: TAU * chance.uniform(),
        modulation,
    };
    let amplitude_g = logarithmic(chance, 0.02, 0.5);
    match chance.next() % 3 {
        // A mesh swells with the shaft, or with the wheel on the other one.
        0 => {
            let teeth = (17 + chance.next() % 44) as f64;
            let other = (17 + chance.next() % 44) as f64;
            let turning = if chance.next().is_multiple_of(2) {
                1.0
            } else {
                teeth / other
            };
            let depth = within(chance, 0.05, 0.5);
            (1..=3)
                .map(|harmonic| f64::from(harmonic) * teeth * shaft_hz)
                .map(|hz| tone(chance, hz, amplitude_g, (turning * shaft_hz, depth)))
                .collect()
        }
        // Another machine on the same floor, with its blades.
        1 => {
            let other_hz = shaft_hz * within(chance, 0.4, 2.5);
            let blades = (3 + chance.next() % 7) as f64;
            [1.0, 2.0, 3.0, blades, 2.0 * blades]
                .into_iter()
                .map(|order| tone(chance, order * other_hz, amplitude_g, (other_hz, 0.2)))
                .collect()
        }
        // Twice the mains' frequency, and slots that swell with it.
        _ => {
            let mains_hz = *one_of(chance, &[50.0, 60.0]);
            let slots = (24 + chance.next() % 25) as f64;
            let mut tones: Vec<Tone> = (1..=3)
                .map(|harmonic| 2.0 * f64::from(harmonic) * mains_hz)
                .map(|hz| tone(chance, hz, amplitude_g, (shaft_hz, 0.1)))
                .collect();
            tones.push(tone(chance, slots * shaft_hz, amplitude_g, (2.0 * mains_hz, 0.3)));
            tones
        }
    }
}

fn within(chance: &mut Chance, from: f64, to: f64) -> f64 {
    from + (to - from) * chance.uniform()
}

fn logarithmic(chance: &mut Chance, from: f64, to: f64) -> f64 {
    within(chance, from.ln(), to.ln()).exp()
}

fn one_of<'a, T>(chance: &mut Chance, of: &'a [T]) -> &'a T {
    &of[(chance.next() % of.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rig_is_a_function_of_its_seed() {
        for seed in 0..40 {
            let rig = Rig::draw(seed);
            assert_eq!(rig, Rig::draw(seed));
            assert_eq!(rig.samples(0.1), rig.samples(0.1));
            let is_healthy = seed % 8 < 3;
            assert_eq!(rig.truth().is_none(), is_healthy, "{seed}");
            let off = (rig.declared_hz / rig.machine.shaft_hz - 1.0).abs();
            assert!(off <= rig.tolerance, "{seed}: {off}");
        }
        assert_ne!(Rig::draw(1), Rig::draw(2));
    }

    #[test]
    fn a_tone_is_as_high_as_it_is_drawn() {
        let tone = Tone {
            hz: 100.0,
            amplitude_g: 0.5,
            phase: 0.0,
            modulation: (10.0, 0.2),
        };
        let power: f64 = (0..10_000)
            .map(|index| tone.at(f64::from(index) / 10_000.0).powi(2))
            .sum();
        // Half the square of the carrier, and of both sidebands.
        assert!((power / 10_000.0 / (0.125 * 1.02) - 1.0).abs() < 1e-6, "{power}");
    }
}
