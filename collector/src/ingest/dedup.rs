//! What has been received, by identity alone: the sets that tell new from known.
//!
//! Both sets are pure functions of the journal's entries. [`BlockSets`] tells whether a block is new
//! when it arrives, before it is journaled; [`FrameSets`] tells whether a frame inside a block is new
//! when the pipeline reads it back (a gateway that lost its cursor sends known frames in new blocks).
//! Both together stand in every segment's head, so that a journal can be read from any segment on.
//!
//! | table | bound | what happens there |
//! |---|---|---|
//! | ranges per set of blocks | [`RANGES_MAX`] | the lowest hole is given up and must be booked as lost |
//! | ranges per set of frames | [`frame_set::RANGES_MAX`] | the same |
//! | open epochs per gateway | [`EPOCHS_OPEN_MAX`] | a block of a further epoch is refused |
//! | closed epochs per gateway | [`EPOCHS_CLOSED_MAX`] | the one closed first is forgotten |
//! | starts of an agent that later ones superseded, per gateway | [`STARTS_MAX`] | the one superseded first is forgotten |
//! | starts of the collector | [`NAMES_MAX`](super::names::NAMES_MAX) | the first one counts as unknown |
//! | boots per node | [`BOOTS_MAX`] | the boot heard of longest ago is forgotten |
//! | forgotten boots per node | [`BOOTS_FORGOTTEN_MAX`] | the one forgotten first would count as new |
//! | nodes | [`NODES_MAX`] | frames of a further node are refused |

pub mod frame_set;

pub use frame_set::FrameSet;

use super::names::JournalNames;
use crate::command::CommandLog;
use crate::journal::Entry;
use crate::slots::Slots;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use trunnion_common::ack::EPOCHS_MAX;
use trunnion_common::block::{Block, Body, Kind};
use trunnion_common::frame::{Class, RawFrame};
use trunnion_common::id::{BootId, Epoch, GatewayId, MasterId, NodeId};
#[cfg(doc)]
use trunnion_common::sequence::RANGES_MAX;
use trunnion_common::sequence::{Insertion, Range, SequenceSet};

/// Most epochs of one gateway that are open at once: those a Hello can list, and as many again that
/// blocks may open before the Hello that closes the old ones.
pub const EPOCHS_OPEN_MAX: usize = 2 * EPOCHS_MAX;

/// Closed epochs remembered per gateway: two chains restarted daily for over five years.
pub const EPOCHS_CLOSED_MAX: usize = 4_096;

/// Starts remembered per gateway whose Hellos count no more: so many restarts may lie between one that a
/// network held up and its arrival.
pub const STARTS_MAX: usize = 256;

/// Boots per node whose frames are told apart.
pub const BOOTS_MAX: usize = 64;

/// Forgotten boots per node that are still known as such.
pub const BOOTS_FORGOTTEN_MAX: usize = 1_024;

/// Nodes told apart. A full table of full nodes takes about 150 MB; one boot each, about 2 MB.
pub const NODES_MAX: usize = 4_096;

/// Everything received so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SequenceSets {
    /// Blocks, per gateway and epoch.
    pub blocks: BlockSets,
    /// Frames, per node, boot and class.
    pub frames: FrameSets,
    /// Commands given, per gateway.
    pub commands: CommandLog,
    /// By which names acknowledgements have called the journal.
    pub names: JournalNames,
}

impl SequenceSets {
    /// Counts a committed entry as received.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Block { gateway, bytes } => {
                // Only blocks with a valid envelope are journaled.
                if let Ok(block) = Block::parse(bytes) {
                    let _ = self.blocks.admit(gateway, &block);
                    self.frames.fill_from(&block);
                    self.commands.apply_block(gateway, &block);
                }
            }
            Entry::Lost {
                gateway,
                epoch,
                blocks,
                ..
            } => {
                let _ = self.blocks.fill(gateway, *epoch, *blocks);
            }
            Entry::EpochClosed { gateway, epoch } => self.blocks.close(gateway, *epoch),
            Entry::Command { .. } | Entry::CommandResult { .. } => self.commands.apply(entry),
            Entry::Superseded { gateway, starts } => self.blocks.supersede(gateway, starts),
            Entry::Started { name, ended } => self.names.start(*name, *ended),
            Entry::DeliveredElsewhere { gateway, to, .. } => self.names.tell(gateway, *to),
            // What is replayed was counted when it first came.
            Entry::Greeted { .. }
            | Entry::Fleet { .. }
            | Entry::Settings { .. }
            | Entry::Replayed(_)
            | Entry::Shed { .. }
            | Entry::Restated { .. }
            | Entry::Decided(_)
            | Entry::Learned { .. }
            | Entry::Tick => {}
        }
    }

    /// As a segment starts with them: what there is none of is left out at the end, so that what former builds
    /// wrote is what this one writes.
    pub fn encode(&self) -> Vec<u8> {
        const ANY: &str = "maps, lists and numbers encode without limit";
        let bytes = postcard::to_stdvec(&(&self.blocks, &self.frames)).expect(ANY);
        if self.names != JournalNames::default() {
            let (names, extents) = self.names.written();
            let bytes = postcard::to_extend(&(&self.commands, names), bytes).expect(ANY);
            return match extents {
                Some(extents) => postcard::to_extend(&extents, bytes).expect(ANY),
                None => bytes,
            };
        }
        if self.commands != CommandLog::default() {
            return postcard::to_extend(&self.commands, bytes).expect(ANY);
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ((blocks, frames), rest) = postcard::take_from_bytes(bytes).ok()?;
        let (commands, rest) = match rest {
            [] => (CommandLog::default(), rest),
            rest => postcard::take_from_bytes(rest).ok()?,
        };
        let names = match rest {
            [] => JournalNames::default(),
            rest => {
                let (names, rest) = postcard::take_from_bytes(rest).ok()?;
                let extents = match rest {
                    [] => None,
                    rest => Some(postcard::from_bytes(rest).ok()?),
                };
                JournalNames::read(names, extents)
            }
        };
        Some(Self {
            blocks,
            frames,
            commands,
            names,
        })
    }
}

/// Blocks received, per gateway and epoch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BlockSets {
    gateways: BTreeMap<GatewayId, GatewayBlocks>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct GatewayBlocks {
    open: BTreeMap<Epoch, SequenceSet>,
    closed: VecDeque<ClosedEpoch>,
    /// Starts of the agent that later ones have superseded.
    superseded: VecDeque<MasterId>,
}

/// What is left of an epoch that its agent no longer holds.
///
/// The end is kept beside the number so that a block past it is never mistaken for a known one: were
/// an epoch closed by mistake, its later blocks would open it again instead of being thrown away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ClosedEpoch {
    epoch: Epoch,
    end: u64,
}

/// What to do with a block.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum BlockVerdict {
    /// It is new, and counts as received from now on.
    New {
        /// Holes given up to make room, of this epoch or of the one that a tombstone names: their
        /// blocks count as received although they never were.
        given_up: Vec<(Epoch, Range)>,
    },
    /// It was received before.
    Duplicate,
    /// The gateway has too many epochs open for another one.
    TooManyEpochs,
}

impl BlockSets {
    /// Counts a block as received, and with a tombstone also the blocks it names.
    pub fn admit(&mut self, gateway: &GatewayId, block: &Block<'_>) -> BlockVerdict {
        let Some(one) = Range::one(block.envelope.sequence) else {
            return BlockVerdict::Duplicate;
        };
        let mut given_up = Vec::new();
        let epoch = block.envelope.epoch;
        match self.fill(gateway, epoch, one) {
            None => return BlockVerdict::TooManyEpochs,
            Some(Insertion::Duplicate) => return BlockVerdict::Duplicate,
            Some(Insertion::Overflow { closed }) => given_up.push((epoch, closed)),
            Some(Insertion::New | Insertion::Partial) => {}
        }
        if block.envelope.kind == Kind::Tombstone as u8
            && let Ok(Body::Tombstone(tombstone)) = block.decode()
            && let Some(Insertion::Overflow { closed }) =
                self.fill(gateway, tombstone.epoch, tombstone.blocks)
        {
            given_up.push((tombstone.epoch, closed));
        }
        BlockVerdict::New { given_up }
    }

    /// Counts a range of blocks as received; `None` when the gateway has too many epochs open.
    #[must_use]
    pub fn fill(&mut self, gateway: &GatewayId, epoch: Epoch, blocks: Range) -> Option<Insertion> {
        let known = self.gateways.entry(gateway.clone()).or_default();
        if let Some(set) = known.open.get_mut(&epoch) {
            return Some(set.insert_range(blocks));
        }
        let closed = known.closed.iter().position(|closed| closed.epoch == epoch);
        let mut set = SequenceSet::new();
        if let Some(at) = closed {
            let end = known.closed[at].end;
            if blocks.end() <= end {
                return Some(Insertion::Duplicate);
            }
            set.advance(end);
        }
        if known.open.len() >= EPOCHS_OPEN_MAX {
            return None;
        }
        if let Some(at) = closed {
            known.closed.remove(at);
        }
        let insertion = set.insert_range(blocks);
        known.open.insert(epoch, set);
        Some(insertion)
    }

    /// Shrinks an epoch to its number.
    pub fn close(&mut self, gateway: &GatewayId, epoch: Epoch) {
        let Some(known) = self.gateways.get_mut(gateway) else {
            return;
        };
        let Some(set) = known.open.remove(&epoch) else {
            return;
        };
        if known.closed.len() >= EPOCHS_CLOSED_MAX {
            known.closed.pop_front();
        }
        let end = set.end();
        known.closed.push_back(ClosedEpoch { epoch, end });
    }

    /// These starts of an agent have been followed by another: their Hellos count no more.
    pub fn supersede(&mut self, gateway: &GatewayId, starts: &[MasterId]) {
        let known = self.gateways.entry(gateway.clone()).or_default();
        for start in starts {
            if known.superseded.contains(start) {
                continue;
            }
            if known.superseded.len() >= STARTS_MAX {
                known.superseded.pop_front();
            }
            known.superseded.push_back(*start);
        }
    }

    /// Whether a later start of the agent has named this one as a former one.
    pub fn is_superseded(&self, gateway: &GatewayId, start: MasterId) -> bool {
        let known = self.gateways.get(gateway);
        known.is_some_and(|known| known.superseded.contains(&start))
    }

    /// What has been received of an epoch: nothing, if it is unknown.
    pub fn received(&self, gateway: &GatewayId, epoch: Epoch) -> SequenceSet {
        let Some(known) = self.gateways.get(gateway) else {
            return SequenceSet::new();
        };
        if let Some(set) = known.open.get(&epoch) {
            return set.clone();
        }
        let mut set = SequenceSet::new();
        if let Some(closed) = known.closed.iter().find(|closed| closed.epoch == epoch) {
            set.advance(closed.end);
        }
        set
    }

    /// The open epochs of a gateway.
    pub fn open_epochs(&self, gateway: &GatewayId) -> impl Iterator<Item = (Epoch, &SequenceSet)> {
        self.gateways
            .get(gateway)
            .into_iter()
            .flat_map(|known| known.open.iter().map(|(&epoch, set)| (epoch, set)))
    }

    /// How many gateways have sent something.
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }
}

/// Frames received, per node, boot and class.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FrameSets {
    nodes: Slots<NodeId, NodeFrames>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct NodeFrames {
    /// In the order in which they were last heard of, so that a live boot is not forgotten while a
    /// backlog of many short ones drains.
    boots: Vec<BootFrames>,
    forgotten: VecDeque<BootId>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct BootFrames {
    boot: BootId,
    classes: [FrameSet; 2],
}

/// What to do with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum FrameVerdict {
    /// It is new, and counts as received from now on.
    New,
    /// It was received before.
    Duplicate,
    /// It is new, and a hole was given up to make room: those frames count as received although they
    /// never were, and must be booked as lost.
    Overflow {
        /// The frames given up.
        closed: Range,
    },
    /// Its boot is older than those remembered: whether it is new cannot be told.
    ForgottenBoot,
    /// There are more nodes than are told apart.
    TooManyNodes,
}

impl FrameSets {
    /// Counts a frame as received.
    pub fn admit_frame(&mut self, node: NodeId, boot: BootId, class: Class, sequence: u64) -> FrameVerdict {
        match Range::one(sequence) {
            Some(one) => self.admit(node, boot, class, one),
            None => FrameVerdict::Duplicate,
        }
    }

    /// Counts frames as received that a gap or a tombstone names; returns the holes that were given
    /// up for that.
    pub fn fill(&mut self, node: NodeId, boot: BootId, class: Class, ranges: &[Range]) -> Vec<Range> {
        let given_up = ranges.iter().filter_map(|&range| {
            let verdict = self.admit(node, boot, class, range);
            match verdict {
                FrameVerdict::Overflow { closed } => Some(closed),
                _ => None,
            }
        });
        given_up.collect()
    }

    /// What has been received of a boot's class: nothing, if it is unknown.
    pub fn received(&self, node: NodeId, boot: BootId, class: Class) -> &FrameSet {
        static NOTHING: FrameSet = FrameSet::new();
        let known = self.nodes.get(&node);
        known
            .and_then(|known| known.boots.iter().rfind(|known| known.boot == boot))
            .map_or(&NOTHING, |known| &known.classes[class.index()])
    }

    /// How many of these frames, which do not overlap, have not been received.
    pub fn unseen(&self, node: NodeId, boot: BootId, class: Class, ranges: &[Range]) -> u64 {
        let received = self.received(node, boot, class);
        let known: Vec<Range> = Range::new(0, received.upto())
            .into_iter()
            .chain(received.ranges().iter().copied())
            .collect();
        let overlap = |a: &Range, b: &Range| {
            let (first, end) = (a.first().max(b.first()), a.end().min(b.end()));
            end.saturating_sub(first)
        };
        let unseen = ranges.iter().map(|range| {
            let seen: u64 = known.iter().map(|known| overlap(range, known)).sum();
            range.count() - seen
        });
        unseen.fold(0, u64::saturating_add)
    }

    /// Counts everything a block's body says of frames. What it cannot decode, it leaves alone: that
    /// becomes a dead letter, and a replay of it is judged by itself.
    fn fill_from(&mut self, block: &Block<'_>) {
        match block.decode() {
            Ok(Body::Frames(records)) => {
                for record in records.map_while(Result::ok) {
                    if let Ok(frame) = RawFrame::parse(record.frame) {
                        let header = frame.header();
                        let _ = self.admit_frame(header.node, header.boot, header.class, header.sequence);
                    }
                }
            }
            Ok(Body::Readings(readings)) => {
                let _ = self.admit_frame(readings.node, readings.boot, Class::Essential, readings.sequence);
            }
            Ok(Body::Gap(gap)) => {
                self.fill(gap.node, gap.boot, gap.class, &gap.ranges);
            }
            Ok(Body::Tombstone(tombstone)) => {
                for (node, boot, class, ranges) in &tombstone.frames {
                    self.fill(*node, *boot, *class, ranges);
                }
            }
            _ => {}
        }
    }

    fn admit(&mut self, node: NodeId, boot: BootId, class: Class, range: Range) -> FrameVerdict {
        if !self.nodes.contains_key(&node) && self.nodes.len() >= NODES_MAX {
            return FrameVerdict::TooManyNodes;
        }
        let Some(known) = self.nodes.or_default(node).boot(boot) else {
            return FrameVerdict::ForgottenBoot;
        };
        match known.classes[class.index()].insert_range(range) {
            Insertion::New | Insertion::Partial => FrameVerdict::New,
            Insertion::Duplicate => FrameVerdict::Duplicate,
            Insertion::Overflow { closed } => FrameVerdict::Overflow { closed },
        }
    }
}

impl NodeFrames {
    /// The boot's sets, as the boot heard of last; `None` if it was forgotten.
    fn boot(&mut self, boot: BootId) -> Option<&mut BootFrames> {
        match self.boots.iter().rposition(|known| known.boot == boot) {
            Some(at) => self.boots[at..].rotate_left(1),
            None if self.forgotten.contains(&boot) => return None,
            None => {
                if self.boots.len() >= BOOTS_MAX {
                    let oldest = self.boots.remove(0);
                    if self.forgotten.len() >= BOOTS_FORGOTTEN_MAX {
                        self.forgotten.pop_front();
                    }
                    self.forgotten.push_back(oldest.boot);
                }
                self.boots.push(BootFrames {
                    boot,
                    classes: Default::default(),
                });
            }
        }
        self.boots.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_common::block::{Envelope, Gap, Lane, Tombstone};
    use trunnion_common::id::Name;
    use trunnion_common::sample::LossCause;
    use trunnion_common::sequence::RANGES_MAX;

    fn gateway() -> GatewayId {
        GatewayId {
            site: Name::new("bremen").unwrap(),
            gateway: Name::new("gw-1").unwrap(),
        }
    }

    fn range(first: u64, end: u64) -> Range {
        Range::new(first, end).unwrap()
    }

    fn admit(sets: &mut BlockSets, epoch: u64, sequence: u64) -> BlockVerdict {
        let envelope = Envelope::new(Epoch(epoch), sequence, Lane::Live, Kind::Frames);
        sets.admit(&gateway(), &Block { envelope, body: &[] })
    }

    fn new() -> BlockVerdict {
        BlockVerdict::New { given_up: Vec::new() }
    }

    #[test]
    fn unseen_frames_are_those_outside_of_every_range_received() {
        let (node, boot) = (NodeId::new(1).unwrap(), BootId::from_u64(1));
        let range = |first, end| Range::new(first, end).unwrap();
        let mut frames = FrameSets::default();
        let unseen =
            |frames: &FrameSets, ranges: &[Range]| frames.unseen(node, boot, Class::Waveform, ranges);
        assert_eq!(unseen(&frames, &[range(3, 7)]), 4);
        frames.fill(node, boot, Class::Waveform, &[range(0, 4), range(6, 8)]);
        assert_eq!(unseen(&frames, &[range(0, 10)]), 4);
        assert_eq!(unseen(&frames, &[range(1, 3), range(5, 7)]), 1);
        assert_eq!(unseen(&frames, &[range(6, 8)]), 0);
    }

    #[test]
    fn a_block_is_new_once_per_epoch() {
        let mut sets = BlockSets::default();
        assert_eq!(admit(&mut sets, 1, 0), new());
        assert_eq!(admit(&mut sets, 1, 0), BlockVerdict::Duplicate);
        assert_eq!(admit(&mut sets, 2, 0), new());
        assert_eq!(sets.received(&gateway(), Epoch(1)).upto(), 1);
    }

    #[test]
    fn a_closed_epoch_still_knows_its_blocks_and_takes_later_ones() {
        let mut sets = BlockSets::default();
        for sequence in 0..3 {
            assert_eq!(admit(&mut sets, 1, sequence), new());
        }
        sets.close(&gateway(), Epoch(1));
        assert_eq!(sets.open_epochs(&gateway()).count(), 0);
        assert_eq!(admit(&mut sets, 1, 2), BlockVerdict::Duplicate);
        assert_eq!(sets.received(&gateway(), Epoch(1)).upto(), 3);
        assert_eq!(admit(&mut sets, 1, 3), new());
        assert_eq!(sets.received(&gateway(), Epoch(1)).upto(), 4);
        assert_eq!(sets.open_epochs(&gateway()).count(), 1);
    }

    #[test]
    fn the_epoch_closed_first_is_the_first_forgotten() {
        let mut sets = BlockSets::default();
        for epoch in 0..=EPOCHS_CLOSED_MAX as u64 {
            assert_eq!(admit(&mut sets, epoch, 0), new());
            sets.close(&gateway(), Epoch(epoch));
        }
        assert_eq!(admit(&mut sets, 1, 0), BlockVerdict::Duplicate);
        assert_eq!(admit(&mut sets, 0, 0), new());
    }

    #[test]
    fn one_epoch_too_many_is_refused_and_changes_nothing() {
        let mut sets = BlockSets::default();
        for epoch in 0..EPOCHS_OPEN_MAX as u64 {
            assert_eq!(admit(&mut sets, epoch, 0), new());
        }
        let before = sets.clone();
        assert_eq!(admit(&mut sets, 9_999, 0), BlockVerdict::TooManyEpochs);
        assert_eq!(sets, before);
        sets.close(&gateway(), Epoch(0));
        assert_eq!(admit(&mut sets, 9_999, 0), new());
    }

    #[test]
    fn the_seventeenth_range_names_the_hole_it_gives_up() {
        let mut sets = BlockSets::default();
        for n in 0..RANGES_MAX as u64 {
            assert_eq!(admit(&mut sets, 1, 10 + 2 * n), new());
        }
        let given_up = vec![(Epoch(1), range(0, 10))];
        assert_eq!(admit(&mut sets, 1, 1_000), BlockVerdict::New { given_up });
        assert_eq!(admit(&mut sets, 1, 4), BlockVerdict::Duplicate);
    }

    #[test]
    fn a_tombstone_fills_the_blocks_and_frames_it_names() {
        let node = NodeId::new(7).unwrap();
        let boot = BootId::new(1, 2);
        let mut ranges = trunnion_common::sequence::Ranges::new();
        ranges.push(range(3, 5)).unwrap();
        let mut frames = heapless::Vec::new();
        frames
            .push((node, boot, Class::Waveform, ranges.clone()))
            .unwrap();
        let tombstone = Tombstone {
            epoch: Epoch(1),
            blocks: range(0, 4),
            cause: LossCause::SpoolEvicted,
            frames,
            samples: heapless::Vec::new(),
        };
        let body = postcard::to_stdvec(&tombstone).unwrap();
        let envelope = Envelope::new(Epoch(2), 0, Lane::Live, Kind::Tombstone);
        let block = [&envelope.encode(&body)[..], &body].concat();
        let mut sets = SequenceSets::default();
        sets.apply(&Entry::Block {
            gateway: gateway(),
            bytes: block.into(),
        });
        assert_eq!(sets.blocks.received(&gateway(), Epoch(1)).upto(), 4);
        assert_eq!(sets.blocks.received(&gateway(), Epoch(2)).upto(), 1);
        assert_eq!(sets.frames.received(node, boot, Class::Waveform).ranges(), ranges);

        let gap = Gap {
            node,
            boot,
            class: Class::Waveform,
            ranges: trunnion_common::sequence::Ranges::from_slice(&[range(0, 3)]).unwrap(),
            cause: LossCause::OutboxFull,
        };
        let body = postcard::to_stdvec(&gap).unwrap();
        let envelope = Envelope::new(Epoch(2), 1, Lane::Live, Kind::Gap);
        sets.apply(&Entry::Block {
            gateway: gateway(),
            bytes: [&envelope.encode(&body)[..], &body].concat().into(),
        });
        assert_eq!(sets.frames.received(node, boot, Class::Waveform).upto(), 5);
    }

    #[test]
    fn frames_count_per_boot_and_class() {
        let mut sets = FrameSets::default();
        let node = NodeId::new(7).unwrap();
        let [one, two] = [BootId::new(1, 0), BootId::new(2, 0)];
        for (boot, class) in [
            (one, Class::Essential),
            (one, Class::Waveform),
            (two, Class::Essential),
        ] {
            assert_eq!(sets.admit_frame(node, boot, class, 0), FrameVerdict::New);
            assert_eq!(sets.admit_frame(node, boot, class, 0), FrameVerdict::Duplicate);
        }
        for n in 0..frame_set::RANGES_MAX as u64 {
            assert_eq!(
                sets.admit_frame(node, one, Class::Essential, 10 + 2 * n),
                FrameVerdict::New
            );
        }
        assert_eq!(
            sets.admit_frame(node, one, Class::Essential, 1_000),
            FrameVerdict::Overflow { closed: range(1, 10) }
        );
    }

    #[test]
    fn a_live_boot_outlives_a_backlog_of_many_short_ones() {
        let mut sets = FrameSets::default();
        let node = NodeId::new(7).unwrap();
        let live = BootId::new(1_000, 0);
        for old in 0..2 * BOOTS_MAX as u32 {
            assert_eq!(
                sets.admit_frame(node, live, Class::Essential, u64::from(old)),
                FrameVerdict::New
            );
            assert_eq!(
                sets.admit_frame(node, BootId::new(old, 0), Class::Essential, 0),
                FrameVerdict::New
            );
        }
        assert_eq!(
            sets.admit_frame(node, BootId::new(0, 0), Class::Essential, 1),
            FrameVerdict::ForgottenBoot
        );
        let last = BootId::new(2 * BOOTS_MAX as u32 - 1, 0);
        assert_eq!(
            sets.admit_frame(node, last, Class::Essential, 0),
            FrameVerdict::Duplicate
        );
    }

    #[test]
    fn the_sets_survive_their_own_encoding() {
        let mut sets = SequenceSets::default();
        assert_eq!(admit(&mut sets.blocks, 1, 0), new());
        assert_eq!(admit(&mut sets.blocks, 1, 5), new());
        assert_eq!(admit(&mut sets.blocks, 2, 0), new());
        sets.blocks.close(&gateway(), Epoch(2));
        let _ = sets
            .frames
            .admit_frame(NodeId::new(7).unwrap(), BootId::new(1, 0), Class::Waveform, 3);
        let bytes = sets.encode();
        assert_eq!(SequenceSets::decode(&bytes).unwrap(), sets);
        assert_eq!(SequenceSets::decode(&bytes[..bytes.len() - 1]), None);
    }
}
