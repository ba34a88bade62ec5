//! The spectrum of a window's squared envelope, as far up as the search looks.
//!
//! [`trunnion_common::feature::envelope`] defines it; here it takes a third of the time, and a test holds
//! the one against the other:
//!
//! - The whitened lines go back to time as one complex signal, not as two real ones, and at as many points as
//!   keep the wanted lines of its square free of those that wrap around: the band and the wanted lines above
//!   it, where the samples themselves are more than twice the band.
//! - A search looks at the lowest tenth of the envelope's lines. The others are removed before the envelope
//!   is weighted and padded, and a tenth of the points carries what is left.

use super::kurtogram;
use realfft::RealFftPlanner;
use rustfft::FftPlanner;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use trunnion_common::feature::envelope::{Complex32, hann};

/// Lengths of transforms kept planned, some 100 kB each; one more drops them all. Each sampling rate has
/// one of its own, and all of them share the others.
const LENGTHS_MAX: usize = 64;

/// Lines kept above the wanted ones: where the spectrum is cut, the Hann window's side lobes have fallen
/// below a millionth.
const MARGIN: usize = 64;

/// Points of the envelope at least: the fewer there are, the more a line leans on its neighbours beyond the
/// Hann window's own width; a millionth here.
const POINTS_MIN: usize = 1_024;

/// Transforms, and the buffers between them.
pub(super) struct Demodulator {
    real: RealFftPlanner<f32>,
    complex: FftPlanner<f32>,
    planned: BTreeSet<usize>,
    weights: BTreeMap<usize, Vec<f32>>,
    samples: Vec<f32>,
    lines: Vec<Complex32>,
    /// The whitened lines that were demodulated last, and their sum in time.
    whitened: Vec<Complex32>,
    analytic: Vec<Complex32>,
    scratch: Vec<Complex32>,
    magnitudes: Vec<f32>,
    /// Of what was demodulated last: the lowest lines of the samples, and the samples of the envelope.
    lowest: Vec<Complex32>,
    envelope: Vec<f32>,
    /// How many lines were demodulated last, of all in `whitened`.
    band: usize,
}

/// A band that was chosen out of the one that was demodulated.
pub(super) struct Selected {
    /// Its lines, counted as those of the window.
    pub(super) lines: Range<usize>,
    /// How impulsive it is ([`kurtogram`]).
    pub(super) kurtosis: f32,
    /// The spectrum of its squared envelope, as [`Demodulator::magnitudes`].
    pub(super) magnitudes: Vec<f32>,
}

impl Demodulator {
    pub(super) fn new() -> Self {
        Self {
            real: RealFftPlanner::new(),
            complex: FftPlanner::new(),
            planned: BTreeSet::new(),
            weights: BTreeMap::new(),
            samples: Vec::new(),
            lines: Vec::new(),
            whitened: Vec::new(),
            analytic: Vec::new(),
            scratch: Vec::new(),
            magnitudes: Vec::new(),
            lowest: Vec::new(),
            envelope: Vec::new(),
            band: 0,
        }
    }

    /// Computes [`Self::magnitudes`] from 0 up to `wanted` lines of the envelope's spectrum.
    ///
    /// Lines 1 to `band` of the window are demodulated, which has an even number of samples; one that is missing
    /// counts as their `mean`. So many of its `lowest` lines are kept for [`Self::plain`].
    pub(super) fn demodulate(
        &mut self,
        window: &[f32],
        mean: f32,
        band: usize,
        wanted: usize,
        lowest: usize,
    ) {
        self.samples.resize(window.len(), 0.0);
        for (out, sample) in self.samples.iter_mut().zip(window) {
            *out = if sample.is_finite() { sample - mean } else { 0.0 };
        }
        self.forward();
        self.lowest.clear();
        self.lowest.extend(self.lines.iter().take(lowest + MARGIN));
        // The line at half the rate has no phase to keep.
        let band = band.min(self.lines.len().saturating_sub(2));
        self.band = band;
        // Lines of the square lie as far up as two lines of the band lie apart.
        let kept = (wanted + MARGIN).min(band);
        self.whiten(band, easy_length(band + kept + 1));
        self.square_analytic();
        self.envelope_of(kept);
        self.envelope.clone_from(&self.samples);
        self.magnitudes = self.spectrum_of_envelope(wanted);
    }

    /// The most impulsive band of what was demodulated last, of at least `narrowest` lines, and as many lines of its
    /// envelope's spectrum as [`Self::demodulate`] was asked for; none where none stands out.
    pub(super) fn select(&mut self, narrowest: usize, wanted: usize) -> Option<Selected> {
        let whole = std::mem::take(&mut self.whitened);
        let lines = whole.get(1..=self.band).unwrap_or_default();
        let found = kurtogram::select(lines, narrowest, |band| self.sum_in_time(band));
        let selected = found.map(|found| {
            let kept = (wanted + MARGIN).min(found.lines.len());
            // Where a band begins is of no matter to the magnitude of its envelope.
            self.whitened.extend_from_slice(&lines[found.lines.clone()]);
            let points = easy_length(found.lines.len() + kept + 1);
            self.whitened.resize(points, Complex32::default());
            self.square_analytic();
            self.envelope_of(kept);
            Selected {
                lines: found.lines.start + 1..found.lines.end + 1,
                kurtosis: found.kurtosis,
                magnitudes: self.spectrum_of_envelope(wanted.min(kept)),
            }
        });
        self.whitened = whole;
        selected
    }

    /// Magnitudes of the envelope's spectrum, two to a line, in no unit.
    pub(super) fn magnitudes(&self) -> &[f32] {
        &self.magnitudes
    }

    /// The spectrum under the Hann window of the samples themselves, as far as it was kept: two magnitudes to a line,
    /// in no unit.
    ///
    /// The window is applied to the lines, where it is short: half of a line and a quarter of either neighbour, and
    /// between two lines its transform sin(pi x) / (pi x (1 - x^2)), of which four on either side hold all but a
    /// thousandth (F. J. Harris, "On the use of windows for harmonic analysis", Proc. IEEE 66 (1978), section V).
    pub(super) fn plain(&self) -> Vec<f32> {
        const BETWEEN: [f32; 4] = [0.424_413, -0.084_883, -0.012_126, -0.004_042];
        let line = |index: isize| {
            // Lines below 0 Hz are those above, conjugate.
            let found = self.lowest.get(index.unsigned_abs()).copied().unwrap_or_default();
            if index < 0 { found.conj() } else { found }
        };
        let wanted = self.lowest.len().saturating_sub(MARGIN);
        let at = |index: isize| line(index) * 0.5 - (line(index - 1) + line(index + 1)) * 0.25;
        let behind = |index: isize| {
            let taps = (0..).zip(BETWEEN);
            taps.map(|(reach, tap)| (line(index - reach) - line(index + 1 + reach)) * tap)
                .sum::<Complex32>()
        };
        (0..wanted as isize)
            .flat_map(|index| [at(index), behind(index)])
            .map(|line| line.norm_sqr().sqrt())
            .collect()
    }

    /// Magnitudes of the spectra of the first and of the second half of the envelope that was demodulated last, by
    /// line from 0 Hz, as far apart as the lines of the whole; so many of them.
    pub(super) fn halves(&mut self, wanted: usize) -> [Vec<f32>; 2] {
        let envelope = std::mem::take(&mut self.envelope);
        let (first, second) = envelope.split_at(envelope.len() / 2);
        let halves = [first, second].map(|half| {
            self.samples.clear();
            self.samples.extend_from_slice(half);
            self.pad();
            self.forward();
            let lines = self.lines.iter().take(wanted);
            lines.map(|line| line.norm_sqr().sqrt()).collect()
        });
        self.envelope = envelope;
        halves
    }

    /// From `samples` to `lines`; the samples are gone then.
    fn forward(&mut self) {
        self.note(self.samples.len());
        let transform = self.real.plan_fft_forward(self.samples.len());
        self.lines
            .resize(self.samples.len() / 2 + 1, Complex32::default());
        self.scratch
            .resize(transform.get_scratch_len(), Complex32::default());
        transform
            .process_with_scratch(&mut self.samples, &mut self.lines, &mut self.scratch)
            .expect("the buffers were made for this plan");
    }

    /// The lines 1 to `band`, each with its phase and the magnitude 1, as lines of so many `points`: all others 0.
    fn whiten(&mut self, band: usize, points: usize) {
        self.whitened.clear();
        self.whitened.resize(points, Complex32::default());
        let (out, lines) = (&mut self.whitened[1..=band], &self.lines[1..=band]);
        for (out, line) in out.iter_mut().zip(lines) {
            let power = line.norm_sqr();
            // Computed for each, and chosen afterwards: then several lines are worked on at once.
            let gain = 1.0 / power.max(f32::MIN_POSITIVE).sqrt();
            *out = line * if power > f32::MIN_POSITIVE { gain } else { 0.0 };
        }
    }

    /// From the whitened lines to their sum in time, and the square of that in `samples`.
    fn square_analytic(&mut self) {
        let points = self.whitened.len();
        self.note(points);
        let transform = self.complex.plan_fft_inverse(points);
        self.scratch
            .resize(transform.get_immutable_scratch_len(), Complex32::default());
        self.analytic.resize(points, Complex32::default());
        transform.process_immutable_with_scratch(&self.whitened, &mut self.analytic, &mut self.scratch);
        self.samples.resize(points, 0.0);
        for (square, value) in self.samples.iter_mut().zip(&self.analytic) {
            *square = value.norm_sqr();
        }
    }

    /// From the squared envelope in `samples` to the part of it that moves no faster than so many lines, at fewer
    /// points.
    fn envelope_of(&mut self, kept: usize) {
        self.forward();
        self.shorten(kept, easy_length(2 * kept + 4).max(POINTS_MIN));
    }

    /// Magnitudes of the spectrum of the envelope in `samples`, which is gone then.
    fn spectrum_of_envelope(&mut self, wanted: usize) -> Vec<f32> {
        self.pad();
        self.forward();
        let lines = self.lines.iter().take(2 * wanted + 1);
        lines.map(|line| line.norm_sqr().sqrt()).collect()
    }

    /// From lines to their sum in time, at as many points or a few more.
    fn sum_in_time(&mut self, values: &mut Vec<Complex32>) {
        values.resize(easy_length(values.len()), Complex32::default());
        self.note(values.len());
        let transform = self.complex.plan_fft_inverse(values.len());
        self.scratch
            .resize(transform.get_inplace_scratch_len(), Complex32::default());
        transform.process_with_scratch(values, &mut self.scratch);
    }

    /// From the lines 1 to `kept` to so many samples: without a mean, and without what is above.
    fn shorten(&mut self, kept: usize, points: usize) {
        self.note(points);
        let transform = self.real.plan_fft_inverse(points);
        self.lines.truncate(kept + 1);
        self.lines[0] = Complex32::default();
        self.lines.resize(points / 2 + 1, Complex32::default());
        self.samples.resize(points, 0.0);
        self.scratch
            .resize(transform.get_scratch_len(), Complex32::default());
        transform
            .process_with_scratch(&mut self.lines, &mut self.samples, &mut self.scratch)
            .expect("the buffers were made for this plan, and the outermost lines are zero");
    }

    /// Weights the samples and puts as many zeros behind them: a line between two is not missed.
    fn pad(&mut self) {
        let points = self.samples.len();
        let weights = self.weights.entry(points).or_insert_with(|| {
            let mut weights = vec![0.0; points];
            hann(&mut weights);
            weights
        });
        for (sample, weight) in self.samples.iter_mut().zip(weights) {
            *sample *= *weight;
        }
        self.samples.resize(2 * points, 0.0);
    }

    /// A length that is about to be planned.
    fn note(&mut self, length: usize) {
        if self.planned.len() >= LENGTHS_MAX && !self.planned.contains(&length) {
            self.real = RealFftPlanner::new();
            self.complex = FftPlanner::new();
            self.planned.clear();
            self.weights.clear();
        }
        self.planned.insert(length);
    }
}

/// The shortest of a few lengths per octave, all of small prime factors, that holds so many points: at most
/// a quarter longer.
fn easy_length(points: usize) -> usize {
    (0..usize::BITS - 4)
        .flat_map(|octave| [8, 9, 10, 12, 15].map(|eighths| eighths << octave))
        .find(|&length| length >= points)
        .expect("no window holds a share of all the points that can be counted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::feature::envelope::{
        EnvelopeBuffers, RealFourier, envelope_spectrum, squared_envelope,
    };

    struct Defined(RealFftPlanner<f32>, usize);

    impl RealFourier for Defined {
        fn samples(&self) -> usize {
            self.1
        }

        fn forward(&mut self, signal: &mut [f32], spectrum: &mut [Complex32]) {
            self.0.plan_fft_forward(self.1).process(signal, spectrum).unwrap();
        }

        fn inverse(&mut self, spectrum: &mut [Complex32], signal: &mut [f32]) {
            self.0.plan_fft_inverse(self.1).process(spectrum, signal).unwrap();
        }
    }

    /// As it is defined.
    fn defined(mut signal: Vec<f32>, band: usize) -> Vec<f32> {
        let n = signal.len();
        let mut envelope = vec![0.0; n];
        squared_envelope(
            &mut Defined(RealFftPlanner::new(), n),
            1..=band,
            EnvelopeBuffers {
                signal: &mut signal,
                spectrum: &mut vec![Complex32::default(); n / 2 + 1],
                quadrature: &mut vec![Complex32::default(); n / 2 + 1],
                envelope: &mut envelope,
            },
        );
        let mut window = vec![0.0; n];
        hann(&mut window);
        let mut magnitudes = vec![0.0; n + 1];
        envelope_spectrum(
            &mut Defined(RealFftPlanner::new(), 2 * n),
            &envelope,
            &window,
            &mut vec![0.0; 2 * n],
            &mut vec![Complex32::default(); n + 1],
            &mut magnitudes,
        );
        magnitudes
    }

    /// Noise, and something that rings again and again.
    fn signal(samples: usize, strikes: f64) -> Vec<f32> {
        let mut state = 1u64;
        let mut signal: Vec<f32> = (0..samples)
            .map(|index| {
                // Knuth's generator of the MMIX.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let noise = (state >> 40) as f64 / f64::from(1 << 23) - 1.0;
                let since = (index as f64 * strikes / samples as f64).fract() * 40.0;
                (noise + 4.0 * (-since).exp() * (0.8 * index as f64).sin()) as f32
            })
            .collect();
        let mean = signal.iter().sum::<f32>() / samples as f32;
        signal.iter_mut().for_each(|sample| *sample -= mean);
        signal
    }

    #[test]
    fn it_is_the_spectrum_that_is_defined() {
        for (samples, band, wanted) in [
            (25_600, 10_000, 973),
            (25_600, 10_000, 5_000),
            (12_000, 4_687, 973),
            (48_000, 5_000, 100),
            (2_000, 781, 390),
        ] {
            let signal = signal(samples, 107.3);
            let defined = defined(signal.clone(), band);
            let mut demodulator = Demodulator::new();
            demodulator.demodulate(&signal, 0.0, band, wanted, 0);
            let magnitudes = demodulator.magnitudes();
            assert_eq!(magnitudes.len(), 2 * wanted + 1);
            // In no unit: one factor for all of them.
            let sum = |magnitudes: &[f32]| magnitudes.iter().map(|&it| f64::from(it)).sum::<f64>();
            let scale = sum(&defined[..=2 * wanted]) / sum(magnitudes);
            let mean = sum(&defined[..=2 * wanted]) / magnitudes.len() as f64;
            for (index, (got, expected)) in magnitudes.iter().zip(&defined).enumerate().skip(2) {
                let apart = (f64::from(*got) * scale - f64::from(*expected)).abs() / mean;
                assert!(
                    apart < 1e-4,
                    "{samples} samples, line {index}: {apart:e} of the mean apart"
                );
            }
        }
    }

    /// As it is defined: twice the window's length, half of it zeros.
    fn padded(signal: &[f32]) -> Vec<f32> {
        let n = signal.len();
        let mut weights = vec![0.0; n];
        hann(&mut weights);
        let mut padded: Vec<f32> = signal
            .iter()
            .zip(&weights)
            .map(|(sample, weight)| sample * weight)
            .collect();
        padded.resize(2 * n, 0.0);
        let mut lines = vec![Complex32::default(); n + 1];
        RealFftPlanner::new()
            .plan_fft_forward(2 * n)
            .process(&mut padded, &mut lines)
            .unwrap();
        lines.iter().map(|line| line.norm_sqr().sqrt()).collect()
    }

    /// Whether lines are those expected, whatever the unit, to a share of their mean.
    fn check(got: &[f32], expected: &[f32], allowed: f32, what: &str) {
        let mean = expected.iter().sum::<f32>() / expected.len() as f32;
        let scale = got[2..].iter().sum::<f32>() / expected[2..].iter().sum::<f32>();
        for (index, (got, expected)) in got.iter().zip(expected).enumerate().skip(2) {
            let apart = (got / scale - expected).abs() / mean;
            assert!(apart < allowed, "{what}, line {index}: {apart} of the mean apart");
        }
    }

    #[test]
    fn the_lowest_lines_are_those_of_the_samples() {
        let signal = signal(12_000, 107.3);
        let mut demodulator = Demodulator::new();
        demodulator.demodulate(&signal, 0.0, 4_687, 900, 400);
        let plain = demodulator.plain();
        assert_eq!(plain.len(), 800);
        check(&plain, &padded(&signal)[..800], 0.03, "whole");
    }

    #[test]
    fn halves_are_those_of_the_envelope() {
        let signal = signal(12_000, 107.3);
        let mut demodulator = Demodulator::new();
        demodulator.demodulate(&signal, 0.0, 4_687, 900, 0);
        let envelope = demodulator.envelope.clone();
        let halves = demodulator.halves(400);
        assert_eq!(demodulator.envelope, envelope, "they can be had again");
        for (half, samples) in halves.iter().zip(envelope.chunks(envelope.len() / 2)) {
            assert_eq!(half.len(), 400);
            check(half, &padded(samples)[..400], 1e-3, "half");
        }
    }

    #[test]
    fn what_it_was_used_for_before_leaves_no_trace() {
        let of = |demodulator: &mut Demodulator, samples: usize| {
            demodulator.demodulate(&signal(samples, 31.0), 0.0, samples / 3, 200, 0);
            demodulator.magnitudes().to_vec()
        };
        let mut used = Demodulator::new();
        for samples in (0..3 * LENGTHS_MAX).map(|n| 1_000 + 2 * n) {
            assert_eq!(
                of(&mut used, samples),
                of(&mut Demodulator::new(), samples),
                "{samples}"
            );
        }
        assert!(used.planned.len() <= LENGTHS_MAX);
    }

    #[test]
    fn a_few_lengths_serve_all() {
        assert_eq!(
            [1, 8, 9, 11, 1_000, 11_038].map(easy_length),
            [8, 8, 9, 12, 1_024, 12_288]
        );
        for points in 8..10_000 {
            let length = easy_length(points);
            assert!(length >= points && 4 * length <= 5 * points, "{points}: {length}");
        }
    }
}
