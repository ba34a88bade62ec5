//! Which features of `trunnion_common` are computed on which window, and the bearing search.

mod demodulation;
mod memory;
mod search;

pub use memory::{Envelope, EnvelopeMemory};

use crate::bearing::{BearingOrders, Element};
use demodulation::Demodulator;
use search::{EnvelopeSpectrum, MINIMUM_REVOLUTIONS, Prominences, Search};
use std::borrow::Cow;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::statistics::Statistics;

/// What is known about the machine at a measurement point: geometry and speed, never a label.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PointContext {
    /// Shaft speed at the bearing, Hz.
    pub shaft_hz: f64,
    /// The bearing beside the sensor, if one is declared.
    pub bearing: Option<BearingOrders>,
    /// Nothing is diagnosed above this, Hz: the lowest of sensor band, mounting limit and fs / 2.56.
    pub band_high_hz: f64,
}

/// One line of an envelope spectrum that supports a claim.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct EvidenceLine {
    /// Where it was found, in orders of shaft speed.
    pub order: f64,
    /// Where it was found, Hz.
    pub frequency_hz: f64,
    /// Which harmonic of the element's order, 1 = the fundamental; a sideband bears its carrier's.
    pub harmonic: u8,
    /// Height over the local floor.
    pub prominence: f64,
}

/// A claim about one window.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Finding {
    /// The element, or none when a bearing fault shows and the element does not.
    pub element: Option<Element>,
    /// The element's order as found, slip included; 0 when undetermined.
    pub order: f64,
    /// Score of the claim: mean height of the element's lines over the local floor.
    pub score: f64,
    /// Score of the runner-up element.
    pub runner_up: f64,
    /// Lines found.
    pub lines: Vec<EvidenceLine>,
    /// Band of the raw signal that was demodulated, Hz.
    pub band_hz: (f64, f64),
}

/// Everything computed on one window of one channel.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowFeatures {
    /// Values, in the order of their kinds' numbers; one that is not defined on this window is left out.
    pub values: Vec<(FeatureKind, f32)>,
    /// What the window claims; `None` when it looks healthy, or there was nothing to search with.
    pub finding: Option<Finding>,
    /// What the finding was read from, for an [`EnvelopeMemory`] to hear; none where nothing was searched.
    pub envelope: Option<Envelope>,
}

/// How much is computed on a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub enum Depth {
    /// Everything.
    #[default]
    Full,
    /// How much it vibrates, and not why: a tenth of the work.
    Severity,
}

/// Computes the features of windows. Keeps plans and buffers, and of what it has computed nothing.
#[derive(Default)]
pub struct Analyzer {
    demodulator: Option<Box<Demodulator>>,
}

impl Analyzer {
    /// An analyzer with nothing planned.
    pub fn new() -> Self {
        Self::default()
    }

    /// The features of one window of `rate_hz` samples a second, in the channel's unit. A missing
    /// sample is a NaN and counts as the mean of the others; the caller decides how many may be
    /// missing.
    ///
    /// A window without any sample has no features.
    pub fn analyze(
        &mut self,
        window: &[f32],
        rate_hz: f64,
        context: &PointContext,
        depth: Depth,
    ) -> WindowFeatures {
        let mut features = WindowFeatures {
            values: Vec::new(),
            finding: None,
            envelope: None,
        };
        let is_present = |sample: &&f32| sample.is_finite();
        let present = if window.iter().filter(is_present).count() == window.len() {
            Cow::Borrowed(window)
        } else {
            window.iter().filter(is_present).copied().collect()
        };
        let Some(statistics) = Statistics::of(&present) else {
            return features;
        };
        features.values.extend([
            (FeatureKind::Mean, statistics.mean),
            (FeatureKind::Rms, statistics.rms),
            (FeatureKind::Peak, statistics.peak),
            (FeatureKind::PeakToPeak, statistics.peak_to_peak),
        ]);
        if let Some(shape) = statistics.shape {
            features.values.extend([
                (FeatureKind::CrestFactor, shape.crest_factor),
                (FeatureKind::KurtosisExcess, shape.kurtosis_excess),
                (FeatureKind::Skewness, shape.skewness),
            ]);
        }
        let Some(bearing) = context.bearing.filter(|_| depth == Depth::Full) else {
            return features;
        };
        let found = self.search(window, statistics.mean, rate_hz, context, &bearing);
        let Some((search, envelope)) = found else {
            return features;
        };
        for element in Element::ALL {
            let kind = match element {
                Element::OuterRace => FeatureKind::EnvelopeOuterRace,
                Element::InnerRace => FeatureKind::EnvelopeInnerRace,
                Element::Ball => FeatureKind::EnvelopeBall,
                Element::Cage => FeatureKind::EnvelopeCage,
            };
            if let Some(score) = search.score(element) {
                features.values.push((kind, score as f32));
            }
        }
        features.values.sort_by_key(|(kind, _)| *kind);
        features.finding = search.finding(envelope.band_hz);
        features.envelope = Some(envelope);
        features
    }

    /// The bearing search on the window, and what it searched; none where the window holds too few turns or the
    /// band is not usable.
    fn search(
        &mut self,
        window: &[f32],
        mean: f32,
        rate_hz: f64,
        context: &PointContext,
        bearing: &BearingOrders,
    ) -> Option<(Search, Envelope)> {
        let length = friendly_length(window.len());
        let seconds = length as f64 / rate_hz;
        if !seconds.is_finite()
            || context.shaft_hz.is_nan()
            || seconds * context.shaft_hz < MINIMUM_REVOLUTIONS
        {
            return None;
        }
        let high_hz = context.band_high_hz.min(rate_hz / 2.56);
        let last_line = (high_hz * seconds) as usize;
        // Two lines a turn and more: below that there is no band to modulate.
        if last_line < 4 {
            return None;
        }
        // The envelope of a band cannot move faster than the band is wide; its spectrum falls off towards
        // that, and half of it is usable.
        let usable_hz = EnvelopeSpectrum::reach_hz(bearing, context.shaft_hz).min(0.5 * high_hz);
        let wanted = (usable_hz * seconds) as usize + 1;
        let samples = window[..length].iter();
        let samples = samples.map(|&sample| if sample.is_finite() { sample - mean } else { 0.0 });
        let demodulator = self
            .demodulator
            .get_or_insert_with(|| Box::new(Demodulator::new()));
        let magnitudes = demodulator.magnitudes(samples, last_line, wanted);
        let prominences = Prominences::new(magnitudes, 0.5 / seconds, context.shaft_hz, usable_hz);
        let search = Search::new(&EnvelopeSpectrum::new(&prominences), bearing);
        let envelope = Envelope {
            prominences: prominences.shortened(),
            bearing: *bearing,
            band_hz: (1.0 / seconds, last_line as f64 / seconds),
        };
        Some((search, envelope))
    }
}

/// The longest even length of at most `samples` without a prime factor above 5, to which a window is
/// cropped: the transform of another length can take ten times as long. Loses less than 7 % at the
/// lengths that matter (from 1000 up), and nothing at 12,000, 25,600 or 48,000.
fn friendly_length(samples: usize) -> usize {
    (1..=samples / 2)
        .rev()
        .map(|half| 2 * half)
        .find(|&length| {
            let mut rest = length;
            for prime in [2, 3, 5] {
                while rest % prime == 0 {
                    rest /= prime;
                }
            }
            rest == 1
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(bearing: Option<&str>) -> PointContext {
        let bearing = bearing.map(|designation| designation.parse().unwrap());
        PointContext {
            shaft_hz: 30.0,
            bearing,
            band_high_hz: 5_000.0,
        }
    }

    /// Noise of a linear congruential generator (Knuth, MMIX), even from -1 to 1.
    fn noise(samples: usize) -> Vec<f32> {
        let mut state = 1u64;
        (0..samples)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn kinds(features: &WindowFeatures) -> Vec<FeatureKind> {
        features.values.iter().map(|(kind, _)| *kind).collect()
    }

    #[test]
    fn values_come_in_the_order_of_their_kinds() {
        let features = Analyzer::new().analyze(&noise(12_000), 12_000.0, &context(Some("6205")), Depth::Full);
        assert_eq!(kinds(&features), FeatureKind::ALL);
        assert_eq!(features.finding, None, "noise is no fault");
    }

    #[test]
    fn a_score_that_is_not_defined_is_left_out() {
        let window = noise(12_000);
        let without_bearing = Analyzer::new().analyze(&window, 12_000.0, &context(None), Depth::Full);
        assert_eq!(kinds(&without_bearing), FeatureKind::ALL[..7]);
        let ball_on_the_shaft =
            Analyzer::new().analyze(&window, 12_000.0, &context(Some("6203")), Depth::Full);
        assert!(
            !kinds(&ball_on_the_shaft).contains(&FeatureKind::EnvelopeBall),
            "3.987 is next to 4"
        );
        let constant = Analyzer::new().analyze(&[1.0; 12_000], 12_000.0, &context(None), Depth::Full);
        assert_eq!(kinds(&constant), FeatureKind::ALL[..4]);
        let nothing =
            Analyzer::new().analyze(&[f32::NAN; 12_000], 12_000.0, &context(Some("6205")), Depth::Full);
        assert_eq!(
            nothing,
            WindowFeatures {
                values: Vec::new(),
                finding: None,
                envelope: None
            }
        );
        assert_eq!(
            Analyzer::new()
                .analyze(&[], 12_000.0, &context(Some("6205")), Depth::Full)
                .values,
            []
        );
    }

    #[test]
    fn a_window_of_too_few_turns_is_not_searched() {
        let search = |samples: usize| {
            let features =
                Analyzer::new().analyze(&noise(samples), 12_000.0, &context(Some("6205")), Depth::Full);
            kinds(&features).contains(&FeatureKind::EnvelopeOuterRace)
        };
        assert!(search(6_000), "15 turns");
        assert!(!search(5_900));
    }

    #[test]
    fn a_speed_or_rate_that_is_no_number_is_not_searched() {
        let window = noise(12_000);
        for (rate_hz, shaft_hz) in [
            (0.0, 30.0),
            (f64::NAN, 30.0),
            (12_000.0, f64::NAN),
            (12_000.0, 0.0),
            (12_000.0, -30.0),
        ] {
            let context = PointContext {
                shaft_hz,
                ..context(Some("6205"))
            };
            assert_eq!(
                Analyzer::new()
                    .analyze(&window, rate_hz, &context, Depth::Full)
                    .finding,
                None
            );
        }
        for band_high_hz in [f64::NAN, 0.0, 3.0, 100.0] {
            let context = PointContext {
                band_high_hz,
                ..context(Some("6205"))
            };
            assert_eq!(
                Analyzer::new()
                    .analyze(&window, 12_000.0, &context, Depth::Full)
                    .finding,
                None
            );
        }
    }

    #[test]
    fn missing_samples_do_not_enter_the_statistics() {
        let mut window = [1.0, 3.0].repeat(600);
        window[10] = f32::NAN;
        window[11] = f32::NAN;
        let features = Analyzer::new().analyze(&window, 1_200.0, &context(None), Depth::Full);
        assert_eq!(
            features.values[..2],
            [(FeatureKind::Mean, 2.0), (FeatureKind::Rms, 1.0)]
        );
    }

    #[test]
    fn what_was_analysed_before_leaves_no_trace() {
        let window = noise(12_000);
        let fresh = Analyzer::new().analyze(&window, 12_000.0, &context(Some("6205")), Depth::Full);
        let mut analyzer = Analyzer::new();
        for samples in (3_000..=12_000).step_by(900) {
            analyzer.analyze(&noise(samples), 3_000.0, &context(Some("6205")), Depth::Full);
        }
        assert_eq!(
            analyzer.analyze(&window, 12_000.0, &context(Some("6205")), Depth::Full),
            fresh
        );
    }

    #[test]
    fn the_largest_numbers_are_no_fault() {
        let window: Vec<f32> = noise(12_000)
            .into_iter()
            .map(|sample| sample * f32::MAX)
            .collect();
        assert_eq!(
            Analyzer::new()
                .analyze(&window, 12_000.0, &context(Some("6205")), Depth::Full)
                .finding,
            None
        );
    }

    #[test]
    fn an_analyzer_moves_between_threads() {
        fn check<T: Send>(_: T) {}
        check(Analyzer::new());
    }

    #[test]
    fn a_window_is_cropped_to_a_length_that_transforms_fast() {
        for (samples, expected) in [
            (0, 0),
            (1, 0),
            (2, 2),
            (12_000, 12_000),
            (25_600, 25_600),
            (48_000, 48_000),
            (97_656, 97_200),
        ] {
            assert_eq!(friendly_length(samples), expected, "of {samples}");
        }
        for samples in 1_000..30_000 {
            let length = friendly_length(samples);
            assert!(
                length <= samples && 100 * length > 93 * samples,
                "{length} of {samples}"
            );
        }
    }
}
