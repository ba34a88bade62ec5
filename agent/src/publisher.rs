//! What to send to the collector next, and what it has made safe. Pure.
//!
//! Call `handle_*` for what happened, then `poll_hello` and `poll_block` until they have nothing; come
//! back at `next_timeout`. Time must not run backwards.
//!
//! The essential chain goes before the waveform chain, and in each the oldest start first: clock fixes
//! arrive before the waveforms that name them, and a tombstone before the report that no longer counts
//! its samples as held.
//!
//! A block leaves the publisher only when an acknowledgement of the collector covers it. PUBACKs of
//! the broker promise nothing and are not looked at here. What was sent on a connection that broke is
//! sent again on the next one, after the collector has said what it has.

use crate::block::BlockKey;
use crate::spool::FormerEpoch;
use std::collections::BTreeMap;
use std::time::Duration;
use trunnion_common::ack::{Ack, EPOCHS_MAX, HeldEpoch, Hello};
use trunnion_common::frame::Class;
use trunnion_common::id::{Epoch, JournalId, MasterId};
use trunnion_common::sequence::{RANGES_MAX, Range, Ranges, SequenceSet};

/// How far ahead of its lowest unacknowledged block an epoch is sent. Whatever of so few blocks gets
/// lost on the way, the collector's set of what it has needs no more ranges than it can hold.
pub const WINDOW: u64 = 2 * RANGES_MAX as u64;

/// A block not acknowledged after this time is sent again: far above a commit of the collector, its
/// queues included.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// A hello not answered after this time is sent again.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Hellos sent in vain before the connection is given up.
const HELLOS_MAX: u32 = 3;

/// The state of the connection and of everything not acknowledged.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Of new blocks, by class.
    current: [Epoch; 2],
    epochs: BTreeMap<Epoch, Held>,
    /// In which the epochs are drained.
    order: Vec<Epoch>,
    phase: Phase,
    credit_bytes: u64,
    in_flight_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No connection, or none that is subscribed yet.
    Offline,
    /// The collector is being told what is held; it answers what it has.
    Greeting { hello_due: Duration, hellos: u32 },
    /// Blocks flow.
    Flowing,
}

/// What is held of an epoch.
#[derive(Clone, Debug, Default)]
struct Held {
    next: u64,
    blocks: BTreeMap<u64, Outgoing>,
    freed_by: Option<JournalId>,
    received: SequenceSet,
}

#[derive(Clone, Copy, Debug)]
struct Outgoing {
    bytes: u64,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Waiting,
    /// Handed out at this time, with this checksum once it was sent.
    InFlight(Duration, Option<u32>),
    /// Evicted, unreadable or refused: its tombstone goes in its place.
    Buried,
}

/// What the publisher wants of its connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Greeting {
    /// Send this.
    Hello(Box<Hello>),
    /// Nobody answers: give the connection up.
    GiveUp,
}

impl Publisher {
    /// New blocks will be of the epochs `current`, by class, from the sequences given on; what `former`
    /// starts left is drained in its order, essentials first.
    pub fn new(current: [(Epoch, u64); 2], former: &[FormerEpoch]) -> Self {
        let mut publisher = Self {
            current: current.map(|(epoch, _)| epoch),
            epochs: BTreeMap::new(),
            order: Vec::new(),
            phase: Phase::Offline,
            credit_bytes: 0,
            in_flight_bytes: 0,
        };
        for class in Class::ALL {
            let (epoch, next) = current[class.index()];
            let mine = former.iter().filter(|former| former.class == class);
            let now = FormerEpoch {
                epoch,
                class,
                next,
                freed_by: None,
            };
            for known in mine.chain([&now]) {
                if !publisher.epochs.contains_key(&known.epoch) {
                    publisher.order.push(known.epoch);
                }
                let held = publisher.epochs.entry(known.epoch).or_default();
                held.next = held.next.max(known.next);
                held.freed_by = held.freed_by.or(known.freed_by);
            }
        }
        publisher
    }

    /// A block is durable in the spool, and may be sent.
    pub fn handle_stored(&mut self, key: BlockKey, bytes: usize) {
        self.hold(key, bytes as u64, Progress::Waiting);
    }

    /// A former start wrote a tombstone for this block, which is still to be acknowledged.
    pub fn handle_buried(&mut self, key: BlockKey) {
        self.hold(key, 0, Progress::Buried);
    }

    fn hold(&mut self, key: BlockKey, bytes: u64, progress: Progress) {
        if !self.epochs.contains_key(&key.epoch) {
            self.order.push(key.epoch);
        }
        let held = self.epochs.entry(key.epoch).or_default();
        held.next = held.next.max(key.sequence + 1);
        held.blocks.insert(key.sequence, Outgoing { bytes, progress });
    }

    /// The tombstone of these blocks is acknowledged, and so are they: those that were held.
    pub fn handle_settled(&mut self, epoch: Epoch, blocks: Range) -> Vec<BlockKey> {
        let Some(held) = self.epochs.get_mut(&epoch) else {
            return Vec::new();
        };
        let settled: Vec<u64> = held
            .blocks
            .range(blocks.first()..blocks.end())
            .filter(|(_, outgoing)| outgoing.progress == Progress::Buried)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in &settled {
            held.blocks.remove(sequence);
        }
        self.close_if_empty(epoch);
        let key = |sequence| BlockKey { epoch, sequence };
        settled.into_iter().map(key).collect()
    }

    fn close_if_empty(&mut self, epoch: Epoch) {
        let is_empty = self.epochs.get(&epoch).is_some_and(|held| held.blocks.is_empty());
        if is_empty && !self.current.contains(&epoch) {
            self.epochs.remove(&epoch);
            self.order.retain(|known| *known != epoch);
        }
    }

    /// The acknowledgement topic is subscribed: from now on an answer reaches us.
    pub fn handle_subscribed(&mut self, now: Duration) {
        self.phase = Phase::Greeting {
            hello_due: now,
            hellos: 0,
        };
    }

    /// The connection is gone, and with it whatever was under way.
    pub fn handle_disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.credit_bytes = 0;
        for held in self.epochs.values_mut() {
            for outgoing in held.blocks.values_mut() {
                if matches!(outgoing.progress, Progress::InFlight(..)) {
                    outgoing.progress = Progress::Waiting;
                }
            }
        }
        self.in_flight_bytes = 0;
    }

    /// The collector has made blocks durable: those that may be deleted now.
    pub fn handle_ack(&mut self, ack: &Ack) -> Vec<BlockKey> {
        if self.phase == Phase::Offline {
            return Vec::new();
        }
        self.phase = Phase::Flowing;
        self.credit_bytes = u64::from(ack.credit_bytes);
        let Some(held) = self.epochs.get_mut(&ack.epoch) else {
            return Vec::new();
        };
        let acknowledged: Vec<u64> = held
            .blocks
            .range(..ack.received.end())
            .map(|(sequence, _)| *sequence)
            .filter(|sequence| ack.received.contains(*sequence))
            .collect();
        for sequence in &acknowledged {
            if let Some(outgoing) = held.blocks.remove(sequence)
                && matches!(outgoing.progress, Progress::InFlight(..))
            {
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(outgoing.bytes);
            }
        }
        held.received = ack.received.clone();
        if !acknowledged.is_empty() {
            held.freed_by = Some(ack.journal);
        }
        let epoch = ack.epoch;
        self.close_if_empty(epoch);
        acknowledged
            .into_iter()
            .map(|sequence| BlockKey { epoch, sequence })
            .collect()
    }

    /// The collector refused a payload with this checksum: the block it was, if it is one of those
    /// under way. It is not sent again.
    pub fn handle_reject(&mut self, crc: u32) -> Option<BlockKey> {
        let key = self.epochs.iter().find_map(|(epoch, held)| {
            let is_it =
                |outgoing: &Outgoing| matches!(outgoing.progress, Progress::InFlight(_, Some(sent)) if sent == crc);
            let (sequence, _) = held.blocks.iter().find(|(_, outgoing)| is_it(outgoing))?;
            Some(BlockKey {
                epoch: *epoch,
                sequence: *sequence,
            })
        })?;
        self.handle_lost(key);
        Some(key)
    }

    /// A block cannot be sent, ever. It is listed as held until its tombstone is acknowledged.
    pub fn handle_lost(&mut self, key: BlockKey) {
        self.set_progress(key, Progress::Buried);
    }

    /// A block that was handed out could not be sent now.
    pub fn handle_not_sent(&mut self, key: BlockKey) {
        self.set_progress(key, Progress::Waiting);
    }

    /// A block that was handed out has been given to the connection.
    pub fn handle_sent(&mut self, key: BlockKey, crc: u32, now: Duration) {
        if let Some(outgoing) = self.outgoing(key)
            && matches!(outgoing.progress, Progress::InFlight(..))
        {
            outgoing.progress = Progress::InFlight(now, Some(crc));
        }
    }

    /// Whether a block that was handed out is still wanted: its connection may have gone since.
    pub fn is_in_flight(&self, key: BlockKey) -> bool {
        self.epochs
            .get(&key.epoch)
            .and_then(|held| held.blocks.get(&key.sequence))
            .is_some_and(|outgoing| matches!(outgoing.progress, Progress::InFlight(..)))
    }

    /// The hello to send, if one is due.
    pub fn poll_hello(&mut self, now: Duration) -> Option<Greeting> {
        let Phase::Greeting { hello_due, hellos } = self.phase else {
            return None;
        };
        if now < hello_due {
            return None;
        }
        if hellos == HELLOS_MAX {
            self.phase = Phase::Offline;
            return Some(Greeting::GiveUp);
        }
        self.phase = Phase::Greeting {
            hello_due: now + HELLO_TIMEOUT,
            hellos: hellos + 1,
        };
        Some(Greeting::Hello(Box::new(self.hello())))
    }

    /// The next block to send, which counts as under way from now on.
    pub fn poll_block(&mut self, now: Duration) -> Option<BlockKey> {
        if self.phase != Phase::Flowing {
            return None;
        }
        self.expire(now);
        let room = self.credit_bytes.saturating_sub(self.in_flight_bytes);
        let (key, bytes) = self.choose_block()?;
        // One block may always go: a credit below its size must slow us down, not stop us.
        if bytes > room && self.in_flight_bytes > 0 {
            return None;
        }
        self.in_flight_bytes += bytes;
        self.outgoing(key)?.progress = Progress::InFlight(now, None);
        Some(key)
    }

    /// When something will be due although nothing happened.
    pub fn next_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Offline => None,
            Phase::Greeting { hello_due, .. } => Some(hello_due),
            Phase::Flowing => self
                .epochs
                .values()
                .flat_map(|held| held.blocks.values())
                .filter_map(|outgoing| match outgoing.progress {
                    Progress::InFlight(since, _) => Some(since + ACK_TIMEOUT),
                    Progress::Waiting | Progress::Buried => None,
                })
                .min(),
        }
    }

    /// Whether a block has a tombstone, or will have one when the next commit is flushed.
    pub fn is_buried(&self, key: BlockKey) -> bool {
        self.epochs
            .get(&key.epoch)
            .and_then(|held| held.blocks.get(&key.sequence))
            .is_some_and(|outgoing| outgoing.progress == Progress::Buried)
    }

    /// Blocks not acknowledged, and their bytes.
    pub fn backlog(&self) -> (u64, u64) {
        let blocks = self.epochs.values().flat_map(|held| held.blocks.values());
        blocks.fold((0, 0), |(count, bytes), outgoing| {
            (count + 1, bytes + outgoing.bytes)
        })
    }

    /// Whether blocks flow.
    pub fn is_flowing(&self) -> bool {
        self.phase == Phase::Flowing
    }

    fn hello(&self) -> Hello {
        // The spool never keeps more epochs than a hello lists.
        let epochs = self
            .order
            .iter()
            .filter_map(|epoch| self.epochs.get_key_value(epoch))
            .take(EPOCHS_MAX)
            .map(|(epoch, held)| HeldEpoch {
                epoch: *epoch,
                next: held.next,
                held: ranges(held.blocks.keys().copied()),
                freed_by: held.freed_by,
            });
        // Whose it is and which, the gateway knows.
        Hello::first(MasterId(0), epochs.collect())
    }

    /// What was under way for too long is to be sent again.
    fn expire(&mut self, now: Duration) {
        for outgoing in self.epochs.values_mut().flat_map(|held| held.blocks.values_mut()) {
            if matches!(outgoing.progress, Progress::InFlight(since, _) if since + ACK_TIMEOUT <= now) {
                outgoing.progress = Progress::Waiting;
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(outgoing.bytes);
            }
        }
    }

    /// The first epoch in the order that may be sent more of, lowest sequence first: what fills a hole
    /// comes before what would open one.
    fn choose_block(&self) -> Option<(BlockKey, u64)> {
        self.order.iter().find_map(|&epoch| {
            let held = self.epochs.get(&epoch)?;
            let buried = |outgoing: &Outgoing| outgoing.progress == Progress::Buried;
            let (lowest, _) = held.blocks.iter().find(|(_, outgoing)| !buried(outgoing))?;
            let mut end = lowest.saturating_add(WINDOW);
            if held.received.ranges().len() >= RANGES_MAX - 1 {
                end = end.min(held.received.end());
            }
            let mut window = held.blocks.range(*lowest..end.max(*lowest));
            let (&sequence, outgoing) =
                window.find(|(_, outgoing)| outgoing.progress == Progress::Waiting)?;
            Some((BlockKey { epoch, sequence }, outgoing.bytes))
        })
    }

    fn outgoing(&mut self, key: BlockKey) -> Option<&mut Outgoing> {
        self.epochs.get_mut(&key.epoch)?.blocks.get_mut(&key.sequence)
    }

    fn set_progress(&mut self, key: BlockKey, progress: Progress) {
        let Some(outgoing) = self.outgoing(key) else {
            return;
        };
        let was_in_flight = matches!(outgoing.progress, Progress::InFlight(..));
        let bytes = outgoing.bytes;
        outgoing.progress = progress;
        if was_in_flight {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        }
    }
}

/// The lowest ranges of ascending numbers, as many as a hello lists.
fn ranges(numbers: impl Iterator<Item = u64>) -> Ranges {
    let mut ranges = Ranges::new();
    for n in numbers {
        match ranges.last_mut() {
            Some(last) if last.end() == n => {
                *last = Range::new(last.first(), n + 1).expect("it only grew");
            }
            _ => match Range::one(n) {
                Some(one) if ranges.push(one).is_ok() => {}
                _ => break,
            },
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use trunnion_common::ack::AckLevel;
    use trunnion_common::time::EventTime;

    const EPOCH: Epoch = Epoch(7);
    const WAVEFORMS: Epoch = Epoch(6);
    const CURRENT: [(Epoch, u64); 2] = [(EPOCH, 0), (WAVEFORMS, 0)];
    const KIB_64: usize = 65_536;
    const T0: Duration = Duration::ZERO;

    fn key(sequence: u64) -> BlockKey {
        BlockKey {
            epoch: EPOCH,
            sequence,
        }
    }

    fn ack(epoch: Epoch, received: &SequenceSet, credit_bytes: u32) -> Ack {
        Ack {
            epoch,
            received: received.clone(),
            credit_bytes,
            utc: EventTime(0),
            journal: JournalId(3),
            level: AckLevel::Local,
        }
    }

    fn upto(end: u64) -> SequenceSet {
        let mut set = SequenceSet::new();
        set.advance(end);
        set
    }

    /// With this many blocks of 64 KiB stored, greeted and answered with nothing received.
    fn flowing(blocks: u64, credit: u32) -> Publisher {
        let mut publisher = Publisher::new(CURRENT, &[]);
        for sequence in 0..blocks {
            publisher.handle_stored(key(sequence), KIB_64);
        }
        publisher.handle_subscribed(T0);
        assert!(
            publisher.poll_block(T0).is_none(),
            "nothing before the collector has spoken"
        );
        assert!(matches!(publisher.poll_hello(T0), Some(Greeting::Hello(_))));
        assert!(publisher.handle_ack(&ack(EPOCH, &upto(0), credit)).is_empty());
        publisher
    }

    fn former(epoch: u64, class: Class, next: u64) -> FormerEpoch {
        FormerEpoch {
            epoch: Epoch(epoch),
            class,
            next,
            freed_by: Some(JournalId(3)),
        }
    }

    fn drain(publisher: &mut Publisher, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| publisher.poll_block(now))
            .map(|key| key.sequence)
            .collect()
    }

    #[test]
    fn a_hello_lists_every_epoch_and_what_is_held_of_it() {
        let mut publisher = Publisher::new(CURRENT, &[former(1, Class::Essential, 20)]);
        for sequence in [4, 5, 9] {
            let epoch = Epoch(1);
            publisher.handle_stored(BlockKey { epoch, sequence }, 10);
        }
        assert_eq!(publisher.poll_hello(T0), None);
        publisher.handle_subscribed(T0);
        let Some(Greeting::Hello(hello)) = publisher.poll_hello(T0) else {
            panic!("a hello expected");
        };
        assert_eq!(hello.epochs.len(), 3);
        let former = &hello.epochs[0];
        assert_eq!(
            (former.epoch, former.next, former.freed_by),
            (Epoch(1), 20, Some(JournalId(3)))
        );
        assert_eq!(
            former.held,
            [Range::new(4, 6).unwrap(), Range::new(9, 10).unwrap()]
        );
        assert_eq!((hello.epochs[1].epoch, hello.epochs[1].next), (EPOCH, 0));
        assert_eq!((hello.epochs[2].epoch, hello.epochs[2].next), (WAVEFORMS, 0));
    }

    #[test]
    fn an_unanswered_hello_is_repeated_and_then_given_up() {
        let mut publisher = Publisher::new(CURRENT, &[]);
        publisher.handle_subscribed(T0);
        let mut now = T0;
        for _ in 0..HELLOS_MAX {
            assert!(matches!(publisher.poll_hello(now), Some(Greeting::Hello(_))));
            assert_eq!(publisher.poll_hello(now), None);
            now = publisher.next_timeout().unwrap();
        }
        assert_eq!(publisher.poll_hello(now), Some(Greeting::GiveUp));
        assert_eq!(publisher.next_timeout(), None);
    }

    #[test]
    fn credit_bounds_what_is_under_way_and_one_block_may_always_go() {
        assert_eq!(drain(&mut flowing(9, 3 * KIB_64 as u32), T0), [0, 1, 2]);
        assert_eq!(drain(&mut flowing(9, 1), T0), [0]);
    }

    #[test]
    fn an_acknowledgement_frees_blocks_and_opens_the_window() {
        let mut publisher = flowing(9, 2 * KIB_64 as u32);
        assert_eq!(drain(&mut publisher, T0), [0, 1]);
        let credit = 2 * KIB_64 as u32;
        assert_eq!(publisher.handle_ack(&ack(EPOCH, &upto(1), credit)), [key(0)]);
        assert_eq!(drain(&mut publisher, T0), [2]);
        assert_eq!(publisher.backlog(), (8, 8 * KIB_64 as u64));
    }

    #[test]
    fn what_is_not_acknowledged_in_time_is_sent_again_lowest_first() {
        let mut publisher = flowing(4, u32::MAX);
        assert_eq!(drain(&mut publisher, T0), [0, 1, 2, 3]);
        let mut received = upto(1);
        let _ = received.insert(2);
        publisher.handle_ack(&ack(EPOCH, &received, u32::MAX));
        assert!(drain(&mut publisher, T0 + ACK_TIMEOUT / 2).is_empty());
        assert_eq!(publisher.next_timeout(), Some(ACK_TIMEOUT));
        assert_eq!(drain(&mut publisher, ACK_TIMEOUT), [1, 3]);
    }

    #[test]
    fn a_new_connection_sends_what_the_collector_lacks() {
        let mut publisher = flowing(4, u32::MAX);
        assert_eq!(drain(&mut publisher, T0).len(), 4);
        publisher.handle_disconnected();
        assert!(
            publisher.handle_ack(&ack(EPOCH, &upto(4), 1)).is_empty(),
            "of the former connection"
        );
        publisher.handle_subscribed(T0);
        assert!(publisher.poll_hello(T0).is_some());
        publisher.handle_ack(&ack(EPOCH, &upto(2), u32::MAX));
        assert_eq!(drain(&mut publisher, T0), [2, 3]);
    }

    #[test]
    fn essentials_go_first_and_in_each_chain_the_oldest_start() {
        // The numbers of epochs are random and say nothing.
        let left = [
            former(9, Class::Essential, 1),
            former(2, Class::Essential, 1),
            former(8, Class::Waveform, 1),
            former(1, Class::Waveform, 1),
        ];
        let mut publisher = Publisher::new(CURRENT, &left);
        let epochs = [WAVEFORMS, Epoch(1), Epoch(8), EPOCH, Epoch(2), Epoch(9)];
        for epoch in epochs {
            publisher.handle_stored(BlockKey { epoch, sequence: 0 }, 10);
        }
        publisher.handle_subscribed(T0);
        assert!(publisher.poll_hello(T0).is_some());
        publisher.handle_ack(&ack(EPOCH, &upto(0), u32::MAX));
        let sent: Vec<Epoch> = std::iter::from_fn(|| publisher.poll_block(T0))
            .map(|key| key.epoch)
            .collect();
        assert_eq!(sent, [Epoch(9), Epoch(2), EPOCH, Epoch(8), Epoch(1), WAVEFORMS]);
        for epoch in epochs {
            publisher.handle_ack(&ack(epoch, &upto(1), u32::MAX));
        }
        let listed: Vec<Epoch> = publisher.hello().epochs.iter().map(|held| held.epoch).collect();
        assert_eq!(
            listed,
            [EPOCH, WAVEFORMS],
            "former ones leave when they are empty"
        );
    }

    #[test]
    fn what_a_former_start_buried_is_held_until_its_tombstone_is_acknowledged() {
        let mut publisher = Publisher::new(CURRENT, &[former(1, Class::Waveform, 3)]);
        for sequence in 0..3 {
            publisher.handle_buried(BlockKey {
                epoch: Epoch(1),
                sequence,
            });
        }
        assert_eq!(publisher.hello().epochs[1].held[..], [Range::new(0, 3).unwrap()]);
        publisher.handle_subscribed(T0);
        assert!(publisher.poll_hello(T0).is_some());
        publisher.handle_ack(&ack(EPOCH, &upto(0), u32::MAX));
        assert_eq!(publisher.poll_block(T0), None);
        assert_eq!(
            publisher
                .handle_settled(Epoch(1), Range::new(0, 3).unwrap())
                .len(),
            3
        );
        assert_eq!(publisher.hello().epochs.len(), 2);
    }

    #[test]
    fn a_refused_block_is_found_by_its_checksum_and_not_sent_again() {
        let mut publisher = flowing(3, u32::MAX);
        assert_eq!(drain(&mut publisher, T0), [0, 1, 2]);
        publisher.handle_sent(key(1), 0xABCD, T0);
        assert_eq!(publisher.handle_reject(0x1111), None);
        assert_eq!(publisher.handle_reject(0xABCD), Some(key(1)));
        assert_eq!(drain(&mut publisher, ACK_TIMEOUT), [0, 2]);
        let held = &publisher.hello().epochs[0].held;
        assert_eq!(
            held[..],
            [Range::new(0, 3).unwrap()],
            "held until its tombstone is acknowledged"
        );
    }

    proptest! {
        /// A connection that loses blocks and breaks, and a collector with bounded sets: everything
        /// arrives, nothing is freed that has not, and no set ever overflows.
        #[test]
        fn everything_arrives_and_nothing_is_given_up(
            blocks in 1u64..150,
            credit in 1u32..20,
            fates in prop::collection::vec(0u8..10, 400),
        ) {
            let mut publisher = flowing(blocks, credit * KIB_64 as u32);
            let (mut received, mut arrived, mut freed) = (SequenceSet::new(), BTreeSet::new(), BTreeSet::new());
            let mut now = T0;
            for fate in fates.into_iter().chain(std::iter::repeat_n(9, 400)) {
                let before = arrived.len();
                while let Some(key) = publisher.poll_block(now) {
                    // Every other block of an unlucky round is lost on the way.
                    if fate > 3 || key.sequence % 2 == u64::from(fate % 2) {
                        let overflowed = matches!(received.insert(key.sequence), trunnion_common::sequence::Insertion::Overflow { .. });
                        prop_assert!(!overflowed);
                        arrived.insert(key.sequence);
                    }
                }
                if fate == 3 {
                    publisher.handle_disconnected();
                    publisher.handle_subscribed(now);
                    prop_assert!(publisher.poll_hello(now).is_some());
                }
                if arrived.len() == before {
                    now += ACK_TIMEOUT;
                }
                for key in publisher.handle_ack(&ack(EPOCH, &received, credit * KIB_64 as u32)) {
                    prop_assert!(arrived.contains(&key.sequence));
                    freed.insert(key.sequence);
                }
            }
            prop_assert_eq!(freed.len() as u64, blocks);
            prop_assert_eq!(publisher.backlog(), (0, 0));
            prop_assert_eq!(publisher.in_flight_bytes, 0);
        }
    }
}
