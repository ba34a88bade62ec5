//! What a shaft, a gear, a wheel with blades or a motor does, from spectra by order. Pure.
//!
//! One window says, by [`diagnose`] on its [`Evidence`], that it is quiet, that something is
//! [suspected](Outcome::Suspected) with the lines that say so, or why nothing can be told. A single window
//! claims nothing yet: [`Persistence`] asks for the same cause in 3 of 5.
//!
//! Terms. A *line* stands for a sine; it *stands out* when it is 6 times the floor around it.
//! *Order* is frequency over the shaft's speed. The *limit* is what makes vibration worth a cause: every
//! machine has unbalance, and names for what is no more than usual are false alarms. It is the zone B/C limit or the
//! ALERT of the point.
//!
//! | cause | in velocity, above the limit | healthy look-alike |
//! |---|---|---|
//! | unbalance | 1x holds 0.72 of the power, no other order 0.3 of 1x; radial | 1x below the limit |
//! | misalignment | 2x is 0.7 of 1x or more, 1x to 3x hold 0.72, nothing beyond | 2x of a motor of one pole pair, which is its field |
//! | looseness | two half orders, or four of the orders 4 to 10 | one belt, blades or teeth at such an order |
//! | blade pass | blades x speed holds 0.65 | the same line below the limit |
//! | electrical | twice the line frequency holds 0.65, and no order is within its width | an order that is |
//! | gear mesh | (in acceleration, without limit) the sidebands of the mesh add up to the mesh itself | a mesh with weak sidebands |
//!
//! The shares follow the customary charts (J. E. Berry, "Illustrated vibration diagnostic chart", Technical Associates of
//! Charlotte, 1994; ISO 13373-3:2015, annexes A and D); a gear is judged by the sideband energy ratio (J. Hanna et al., "Detection of
//! wind turbine gear tooth defects using sideband energy ratio", China Wind Power, 2010). Without phase a
//! chart's cause has rivals (a bent shaft turns like unbalance, a rub looks like looseness), so that no cause
//! is ever more than suspected. Where two rules hold, or a line may be two things, it is undetermined.
//! The numbers that decide (`criteria.rs`) were chosen on the simulated machines of the tests beside this file,
//! which also hold with every height of theirs, and with each of the numbers, a fifth lower or higher.
//!
//! Nothing is said of lines beyond the sensor's usable band, of a shaft whose orders the spectrum does not
//! part, or of a shaft that changes its speed while it is looked at: its line is wider than the window makes it.

mod criteria;
mod examination;
mod gear;
mod orders;
mod persistence;
mod shaft;
mod told;

pub use examination::{Diagnosed, Examination, Held, is_judged, weigh};
pub use persistence::Persistence;
pub use trunnion_common::shaft::Cause;

use criteria::Criteria;
use serde::{Deserialize, Serialize};
use trunnion_common::feature::band::Lines;

/// What is known of the machine at a measurement point, beside its speed.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Train {
    /// Teeth of the wheel on the shaft.
    pub teeth: Option<u16>,
    /// Blades of the wheel on the shaft.
    pub blades: Option<u16>,
    /// Frequency of the electric supply, Hz.
    pub line_hz: Option<f64>,
    /// Whether the sensor looks along the shaft.
    pub axial: bool,
    /// Velocity from which on a cause is looked for, mm/s RMS; without it only gears are judged.
    pub limit_mm_s: Option<f64>,
}

/// What one window shows.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Lines of velocity, mm/s RMS, up to 1000 Hz; none where they are not to be had.
    pub velocity: Option<Lines<'a>>,
    /// Lines of acceleration, as far up as the sensor can be used.
    pub acceleration: Option<Lines<'a>>,
    /// Speed of the shaft, Hz; 0 where it is not known.
    pub shaft_hz: f64,
    /// The band in which the sensor can be used, Hz.
    pub usable_hz: (f64, f64),
}

/// A line that supports a claim.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct SupportingLine {
    /// Where it was found, in orders of the shaft's speed.
    pub order: f64,
    /// Where it was found, Hz.
    pub frequency_hz: f64,
    /// How high: mm/s RMS, and for gears RMS in the channel's unit.
    pub rms: f64,
    /// Height over the floor around it.
    pub prominence: f64,
}

/// A cause that a window suspects.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Suspicion {
    /// What.
    pub cause: Cause,
    /// How much of the whole its lines are: for shafts the share of the power of the overall velocity, 0 to 1,
    /// for gears the sidebands over the mesh.
    pub score: f64,
    /// Lines found.
    pub lines: Vec<SupportingLine>,
    /// The band that was looked at, Hz.
    pub band_hz: (f64, f64),
}

impl Suspicion {
    /// How high its lines are together, in their unit.
    pub fn height(&self) -> f64 {
        let power: f64 = self.lines.iter().map(|line| line.rms * line.rms).sum();
        power.sqrt()
    }

    /// How much of what is looked at its lines hold, 0 to 1: of a gear the sidebands of mesh and sidebands.
    pub fn share(&self) -> f64 {
        let share = match self.cause {
            Cause::GearMesh => self.score / (1.0 + self.score),
            _ => self.score,
        };
        share.clamp(0.0, 1.0)
    }
}

/// Why nothing is told of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undetermined {
    /// The speed of the shaft is not known.
    SpeedUnknown,
    /// There is nothing to look for: no limit is declared, and no wheel with teeth.
    NothingDeclared,
    /// The sensor does not reach, or the window is too short for a spectrum.
    NoSpectrum,
    /// Orders lie closer than lines can tell apart.
    Unresolved,
    /// The shaft does not turn at the speed that is known, or changes its speed.
    SpeedDiffers,
    /// More than one cause would look like this.
    Ambiguous,
    /// It vibrates, and like none of the causes that are known here.
    LikeNone,
}

impl Undetermined {
    /// The reason on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SpeedUnknown => "speed_unknown",
            Self::NothingDeclared => "nothing_declared",
            Self::NoSpectrum => "no_spectrum",
            Self::Unresolved => "unresolved",
            Self::SpeedDiffers => "speed_differs",
            Self::Ambiguous => "ambiguous",
            Self::LikeNone => "like_none",
        }
    }
}

/// What one window says.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Nothing worth a cause.
    Quiet,
    /// A cause, which a measurement of phase or a look would have to confirm.
    Suspected(Suspicion),
    /// Nothing can be told.
    Undetermined(Undetermined),
}

/// What a window says, of the shaft and what hangs on it; gears are judged by themselves, as they are where
/// the shaft is quiet.
pub fn diagnose(evidence: &Evidence<'_>, train: &Train) -> Outcome {
    diagnose_by(&Criteria::CHOSEN, evidence, train)
}

fn diagnose_by(criteria: &Criteria, evidence: &Evidence<'_>, train: &Train) -> Outcome {
    // A speed that is no number is none.
    if evidence.shaft_hz.is_nan() || evidence.shaft_hz <= 0.0 {
        return Outcome::Undetermined(Undetermined::SpeedUnknown);
    }
    let gear = gear::examine(evidence, train, criteria);
    let shaft = shaft::examine(evidence, train, criteria);
    match (gear, shaft) {
        (Some(Outcome::Suspected(_)), Outcome::Suspected(_)) => {
            Outcome::Undetermined(Undetermined::Ambiguous)
        }
        (Some(suspected @ Outcome::Suspected(_)), _) => suspected,
        (Some(Outcome::Quiet), Outcome::Undetermined(Undetermined::NothingDeclared)) => Outcome::Quiet,
        (Some(gear), Outcome::Undetermined(Undetermined::NothingDeclared)) => gear,
        (_, shaft) => shaft,
    }
}

#[cfg(test)]
mod tests;
