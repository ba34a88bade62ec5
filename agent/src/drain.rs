//! How a backlog is drained beside what happens now. Pure.
//!
//! A block is live when it was made less than [`Drain::live_age`] ago, and history otherwise; that is
//! decided at its first publication and kept for every later one. The two lanes drain at once and share
//! the connection by bytes; a lane that has nothing to send leaves its share to the other.

use bytes::{Bytes, BytesMut};
use std::time::Duration;
use trunnion_common::block::{Block, ENVELOPE_BYTES, Envelope, Lane};

/// How the two lanes share the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drain {
    /// A block made longer ago than this is history when it is first published.
    pub live_age: Duration,
    /// Percent of the bytes that live blocks get while both lanes have something to send.
    pub live_share_percent: u8,
    /// In which order the waveforms of the backfill lane go.
    pub order: Order,
    /// Most bytes of history per second, if they are limited.
    pub backfill_bytes_s: Option<u64>,
}

/// In which order the waveforms of the backfill lane go. Its essentials always go oldest first, since
/// the later ones cannot be understood without the earlier ones: channel tables and clock fixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// As it happened.
    OldestFirst,
    /// What happened last first: a person who comes back to a plant sees the last hour before the
    /// first.
    NewestFirst,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OldestFirst, Self::NewestFirst];

    /// Name in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OldestFirst => "oldest_first",
            Self::NewestFirst => "newest_first",
        }
    }
}

/// A block as it is published in `lane`. The spool stores every block as live, so that only history is
/// written anew: its lane byte and its checksum, in place if nobody else holds the bytes.
pub fn in_lane(bytes: Bytes, lane: Lane) -> Bytes {
    let Ok(block) = Block::parse(&bytes) else {
        debug_assert!(false, "the spool checks what it reads");
        return bytes;
    };
    if block.lane() == lane {
        return bytes;
    }
    let envelope = Envelope {
        lane: lane as u8,
        ..block.envelope
    };
    let envelope = envelope.encode(block.body);
    let mut bytes = BytesMut::from(bytes);
    bytes[..ENVELOPE_BYTES].copy_from_slice(&envelope);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block as Stored, BlockKey, Index};
    use trunnion_common::block::Kind;
    use trunnion_common::id::Epoch;

    #[test]
    fn history_differs_from_the_stored_block_in_lane_and_checksum_only() {
        let key = BlockKey {
            epoch: Epoch(7),
            sequence: 3,
        };
        let stored = Stored::new(key, Kind::Gap, b"body", Index::default()).bytes;
        assert_eq!(in_lane(stored.clone(), Lane::Live), stored);
        let history = in_lane(stored.clone(), Lane::Backfill);
        let block = Block::parse(&history).unwrap();
        assert_eq!((block.lane(), block.body), (Lane::Backfill, &b"body"[..]));
        assert_eq!(block.envelope.sequence, 3);
        assert_ne!(history[29..33], stored[29..33]);
        assert_eq!(
            Block::parse(&stored).unwrap().lane(),
            Lane::Live,
            "shared bytes are not written to"
        );
        assert_eq!(in_lane(history, Lane::Live), stored);
    }
}
