//! Condition-monitoring features on slices of f32: one code for node, gateway and collector.

pub mod envelope;
pub mod moments;
pub mod statistics;

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
}

impl FeatureKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 11] = [
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
    ];

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
        }
    }

    /// The kind of that label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}
