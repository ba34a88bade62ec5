//! Which features of `trunnion_common` are computed on which window, and the bearing search.

mod demodulation;
mod drift;
mod kurtogram;
mod lanes;
mod median;
mod memory;
mod search;
mod speed;
mod told;
mod vibration;

pub use memory::{Envelope, EnvelopeMemory};
pub use speed::ShaftSpeed;

use crate::bearing::{BearingOrders, Element, Neighbours};
use crate::diagnosis::{Outcome, Train, Undetermined};
use demodulation::Demodulator;
use drift::Claimed;
use search::{EnvelopeSpectrum, MINIMUM_REVOLUTIONS, Prominences, Search, Sought};
use speed::{SHAFT_HARMONICS, Spectra, refine};
use std::borrow::Cow;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::definition::Basis;
use vibration::Vibration;

/// Sample rate over the highest usable frequency: the customary guard for an analyser's anti-alias filter.
pub const NYQUIST_MARGIN: f64 = 2.56;

/// What is known about the machine at a measurement point: geometry and speed, never a label.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PointContext {
    /// Shaft speed at the bearing.
    pub shaft: ShaftSpeed,
    /// The bearing beside the sensor, if one is declared.
    pub bearing: Option<BearingOrders>,
    /// The machine's other bearings, which are heard here as well.
    pub neighbours: Neighbours,
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
    /// The band in which the window is most impulsive, where that shows the same element.
    pub confirmed: Option<ConfirmingBand>,
}

/// A part of the band that was searched, and what it says of the element that the whole has named. It never names one.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ConfirmingBand {
    /// Which, Hz.
    pub band_hz: (f64, f64),
    /// Kurtosis of its complex envelope, 0 for Gaussian noise: median over parts of the window.
    pub kurtosis: f64,
    /// Score of the element's lines in its envelope.
    pub score: f64,
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
    /// The speed that the bearing was searched for at.
    pub speed: Option<ShaftSpeed>,
    /// Why what was found of the bearing is not told: that nothing is told is then not the same as healthy.
    pub undetermined: Option<Undetermined>,
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
    vibration: Vibration,
}

impl Analyzer {
    /// An analyzer with nothing planned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that is computed on a window of a point: what [`Self::analyze`] does, and what `basis`
    /// defines. A missing sample counts as the mean of the others.
    pub fn measure(
        &mut self,
        window: &[f32],
        basis: &Basis,
        context: &PointContext,
        depth: Depth,
    ) -> WindowFeatures {
        let mut features = self.analyze(window, basis.rate_hz, context, depth);
        // The first value is the mean; without one there are no samples.
        let Some(&(FeatureKind::Mean, mean)) = features.values.first() else {
            return features;
        };
        let filled = filled(window, mean);
        self.vibration
            .measure(&filled, basis, depth, &mut features.values);
        features.values.sort_by_key(|(kind, _)| *kind);
        features
    }

    /// What the machine's shaft, and what hangs on it, says of a window ([`crate::diagnosis`]). A missing sample
    /// counts as the mean of the others.
    pub fn examine(&mut self, window: &[f32], basis: &Basis, train: &Train) -> Outcome {
        let present = window.iter().filter(|sample| sample.is_finite());
        let (sum, count) = present.fold((0.0, 0u32), |(sum, count), &sample| {
            (sum + f64::from(sample), count + 1)
        });
        let filled = filled(window, (sum / f64::from(count.max(1))) as f32);
        self.vibration.examine(&filled, basis, train)
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
            speed: None,
            undetermined: None,
        };
        let present = if is_whole(window) {
            Cow::Borrowed(window)
        } else {
            let present = window.iter().filter(|sample| sample.is_finite());
            present.copied().collect()
        };
        let Some(statistics) = lanes::statistics(&present) else {
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
        let (search, envelope, speed) = match self.search(window, statistics.mean, rate_hz, context, &bearing)
        {
            Searched::Whole(search, envelope, speed) => (search, envelope, speed),
            Searched::Not => return features,
            Searched::Undetermined(why) => {
                features.undetermined = Some(why);
                return features;
            }
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
        features.finding = search.finding(envelope.band_hz).map(|finding| Finding {
            confirmed: envelope.confirms(finding.element),
            ..finding
        });
        features.envelope = Some(envelope);
        features.speed = Some(speed);
        features
    }

    /// The bearing search on the window, what it searched, and at what speed: the declared one where that is known
    /// well, else the one that the window shows, else the declared one with room for its tolerance. Undetermined where
    /// the speed changes too much within the window ([`drift`]).
    fn search(
        &mut self,
        window: &[f32],
        mean: f32,
        rate_hz: f64,
        context: &PointContext,
        bearing: &BearingOrders,
    ) -> Searched {
        let declared = context.shaft;
        let length = friendly_length(window.len());
        let seconds = length as f64 / rate_hz;
        if !seconds.is_finite() || declared.hz.is_nan() || seconds * declared.hz < MINIMUM_REVOLUTIONS {
            return Searched::Not;
        }
        let high_hz = context.band_high_hz.min(rate_hz / NYQUIST_MARGIN);
        let last_line = (high_hz * seconds) as usize;
        // Two lines a turn and more: below that there is no band to modulate.
        if last_line < 4 {
            return Searched::Not;
        }
        // The envelope of a band cannot move faster than the band is wide; its spectrum falls off towards
        // that, and half of it is usable.
        let usable_hz = EnvelopeSpectrum::reach_hz(bearing, declared.hz).min(0.5 * high_hz);
        let wanted = (usable_hz * seconds) as usize + 1;
        // What the speed is read from.
        let lowest = if declared.is_fine() {
            0
        } else {
            ((SHAFT_HARMONICS + 1) as f64 * declared.hz * seconds) as usize
        };
        let lowest = lowest.min(last_line);
        let demodulator = self
            .demodulator
            .get_or_insert_with(|| Box::new(Demodulator::new()));
        demodulator.demodulate(&window[..length], mean, last_line, wanted, lowest);
        let spacing_hz = 0.5 / seconds;
        let band_hz = (1.0 / seconds, last_line as f64 / seconds);
        let speed = if declared.is_fine() {
            declared
        } else {
            let spectra = Spectra {
                plain: (&demodulator.plain(), spacing_hz),
                envelope: (demodulator.magnitudes(), spacing_hz),
            };
            refine(&spectra, bearing, declared).unwrap_or(declared)
        };
        let sought = Sought {
            bearing: *bearing,
            neighbours: context.neighbours,
            tolerance: if speed.is_fine() { 0.0 } else { speed.tolerance },
        };
        let prominences = Prominences::new(demodulator.magnitudes(), spacing_hz, speed.hz, usable_hz);
        let spectrum = EnvelopeSpectrum::new(&prominences);
        let search = Search::new(&spectrum, &sought);
        let claimed = search.claimed(&spectrum);
        let drifts = |claimed: &Claimed| claimed.drifts(&demodulator.halves(wanted), 1.0 / seconds, speed.hz);
        if claimed.as_ref().is_some_and(drifts) {
            return Searched::Undetermined(Undetermined::SpeedDiffers);
        }
        let confirmed = search.element().zip(claimed).and_then(|(element, claimed)| {
            // All lines of the bearing's families have room in the envelope of a band; those of what is claimed are
            // looked at.
            let narrowest = (EnvelopeSpectrum::family_hz(bearing, speed.hz) * seconds) as usize;
            let usable_hz = usable_hz.min(claimed.reach_hz(speed.hz));
            let selected = demodulator.select(narrowest, (usable_hz * seconds) as usize + 1)?;
            let usable_hz = usable_hz.min(selected.lines.len() as f64 / seconds);
            let prominences = Prominences::new(&selected.magnitudes, spacing_hz, speed.hz, usable_hz);
            let band = ConfirmingBand {
                band_hz: (
                    selected.lines.start as f64 / seconds,
                    selected.lines.end as f64 / seconds,
                ),
                kurtosis: selected.kurtosis.into(),
                score: search.confirmed(&EnvelopeSpectrum::new(&prominences))?,
            };
            Some((element, band))
        });
        let envelope = Envelope {
            prominences: prominences.shortened(),
            sought,
            band_hz,
            confirmed,
        };
        Searched::Whole(search, envelope, speed)
    }
}

/// Whether no sample is missing. Looks at all of them, several at once, instead of stopping at the first.
fn is_whole(window: &[f32]) -> bool {
    window
        .iter()
        .fold(true, |whole, sample| whole & sample.is_finite())
}

/// What became of the bearing search on a window.
#[allow(
    clippy::large_enum_variant,
    reason = "one lives at a time, and nearly always the large one"
)]
enum Searched {
    /// Too few turns, or no usable band.
    Not,
    /// What shows cannot be relied on.
    Undetermined(Undetermined),
    Whole(Search, Envelope, ShaftSpeed),
}

/// The window with a value where a sample is missing.
fn filled(window: &[f32], value: f32) -> Cow<'_, [f32]> {
    if is_whole(window) {
        return Cow::Borrowed(window);
    }
    let fill = |sample: &f32| if sample.is_finite() { *sample } else { value };
    window.iter().map(fill).collect()
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
    use crate::diagnosis::Cause;
    use std::collections::BTreeMap;
    use std::f64::consts::TAU;
    use trunnion_common::feature::band::Band;
    use trunnion_common::feature::definition::{BANDS_MAX, SpeedSource, WatchedBand};
    use trunnion_common::quantity::Unit;

    fn context(bearing: Option<&str>) -> PointContext {
        let bearing = bearing.map(|designation| designation.parse().unwrap());
        PointContext {
            shaft: ShaftSpeed::declared(30.0, 0.003),
            bearing,
            neighbours: Neighbours::default(),
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
        assert_eq!(kinds(&features), FeatureKind::ALL[..11]);
        assert_eq!(features.finding, None, "noise is no fault");
    }

    fn basis(rate_hz: f64, seconds: f64) -> Basis {
        Basis {
            unit: Unit::StandardGravity,
            rate_hz,
            seconds,
            usable_low_hz: 1.0,
            usable_high_hz: rate_hz / 2.56,
            shaft_hz: 30.0,
            speed: SpeedSource::Declared,
            envelope_hz: None,
            bands: [None; BANDS_MAX],
        }
    }

    /// A shaft at 30 Hz with 2 mm/s at its speed, 1 at twice and 0.5 at three times that, and a carrier in the
    /// middle of the band that is modulated by 0.1 g RMS.
    fn machine(rate_hz: f64, seconds: f64) -> Vec<f32> {
        let sine = |hz: f64, at: f64| 2f64.sqrt() * (TAU * hz * at + 0.3).sin();
        let velocity = |hz: f64, at: f64| TAU * hz / 9_806.65 * sine(hz, at);
        let value = |index: usize| {
            let at = index as f64 / rate_hz;
            let shaft = 2.0 * velocity(30.0, at) + velocity(60.0, at) + 0.5 * velocity(90.0, at);
            let carrier = (0.3 + 0.1 * sine(107.0, at)) * (TAU * rate_hz / 5.12 * at).sin();
            1.0 + shaft + carrier
        };
        (0..(rate_hz * seconds) as usize)
            .map(|index| value(index) as f32)
            .collect()
    }

    fn measured(window: &[f32], basis: &Basis, depth: Depth) -> BTreeMap<FeatureKind, f32> {
        let context = PointContext {
            band_high_hz: basis.usable_high_hz,
            ..context(None)
        };
        let features = Analyzer::new().measure(window, basis, &context, depth);
        let kinds = kinds(&features);
        assert!(kinds.is_sorted(), "{kinds:?}");
        features.values.into_iter().collect()
    }

    #[test]
    fn velocity_and_envelope_are_told_at_every_rate() {
        for rate_hz in [6_400.0, 12_000.0, 25_600.0, 48_000.0, 97_656.0] {
            let found = measured(&machine(rate_hz, 1.0), &basis(rate_hz, 1.0), Depth::Full);
            let check = |kind: FeatureKind, expected: f32| {
                let error = found[&kind] / expected - 1.0;
                assert!(
                    error.abs() < 0.01,
                    "{kind:?} at {rate_hz}: {} is not {expected}",
                    found[&kind]
                );
            };
            check(FeatureKind::VelocityRms, 5.25f32.sqrt());
            check(FeatureKind::VelocityOrder1, 2.0);
            check(FeatureKind::VelocityOrder2, 1.0);
            check(FeatureKind::VelocityOrder3, 0.5);
            check(FeatureKind::EnvelopeRms, 0.1);
        }
    }

    #[test]
    fn a_window_is_examined_with_what_is_declared_of_the_machine() {
        let unbalanced = |rate_hz: f64| -> Vec<f32> {
            let sine = |index: usize| (TAU * 30.0 * index as f64 / rate_hz).sin();
            (0..rate_hz as usize)
                .map(|index| (1.0 + 0.15 * sine(index)) as f32)
                .collect()
        };
        let train = Train {
            limit_mm_s: Some(2.8),
            ..Train::default()
        };
        for rate_hz in [6_400.0, 12_000.0, 25_600.0, 48_000.0] {
            let mut window = unbalanced(rate_hz);
            window[100] = f32::NAN;
            let outcome = Analyzer::new().examine(&window, &basis(rate_hz, 1.0), &train);
            let Outcome::Suspected(suspicion) = outcome else {
                panic!("at {rate_hz} Hz: {outcome:?}");
            };
            assert_eq!(suspicion.cause, Cause::Unbalance);
            let expected = 0.15 * 9_806.65 / (TAU * 30.0) / 2f64.sqrt();
            assert!(
                (suspicion.lines[0].rms / expected - 1.0).abs() < 0.01,
                "{suspicion:?}"
            );
        }
        let undeclared =
            Analyzer::new().examine(&unbalanced(25_600.0), &basis(25_600.0, 1.0), &Train::default());
        assert_eq!(undeclared, Outcome::Undetermined(Undetermined::NothingDeclared));
    }

    #[test]
    fn under_shedding_the_overall_is_still_told_and_no_lines() {
        let found = measured(&machine(25_600.0, 1.0), &basis(25_600.0, 1.0), Depth::Severity);
        assert!(found.contains_key(&FeatureKind::VelocityRms));
        assert!(!found.contains_key(&FeatureKind::VelocityOrder1));
    }

    #[test]
    fn a_window_with_a_twentieth_missing_keeps_its_overall() {
        let mut window = machine(25_600.0, 1.0);
        window[13_000..14_280].fill(f32::NAN);
        let found = measured(&window, &basis(25_600.0, 1.0), Depth::Full);
        let overall = found[&FeatureKind::VelocityRms];
        assert!((overall / 5.25f32.sqrt() - 1.0).abs() < 0.1, "{overall}");
    }

    #[test]
    fn what_the_sensor_does_not_reach_is_not_told() {
        let window = machine(25_600.0, 1.0);
        let kinds = |basis: &Basis| -> Vec<FeatureKind> {
            let found = measured(&window, basis, Depth::Full);
            found
                .into_keys()
                .filter(|kind| *kind > FeatureKind::EnvelopeCage)
                .collect()
        };
        let whole = basis(25_600.0, 1.0);
        let lines = [
            FeatureKind::VelocityRms,
            FeatureKind::EnvelopeRms,
            FeatureKind::VelocityOrder1,
            FeatureKind::VelocityOrder2,
            FeatureKind::VelocityOrder3,
        ];
        assert_eq!(kinds(&whole), lines);
        let deaf_below_50 = Basis {
            usable_low_hz: 50.0,
            ..whole
        };
        assert_eq!(kinds(&deaf_below_50), [lines[1], lines[3], lines[4]]);
        let speed_unknown = Basis {
            shaft_hz: 0.0,
            ..whole
        };
        assert_eq!(kinds(&speed_unknown), lines[..2]);
        let envelope_beyond = Basis {
            envelope_hz: Some((9_000.0, 11_000.0)),
            ..whole
        };
        assert!(!kinds(&envelope_beyond).contains(&FeatureKind::EnvelopeRms));
        let temperature = Basis {
            unit: Unit::DegreeCelsius,
            ..whole
        };
        assert_eq!(kinds(&temperature), []);
        for rate_hz in [0.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
            assert_eq!(kinds(&Basis { rate_hz, ..whole }), [], "at {rate_hz} Hz");
        }
    }

    #[test]
    fn bands_of_the_point_are_told_in_hz_and_in_orders() {
        let bands = [
            Some((
                Band::Hz {
                    low: 20.0,
                    high: 40.0,
                },
                true,
            )),
            Some((Band::Orders { low: 1.5, high: 3.5 }, true)),
            Some((
                Band::Hz {
                    low: 4_000.0,
                    high: 6_000.0,
                },
                false,
            )),
            None,
        ];
        let basis = Basis {
            bands: bands.map(|band| band.map(|(band, velocity)| WatchedBand { band, velocity })),
            ..basis(25_600.0, 1.0)
        };
        let found = measured(&machine(25_600.0, 1.0), &basis, Depth::Full);
        for (kind, expected) in [
            (FeatureKind::Band1, 2.0),
            (FeatureKind::Band2, 1.25f32.sqrt()),
            // The carrier, and what its modulation leaves on either side.
            (FeatureKind::Band3, 0.1f32.sqrt() * 0.5f32.sqrt()),
        ] {
            assert!(
                (found[&kind] / expected - 1.0).abs() < 0.01,
                "{kind:?}: {}",
                found[&kind]
            );
        }
        assert!(!found.contains_key(&FeatureKind::Band4));
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
                envelope: None,
                speed: None,
                undetermined: None,
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
                shaft: ShaftSpeed::declared(shaft_hz, 0.003),
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
