//! The squared envelope of a pre-whitened signal, and its spectrum.
//!
//! A defect in a rolling bearing strikes once per passage and each strike rings the structure. The
//! ringing's *envelope* carries the rate of the strikes (P. D. McFadden and J. D. Smith, "Model for
//! the vibration produced by a single point defect in a rolling element bearing", *J. Sound Vib.* 96,
//! 1984). Setting the cepstrum to zero, that is giving every spectral line the same magnitude and its
//! own phase, removes shaft and gear lines and the structure's colour at once, so that no band needs
//! to be chosen (P. Borghesani et al., "Application of cepstrum pre-whitening for the diagnosis of
//! bearing faults under variable speed conditions", *Mech. Syst. Signal Process.* 36, 2013).
//!
//! Everything works in buffers of the caller, with a transform of the caller's ([`RealFourier`]).

use super::statistics::mean;
use core::ops::RangeInclusive;
pub use num_complex::Complex32;

/// A Fourier transform of real signals of one even length, unscaled in both directions.
///
/// `realfft` serves on hosts, `microfft` on microcontrollers.
pub trait RealFourier {
    /// Number of samples, even; the spectrum has half as many lines plus one.
    fn samples(&self) -> usize;

    /// Samples to one-sided spectrum; may use `signal` as scratch.
    fn forward(&mut self, signal: &mut [f32], spectrum: &mut [Complex32]);

    /// One-sided spectrum to samples times their number; may use `spectrum` as scratch.
    fn inverse(&mut self, spectrum: &mut [Complex32], signal: &mut [f32]);
}

/// Buffers of [`squared_envelope`] for `n` samples.
#[derive(Debug)]
pub struct EnvelopeBuffers<'a> {
    /// In: the samples, mean removed. Out: scratch. `n` long.
    pub signal: &'a mut [f32],
    /// Scratch, `n / 2 + 1` long.
    pub spectrum: &'a mut [Complex32],
    /// Scratch, `n / 2 + 1` long.
    pub quadrature: &'a mut [Complex32],
    /// Out: the squared envelope, `n` long, in no unit (whitening takes the unit away).
    pub envelope: &'a mut [f32],
}

/// The squared magnitude of the analytic signal of the whitened lines in `band`.
///
/// # Panics
/// When a buffer's length does not fit `fourier`.
pub fn squared_envelope(
    fourier: &mut impl RealFourier,
    band: RangeInclusive<usize>,
    buffers: EnvelopeBuffers<'_>,
) {
    let EnvelopeBuffers {
        signal,
        spectrum,
        quadrature,
        envelope,
    } = buffers;
    fourier.forward(signal, spectrum);
    whiten(spectrum, band);
    quadrature.copy_from_slice(spectrum);
    quarter_turn(quadrature);
    fourier.inverse(spectrum, signal);
    fourier.inverse(quadrature, envelope);
    for (shifted, in_phase) in envelope.iter_mut().zip(signal.iter()) {
        *shifted = *shifted * *shifted + in_phase * in_phase;
    }
}

/// Gives every line in `band` the magnitude 1 and removes the others, and always the lines at 0 and
/// at half the sampling rate, which have no phase to keep.
pub fn whiten(spectrum: &mut [Complex32], band: RangeInclusive<usize>) {
    let nyquist = spectrum.len().saturating_sub(1);
    for (index, line) in spectrum.iter_mut().enumerate() {
        let magnitude = libm::sqrtf(line.norm_sqr());
        *line = if band.contains(&index) && index != 0 && index != nyquist && magnitude > f32::MIN_POSITIVE {
            *line / magnitude
        } else {
            Complex32::new(0.0, 0.0)
        };
    }
}

/// Delays every line by a quarter of its period: the Hilbert transform in the frequency domain.
pub fn quarter_turn(spectrum: &mut [Complex32]) {
    for line in spectrum {
        *line = Complex32::new(line.im, -line.re);
    }
}

/// Fills `window` with the periodic Hann window, 0.5 - 0.5 cos(2 pi i / n).
pub fn hann(window: &mut [f32]) {
    let step = core::f64::consts::TAU / window.len() as f64;
    for (index, weight) in window.iter_mut().enumerate() {
        *weight = (0.5 - 0.5 * libm::cos(step * index as f64)) as f32;
    }
}

/// Magnitudes of the spectrum of `envelope`: mean removed, weighted by `window`, followed by zeros up
/// to the length of `fourier` (twice the window halves the spacing of the lines, so that a line
/// between two is not missed). Fills `magnitudes` from 0 Hz up, as far as it is long.
///
/// # Panics
/// When a buffer's length does not fit: `padded` has the length of `fourier`, `envelope` and `window`
/// are equally long and not longer than it, `spectrum` has half its length plus one.
pub fn envelope_spectrum(
    fourier: &mut impl RealFourier,
    envelope: &[f32],
    window: &[f32],
    padded: &mut [f32],
    spectrum: &mut [Complex32],
    magnitudes: &mut [f32],
) {
    assert_eq!(envelope.len(), window.len(), "the window fits the envelope");
    let mean = mean(envelope) as f32;
    let (filled, rest) = padded.split_at_mut(envelope.len());
    for ((out, value), weight) in filled.iter_mut().zip(envelope).zip(window) {
        *out = (value - mean) * weight;
    }
    rest.fill(0.0);
    fourier.forward(padded, spectrum);
    for (magnitude, line) in magnitudes.iter_mut().zip(spectrum.iter()) {
        *magnitude = libm::sqrtf(line.norm_sqr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::TAU;
    use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
    use std::sync::Arc;

    struct Planned(Arc<dyn RealToComplex<f32>>, Arc<dyn ComplexToReal<f32>>);

    impl Planned {
        fn new(samples: usize) -> Self {
            let mut planner = RealFftPlanner::new();
            Self(
                planner.plan_fft_forward(samples),
                planner.plan_fft_inverse(samples),
            )
        }
    }

    impl RealFourier for Planned {
        fn samples(&self) -> usize {
            self.0.len()
        }
        fn forward(&mut self, signal: &mut [f32], spectrum: &mut [Complex32]) {
            self.0.process(signal, spectrum).unwrap();
        }
        fn inverse(&mut self, spectrum: &mut [Complex32], signal: &mut [f32]) {
            self.1.process(spectrum, signal).unwrap();
        }
    }

    fn squared_envelope_of(mut signal: Vec<f32>, band: RangeInclusive<usize>) -> Vec<f32> {
        let n = signal.len();
        let mut envelope = vec![0.0; n];
        squared_envelope(
            &mut Planned::new(n),
            band,
            EnvelopeBuffers {
                signal: &mut signal,
                spectrum: &mut vec![Complex32::default(); n / 2 + 1],
                quadrature: &mut vec![Complex32::default(); n / 2 + 1],
                envelope: &mut envelope,
            },
        );
        envelope
    }

    #[test]
    fn whitening_makes_lines_in_the_band_equal_and_removes_the_others() {
        let mut lines = [1.0, 2.0, 3.0, 4.0, 5.0].map(|re| Complex32::new(re, -re));
        lines[3] = Complex32::new(0.0, 0.0);
        whiten(&mut lines, 0..=3);
        let magnitudes = lines.map(|line| line.norm_sqr());
        for (got, expected) in magnitudes.into_iter().zip([0.0, 1.0, 1.0, 0.0, 0.0]) {
            assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
        }
        assert!(lines[1].re > 0.0 && lines[1].im < 0.0, "the phase is kept");
    }

    #[test]
    fn a_single_line_has_a_constant_envelope() {
        let n = 480;
        let tone = |i: usize| (TAU * 37.0 * i as f64 / n as f64).cos() as f32;
        let envelope = squared_envelope_of((0..n).map(tone).collect(), 37..=37);
        assert!(
            envelope
                .iter()
                .all(|&value| (value / envelope[0] - 1.0).abs() < 1e-4)
        );
    }

    #[test]
    fn two_lines_beat_at_their_distance_with_equal_weight() {
        let n = 600;
        let tone = |i: usize, line: f64| (TAU * line * i as f64 / n as f64).cos();
        let signal = (0..n)
            .map(|i| (3.0 * tone(i, 100.0) + tone(i, 101.0)) as f32)
            .collect();
        let envelope = squared_envelope_of(signal, 100..=101);
        let lowest = envelope.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = envelope.iter().copied().fold(0.0, f32::max);
        assert!(
            lowest < 1e-4 * highest,
            "equal lines cancel once a beat: {lowest} of {highest}"
        );
    }

    #[test]
    fn a_line_of_the_envelope_stands_at_its_frequency() {
        let n = 600;
        let envelope: Vec<f32> = (0..n)
            .map(|i| 5.0 + (TAU * 12.0 * i as f64 / n as f64).cos() as f32)
            .collect();
        let mut window = vec![0.0; n];
        hann(&mut window);
        let mut magnitudes = vec![0.0; 60];
        envelope_spectrum(
            &mut Planned::new(2 * n),
            &envelope,
            &window,
            &mut vec![0.0; 2 * n],
            &mut vec![Complex32::default(); n + 1],
            &mut magnitudes,
        );
        let highest = (0..60).max_by(|&a, &b| magnitudes[a].total_cmp(&magnitudes[b]));
        assert_eq!(highest, Some(24), "12 periods, at half the spacing");
        assert!(
            (magnitudes[24] / (n as f32 / 4.0) - 1.0).abs() < 1e-4,
            "half a line, half in the Hann window"
        );
        assert!(magnitudes[0] < 1e-3, "the mean is removed");
    }
}
