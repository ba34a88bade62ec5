//! Rolling-element bearings: geometry to fault orders.

/// A bearing's fault frequencies in orders (multiples of shaft speed), outer ring standing.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct BearingOrders {
    /// Ball pass, outer race (BPFO).
    pub outer_race: f64,
    /// Ball pass, inner race (BPFI).
    pub inner_race: f64,
    /// Twice the ball spin frequency (2 x BSF): a defect meets both races once a turn.
    pub ball: f64,
    /// Cage (FTF).
    pub cage: f64,
}

/// Part of a bearing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
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
