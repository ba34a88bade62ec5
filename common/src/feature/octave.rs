//! Energy of the octaves below half the sampling rate, sample by sample.
//!
//! A half-band filter parts the signal at a quarter of its rate. The upper half is the highest octave; the lower half
//! goes on at half the rate to the next filter. So each octave costs half of the one above, and all of them less than
//! two of the highest. A filter is a fifth-order Butterworth made of two all-pass sections, each of which sees every
//! second sample (P. A. Regalia, S. K. Mitra, P. P. Vaidyanathan, "The digital all-pass filter: a versatile signal
//! processing building block", *Proc. IEEE* 76, 1988): two multiplications a sample, and as the two halves are power
//! complementary, no power is lost or told twice. A sine at the edge of an octave is told in both, with 0.71 of its
//! height in each.

use super::mean_square::MeanSquare;

/// Octaves that are told: from a thirty-second of the sampling rate up to half of it.
pub const OCTAVES: usize = 4;

/// tan^2(pi/10) and tan^2(pi/5): squares of the poles of a fifth-order Butterworth filter at a quarter of the sampling
/// rate, which lie on the imaginary axis.
const POLES: [f32; 2] = [0.105_572_81, 0.527_864_04];

/// Samples after which every filter has seen whole pairs.
const STEP: usize = 1 << OCTAVES;

/// So many times that are taken at once: half a KiB of the stack.
const STEPS_MAX: usize = 4;

/// Powers of the octaves of one channel.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Octaves {
    /// The highest octave first.
    splits: [Split; OCTAVES],
}

/// One half-band filter and the power above it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Split {
    /// The first sample of a pair.
    held: Option<f32>,
    sections: [AllPass; 2],
    upper: MeanSquare,
}

/// (a + 1/z) / (1 + a/z).
#[derive(Clone, Copy, PartialEq, Debug)]
struct AllPass {
    last_in: f32,
    last_out: f32,
}

impl AllPass {
    #[inline]
    fn step(&mut self, pole: f32, sample: f32) -> f32 {
        self.last_out = pole * (sample - self.last_out) + self.last_in;
        self.last_in = sample;
        self.last_out
    }
}

impl Split {
    /// Takes pairs of samples, and gives what is below the filter.
    fn take(&mut self, samples: &[f32], lower: &mut [f32]) {
        let [mut direct, mut delayed] = self.sections;
        let mut squares = 0.0;
        let mut pairs = 0;
        for (pair, lower) in samples.as_chunks::<2>().0.iter().zip(lower) {
            let [first, second] = *pair;
            let (of_second, of_first) = (direct.step(POLES[0], second), delayed.step(POLES[1], first));
            let upper = 0.5 * (of_second - of_first);
            squares += upper * upper;
            *lower = 0.5 * (of_second + of_first);
            pairs += 1;
        }
        self.sections = [direct, delayed];
        self.upper.push_squares(squares, pairs);
    }
}

impl Octaves {
    /// The edges of an octave, the lowest first, in Hz at `rate_hz`.
    pub fn edges_hz(octave: usize, rate_hz: f64) -> (f64, f64) {
        let low = rate_hz / f64::from(1_u32 << (OCTAVES + 1 - octave.min(OCTAVES - 1)));
        (low, 2.0 * low)
    }

    /// Begins as if the signal had always stood at `first`: a bias and gravity leave nothing.
    pub fn new(first: f32) -> Self {
        let section = AllPass {
            last_in: first,
            last_out: first,
        };
        Self {
            splits: [Split {
                held: None,
                sections: [section; 2],
                upper: MeanSquare::default(),
            }; OCTAVES],
        }
    }

    /// Takes the next samples, less `origin`: as [`Self::push`] takes each, but as many at a time as let every filter
    /// see whole pairs, so that its state stays in registers.
    pub fn extend(&mut self, samples: &[i16], origin: i32) {
        let distance = |sample: &i16| (i32::from(*sample) - origin) as f32;
        let mut rest = samples;
        while let Some((first, later)) = rest.split_first()
            && self.splits.iter().any(|split| split.held.is_some())
        {
            self.push(distance(first));
            rest = later;
        }
        while rest.len() >= STEP {
            let (now, later) = rest.split_at(rest.len().min(STEPS_MAX * STEP) / STEP * STEP);
            let (mut from, mut to) = ([0.0; STEPS_MAX * STEP], [0.0; STEPS_MAX * STEP]);
            for (slot, sample) in from.iter_mut().zip(now) {
                *slot = distance(sample);
            }
            self.take(&mut from, &mut to, now.len());
            rest = later;
        }
        rest.iter().for_each(|sample| self.push(distance(sample)));
    }

    /// Takes the first samples of one piece of memory, by turns with the other.
    fn take<'m>(&mut self, mut from: &'m mut [f32], mut to: &'m mut [f32], mut samples: usize) {
        for split in &mut self.splits {
            split.take(from.get(..samples).unwrap_or_default(), to);
            core::mem::swap(&mut from, &mut to);
            samples /= 2;
        }
    }

    /// Takes the next sample, which must be finite.
    #[inline]
    pub fn push(&mut self, mut sample: f32) {
        for split in &mut self.splits {
            let Some(first) = split.held.take() else {
                split.held = Some(sample);
                return;
            };
            let [direct, delayed] = &mut split.sections;
            let (direct, delayed) = (direct.step(POLES[0], sample), delayed.step(POLES[1], first));
            split.upper.push(0.5 * (direct - delayed));
            sample = 0.5 * (direct + delayed);
        }
    }

    /// Begins the next stretch; the filters go on.
    pub fn restart(&mut self) {
        for split in &mut self.splits {
            split.upper = MeanSquare::default();
        }
    }

    /// Root mean square of each octave, the lowest first, in the unit of the samples; none in a stretch too short for
    /// it: 32 samples give the lowest octave one value.
    pub fn rms(&self) -> [Option<f32>; OCTAVES] {
        let mut rms = self.splits.map(|split| split.upper.rms());
        rms.reverse();
        rms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::TAU;

    /// What is told of a sine of RMS 1 on a bias, at a share of the sampling rate.
    fn told(share: f64, bias: f32) -> [f32; OCTAVES] {
        let sample = |index: u32| bias + (2f64.sqrt() * (TAU * share * f64::from(index) + 0.3).sin()) as f32;
        let mut octaves = Octaves::new(sample(0));
        (0..4_096).for_each(|index| octaves.push(sample(index)));
        octaves.restart();
        (4_096..20_480).for_each(|index| octaves.push(sample(index)));
        octaves.rms().map(Option::unwrap)
    }

    #[test]
    fn a_sine_is_told_in_its_octave_and_in_no_other() {
        for octave in 0..OCTAVES {
            let (low, high) = Octaves::edges_hz(octave, 1.0);
            let found = told((low * high).sqrt() * 1.01, 0.0);
            assert!((found[octave] - 1.0).abs() < 0.02, "{octave}: {found:?}");
            for other in (0..OCTAVES).filter(|other| *other != octave) {
                assert!(found[other] < 0.2, "{octave} in {other}: {found:?}");
            }
        }
        assert!(
            told(0.002, 0.0).iter().all(|rms| *rms < 1e-3),
            "below all of them"
        );
    }

    #[test]
    fn at_the_edge_of_two_octaves_each_has_half_of_the_power() {
        for octave in 1..OCTAVES {
            let found = told(Octaves::edges_hz(octave, 1.0).0 * 1.003, 0.0);
            for each in [octave - 1, octave] {
                assert!((found[each] - 0.707).abs() < 0.02, "{found:?}");
            }
        }
    }

    #[test]
    fn no_power_is_lost_or_told_twice() {
        // Noise of a linear congruential generator (Knuth, MMIX); a sixteenth of it lies below the lowest octave.
        let mut state = 1_u64;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut octaves = Octaves::new(0.0);
        let mut whole = MeanSquare::default();
        for _ in 0..1 << 18 {
            let sample = noise();
            octaves.push(sample);
            whole.push(sample);
        }
        let power: f32 = octaves.rms().into_iter().flatten().map(|rms| rms * rms).sum();
        let expected = whole.rms().unwrap().powi(2) * 15.0 / 16.0;
        assert!((power / expected - 1.0).abs() < 0.02, "{power} is not {expected}");
    }

    #[test]
    fn gravity_leaves_nothing_from_the_first_sample_on() {
        let mut octaves = Octaves::new(1.0);
        (0..64).for_each(|_| octaves.push(1.0));
        assert!(
            octaves.rms().iter().all(|rms| rms.unwrap() < 1e-6),
            "{:?}",
            octaves.rms()
        );
        assert!(told(0.3, 100.0)[0] < 1e-3);
    }

    #[test]
    fn samples_in_pieces_of_any_length_tell_what_they_tell_one_by_one() {
        let samples: std::vec::Vec<i16> = (0..1_000).map(|index| (index * 7_919 % 1_009) as i16).collect();
        let mut expected = Octaves::new(0.0);
        for sample in &samples {
            expected.push(f32::from(sample - 500));
        }
        for piece in [1, 2, 15, 16, 17, 63, 333, 1_000] {
            let mut octaves = Octaves::new(0.0);
            for samples in samples.chunks(piece) {
                octaves.extend(samples, 500);
            }
            for (found, expected) in octaves.rms().into_iter().zip(expected.rms()) {
                let (found, expected) = (found.unwrap(), expected.unwrap());
                assert!(
                    (found - expected).abs() < 1e-6 * expected,
                    "{piece}: {found} is not {expected}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_told_of_a_stretch_that_is_too_short() {
        let mut octaves = Octaves::new(0.0);
        octaves.push(0.0);
        assert_eq!(octaves.rms(), [None; OCTAVES]);
        octaves.push(0.0);
        assert_eq!(octaves.rms(), [None, None, None, Some(0.0)]);
    }
}
