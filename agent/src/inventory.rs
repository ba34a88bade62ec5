//! What every block not yet acknowledged holds, in little memory. Pure.
//!
//! A gateway that is cut off for a week holds hundreds of thousands of blocks, and must be able to say
//! of each what is lost with it, and of each channel which samples it holds. So the indexes are kept
//! encoded, with a number in the place of each node and boot, in about a tenth of the room. The samples
//! of a channel are summed up by pages of neighbouring blocks, and a page of which blocks have gone is
//! summed up anew when somebody asks: that takes as long as there are such pages, however much is held.

use crate::block::{BlockKey, Index, span};
use crate::intake::BootKey;
use crate::stand_in::StandIn;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trunnion_common::frame::Class;
use trunnion_common::id::{ChannelId, Epoch};
use trunnion_common::sequence::Range;

/// Neighbouring blocks whose samples are summed up together: so many that pages weigh little beside the
/// indexes, so few that one is quickly summed up anew.
const PAGE_BLOCKS: usize = 32;

/// Number of a node's boot, in the place of its name.
type Slot = u32;

/// What the blocks hold.
#[derive(Debug, Default)]
pub struct Inventory {
    boots: Boots,
    pages: BTreeMap<PageKey, Page>,
    /// Those to be summed up anew.
    changed: BTreeSet<PageKey>,
    /// Where the pages of a channel begin and end, and how many of them do so there.
    channels: BTreeMap<(Slot, ChannelId), Bounds>,
}

/// An epoch, and which of its pages.
type PageKey = (Epoch, u64);

/// Neighbouring blocks.
#[derive(Debug, Default)]
struct Page {
    /// Encoded [`Packed`]s, by place.
    blocks: [Option<Box<[u8]>>; PAGE_BLOCKS],
    /// By channel: from the first to the last sample, and how many blocks hold some. Blocks that have
    /// gone since the page was summed up still count in the former.
    channels: Vec<((Slot, ChannelId), Range, u8)>,
}

/// Numbers for boots, for as long as a block names them.
#[derive(Debug, Default)]
struct Boots {
    slots: BTreeMap<BootKey, Slot>,
    /// By number: whose it is, and how often it is named.
    names: Vec<Option<(BootKey, u64)>>,
    free: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Bounds {
    firsts: BTreeMap<u64, u32>,
    ends: BTreeMap<u64, u32>,
}

/// An [`Index`] with numbers for boots and lengths for ends, and without the time of its making, which
/// only a restart asks for.
#[derive(Serialize, Deserialize)]
struct Packed {
    frames: Vec<(Slot, Class, Vec<Length>)>,
    /// With how many samples are missing between the first and the last.
    samples: Vec<(Slot, ChannelId, Length, u64)>,
    buries: Option<(Epoch, Range)>,
    stand_in: Option<Box<StandIn>>,
}

/// A range, by its first number and how many there are.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Length(u64, u64);

impl From<Range> for Length {
    fn from(range: Range) -> Self {
        Self(range.first(), range.count())
    }
}

impl Length {
    fn range(self) -> Option<Range> {
        Range::new(self.0, self.0.checked_add(self.1)?)
    }
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

impl Page {
    fn channel(&mut self, channel: (Slot, ChannelId)) -> Option<(usize, &mut Range, &mut u8)> {
        let at = self.channels.iter().position(|(known, ..)| *known == channel)?;
        let (_, range, blocks) = self.channels.get_mut(at)?;
        Some((at, range, blocks))
    }
}

impl Inventory {
    /// Whether a block is in it.
    pub fn contains(&self, key: BlockKey) -> bool {
        self.bytes(key).is_some()
    }

    /// Whether any block of an epoch is in it.
    pub fn has_epoch(&self, epoch: Epoch) -> bool {
        self.pages.range((epoch, 0)..=(epoch, u64::MAX)).next().is_some()
    }

    /// What a block holds, but for the time of its making.
    pub fn get(&self, key: BlockKey) -> Option<Index> {
        let packed = unpack(self.bytes(key)?)?;
        let mut index = Index {
            buries: packed.buries,
            stand_in: packed.stand_in,
            ..Index::default()
        };
        for (slot, class, lengths) in packed.frames {
            let (node, boot) = self.boots.get(slot)?;
            let ranges = lengths.into_iter().filter_map(Length::range).collect();
            index.frames.push((node, boot, class, ranges));
        }
        for (slot, channel, length, missing) in packed.samples {
            let (node, boot) = self.boots.get(slot)?;
            let range = length.range()?;
            let count = range.count().wrapping_sub(missing);
            index.samples.push((node, boot, channel, count, range));
        }
        Some(index)
    }

    fn bytes(&self, key: BlockKey) -> Option<&[u8]> {
        let (page, place) = place_of(key);
        self.pages.get(&page)?.blocks.get(place)?.as_deref()
    }

    /// A block has been made, or was found in the spool.
    pub fn insert(&mut self, key: BlockKey, index: &Index) {
        self.remove(key);
        let boots = &mut self.boots;
        let frames = index.frames.iter().map(|(node, boot, class, ranges)| {
            let lengths = ranges.iter().map(|range| Length::from(*range)).collect();
            (boots.name((*node, *boot)), *class, lengths)
        });
        let frames = frames.collect();
        let samples = index.samples.iter().map(|&(node, boot, channel, count, range)| {
            // A node that repeats itself has more samples counted than there are: that wraps, and back.
            let missing = range.count().wrapping_sub(count);
            (boots.name((node, boot)), channel, range.into(), missing)
        });
        let packed = Packed {
            frames,
            samples: samples.collect(),
            buries: index.buries,
            stand_in: index.stand_in.clone(),
        };
        let bytes = postcard::to_extend(&packed, Vec::new())
            .expect("a vector takes any length, and an index always encodes");
        let (page, place) = place_of(key);
        self.pages.entry(page).or_default().blocks[place] = Some(bytes.into());
        for (slot, channel, length, _) in packed.samples {
            if let Some(range) = length.range() {
                self.add_samples(page, (slot, channel), range);
            }
        }
    }

    fn add_samples(&mut self, page: PageKey, channel: (Slot, ChannelId), range: Range) {
        let bounds = self.channels.entry(channel).or_default();
        let page = self.pages.entry(page).or_default();
        match page.channel(channel) {
            Some((_, known, blocks)) => {
                *blocks += 1;
                let both = span(*known, range);
                if both != *known {
                    bounds.remove(*known);
                    bounds.add(both);
                    *known = both;
                }
            }
            None => {
                page.channels.push((channel, range, 1));
                bounds.add(range);
            }
        }
    }

    /// A block is acknowledged: the blocks that it is the tombstone of, if it is one.
    pub fn remove(&mut self, key: BlockKey) -> Option<(Epoch, Range)> {
        let (at, place) = place_of(key);
        let page = self.pages.get_mut(&at)?;
        let packed = unpack(&page.blocks.get_mut(place)?.take()?)?;
        for (slot, ..) in &packed.frames {
            self.boots.release(*slot);
        }
        for &(slot, channel, ..) in &packed.samples {
            self.remove_samples(at, (slot, channel));
            self.boots.release(slot);
        }
        let is_empty = |page: &Page| page.blocks.iter().all(Option::is_none);
        if self.pages.get(&at).is_some_and(is_empty) {
            self.pages.remove(&at);
            self.changed.remove(&at);
        }
        packed.buries
    }

    fn remove_samples(&mut self, at: PageKey, channel: (Slot, ChannelId)) {
        let Some(page) = self.pages.get_mut(&at) else {
            return;
        };
        let Some((place, range, blocks)) = page.channel(channel) else {
            return;
        };
        *blocks -= 1;
        if *blocks > 0 {
            self.changed.insert(at);
            return;
        }
        let range = *range;
        page.channels.swap_remove(place);
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

    fn sum_up(&mut self, at: PageKey) {
        let Some(page) = self.pages.get_mut(&at) else {
            return;
        };
        let mut exact: BTreeMap<(Slot, ChannelId), Range> = BTreeMap::new();
        for packed in page.blocks.iter().flatten().filter_map(|bytes| unpack(bytes)) {
            for (slot, channel, length, _) in packed.samples {
                if let Some(range) = length.range() {
                    exact
                        .entry((slot, channel))
                        .and_modify(|known| *known = span(*known, range))
                        .or_insert(range);
                }
            }
        }
        for (channel, exact) in exact {
            if let Some((_, known, _)) = page.channel(channel)
                && let Some(bounds) = self.channels.get_mut(&channel)
            {
                bounds.remove(*known);
                bounds.add(exact);
                *known = exact;
            }
        }
    }
}

fn place_of(key: BlockKey) -> (PageKey, usize) {
    let blocks = PAGE_BLOCKS as u64;
    let place = usize::try_from(key.sequence % blocks).expect("below the number of places");
    ((key.epoch, key.sequence / blocks), place)
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
    use trunnion_common::sequence::Ranges;

    fn boot(n: u64) -> BootKey {
        (NodeId::new(1 + n % 3).unwrap(), BootId::from_u64(n))
    }

    fn index(boots: &[u64], first: u64) -> Index {
        let mut index = Index::default();
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
