//! Parts of a rolling-element bearing, and what is claimed of one.

use core::fmt;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Part of a bearing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// Outer race.
    OuterRace,
    /// Inner race.
    InnerRace,
    /// Ball or roller.
    Ball,
    /// Cage.
    Cage,
}

impl Element {
    /// Every element.
    pub const ALL: [Self; 4] = [Self::OuterRace, Self::InnerRace, Self::Ball, Self::Cage];

    /// The name in ids, the API and on the page.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OuterRace => "outer_race",
            Self::InnerRace => "inner_race",
            Self::Ball => "ball",
            Self::Cage => "cage",
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Lines of a [`Claim`], at most: four harmonics, each with a sideband on both sides, and some to spare.
pub const CLAIM_LINES_MAX: usize = 16;

/// What lines of an envelope spectrum show of a bearing, as a gateway tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The order that was found, in multiples of the shaft's speed; 0 where no element shows.
    pub order: f32,
    /// How high its lines stand over what is about them, as a mean.
    pub score: f32,
    /// The same of the next element.
    pub runner_up: f32,
    /// The band that was searched, Hz.
    pub band_hz: [f32; 2],
    /// Its lines.
    pub lines: Vec<ClaimLine, CLAIM_LINES_MAX>,
    /// The band that rings most, where that shows the element, too.
    pub confirmed: Option<ClaimBand>,
}

/// A line of a [`Claim`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClaimLine {
    /// Where it was found, in orders of the shaft's speed.
    pub order: f32,
    /// The same, Hz.
    pub frequency_hz: f32,
    /// Which harmonic of the element, from 1; a sideband has its carrier's.
    pub harmonic: u8,
    /// Height over what is about it.
    pub prominence: f32,
}

/// A band that confirms a [`Claim`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClaimBand {
    /// Which, Hz.
    pub band_hz: [f32; 2],
    /// Kurtosis of its complex envelope, 0 for Gaussian noise.
    pub kurtosis: f32,
    /// Score of the element's lines in its envelope.
    pub score: f32,
}
