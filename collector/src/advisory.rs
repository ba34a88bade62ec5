//! Raise, hold, clear: advisories with hysteresis. Pure.

use crate::bearing::Element;
use crate::features::Finding;
use trunnion_common::time::EventTime;

/// What a person is told about an asset.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Advisory {
    /// Stable id: `<asset>/<point>/<element>/<raised ns>`.
    pub id: String,
    /// Asset id of the fleet file.
    pub asset: String,
    /// Measurement point id.
    pub point: String,
    /// The element, none when undetermined.
    pub element: Option<Element>,
    /// End of the window that raised it (event time).
    pub raised: EventTime,
    /// End of the window that cleared it; none while it stands.
    pub cleared: Option<EventTime>,
    /// End of the last window that supported it.
    pub last_seen: EventTime,
    /// The strongest finding so far.
    pub evidence: Finding,
    /// What to do about it, in a sentence.
    pub recommendation: String,
    /// Whether it rests on history rather than on live data.
    pub backfill: bool,
}

/// A change to show, store and count.
#[derive(Clone, PartialEq, Debug)]
pub enum AdvisoryChange {
    /// New.
    Raised(Advisory),
    /// Same advisory, newer evidence.
    Updated(Advisory),
    /// Over.
    Cleared(Advisory),
}
