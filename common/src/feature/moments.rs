//! Statistics of samples that come in pieces: a few words of memory, whatever the order.

use super::statistics::{Shape, Statistics};

/// Sums of powers of samples, from which [`Statistics`] follow.
///
/// The powers are taken of the distance from the first sample, and not from zero: so the sums do not
/// cancel when the mean is large against the vibration, as with a sensor that also sees gravity. What
/// is left to cancel is at most the fourth power of the crest factor, of the 53 bits that a sum has.
/// Pieces are joined after P. Pebay, *Formulas for Robust, One-Pass Parallel Computation of Covariances
/// and Arbitrary-Order Statistical Moments* (SAND2008-6212), here by moving one's origin to the other's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moments {
    count: u32,
    origin: i16,
    /// Of the first to the fourth power.
    sums: [f64; 4],
    lowest: i16,
    highest: i16,
}

/// Sums over a piece of samples.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Sums {
    count: u32,
    /// Of the first to the fourth power of the distance from an origin.
    powers: [f64; 4],
    lowest: i16,
    highest: i16,
}

/// Sums side by side, so that one addition need not wait for the one before.
#[cfg(not(target_os = "none"))]
const LANES: usize = 4;

/// Samples that are summed up at a time, in few enough registers.
#[cfg(any(test, target_os = "none"))]
const PIECE: usize = 256;

impl Sums {
    /// In doubles, several at a time; none of no samples.
    #[cfg(not(target_os = "none"))]
    fn in_lanes(samples: impl Iterator<Item = i16>, origin: i16) -> Option<Self> {
        let mut sums = [[0.0; LANES]; 4];
        let (mut lowest, mut highest, mut count) = (i16::MAX, i16::MIN, 0u32);
        for (n, sample) in samples.enumerate() {
            let lane = n % LANES;
            let distance = f64::from(i32::from(sample) - i32::from(origin));
            let square = distance * distance;
            sums[0][lane] += distance;
            sums[1][lane] += square;
            sums[2][lane] += square * distance;
            sums[3][lane] += square * square;
            lowest = lowest.min(sample);
            highest = highest.max(sample);
            count = count.saturating_add(1);
        }
        (count > 0).then(|| Self {
            count,
            powers: sums.map(|lanes| lanes.iter().sum()),
            lowest,
            highest,
        })
    }

    /// In whole numbers: a processor without doubles emulates each of theirs with some fifty instructions, and
    /// multiplies 32 bits by 32 in one. Equal to [`Self::in_lanes`] up to that one's rounding.
    #[cfg(any(test, target_os = "none"))]
    fn in_integers(samples: &[i16], origin: i16) -> Option<Self> {
        let mut all = Self {
            count: 0,
            powers: [0.0; 4],
            lowest: i16::MAX,
            highest: i16::MIN,
        };
        for piece in samples.chunks(PIECE) {
            let (powers, lowest, highest) = Self::of_piece(piece, origin.into());
            all.count = all.count.saturating_add(piece.len() as u32);
            // Extremes of samples are samples.
            all.lowest = all.lowest.min(lowest as i16);
            all.highest = all.highest.max(highest as i16);
            for (sum, power) in all.powers.iter_mut().zip(powers) {
                *sum += power;
            }
        }
        (all.count > 0).then_some(all)
    }

    /// Sums of one piece of at most [`PIECE`] samples, and its extremes.
    #[cfg(any(test, target_os = "none"))]
    fn of_piece(piece: &[i16], origin: i32) -> ([f64; 4], i32, i32) {
        // At most 65,535, whose square still has 32 bits.
        let squared = |distance: i32| distance.unsigned_abs() * distance.unsigned_abs();
        // Two loops, each of whose sums fit a Cortex-M's registers.
        let (mut lowest, mut highest, mut first, mut second) = (i32::MAX, i32::MIN, 0_i32, 0_u64);
        for sample in piece.iter().map(|sample| i32::from(*sample)) {
            let distance = sample - origin;
            first += distance;
            second += u64::from(squared(distance));
            lowest = lowest.min(sample);
            highest = highest.max(sample);
        }
        // The upper and the lower halves of the fourth powers: whole, they would need 72 bits.
        let (mut third, mut upper, mut lower) = (0_i64, 0_u64, 0_u64);
        for distance in piece.iter().map(|sample| i32::from(*sample) - origin) {
            let square = squared(distance);
            third += i64::from(square) * i64::from(distance);
            let fourth = u64::from(square) * u64::from(square);
            upper += fourth >> 32;
            lower += fourth & u64::from(u32::MAX);
        }
        let fourth = upper as f64 * 4_294_967_296.0 + lower as f64;
        let powers = [f64::from(first), second as f64, third as f64, fourth];
        (powers, lowest, highest)
    }
}

impl Moments {
    /// Those of `samples`; `None` when there are none.
    #[cfg(not(target_os = "none"))]
    pub fn of(samples: impl Iterator<Item = i16>) -> Option<Self> {
        let mut samples = samples.peekable();
        let mut moments = Self::new(*samples.peek()?);
        moments.extend(samples);
        Some(moments)
    }

    /// Of no samples yet; `origin`, from which distances are taken, is near those to come: the first of them.
    pub const fn new(origin: i16) -> Self {
        Self {
            count: 0,
            origin,
            sums: [0.0; 4],
            lowest: origin,
            highest: origin,
        }
    }

    /// Adds samples. Of more than 2^32 in all, the rest is not counted.
    #[cfg(not(target_os = "none"))]
    pub fn extend(&mut self, samples: impl Iterator<Item = i16>) {
        if let Some(added) = Sums::in_lanes(samples, self.origin) {
            self.add(&added);
        }
    }

    /// The same of samples that lie side by side. Not generic, so that it is compiled as this crate is, and not as
    /// the image that calls it.
    pub fn extend_from_slice(&mut self, samples: &[i16]) {
        #[cfg(target_os = "none")]
        let added = Sums::in_integers(samples, self.origin);
        #[cfg(not(target_os = "none"))]
        let added = Sums::in_lanes(samples.iter().copied(), self.origin);
        if let Some(added) = added {
            self.add(&added);
        }
    }

    fn add(&mut self, added: &Sums) {
        for (sum, added) in self.sums.iter_mut().zip(added.powers) {
            *sum += added;
        }
        self.count = self.count.saturating_add(added.count);
        self.lowest = self.lowest.min(added.lowest);
        self.highest = self.highest.max(added.highest);
    }

    /// Adds the samples of another piece.
    pub fn join(&mut self, other: &Self) {
        let [s1, s2, s3, s4] = other.sums;
        let n = f64::from(other.count);
        let d = f64::from(i32::from(other.origin) - i32::from(self.origin));
        let moved = [
            s1 + n * d,
            s2 + d * (2.0 * s1 + n * d),
            s3 + d * (3.0 * s2 + d * (3.0 * s1 + n * d)),
            s4 + d * (4.0 * s3 + d * (6.0 * s2 + d * (4.0 * s1 + n * d))),
        ];
        for (sum, moved) in self.sums.iter_mut().zip(moved) {
            *sum += moved;
        }
        self.count = self.count.saturating_add(other.count);
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
    }

    /// How many samples went in.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The statistics, one least significant bit being worth `scale` of the channel's unit; `None` when
    /// the scale is not finite, or of no samples.
    pub fn statistics(&self, scale: f64) -> Option<Statistics> {
        if !scale.is_finite() || self.count == 0 {
            return None;
        }
        let n = f64::from(self.count);
        let [e1, e2, e3, e4] = self.sums.map(|sum| sum / n);
        // About the mean, which lies `e1` from the origin.
        let variance = (e2 - e1 * e1).max(0.0);
        let third = e3 - e1 * (3.0 * e2 - 2.0 * e1 * e1);
        let fourth = e4 - e1 * (4.0 * e3 - e1 * (6.0 * e2 - 3.0 * e1 * e1));
        let rms = libm::sqrt(variance);
        let mean = f64::from(self.origin) + e1;
        let (above, below) = (f64::from(self.highest) - mean, mean - f64::from(self.lowest));
        let peak = above.max(below);
        let size = libm::fabs(scale);
        Some(Statistics {
            mean: (mean * scale) as f32,
            rms: (rms * size) as f32,
            peak: (peak * size) as f32,
            peak_to_peak: ((above + below) * size) as f32,
            // Whole numbers that are all the same have a variance of exactly 0.
            shape: (variance > 0.0).then(|| Shape {
                crest_factor: (peak / rms) as f32,
                kurtosis_excess: (fourth / (variance * variance) - 3.0) as f32,
                skewness: (third / (variance * rms) * libm::copysign(1.0, scale)) as f32,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whole_numbers_and_doubles_come_to_the_same_sums(
            samples in prop::collection::vec(any::<i16>(), 0..3 * PIECE),
            origin in any::<i16>(),
        ) {
            let whole = Sums::in_integers(&samples, origin);
            let lanes = Sums::in_lanes(samples.iter().copied(), origin);
            prop_assert_eq!(whole.is_some(), lanes.is_some());
            let (Some(whole), Some(lanes)) = (whole, lanes) else {
                return Ok(());
            };
            prop_assert_eq!(
                (whole.count, whole.lowest, whole.highest, whole.powers[0], whole.powers[1]),
                (lanes.count, lanes.lowest, lanes.highest, lanes.powers[0], lanes.powers[1])
            );
            // Terms of the third power cancel; each is below 2^48.
            prop_assert!((whole.powers[2] - lanes.powers[2]).abs() <= 2f64.powi(48) * 1e-9);
            prop_assert!((whole.powers[3] - lanes.powers[3]).abs() <= 1e-12 * whole.powers[3]);
        }
    }

    #[test]
    fn the_farthest_distances_fit_the_whole_sums() {
        for origin in [i16::MIN, i16::MAX] {
            let samples = [-1 - origin; 2 * PIECE + 1];
            let whole = Sums::in_integers(&samples, origin).unwrap();
            let lanes = Sums::in_lanes(samples.into_iter(), origin).unwrap();
            assert_eq!(whole.count, lanes.count);
            for (whole, lanes) in whole.powers.into_iter().zip(lanes.powers) {
                assert!(
                    (whole - lanes).abs() <= 1e-12 * whole.abs(),
                    "{whole} is not {lanes}"
                );
            }
        }
    }

    /// The statistics of the same samples, all at once and in two passes.
    fn at_once(samples: &[i16], scale: f32) -> Statistics {
        let scaled: Vec<f32> = samples.iter().map(|&sample| f32::from(sample) * scale).collect();
        Statistics::of(&scaled).unwrap()
    }

    fn check(moments: &Moments, samples: &[i16], scale: f32) {
        let got = moments.statistics(f64::from(scale)).unwrap();
        let expected = at_once(samples, scale);
        let largest = f64::from(scale.abs()) * 32_768.0;
        let close = |got: f32, expected: f32, size: f64| {
            let error = (f64::from(got) - f64::from(expected)).abs();
            assert!(
                error <= 1e-5 * size.max(f64::from(expected).abs()),
                "{got} is not {expected}"
            );
        };
        close(got.mean, expected.mean, largest);
        close(got.rms, expected.rms, 0.0);
        close(got.peak, expected.peak, largest);
        close(got.peak_to_peak, expected.peak_to_peak, largest);
        assert_eq!(got.shape.is_some(), expected.shape.is_some());
        if let (Some(got), Some(expected)) = (got.shape, expected.shape) {
            close(got.crest_factor, expected.crest_factor, 1.0);
            close(got.skewness, expected.skewness, 1.0);
            close(got.kurtosis_excess, expected.kurtosis_excess, 1.0);
        }
    }

    #[test]
    fn a_small_vibration_on_a_large_bias_is_seen() {
        let samples: Vec<i16> = (0..4_096).map(|n| 32_000 + (n % 2) * 2).collect();
        let found = Moments::of(samples.iter().copied())
            .unwrap()
            .statistics(1.0)
            .unwrap();
        assert_eq!((found.mean, found.rms, found.peak), (32_001.0, 1.0, 1.0));
        assert_eq!(found.shape.unwrap().crest_factor, 1.0);
    }

    #[test]
    fn of_equal_samples_there_is_no_shape_and_of_none_nothing() {
        let found = Moments::of([7; 100].into_iter()).unwrap();
        assert_eq!(found.statistics(0.5).unwrap().shape, None);
        assert_eq!(found.statistics(0.5).unwrap().mean, 3.5);
        assert_eq!(found.statistics(f64::NAN), None);
        assert_eq!(Moments::of(std::iter::empty()), None);
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let samples: Vec<i16> = (0..200_000)
            .map(|n| if n % 2 == 0 { i16::MIN } else { i16::MAX })
            .collect();
        let moments = Moments::of(samples.iter().copied()).unwrap();
        check(&moments, &samples, 0.25);
    }

    proptest! {
        /// However samples are cut into pieces, and in whatever order the pieces are joined: the
        /// statistics are those of all of them at once.
        #[test]
        fn pieces_tell_what_the_whole_tells(
            samples in prop::collection::vec(-3_000i16..3_000, 8..400),
            bias in -29_000i16..29_000,
            cuts in prop::collection::vec(1usize..40, 1..40),
            backwards in any::<bool>(),
        ) {
            let samples: Vec<i16> = samples.iter().map(|sample| sample + bias).collect();
            let (mut rest, mut pieces) = (&samples[..], Vec::new());
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.extend(Moments::of(piece.iter().copied()));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            if backwards {
                pieces.reverse();
            }
            let mut whole = pieces[0];
            pieces[1..].iter().for_each(|piece| whole.join(piece));
            prop_assert_eq!(whole.count() as usize, samples.len());
            // A power of two: scaling rounds nothing.
            check(&whole, &samples, 1.0 / 1_024.0);
        }
    }
}
