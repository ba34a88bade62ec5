//! How fast the shaft turns while a window is taken: what is declared, refined by what the window shows.
//!
//! A declared speed has a tolerance; that of an induction motor's nameplate is some per cent, because it depends on
//! the load. Orders of bearings are told apart by half a per cent. So the harmonics of the shaft are looked for, in
//! the spectrum of the window and in that of its envelope, within the tolerance.
//!
//! Each speed that is possible is weighed by the lines that stand at its harmonics: how much more likely a line of
//! that height is where there is one than in noise, whose lines follow Rayleigh's distribution. The speed is known
//! when nearly all of the weight lies within [`ShaftSpeed::FINE`] of one, and still does without its strongest line:
//! a line of something else is one line. Harmonics at which an element of the bearing may stand are left out.

use super::search::{HARMONICS, SLIP};
use crate::bearing::{BearingOrders, Element};
use trunnion_common::feature::definition::SpeedSource;
use trunnion_common::operating::Operating;

/// A speed, and how well it is known.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ShaftSpeed {
    /// Hz; 0 where it is not known.
    pub hz: f64,
    /// How far the true speed may be from that, as a share of it.
    pub tolerance: f64,
    /// Where it is from.
    pub source: SpeedSource,
}

impl ShaftSpeed {
    /// A tolerance that the search for an element has room for beside the balls' slip.
    pub const FINE: f64 = 0.005;

    /// No speed is known.
    pub const UNKNOWN: Self = Self {
        hz: 0.0,
        tolerance: 0.0,
        source: SpeedSource::Unknown,
    };

    /// A speed that is declared with the machine, and how far it may be off.
    pub const fn declared(hz: f64, tolerance: f64) -> Self {
        Self {
            hz,
            tolerance,
            source: SpeedSource::Declared,
        }
    }

    /// A speed that a channel measures: half a per cent is left for its time not being the window's.
    pub const fn measured(hz: f64) -> Self {
        Self {
            hz,
            tolerance: Self::FINE,
            source: SpeedSource::Tacho,
        }
    }

    /// The speed during a window: what a channel measured where one `tells_speed`, else as `declared`; unknown where
    /// it is not known how the machine was operated.
    pub fn during(operating: &Operating, tells_speed: bool, declared: Self) -> Self {
        match operating.speed_hz {
            None => Self::UNKNOWN,
            Some(hz) if tells_speed => Self::measured(hz.into()),
            Some(_) => declared,
        }
    }

    /// Whether elements can be told apart by it.
    pub fn is_fine(&self) -> bool {
        self.hz > 0.0 && self.tolerance <= Self::FINE
    }
}

/// Harmonics of the shaft that are looked at, in either spectrum.
pub(super) const SHAFT_HARMONICS: usize = 10;

/// Accuracy of a speed that is read from a window.
const REFINED: f64 = 0.003;

/// Share of the weight that has to lie within [`REFINED`].
const CERTAINTY: f64 = 0.9;

/// How much more likely than by chance the lines of the speed have to be without the strongest of them, as a
/// logarithm.
const EVIDENCE: f64 = 3.0;

/// What one line says at most, as a logarithm: lines that have nothing to do with the shaft stand high, too.
const LINE_MAX: f64 = 6.0;

/// Lines that stand out, at the least.
const LINES_MIN: usize = 2;

/// From here a line stands out: noise reaches it once in 500 lines.
const STANDING: f64 = 3.0;

/// Multiples of an element's order that may stand at a harmonic of the shaft.
const CAGE_MULTIPLES: usize = 10;

/// The lines about one harmonic of the shaft in one spectrum.
struct Harmonic {
    number: f64,
    lines: Vec<Line>,
}

/// A line, between whose neighbours nothing is higher.
struct Line {
    hz: f64,
    /// Height over the median of what is about the harmonic.
    height: f64,
    /// What it says for a harmonic to be there.
    evidence: f64,
    /// How far off its place may be: a twentieth of the resolution for a line by itself, and more in noise.
    error_hz: f64,
}

impl Harmonic {
    /// None where the spectrum does not reach it.
    fn new(number: usize, heights: &[f32], spacing_hz: f64, low_hz: f64, high_hz: f64) -> Option<Self> {
        let number = number as f64;
        let middle_hz = f64::midpoint(low_hz, high_hz);
        let index = |hz: f64| (hz / spacing_hz) as usize;
        let around = heights.get(index((number - 0.5) * middle_hz)..index((number + 0.5) * middle_hz))?;
        let mut sorted = around.to_vec();
        let middle = sorted.len().checked_sub(1)? / 2;
        let (_, floor, _) = sorted.select_nth_unstable_by(middle, f32::total_cmp);
        let floor = f64::from(floor.max(f32::MIN_POSITIVE));
        // A line just outside has its flank inside.
        let from = index(number * low_hz).saturating_sub(2);
        let near = heights.get(from..index(number * high_hz) + 4)?;
        let lines = near.windows(3).zip(from + 1..).filter_map(|(three, at)| {
            let [before, height, after] = [three[0], three[1], three[2]].map(|line| f64::from(line) / floor);
            if height < before || height <= after || height < 1.0 {
                return None;
            }
            // The top of the parabola through the logarithms.
            let [left, top, right] = [before, height, after].map(|line| line.max(1e-6).ln());
            let offset = 0.5 * (left - right) / (left - 2.0 * top + right);
            Some(Line {
                hz: (at as f64 + offset) * spacing_hz,
                height,
                evidence: evidence(height),
                error_hz: 2.0 * spacing_hz * (0.05 + 0.5 / height),
            })
        });
        Some(Self {
            number,
            lines: lines.collect(),
        })
    }

    /// What is said for the harmonic to be that of a speed, as a logarithm.
    fn evidence(&self, hz: f64) -> f64 {
        let most = self
            .lines
            .iter()
            .map(|line| line.evidence - 0.5 * ((self.number * hz - line.hz) / line.error_hz).powi(2))
            .fold(f64::NEG_INFINITY, f64::max);
        (0.5 + 0.5 * most.exp()).ln()
    }

    /// How high the line at the harmonic of a speed stands; 0 where there is none.
    fn height(&self, hz: f64) -> f64 {
        self.lines
            .iter()
            .filter(|line| (self.number * hz - line.hz).abs() <= 3.0 * line.error_hz)
            .map(|line| line.height)
            .fold(0.0, f64::max)
    }
}

/// How much more likely a height is where a harmonic stands than in noise, as a logarithm.
///
/// Noise: Rayleigh's distribution with a median of 1. A line: any height to a hundred times that, by its logarithm.
fn evidence(height: f64) -> f64 {
    let noise = (2.0 * std::f64::consts::LN_2 * height).ln() - height * height * std::f64::consts::LN_2;
    let line = -(height * 100f64.ln()).ln();
    (line - noise).min(LINE_MAX)
}

/// Spectra of one stretch of time, with lines from 0 Hz.
pub(super) struct Spectra<'a> {
    /// Of the vibration, and the distance of its lines, Hz.
    pub(super) plain: (&'a [f32], f64),
    /// Of its envelope.
    pub(super) envelope: (&'a [f32], f64),
}

/// The speed within the tolerance of a known one that the spectra show; none where they do not single one out.
pub(super) fn refine(
    spectra: &Spectra<'_>,
    bearing: &BearingOrders,
    about: ShaftSpeed,
) -> Option<ShaftSpeed> {
    let reach = about.tolerance.max(REFINED);
    let (low_hz, high_hz) = (about.hz * (1.0 - reach), about.hz * (1.0 + reach));
    let harmonics: Vec<Harmonic> = [spectra.plain, spectra.envelope]
        .into_iter()
        .enumerate()
        .flat_map(|(which, (lines, spacing_hz))| {
            (1..=SHAFT_HARMONICS)
                // The vibration itself has no lines of the bearing to speak of, so low.
                .filter(move |number| which == 0 || !may_be_bearing(*number as f64, bearing, reach))
                .filter_map(move |number| Harmonic::new(number, lines, spacing_hz, low_hz, high_hz))
        })
        .collect();
    // Steps of a tenth of what is wanted.
    let steps = (20.0 * reach / REFINED) as usize;
    let speeds: Vec<f64> = (0..=steps)
        .map(|step| low_hz + (high_hz - low_hz) * step as f64 / steps as f64)
        .collect();
    let weights: Vec<f64> = speeds
        .iter()
        .map(|&hz| harmonics.iter().map(|harmonic| harmonic.evidence(hz)).sum())
        .collect();
    let hz = singled_out(&speeds, &weights)?;
    let standing: Vec<usize> = harmonics
        .iter()
        .filter(|harmonic| harmonic.height(hz) >= STANDING)
        .map(|harmonic| harmonic.number as usize)
        .collect();
    // Lines that are all even are those of something that turns twice as fast, or of the mains.
    if standing.len() < LINES_MIN || standing.iter().copied().reduce(common_divisor) != Some(1) {
        return None;
    }
    // Without its strongest line.
    let strongest = harmonics
        .iter()
        .max_by(|a, b| a.height(hz).total_cmp(&b.height(hz)))?;
    let without: Vec<f64> = speeds
        .iter()
        .zip(&weights)
        .map(|(&hz, weight)| weight - strongest.evidence(hz))
        .collect();
    let best = without.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let again = singled_out(&speeds, &without)?;
    (best >= EVIDENCE && (again / hz - 1.0).abs() <= REFINED).then_some(ShaftSpeed {
        hz,
        tolerance: REFINED,
        source: SpeedSource::Estimated,
    })
}

/// The middle of the speeds about the likeliest, if nearly all weight is there.
fn singled_out(speeds: &[f64], weights: &[f64]) -> Option<f64> {
    let (best, highest) = weights.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let chances = weights.iter().map(|weight| (weight - highest).exp());
    let (mut all, mut near, mut moment) = (0.0, 0.0, 0.0);
    for (hz, chance) in speeds.iter().zip(chances) {
        all += chance;
        if (hz / speeds[best] - 1.0).abs() <= REFINED {
            near += chance;
            moment += chance * hz;
        }
    }
    (near >= CERTAINTY * all).then(|| moment / near)
}

/// Euclid's algorithm.
fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Whether a line of the bearing may stand at a harmonic of the shaft.
fn may_be_bearing(number: f64, bearing: &BearingOrders, reach: f64) -> bool {
    Element::ALL.into_iter().any(|element| {
        let multiples = if element == Element::Cage {
            CAGE_MULTIPLES
        } else {
            HARMONICS
        };
        (1..=multiples).any(|multiple| {
            let order = multiple as f64 * bearing.of(element);
            (order / number - 1.0).abs() < SLIP + reach
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::demodulation::Demodulator;
    use super::*;
    use std::f64::consts::TAU;

    /// What is read from one second of lines in noise, of a shaft that is declared at 30 Hz to 3 %.
    fn read(lines: &[(f64, f64)], seed: u64) -> Option<f64> {
        let mut state = seed;
        let samples: Vec<f32> = (0..12_000)
            .map(|index| {
                // Knuth's generator of the MMIX.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let noise = (state >> 40) as f64 / f64::from(1 << 23) - 1.0;
                let at = f64::from(index) / 12_000.0;
                let tones = lines
                    .iter()
                    .map(|(hz, height)| height * (TAU * hz * at + hz).sin());
                (tones.sum::<f64>() + noise) as f32
            })
            .collect();
        let mut demodulator = Demodulator::new();
        demodulator.demodulate(&samples, 0.0, 4_687, 1_000, 340);
        let spectra = Spectra {
            plain: (&demodulator.plain(), 0.5),
            envelope: (demodulator.magnitudes(), 0.5),
        };
        let read = refine(
            &spectra,
            &"6205".parse().unwrap(),
            ShaftSpeed::declared(30.0, 0.03),
        )?;
        assert_eq!((read.tolerance, read.source), (REFINED, SpeedSource::Estimated));
        Some(read.hz)
    }

    fn harmonics(hz: f64, numbers: &[f64], height: f64) -> Vec<(f64, f64)> {
        numbers.iter().map(|number| (number * hz, height)).collect()
    }

    #[test]
    fn the_harmonics_of_the_shaft_say_how_fast_it_turns() {
        for (hz, seed) in [(29.17, 1), (29.53, 2), (29.95, 3), (30.42, 4), (30.8, 5)] {
            let read = read(&harmonics(hz, &[1.0, 2.0, 3.0, 4.0, 5.0], 0.15), seed).unwrap();
            assert!((read / hz - 1.0).abs() < REFINED, "{hz}: {read}");
        }
    }

    #[test]
    fn noise_says_nothing_of_a_speed() {
        assert_eq!((0..40).filter_map(|seed| read(&[], seed)).count(), 0);
    }

    #[test]
    fn one_line_is_no_speed() {
        for (hz, seed) in [(29.5, 1), (59.0, 2), (88.5, 3)] {
            assert_eq!(read(&[(hz, 0.5)], seed), None, "{hz}");
        }
    }

    #[test]
    fn lines_of_something_twice_as_fast_are_none_of_the_shaft() {
        assert_eq!(read(&harmonics(60.0, &[1.0, 2.0, 3.0], 0.3), 1), None);
    }

    #[test]
    fn two_shafts_alike_leave_the_speed_unknown() {
        let mut lines = harmonics(29.4, &[1.0, 2.0, 3.0], 0.2);
        lines.extend(harmonics(30.5, &[1.0, 2.0, 3.0], 0.2));
        assert_eq!(read(&lines, 1), None);
    }
}
