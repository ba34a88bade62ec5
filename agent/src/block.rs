//! Blocks as the agent makes them: frames gathered until a block is full, and the index that the spool
//! keeps beside each block, so that even an unreadable one can say what was in it.

use crate::config::BlockLimits;
use crate::stand_in::StandIn;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use trunnion_common::block::{
    Envelope, FRAME_RECORD_MAX, FrameRecord, Kind, Lane, TOMBSTONE_CHANNELS_MAX, TOMBSTONE_FRAMES_MAX,
    Tombstone,
};
use trunnion_common::frame::{Class, Header};
use trunnion_common::id::{BootId, ChannelId, Epoch, NodeId};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::{RANGES_MAX, Range, Ranges};
use trunnion_common::time::EventTime;

/// A block among all of this gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockKey {
    /// Which chain of which start of the agent.
    pub epoch: Epoch,
    /// Position in it.
    pub sequence: u64,
}

/// A block ready to be stored and sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Which.
    pub key: BlockKey,
    /// Envelope and body.
    pub bytes: Bytes,
    /// What is in it.
    pub index: Index,
}

impl Block {
    /// Puts an envelope around `body`.
    pub fn new(key: BlockKey, kind: Kind, body: &[u8], mut index: Index) -> Self {
        index.stand_in = index.stand_in.or_else(|| StandIn::of(kind, body));
        let envelope = Envelope::new(key.epoch, key.sequence, Lane::Live, kind).encode(body);
        Self {
            key,
            bytes: [&envelope[..], body].concat().into(),
            index,
        }
    }
}

/// Samples of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Samples {
    /// Which channel.
    pub channel: ChannelId,
    /// Their indexes.
    pub range: Range,
}

/// What a block holds: never more than one tombstone can name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Index {
    /// The frames, by stream.
    pub frames: Vec<(NodeId, BootId, Class, Ranges)>,
    /// The samples, by channel: how many, and the range that spans them all.
    pub samples: Vec<(NodeId, BootId, ChannelId, u64, Range)>,
    /// The blocks that it is the tombstone of, if it is one.
    pub buries: Option<(Epoch, Range)>,
    /// When it was closed, by the gateway's clock: what is old by then is history.
    pub made: EventTime,
    /// What takes its place should the disk destroy it.
    pub stand_in: Option<Box<StandIn>>,
}

impl Index {
    /// Adds a frame; `false`, and nothing changed, when a tombstone could not name it as well.
    pub(crate) fn add(&mut self, header: &Header, samples: Option<Samples>) -> bool {
        let stream = (header.node, header.boot, header.class);
        let at = self.frames.iter().position(|(n, b, c, _)| (*n, *b, *c) == stream);
        let mut ranges = at.map_or_else(Ranges::new, |at| self.frames[at].3.clone());
        let channel = samples.map(|samples| {
            let name = (header.node, header.boot, samples.channel);
            let at = self.samples.iter().position(|(n, b, c, ..)| (*n, *b, *c) == name);
            (samples, at)
        });
        let full = !add_number(&mut ranges, header.sequence)
            || (at.is_none() && self.frames.len() == TOMBSTONE_FRAMES_MAX)
            || matches!(channel, Some((_, None)) if self.samples.len() == TOMBSTONE_CHANNELS_MAX);
        if full {
            return false;
        }
        match at {
            Some(at) => self.frames[at].3 = ranges,
            None => self.frames.push((header.node, header.boot, header.class, ranges)),
        }
        match channel {
            Some((samples, Some(at))) => {
                let (.., count, range) = &mut self.samples[at];
                *count += samples.range.count();
                *range = span(*range, samples.range);
            }
            Some((samples, None)) => {
                let Samples { channel, range } = samples;
                self.samples
                    .push((header.node, header.boot, channel, range.count(), range));
            }
            None => {}
        }
        true
    }

    /// What is lost with the block when its stand-in takes its place.
    pub fn without_stand_in(&self) -> Self {
        let mut lost = self.clone();
        let kept = lost.stand_in.take().map(|stand_in| stand_in.frames());
        for (node, boot, class, sequence) in kept.into_iter().flatten() {
            let stream = (node, boot, class);
            let Some(at) = lost.frames.iter().position(|(n, b, c, ranges)| {
                (*n, *b, *c) == stream && ranges.iter().any(|r| r.first() <= sequence && sequence < r.end())
            }) else {
                continue;
            };
            let (.., ranges) = lost.frames.remove(at);
            let split = ranges.iter().flat_map(|range| {
                [
                    Range::new(range.first(), range.end().min(sequence)),
                    Range::new(range.first().max(sequence.saturating_add(1)), range.end()),
                ]
            });
            // One range too many for one list stands in a second.
            for range in split.flatten() {
                let last = lost.frames.last_mut().filter(|(n, b, c, ranges)| {
                    (*n, *b, *c) == stream && ranges.last().is_none_or(|last| last.end() < range.first())
                });
                if last.is_none_or(|(.., ranges)| ranges.push(range).is_err()) {
                    lost.frames
                        .push((node, boot, class, [range].into_iter().collect()));
                }
            }
        }
        lost
    }

    /// Adds another block's content; `false`, and nothing changed, when a tombstone could not name
    /// both.
    fn merge(&mut self, other: &Self) -> bool {
        let mut merged = self.clone();
        for (node, boot, class, ranges) in &other.frames {
            let at = merged
                .frames
                .iter()
                .position(|(n, b, c, _)| (n, b, c) == (node, boot, class));
            match at {
                Some(at) => {
                    if !ranges
                        .iter()
                        .all(|range| add_range(&mut merged.frames[at].3, *range))
                    {
                        return false;
                    }
                }
                None => merged.frames.push((*node, *boot, *class, ranges.clone())),
            }
        }
        for &(node, boot, channel, count, range) in &other.samples {
            let mine = merged
                .samples
                .iter_mut()
                .find(|(n, b, c, ..)| (*n, *b, *c) == (node, boot, channel));
            match mine {
                Some((.., known, span_of)) => {
                    *known += count;
                    *span_of = span(*span_of, range);
                }
                None => merged.samples.push((node, boot, channel, count, range)),
            }
        }
        let fits =
            merged.frames.len() <= TOMBSTONE_FRAMES_MAX && merged.samples.len() <= TOMBSTONE_CHANNELS_MAX;
        if fits {
            *self = merged;
        }
        fits
    }

    /// Says that these blocks of an epoch with this content are lost.
    fn tombstone(&self, epoch: Epoch, blocks: Range, cause: LossCause) -> Tombstone {
        Tombstone {
            epoch,
            blocks,
            cause,
            frames: self.frames.iter().take(TOMBSTONE_FRAMES_MAX).cloned().collect(),
            samples: self
                .samples
                .iter()
                .map(|(node, boot, channel, count, _)| (*node, *boot, *channel, *count))
                .take(TOMBSTONE_CHANNELS_MAX)
                .collect(),
        }
    }
}

/// Says that blocks are lost: neighbours share a tombstone as far as one can name what they held.
pub fn tombstones<'a>(
    lost: impl IntoIterator<Item = (BlockKey, &'a Index)>,
    cause: LossCause,
) -> Vec<Tombstone> {
    let mut runs: Vec<(Epoch, Range, Index)> = Vec::new();
    for (key, index) in lost {
        let Some(one) = Range::one(key.sequence) else {
            continue;
        };
        if let Some((epoch, blocks, known)) = runs.last_mut()
            && *epoch == key.epoch
            && blocks.end() == key.sequence
            && known.merge(index)
        {
            *blocks = span(*blocks, one);
        } else {
            runs.push((key.epoch, one, index.clone()));
        }
    }
    runs.iter()
        .map(|(epoch, blocks, index)| index.tombstone(*epoch, *blocks, cause))
        .collect()
}

/// The smallest range that holds both.
pub fn span(a: Range, b: Range) -> Range {
    Range::new(a.first().min(b.first()), a.end().max(b.end()))
        .expect("neither is empty, so their span is not")
}

/// Adds a number to ascending, separate ranges; `false` when that takes one range too many.
fn add_number(ranges: &mut Ranges, n: u64) -> bool {
    Range::one(n).is_some_and(|one| add_range(ranges, one))
}

/// Adds a range to ascending, separate ranges; `false`, and nothing changed, when that takes one too many.
fn add_range(ranges: &mut Ranges, new: Range) -> bool {
    let apart = |range: &&Range| range.end() < new.first() || new.end() < range.first();
    let mut separate: Ranges = ranges.iter().filter(apart).copied().collect();
    let swallowed = ranges.iter().filter(|range| !apart(range));
    let merged = swallowed.fold(new, |merged, range| span(merged, *range));
    let at = separate
        .iter()
        .position(|range| merged.first() < range.first())
        .unwrap_or(separate.len());
    let fits = separate.insert(at, merged).is_ok();
    if fits {
        *ranges = separate;
    }
    fits
}

const _: () = assert!(RANGES_MAX >= 2, "a stream with one hole must fit an index");

/// Gathers frames for the next block.
#[derive(Debug)]
pub struct Gathering {
    limits: BlockLimits,
    body: Vec<u8>,
    index: Index,
    due: Duration,
}

impl Gathering {
    /// Nothing yet.
    pub fn new(limits: BlockLimits) -> Self {
        Self {
            limits,
            body: Vec::with_capacity(limits.bytes),
            index: Index::default(),
            due: Duration::MAX,
        }
    }

    /// Whether there is nothing to make a block of.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// When it must be closed, if it holds anything.
    pub fn due(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(self.due)
    }

    /// The samples gathered so far.
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// Adds a frame that must be in a commit at `due` at the latest; `false`, and nothing changed, when the
    /// block must be closed first. An empty one always has room.
    pub fn add(
        &mut self,
        record: &FrameRecord<'_>,
        header: &Header,
        samples: Option<Samples>,
        due: Duration,
    ) -> bool {
        let mut bytes = [0; FRAME_RECORD_MAX];
        let bytes = postcard::to_slice(record, &mut bytes).expect("a frame record fits FRAME_RECORD_MAX");
        if !self.is_empty() && self.body.len() + bytes.len() > self.limits.bytes {
            return false;
        }
        if !self.index.add(header, samples) {
            return false;
        }
        self.due = self.due.min(due);
        if samples.is_none() {
            StandIn::add(&mut self.index.stand_in, header, record.frame, bytes);
        }
        self.body.extend_from_slice(bytes);
        true
    }

    /// Closes it as the block `key`.
    pub fn close(&mut self, key: BlockKey) -> Block {
        let block = Block::new(key, Kind::Frames, &self.body, std::mem::take(&mut self.index));
        self.body.clear();
        self.due = Duration::MAX;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use trunnion_common::block::{Body, ENVELOPE_BYTES};
    use trunnion_common::frame::{Payload, RawFrame, TimeRequest, encode};
    use trunnion_common::id::LineAddress;
    use trunnion_common::time::{EventTime, NodeTicks};

    const KEY: BlockKey = BlockKey {
        epoch: Epoch(1),
        sequence: 0,
    };

    fn header(node: u64, sequence: u64) -> Header {
        Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(node).unwrap(),
            boot: BootId::from_u64(1),
            class: Class::Waveform,
            sequence,
            ticks: NodeTicks(0),
        }
    }

    fn add(gathering: &mut Gathering, node: u64, sequence: u64) -> bool {
        let header = header(node, sequence);
        let mut bytes = [0; 1_024];
        let frame = encode(
            &header,
            &Payload::TimeRequest(TimeRequest { request: 1 }),
            &mut bytes,
        )
        .unwrap();
        let record = FrameRecord {
            arrival: EventTime(0),
            fix: 0,
            frame,
        };
        let samples = Samples {
            channel: ChannelId::new(0).unwrap(),
            range: Range::new(10 * sequence, 10 * sequence + 10).unwrap(),
        };
        gathering.add(&record, &header, Some(samples), Duration::from_secs(sequence))
    }

    fn gathering(bytes: usize) -> Gathering {
        Gathering::new(BlockLimits {
            bytes,
            age: Duration::from_millis(200),
        })
    }

    #[test]
    fn a_block_holds_the_frames_verbatim_and_knows_them_by_index() {
        let mut gathering = gathering(65_536);
        for sequence in [6, 3, 4] {
            assert!(add(&mut gathering, 7, sequence));
        }
        assert_eq!(
            gathering.due(),
            Some(Duration::from_secs(3)),
            "the most urgent one counts"
        );
        let block = gathering.close(KEY);
        assert!(gathering.is_empty() && gathering.due().is_none());

        let parsed = trunnion_common::block::Block::parse(&block.bytes).unwrap();
        let Body::Frames(records) = parsed.decode().unwrap() else {
            panic!("frames expected");
        };
        let sequences: Vec<u64> = records
            .map(|record| RawFrame::parse(record.unwrap().frame).unwrap().header().sequence)
            .collect();
        assert_eq!(sequences, [6, 3, 4]);

        let tombstone = &tombstones([(KEY, &block.index)], LossCause::SpoolUnreadable)[0];
        let ranges = [Range::new(3, 5).unwrap(), Range::new(6, 7).unwrap()];
        assert_eq!(tombstone.frames[0].3, ranges);
        assert_eq!(tombstone.samples[0].3, 30);
        assert_eq!(block.index.samples[0].4, Range::new(30, 70).unwrap());
    }

    #[test]
    fn a_block_that_is_full_asks_to_be_closed() {
        let mut small = gathering(4_096);
        let fitted = (0..).take_while(|&sequence| add(&mut small, 1, sequence)).count();
        assert!(small.close(KEY).bytes.len() <= 4_096 + ENVELOPE_BYTES);
        assert!(fitted > 50 && add(&mut small, 1, fitted as u64));
    }

    #[test]
    fn a_block_never_holds_more_than_a_tombstone_can_name() {
        let mut streams = gathering(65_536);
        let fitted = (1..).take_while(|&node| add(&mut streams, node, 0)).count();
        assert_eq!(fitted, TOMBSTONE_FRAMES_MAX);
        let mut holes = gathering(65_536);
        let fitted = (0..).take_while(|&n| add(&mut holes, 1, 2 * n)).count();
        assert_eq!(fitted, RANGES_MAX);
        assert!(add(&mut holes, 1, 1), "closing a hole needs no further range");
    }

    #[test]
    fn a_channel_table_in_a_destroyed_block_is_not_lost_with_it() {
        use trunnion_common::frame::Describe;
        let mut gathering = gathering(65_536);
        let mut put = |sequence: u64, is_table: bool| {
            let header = Header {
                class: Class::Essential,
                ..header(7, sequence)
            };
            let table = Describe {
                revision: 1,
                channels: Default::default(),
            };
            let payload = if is_table {
                Payload::Describe(table)
            } else {
                Payload::TimeRequest(TimeRequest { request: 1 })
            };
            let mut bytes = [0; 1_024];
            let frame = encode(&header, &payload, &mut bytes).unwrap();
            let record = FrameRecord {
                arrival: EventTime(0),
                fix: 3,
                frame,
            };
            assert!(gathering.add(&record, &header, None, Duration::ZERO));
        };
        for sequence in 0..40 {
            put(sequence, sequence == 5 || sequence == 39);
        }
        let index = gathering.close(KEY).index;
        let stand_in = index.stand_in.clone().unwrap();
        assert_eq!(stand_in.kind(), Some(Kind::Frames));
        let kept: Vec<u64> = stand_in.frames().iter().map(|(.., sequence)| *sequence).collect();
        assert_eq!(kept, [5, 39]);
        let lost = index.without_stand_in();
        assert!(lost.stand_in.is_none());
        let lost: Vec<u64> = lost
            .frames
            .iter()
            .flat_map(|(.., ranges)| ranges)
            .flat_map(|range| range.first()..range.end())
            .collect();
        let expected: Vec<u64> = (0..39).filter(|n| *n != 5).collect();
        assert_eq!(lost, expected);
    }

    #[test]
    fn a_clock_fix_a_gap_and_a_tombstone_have_a_stand_in_and_what_is_told_again_has_none() {
        for kind in Kind::ALL {
            let block = Block::new(KEY, kind, &[1, 2, 3], Index::default());
            let expected = matches!(kind, Kind::ClockFix | Kind::Gap | Kind::Tombstone);
            let stand_in = block.index.stand_in;
            assert_eq!(stand_in.is_some(), expected, "{kind:?}");
            if let Some(stand_in) = stand_in {
                assert_eq!((stand_in.kind(), stand_in.body()), (Some(kind), &[1, 2, 3][..]));
            }
        }
    }

    #[test]
    fn neighbours_share_a_tombstone_until_one_cannot_name_more() {
        let index = |node, sequence| {
            let mut gathering = gathering(65_536);
            assert!(add(&mut gathering, node, sequence));
            gathering.close(KEY).index
        };
        let key = |epoch, sequence| BlockKey {
            epoch: Epoch(epoch),
            sequence,
        };
        let lost = [
            (key(1, 4), index(1, 0)),
            (key(1, 5), index(2, 7)),
            (key(1, 6), index(1, 1)),
        ];
        let one = tombstones(
            lost.iter().map(|(key, index)| (*key, index)),
            LossCause::SpoolEvicted,
        );
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].blocks, Range::new(4, 7).unwrap());
        assert_eq!(one[0].frames[0].3[..], [Range::new(0, 2).unwrap()]);
        let samples: Vec<u64> = one[0].samples.iter().map(|(.., count)| *count).collect();
        assert_eq!(samples, [20, 10]);

        let apart = [
            (key(1, 4), index(1, 0)),
            (key(1, 6), index(1, 1)),
            (key(2, 7), index(1, 2)),
        ];
        let three = tombstones(
            apart.iter().map(|(key, index)| (*key, index)),
            LossCause::SpoolEvicted,
        );
        assert_eq!(three.len(), 3, "a hole or another epoch begins another");
        let many: Vec<(BlockKey, Index)> = (0..=TOMBSTONE_FRAMES_MAX as u64)
            .map(|n| (key(1, n), index(n + 1, 0)))
            .collect();
        let two = tombstones(
            many.iter().map(|(key, index)| (*key, index)),
            LossCause::SpoolEvicted,
        );
        assert_eq!(two.len(), 2, "too many streams for one");
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(numbers in prop::collection::vec(0u64..40, 0..60)) {
            let (mut ranges, mut model) = (Ranges::new(), BTreeSet::new());
            for n in numbers {
                if add_number(&mut ranges, n) {
                    model.insert(n);
                }
                let members: Vec<u64> = ranges.iter().flat_map(|r| r.first()..r.end()).collect();
                prop_assert_eq!(&members, &model.iter().copied().collect::<Vec<_>>());
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].first()));
            }
        }
    }
}
