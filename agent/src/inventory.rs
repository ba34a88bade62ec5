//! What every block not yet acknowledged holds, in little memory. Pure.
//!
//! A gateway that is cut off for a week holds hundreds of thousands of blocks, and must be able to say
//! of each what is lost with it, and of each channel which samples it holds. So the indexes are kept
//! encoded, with a number in the place of each node and boot, in about a tenth of the room. The samples
//! of a channel are summed up by pages of neighbouring blocks, and a page of which blocks have gone is
//! summed up anew when somebody asks: that takes as long as there are such pages, however much is held.

use crate::block::{BlockKey, Index, span};
use crate::intake::BootKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trunnion_common::frame::Class;
use trunnion_common::id::{ChannelId, Epoch};
use trunnion_common::sequence::{Range, Ranges};
use trunnion_common::time::EventTime;

/// Neighbouring blocks whose samples are summed up together: so many that pages weigh little beside the
/// indexes, so few that one is quickly summed up anew.
const PAGE_BLOCKS: u64 = 32;

/// Number of a node's boot, in the place of its name.
type Slot = u32;

/// What the blocks hold.
#[derive(Debug, Default)]
pub struct Inventory {
    blocks: BTreeMap<BlockKey, Box<[u8]>>,
    boots: Boots,
    pages: BTreeMap<(Epoch, u64), Page>,
    /// Those to be summed up anew.
    changed: BTreeSet<(Epoch, u64)>,
    /// Where the pages of a channel begin and end, and how many of them do so there.
    channels: BTreeMap<(Slot, ChannelId), Bounds>,
}

/// Numbers for boots, for as long as a block names them.
#[derive(Debug, Default)]
struct Boots {
    slots: BTreeMap<BootKey, Slot>,
    /// By number: whose it is, and how often it is named.
    names: Vec<Option<(BootKey, u64)>>,
    free: Vec<Slot>,
}

/// By channel: from the first to the last sample, and how many blocks of the page hold some. Blocks that
/// have gone since it was summed up still count in the former.
type Page = BTreeMap<(Slot, ChannelId), (Range, u32)>;

#[derive(Debug, Default)]
struct Bounds {
    firsts: BTreeMap<u64, u32>,
    ends: BTreeMap<u64, u32>,
}

/// An [`Index`], with numbers for boots; samples as count, first, and how far it is to the end.
#[derive(Serialize, Deserialize)]
struct Packed {
    frames: Vec<(Slot, Class, Ranges)>,
    samples: Vec<(Slot, ChannelId, u64, u64, u64)>,
    buries: Option<(Epoch, Range)>,
    made: EventTime,
}

impl Boots {
    fn name(&mut self, boot: BootKey) -> Slot {
        let slot = *self.slots.entry(boot).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.names.push(None);
                Slot::try_from(self.names.len() - 1).expect("a boot takes more memory than there are numbers")
            })
        });
        let (_, named) = self.names[slot as usize].get_or_insert((boot, 0));
        *named += 1;
        slot
    }

    fn get(&self, slot: Slot) -> Option<BootKey> {
        self.names.get(slot as usize)?.map(|(boot, _)| boot)
    }

    fn release(&mut self, slot: Slot) {
        let Some(name) = self.names.get_mut(slot as usize) else {
            return;
        };
        if let Some((boot, named)) = name {
            *named -= 1;
            if *named == 0 {
                self.slots.remove(boot);
                self.free.push(slot);
                *name = None;
            }
        }
    }
}

impl Bounds {
    fn add(&mut self, range: Range) {
        *self.firsts.entry(range.first()).or_default() += 1;
        *self.ends.entry(range.end()).or_default() += 1;
    }

    fn remove(&mut self, range: Range) {
        for (bounds, at) in [(&mut self.firsts, range.first()), (&mut self.ends, range.end())] {
            if let Some(count) = bounds.get_mut(&at) {
                *count -= 1;
                if *count == 0 {
                    bounds.remove(&at);
                }
            }
        }
    }

    fn span(&self) -> Option<Range> {
        Range::new(*self.firsts.first_key_value()?.0, *self.ends.last_key_value()?.0)
    }
}

impl Inventory {
    /// Whether a block is in it.
    pub fn contains(&self, key: BlockKey) -> bool {
        self.blocks.contains_key(&key)
    }

    /// What a block holds.
    pub fn get(&self, key: BlockKey) -> Option<Index> {
        let packed = unpack(self.blocks.get(&key)?)?;
        let mut index = Index {
            buries: packed.buries,
            made: packed.made,
            ..Index::default()
        };
        for (slot, class, ranges) in packed.frames {
            let (node, boot) = self.boots.get(slot)?;
            index.frames.push((node, boot, class, ranges));
        }
        for (slot, channel, count, first, length) in packed.samples {
            let (node, boot) = self.boots.get(slot)?;
            let range = range(first, length)?;
            index.samples.push((node, boot, channel, count, range));
        }
        Some(index)
    }

    /// A block has been made, or was found in the spool.
    pub fn insert(&mut self, key: BlockKey, index: &Index) {
        self.remove(key);
        let boots = &mut self.boots;
        let frames = index
            .frames
            .iter()
            .map(|(node, boot, class, ranges)| (boots.name((*node, *boot)), *class, ranges.clone()))
            .collect();
        let samples: Vec<_> = index
            .samples
            .iter()
            .map(|&(node, boot, channel, count, range)| {
                (
                    boots.name((node, boot)),
                    channel,
                    count,
                    range.first(),
                    range.count(),
                )
            })
            .collect();
        for &(slot, channel, _, first, length) in &samples {
            if let Some(range) = range(first, length) {
                self.add_samples(key, (slot, channel), range);
            }
        }
        let packed = Packed {
            frames,
            samples,
            buries: index.buries,
            made: index.made,
        };
        let bytes = postcard::to_extend(&packed, Vec::new())
            .expect("a vector takes any length, and an index always encodes");
        self.blocks.insert(key, bytes.into());
    }

    fn add_samples(&mut self, key: BlockKey, channel: (Slot, ChannelId), range: Range) {
        let page = self.pages.entry(page_of(key)).or_default();
        let bounds = self.channels.entry(channel).or_default();
        match page.get_mut(&channel) {
            Some((known, blocks)) => {
                *blocks += 1;
                let both = span(*known, range);
                if both != *known {
                    bounds.remove(*known);
                    bounds.add(both);
                    *known = both;
                }
            }
            None => {
                page.insert(channel, (range, 1));
                bounds.add(range);
            }
        }
    }

    /// A block is acknowledged: the blocks that it is the tombstone of, if it is one.
    pub fn remove(&mut self, key: BlockKey) -> Option<(Epoch, Range)> {
        let packed = unpack(&self.blocks.remove(&key)?)?;
        for (slot, ..) in &packed.frames {
            self.boots.release(*slot);
        }
        for &(slot, channel, ..) in &packed.samples {
            self.remove_samples(key, (slot, channel));
            self.boots.release(slot);
        }
        packed.buries
    }

    fn remove_samples(&mut self, key: BlockKey, channel: (Slot, ChannelId)) {
        let at = page_of(key);
        let Some(page) = self.pages.get_mut(&at) else {
            return;
        };
        let Some((range, blocks)) = page.get_mut(&channel) else {
            return;
        };
        *blocks -= 1;
        if *blocks > 0 {
            self.changed.insert(at);
            return;
        }
        let range = *range;
        page.remove(&channel);
        if page.is_empty() {
            self.pages.remove(&at);
            self.changed.remove(&at);
        }
        if let Some(bounds) = self.channels.get_mut(&channel) {
            bounds.remove(range);
            if bounds.firsts.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }

    /// Of each channel, from the first to the last of the samples held.
    pub fn samples(&mut self) -> impl Iterator<Item = ((BootKey, ChannelId), Range)> + '_ {
        for at in std::mem::take(&mut self.changed) {
            self.sum_up(at);
        }
        self.channels
            .iter()
            .filter_map(|(&(slot, channel), bounds)| Some(((self.boots.get(slot)?, channel), bounds.span()?)))
    }
}

impl Inventory {
    fn sum_up(&mut self, (epoch, number): (Epoch, u64)) {
        let first = BlockKey {
            epoch,
            sequence: number * PAGE_BLOCKS,
        };
        let last = BlockKey {
            sequence: first.sequence + (PAGE_BLOCKS - 1),
            ..first
        };
        let mut exact: BTreeMap<(Slot, ChannelId), Range> = BTreeMap::new();
        for packed in self
            .blocks
            .range(first..=last)
            .filter_map(|(_, bytes)| unpack(bytes))
        {
            for (slot, channel, _, first, length) in packed.samples {
                if let Some(range) = range(first, length) {
                    exact
                        .entry((slot, channel))
                        .and_modify(|known| *known = span(*known, range))
                        .or_insert(range);
                }
            }
        }
        for (channel, exact) in exact {
            let page = self.pages.get_mut(&(epoch, number));
            if let Some((known, _)) = page.and_then(|page| page.get_mut(&channel))
                && let Some(bounds) = self.channels.get_mut(&channel)
            {
                bounds.remove(*known);
                bounds.add(exact);
                *known = exact;
            }
        }
    }
}

fn range(first: u64, length: u64) -> Option<Range> {
    Range::new(first, first.checked_add(length)?)
}

const fn page_of(key: BlockKey) -> (Epoch, u64) {
    (key.epoch, key.sequence / PAGE_BLOCKS)
}

fn unpack(bytes: &[u8]) -> Option<Packed> {
    let packed = postcard::from_bytes(bytes).ok();
    debug_assert!(packed.is_some(), "it was encoded here");
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trunnion_common::id::{BootId, NodeId};

    fn boot(n: u64) -> BootKey {
        (NodeId::new(1 + n % 3).unwrap(), BootId::from_u64(n))
    }

    fn index(boots: &[u64], first: u64) -> Index {
        let mut index = Index {
            made: EventTime(7),
            ..Index::default()
        };
        for &n in boots {
            let (node, boot) = boot(n);
            let mut ranges = Ranges::new();
            ranges.push(Range::new(first, first + 5).unwrap()).unwrap();
            index.frames.push((node, boot, Class::Waveform, ranges));
            let channel = ChannelId::new(3).unwrap();
            let range = Range::new(100 * first, 100 * first + 300).unwrap();
            index.samples.push((node, boot, channel, 250, range));
        }
        index
    }

    fn key(epoch: u64, sequence: u64) -> BlockKey {
        BlockKey {
            epoch: Epoch(epoch),
            sequence,
        }
    }

    #[test]
    fn a_tombstone_is_known_by_what_it_buries() {
        let mut inventory = Inventory::default();
        let buries = Some((Epoch(4), Range::new(2, 5).unwrap()));
        let tombstone = Index {
            buries,
            ..Index::default()
        };
        inventory.insert(key(1, 0), &tombstone);
        assert_eq!(inventory.remove(key(1, 0)), buries);
        assert_eq!(inventory.remove(key(1, 0)), None);
    }

    proptest! {
        /// Blocks come and go: each index is what was put in, no boot is remembered for nothing, and what
        /// is said of a channel spans exactly what is held of it.
        #[test]
        fn an_inventory_is_what_was_put_into_it(
            steps in prop::collection::vec((any::<bool>(), 1u64..3, 0u64..120, prop::collection::btree_set(0u64..6, 0..4)), 0..150),
        ) {
            let mut inventory = Inventory::default();
            let mut expected: BTreeMap<BlockKey, Index> = BTreeMap::new();
            for (is_new, epoch, sequence, boots) in steps {
                let key = key(epoch, sequence);
                if is_new {
                    let index = index(&boots.into_iter().collect::<Vec<_>>(), sequence);
                    inventory.insert(key, &index);
                    expected.insert(key, index);
                } else {
                    inventory.remove(key);
                    expected.remove(&key);
                }
                for (key, index) in &expected {
                    let found = inventory.get(*key);
                    prop_assert_eq!(found.as_ref(), Some(index));
                }
                let samples: BTreeMap<_, Range> = inventory.samples().collect();
                let mut exact: BTreeMap<_, Range> = BTreeMap::new();
                for &(node, boot, channel, _, range) in expected.values().flat_map(|index| &index.samples) {
                    exact.entry(((node, boot), channel)).and_modify(|known| *known = span(*known, range)).or_insert(range);
                }
                prop_assert_eq!(samples, exact);
            }
            for key in expected.keys() {
                inventory.remove(*key);
            }
            prop_assert!(inventory.pages.is_empty() && inventory.channels.is_empty());
            prop_assert!(inventory.changed.is_empty());
            prop_assert!(inventory.boots.slots.is_empty());
        }
    }
}
