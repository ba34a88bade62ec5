//! Whether a distribution is still the one that was learned.
//!
//! Both compare two sets of readings without regard to their order. With thousands of readings the test of
//! Kolmogorov and Smirnov finds differences that matter to nobody: its distance says more than its
//! probability, and readings that follow each other closely are not independent, which it assumes.

/// The difference of two samples.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KolmogorovSmirnov {
    /// Largest distance of the cumulative distributions, 0 to 1.
    pub distance: f64,
    /// Probability of such a distance or a larger one between samples of one distribution: by the
    /// asymptotic law, good from some 25 readings on each side.
    pub probability: f64,
}

impl KolmogorovSmirnov {
    /// Compares two samples, both sorted from low to high; `None` when one is empty.
    ///
    /// N. V. Smirnov, *Table for estimating the goodness of fit of empirical distributions*, Annals of
    /// Mathematical Statistics 19 (1948).
    pub fn of_sorted(learned: &[f32], recent: &[f32]) -> Option<Self> {
        let (a, b) = (learned.len(), recent.len());
        if a == 0 || b == 0 {
            return None;
        }
        let (mut i, mut j) = (0, 0);
        let mut distance = 0.0f64;
        while let (Some(first), Some(second)) = (learned.get(i), recent.get(j)) {
            // Equal readings are passed on both sides before the distributions are compared.
            let least = if first <= second { *first } else { *second };
            i += count_at(learned, i, least);
            j += count_at(recent, j, least);
            distance = distance.max(libm::fabs(i as f64 / a as f64 - j as f64 / b as f64));
        }
        let effective = libm::sqrt(a as f64 * b as f64 / (a + b) as f64);
        Some(Self {
            distance,
            probability: kolmogorov(effective * distance),
        })
    }
}

/// How many readings from `start` on are not above `value`; one at least, so that what is not a number
/// cannot hold the comparison up.
fn count_at(sorted: &[f32], start: usize, value: f32) -> usize {
    let from = sorted.iter().skip(start);
    from.take_while(|reading| **reading <= value || reading.is_nan())
        .count()
}

/// The share of Kolmogorov's distribution above `x`.
fn kolmogorov(x: f64) -> f64 {
    if x < 0.2 {
        // The series below converges slowly there, to 1 - 10^-12.
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * libm::exp(-2.0 * f64::from(k * k) * x * x)
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// The population stability index of counts in the same bins: sum of (q - p) ln (q / p), with half a
/// reading in a bin that has none; `None` when there are no bins, not as many, or nothing in them.
///
/// By the usual rule of thumb below 0.1 nothing has happened and above 0.25 much has (N. Siddiqi, *Credit
/// Risk Scorecards*, 2006, chapter 10); B. Yurdakul (2018) shows that it is twice the symmetric divergence of
/// Kullback and Leibler, and that small samples reach 0.1 by chance.
pub fn population_stability(learned: &[u32], recent: &[u32]) -> Option<f64> {
    let total = |counts: &[u32]| counts.iter().map(|count| f64::from(*count)).sum::<f64>();
    let (a, b) = (total(learned), total(recent));
    if learned.len() != recent.len() || a == 0.0 || b == 0.0 {
        return None;
    }
    let term = |(p, q): (&u32, &u32)| {
        let share = |count: u32, total: f64| f64::from(count).max(0.5) / total;
        let (p, q) = (share(*p, a), share(*q, b));
        (q - p) * libm::log(q / p)
    };
    Some(learned.iter().zip(recent).map(term).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17: the distance of `scipy.stats.ks_2samp(a, b)`, the probability of
    /// `scipy.special.kolmogorov(sqrt(40 * 30 / 70) * 0.2)`.
    #[test]
    fn the_distance_and_its_probability_agree_with_an_independent_implementation() {
        let learned: std::vec::Vec<f32> = (0..40).map(|i| i as f32 * 0.25).collect();
        let mut recent: std::vec::Vec<f32> = (0..20).map(|i| i as f32 * 0.25 + 2.0).collect();
        recent.extend((0..10).map(|i| i as f32 + 3.1));
        recent.sort_by(f32::total_cmp);
        let found = KolmogorovSmirnov::of_sorted(&learned, &recent).unwrap();
        assert!((found.distance - 0.2).abs() < 1e-9, "{found:?}");
        assert!(
            (found.probability - 0.49920599275484207).abs() < 1e-6,
            "{found:?}"
        );
    }

    #[test]
    fn equal_samples_have_no_distance_and_separate_ones_all_of_it() {
        let sample: std::vec::Vec<f32> = (0..100).map(|i| (i / 10) as f32).collect();
        let same = KolmogorovSmirnov::of_sorted(&sample, &sample).unwrap();
        assert_eq!((same.distance, same.probability), (0.0, 1.0));
        let far: std::vec::Vec<f32> = sample.iter().map(|value| value + 100.0).collect();
        let apart = KolmogorovSmirnov::of_sorted(&sample, &far).unwrap();
        assert_eq!(apart.distance, 1.0);
        assert!(apart.probability < 1e-20);
    }

    #[test]
    fn an_empty_sample_says_nothing() {
        assert_eq!(KolmogorovSmirnov::of_sorted(&[], &[1.0]), None);
        assert_eq!(KolmogorovSmirnov::of_sorted(&[1.0], &[]), None);
    }

    #[test]
    fn stability_is_zero_for_the_same_shares_and_grows_as_they_move() {
        assert_eq!(population_stability(&[10, 30, 60], &[1, 3, 6]), Some(0.0));
        let moved = population_stability(&[100, 300, 400, 150, 50], &[40, 80, 160, 90, 30]).unwrap();
        assert!((moved - 0.08109302162163286).abs() < 1e-9, "{moved}");
        assert!(population_stability(&[50, 50, 0], &[0, 50, 50]).unwrap() > 0.25);
    }

    #[test]
    fn counts_that_cannot_be_compared_say_nothing() {
        assert_eq!(population_stability(&[1, 2], &[1]), None);
        assert_eq!(population_stability(&[0, 0], &[1, 1]), None);
        assert_eq!(population_stability(&[], &[]), None);
    }
}
