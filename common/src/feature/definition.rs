//! What a feature's number means: quantity, unit, detector, band, time, lines and speed.
//!
//! Two numbers may only be compared, trended or graded when all of that is the same. So each series
//! bears a [`Definition`], and a window that is measured otherwise (another band, sampling rate, length or
//! unit) goes into another series. [`Basis`] is what the features of a window are computed from, and what
//! their definitions follow from: the one cannot be changed without the other.

use super::FeatureKind;
use super::band::Band;
use super::octave::Octaves;
use super::spectrum::Settings;
use super::velocity::Passband;
use crate::quantity::{Quantity, Unit};
use serde::{Deserialize, Serialize};

/// Bands of a measurement point that are trended beside the features that every point has.
pub const BANDS_MAX: usize = 4;

/// Orders on either side of a harmonic of the shaft that its band takes in: at 600 rpm and lines 2.5 Hz apart
/// what the Hann window spreads a harmonic over, and no part of the half orders between.
const ORDER_REACH: f32 = 0.25;

/// What is trended in a band of a point's own.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct WatchedBand {
    /// Which part of the spectrum.
    pub band: Band,
    /// Whether it is told as velocity, mm/s, or as what the channel measures.
    pub velocity: bool,
}

/// Everything that the features of a window are computed from, beside the samples.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Basis {
    /// Unit of the samples.
    pub unit: Unit,
    /// Samples a second.
    pub rate_hz: f64,
    /// Length of a window, seconds.
    pub seconds: f64,
    /// Lower edge of the band in which the sensor can be used, Hz.
    pub usable_low_hz: f64,
    /// Its upper edge, Hz: the lowest of the sensor's, the mounting's and fs / 2.56.
    pub usable_high_hz: f64,
    /// Speed of the shaft, Hz; 0 where it is not known.
    pub shaft_hz: f64,
    /// Where the speed is from.
    pub speed: SpeedSource,
    /// The band whose envelope is trended, Hz; the middle three tenths of the usable one where none is
    /// declared, which lies above the harmonics of most machines and below the sensor's own resonance.
    pub envelope_hz: Option<(f32, f32)>,
    /// Bands of the point's own.
    pub bands: [Option<WatchedBand>; BANDS_MAX],
}

/// Where a speed is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpeedSource {
    /// No speed is known.
    #[default]
    Unknown,
    /// Declared with the machine.
    Declared,
    /// Measured at the shaft.
    Tacho,
    /// Estimated from the vibration.
    Estimated,
}

/// What is computed of the values in the band.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// Arithmetic mean.
    Mean,
    /// Root mean square.
    Rms,
    /// Square root of 2 times the RMS: the peak of a sine of that power.
    DerivedPeak,
    /// Largest distance from the mean.
    TruePeak,
    /// Largest minus smallest value.
    PeakToPeak,
    /// A ratio of moments, without unit.
    Moment,
    /// Height of lines over their floor, without unit.
    Score,
}

/// Where it is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// On the samples, or on what a filter leaves of them.
    Time,
    /// On averaged lines.
    Spectrum,
    /// On the envelope of a band.
    Envelope,
    /// On the lines of the envelope of the whole band.
    EnvelopeSpectrum,
}

/// How samples are weighted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taper {
    /// All alike.
    Rectangular,
    /// By the periodic Hann window.
    Hann,
}

/// What a feature's number means.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Definition {
    /// What is measured; none for a ratio.
    pub quantity: Option<Quantity>,
    /// In which unit; none for a ratio.
    pub unit: Option<Unit>,
    /// What is computed.
    pub detector: Detector,
    /// Where.
    pub domain: Domain,
    /// In which band.
    pub band: Band,
    /// How samples are weighted.
    pub window: Taper,
    /// How many segments are averaged.
    pub averages: u16,
    /// Distance of the lines, Hz; none without lines.
    pub resolution_hz: Option<f32>,
    /// Time measured over, milliseconds; a filter's settling is not in it.
    pub duration_ms: u32,
    /// Where the speed is from, if a speed is in it.
    pub speed: SpeedSource,
    /// Who defines it.
    pub source: &'static str,
}

impl Definition {
    /// A number that changes with the definition, and not with the wording of its source: FNV-1a (G. Fowler
    /// et al., draft-eastlake-fnv) of its fields as postcard writes them.
    pub fn number(&self) -> u32 {
        let mut bytes = [0; 96];
        let plain = Self { source: "", ..*self };
        let written = postcard::to_slice(&plain, &mut bytes).expect("a definition is shorter than 96 bytes");
        written.iter().fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
    }
}

impl Basis {
    /// The band of the overall velocity; none where the sensor does not reach it.
    pub fn velocity_band(&self) -> Option<Passband> {
        let band = Passband::for_speed(self.shaft_hz);
        let reaches = self.usable_low_hz <= band.low_hz.into() && self.usable_high_hz >= band.high_hz.into();
        let lasts = self.seconds >= band.settling_s() + band.duration_min_s();
        (reaches && lasts).then_some(band)
    }

    /// The spectrum that slow vibration is looked at in; none where the window is too short.
    pub fn slow_spectrum(&self) -> Option<Settings> {
        let settings = Settings::VELOCITY.within(self.seconds)?;
        (self.usable_high_hz >= settings.high_hz.into()).then_some(settings)
    }

    /// The spectrum of everything usable.
    pub fn wide_spectrum(&self) -> Option<Settings> {
        let wide = Settings {
            high_hz: self.usable_high_hz as f32,
            lines: 12_800,
            averages: Settings::VELOCITY.averages,
        };
        wide.within(self.seconds)
    }

    /// The band whose envelope is trended, Hz.
    pub fn envelope_band(&self) -> (f64, f64) {
        self.envelope_hz.map_or_else(
            || (0.35 * self.usable_high_hz, 0.65 * self.usable_high_hz),
            |(low, high)| (low.into(), high.into()),
        )
    }

    /// Which bands belong to a harmonic of the shaft.
    pub fn order_band(order: u8) -> Band {
        Band::Orders {
            low: f32::from(order) - ORDER_REACH,
            high: f32::from(order) + ORDER_REACH,
        }
    }

    /// The definition of a feature of such a window.
    pub fn define(&self, kind: FeatureKind) -> Definition {
        const STATISTICS: &str = "ISO 20816-1:2016; Randall 2021, 3.2";
        let whole = Definition {
            quantity: Some(self.unit.quantity()),
            unit: Some(self.unit),
            detector: Detector::Rms,
            domain: Domain::Time,
            band: Band::Hz {
                low: 0.0,
                high: (0.5 * self.rate_hz) as f32,
            },
            window: Taper::Rectangular,
            averages: 1,
            resolution_hz: None,
            duration_ms: milliseconds(self.seconds),
            speed: SpeedSource::Unknown,
            source: STATISTICS,
        };
        let of_whole = |detector| Definition { detector, ..whole };
        let ratio = |detector| Definition {
            quantity: None,
            unit: None,
            detector,
            ..whole
        };
        let score = || Definition {
            domain: Domain::EnvelopeSpectrum,
            band: Band::Hz {
                low: 0.0,
                high: self.usable_high_hz as f32,
            },
            window: Taper::Hann,
            resolution_hz: Some((1.0 / self.seconds) as f32),
            speed: self.speed,
            source: "McFadden and Smith 1984; Borghesani et al. 2013",
            ..ratio(Detector::Score)
        };
        match kind {
            FeatureKind::Mean => of_whole(Detector::Mean),
            FeatureKind::Rms => whole,
            FeatureKind::Peak => of_whole(Detector::TruePeak),
            FeatureKind::PeakToPeak => of_whole(Detector::PeakToPeak),
            FeatureKind::CrestFactor | FeatureKind::KurtosisExcess | FeatureKind::Skewness => {
                ratio(Detector::Moment)
            }
            FeatureKind::EnvelopeOuterRace
            | FeatureKind::EnvelopeInnerRace
            | FeatureKind::EnvelopeBall
            | FeatureKind::EnvelopeCage => score(),
            FeatureKind::VelocityRms => self.overall(whole),
            FeatureKind::EnvelopeRms => {
                let (low, high) = self.envelope_band();
                Definition {
                    domain: Domain::Envelope,
                    band: Band::Hz {
                        low: low as f32,
                        high: high as f32,
                    },
                    source: "Randall 2021, 3.3",
                    ..whole
                }
            }
            FeatureKind::VelocityOrder1 => self.lines(whole, Self::order_band(1), true),
            FeatureKind::VelocityOrder2 => self.lines(whole, Self::order_band(2), true),
            FeatureKind::VelocityOrder3 => self.lines(whole, Self::order_band(3), true),
            FeatureKind::Band1 => self.watched(whole, 0),
            FeatureKind::Band2 => self.watched(whole, 1),
            FeatureKind::Band3 => self.watched(whole, 2),
            FeatureKind::Band4 => self.watched(whole, 3),
            FeatureKind::Octave1 => self.octave(whole, 0),
            FeatureKind::Octave2 => self.octave(whole, 1),
            FeatureKind::Octave3 => self.octave(whole, 2),
            FeatureKind::Octave4 => self.octave(whole, 3),
        }
    }

    fn overall(&self, whole: Definition) -> Definition {
        let band = Passband::for_speed(self.shaft_hz);
        Definition {
            quantity: Some(Quantity::Velocity),
            unit: Some(Unit::MillimetrePerSecond),
            band: Band::Hz {
                low: band.low_hz,
                high: band.high_hz,
            },
            duration_ms: milliseconds(self.seconds - band.settling_s()),
            source: "ISO 20816-1:2016; ISO 2954:2012",
            ..whole
        }
    }

    fn octave(&self, whole: Definition, octave: usize) -> Definition {
        let (low, high) = Octaves::edges_hz(octave, self.rate_hz);
        Definition {
            band: Band::Hz {
                low: low as f32,
                high: high as f32,
            },
            source: "Regalia, Mitra and Vaidyanathan 1988",
            ..whole
        }
    }

    fn watched(&self, whole: Definition, index: usize) -> Definition {
        let watched = self.bands.get(index).copied().flatten();
        watched.map_or(whole, |watched| self.lines(whole, watched.band, watched.velocity))
    }

    fn lines(&self, whole: Definition, band: Band, velocity: bool) -> Definition {
        let settings = self.spectrum_for(band);
        let speed = match band {
            Band::Hz { .. } => SpeedSource::Unknown,
            Band::Orders { .. } => self.speed,
        };
        let (quantity, unit) = if velocity {
            (Quantity::Velocity, Unit::MillimetrePerSecond)
        } else {
            (self.unit.quantity(), self.unit)
        };
        Definition {
            quantity: Some(quantity),
            unit: Some(unit),
            domain: Domain::Spectrum,
            band,
            window: Taper::Hann,
            averages: settings.map_or(0, |settings| settings.averages),
            resolution_hz: settings.map(|settings| settings.high_hz / f32::from(settings.lines)),
            duration_ms: settings.map_or(0, |settings| milliseconds(settings.seconds())),
            speed,
            source: "Welch 1967; sqrt(sum of squared lines / 1.5)",
            ..whole
        }
    }

    /// The spectrum that a band is read from: the slow one if that holds it.
    pub fn spectrum_for(&self, band: Band) -> Option<Settings> {
        let (_, high_hz) = band.edges_hz(self.shaft_hz)?;
        self.slow_spectrum()
            .filter(|settings| high_hz <= settings.high_hz.into())
            .or_else(|| self.wide_spectrum())
    }
}

fn milliseconds(seconds: f64) -> u32 {
    libm::round(seconds * 1e3) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn basis() -> Basis {
        Basis {
            unit: Unit::StandardGravity,
            rate_hz: 25_600.0,
            seconds: 1.0,
            usable_low_hz: 1.0,
            usable_high_hz: 10_000.0,
            shaft_hz: 29.5,
            speed: SpeedSource::Declared,
            envelope_hz: None,
            bands: [None; BANDS_MAX],
        }
    }

    #[test]
    fn the_overall_is_told_with_its_band_unit_and_time() {
        let definition = basis().define(FeatureKind::VelocityRms);
        assert_eq!(
            (
                definition.unit,
                definition.detector,
                definition.domain,
                definition.duration_ms
            ),
            (Some(Unit::MillimetrePerSecond), Detector::Rms, Domain::Time, 800)
        );
        assert_eq!(
            definition.band,
            Band::Hz {
                low: 10.0,
                high: 1_000.0
            }
        );
        assert_eq!(definition.resolution_hz, None, "no spectrum's settings are in it");
    }

    #[test]
    fn a_series_of_lines_is_told_with_resolution_averages_and_speed() {
        let definition = basis().define(FeatureKind::VelocityOrder2);
        assert_eq!(
            definition.band,
            Band::Orders {
                low: 1.75,
                high: 2.25
            }
        );
        assert_eq!((definition.resolution_hz, definition.averages), (Some(2.5), 4));
        assert_eq!(
            (definition.window, definition.speed),
            (Taper::Hann, SpeedSource::Declared)
        );
        let longer = Basis {
            seconds: 4.0,
            ..basis()
        };
        assert_eq!(
            longer.define(FeatureKind::VelocityOrder2).resolution_hz,
            Some(0.625)
        );
    }

    #[test]
    fn what_changes_the_measurement_changes_the_number_and_nothing_else_does() {
        let number = |basis: Basis, kind| basis.define(kind).number();
        let overall = number(basis(), FeatureKind::VelocityRms);
        for changed in [
            Basis {
                seconds: 2.0,
                ..basis()
            },
            Basis {
                shaft_hz: 5.0,
                ..basis()
            },
        ] {
            assert_ne!(number(changed, FeatureKind::VelocityRms), overall);
        }
        for unchanged in [
            Basis {
                rate_hz: 12_800.0,
                ..basis()
            },
            Basis {
                shaft_hz: 29.4,
                ..basis()
            },
            Basis {
                usable_high_hz: 5_000.0,
                ..basis()
            },
        ] {
            assert_eq!(number(unchanged, FeatureKind::VelocityRms), overall);
        }
        let metric = Basis {
            unit: Unit::MetrePerSecondSquared,
            ..basis()
        };
        assert_ne!(
            number(metric, FeatureKind::Rms),
            number(basis(), FeatureKind::Rms)
        );
        assert_eq!(
            number(metric, FeatureKind::Skewness),
            number(basis(), FeatureKind::Skewness)
        );
        let narrower = Basis {
            usable_high_hz: 5_000.0,
            ..basis()
        };
        assert_ne!(
            number(narrower, FeatureKind::EnvelopeRms),
            number(basis(), FeatureKind::EnvelopeRms)
        );
        let mut definition = basis().define(FeatureKind::Rms);
        definition.source = "said otherwise";
        assert_eq!(definition.number(), number(basis(), FeatureKind::Rms));
    }

    /// Series at rest bear these numbers: with another one each begins anew.
    #[test]
    fn the_numbers_of_a_release_stay() {
        let number = |kind| basis().define(kind).number();
        assert_eq!(
            [
                FeatureKind::Rms,
                FeatureKind::VelocityRms,
                FeatureKind::VelocityOrder1
            ]
            .map(number),
            [817_667_754, 3_909_632_205, 2_442_572_403]
        );
    }

    #[test]
    fn a_sensor_or_window_that_does_not_reach_the_band_has_no_overall() {
        let band = |basis: Basis| basis.velocity_band().map(|band| band.low_hz);
        assert_eq!(band(basis()), Some(10.0));
        assert_eq!(
            band(Basis {
                usable_low_hz: 11.0,
                ..basis()
            }),
            None
        );
        assert_eq!(
            band(Basis {
                usable_high_hz: 900.0,
                ..basis()
            }),
            None
        );
        assert_eq!(
            band(Basis {
                seconds: 0.6,
                ..basis()
            }),
            None
        );
        let slow = Basis {
            shaft_hz: 5.0,
            ..basis()
        };
        assert_eq!(band(slow), None, "a second is no time for 2 Hz");
        assert_eq!(band(Basis { seconds: 4.0, ..slow }), Some(2.0));
    }

    #[test]
    fn a_band_is_read_from_the_spectrum_that_holds_it() {
        let high_hz = |low, high| {
            basis()
                .spectrum_for(Band::Hz { low, high })
                .map(|settings| settings.high_hz)
        };
        assert_eq!(high_hz(10.0, 1_000.0), Some(1_000.0));
        assert_eq!(high_hz(10.0, 1_001.0), Some(10_000.0));
        let orders = Band::Orders { low: 0.5, high: 1.5 };
        assert_eq!(
            Basis {
                shaft_hz: 0.0,
                ..basis()
            }
            .spectrum_for(orders),
            None
        );
    }
}
