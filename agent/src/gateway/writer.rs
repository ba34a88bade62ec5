//! What has been received and is on its way to the disk: the blocks of both chains in the making, and the
//! commits that it has not confirmed.

use crate::block::{Block, BlockKey, Gathering, Index, span};
use crate::clock::Now;
use crate::intake::{BootKey, Upto};
use crate::inventory::Inventory;
use crate::spool::Request;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::block::Kind;
use trunnion_common::frame::Class;
use trunnion_common::id::{ChannelId, Epoch};
use trunnion_common::sequence::Range;

/// A commit to one chain that the disk has not confirmed yet.
#[derive(Debug)]
pub(super) struct Flushing {
    pub(super) number: u64,
    /// Of its class; 0 of the other.
    pub(super) upto: BTreeMap<BootKey, Upto>,
    pub(super) blocks: Vec<(BlockKey, usize)>,
    /// When they were made, or a little later.
    pub(super) made: Duration,
    pub(super) bytes: usize,
    /// What to remove once its tombstones are on disk.
    pub(super) removals: Vec<Request>,
}

/// Numbers blocks and keeps those that are in no commit yet.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) chains: [ChainWriter; 2],
    pub(super) age: Duration,
    /// What every unacknowledged block holds, from its making on.
    pub(super) inventory: Inventory,
    /// What to remove once the tombstones among the finished blocks are on disk.
    pub(super) removals: Vec<Request>,
}

/// The next blocks of one chain.
#[derive(Debug)]
pub(super) struct ChainWriter {
    pub(super) epoch: Epoch,
    pub(super) next: u64,
    pub(super) gathering: Gathering,
    pub(super) finished: Vec<Block>,
    /// When the oldest of `finished` must be in a commit.
    pub(super) due: Option<Duration>,
}

impl ChainWriter {
    pub(super) fn key(&mut self) -> BlockKey {
        let sequence = self.next;
        self.next += 1;
        BlockKey {
            epoch: self.epoch,
            sequence,
        }
    }

    /// When a commit is due.
    pub(super) fn due(&self) -> Option<Duration> {
        [self.due, self.gathering.due()].into_iter().flatten().min()
    }
}

impl Writer {
    pub(super) fn finish(&mut self, class: Class, mut block: Block, now: Now) {
        block.index.made = now.utc;
        self.inventory.insert(block.key, &block.index);
        let chain = &mut self.chains[class.index()];
        chain.finished.push(block);
        chain.due.get_or_insert(now.mono + self.age);
    }

    pub(super) fn close_gathering(&mut self, class: Class, now: Now) {
        let chain = &mut self.chains[class.index()];
        if !chain.gathering.is_empty() {
            let key = chain.key();
            let block = chain.gathering.close(key);
            self.finish(class, block, now);
        }
    }

    pub(super) fn add(&mut self, kind: Kind, body: &[u8], index: Index, now: Now) -> BlockKey {
        let key = self.chains[Class::Essential.index()].key();
        self.finish(Class::Essential, Block::new(key, kind, body, index), now);
        key
    }

    pub(super) fn add_record<T: Serialize>(&mut self, kind: Kind, record: &T, now: Now) {
        self.add(kind, &encode(record), Index::default(), now);
    }

    /// Whether an epoch is of a former start, and nothing is left of it.
    pub(super) fn is_done(&self, epoch: Epoch) -> bool {
        self.chains.iter().all(|chain| chain.epoch != epoch) && !self.inventory.has_epoch(epoch)
    }

    /// When a commit to either chain is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.chains.iter().filter_map(ChainWriter::due).min()
    }

    /// Samples in memory and spool, by channel.
    pub(super) fn samples(&mut self) -> BTreeMap<(BootKey, ChannelId), Range> {
        let mut spans: BTreeMap<_, _> = self.inventory.samples().collect();
        let gathered = self.chains.iter().map(|chain| chain.gathering.index());
        for &(node, boot, channel, _, range) in gathered.flat_map(|index| &index.samples) {
            spans
                .entry(((node, boot), channel))
                .and_modify(|known| *known = span(*known, range))
                .or_insert(range);
        }
        spans
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new())
        .expect("a vector takes any length, and the contract's types encode")
}
