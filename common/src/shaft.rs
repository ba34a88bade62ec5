//! What a shaft, and what hangs on it, may have, and what is claimed of that.

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// What may be wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Mass off the axis.
    Unbalance,
    /// Two coupled shafts out of line.
    Misalignment,
    /// A loose foot, cap or fit.
    Looseness,
    /// A worn, cracked or badly set wheel of teeth.
    GearMesh,
    /// A flow that the blades cut badly.
    BladePass,
    /// A field that pulls unevenly.
    Electrical,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::Unbalance,
        Self::Misalignment,
        Self::Looseness,
        Self::GearMesh,
        Self::BladePass,
        Self::Electrical,
    ];

    /// The name in the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unbalance => "unbalance",
            Self::Misalignment => "misalignment",
            Self::Looseness => "looseness",
            Self::GearMesh => "gear_mesh",
            Self::BladePass => "blade_pass",
            Self::Electrical => "electrical",
        }
    }

    /// Whether it shows in the overall velocity, and so explains a severe one; what does not is told by the
    /// acceleration.
    pub const fn shows_in_velocity(self) -> bool {
        !matches!(self, Self::GearMesh)
    }

    /// What a person should look at, beside what the name says: the rivals that phase would tell apart.
    pub const fn recommended_check(self) -> &'static str {
        match self {
            Self::Unbalance => {
                "Look for deposits and lost balance weights; measure phase before balancing, as a bent \
                 shaft or a resonance looks alike."
            }
            Self::Misalignment => {
                "Check the coupling and the alignment, warm; measure phase across the coupling."
            }
            Self::Looseness => "Check foundation bolts, bearing caps and fits; a rub looks alike.",
            Self::GearMesh => "Look at the teeth of this wheel and at its backlash and lubrication.",
            Self::BladePass => "Check the operating point, inlet, dampers and the clearance of the wheel.",
            Self::Electrical => {
                "Check supply symmetry, air gap and soft foot; it is gone at once when the supply is cut."
            }
        }
    }
}

/// Lines of a [`ShaftClaim`], at most: ten orders and four half ones of a loose machine, and some to spare.
pub const SHAFT_LINES_MAX: usize = 16;

/// What lines of a spectrum show of a shaft, or of what hangs on it, as a gateway tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ShaftClaim {
    /// How much of the whole its lines are: for shafts the share of the power of the overall velocity, 0 to 1, for
    /// gears the sidebands over the mesh.
    pub score: f32,
    /// The band that was looked at, Hz.
    pub band_hz: [f32; 2],
    /// Its lines.
    pub lines: Vec<ShaftLine, SHAFT_LINES_MAX>,
}

impl ShaftClaim {
    /// Its highest line; none where it has none.
    pub fn highest(&self) -> Option<&ShaftLine> {
        self.lines.iter().max_by(|a, b| a.rms.total_cmp(&b.rms))
    }
}

/// A line of a [`ShaftClaim`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ShaftLine {
    /// Where it was found, in orders of the shaft's speed.
    pub order: f32,
    /// The same, Hz.
    pub frequency_hz: f32,
    /// How high: mm/s RMS, and for gears RMS in the channel's unit.
    pub rms: f32,
    /// Height over what is about it.
    pub prominence: f32,
}
