//! Fewer samples a second, without what they could not tell apart: a linear-phase low-pass of which only
//! every n-th output is computed.
//!
//! What is slow in a signal (unbalance, the velocity of ISO 20816) needs a tenth of the samples that an
//! accelerometer delivers, and all work on it is a tenth then too. Taps and samples stand in buffers of
//! the caller. The taps are a sinc under a Kaiser window: J. F. Kaiser, "Nonrecursive digital filter design
//! using the I0-sinh window function", *Proc. IEEE Int. Symp. Circuits and Systems*, 1974.

use core::f64::consts::PI;

/// What the taps suppress beyond their transition, dB: three tenths of a percent at most.
const ATTENUATION_DB: f64 = 50.0;

/// Kaiser's formula for the window's parameter at that attenuation (21 to 50 dB).
const BETA: f64 = 4.533_5;

/// Products side by side, so that one addition need not wait for the one before.
pub(super) const LANES: usize = 8;

/// How many taps pass what lies below `pass`, and stop what lies above `stop`, both as parts of the
/// sampling rate (Kaiser 1974); a multiple of 8, which is computed as fast as fewer.
pub fn taps_needed(pass: f64, stop: f64) -> usize {
    let width = (stop - pass).max(1e-3);
    let taps = (ATTENUATION_DB - 7.95) / (14.36 * width) + 1.0;
    (taps as usize + 1).next_multiple_of(LANES)
}

/// Fills `taps` with a low-pass of gain 1 at 0 Hz and one half at `cutoff`, a part of the sampling rate.
pub fn low_pass(taps: &mut [f32], cutoff: f64) {
    let middle = (taps.len().max(1) - 1) as f64 / 2.0;
    let weight = |index: usize| {
        let at = index as f64 - middle;
        let ratio = if middle > 0.0 { at / middle } else { 0.0 };
        let window = bessel_i0(BETA * libm::sqrt((1.0 - ratio * ratio).max(0.0)));
        let angle = 2.0 * PI * cutoff * at;
        let sinc = if angle == 0.0 {
            1.0
        } else {
            libm::sin(angle) / angle
        };
        window * sinc
    };
    let sum: f64 = (0..taps.len()).map(weight).sum();
    for (index, tap) in taps.iter_mut().enumerate() {
        *tap = (weight(index) / sum) as f32;
    }
}

/// How many outputs `samples` give with so many taps, one for every `factor` samples.
pub const fn outputs(samples: usize, taps: usize, factor: usize) -> usize {
    if samples < taps || factor == 0 {
        0
    } else {
        (samples - taps) / factor + 1
    }
}

/// Fills `out` as far as there are samples for: the `n`-th output is centred half the taps after the
/// sample `n * factor`. Returns how many were computed.
#[inline(always)]
pub fn decimate(samples: &[f32], taps: &[f32], factor: usize, out: &mut [f32]) -> usize {
    let count = outputs(samples.len(), taps.len(), factor).min(out.len());
    for (tile, out) in out[..count].chunks_mut(TILE).enumerate() {
        let mut sums = [[0.0; LANES]; TILE];
        for (index, sums) in sums.iter_mut().enumerate().take(out.len()) {
            [*sums] = products(&samples[(tile * TILE + index) * factor..], [taps]);
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            *out = sum(sums);
        }
    }
    count
}

/// Outputs whose lanes are added up together. They stand in memory until then, as a compiler wants it that is to
/// compute the lanes of a sum at once.
pub(super) const TILE: usize = 16;

/// The products of sets of taps of one length with as many samples, added up by lane.
#[inline(always)]
pub(super) fn products<const SETS: usize>(samples: &[f32], taps: [&[f32]; SETS]) -> [[f32; LANES]; SETS] {
    let mut sums = [[0.0; LANES]; SETS];
    let length = taps
        .iter()
        .map(|taps| taps.len())
        .min()
        .unwrap_or(0)
        .min(samples.len());
    let (rows, rest) = samples[..length].as_chunks::<LANES>();
    let taps = taps.map(|taps| taps[..length].as_chunks::<LANES>());
    for (index, row) in rows.iter().enumerate() {
        for (sums, (taps, _)) in sums.iter_mut().zip(taps) {
            for lane in 0..LANES {
                sums[lane] += taps[index][lane] * row[lane];
            }
        }
    }
    for (sums, (_, taps)) in sums.iter_mut().zip(taps) {
        for ((sum, tap), sample) in sums.iter_mut().zip(taps).zip(rest) {
            *sum += tap * sample;
        }
    }
    sums
}

/// The sum of all lanes.
#[inline(always)]
pub(super) fn sum([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The modified Bessel function of order 0 (Abramowitz and Stegun 9.6.12), for the arguments of a window.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..30 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::TAU;

    fn gain(taps: &[f32], frequency: f64) -> f64 {
        let part = |turn: fn(f64) -> f64| -> f64 {
            let turned = |(index, tap): (usize, &f32)| f64::from(*tap) * turn(TAU * frequency * index as f64);
            taps.iter().enumerate().map(turned).sum()
        };
        part(f64::cos).hypot(part(f64::sin))
    }

    #[test]
    fn what_is_to_pass_passes_and_what_is_to_stop_does_not() {
        for (pass, stop) in [(0.05, 0.15), (0.02, 0.4), (0.1, 0.13)] {
            let mut taps = vec![0.0; taps_needed(pass, stop)];
            low_pass(&mut taps, (pass + stop) / 2.0);
            for step in 0..=20 {
                let passed = gain(&taps, pass * f64::from(step) / 20.0);
                assert!((passed - 1.0).abs() < 4e-3, "{passed} of what is to pass");
                let stopped = gain(&taps, stop + (0.5 - stop) * f64::from(step) / 20.0);
                assert!(stopped < 4e-3, "{stopped} of what is to stop");
            }
        }
    }

    #[test]
    fn a_slow_sine_stays_and_a_fast_one_goes() {
        let (factor, rate) = (5, 25_600.0);
        let tone = |hz: f64| -> Vec<f32> {
            (0..25_600)
                .map(|i| (TAU * hz * f64::from(i) / rate).sin() as f32)
                .collect()
        };
        let mut taps = vec![0.0; taps_needed(1_300.0 / rate, 3_800.0 / rate)];
        low_pass(&mut taps, 2_550.0 / rate);
        let mut out = vec![0.0; 25_600];
        let mut peak = |hz: f64| {
            let count = decimate(&tone(hz), &taps, factor, &mut out);
            assert_eq!(count, outputs(25_600, taps.len(), factor));
            out[..count].iter().copied().fold(0.0, f32::max)
        };
        assert!((peak(1_000.0) - 1.0).abs() < 5e-3);
        // As fast as the fewer samples: it would look like a standing one.
        assert!(peak(5_120.0) < 4e-3);
        assert_eq!(
            decimate(&[1.0; 10], &taps, factor, &mut out),
            0,
            "less than the taps"
        );
    }

    #[test]
    fn a_sum_of_products_is_the_plain_one() {
        let samples: Vec<f32> = (0..40u16).map(|i| f32::from(i % 7) - 3.0).collect();
        for taps in [1u16, 7, 8, 19, 40] {
            let weights: Vec<f32> = (0..taps).map(|i| f32::from(i % 5) * 0.5).collect();
            let plain: f32 = weights
                .iter()
                .zip(&samples)
                .map(|(tap, sample)| tap * sample)
                .sum();
            let turned: Vec<f32> = weights.iter().map(|weight| -weight).collect();
            let [one, other] = products(&samples, [&weights, &turned]).map(sum);
            assert!((one - plain).abs() < 1e-4 && (other + plain).abs() < 1e-4);
            let mut out = [0.0; 40];
            let count = decimate(&samples, &weights, 1, &mut out);
            assert_eq!(count, 41 - weights.len());
            assert!((out[0] - plain).abs() < 1e-4);
        }
    }
}
