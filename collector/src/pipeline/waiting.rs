//! What was committed before its clock fix or channel table: it waits here, in bounded memory.

use crate::journal::Position;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trunnion_common::block::Readings;
use trunnion_common::id::{BootId, GatewayId, NodeId};
use trunnion_common::time::EventTime;

/// Where a frame came from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) gateway: GatewayId,
    pub(super) position: Position,
    /// Which record of its block.
    pub(super) item: u32,
    /// Whether its block was history.
    pub(super) backfill: bool,
    /// When it arrived at the gateway, by the gateway's clock.
    pub(super) arrival: EventTime,
    /// Number of the clock fix that it names.
    pub(super) fix: u32,
    /// Whether it was a dead letter, and a person had it replayed.
    pub(super) replayed: bool,
    /// When it was committed, as [`super::overdue`] counts.
    pub(super) since: i64,
}

/// Something that waits.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) source: (NodeId, BootId),
    pub(super) content: Content,
}

/// What waits, whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Content {
    /// A node's frame and the number of its clock fix.
    Frame { fix: u32, bytes: Vec<u8> },
    /// Readings of a virtual node.
    Readings(Box<Readings>),
}

impl Held {
    fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Frame { bytes, .. } => bytes.len(),
            Content::Readings(_) => size_of::<Readings>(),
        };
        content + size_of::<Self>()
    }
}

/// The waiting room.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Waiting {
    held: VecDeque<Held>,
    bytes: usize,
    counts: BTreeMap<(NodeId, BootId), u32>,
}

impl Waiting {
    /// Takes one more in. Returns those that had to leave for it, oldest first.
    pub(super) fn push(&mut self, held: Held, bytes_max: usize) -> Vec<Held> {
        self.bytes += held.bytes();
        *self.counts.entry(held.source).or_default() += 1;
        self.held.push_back(held);
        let mut displaced = Vec::new();
        while self.bytes > bytes_max
            && let Some(oldest) = self.held.pop_front()
        {
            self.forget(&oldest);
            displaced.push(oldest);
        }
        displaced
    }

    /// Takes out everything of one boot, in the order of the journal.
    pub(super) fn take(&mut self, source: (NodeId, BootId)) -> Vec<Held> {
        if !self.has(source) {
            return Vec::new();
        }
        let (taken, rest): (Vec<_>, Vec<_>) = self.held.drain(..).partition(|held| held.source == source);
        self.held = rest.into();
        for held in &taken {
            self.forget(held);
        }
        taken
    }

    /// The boots of which something was committed at `limit` or before.
    pub(super) fn sources_since(&self, limit: i64) -> BTreeSet<(NodeId, BootId)> {
        let overdue = self.held.iter().filter(|held| held.origin.since <= limit);
        overdue.map(|held| held.source).collect()
    }

    /// Whether anything of that boot waits.
    pub(super) fn has(&self, source: (NodeId, BootId)) -> bool {
        self.counts.contains_key(&source)
    }

    fn forget(&mut self, held: &Held) {
        self.bytes -= held.bytes();
        if let Some(count) = self.counts.get_mut(&held.source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&held.source);
            }
        }
    }
}
