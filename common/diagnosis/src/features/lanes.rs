//! Loops of [`trunnion_common::feature`] with the vector instructions that this processor turns out to have.
//!
//! A program for every x86-64 may take four numbers at once, and most processors can take eight. What is added to
//! what is written out in those loops, so that the same bits come out however many are taken at once.

use pulp::{Arch, Simd, WithSimd};
use trunnion_common::feature::decimation;
use trunnion_common::feature::quadrature;
use trunnion_common::feature::statistics::Statistics;

/// [`Statistics::of`].
pub(super) fn statistics(samples: &[f32]) -> Option<Statistics> {
    struct Work<'a>(&'a [f32]);
    impl WithSimd for Work<'_> {
        type Output = Option<Statistics>;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Self::Output {
            Statistics::of(self.0)
        }
    }
    Arch::new().dispatch(Work(samples))
}

/// [`decimation::decimate`].
pub(super) fn decimate(samples: &[f32], taps: &[f32], factor: usize, out: &mut [f32]) -> usize {
    struct Work<'a>(&'a [f32], &'a [f32], usize, &'a mut [f32]);
    impl WithSimd for Work<'_> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            decimation::decimate(self.0, self.1, self.2, self.3)
        }
    }
    Arch::new().dispatch(Work(samples, taps, factor, out))
}

/// [`quadrature::envelope`] by pairs of taps, cosine and sine.
pub(super) fn envelope(samples: &[f32], taps: [&[f32]; 2], factor: usize, envelope: &mut [f32]) -> usize {
    struct Work<'a>(&'a [f32], [&'a [f32]; 2], usize, &'a mut [f32]);
    impl WithSimd for Work<'_> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            let Self(samples, [cosine, sine], factor, envelope) = self;
            let count = quadrature::squared_envelope(samples, cosine, sine, factor, envelope);
            envelope.iter_mut().for_each(|value| *value = value.sqrt());
            count
        }
    }
    Arch::new().dispatch(Work(samples, taps, factor, envelope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_at_once_as_there_may_be_leave_the_same_bits() {
        let samples: Vec<f32> = (0..10_007u32)
            .map(|index| 9.81 + (index.wrapping_mul(2_654_435_761) >> 16) as f32 * 1e-4)
            .collect();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let of = |found: Statistics| {
            let shape = found.shape.expect("noise has one");
            bits(&[
                found.mean,
                found.rms,
                found.peak,
                found.peak_to_peak,
                shape.crest_factor,
                shape.kurtosis_excess,
                shape.skewness,
            ])
        };
        assert_eq!(statistics(&samples).map(of), Statistics::of(&samples).map(of));
        for taps in [16, 40] {
            let (cosine, sine) = (&samples[5..5 + taps], &samples[100..100 + taps]);
            let mut out = [vec![0.0; 3_000], vec![0.0; 3_000]];
            let [one, other] = &mut out;
            let counts = (
                decimate(&samples, cosine, 5, one),
                decimation::decimate(&samples, cosine, 5, other),
            );
            assert!(counts.0 > 1_000 && counts.0 == counts.1);
            assert_eq!(bits(one), bits(other));
            let counts = (
                envelope(&samples, [cosine, sine], 5, one),
                quadrature::envelope(&samples, cosine, sine, 5, other),
            );
            assert!(counts.0 > 1_000 && counts.0 == counts.1);
            assert_eq!(bits(&one[..counts.0]), bits(&other[..counts.0]));
        }
    }
}
