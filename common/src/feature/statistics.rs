//! Statistics of one window in the time domain.
//!
//! Definitions follow ISO 20816-1:2016 (peak, peak-to-peak, RMS, crest factor) and R. B. Randall,
//! *Vibration-based Condition Monitoring*, 2nd ed. 2021, section 3.2 (moments). All are taken about
//! the mean: an accelerometer's bias and gravity are no vibration.

/// What the amplitudes of a window look like, whatever their order in time.
///
/// The moments are those of the window itself (division by the number of samples); they are not
/// corrected towards the moments of a population, which at the thousands of samples of a window
/// changes nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Statistics {
    /// Arithmetic mean, unit of the samples.
    pub mean: f32,
    /// Square root of the mean square about the mean, unit of the samples.
    pub rms: f32,
    /// Largest distance from the mean (true peak), unit of the samples.
    pub peak: f32,
    /// Largest minus smallest sample, unit of the samples.
    pub peak_to_peak: f32,
    /// Ratios of moments; a constant window has none.
    pub shape: Option<Shape>,
}

/// Dimensionless figures: they do not change with the sensor's sensitivity.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Peak over RMS: sqrt 2 for a sine, 1 for a square wave.
    pub crest_factor: f32,
    /// Fourth standardised moment minus 3: 0 for Gaussian noise, -1.5 for a sine, large for impacts.
    pub kurtosis_excess: f32,
    /// Third standardised moment: 0 for a symmetric distribution.
    pub skewness: f32,
}

/// Sums side by side, each of every 64th sample: no addition waits for the one before, and a processor takes as
/// many at once as it can.
const COLUMNS: usize = 64;

/// Rows of powers that are summed in f32, before the sums are added in f64.
const ROWS: usize = 64;

/// Samples beyond are no measurement, and their squares no numbers: any unit leaves room for a sensor's.
const LARGEST: f64 = 1e37;

/// The arithmetic mean in f64; NaN of no samples.
#[inline(always)]
pub fn mean(samples: &[f32]) -> f64 {
    let mut sums = [0f64; COLUMNS];
    for row in samples.chunks(COLUMNS) {
        for (sum, &sample) in sums.iter_mut().zip(row) {
            *sum += f64::from(sample);
        }
    }
    sums.iter().sum::<f64>() / samples.len() as f64
}

/// The lowest and the highest of samples, all of which are numbers.
#[inline(always)]
fn range(samples: &[f32]) -> (f32, f32) {
    // As the processor compares: `f32::min` also looks for what is not a number.
    let lower = |a: f32, b: f32| if a < b { a } else { b };
    let higher = |a: f32, b: f32| if a > b { a } else { b };
    let (mut lowest, mut highest) = ([f32::INFINITY; COLUMNS], [f32::NEG_INFINITY; COLUMNS]);
    for row in samples.chunks(COLUMNS) {
        for ((lowest, highest), &sample) in lowest.iter_mut().zip(&mut highest).zip(row) {
            *lowest = lower(sample, *lowest);
            *highest = higher(sample, *highest);
        }
    }
    (
        lowest.into_iter().fold(f32::INFINITY, lower),
        highest.into_iter().fold(f32::NEG_INFINITY, higher),
    )
}

/// Sums of the first to fourth powers of `(sample - origin) * scale`, each of which is 1 at most.
#[inline(always)]
fn powers(samples: &[f32], origin: f32, scale: f32) -> [f64; 4] {
    let mut all = [0.0; 4];
    for block in samples.chunks(ROWS * COLUMNS) {
        let [mut first, mut second, mut third, mut fourth] = [[0f32; COLUMNS]; 4];
        for row in block.chunks(COLUMNS) {
            let odd = first.iter_mut().zip(&mut third);
            let even = second.iter_mut().zip(&mut fourth);
            for ((sample, (first, third)), (second, fourth)) in row.iter().zip(odd).zip(even) {
                let deviation = (sample - origin) * scale;
                let square = deviation * deviation;
                *first += deviation;
                *second += square;
                *third += square * deviation;
                *fourth += square * square;
            }
        }
        for (all, columns) in all.iter_mut().zip([first, second, third, fourth]) {
            *all += columns.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        }
    }
    all
}

impl Statistics {
    /// The statistics of `samples`; `None` when there are none, or one is not finite or beyond 10^37.
    ///
    /// Two passes: one pass over raw powers cancels badly when the mean is large against the vibration, as with
    /// a sensor that also sees gravity. The powers are of what is left beside the mean, in parts of the peak, so
    /// that f32 holds them in whatever unit, and most of the work is in f32: a microcontroller has nothing else.
    #[inline(always)]
    pub fn of(samples: &[f32]) -> Option<Self> {
        let mean = mean(samples);
        let (lowest, highest) = range(samples);
        let (above, below) = (f64::from(highest) - mean, mean - f64::from(lowest));
        let peak = above.max(below);
        let is_measured = libm::fabs(mean) + peak <= LARGEST;
        if !is_measured {
            return None;
        }
        let size = peak.max(1.0 / LARGEST);
        let count = samples.len() as f64;
        let powers = powers(samples, mean as f32, (1.0 / size) as f32);
        let [first, second, third, fourth] = powers.map(|sum| sum / count);
        // Moments about the mean from those about its f32, which lies `first` below it.
        let variance = (second - first * first).max(0.0);
        let fourth = fourth - first * (4.0 * third - first * (6.0 * second - 3.0 * first * first));
        let third = third - first * (3.0 * second - 2.0 * first * first);
        let rms = libm::sqrt(variance);
        // Rounding of the mean leaves a constant window a variance of about (mean x 2^-53)^2.
        let constant = rms * size <= libm::fabs(mean) * 1e-12;
        Some(Self {
            mean: mean as f32,
            rms: (rms * size) as f32,
            peak: peak as f32,
            peak_to_peak: (above + below) as f32,
            shape: (!constant).then(|| Shape {
                crest_factor: (peak / size / rms) as f32,
                kurtosis_excess: (fourth / (variance * variance) - 3.0) as f32,
                skewness: (third / (variance * rms)) as f32,
            }),
        })
    }
}

/// The statistics of samples that come one by one and are not kept: what a node can afford.
///
/// The sums are taken about the first sample instead of the mean, which is not known yet. That takes away
/// the bias of the sensor, so that little cancels when they are moved to the mean at the end.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Accumulator {
    count: u32,
    pivot: f32,
    /// Of the first to fourth powers of the distances from the pivot.
    sums: [f64; 4],
    lowest: f64,
    highest: f64,
}

impl Accumulator {
    /// Takes the next sample, which must be finite: a gap begins another window.
    pub fn push(&mut self, sample: f32) {
        if self.count == 0 {
            *self = Self {
                pivot: sample,
                ..Self::default()
            };
        }
        let distance = f64::from(sample) - f64::from(self.pivot);
        let square = distance * distance;
        let powers = [distance, square, square * distance, square * square];
        for (sum, power) in self.sums.iter_mut().zip(powers) {
            *sum += power;
        }
        self.lowest = self.lowest.min(distance);
        self.highest = self.highest.max(distance);
        self.count += 1;
    }

    /// Samples taken.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The statistics of everything taken; `None` when that is nothing.
    pub fn statistics(&self) -> Option<Statistics> {
        if self.count == 0 {
            return None;
        }
        let [first, second, third, fourth] = self.sums.map(|sum| sum / f64::from(self.count));
        // Moments about the mean from moments about the pivot, which lies `first` below it.
        let variance = (second - first * first).max(0.0);
        let third_central = third - 3.0 * first * second + 2.0 * first * first * first;
        let fourth_central =
            fourth - 4.0 * first * third + 6.0 * first * first * second - 3.0 * first * first * first * first;
        let rms = libm::sqrt(variance);
        let mean = f64::from(self.pivot) + first;
        let peak = (self.highest - first).max(first - self.lowest);
        // What the subtraction above leaves of a window without vibration.
        let constant = rms <= 1e-7 * libm::fabs(first).max(1e-5 * libm::fabs(mean));
        Some(Statistics {
            mean: mean as f32,
            rms: rms as f32,
            peak: peak as f32,
            peak_to_peak: (self.highest - self.lowest) as f32,
            shape: (!constant).then(|| Shape {
                crest_factor: (peak / rms) as f32,
                kurtosis_excess: (fourth_central / (variance * variance) - 3.0) as f32,
                skewness: (third_central / (variance * rms)) as f32,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f32, expected: f64) {
        let tolerance = 1e-5 * expected.abs().max(1e-2);
        assert!(
            (f64::from(got) - expected).abs() <= tolerance,
            "{got} is not {expected}"
        );
    }

    #[test]
    fn a_sine_has_the_moments_of_a_sine() {
        let samples: Vec<f32> = (0..1000)
            .map(|i| (2.0 + 3.0 * (f64::from(i) * core::f64::consts::TAU / 100.0).sin()) as f32)
            .collect();
        let found = Statistics::of(&samples).unwrap();
        let shape = found.shape.unwrap();
        close(found.mean, 2.0);
        close(found.rms, 3.0 / 2f64.sqrt());
        close(found.peak, 3.0);
        close(found.peak_to_peak, 6.0);
        close(shape.crest_factor, 2f64.sqrt());
        close(shape.kurtosis_excess, -1.5);
        close(shape.skewness, 0.0);
    }

    /// scipy.stats 1.17.1: `skew([1, 2, 4, 8, 16])`, `kurtosis(..)`, numpy `std(..)`.
    #[test]
    fn moments_agree_with_an_independent_implementation() {
        let found = Statistics::of(&[1.0, 2.0, 4.0, 8.0, 16.0]).unwrap();
        let shape = found.shape.unwrap();
        close(found.mean, 6.2);
        close(found.rms, 5.455272678794343);
        close(found.peak, 9.8);
        close(found.peak_to_peak, 15.0);
        close(shape.skewness, 0.8890481348169542);
        close(shape.kurtosis_excess, -0.6740591397849474);
    }

    #[test]
    fn a_large_bias_does_not_drown_a_small_vibration() {
        let samples: Vec<f32> = (0..256)
            .map(|i| if i % 2 == 0 { 1024.125 } else { 1023.875 })
            .collect();
        let found = Statistics::of(&samples).unwrap();
        close(found.rms, 0.125);
        close(found.shape.unwrap().crest_factor, 1.0);
    }

    #[test]
    fn a_constant_window_has_no_shape() {
        let found = Statistics::of(&[0.1; 1000]).unwrap();
        assert_eq!(found.shape, None);
        assert_eq!(found.peak_to_peak, 0.0);
    }

    #[test]
    fn the_unit_does_not_matter() {
        let wave = |scale: f32| -> Vec<f32> {
            let value = |i: u16| f32::from(i.wrapping_mul(40_503) >> 8) - 100.0;
            (0..1_000).map(|i| scale * value(i)).collect()
        };
        let one = Statistics::of(&wave(1.0)).unwrap();
        for scale in [1e-30, 1e-12, 1e12, 1e34] {
            let found = Statistics::of(&wave(scale)).unwrap();
            let shape = (found.shape.unwrap(), one.shape.unwrap());
            close(found.rms / scale, one.rms.into());
            close(found.peak / scale, one.peak.into());
            close(shape.0.crest_factor, shape.1.crest_factor.into());
            close(shape.0.kurtosis_excess, shape.1.kurtosis_excess.into());
            close(shape.0.skewness, shape.1.skewness.into());
        }
        assert_eq!(Statistics::of(&wave(1e36)), None, "beyond what is measured");
    }

    #[test]
    fn nothing_is_said_about_no_samples_or_missing_ones() {
        assert_eq!(Statistics::of(&[]), None);
        assert_eq!(Statistics::of(&[1.0, f32::NAN]), None);
        assert_eq!(Statistics::of(&[1.0, f32::INFINITY]), None);
    }

    fn one_by_one(samples: &[f32]) -> Option<Statistics> {
        let mut accumulator = Accumulator::default();
        samples.iter().for_each(|sample| accumulator.push(*sample));
        assert_eq!(accumulator.count() as usize, samples.len());
        accumulator.statistics()
    }

    #[test]
    fn samples_one_by_one_have_the_statistics_of_the_whole() {
        // Gravity and an impact now and then, on a vibration of a thousandth of it; the first sample is
        // the very impact, which is the worst pivot there is.
        for spacing in [7, 97] {
            let samples: Vec<f32> = (0..4_096u32)
                .map(|i| {
                    let noise = (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 4_096.0 - 0.5;
                    let impact = if i % spacing == 0 { 0.5 } else { 0.0 };
                    1.0 + 0.002 * noise + impact
                })
                .collect();
            let (whole, streamed) = (Statistics::of(&samples).unwrap(), one_by_one(&samples).unwrap());
            close(streamed.mean, whole.mean.into());
            close(streamed.rms, whole.rms.into());
            close(streamed.peak, whole.peak.into());
            close(streamed.peak_to_peak, whole.peak_to_peak.into());
            let (whole, streamed) = (whole.shape.unwrap(), streamed.shape.unwrap());
            close(streamed.crest_factor, whole.crest_factor.into());
            close(streamed.kurtosis_excess, whole.kurtosis_excess.into());
            close(streamed.skewness, whole.skewness.into());
        }
    }

    #[test]
    fn a_constant_streamed_window_has_no_shape_and_none_is_said_of_nothing() {
        assert_eq!(one_by_one(&[]), None);
        let found = one_by_one(&[0.1; 1000]).unwrap();
        assert_eq!((found.shape, found.rms, found.mean), (None, 0.0, 0.1));
    }
}
