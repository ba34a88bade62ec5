//! What has been heard of every boot of every node: which frames, which samples, which never come. Pure.
//!
//! A frame is new, or a duplicate by its identity (node, boot, class, sequence), whatever its content.
//! A node's status tells which frames it still holds: what lies below, was never heard and is not held
//! will never come, and is reported as a [`Gap`], so that the acknowledgement can move past it.
//!
//! The cause of such a gap follows from the node's own counts. If it has dropped samples from its outbox
//! since its last status, that is `outbox_full`. If it has not, no sample is missed: a newer status took
//! the place of one that the line had damaged, or the frames were acknowledged by an agent whose memory
//! this one does not have. Nobody here or at the node has them any more, which is `not_held`.
//!
//! A frame that would leave more holes than a [`SequenceSet`] can tell is not taken: it lies above the
//! acknowledgement, so that the node still has it and sends it again when the holes are filled.
//!
//! Nothing here is durable by itself: a [`Cursor`] goes to disk in the same commit as the blocks that
//! hold the frames it counts, and only then may [`Intake::durable`] name them to the node.

use crate::block::Samples;
use crate::clock_sync::FixInForce;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::block::{ChannelHolding, Gap, Holding};
use trunnion_common::frame::{Class, Header, Payload, Status};
use trunnion_common::id::{BootId, CHANNELS_MAX, ChannelId, NodeId};
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::{Insertion, Range, Ranges, SequenceSet};

/// Most boots remembered, over all nodes; above it the one not heard for the longest time is forgotten.
/// Its resends would be taken in again and recognised as duplicates by the collector.
pub const BOOTS_MAX: usize = 128;

/// One life of one node.
pub type BootKey = (NodeId, BootId);

/// Per class: every sequence below is meant (exclusive).
pub type Upto = [u64; 2];

/// All boots heard of.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    boots: BTreeMap<BootKey, Boot>,
}

#[derive(Clone, Debug, Default)]
struct Boot {
    received: [SequenceSet; 2],
    durable: Upto,
    channels: BTreeMap<ChannelId, Channel>,
    /// Samples that the node has counted as dropped from its outbox.
    dropped: u64,
    heard: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    produced: u64,
    at_node: u64,
}

/// What became of a frame.
#[derive(Clone, PartialEq, Debug)]
pub struct Taken {
    /// Whether it is to be kept.
    pub fate: Fate,
    /// The samples in it.
    pub samples: Option<Samples>,
    /// What is now known never to come.
    pub gaps: Vec<Gap>,
    /// How many boots had to be forgotten for it: 0 or 1.
    pub forgotten: usize,
}

/// What is to be done with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was heard for the first time: it must go into a block.
    New,
    /// It is there already, or known never to come.
    Duplicate,
    /// Too many frames before it are missing: the node will send it again.
    Deferred,
}

/// What of a boot must survive a restart of the agent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// Whose.
    pub node: NodeId,
    /// Of which boot.
    pub boot: BootId,
    /// Per class: frames taken in, or known never to come.
    pub received: [SequenceSet; 2],
    /// Per channel: samples produced, and from where on the node held them.
    pub channels: Vec<(ChannelId, u64, u64)>,
    /// The clock fix in force.
    pub fix: Option<FixInForce>,
}

impl Cursor {
    /// What the chain of one class must remember of it: the frames of that class; what is known of
    /// samples and clocks goes with the essential ones.
    pub fn part(&self, class: Class) -> Self {
        let mut received = [SequenceSet::new(), SequenceSet::new()];
        received[class.index()] = self.received[class.index()].clone();
        let is_essential = class == Class::Essential;
        Self {
            received,
            channels: if is_essential {
                self.channels.clone()
            } else {
                Vec::new()
            },
            fix: self.fix.filter(|_| is_essential),
            ..*self
        }
    }

    /// Puts a part back.
    pub fn join(&mut self, class: Class, part: &Self) {
        self.received[class.index()] = part.received[class.index()].clone();
        if class == Class::Essential {
            self.channels.clone_from(&part.channels);
            self.fix = part.fix;
        }
    }
}

impl Intake {
    /// Goes on from where a former agent's last commit stood.
    pub fn restore(&mut self, cursor: &Cursor) {
        let boot = Boot {
            durable: [cursor.received[0].upto(), cursor.received[1].upto()],
            received: cursor.received.clone(),
            channels: cursor
                .channels
                .iter()
                .map(|&(channel, produced, at_node)| (channel, Channel { produced, at_node }))
                .collect(),
            dropped: 0,
            heard: Duration::ZERO,
        };
        self.boots.insert((cursor.node, cursor.boot), boot);
    }

    /// Takes a node's frame; `payload` is `None` when this build cannot read it, which is the
    /// collector's business.
    pub fn handle_frame(&mut self, header: &Header, payload: Option<&Payload<'_>>, now: Duration) -> Taken {
        let key = (header.node, header.boot);
        let mut taken = Taken {
            fate: Fate::New,
            samples: payload.and_then(samples),
            gaps: Vec::new(),
            forgotten: 0,
        };
        if !self.boots.contains_key(&key) {
            taken.forgotten = self.make_room();
            self.close_former_boots(header.node, &mut taken.gaps);
        }
        let boot = self.boots.entry(key).or_default();
        boot.heard = now;
        let class = header.class.index();
        let sequence = match Range::one(header.sequence) {
            Some(sequence) if !boot.received[class].contains(header.sequence) => sequence,
            // The last number of all cannot be named, and no stream gets there.
            _ => {
                taken.fate = Fate::Duplicate;
                return taken;
            }
        };
        // Before it is judged itself: a status may close the very holes that it would come behind.
        if let Some(Payload::Status(status)) = payload {
            boot.handle_status(header, status, &mut taken.gaps);
        }
        taken.fate = insert(&mut boot.received[class], sequence);
        if taken.fate != Fate::New {
            return taken;
        }
        if let Some(samples) = taken.samples {
            let channel = boot.channels.entry(samples.channel).or_default();
            channel.produced = channel.produced.max(samples.range.end());
        }
        taken
    }

    /// Per class, below which everything is in the commit that is being written: to be handed to
    /// [`Self::handle_durable`] when the flush has returned.
    pub fn upto(&self) -> BTreeMap<BootKey, Upto> {
        self.boots
            .iter()
            .map(|(key, boot)| (*key, [boot.received[0].upto(), boot.received[1].upto()]))
            .collect()
    }

    /// A commit has been flushed; the boots of which more is durable now.
    pub fn handle_durable(&mut self, upto: &BTreeMap<BootKey, Upto>) -> Vec<BootKey> {
        let mut moved = Vec::new();
        for (key, upto) in upto {
            if let Some(boot) = self.boots.get_mut(key) {
                let durable = [boot.durable[0].max(upto[0]), boot.durable[1].max(upto[1])];
                if std::mem::replace(&mut boot.durable, durable) != durable {
                    moved.push(*key);
                }
            }
        }
        moved
    }

    /// Whether any boot's frames of a class have been taken in further than is durable.
    pub fn has_undurable(&self, class: Class) -> bool {
        let at = class.index();
        self.boots
            .values()
            .any(|boot| boot.received[at].upto() > boot.durable[at])
    }

    /// What the node may forget.
    pub fn durable(&self, key: BootKey) -> Upto {
        self.boots.get(&key).map_or([0, 0], |boot| boot.durable)
    }

    /// Everything that must survive a restart; `fix` knows the clock fixes in force.
    pub fn cursors(&self, fix: impl Fn(BootKey) -> Option<FixInForce>) -> Vec<Cursor> {
        self.boots
            .iter()
            .map(|(&key, boot)| Cursor {
                node: key.0,
                boot: key.1,
                received: boot.received.clone(),
                channels: boot
                    .channels
                    .iter()
                    .map(|(channel, c)| (*channel, c.produced, c.at_node))
                    .collect(),
                fix: fix(key),
            })
            .collect()
    }

    /// What is held of every boot; `at_agent` knows the samples in memory and spool.
    pub fn holdings(&self, at_agent: impl Fn(BootKey, ChannelId) -> Option<Range>) -> Vec<Holding> {
        self.boots
            .iter()
            .filter(|(_, boot)| !boot.channels.is_empty())
            .map(|(&key, boot)| Holding {
                node: key.0,
                boot: key.1,
                channels: boot
                    .channels
                    .iter()
                    .take(CHANNELS_MAX)
                    .map(|(&channel, c)| ChannelHolding {
                        channel,
                        produced: c.produced,
                        at_node: c.at_node.min(c.produced),
                        at_agent: at_agent(key, channel),
                    })
                    .collect(),
            })
            .collect()
    }

    /// Nodes heard since `since`.
    pub fn nodes_heard_since(&self, since: Duration) -> usize {
        let mut nodes: Vec<NodeId> = self
            .boots
            .iter()
            .filter(|(_, boot)| boot.heard > since)
            .map(|((node, _), _)| *node)
            .collect();
        nodes.dedup();
        nodes.len()
    }

    /// Whether anything is known of a boot.
    pub fn knows(&self, key: BootKey) -> bool {
        self.boots.contains_key(&key)
    }

    fn make_room(&mut self) -> usize {
        if self.boots.len() < BOOTS_MAX {
            return 0;
        }
        let oldest = self
            .boots
            .iter()
            .min_by_key(|(_, boot)| boot.heard)
            .map(|(key, _)| *key);
        oldest.and_then(|key| self.boots.remove(&key)).map_or(0, |_| 1)
    }

    /// A node that has restarted has nothing left of what it held before.
    fn close_former_boots(&mut self, node: NodeId, gaps_found: &mut Vec<Gap>) {
        for (key, boot) in self.boots.iter_mut().filter(|((n, _), _)| *n == node) {
            for class in Class::ALL {
                let set = &mut boot.received[class.index()];
                let holes: Vec<Range> = set.holes().collect();
                set.advance(set.end());
                gaps_found.extend(gaps(*key, class, holes, LossCause::NodeReset));
            }
        }
    }
}

impl Boot {
    fn handle_status(&mut self, header: &Header, status: &Status, gaps_found: &mut Vec<Gap>) {
        for (position, reported) in (0u16..).zip(&status.channels) {
            let Some(id) = ChannelId::new(position) else {
                break;
            };
            let channel = self.channels.entry(id).or_default();
            channel.produced = channel.produced.max(reported.produced);
            channel.at_node = channel.at_node.max(reported.held_from.min(reported.produced));
        }
        let dropped = dropped(status);
        let cause = if dropped > self.dropped {
            LossCause::OutboxFull
        } else {
            LossCause::NotHeld
        };
        self.dropped = self.dropped.max(dropped);
        for class in Class::ALL {
            let limit = if class == header.class {
                header.sequence
            } else {
                status.next[class.index()]
            };
            let set = &mut self.received[class.index()];
            let mut gone = gone(set, &status.held[class.index()], limit);
            // One too many keeps for the next status, which finds it again.
            gone.retain(|range| insert(set, *range) == Fate::New);
            gaps_found.extend(gaps((header.node, header.boot), class, gone, cause));
        }
    }
}

/// Adds to a set unless that would close a hole in it.
fn insert(set: &mut SequenceSet, range: Range) -> Fate {
    let mut with = set.clone();
    match with.insert_range(range) {
        Insertion::New | Insertion::Partial => {
            *set = with;
            Fate::New
        }
        Insertion::Duplicate => Fate::Duplicate,
        Insertion::Overflow { .. } => Fate::Deferred,
    }
}

/// Samples that a node has counted as dropped from its outbox, over all channels.
fn dropped(status: &Status) -> u64 {
    let drops = status.channels.iter().flat_map(|channel| &channel.drops);
    drops
        .filter(|(cause, _)| *cause == LossCause::OutboxFull)
        .fold(0, |sum, (_, samples)| sum.saturating_add(*samples))
}

/// What lies below `limit`, was not received and is not held.
fn gone(received: &SequenceSet, held: &[Range], limit: u64) -> Vec<Range> {
    let mut there: Vec<(u64, u64)> = held
        .iter()
        .chain(received.ranges())
        .map(|range| (range.first(), range.end()))
        .collect();
    there.push((limit, u64::MAX));
    there.sort_unstable();
    let mut floor = received.upto();
    let mut gone = Vec::new();
    for (first, end) in there {
        gone.extend(Range::new(floor, first.min(limit)));
        floor = floor.max(end);
    }
    gone
}

/// Gaps, each with as many ranges as one can name.
fn gaps(key: BootKey, class: Class, ranges: impl IntoIterator<Item = Range>, cause: LossCause) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    for range in ranges {
        let fits = gaps.last_mut().is_some_and(|gap| gap.ranges.push(range).is_ok());
        if !fits {
            let mut first = Ranges::new();
            let pushed = first.push(range);
            debug_assert!(pushed.is_ok(), "an empty list has room");
            gaps.push(Gap {
                node: key.0,
                boot: key.1,
                class,
                ranges: first,
                cause,
            });
        }
    }
    gaps
}

pub(crate) fn samples(payload: &Payload<'_>) -> Option<Samples> {
    let (channel, first, count) = match payload {
        Payload::Waveform(waveform) => (waveform.channel, waveform.first_sample, u64::from(waveform.count)),
        Payload::Scalar(scalar) => (scalar.channel, scalar.first_sample, scalar.readings.len() as u64),
        _ => return None,
    };
    let range = Range::new(first, first.checked_add(count)?)?;
    Some(Samples { channel, range })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use trunnion_common::frame::{ChannelStatus, Packing, ResetCause, Waveform};
    use trunnion_common::id::LineAddress;
    use trunnion_common::sequence::RANGES_MAX;
    use trunnion_common::time::NodeTicks;

    const NODE: u64 = 7;

    fn key(boot: u64) -> BootKey {
        (NodeId::new(NODE).unwrap(), BootId::from_u64(boot))
    }

    fn header(boot: u64, class: Class, sequence: u64) -> Header {
        Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node: key(boot).0,
            boot: key(boot).1,
            class,
            sequence,
            ticks: NodeTicks(0),
        }
    }

    fn waveform(intake: &mut Intake, boot: u64, sequence: u64) -> Taken {
        let payload = Payload::Waveform(Waveform {
            revision: 1,
            channel: ChannelId::new(0).unwrap(),
            first_sample: 100 * sequence,
            count: 100,
            packing: Packing::I16,
            data: &[],
        });
        intake.handle_frame(
            &header(boot, Class::Waveform, sequence),
            Some(&payload),
            Duration::ZERO,
        )
    }

    fn range(first: u64, end: u64) -> Range {
        Range::new(first, end).unwrap()
    }

    /// A status with this sequence: these waveform frames held, this the next one, nothing dropped.
    fn status(intake: &mut Intake, sequence: u64, held: &[Range], next: u64) -> Taken {
        status_of_drops(intake, sequence, held, next, 0)
    }

    fn status_of_drops(intake: &mut Intake, sequence: u64, held: &[Range], next: u64, dropped: u64) -> Taken {
        let status = Status {
            channels: [ChannelStatus {
                produced: 100 * next + 50,
                held_from: held.first().map_or(100 * next, |range| 100 * range.first()),
                drops: [(LossCause::OutboxFull, dropped)].into_iter().collect(),
            }]
            .into_iter()
            .collect(),
            held: [Default::default(), held.iter().copied().collect()],
            next: [sequence + 1, next],
            outbox_used: 0,
            outbox_capacity: 0,
            reset: ResetCause::PowerOn,
        };
        let header = header(1, Class::Essential, sequence);
        intake.handle_frame(&header, Some(&Payload::Status(status)), Duration::ZERO)
    }

    fn ranges_of(gaps: &[Gap], class: Class) -> Vec<Range> {
        gaps.iter()
            .filter(|gap| gap.class == class)
            .flat_map(|gap| gap.ranges.iter().copied())
            .collect()
    }

    #[test]
    fn a_frame_is_new_once() {
        let mut intake = Intake::default();
        assert_eq!(waveform(&mut intake, 1, 0).fate, Fate::New);
        assert_eq!(waveform(&mut intake, 1, 0).fate, Fate::Duplicate);
        assert_eq!(
            waveform(&mut intake, 2, 0).fate,
            Fate::New,
            "another boot counts anew"
        );
    }

    #[test]
    fn only_what_was_flushed_is_named_to_the_node() {
        let mut intake = Intake::default();
        waveform(&mut intake, 1, 0);
        let commit = intake.upto();
        waveform(&mut intake, 1, 1);
        assert_eq!(intake.durable(key(1)), [0, 0]);
        assert_eq!(intake.handle_durable(&commit), [key(1)]);
        assert_eq!(intake.durable(key(1)), [0, 1]);
        assert!(intake.handle_durable(&commit).is_empty(), "no news");
    }

    #[test]
    fn what_the_node_dropped_is_a_gap_and_the_acknowledgement_moves_on() {
        let mut intake = Intake::default();
        waveform(&mut intake, 1, 0);
        waveform(&mut intake, 1, 5);
        let taken = status_of_drops(&mut intake, 0, &[range(3, 5), range(6, 8)], 10, 400);
        assert_eq!(
            ranges_of(&taken.gaps, Class::Waveform),
            [range(1, 3), range(8, 10)]
        );
        assert!(taken.gaps.iter().all(|gap| gap.cause == LossCause::OutboxFull));
        assert_eq!(intake.upto()[&key(1)], [1, 3]);
        assert!(
            status(&mut intake, 1, &[range(3, 5), range(6, 8)], 10)
                .gaps
                .is_empty()
        );
    }

    #[test]
    fn a_status_that_was_superseded_leaves_a_gap_in_its_own_class() {
        let mut intake = Intake::default();
        status(&mut intake, 0, &[], 0);
        let taken = status(&mut intake, 4, &[], 0);
        assert_eq!(ranges_of(&taken.gaps, Class::Essential), [range(1, 4)]);
        assert_eq!(taken.gaps[0].cause, LossCause::NotHeld);
        assert_eq!(intake.upto()[&key(1)], [5, 0]);
    }

    #[test]
    fn a_restart_of_the_node_closes_what_its_former_boot_left_open() {
        let mut intake = Intake::default();
        waveform(&mut intake, 1, 0);
        waveform(&mut intake, 1, 4);
        let taken = waveform(&mut intake, 2, 0);
        assert_eq!(ranges_of(&taken.gaps, Class::Waveform), [range(1, 4)]);
        assert_eq!(
            (taken.gaps[0].boot, taken.gaps[0].cause),
            (key(1).1, LossCause::NodeReset)
        );
        assert!(waveform(&mut intake, 3, 0).gaps.is_empty(), "closed once");
    }

    #[test]
    fn a_frame_behind_a_seventeenth_hole_is_left_with_the_node() {
        let mut intake = Intake::default();
        for n in 0..RANGES_MAX as u64 {
            assert_eq!(waveform(&mut intake, 1, 2 * n + 1).fate, Fate::New);
        }
        let taken = waveform(&mut intake, 1, 99);
        assert_eq!((taken.fate, taken.gaps), (Fate::Deferred, Vec::new()));
        assert_eq!(intake.upto()[&key(1)], [0, 0]);
        assert_eq!(waveform(&mut intake, 1, 0).fate, Fate::New, "a hole is filled");
        assert_eq!(waveform(&mut intake, 1, 99).fate, Fate::New);
    }

    #[test]
    fn cursors_bring_everything_back() {
        let mut intake = Intake::default();
        waveform(&mut intake, 1, 0);
        waveform(&mut intake, 1, 7);
        status(&mut intake, 0, &[range(1, 7)], 8);
        let cursors = intake.cursors(|_| None);
        let mut restored = Intake::default();
        for cursor in &cursors {
            let bytes = postcard::to_extend(cursor, Vec::new()).unwrap();
            restored.restore(&postcard::from_bytes(&bytes).unwrap());
        }
        assert_eq!(restored.cursors(|_| None), cursors);
        assert_eq!(waveform(&mut restored, 1, 7).fate, Fate::Duplicate);
        assert_eq!(waveform(&mut restored, 1, 6).fate, Fate::New);
        assert_eq!(restored.durable(key(1)), [1, 1]);
    }

    #[test]
    fn a_holding_says_what_lies_where() {
        let mut intake = Intake::default();
        waveform(&mut intake, 1, 0);
        status(&mut intake, 0, &[range(1, 3)], 3);
        let holdings = intake.holdings(|_, _| Some(range(0, 100)));
        let channel = holdings[0].channels[0];
        assert_eq!((channel.produced, channel.at_node), (350, 100));
        assert_eq!(channel.at_agent, Some(range(0, 100)));
    }

    #[test]
    fn the_boot_not_heard_for_longest_is_forgotten() {
        let mut intake = Intake::default();
        for boot in 0..BOOTS_MAX as u64 + 1 {
            let header = header(boot, Class::Waveform, 0);
            let taken = intake.handle_frame(&header, None, Duration::from_secs(boot));
            assert_eq!(taken.forgotten, usize::from(boot == BOOTS_MAX as u64));
        }
        assert!(!intake.knows(key(0)) && intake.knows(key(1)));
    }

    proptest! {
        /// A node with a lossy outbox on a line that loses and repeats: every frame ends up received,
        /// in a gap, or still held; and the acknowledgement never covers a held frame.
        #[test]
        fn every_frame_is_received_lost_or_held(steps in prop::collection::vec((0u8..4, 0u64..8), 1..120)) {
            let mut intake = Intake::default();
            let (mut held, mut next, mut statuses) = (BTreeSet::new(), 0u64, 0u64);
            let (mut received, mut lost) = (BTreeSet::new(), BTreeSet::new());
            let mut book = |taken: Taken| {
                for range in ranges_of(&taken.gaps, Class::Waveform) {
                    lost.extend(range.first()..range.end());
                }
            };
            for (action, choice) in steps {
                let chosen = held.iter().copied().nth(choice as usize % held.len().max(1));
                match (action, chosen) {
                    (0, _) => {
                        held.insert(next);
                        next += 1;
                    }
                    (1, Some(frame)) => {
                        let taken = waveform(&mut intake, 1, frame);
                        if taken.fate == Fate::New {
                            received.insert(frame);
                        }
                        book(taken);
                    }
                    (2, Some(frame)) if held.len() > 4 => {
                        held.remove(&frame);
                    }
                    _ => {
                        let upto = intake.upto().get(&key(1)).map_or(0, |upto| upto[1]);
                        prop_assert!(held.iter().filter(|frame| **frame < upto).all(|frame| received.contains(frame)));
                        held.retain(|frame| *frame >= upto);
                        // As a node with many ranges reports them: coarser, never finer.
                        let coarse = held.first().zip(held.last()).map(|(first, last)| range(*first, *last + 1));
                        book(status(&mut intake, statuses, coarse.as_slice(), next));
                        statuses += 1;
                    }
                }
            }
            held.clear();
            book(status(&mut intake, statuses, &[], next));
            for frame in 0..next {
                prop_assert!(received.contains(&frame) || lost.contains(&frame), "{frame}");
            }
            prop_assert!(received.is_disjoint(&lost));
            prop_assert_eq!(intake.upto().get(&key(1)).map(|upto| upto[1]), Some(next));
        }
    }
}
