//! What a spectrum holds in a band or at a line, in Hz or in orders of the shaft's speed.

use super::spectrum::HANN_NOISE_BANDWIDTH;
use serde::{Deserialize, Serialize};

/// Lines on either side that the main lobe of a Hann window covers, wherever between two lines a sine is.
const LOBE: usize = 2;

/// A stretch of a spectrum.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Between two frequencies.
    Hz {
        /// From here, Hz.
        low: f32,
        /// Up to here, Hz.
        high: f32,
    },
    /// Between two multiples of the shaft's speed.
    Orders {
        /// From here.
        low: f32,
        /// Up to here.
        high: f32,
    },
}

impl Band {
    /// The edges in Hz at a shaft's speed in Hz; none for orders without a speed, or edges that hold nothing.
    pub fn edges_hz(&self, shaft_hz: f64) -> Option<(f64, f64)> {
        let (low, high, unit) = match *self {
            Self::Hz { low, high } => (low, high, 1.0),
            Self::Orders { low, high } => (low, high, shaft_hz),
        };
        let (low, high) = (f64::from(low) * unit, f64::from(high) * unit);
        (low >= 0.0 && high > low).then_some((low, high))
    }
}

/// Lines of an averaged Hann spectrum ([`super::spectrum`]), from 0 Hz up.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    /// Heights, RMS.
    pub heights: &'a [f32],
    /// Distance of the lines, Hz.
    pub resolution_hz: f64,
}

/// A line that stands in a spectrum.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Line {
    /// Where it is, Hz: between two lines where the neighbours say so.
    pub hz: f64,
    /// The RMS of the sine that it is of, in the spectrum's unit.
    pub rms: f32,
    /// Which line of the spectrum is its highest.
    pub index: usize,
}

impl Lines<'_> {
    /// The highest frequency that a line stands for, Hz.
    pub fn high_hz(&self) -> f64 {
        self.heights.len().saturating_sub(1) as f64 * self.resolution_hz
    }

    /// Root of the power in a band, edges included; none where the spectrum does not reach, or no line is.
    pub fn band_rms(&self, low_hz: f64, high_hz: f64) -> Option<f32> {
        let first = libm::ceil(low_hz / self.resolution_hz - 1e-6).max(0.0) as usize;
        let last = libm::floor(high_hz / self.resolution_hz + 1e-6).max(0.0) as usize;
        Some(rms(self
            .heights
            .get(first..=last)
            .filter(|lines| !lines.is_empty())?))
    }

    /// The highest line within `reach_hz` of a frequency. None beyond the spectrum, and none where that line
    /// stands on the flank of a higher one outside the reach.
    pub fn line_near(&self, hz: f64, reach_hz: f64) -> Option<Line> {
        let reach_hz = reach_hz.max(0.5 * self.resolution_hz);
        let first = libm::ceil((hz - reach_hz) / self.resolution_hz - 1e-6).max(1.0) as usize;
        let last = libm::floor((hz + reach_hz) / self.resolution_hz + 1e-6).max(0.0) as usize;
        if last + 1 >= self.heights.len() || last < first {
            return None;
        }
        let index = (first..=last).max_by(|&a, &b| self.heights[a].total_cmp(&self.heights[b]))?;
        let lobe = &self.heights[index.saturating_sub(LOBE)..(index + LOBE + 1).min(self.heights.len())];
        let top = self.heights[index];
        if top <= 0.0 || lobe.iter().any(|&line| line > top) {
            return None;
        }
        Some(Line {
            hz: self.summit_hz(index),
            rms: rms(lobe),
            index,
        })
    }

    /// Where the sine is that a line is the highest of, Hz: of a Hann window one that lies `d` beside the line
    /// has its two highest as 2 - d to 1 + d (D. C. Rife and G. A. Vincent, *Bell Syst. Tech. J.* 49, 1970).
    pub fn summit_hz(&self, index: usize) -> f64 {
        let height = |index: Option<usize>| {
            index
                .and_then(|index| self.heights.get(index))
                .copied()
                .unwrap_or(0.0)
        };
        let (before, after) = (height(index.checked_sub(1)), height(Some(index + 1)));
        let (side, towards) = if after >= before {
            (after, 1.0)
        } else {
            (before, -1.0)
        };
        let ratio = f64::from(side) / f64::from(height(Some(index)).max(f32::MIN_POSITIVE));
        let shift = ((2.0 * ratio - 1.0) / (ratio + 1.0)).clamp(0.0, 0.5);
        (index as f64 + towards * shift) * self.resolution_hz
    }

    /// The height that a share of the lines within so many on either side of one does not reach: what a line
    /// there stands on. The median (1/2) is a floor as long as half of the lines are no sines. Takes
    /// `scratch` for as many as fit.
    pub fn floor(&self, index: usize, reach: usize, share: f32, scratch: &mut [f32]) -> f32 {
        let first = index.saturating_sub(reach).max(1);
        let near = self
            .heights
            .get(first..(index + reach + 1).min(self.heights.len()));
        let near = near.unwrap_or_default();
        let count = near.len().min(scratch.len());
        let scratch = &mut scratch[..count];
        scratch.copy_from_slice(&near[..count]);
        if scratch.is_empty() {
            return 0.0;
        }
        let rank = (share * count as f32) as usize;
        let (_, floor, _) = scratch.select_nth_unstable_by(rank.min(count - 1), f32::total_cmp);
        *floor
    }
}

/// Root of the power of lines of a Hann spectrum: sqrt(sum of squares / 1.5).
pub fn rms(lines: &[f32]) -> f32 {
    let squares: f64 = lines.iter().map(|&line| f64::from(line) * f64::from(line)).sum();
    libm::sqrt(squares / f64::from(HANN_NOISE_BANDWIDTH)) as f32
}

#[cfg(test)]
mod tests {
    use super::super::spectrum::Settings;
    use super::super::spectrum::tests::spectrum_of;
    use super::*;
    use core::f64::consts::TAU;

    const RATE_HZ: f64 = 2_560.0;

    fn tones(tones: &[(f64, f64)]) -> Vec<f32> {
        let value = |index: usize| -> f64 {
            let tone =
                |&(hz, rms): &(f64, f64)| 2f64.sqrt() * rms * (TAU * hz * index as f64 / RATE_HZ + hz).sin();
            tones.iter().map(tone).sum()
        };
        (0..10_240).map(|index| value(index) as f32).collect()
    }

    fn check(signal: &[(f64, f64)], look: impl FnOnce(Lines<'_>)) {
        let (heights, resolution_hz, _) = spectrum_of(&tones(signal), RATE_HZ, &Settings::VELOCITY);
        look(Lines {
            heights: &heights,
            resolution_hz,
        });
    }

    #[test]
    fn a_band_holds_the_power_of_its_sines_wherever_they_are() {
        for shift in [0.0, 0.1, 0.3125, 0.5] {
            check(
                &[(50.0 + shift, 3.0), (120.0 - shift, 4.0), (400.0, 9.0)],
                |lines| {
                    let rms = lines.band_rms(40.0, 130.0).unwrap();
                    assert!((rms - 5.0).abs() < 1e-3, "{rms}");
                    assert!(lines.band_rms(200.0, 300.0).unwrap() < 1e-2);
                    assert_eq!(lines.band_rms(900.0, 1_001.0), None, "beyond the spectrum");
                    assert_eq!(lines.band_rms(50.1, 50.2), None, "between two lines");
                },
            );
        }
    }

    #[test]
    fn a_line_is_found_where_it_is_and_as_high_as_it_is() {
        for hz in [30.0, 29.53, 29.7, 29.9, 30.31] {
            check(&[(hz, 2.0), (59.0, 0.4)], |lines| {
                let line = lines.line_near(30.0, 1.25).unwrap();
                assert!((line.hz - hz).abs() < 0.02, "{} is not {hz}", line.hz);
                assert!((line.rms - 2.0).abs() < 0.01, "{}", line.rms);
            });
        }
    }

    #[test]
    fn the_flank_of_another_line_is_none() {
        check(&[(30.0, 2.0)], |lines| {
            assert_eq!(lines.line_near(32.0, 1.0), None);
            assert!(lines.line_near(31.0, 1.0).is_some(), "its top lies within reach");
            assert_eq!(lines.line_near(999.9, 1.0), None, "beyond the spectrum");
            assert_eq!(lines.line_near(f64::NAN, 1.0), None);
        });
    }

    #[test]
    fn orders_follow_the_speed() {
        let orders = Band::Orders { low: 0.9, high: 1.1 };
        let (low, high) = orders.edges_hz(30.0).unwrap();
        assert!((low - 27.0).abs() < 1e-5 && (high - 33.0).abs() < 1e-5);
        assert_eq!(orders.edges_hz(0.0), None, "no speed, no orders");
        assert_eq!(
            Band::Hz {
                low: 10.0,
                high: 20.0
            }
            .edges_hz(0.0),
            Some((10.0, 20.0))
        );
        assert_eq!(
            Band::Hz {
                low: 20.0,
                high: 10.0
            }
            .edges_hz(0.0),
            None
        );
    }

    #[test]
    fn the_floor_is_what_the_other_lines_are() {
        let mut heights = [1.0; 100];
        heights[50] = 90.0;
        let lines = Lines {
            heights: &heights,
            resolution_hz: 1.0,
        };
        assert_eq!(lines.floor(50, 8, 0.5, &mut [0.0; 32]), 1.0);
        assert_eq!(lines.floor(200, 8, 0.5, &mut [0.0; 32]), 0.0);
    }
}
