//! Refused payloads kept whole, with reason and origin.
//!
//! What the journal holds but nobody can read, or what waited for its explanation until there was no
//! room left, becomes a dead letter: counted by reason, and listed until
//! [`crate::state::DEAD_LETTERS_MAX`] newer ones have come. Its payload stands beside it until newer ones
//! need the room ([`crate::state::DEAD_LETTER_BYTES_MAX`]), and is never gone, since the journal has it
//! still ([`Letter::read`]).
//!
//! Once the cause is mended (a channel table has come, a later build reads the version) a person has the
//! letter replayed: it is journaled once more, as [`crate::journal::Entry::Replayed`], and lands in its
//! own windows as a correction (`pipeline/replayed.rs`). What became of it stands beside it as its
//! [`Outcome`].

mod letter;
pub mod tool;

pub use letter::{Form, Letter, LetterId, NoLetterId, ReadError};

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
    /// Whether its block was history.
    pub backfill: bool,
    /// When it arrived at the gateway, by the gateway's clock; the journal's time where nobody says.
    pub arrival: EventTime,
    /// Number of the clock fix that it names; 0 where it names none.
    pub fix: u32,
    /// Why it was refused.
    pub reason: DeadReason,
    /// The journal's time when it was refused.
    pub time: EventTime,
    /// What the payload is.
    pub form: Form,
    /// The whole block, frame, readings or text.
    pub payload: Vec<u8>,
}

/// What became of a dead letter that was replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its samples are in their windows now.
    Landed {
        /// How many had been in no window before.
        samples: u64,
    },
    /// It was taken in, and holds no samples: a channel table, a clock fix, a report.
    Taken,
    /// What explains it has not come: it waits, as it would have when it first came.
    Waits,
    /// All that it holds is where it belongs already: nothing has changed.
    Known,
    /// Its time stamps are still too far ahead of the journal's clock.
    Ahead,
    /// It is still refused, for this reason.
    Refused(DeadReason),
    /// It is no payload of a gateway: a text is put right where it was written.
    NotReplayable,
    /// Its samples are stored, and the windows that they belong in could not be read again, since the
    /// journal's segments of that time are gone.
    WindowsGone,
}

impl Outcome {
    /// The label in the state, on the API and on the command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Landed { .. } => "landed",
            Self::Taken => "taken",
            Self::Waits => "waits",
            Self::Known => "known",
            Self::Ahead => "ahead",
            Self::Refused(reason) => reason.label(),
            Self::NotReplayable => "not_replayable",
            Self::WindowsGone => "windows_gone",
        }
    }
}

/// A dead letter was replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplayRow {
    /// Which letter.
    pub letter: LetterId,
    /// When, by the journal's clock.
    pub time: EventTime,
    /// What became of it.
    pub outcome: Outcome,
}
