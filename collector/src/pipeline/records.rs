//! The records of a block's body, one after another.

use super::Pipeline;
use super::waiting::Origin;
use crate::dead_letter::{DeadReason, Form};
use serde::de::DeserializeOwned;
use trunnion_common::block::Records;

impl Pipeline {
    /// Takes each record from the origin's on; one that cannot be read is a dead letter, and so is what comes
    /// behind it, as no one knows where that begins.
    pub(super) fn take_records<T: DeserializeOwned>(
        &mut self,
        origin: &mut Origin,
        records: Records<'_, T>,
        bytes: &[u8],
        mut take: impl FnMut(&mut Self, &Origin, T),
    ) {
        for (item, record) in records.enumerate().skip(origin.item as usize) {
            origin.item = item as u32;
            match record {
                Ok(record) => take(self, origin, record),
                Err(reason) => self.bury(origin, DeadReason::Rejected(reason), (Form::Block, bytes)),
            }
        }
    }
}
