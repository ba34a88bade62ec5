//! Refused payloads kept whole, with reason and origin.
//!
//! What the journal holds but nobody can read, or what waited for its explanation until there was no
//! room left, becomes a dead letter: counted by reason, stored until newer ones need the room
//! ([`crate::state::DEAD_LETTER_BYTES_MAX`]), and never silently gone, since the journal has it still.

use crate::journal::Position;
use serde::{Deserialize, Serialize};
use trunnion_common::id::GatewayId;
use trunnion_common::reject::RejectReason;
use trunnion_common::time::EventTime;

/// Why a payload is a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DeadReason {
    /// It does not decode, or contradicts itself.
    Rejected(RejectReason),
    /// The clock fix that it names did not come before the waiting room was full.
    NoClockFix,
    /// The channel table that it names did not come before the waiting room was full.
    NoDescriptor,
    /// A fleet file that does not hold together.
    Fleet,
    /// It comes from one node more than are told apart.
    TooManyNodes,
    /// Settings that this build cannot read.
    Settings,
    /// All windows of some of its samples were over when it came. The samples are stored and counted.
    TooLate,
    /// Its samples are stamped too far ahead of the journal's clock
    /// ([`WindowSettings::lead_ns`](crate::window::WindowSettings::lead_ns)).
    ClockAhead,
    /// Its live samples are stamped too far behind it
    /// ([`WindowSettings::behind_ns`](crate::window::WindowSettings::behind_ns)).
    ClockBehind,
}

impl DeadReason {
    /// The label in metrics and on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rejected(reason) => reason.label(),
            Self::NoClockFix => "no_clock_fix",
            Self::NoDescriptor => "no_descriptor",
            Self::Fleet => "fleet",
            Self::TooManyNodes => "too_many_nodes",
            Self::Settings => "settings",
            Self::TooLate => "too_late",
            Self::ClockAhead => "clock_ahead",
            Self::ClockBehind => "clock_behind",
        }
    }
}

/// A payload nobody could use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The journal entry that it came in.
    pub position: Position,
    /// Which of that entry's records it is; 0 also for the entry as a whole.
    pub item: u32,
    /// Who sent it; none when it did not come from a gateway.
    pub gateway: Option<GatewayId>,
    /// Why it was refused.
    pub reason: DeadReason,
    /// The journal's time when it was refused.
    pub time: EventTime,
    /// The whole block, frame or text.
    pub payload: Vec<u8>,
}
