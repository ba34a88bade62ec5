//! What is held of one epoch, and which of it may be sent next. Pure.
//!
//! The collector keeps what it has of an epoch as a set of at most [`RANGES_MAX`] ranges; one more, and
//! it gives up the lowest hole. So a block is only sent when the set stays within its bound whichever
//! of the blocks under way arrive, and in whatever order. A block that was ever sent may still arrive
//! until it is acknowledged, so sending it again risks nothing.
//!
//! Nothing here takes longer when more blocks wait, beyond the logarithm that an ordered map takes.

use crate::runs::Runs;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use trunnion_common::block::Lane;
use trunnion_common::frame::Class;
use trunnion_common::id::JournalId;
use trunnion_common::sequence::{RANGES_MAX, Range, SequenceSet};

/// Ranges that history leaves to live blocks, so that they do not wait until it is acknowledged.
const RANGES_LEFT_TO_LIVE: usize = 4;

/// Steps in which blocks become history: a fraction of the age at which they do.
const AGE_STEPS: u32 = 1_024;

/// What is held of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) class: Class,
    /// The sequence after its last block.
    pub(super) next: u64,
    pub(super) freed_by: Option<JournalId>,
    /// What the collector has of it, as it said last.
    received: SequenceSet,
    /// Everything: what waits, what was sent, and what is buried.
    all: Runs,
    /// Never sent, with their bytes.
    fresh: BTreeMap<u64, u32>,
    /// Sent, and to be counted with until acknowledged: so few that the set's bound holds.
    sent: BTreeMap<u64, Sent>,
    /// Evicted, unreadable or refused: the tombstone goes in their place.
    buried: Runs,
    /// Blocks below are history, unless they were first published as live.
    live_from: u64,
    /// Up to which sequence blocks become history, and when; ascending in both.
    ages: VecDeque<(u64, Duration)>,
}

/// A block that was handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) lane: Lane,
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Handed out at this time, with this checksum once it was given to the connection.
    UnderWay(Duration, Option<u32>),
    /// To be sent again.
    Waiting,
    /// Its tombstone goes in its place.
    Buried,
}

/// What an epoch has for a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// This block, of so many bytes.
    Block(u64, u64),
    /// Something, once acknowledgements have made room in the collector's set.
    Later,
    /// Something, once holes are filled in the collector's set.
    BehindHoles,
    /// Nothing.
    Nothing,
}

impl Held {
    pub(super) const fn new(class: Class) -> Self {
        Self {
            class,
            next: 0,
            freed_by: None,
            received: SequenceSet::new(),
            all: Runs::new(),
            fresh: BTreeMap::new(),
            sent: BTreeMap::new(),
            buried: Runs::new(),
            live_from: 0,
            ages: VecDeque::new(),
        }
    }

    /// A block is on disk that becomes history at `history_at`, if it has not by then been sent.
    pub(super) fn store(
        &mut self,
        sequence: u64,
        bytes: u32,
        history_at: Option<Duration>,
        live_age: Duration,
    ) {
        self.next = self.next.max(sequence.saturating_add(1));
        if !self.all.insert(sequence) {
            return;
        }
        self.fresh.insert(sequence, bytes);
        match (history_at, self.ages.back_mut()) {
            (None, _) => self.live_from = self.live_from.max(sequence.saturating_add(1)),
            // Blocks are made in the order of their sequence; those of one step go together.
            (Some(at), Some((last, due))) if at <= *due + live_age / AGE_STEPS => {
                *last = (*last).max(sequence);
            }
            (Some(at), _) => self.ages.push_back((sequence, at)),
        }
    }

    /// A block of which there is a tombstone only.
    pub(super) fn bury(&mut self, sequence: u64) {
        self.next = self.next.max(sequence.saturating_add(1));
        self.all.insert(sequence);
        self.fresh.remove(&sequence);
        if let Some(sent) = self.sent.get_mut(&sequence) {
            sent.progress = Progress::Buried;
        }
        self.buried.insert(sequence);
    }

    /// Makes history of what has become too old by `now`.
    pub(super) fn age(&mut self, now: Duration) {
        while let Some((last, _)) = self.ages.pop_front_if(|(_, due)| *due <= now) {
            self.live_from = self.live_from.max(last.saturating_add(1));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Blocks held.
    pub(super) const fn count(&self) -> u64 {
        self.all.count()
    }

    /// Blocks held, as runs.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.all.ranges()
    }

    /// Bytes of a block that is not buried.
    pub(super) fn bytes(&self, sequence: u64) -> Option<u64> {
        let fresh = self.fresh.get(&sequence).map(|bytes| u64::from(*bytes));
        fresh.or_else(|| {
            let sent = self.sent.get(&sequence)?;
            (sent.progress != Progress::Buried).then_some(sent.bytes)
        })
    }

    pub(super) fn is_buried(&self, sequence: u64) -> bool {
        self.buried.contains(sequence)
    }

    pub(super) fn sent(&self, sequence: u64) -> Option<&Sent> {
        self.sent.get(&sequence)
    }

    pub(super) fn sent_mut(&mut self, sequence: u64) -> Option<&mut Sent> {
        self.sent.get_mut(&sequence)
    }

    pub(super) fn all_sent(&self) -> impl Iterator<Item = (u64, &Sent)> {
        self.sent.iter().map(|(&sequence, sent)| (sequence, sent))
    }

    pub(super) fn all_sent_mut(&mut self) -> impl Iterator<Item = &mut Sent> {
        self.sent.values_mut()
    }

    /// Whether anything is held, but for buried blocks, that is or will be history.
    pub(super) fn has_history(&self) -> bool {
        self.fresh
            .first_key_value()
            .is_some_and(|(first, _)| *first < self.live_from)
            || self
                .sent
                .values()
                .any(|sent| sent.lane == Lane::Backfill && sent.progress != Progress::Buried)
    }

    /// The collector has these: the blocks of them that were held, each with what is known of it if it
    /// was sent, and its bytes.
    pub(super) fn handle_received(&mut self, received: &SequenceSet) -> Vec<(u64, Option<Sent>, u64)> {
        let below = Range::new(0, received.upto());
        let parts = below.into_iter().chain(received.ranges().iter().copied());
        let mut freed = Vec::new();
        for part in parts {
            for sequence in numbers(self.all.take(part)) {
                let sent = self.sent.remove(&sequence);
                let fresh = self.fresh.remove(&sequence).map(u64::from);
                let bytes = match sent {
                    Some(sent) if sent.progress != Progress::Buried => sent.bytes,
                    _ => fresh.unwrap_or(0),
                };
                self.buried.remove(sequence);
                freed.push((sequence, sent, bytes));
            }
        }
        // An answer that was overtaken by a later one says less than is known.
        if !covers(&self.received, received) {
            self.received = received.clone();
        }
        freed
    }

    /// The tombstone of these is acknowledged: the buried ones among them.
    pub(super) fn settle(&mut self, blocks: Range) -> Vec<u64> {
        let settled: Vec<u64> = numbers(self.buried.take(blocks)).collect();
        for sequence in &settled {
            self.all.remove(*sequence);
            self.sent.remove(sequence);
        }
        settled
    }

    /// Hands out a block in a lane.
    pub(super) fn send(&mut self, sequence: u64, lane: Lane, now: Duration) {
        let progress = Progress::UnderWay(now, None);
        if let Some(bytes) = self.fresh.remove(&sequence) {
            let bytes = u64::from(bytes);
            self.sent.insert(
                sequence,
                Sent {
                    bytes,
                    lane,
                    progress,
                },
            );
        } else if let Some(sent) = self.sent.get_mut(&sequence) {
            sent.progress = progress;
        }
    }

    /// The next block for a lane: what is to be sent again, then the others in their order, then what
    /// fills a hole when the set has no room for that.
    pub(super) fn next_block(&self, lane: Lane, is_newest_first: bool) -> Next {
        let again = self
            .sent
            .iter()
            .find(|(_, sent)| sent.lane == lane && sent.progress == Progress::Waiting);
        if let Some((&sequence, sent)) = again {
            return Next::Block(sequence, sent.bytes);
        }
        let preferred = match lane {
            Lane::Live => self.fresh.range(self.live_from..).next(),
            Lane::Backfill if is_newest_first => self.fresh.range(..self.live_from).next_back(),
            Lane::Backfill => self.fresh.range(..self.live_from).next(),
        };
        let Some((&sequence, &bytes)) = preferred else {
            return Next::Nothing;
        };
        if self.has_room_for(sequence, lane) {
            return Next::Block(sequence, bytes.into());
        }
        match lane {
            Lane::Backfill => self.filler().unwrap_or(Next::Later),
            Lane::Live => match self.last_resort(sequence) {
                Some(next) => next,
                None if self.ranges_at_worst([sequence].into_iter()) > RANGES_MAX => Next::BehindHoles,
                None => Next::Later,
            },
        }
    }

    /// The block of history that brings the next hole in the collector's set closest to its end.
    pub(super) fn filler(&self) -> Option<Next> {
        let mut holes: Vec<Range> = self.received.holes().collect();
        holes.sort_unstable_by_key(|hole| (hole.count(), Reverse(hole.first())));
        let inside = holes.iter().filter_map(|hole| {
            let end = hole.end().min(self.live_from);
            let mut blocks = self.fresh.range(hole.first()..end.max(hole.first()));
            blocks.next()
        });
        let lowest = self.fresh.range(..self.live_from).next();
        let fits = inside
            .chain(lowest)
            .find(|(sequence, _)| self.has_room_for(**sequence, Lane::Backfill));
        match fits {
            Some((&sequence, &bytes)) => Some(Next::Block(sequence, bytes.into())),
            None => lowest.and_then(|(&sequence, _)| self.last_resort(sequence)),
        }
    }

    /// When nothing is under way and the lowest block that can be sent finds no room, then what is
    /// missing below it cannot be sent at all: that hole may be given up.
    fn last_resort(&self, sequence: u64) -> Option<Next> {
        let (&lowest, &bytes) = self.fresh.first_key_value()?;
        let is_quiet = self.sent.values().all(|sent| sent.progress == Progress::Buried);
        (lowest == sequence && is_quiet).then_some(Next::Block(lowest, bytes.into()))
    }

    fn has_room_for(&self, sequence: u64, lane: Lane) -> bool {
        let with = self.ranges_at_worst(merged(self.sent.keys().copied(), sequence));
        with <= RANGES_MAX
            && (lane == Lane::Live
                || with <= RANGES_MAX - RANGES_LEFT_TO_LIVE
                || with <= self.ranges_at_worst(self.sent.keys().copied()))
    }

    /// How many ranges the collector's set may come to hold if any of these blocks, ascending, arrive.
    fn ranges_at_worst(&self, at_risk: impl Iterator<Item = u64>) -> usize {
        let has = |n: u64| self.received.contains(n);
        let mut worst = self.received.ranges().len();
        let mut close = |first: u64, end: u64| {
            // Of neighbours every other one arrives; next to what is there, one makes no range.
            let beside =
                u64::from(first == self.received.upto() || first > 0 && has(first - 1)) + u64::from(has(end));
            let apart = (end - first).saturating_sub(beside).div_ceil(2);
            worst = worst.saturating_add(usize::try_from(apart).unwrap_or(usize::MAX));
        };
        let mut run: Option<(u64, u64)> = None;
        for n in at_risk.filter(|n| !has(*n)) {
            match &mut run {
                Some((_, end)) if *end == n => *end = n.saturating_add(1),
                _ => {
                    if let Some((first, end)) = run.replace((n, n.saturating_add(1))) {
                        close(first, end);
                    }
                }
            }
        }
        if let Some((first, end)) = run {
            close(first, end);
        }
        worst
    }
}

fn numbers(ranges: Vec<Range>) -> impl Iterator<Item = u64> {
    ranges.into_iter().flat_map(|range| range.first()..range.end())
}

/// Ascending numbers with one more among them.
fn merged(numbers: impl Iterator<Item = u64>, one: u64) -> impl Iterator<Item = u64> {
    let mut numbers = numbers.peekable();
    let mut one = Some(one);
    std::iter::from_fn(move || match (numbers.peek().copied(), one) {
        (Some(n), Some(other)) if other < n => one.take(),
        (Some(n), Some(other)) => {
            if n == other {
                one = None;
            }
            numbers.next()
        }
        (Some(_), None) => numbers.next(),
        (None, _) => one.take(),
    })
}

/// Whether everything of `part` is in `whole`.
fn covers(whole: &SequenceSet, part: &SequenceSet) -> bool {
    let has = |range: &Range| {
        range.end() <= whole.upto()
            || whole
                .ranges()
                .iter()
                .any(|own| own.first() <= range.first() && range.end() <= own.end())
    };
    part.upto() <= whole.upto() && part.ranges().iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trunnion_common::sequence::Insertion;

    fn set(upto: u64, ranges: &[(u64, u64)]) -> SequenceSet {
        let ranges: Vec<Range> = ranges.iter().map(|&(a, b)| Range::new(a, b).unwrap()).collect();
        SequenceSet::from_parts(upto, &ranges).unwrap()
    }

    fn worst(received: SequenceSet, at_risk: &[u64]) -> usize {
        let mut held = Held::new(Class::Waveform);
        held.received = received;
        held.ranges_at_worst(at_risk.iter().copied())
    }

    /// By trying every way in which some arrive.
    fn worst_of_all(received: &SequenceSet, at_risk: &[u64]) -> usize {
        let arrivals = (0u32..1 << at_risk.len()).map(|chosen| {
            let mut set = received.clone();
            for (at, n) in at_risk.iter().enumerate() {
                if chosen & (1 << at) != 0 {
                    let _ = set.insert(*n);
                }
            }
            set.ranges().len()
        });
        arrivals.max().unwrap()
    }

    #[test]
    fn of_neighbours_every_other_one_may_be_lost() {
        assert_eq!(worst(set(0, &[]), &[0, 1, 2, 3]), 2);
        assert_eq!(worst(set(0, &[]), &[1, 2, 3]), 2);
        assert_eq!(worst(set(4, &[(6, 8)]), &[4, 5]), 1);
        assert_eq!(worst(set(4, &[(9, 10)]), &[4, 5, 6, 7, 8, 12]), 4);
    }

    proptest! {
        #[test]
        fn the_worst_is_the_worst_of_all_that_can_happen(
            upto in 0u64..4,
            received in prop::collection::btree_set(5u64..24, 0..6),
            at_risk in prop::collection::btree_set(0u64..26, 0..10),
        ) {
            let mut set = SequenceSet::new();
            set.advance(upto);
            for n in received {
                let overflowed = matches!(set.insert(n), Insertion::Overflow { .. });
                prop_assert!(!overflowed);
            }
            let at_risk: Vec<u64> = at_risk.into_iter().filter(|n| !set.contains(*n)).collect();
            prop_assert_eq!(worst(set.clone(), &at_risk), worst_of_all(&set, &at_risk));
        }
    }

    #[test]
    fn one_among_others_is_found_once() {
        for one in 0..8 {
            let with: Vec<u64> = merged([2, 4, 5].into_iter(), one).collect();
            let mut expected = vec![2, 4, 5, one];
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(with, expected);
        }
    }

    #[test]
    fn an_answer_that_was_overtaken_takes_nothing_back() {
        let mut held = Held::new(Class::Waveform);
        held.handle_received(&set(4, &[(6, 8)]));
        held.handle_received(&set(4, &[]));
        assert_eq!(held.received, set(4, &[(6, 8)]));
        held.handle_received(&set(9, &[]));
        assert_eq!(held.received, set(9, &[]));
        held.handle_received(&set(3, &[(10, 11)]));
        assert_eq!(held.received, set(3, &[(10, 11)]), "another collector's word");
    }
}
