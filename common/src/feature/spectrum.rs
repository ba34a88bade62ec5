//! Averaged amplitude spectra of one declared resolution.
//!
//! A line's height is the RMS of a sine there, in the unit of the samples, or, of noise, the root of its
//! power within 1.5 lines. Each segment's mean is removed; it is weighted with the periodic Hann window,
//! whose gain of 1/2 for a steady sine is corrected; and the *powers* of segments that overlap by half are
//! averaged (P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", *IEEE
//! Trans. Audio Electroacoust.* 15, 1967; G. Heinzel et al., "Spectrum and spectral density estimation by
//! the DFT", 2002). Spectra are one-sided.
//!
//! As analysers of machines have it, `lines` stand between 0 and `high_hz`, so that a segment lasts
//! `lines / high_hz` seconds: at a rate of 2.56 times `high_hz` these are 2.56 samples a line. At other
//! rates it is the samples of that time, made even.

use super::envelope::{Complex32, RealFourier};
use super::statistics::mean;
use serde::{Deserialize, Serialize};

/// The lines that a spectrum may have.
pub const LINES: [u16; 6] = [400, 800, 1_600, 3_200, 6_400, 12_800];

/// Power of a sine over the lines of a Hann window, which its main lobe is spread over: the sum of squared
/// lines over the square of its RMS.
pub const HANN_NOISE_BANDWIDTH: f32 = 1.5;

/// Which spectrum.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Highest line, Hz.
    pub high_hz: f32,
    /// Lines up to there.
    pub lines: u16,
    /// Segments that are averaged, overlapping by half.
    pub averages: u16,
}

impl Settings {
    /// What velocity is looked at with: shaft, blades and belts of most machines up to 1000 Hz, 0.625 Hz
    /// apart.
    pub const VELOCITY: Self = Self {
        high_hz: 1_000.0,
        lines: 1_600,
        averages: 4,
    };

    /// These settings, or those with as many averages and fewer lines that `seconds` of samples are enough
    /// for; none where that would be fewer than 400.
    pub fn within(self, seconds: f64) -> Option<Self> {
        // A hundredth of a sample short is rounding.
        let fits = |lines: &u16| {
            let settings = Self {
                lines: *lines,
                ..self
            };
            *lines <= self.lines && settings.seconds() <= seconds * (1.0 + 1e-6)
        };
        let lines = LINES.into_iter().rev().find(fits)?;
        Some(Self { lines, ..self })
    }

    /// Time that a spectrum takes, seconds.
    pub fn seconds(&self) -> f64 {
        0.5 * f64::from(self.averages + 1) * f64::from(self.lines) / f64::from(self.high_hz)
    }

    /// Samples of a segment at `rate_hz`, even.
    pub fn segment(&self, rate_hz: f64) -> usize {
        /// No sensor delivers that many; a rate that is none must not overflow.
        const HALF_MAX: f64 = 16_777_216.0;
        let half = libm::round(0.5 * rate_hz * f64::from(self.lines) / f64::from(self.high_hz));
        2 * half.clamp(0.0, HALF_MAX) as usize
    }

    /// Samples that the averages take.
    pub fn samples(&self, rate_hz: f64) -> usize {
        self.segment(rate_hz) / 2 * (usize::from(self.averages) + 1)
    }

    /// Distance of the lines as they come out, Hz: as declared, up to the rounding of a segment.
    pub fn resolution_hz(&self, rate_hz: f64) -> f64 {
        rate_hz / self.segment(rate_hz).max(1) as f64
    }
}

/// Buffers of [`averaged`] for segments of `n` samples.
#[derive(Debug)]
pub struct Buffers<'a> {
    /// The periodic Hann window ([`super::envelope::hann`]), `n` long.
    pub window: &'a [f32],
    /// Scratch, `n` long.
    pub segment: &'a mut [f32],
    /// Scratch, `n / 2 + 1` long.
    pub spectrum: &'a mut [Complex32],
}

/// Fills `lines` from 0 Hz up, as far as it is long and there are lines; 0 Hz is 0. Returns how many
/// segments were averaged: as many as `samples` hold, and `averages` at most. None leave `lines` alone.
///
/// Where a filter's taps have left a few samples too few, segments overlap by as much more than half.
///
/// # Panics
/// When a buffer's length does not fit `fourier`.
pub fn averaged(
    fourier: &mut impl RealFourier,
    samples: &[f32],
    averages: usize,
    buffers: Buffers<'_>,
    lines: &mut [f32],
) -> usize {
    let Buffers {
        window,
        segment,
        spectrum,
    } = buffers;
    let length = fourier.samples();
    assert_eq!(window.len(), length, "the window fits the transform");
    let step = step(length, samples.len(), averages);
    let mut count = 0;
    while count < averages
        && let Some(part) = samples.get(count * step..count * step + length)
    {
        if count == 0 {
            lines.fill(0.0);
        }
        let mean = mean(part) as f32;
        for ((out, value), weight) in segment.iter_mut().zip(part).zip(window) {
            *out = (value - mean) * weight;
        }
        fourier.forward(segment, spectrum);
        for (power, line) in lines.iter_mut().zip(spectrum.iter()) {
            *power += line.norm_sqr();
        }
        count += 1;
    }
    if count == 0 {
        return 0;
    }
    // A sine of RMS 1 leaves n/2 x sqrt 2 in its line, and the window lets half of it through.
    let scale = 8.0 / (length as f64 * length as f64 * count as f64);
    for line in lines.iter_mut() {
        *line = libm::sqrt(f64::from(*line) * scale) as f32;
    }
    if let Some(line) = lines.first_mut() {
        *line = 0.0;
    }
    // Half the sampling rate has no partner below 0 Hz that would add its half.
    if let Some(line) = lines.get_mut(length / 2) {
        *line *= core::f32::consts::FRAC_1_SQRT_2;
    }
    count
}

/// Samples from segment to segment: half of one, or up to a fiftieth less where that makes them fit.
fn step(length: usize, samples: usize, averages: usize) -> usize {
    let half = (length / 2).max(1);
    let steps = averages.saturating_sub(1).max(1);
    let fitting = samples.saturating_sub(length) / steps;
    if fitting < half && fitting >= half - half / 50 {
        fitting
    } else {
        half
    }
}

/// From acceleration to velocity, or from velocity to displacement: each line over its angular frequency,
/// times `gain` for the unit. What lies below `low_hz` is removed: there is more noise in it than motion.
pub fn integrate(lines: &mut [f32], resolution_hz: f64, low_hz: f64, gain: f64) {
    for (index, line) in lines.iter_mut().enumerate() {
        let hz = index as f64 * resolution_hz;
        *line = if index == 0 || hz < low_hz {
            0.0
        } else {
            (f64::from(*line) * gain / (core::f64::consts::TAU * hz)) as f32
        };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::envelope::hann;
    use super::*;
    use core::f64::consts::TAU;
    use realfft::{RealFftPlanner, RealToComplex};
    use std::sync::Arc;

    pub(crate) struct Planned(Arc<dyn RealToComplex<f32>>);

    impl Planned {
        pub(crate) fn new(samples: usize) -> Self {
            Self(RealFftPlanner::new().plan_fft_forward(samples))
        }
    }

    impl RealFourier for Planned {
        fn samples(&self) -> usize {
            self.0.len()
        }
        fn forward(&mut self, signal: &mut [f32], spectrum: &mut [Complex32]) {
            self.0.process(signal, spectrum).unwrap();
        }
        fn inverse(&mut self, _: &mut [Complex32], _: &mut [f32]) {
            unreachable!("a spectrum only goes forward");
        }
    }

    /// The lines of a spectrum, their distance, and how many segments it is of.
    pub(crate) fn spectrum_of(samples: &[f32], rate_hz: f64, settings: &Settings) -> (Vec<f32>, f64, usize) {
        let n = settings.segment(rate_hz);
        let mut window = vec![0.0; n];
        hann(&mut window);
        let mut lines = vec![0.0; usize::from(settings.lines) + 1];
        let count = averaged(
            &mut Planned::new(n),
            samples,
            settings.averages.into(),
            Buffers {
                window: &window,
                segment: &mut vec![0.0; n],
                spectrum: &mut vec![Complex32::default(); n / 2 + 1],
            },
            &mut lines,
        );
        (lines, settings.resolution_hz(rate_hz), count)
    }

    fn sine(rate_hz: f64, seconds: f64, hz: f64) -> Vec<f32> {
        let samples = (rate_hz * seconds) as usize;
        let sine = |index: usize| 3.0 + 2f64.sqrt() * (TAU * hz * index as f64 / rate_hz).sin();
        (0..samples).map(|index| sine(index) as f32).collect()
    }

    #[test]
    fn a_line_is_as_high_as_the_rms_of_its_sine() {
        let settings = Settings {
            averages: 2,
            ..Settings::VELOCITY
        };
        for rate_hz in [2_560.0, 5_120.0, 6_000.0] {
            let (lines, resolution_hz, count) = spectrum_of(&sine(rate_hz, 2.4, 50.0), rate_hz, &settings);
            assert_eq!((count, resolution_hz), (2, 0.625));
            assert!((lines[80] - 1.0).abs() < 1e-4, "{}", lines[80]);
            for side in [79, 81] {
                assert!((lines[side] - 0.5).abs() < 1e-4, "the Hann window's neighbours");
            }
            assert!(lines[..78].iter().chain(&lines[83..]).all(|&line| line < 1e-4));
            let squares: f32 = lines.iter().map(|line| line * line).sum();
            assert!((squares - HANN_NOISE_BANDWIDTH).abs() < 1e-3);
        }
    }

    #[test]
    fn lines_and_resolution_are_as_declared() {
        let settings = Settings::VELOCITY;
        assert_eq!(settings.segment(2_560.0), 4_096);
        assert_eq!(settings.samples(2_560.0), 10_240);
        assert_eq!(settings.resolution_hz(2_560.0), 0.625);
        for lines in LINES {
            let settings = Settings { lines, ..settings };
            assert_eq!(settings.segment(2_560.0) as f64, 2.56 * f64::from(lines));
            let declared = 1_000.0 / f64::from(lines);
            assert!((settings.resolution_hz(4_882.8) / declared - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn fewer_samples_have_fewer_lines_and_the_same_averages() {
        let lines = |seconds| Settings::VELOCITY.within(seconds).map(|settings| settings.lines);
        assert_eq!(
            [0.99, 1.0, 1.99, 2.0, 3.99, 4.0, 60.0].map(lines),
            [
                None,
                Some(400),
                Some(400),
                Some(800),
                Some(800),
                Some(1_600),
                Some(1_600)
            ]
        );
    }

    #[test]
    fn too_few_samples_have_no_spectrum_and_some_have_fewer_averages() {
        let settings = Settings::VELOCITY;
        assert_eq!(spectrum_of(&sine(2_560.0, 1.5, 50.0), 2_560.0, &settings).2, 0);
        assert_eq!(spectrum_of(&sine(2_560.0, 2.4, 50.0), 2_560.0, &settings).2, 2);
        assert_eq!(spectrum_of(&sine(2_560.0, 9.0, 50.0), 2_560.0, &settings).2, 4);
    }

    #[test]
    fn a_few_samples_too_few_are_overlapped_a_little_more() {
        let settings = Settings::VELOCITY;
        let signal = sine(2_560.0, 4.0, 50.0);
        let (lines, _, count) = spectrum_of(&signal[..10_240 - 60], 2_560.0, &settings);
        assert_eq!(count, 4);
        assert!((lines[80] - 1.0).abs() < 1e-4);
        assert_eq!(spectrum_of(&signal[..10_240 - 300], 2_560.0, &settings).2, 3);
    }

    #[test]
    fn a_line_of_acceleration_becomes_one_of_velocity() {
        // 1 g at 159.155 Hz, which turns by 1000 radians a second, is 9.80665 mm/s.
        let mut lines = [5.0, 5.0, 1.0];
        integrate(&mut lines, 1_000.0 / TAU / 2.0, 100.0, 9_806.65);
        assert_eq!(lines[..2], [0.0, 0.0]);
        assert!((lines[2] - 9.806_65).abs() < 1e-5);
    }
}
