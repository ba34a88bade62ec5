//! Which features of `trunnion_common` are computed on which window, and the bearing search.

use crate::bearing::{BearingOrders, Element};
use trunnion_common::feature::FeatureKind;

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
    /// Which harmonic of the element's order, 1 = the fundamental.
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
    /// Score of the claim, and what it is compared with.
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
    /// Values, in the order of their kinds' numbers.
    pub values: Vec<(FeatureKind, f32)>,
    /// What the window claims; `None` when it looks healthy, or there was nothing to search with.
    pub finding: Option<Finding>,
}
