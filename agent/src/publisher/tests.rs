//! The publisher between a spool and a collector that both do as they are told.

use super::*;
use crate::config::DRAIN;
use proptest::prelude::*;
use std::collections::BTreeSet;
use trunnion_common::ack::AckLevel;
use trunnion_common::id::JournalId;
use trunnion_common::sequence::SequenceSet;
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
        journal: JournalId(3).into(),
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
    let mut publisher = Publisher::new(DRAIN, CURRENT, &[]);
    for sequence in 0..blocks {
        publisher.handle_stored(key(sequence), KIB_64, T0, T0);
    }
    publisher.handle_subscribed(T0);
    assert!(
        publisher.poll_block(T0).is_none(),
        "nothing before the collector has spoken"
    );
    assert!(matches!(publisher.poll_hello(T0), Some(Greeting::Hello(_))));
    assert!(publisher.handle_ack(&ack(EPOCH, &upto(0), credit), T0).is_empty());
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
    let mut publisher = Publisher::new(DRAIN, CURRENT, &[former(1, Class::Essential, 20)]);
    for sequence in [4, 5, 9] {
        let epoch = Epoch(1);
        publisher.handle_stored(BlockKey { epoch, sequence }, 10, T0, T0);
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
fn what_a_hello_had_no_room_for_is_told_once_the_rest_is_through() {
    let mut publisher = Publisher::new(DRAIN, CURRENT, &[former(1, Class::Essential, 100)]);
    let epoch = Epoch(1);
    for number in 0..20 {
        let sequence = 2 * number;
        publisher.handle_stored(BlockKey { epoch, sequence }, 10, T0, T0);
    }
    publisher.handle_subscribed(T0);
    assert!(publisher.poll_hello(T0).is_some());
    let mut received = SequenceSet::new();
    for sequence in 0..40 {
        publisher.handle_ack(&ack(epoch, &received, 1_000), T0);
        let greeting = publisher.poll_hello(T0);
        if sequence == 31 {
            let Some(Greeting::Hello(hello)) = greeting else {
                panic!("a hello expected");
            };
            let first = Range::new(32, 33).unwrap();
            assert_eq!((hello.epochs[0].held.len(), hello.epochs[0].held[0]), (4, first));
        } else {
            assert_eq!(greeting, None, "{sequence}");
        }
        assert!(publisher.is_flowing() || sequence == 31);
        let _ = received.insert(sequence);
    }
}

#[test]
fn an_unanswered_hello_is_repeated_and_then_given_up() {
    let mut publisher = Publisher::new(DRAIN, CURRENT, &[]);
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
    assert_eq!(publisher.handle_ack(&ack(EPOCH, &upto(1), credit), T0), [key(0)]);
    assert_eq!(drain(&mut publisher, T0), [2]);
    assert_eq!(publisher.backlog(), (8, 8 * KIB_64 as u64));
}

#[test]
fn what_is_not_acknowledged_in_time_is_sent_again_lowest_first() {
    let mut publisher = flowing(4, u32::MAX);
    assert_eq!(drain(&mut publisher, T0), [0, 1, 2, 3]);
    let mut received = upto(1);
    let _ = received.insert(2);
    publisher.handle_ack(&ack(EPOCH, &received, u32::MAX), T0);
    assert!(drain(&mut publisher, T0 + ACK_TIMEOUT / 2).is_empty());
    assert_eq!(publisher.next_timeout(), Some(ACK_TIMEOUT));
    assert_eq!(drain(&mut publisher, ACK_TIMEOUT), [1, 3]);
    assert_eq!((publisher.take_overdue(), publisher.take_overdue()), (2, 0));
}

#[test]
fn a_new_connection_sends_what_the_collector_lacks() {
    let mut publisher = flowing(4, u32::MAX);
    assert_eq!(drain(&mut publisher, T0).len(), 4);
    publisher.handle_disconnected();
    assert!(
        publisher.handle_ack(&ack(EPOCH, &upto(4), 1), T0).is_empty(),
        "of the former connection"
    );
    publisher.handle_subscribed(T0);
    assert!(publisher.poll_hello(T0).is_some());
    publisher.handle_ack(&ack(EPOCH, &upto(2), u32::MAX), T0);
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
    let mut publisher = Publisher::new(DRAIN, CURRENT, &left);
    let epochs = [WAVEFORMS, Epoch(1), Epoch(8), EPOCH, Epoch(2), Epoch(9)];
    for epoch in epochs {
        publisher.handle_stored(BlockKey { epoch, sequence: 0 }, 10, T0, T0);
    }
    publisher.handle_subscribed(T0);
    assert!(publisher.poll_hello(T0).is_some());
    publisher.handle_ack(&ack(EPOCH, &upto(0), u32::MAX), T0);
    let sent: Vec<Epoch> = std::iter::from_fn(|| publisher.poll_block(T0))
        .map(|key| key.epoch)
        .collect();
    assert_eq!(sent, [Epoch(9), Epoch(2), EPOCH, Epoch(8), Epoch(1), WAVEFORMS]);
    for epoch in epochs {
        publisher.handle_ack(&ack(epoch, &upto(1), u32::MAX), T0);
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
    let mut publisher = Publisher::new(DRAIN, CURRENT, &[former(1, Class::Waveform, 3)]);
    for sequence in 0..3 {
        publisher.handle_buried(BlockKey {
            epoch: Epoch(1),
            sequence,
        });
    }
    assert_eq!(publisher.hello().epochs[1].held[..], [Range::new(0, 3).unwrap()]);
    publisher.handle_subscribed(T0);
    assert!(publisher.poll_hello(T0).is_some());
    publisher.handle_ack(&ack(EPOCH, &upto(0), u32::MAX), T0);
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
            for key in publisher.handle_ack(&ack(EPOCH, &received, credit * KIB_64 as u32), now) {
                prop_assert!(arrived.contains(&key.sequence));
                freed.insert(key.sequence);
            }
        }
        prop_assert_eq!(freed.len() as u64, blocks);
        prop_assert_eq!(publisher.backlog(), (0, 0));
        prop_assert_eq!(publisher.in_flight_bytes, 0);
    }
}

const OLD: Duration = Duration::from_secs(3_600);

/// Both chains with this many blocks of 64 KiB each that are an hour old, answered with nothing received.
fn with_history(drain: Drain, essential: u64, waveform: u64) -> Publisher {
    let mut publisher = Publisher::new(drain, CURRENT, &[]);
    for (epoch, blocks) in [(EPOCH, essential), (WAVEFORMS, waveform)] {
        for sequence in 0..blocks {
            publisher.handle_stored(BlockKey { epoch, sequence }, KIB_64, OLD, T0);
        }
    }
    publisher.handle_subscribed(T0);
    assert!(publisher.poll_hello(T0).is_some());
    for epoch in [EPOCH, WAVEFORMS] {
        publisher.handle_ack(&ack(epoch, &upto(0), u32::MAX), T0);
    }
    publisher
}

/// A collector that acknowledges everything at once.
#[derive(Default)]
struct Prompt(BTreeMap<Epoch, SequenceSet>);

impl Prompt {
    fn take(&mut self, publisher: &mut Publisher, key: BlockKey, now: Duration) {
        let set = self.0.entry(key.epoch).or_default();
        assert!(!matches!(
            set.insert(key.sequence),
            trunnion_common::sequence::Insertion::Overflow { .. }
        ));
        let ack = ack(key.epoch, set, u32::MAX);
        publisher.handle_ack(&ack, now);
    }
}

#[test]
fn history_and_live_blocks_share_the_connection_as_configured() {
    let mut publisher = with_history(DRAIN, 0, 1_000);
    let mut collector = Prompt::default();
    let mut live = 0;
    for sequence in 1_000..1_100 {
        // Always one live block to send, beside the backlog.
        publisher.handle_stored(
            BlockKey {
                epoch: WAVEFORMS,
                sequence,
            },
            KIB_64,
            T0,
            T0,
        );
    }
    for _ in 0..100 {
        let key = publisher.poll_block(T0).unwrap();
        live += u64::from(publisher.lane(key) == Some(Lane::Live));
        collector.take(&mut publisher, key, T0);
    }
    assert!((78..=82).contains(&live), "{live} of 100");
    assert_eq!(
        collector.0[&WAVEFORMS].ranges().len(),
        1,
        "history from the front, live blocks from where they begin"
    );
    while let Some(key) = publisher.poll_block(T0) {
        collector.take(&mut publisher, key, T0);
    }
    assert_eq!(publisher.backlog(), (0, 0));
}

#[test]
fn history_goes_newest_first_if_asked_for_but_its_essentials_never() {
    let drain = Drain {
        order: Order::NewestFirst,
        ..DRAIN
    };
    let mut publisher = with_history(drain, 3, 5);
    let mut collector = Prompt::default();
    let mut sent = Vec::new();
    while let Some(key) = publisher.poll_block(T0) {
        sent.push((key.epoch, key.sequence));
        collector.take(&mut publisher, key, T0);
    }
    let essential = [0, 1, 2].map(|n| (EPOCH, n));
    let waveform = [4, 3, 2, 1, 0].map(|n| (WAVEFORMS, n));
    assert_eq!(sent, [&essential[..], &waveform].concat());
}

#[test]
fn a_live_block_that_waits_too_long_becomes_history_and_a_published_one_stays_what_it_was() {
    let mut publisher = flowing(2, KIB_64 as u32);
    let first = publisher.poll_block(T0).unwrap();
    assert_eq!(publisher.lane(first), Some(Lane::Live));
    assert!(!publisher.has_essential_history(T0));
    let later = T0 + DRAIN.live_age;
    publisher.handle_disconnected();
    publisher.handle_subscribed(later);
    assert!(publisher.poll_hello(later).is_some());
    publisher.handle_ack(&ack(EPOCH, &upto(0), u32::MAX), later);
    let lanes: Vec<_> = std::iter::from_fn(|| publisher.poll_block(later))
        .map(|key| key.sequence)
        .collect();
    assert_eq!(lanes, [0, 1]);
    assert_eq!(publisher.lane(key(0)), Some(Lane::Live));
    assert_eq!(publisher.lane(key(1)), Some(Lane::Backfill));
    assert!(publisher.has_essential_history(later));
    publisher.handle_ack(&ack(EPOCH, &upto(2), u32::MAX), later);
    assert!(!publisher.has_essential_history(later));
}

#[test]
fn a_limit_on_history_says_when_to_come_back_and_leaves_live_blocks_alone() {
    let drain = Drain {
        backfill_bytes_s: Some(KIB_64 as u64),
        ..DRAIN
    };
    let mut publisher = with_history(drain, 0, 10);
    let mut collector = Prompt::default();
    let (mut now, mut sent) = (T0, Vec::new());
    while sent.len() < 10 {
        match publisher.poll_block(now) {
            Some(key) => {
                sent.push(now);
                collector.take(&mut publisher, key, now);
            }
            None => {
                let next = publisher.next_timeout().unwrap();
                assert!(next > now, "a time to come");
                now = next;
            }
        }
    }
    assert!(sent[9] >= Duration::from_secs(8), "{sent:?}");
    publisher.handle_stored(
        BlockKey {
            epoch: WAVEFORMS,
            sequence: 10,
        },
        KIB_64,
        T0,
        now,
    );
    assert!(publisher.poll_block(now).is_some());
}

#[test]
fn live_blocks_that_wait_for_holes_have_them_filled_in_spite_of_the_limit() {
    let drain = Drain {
        backfill_bytes_s: Some(1),
        ..DRAIN
    };
    // As many holes as the collector's set has room for, the last the smallest.
    let mut publisher = Publisher::new(drain, CURRENT, &[]);
    let mut received = SequenceSet::new();
    for sequence in 0..200 {
        let key = BlockKey {
            epoch: WAVEFORMS,
            sequence,
        };
        if sequence % 10 == 9 && sequence < 160 {
            assert_eq!(
                received.insert(sequence),
                trunnion_common::sequence::Insertion::New
            );
        } else {
            let age = if sequence < 162 { OLD } else { T0 };
            publisher.handle_stored(key, KIB_64, age, T0);
        }
    }
    assert_eq!(received.ranges().len(), RANGES_MAX);
    publisher.handle_subscribed(T0);
    assert!(publisher.poll_hello(T0).is_some());
    publisher.handle_ack(&ack(WAVEFORMS, &received, u32::MAX), T0);
    let mut collector = Prompt(BTreeMap::from([(WAVEFORMS, received)]));
    let mut sent = Vec::new();
    while let Some(key) = publisher.poll_block(T0) {
        sent.push(key.sequence);
        collector.take(&mut publisher, key, T0);
    }
    let filled = sent.iter().take_while(|sequence| **sequence < 162).count();
    assert!(filled <= 10, "one hole is enough: {sent:?}");
    assert_eq!(sent.iter().filter(|sequence| **sequence >= 162).count(), 38);
}

#[test]
fn a_connection_without_acknowledgements_is_given_up_and_a_quiet_one_is_not() {
    let mut publisher = flowing(1, u32::MAX);
    assert_eq!(drain(&mut publisher, T0), [0]);
    publisher.handle_sent(key(0), 1, T0);
    let mut now = T0;
    while now < SILENCE_MAX {
        assert_eq!(publisher.poll_hello(now), None);
        now = publisher.next_timeout().unwrap();
        for sequence in drain(&mut publisher, now) {
            publisher.handle_sent(key(sequence), 1, now);
        }
    }
    assert_eq!(publisher.poll_hello(now), Some(Greeting::GiveUp));
    assert_eq!(publisher.next_timeout(), None);

    let mut quiet = flowing(1, u32::MAX);
    assert_eq!(drain(&mut quiet, T0), [0]);
    quiet.handle_sent(key(0), 1, T0);
    quiet.handle_ack(&ack(EPOCH, &upto(1), u32::MAX), T0);
    assert_eq!(quiet.poll_hello(10 * SILENCE_MAX), None);
    assert_eq!(quiet.next_timeout(), None);
}

#[test]
fn holes_of_which_nothing_is_left_to_send_do_not_stop_what_is_behind_them() {
    // Every other block is lost, and the tombstones stand at the end.
    let mut publisher = Publisher::new(DRAIN, CURRENT, &[]);
    for sequence in 0..100 {
        publisher.handle_stored(key(sequence), 10, OLD, T0);
        if sequence % 2 == 0 {
            publisher.handle_lost(key(sequence));
        }
    }
    publisher.handle_subscribed(T0);
    assert!(publisher.poll_hello(T0).is_some());
    publisher.handle_ack(&ack(EPOCH, &upto(0), u32::MAX), T0);
    let mut received = SequenceSet::new();
    let mut arrived = 0;
    while let Some(sent) = publisher.poll_block(T0) {
        if let trunnion_common::sequence::Insertion::Overflow { closed } = received.insert(sent.sequence) {
            for given_up in closed.first()..closed.end() {
                assert!(publisher.is_buried(key(given_up)), "{given_up} could be sent");
            }
        }
        arrived += 1;
        publisher.handle_ack(&ack(EPOCH, &received, u32::MAX), T0);
    }
    assert_eq!(arrived, 50);
}

/// What the way to the collector does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Blocks are made, so many of each class.
    Make(u8),
    /// So many messages arrive, the one at this place of those under way first.
    Arrive(u8, u8),
    /// One is lost.
    Lose(u8),
    /// The collector acknowledges, and the answer arrives.
    Ack,
    /// The connection breaks; what is under way may still arrive.
    Break,
    /// Time passes.
    Wait(u8),
    /// The disk loses a block.
    Bury(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1u8..40).prop_map(Step::Make),
        8 => (any::<u8>(), 1u8..30).prop_map(|(at, count)| Step::Arrive(at, count)),
        2 => any::<u8>().prop_map(Step::Lose),
        8 => Just(Step::Ack),
        1 => Just(Step::Break),
        2 => (1u8..40).prop_map(Step::Wait),
        1 => any::<u8>().prop_map(Step::Bury),
    ];
    prop::collection::vec(step, 0..300)
}

/// A publisher, what is under way, and a collector with sets of bounded size.
struct Way {
    publisher: Publisher,
    now: Duration,
    made: BTreeMap<BlockKey, Duration>,
    under_way: Vec<BlockKey>,
    received: BTreeMap<Epoch, SequenceSet>,
    arrived: BTreeSet<BlockKey>,
    freed: BTreeSet<BlockKey>,
    buried: BTreeSet<BlockKey>,
    lanes: BTreeMap<BlockKey, Lane>,
}

impl Way {
    fn new(drain: Drain, left: u64) -> Self {
        let former = [
            former(1, Class::Waveform, left),
            former(2, Class::Essential, left),
        ];
        let mut way = Self {
            publisher: Publisher::new(drain, CURRENT, &former),
            now: OLD,
            made: BTreeMap::new(),
            under_way: Vec::new(),
            received: BTreeMap::new(),
            arrived: BTreeSet::new(),
            freed: BTreeSet::new(),
            buried: BTreeSet::new(),
            lanes: BTreeMap::new(),
        };
        for sequence in 0..left {
            for epoch in [Epoch(1), Epoch(2)] {
                way.make(BlockKey { epoch, sequence }, OLD);
            }
        }
        way.greet();
        way
    }

    fn make(&mut self, key: BlockKey, age: Duration) {
        self.publisher.handle_stored(key, KIB_64, age, self.now);
        self.made.insert(key, self.now - age);
    }

    fn greet(&mut self) {
        self.publisher.handle_subscribed(self.now);
        assert!(self.publisher.poll_hello(self.now).is_some());
        self.ack();
    }

    fn ack(&mut self) {
        for epoch in [EPOCH, WAVEFORMS, Epoch(1), Epoch(2)] {
            let set = self.received.entry(epoch).or_default();
            for key in self
                .publisher
                .handle_ack(&ack(epoch, set, 40 * KIB_64 as u32), self.now)
            {
                assert!(
                    self.arrived.contains(&key) || self.buried.contains(&key),
                    "{key:?} is freed and did not arrive"
                );
                self.freed.insert(key);
            }
        }
    }

    fn send(&mut self) {
        while let Some(key) = self.publisher.poll_block(self.now) {
            let lane = self.publisher.lane(key).unwrap();
            self.publisher.handle_sent(key, 1, self.now);
            let age = self.now - self.made[&key];
            let first = *self.lanes.entry(key).or_insert_with(|| {
                let (live_age, step) = (DRAIN.live_age, DRAIN.live_age / 1_000);
                match lane {
                    Lane::Live => assert!(age < live_age, "{age:?}"),
                    Lane::Backfill => assert!(age + step >= live_age, "{age:?}"),
                }
                lane
            });
            assert_eq!(lane, first, "a lane is fixed when a block is first handed out");
            self.under_way.push(key);
        }
    }

    fn arrive(&mut self, at: usize) {
        let key = self.under_way.remove(at);
        let set = self.received.entry(key.epoch).or_default();
        let outcome = set.insert(key.sequence);
        if let trunnion_common::sequence::Insertion::Overflow { closed } = outcome {
            for sequence in closed.first()..closed.end() {
                let given_up = BlockKey {
                    epoch: key.epoch,
                    sequence,
                };
                assert!(
                    self.buried.contains(&given_up),
                    "{given_up:?} was given up and could be sent"
                );
            }
        }
        self.arrived.insert(key);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Make(count) => {
                for epoch in [EPOCH, WAVEFORMS] {
                    let next = self.made.keys().filter(|key| key.epoch == epoch).count() as u64;
                    for sequence in next..next + u64::from(count) {
                        self.make(BlockKey { epoch, sequence }, T0);
                    }
                }
            }
            Step::Arrive(at, count) => {
                for _ in 0..count {
                    if !self.under_way.is_empty() {
                        self.arrive(usize::from(at) % self.under_way.len());
                    }
                }
            }
            Step::Lose(at) => {
                if !self.under_way.is_empty() {
                    self.under_way.remove(usize::from(at) % self.under_way.len());
                }
            }
            Step::Ack => self.ack(),
            Step::Break => {
                self.publisher.handle_disconnected();
                self.greet();
            }
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(seconds.into());
                if let Some(Greeting::GiveUp) = self.publisher.poll_hello(self.now) {
                    self.greet();
                }
            }
            Step::Bury(at) => {
                let waits = |key: &&BlockKey| {
                    !self.freed.contains(*key) && !self.buried.contains(*key) && !self.arrived.contains(*key)
                };
                let count = self.made.keys().filter(waits).count();
                if let Some(&key) = self.made.keys().filter(waits).nth(usize::from(at) % count.max(1)) {
                    self.publisher.handle_lost(key);
                    self.buried.insert(key);
                }
            }
        }
        self.send();
    }
}

proptest! {
    /// Two lanes, two chains and a former start of each; messages that overtake each other, arrive
    /// after their connection has gone, come twice or never; blocks that the disk loses: everything
    /// else arrives, nothing is freed that has not, lanes stay what they were, and no set of the
    /// collector gives up a hole of which a block could still be sent.
    #[test]
    fn whatever_the_way_does_everything_arrives_and_no_set_overflows(
        steps in steps(),
        left in 0u64..100,
        newest_first: bool,
        limited: bool,
    ) {
        let drain = Drain {
            order: if newest_first { Order::NewestFirst } else { Order::OldestFirst },
            backfill_bytes_s: limited.then_some(500_000),
            ..DRAIN
        };
        let mut way = Way::new(drain, left);
        for step in steps {
            way.step(step);
            // Some may still arrive of whom the publisher knows that they need not.
            prop_assert!(way.under_way.iter().collect::<BTreeSet<_>>().len() <= 4 * (WINDOW as usize + 1) + way.arrived.len());
        }
        // From here on the way is good.
        let mut rounds = 0;
        while way.publisher.backlog().0 > way.buried.difference(&way.freed).count() as u64 {
            while !way.under_way.is_empty() {
                way.arrive(0);
            }
            way.step(Step::Ack);
            if way.under_way.is_empty() {
                way.step(Step::Wait(1));
            }
            rounds += 1;
            prop_assert!(rounds < 100_000, "it stalls with {:?}", way.publisher.backlog());
        }
        for key in way.made.keys() {
            prop_assert!(way.freed.contains(key) || way.buried.contains(key), "{key:?}");
        }
        // With the tombstones acknowledged nothing is left.
        for key in way.buried.difference(&way.freed) {
            way.publisher.handle_settled(key.epoch, Range::one(key.sequence).unwrap());
        }
        prop_assert_eq!(way.publisher.backlog(), (0, 0));
        prop_assert_eq!(way.publisher.in_flight_bytes, 0);
        prop_assert_eq!(way.publisher.in_flight, [0, 0]);
    }
}
