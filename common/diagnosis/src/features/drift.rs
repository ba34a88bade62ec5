//! Whether the machine changes its speed while a window is taken.
//!
//! What is claimed of a window is looked for in either half of it: the lines of a family move with the shaft, and
//! stand as much further up in the one half as the shaft turns faster there. A window whose halves lie too far apart
//! is smeared, and its lines may stand in each other's place.
//!
//! In each half the family stands where the power of its lines together is highest, which is the least-squares
//! estimate of a fundamental (M. G. Christensen and A. Jakobsson, *Multi-Pitch Estimation*, 2009, section 2.6).

use super::search::HARMONICS;

/// Change of the speed from the beginning of a window to its end, as a share, from which nothing is claimed; its
/// halves, each at its mean, lie half of that apart.
pub(super) const DRIFT: f64 = 0.01;

/// How far from where the whole window has it a half's family is looked for, as a share: of a change twice as large
/// nothing is left to claim.
const REACH: f64 = 0.03;

/// Steps to a line in that.
const STEPS: f64 = 16.0;

/// Mean power of a half's lines, over the square of the median about them, from which they are seen: noise has 1.4,
/// and the highest of what is within [`REACH`] 3.
const SEEN: f64 = 4.0;

/// How well a line is located at the best, in resolutions of a half.
const LOCATED: f64 = 0.25;

/// Balls slide at random, by half a per cent from strike to strike (R. B. Randall and J. Antoni, "Rolling element bearing
/// diagnostics: a tutorial", Mech. Syst. Signal Process. 25 (2011), section 3, have 1 to 2 % as the most): means over
/// halves of a few strikes lie apart without the shaft. Three deviations of that are no change.
const SLIDING: f64 = 3.0 * 0.005;

/// What is claimed of the whole window.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Claimed {
    /// The family's fundamental, Hz.
    pub(super) hz: f64,
    /// Its harmonics that stand out.
    pub(super) harmonics: Vec<u8>,
}

impl Claimed {
    /// How far up its lines reach, and a turn of the shaft more, for sidebands and a floor about them, Hz.
    pub(super) fn reach_hz(&self, shaft_hz: f64) -> f64 {
        HARMONICS as f64 * self.hz + shaft_hz
    }

    /// Whether halves with lines `spacing_hz` apart, half of their resolution, show it too far apart. What is not
    /// seen in both of them does not.
    pub(super) fn drifts(&self, halves: &[Vec<f32>; 2], spacing_hz: f64, shaft_hz: f64) -> bool {
        let Some(highest) = self.harmonics.iter().max() else {
            return false;
        };
        let [first, second] = [0, 1].map(|half| self.found(&halves[half], spacing_hz, shaft_hz));
        let located_hz = LOCATED * 2.0 * spacing_hz / f64::from(*highest);
        // Lines lie half a resolution apart, and a resolution is one over a half's length.
        let strikes = self.hz / (2.0 * spacing_hz);
        let sliding_hz = SLIDING * (2.0 / strikes).sqrt() * self.hz;
        let least_hz = (0.5 * DRIFT * self.hz).max(located_hz).max(sliding_hz);
        first
            .zip(second)
            .is_some_and(|(first, second)| (first - second).abs() > least_hz)
    }

    /// Where the family stands in a half, Hz.
    fn found(&self, lines: &[f32], spacing_hz: f64, shaft_hz: f64) -> Option<f64> {
        let floors: Vec<f64> = self
            .harmonics
            .iter()
            .map(|harmonic| floor(lines, f64::from(*harmonic) * self.hz, shaft_hz, spacing_hz))
            .collect::<Option<_>>()?;
        let power = |hz: f64| {
            let powers = self.harmonics.iter().zip(&floors).map(|(harmonic, floor)| {
                let place = f64::from(*harmonic) * hz / spacing_hz;
                let line = |index: usize| lines.get(index).map_or(0.0, |line| f64::from(*line) / floor);
                let (below, above) = (line(place as usize), line(place as usize + 1));
                (below + place.fract() * (above - below)).powi(2)
            });
            powers.sum::<f64>() / self.harmonics.len() as f64
        };
        let highest = f64::from(self.harmonics.iter().copied().max()?);
        let step = spacing_hz / (STEPS * highest);
        let steps = (2.0 * REACH * self.hz / step) as usize;
        let (hz, power) = (0..=steps)
            .map(|index| (1.0 - REACH) * self.hz + index as f64 * step)
            .map(|hz| (hz, power(hz)))
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        (power >= SEEN).then_some(hz)
    }
}

/// The median of the lines within half a turn's distance.
fn floor(lines: &[f32], hz: f64, shaft_hz: f64, spacing_hz: f64) -> Option<f64> {
    let index = |hz: f64| (hz.max(0.0) / spacing_hz) as usize;
    let end = index(hz + 0.5 * shaft_hz).min(lines.len());
    let mut near = lines.get(index(hz - 0.5 * shaft_hz)..end)?.to_vec();
    let middle = near.len() / 2;
    (middle < near.len()).then(|| {
        let (_, median, _) = near.select_nth_unstable_by(middle, f32::total_cmp);
        f64::from(median.max(f32::MIN_POSITIVE))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING_HZ: f64 = 1.0;

    /// A flat floor with three lines of a Hann window's shape at harmonics of a frequency.
    fn half(hz: f64, height: f64) -> Vec<f32> {
        (0..600)
            .map(|index| {
                let lines = (1..=3).map(|harmonic| {
                    let off: f64 = (f64::from(index) - f64::from(harmonic) * hz / SPACING_HZ) / 2.0;
                    height * (1.0 - 0.5 * off * off).max(0.0)
                });
                lines.sum::<f64>().max(1.0) as f32
            })
            .collect()
    }

    fn drifts(first_hz: f64, second_hz: f64, height: f64) -> bool {
        let claimed = Claimed {
            hz: f64::midpoint(first_hz, second_hz),
            harmonics: vec![1, 2, 3],
        };
        let halves = [half(first_hz, height), half(second_hz, height)];
        claimed.drifts(&halves, SPACING_HZ, 30.0)
    }

    #[test]
    fn halves_more_than_half_a_per_cent_apart_show_a_change() {
        for (change, expected) in [
            (0.0, false),
            (0.003, false),
            (0.007, true),
            (0.02, true),
            (0.04, true),
        ] {
            for sign in [-1.0, 1.0] {
                let apart = 0.5 * sign * change;
                assert_eq!(
                    drifts(108.0 * (1.0 - apart), 108.0 * (1.0 + apart), 8.0),
                    expected,
                    "{change}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_seen_in_both_halves_does_not_move() {
        assert!(!drifts(107.0, 109.0, 1.5));
    }

    #[test]
    fn what_cannot_be_located_does_not_move() {
        let claimed = Claimed {
            hz: 12.0,
            harmonics: vec![1],
        };
        assert!(!claimed.drifts(&[half(11.9, 8.0), half(12.1, 8.0)], SPACING_HZ, 30.0));
    }

    #[test]
    fn lines_beyond_the_spectrum_are_none() {
        let claimed = Claimed {
            hz: 10_000.0,
            harmonics: vec![1, 2],
        };
        assert!(!claimed.drifts(&[half(100.0, 8.0), half(110.0, 8.0)], SPACING_HZ, 30.0));
        let nothing = Claimed {
            hz: 100.0,
            harmonics: Vec::new(),
        };
        assert!(!nothing.drifts(&[Vec::new(), Vec::new()], SPACING_HZ, 30.0));
    }
}
