//! The durable, replayable log: append, group commit, read from a position.

use trunnion_common::id::{Epoch, GatewayId};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::Range;
use trunnion_common::time::EventTime;

/// A place between two entries of the journal; ordered as the journal is.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// Which partition; one for now.
    pub partition: u32,
    /// Which segment file.
    pub segment: u64,
    /// Byte offset in the segment.
    pub offset: u64,
}

/// What the journal records. Everything that outputs depend on is one of these.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// A block with a valid envelope, verbatim.
    Block {
        /// Who sent it, from the certificate-bound topic.
        gateway: GatewayId,
        /// Envelope and body.
        bytes: bytes::Bytes,
    },
    /// The fleet file changed; in force from `effective`.
    Fleet {
        /// From when on.
        effective: EventTime,
        /// The TOML text.
        text: String,
    },
    /// Blocks neither held by the agent nor committed, found by its Hello.
    Lost {
        /// Whose.
        gateway: GatewayId,
        /// In which epoch.
        epoch: Epoch,
        /// Which blocks.
        blocks: Range,
        /// Why.
        cause: LossCause,
    },
    /// An epoch that the agent no longer lists.
    EpochClosed {
        /// Whose.
        gateway: GatewayId,
        /// Which.
        epoch: Epoch,
    },
    /// A second passed without traffic.
    Tick,
}

/// Entries that became durable together.
#[derive(Clone, PartialEq, Debug)]
pub struct Commit {
    /// The journal's clock at the commit: never decreases, and is the pipeline's only `now`.
    pub time: EventTime,
    /// The entries in order, each with the position just before it.
    pub entries: Vec<(Position, Entry)>,
    /// The position after the commit.
    pub end: Position,
}
