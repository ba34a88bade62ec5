//! When a Wiener process with drift first reaches its limit. Pure.
//!
//! The way gone, X, begins at 0 and ends life at 1. On the transformed time s = (t / D)^b it is a Wiener
//! process of drift 1 and diffusion k: X(s) = s + k W(s), so that life is D long but for chance; b = 1 is an
//! exponential growth of the feature, b = 2 one that becomes steeper, b = 1/2 one that levels off
//! (G. A. Whitmore and F. Schenkelberg, "Modelling accelerated degradation data using Wiener diffusion
//! with a time scale transformation", Lifetime Data Analysis 3 (1997)). The first passage from X = x over
//! the remaining 1 - x is inverse Gaussian in s. D and b are not known: a grid of them is weighted by what
//! has been seen (X. Wang, N. Balakrishnan and B. Guo, "Residual life estimation based on a generalized
//! Wiener degradation process", Reliability Engineering and System Safety 124 (2014), integrate over the
//! drift likewise).

/// Diffusion: how far chance moves a whole life's way.
///
/// This, [`SCATTER`], [`BEYOND`] and how many readings are smoothed (`degradation.rs`) were chosen on the six learning
/// runs of PRONOSTIA out of 162 settings, as the narrowest intervals that hold the truth in at least 82 % of the time.
/// Chosen on five of the runs in turn, they hold it in 80 % of the time on the sixth, 2.2 times as wide as the truth is
/// long (median). Half as much diffusion again costs 4 points of coverage.
const DIFFUSION: f64 = 0.8;
/// Scatter of the way gone that is not degradation: a fifth of the way, much more than the median of healthy readings
/// shows, since a bearing that fails does so by fits and starts.
const SCATTER: f64 = 0.2;
/// How much less likely beforehand a life is that is longer than the life before the onset: by this power.
const BEYOND: f64 = 1.5;
/// Shapes of the way, equally likely beforehand.
const SHAPES: [f64; 3] = [0.5, 1.0, 2.0];
/// Lengths of life looked at.
const LENGTHS: usize = 60;
/// The longest of them, in lives seen so far (before the onset, or since it).
const LONGEST: f64 = 30.0;
/// What is left of the way at least: a limit that was passed and is not any more was not the end.
const WAY_LEFT_MIN: f64 = 0.02;
/// The shortest length of life looked at, and the shortest time until its end, in readings.
const SHORTEST: (f64, f64) = (3.0, 0.3);

/// What is known when the question is asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Seen {
    /// Time from the first reading to the onset, seconds.
    pub(super) before_s: f64,
    /// Time since the onset, seconds; more than 0.
    pub(super) since_s: f64,
    /// Time between readings, seconds; more than 0.
    pub(super) cadence_s: f64,
    /// The way gone, 0 normal and 1 the limit.
    pub(super) progress: f64,
}

/// One assumption about life.
struct Assumption {
    length_s: f64,
    shape: f64,
    weight: f64,
}

/// The distribution of the time until the limit is reached.
pub(super) struct Passage {
    seen: Seen,
    assumptions: Vec<Assumption>,
}

impl Passage {
    /// Weighs every length and shape of life by how well it agrees with what has been seen.
    pub(super) fn new(seen: Seen) -> Self {
        let shortest = (SHORTEST.0 * seen.cadence_s).ln();
        let longest = (LONGEST * seen.before_s.max(seen.since_s).max(seen.cadence_s)).ln();
        let mut assumptions = Vec::with_capacity(LENGTHS * SHAPES.len());
        for shape in SHAPES {
            for index in 0..LENGTHS {
                let share = index as f64 / (LENGTHS - 1) as f64;
                let length_s = (shortest + share * (longest - shortest)).exp();
                assumptions.push(Assumption {
                    length_s,
                    shape,
                    weight: Self::log_weight(&seen, length_s, shape),
                });
            }
        }
        let most = assumptions
            .iter()
            .fold(f64::NEG_INFINITY, |most, each| most.max(each.weight));
        for each in &mut assumptions {
            each.weight = (each.weight - most).exp();
        }
        let sum: f64 = assumptions.iter().map(|each| each.weight).sum();
        for each in &mut assumptions {
            each.weight /= sum;
        }
        Self { seen, assumptions }
    }

    /// Beforehand any length is as likely as any other of its logarithm up to the life before the onset,
    /// and beyond it less so by a power of it. Of a machine that has run that long and of which nothing else is
    /// known, the power would be 1 (J. R. Gott, "Implications of the Copernican principle", Nature 363 (1993)); of this
    /// one it is known that a fault has begun. No unit of time and no rig is in it.
    fn log_weight(seen: &Seen, length_s: f64, shape: f64) -> f64 {
        let beforehand = -BEYOND * (length_s / seen.before_s.max(seen.cadence_s)).ln_1p();
        let mean = (seen.since_s / length_s).powf(shape);
        let variance = DIFFUSION * DIFFUSION * mean + SCATTER * SCATTER;
        let off = seen.progress.max(0.0) - mean;
        beforehand - 0.5 * off * off / variance - 0.5 * variance.ln()
    }

    /// Chance that the limit is reached within that time, seconds.
    pub(super) fn chance_within(&self, life_s: f64) -> f64 {
        let way_left = (1.0 - self.seen.progress).max(WAY_LEFT_MIN);
        let since_s = self.seen.since_s;
        self.assumptions
            .iter()
            .map(|each| {
                let scaled = |time_s: f64| (time_s / each.length_s).powf(each.shape);
                let time = scaled(since_s + life_s) - scaled(since_s);
                each.weight * first_passage(time, way_left)
            })
            .sum()
    }

    /// The time within which the limit is reached with that chance, seconds: to a thousandth, between
    /// [`SHORTEST`] and [`LONGEST`].
    pub(super) fn quantile(&self, chance: f64) -> f64 {
        let mut low = (SHORTEST.1 * self.seen.cadence_s).ln();
        let mut high = (LONGEST * self.seen.before_s.max(self.seen.since_s).max(self.seen.cadence_s)).ln();
        while high - low > 1e-3 {
            let middle = f64::midpoint(low, high);
            if self.chance_within(middle.exp()) < chance {
                low = middle;
            } else {
                high = middle;
            }
        }
        high.exp()
    }
}

/// Distribution of the inverse Gaussian of a way, drift 1 and [`DIFFUSION`] (R. S. Chhikara and J. L. Folks,
/// *The Inverse Gaussian Distribution*, 1989, equation 2.17).
fn first_passage(time: f64, way: f64) -> f64 {
    if time <= 0.0 {
        return 0.0;
    }
    let spread = DIFFUSION * time.sqrt();
    let beyond = (2.0 * way / (DIFFUSION * DIFFUSION)).exp() * normal(-(time + way) / spread);
    (normal((time - way) / spread) + beyond).min(1.0)
}

/// The standard normal distribution.
fn normal(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passage_is_inverse_gaussian() {
        // scipy.stats.invgauss(k^2 / way, scale = way^2 / k^2).cdf(time) at k = 0.8.
        let expected = [
            (1.0, 1.0, 0.641_331_331_380_575_2),
            (0.2, 0.5, 0.321_088_584_098_874_9),
            (3.0, 0.7, 0.985_308_989_993_081_9),
            (0.05, 0.02, 0.936_805_810_005_579_8),
        ];
        for (time, way, expected) in expected {
            let chance = first_passage(time, way);
            assert!((chance - expected).abs() < 1e-9, "{time} {way}: {chance}");
        }
    }

    fn seen(since_s: f64, progress: f64) -> Seen {
        Seen {
            before_s: 10_000.0,
            since_s,
            cadence_s: 10.0,
            progress,
        }
    }

    #[test]
    fn quantiles_and_chances_agree() {
        let passage = Passage::new(seen(1_000.0, 0.5));
        for chance in [0.05, 0.5, 0.9] {
            let life_s = passage.quantile(chance);
            assert!((passage.chance_within(life_s) - chance).abs() < 1e-3);
        }
    }

    #[test]
    fn the_further_the_way_at_the_same_age_the_sooner_the_end() {
        let median = |progress| Passage::new(seen(1_000.0, progress)).quantile(0.5);
        let medians: Vec<f64> = [0.3, 0.5, 0.7, 0.9].into_iter().map(median).collect();
        assert!(medians.is_sorted_by(|near, far| near > far), "{medians:?}");
    }

    #[test]
    fn what_is_said_does_not_depend_on_the_unit_of_time() {
        let scale = 360.0;
        let one = seen(1_000.0, 0.5);
        let other = Seen {
            before_s: one.before_s * scale,
            since_s: one.since_s * scale,
            cadence_s: one.cadence_s * scale,
            ..one
        };
        for chance in [0.05, 0.5, 0.9] {
            let ratio = Passage::new(other).quantile(chance) / Passage::new(one).quantile(chance);
            assert!((ratio / scale - 1.0).abs() < 3e-3, "{ratio}");
        }
    }
}
