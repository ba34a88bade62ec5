//! What stands in for a block that the disk has destroyed, where a tombstone is not enough.
//!
//! Samples that are lost are lost, and a tombstone names them. But other blocks refer to clock fixes and
//! channel tables, and without them what they refer to would wait at the collector for ever; and what a
//! gap or a tombstone named would have no name any more. These are small and rare, so that the index,
//! which the spool keeps beside the block and once more beside its database, holds a copy of them.

use serde::{Deserialize, Serialize};
use trunnion_common::block::{FRAME_RECORD_MAX, FrameRecord, Kind, Records};
use trunnion_common::frame::{Class, Header, Payload, RawFrame};
use trunnion_common::id::{BootId, NodeId};

/// Most bytes of channel tables copied of one block; further ones in it have no copy. A node sends one
/// when it has started or measured its rates anew.
pub const TABLES_BYTES_MAX: usize = 8 * FRAME_RECORD_MAX;

/// The body of a block that takes the place of a destroyed one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StandIn {
    kind: u8,
    body: Vec<u8>,
}

impl StandIn {
    /// A copy of a body, if its kind is one of those that must not be lost.
    pub fn of(kind: Kind, body: &[u8]) -> Option<Box<Self>> {
        let is_copied = matches!(kind, Kind::ClockFix | Kind::Gap | Kind::Tombstone);
        is_copied.then(|| {
            Box::new(Self {
                kind: kind as u8,
                body: body.to_vec(),
            })
        })
    }

    /// Adds a frame's record to what stands in for a block of frames, if it is a channel table.
    pub fn add(this: &mut Option<Box<Self>>, header: &Header, frame: &[u8], record: &[u8]) {
        if header.class != Class::Essential || !is_table(frame) {
            return;
        }
        let tables = this.get_or_insert_with(|| {
            Box::new(Self {
                kind: Kind::Frames as u8,
                body: Vec::new(),
            })
        });
        if tables.body.len() + record.len() <= TABLES_BYTES_MAX {
            tables.body.extend_from_slice(record);
        }
    }

    /// The kind of the block.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The frames in it, which are not lost.
    pub fn frames(&self) -> Vec<(NodeId, BootId, Class, u64)> {
        if self.kind() != Some(Kind::Frames) {
            return Vec::new();
        }
        let records = Records::<FrameRecord<'_>>::new(&self.body).map_while(Result::ok);
        let headers = records.filter_map(|record| Some(*RawFrame::parse(record.frame).ok()?.header()));
        headers
            .map(|header| (header.node, header.boot, header.class, header.sequence))
            .collect()
    }
}

fn is_table(frame: &[u8]) -> bool {
    RawFrame::parse(frame)
        .and_then(|frame| {
            frame
                .payload()
                .map(|payload| matches!(payload, Payload::Describe(_)))
        })
        .unwrap_or(false)
}
