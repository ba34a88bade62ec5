//! What people decide about machines: journaled, so that it holds live, after a restart and in a replay alike.

use serde::{Deserialize, Serialize};

/// Longest note, bytes: it is kept in the journal and beside what it ended.
pub const NOTE_MAX: usize = 512;

/// A decision about one asset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Asset id.
    pub asset: String,
    /// Measurement point id; none: every point of the asset.
    pub point: Option<String>,
    /// What.
    pub action: DecisionAction,
}

/// What is decided. Appended to, never reordered: it is journaled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DecisionAction {
    /// What is proposed as normal is normal: it judges from here on.
    AcceptBaseline,
    /// What has been learned is not normal: it is learned anew.
    RejectBaseline,
    /// The machine was worked on: what was normal is closed and kept visible, and a new normal is learned.
    Maintenance {
        /// What was done.
        note: String,
    },
}

impl Decision {
    /// Whether it is about that point.
    pub fn covers(&self, asset: &str, point: &str) -> bool {
        self.asset == asset && self.point.as_deref().is_none_or(|only| only == point)
    }
}
