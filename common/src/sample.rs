//! What one channel reported at one instant, including "no data, because ...".

use serde::{Deserialize, Serialize};

/// A value in the channel's unit, or the reason why there is none: a flat line and a dead sensor
/// must look different all the way to the reader.
pub type Reading = Result<f32, NoData>;

/// Why a channel has no value. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoData {
    /// The sensor has not finished its first conversion.
    NotReady,
    /// The bus to the sensor failed.
    BusError,
    /// The sensor answers, with a value that no longer moves.
    Stuck,
    /// The value is at the end of the range.
    Clipped,
    /// The cable or the loop is open.
    CableOff,
    /// The sensor's own queue overran before it was read.
    Overrun,
    /// The sensor failed its self-test.
    SelfTest,
}

/// Where samples or frames were lost for good. Appended to, never reordered; every variant is a
/// label of the loss ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossCause {
    /// The node's outbox was full and this was the oldest in it.
    OutboxFull,
    /// The node could not read its sensor in time.
    SensorOverrun,
    /// The node's sensor gave no data.
    SensorFault,
    /// The node restarted with unacknowledged frames in memory.
    NodeReset,
    /// The node restarted and what it held is not known: an estimate, outside the ledger's equality.
    ResetUnknown,
    /// The agent's spool was full and this was its oldest waveform.
    SpoolEvicted,
    /// The agent's spool could not be read back.
    SpoolUnreadable,
    /// The collector refused the block's envelope.
    EnvelopeRejected,
    /// The collector could not decode it: a dead letter, reversed by a replay.
    Refused,
    /// Another journal acknowledged it.
    Elsewhere,
    /// More holes than a sequence set can hold: the lowest was closed.
    SetOverflow,
    /// The agent holds it no longer and no journal is known to have it.
    NotHeld,
}

impl LossCause {
    /// Every cause, in the order of its number.
    pub const ALL: [Self; 12] = [
        Self::OutboxFull,
        Self::SensorOverrun,
        Self::SensorFault,
        Self::NodeReset,
        Self::ResetUnknown,
        Self::SpoolEvicted,
        Self::SpoolUnreadable,
        Self::EnvelopeRejected,
        Self::Refused,
        Self::Elsewhere,
        Self::SetOverflow,
        Self::NotHeld,
    ];

    /// The label in metrics and on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OutboxFull => "outbox_full",
            Self::SensorOverrun => "sensor_overrun",
            Self::SensorFault => "sensor_fault",
            Self::NodeReset => "node_reset",
            Self::ResetUnknown => "reset_unknown",
            Self::SpoolEvicted => "spool_evicted",
            Self::SpoolUnreadable => "spool_unreadable",
            Self::EnvelopeRejected => "envelope_rejected",
            Self::Refused => "refused",
            Self::Elsewhere => "elsewhere",
            Self::SetOverflow => "set_overflow",
            Self::NotHeld => "not_held",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_causes_is_in_the_order_of_their_numbers() {
        for (number, cause) in LossCause::ALL.iter().enumerate() {
            let mut bytes = [0; 4];
            assert_eq!(postcard::to_slice(cause, &mut bytes).unwrap(), &[number as u8]);
        }
    }
}
