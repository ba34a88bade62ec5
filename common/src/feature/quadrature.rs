//! The envelope of one fixed band, for trending.
//!
//! A diagnosis looks for the band that shows a fault best; what is *trended* must not move, so it keeps one
//! declared band for each measurement point. The band is turned down to 0 Hz, once with a cosine and once
//! with a sine, and low-passed; the magnitude of the two is half the envelope, without the ripple that a
//! rectifier leaves (R. B. Randall, *Vibration-based Condition Monitoring*, 2nd ed. 2021, section 3.3).
//! Turning and low-pass are one pair of taps, and only as many outputs are computed as the band is wide.

use super::decimation::{self, LANES, TILE, low_pass, outputs, products, sum};
use core::f64::consts::TAU;

/// How a band is demodulated at a sampling rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plan {
    /// Samples to an output.
    pub factor: usize,
    /// Length of each of the two sets of taps.
    pub taps: usize,
    /// Middle of the band, in parts of the sampling rate.
    middle: f64,
    /// Where the low-pass has one half, in parts of the sampling rate.
    cutoff: f64,
}

impl Plan {
    /// For a band in Hz at `rate_hz`; none unless it lies above 0 and below half the rate.
    pub fn new(low_hz: f64, high_hz: f64, rate_hz: f64) -> Option<Self> {
        let lies_within = low_hz > 0.0 && high_hz > low_hz && high_hz < 0.5 * rate_hz;
        if !lies_within || !rate_hz.is_finite() {
            return None;
        }
        let half = 0.5 * (high_hz - low_hz) / rate_hz;
        let middle = 0.5 * (high_hz + low_hz) / rate_hz;
        // Three samples for the width of the band leave room for the taps' transition.
        let factor = ((1.0 / (3.0 * half)) as usize).max(1);
        // What lies below 0 Hz comes to stand here, and what is folded over by the fewer samples here.
        let stop = (1.0 / factor as f64 - half)
            .min(2.0 * middle - half)
            .max(1.2 * half);
        Some(Self {
            factor,
            taps: decimation::taps_needed(half, stop),
            middle,
            cutoff: 0.5 * (half + stop),
        })
    }

    /// Fills two sets of [`Self::taps`] taps.
    pub fn fill(&self, cosine: &mut [f32], sine: &mut [f32]) {
        low_pass(cosine, self.cutoff);
        for (index, (cosine, sine)) in cosine.iter_mut().zip(sine).enumerate() {
            let angle = TAU * self.middle * index as f64;
            // The magnitude is half the envelope's.
            let tap = 2.0 * f64::from(*cosine);
            *cosine = (tap * libm::cos(angle)) as f32;
            *sine = (tap * libm::sin(angle)) as f32;
        }
    }
}

/// Fills `envelope` as far as there are samples for; returns how many values that is.
pub fn envelope(samples: &[f32], cosine: &[f32], sine: &[f32], factor: usize, envelope: &mut [f32]) -> usize {
    let count = squared_envelope(samples, cosine, sine, factor, envelope);
    for value in envelope.iter_mut().take(count) {
        *value = libm::sqrtf(*value);
    }
    count
}

/// As [`envelope`], and leaves the root of each value to the caller, whose processor may take several at once.
#[inline(always)]
pub fn squared_envelope(
    samples: &[f32],
    cosine: &[f32],
    sine: &[f32],
    factor: usize,
    squares: &mut [f32],
) -> usize {
    let count = outputs(samples.len(), cosine.len(), factor).min(squares.len());
    for (tile, out) in squares[..count].chunks_mut(TILE).enumerate() {
        let mut sums = [[[0.0; LANES]; 2]; TILE];
        for (index, sums) in sums.iter_mut().enumerate().take(out.len()) {
            *sums = products(&samples[(tile * TILE + index) * factor..], [cosine, sine]);
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            let [in_phase, shifted] = sums.map(sum);
            *out = in_phase * in_phase + shifted * shifted;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope_of(samples: &[f32], low_hz: f64, high_hz: f64, rate_hz: f64) -> (Vec<f32>, Plan) {
        let plan = Plan::new(low_hz, high_hz, rate_hz).unwrap();
        let (mut cosine, mut sine) = (vec![0.0; plan.taps], vec![0.0; plan.taps]);
        plan.fill(&mut cosine, &mut sine);
        let mut out = vec![0.0; samples.len()];
        let count = envelope(samples, &cosine, &sine, plan.factor, &mut out);
        out.truncate(count);
        (out, plan)
    }

    fn modulated(carrier_hz: f64, rate_hz: f64) -> Vec<f32> {
        let value = |index: usize| {
            let at = index as f64 / rate_hz;
            (1.0 + 0.5 * (TAU * 90.0 * at).sin()) * (TAU * carrier_hz * at).cos()
        };
        (0..rate_hz as usize).map(|index| value(index) as f32).collect()
    }

    #[test]
    fn the_modulation_of_a_carrier_in_the_band_comes_out() {
        for rate_hz in [12_000.0, 25_600.0, 51_200.0] {
            let (low, high) = (0.35 * rate_hz / 2.56, 0.65 * rate_hz / 2.56);
            let (found, plan) = envelope_of(&modulated(0.2 * rate_hz, rate_hz), low, high, rate_hz);
            assert!(found.len() * plan.factor > rate_hz as usize - 2 * plan.taps);
            let (lowest, highest) = found.iter().fold((f32::MAX, 0.0f32), |(low, high), value| {
                (low.min(*value), high.max(*value))
            });
            assert!(
                (lowest - 0.5).abs() < 0.02 && (highest - 1.5).abs() < 0.02,
                "{lowest} to {highest}"
            );
        }
    }

    #[test]
    fn what_lies_outside_the_band_does_not_come_out() {
        for carrier_hz in [200.0, 500.0, 1_000.0, 9_000.0, 12_000.0] {
            let (found, _) = envelope_of(&modulated(carrier_hz, 25_600.0), 3_500.0, 6_500.0, 25_600.0);
            let highest = found.into_iter().fold(0.0, f32::max);
            assert!(highest < 0.02, "{carrier_hz} Hz: {highest}");
        }
    }

    #[test]
    fn a_band_that_the_rate_does_not_hold_has_no_plan() {
        for (low, high, rate) in [
            (0.0, 5_000.0, 25_600.0),
            (5_000.0, 2_500.0, 25_600.0),
            (2_500.0, 12_800.0, 25_600.0),
            (2_500.0, 7_500.0, f64::NAN),
            (f64::NAN, 7_500.0, 25_600.0),
        ] {
            assert_eq!(Plan::new(low, high, rate), None, "{low} to {high} at {rate}");
        }
    }
}
