//! Condition-monitoring features on slices of f32: one code for node, gateway and collector.
//!
//! The first stage of ISO 13374, data manipulation. [`statistics`] are of the samples themselves, [`velocity`]
//! and [`octave`] of what filters make of them, [`spectrum`] and [`band`] of averaged lines, [`envelope`] and
//! [`quadrature`] of the envelope. What a number means is told by its [`definition`].

pub mod band;
pub mod decimation;
pub mod definition;
pub mod envelope;
pub mod mean_square;
pub mod moments;
pub mod octave;
pub mod quadrature;
pub mod spectrum;
pub mod statistics;
pub mod velocity;

use serde::{Deserialize, Serialize};

/// A feature's definition; a changed definition is a new kind and starts a new series. Appended to,
/// never reordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// Arithmetic mean, channel unit.
    Mean,
    /// Root mean square about the mean, channel unit.
    Rms,
    /// Largest distance from the mean (true peak), channel unit.
    Peak,
    /// Largest minus smallest value, channel unit.
    PeakToPeak,
    /// Peak over RMS.
    CrestFactor,
    /// Fourth standardised moment minus 3.
    KurtosisExcess,
    /// Third standardised moment.
    Skewness,
    /// Score of the outer-race line in the envelope spectrum.
    EnvelopeOuterRace,
    /// Score of the inner-race line in the envelope spectrum.
    EnvelopeInnerRace,
    /// Score of the ball line (twice the ball spin frequency) in the envelope spectrum.
    EnvelopeBall,
    /// Score of the cage line in the envelope spectrum.
    EnvelopeCage,
    /// Overall RMS of the velocity from 10 to 1000 Hz, or from 2 Hz below 600 rpm, mm/s ([`velocity`]).
    VelocityRms,
    /// RMS of the envelope of the point's fixed band about its mean, channel unit ([`quadrature`]).
    EnvelopeRms,
    /// RMS of the velocity at the shaft's speed, mm/s ([`band`]).
    VelocityOrder1,
    /// The same at twice the shaft's speed.
    VelocityOrder2,
    /// The same at three times the shaft's speed.
    VelocityOrder3,
    /// RMS in the first band of the point's own ([`definition::WatchedBand`]).
    Band1,
    /// RMS in the second band of the point's own.
    Band2,
    /// RMS in the third band of the point's own.
    Band3,
    /// RMS in the fourth band of the point's own.
    Band4,
    /// RMS in the octave from a thirty-second of the sampling rate on, channel unit ([`octave`]).
    Octave1,
    /// RMS in the octave from a sixteenth of the sampling rate on.
    Octave2,
    /// RMS in the octave from an eighth of the sampling rate on.
    Octave3,
    /// RMS in the octave from a quarter of the sampling rate up to half of it.
    Octave4,
}

impl FeatureKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 24] = [
        Self::Mean,
        Self::Rms,
        Self::Peak,
        Self::PeakToPeak,
        Self::CrestFactor,
        Self::KurtosisExcess,
        Self::Skewness,
        Self::EnvelopeOuterRace,
        Self::EnvelopeInnerRace,
        Self::EnvelopeBall,
        Self::EnvelopeCage,
        Self::VelocityRms,
        Self::EnvelopeRms,
        Self::VelocityOrder1,
        Self::VelocityOrder2,
        Self::VelocityOrder3,
        Self::Band1,
        Self::Band2,
        Self::Band3,
        Self::Band4,
        Self::Octave1,
        Self::Octave2,
        Self::Octave3,
        Self::Octave4,
    ];

    /// The kinds of the octaves, the lowest first.
    pub const OCTAVES: [Self; octave::OCTAVES] = [Self::Octave1, Self::Octave2, Self::Octave3, Self::Octave4];

    /// The kinds of a point's own bands, in their order.
    pub const BANDS: [Self; definition::BANDS_MAX] = [Self::Band1, Self::Band2, Self::Band3, Self::Band4];

    /// The name in the API, in metrics and on the page.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Rms => "rms",
            Self::Peak => "peak",
            Self::PeakToPeak => "peak_to_peak",
            Self::CrestFactor => "crest_factor",
            Self::KurtosisExcess => "kurtosis_excess",
            Self::Skewness => "skewness",
            Self::EnvelopeOuterRace => "envelope_outer_race",
            Self::EnvelopeInnerRace => "envelope_inner_race",
            Self::EnvelopeBall => "envelope_ball",
            Self::EnvelopeCage => "envelope_cage",
            Self::VelocityRms => "velocity_rms",
            Self::EnvelopeRms => "envelope_rms",
            Self::VelocityOrder1 => "velocity_order_1",
            Self::VelocityOrder2 => "velocity_order_2",
            Self::VelocityOrder3 => "velocity_order_3",
            Self::Band1 => "band_1",
            Self::Band2 => "band_2",
            Self::Band3 => "band_3",
            Self::Band4 => "band_4",
            Self::Octave1 => "octave_1",
            Self::Octave2 => "octave_2",
            Self::Octave3 => "octave_3",
            Self::Octave4 => "octave_4",
        }
    }

    /// The kind of that label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}
