//! A node and a scripted agent on a line that loses and repeats frames, under virtual time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::statistics::Statistics;
use trunnion_common::frame::{
    Capture, ChannelDescriptor, ChannelPlan, Class, Describe, EventKind, FRAME_MAX, FeatureReport, Header,
    Identify, Payload, Poll, RawFrame, ResetCause, Settings, SettingsOutcome, Status, TimeReply, TimeRequest,
    Trigger, encode,
};
use trunnion_common::id::{BootId, ChannelId, LineAddress, MasterId, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::sample::{LossCause, NoData};
use trunnion_common::shared_line::{END_OF_TURN, SLOTS, slot_micros};
use trunnion_common::time::NodeTicks;
use trunnion_common::version;
use trunnion_firmware::channel::{FORMING_SAMPLES, Forming, WAVEFORM_SAMPLES};
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::{Identity, Memory, Node};
use trunnion_firmware::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use trunnion_firmware::sensor::{Batch, Missed, Sensor};
use trunnion_firmware::settings::LineSpeed;

const VIBRATION: ChannelId = match ChannelId::new(0) {
    Some(channel) => channel,
    None => panic!("in range"),
};
const TEMPERATURE: ChannelId = match ChannelId::new(1) {
    Some(channel) => channel,
    None => panic!("in range"),
};
const BOOT: BootId = BootId::new(3, 77);
const CREDIT: u32 = 64 * 1024;

fn node_id() -> NodeId {
    NodeId::new(0xAB).unwrap()
}

fn table() -> Describe {
    let channel = |unit, scale, rate_mhz| ChannelDescriptor {
        unit,
        scale,
        rate_mhz,
        range: 16.0,
        band_low_hz: 0.0,
        band_high_hz: 5_000.0,
    };
    let channels = [
        channel(Unit::StandardGravity, 16.0 / 32_768.0, 12_000_000),
        channel(Unit::DegreeCelsius, 1.0, 1_000),
    ];
    Describe {
        revision: 1,
        channels: heapless::Vec::from_slice(&channels).unwrap(),
    }
}

/// Builds a node in leaked memory: a test process is short.
fn node(essential: usize, waveform: usize) -> Node<'static> {
    node_on(Wiring::Shared, essential, waveform)
}

fn node_on(wiring: Wiring, essential: usize, waveform: usize) -> Node<'static> {
    let identity = Identity {
        node: node_id(),
        boot: BOOT,
        address: LineAddress(1),
        wiring,
        reset: ResetCause::PowerOn,
    };
    let forming: Vec<Forming> = vec![[0; FORMING_SAMPLES]; 2];
    let memory = Memory {
        essential: vec![0; essential].leak(),
        waveform: vec![0; waveform].leak(),
        forming: forming.leak(),
        line: vec![0; LINE_FRAME_MAX].leak(),
    };
    Node::new(identity, &table(), memory).unwrap()
}

/// The value that every sample has, known to both ends.
fn value(channel: ChannelId, index: u64) -> i16 {
    (index
        .wrapping_mul(0x9E37_79B9)
        .wrapping_add(u64::from(channel.get()))
        >> 7) as i16
}

fn header_to(address: LineAddress, boot: BootId) -> Header {
    Header {
        version: version::FRAME,
        address,
        node: node_id(),
        boot,
        class: Class::Essential,
        sequence: 0,
        ticks: NodeTicks(0),
    }
}

fn line_bytes(header: &Header, payload: &Payload<'_>) -> Vec<u8> {
    let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
    let frame = encode(header, payload, &mut frame).unwrap();
    stuff(frame, &mut line).unwrap().to_vec()
}

fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut buffer = [0; LINE_FRAME_MAX];
    let mut decoder = Decoder::new(&mut buffer);
    let (mut found, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let fed = decoder.feed(rest);
        rest = &rest[fed.taken..];
        found.extend(
            fed.frame
                .map(|frame| frame.expect("the node sends whole frames").bytes().to_vec()),
        );
    }
    found
}

/// What an agent must do: remember, tell holes from losses by the status, acknowledge what has been
/// flushed.
#[derive(Default)]
struct Agent {
    received: [BTreeSet<u64>; 2],
    gone: [BTreeSet<u64>; 2],
    samples: BTreeMap<(u16, u64), i16>,
    order: Vec<(Class, u64, String)>,
    replies: Vec<TimeReply>,
    outcomes: Vec<SettingsOutcome>,
    reports: Vec<FeatureReport>,
    events: Vec<(EventKind, u32)>,
    tables: usize,
    last_status: Option<Status>,
    flushing: VecDeque<(u64, [u64; 2])>,
    flushed: [u64; 2],
    /// From a frame's arrival to its acknowledgement.
    flush_micros: u64,
}

impl Agent {
    fn handle(&mut self, now: u64, bytes: &[u8]) {
        let frame = RawFrame::parse(bytes).unwrap();
        let header = *frame.header();
        assert_eq!((header.node, header.boot), (node_id(), BOOT));
        let is_new = self.received[header.class.index()].insert(header.sequence);
        match frame.payload().unwrap() {
            Payload::Waveform(waveform) => {
                for (index, sample) in (waveform.first_sample..).zip(waveform.samples().unwrap()) {
                    self.take(waveform.channel, index, sample);
                }
            }
            Payload::Scalar(scalar) => {
                for (index, reading) in (scalar.first_sample..).zip(&scalar.readings) {
                    self.take(scalar.channel, index, reading.unwrap() as i16);
                }
            }
            Payload::Status(status) => {
                let bounds = [header.sequence, status.next[1]];
                for class in [0, 1] {
                    let held = |n: &u64| status.held[class].iter().any(|r| r.first() <= *n && *n < r.end());
                    let below = self.flushed[class]..bounds[class];
                    self.gone[class].extend(below.filter(|n| !held(n)));
                }
                self.last_status = Some(status);
            }
            Payload::TimeReply(reply) => self.replies.push(reply),
            Payload::SettingsResult(result) if is_new => self.outcomes.push(result.outcome),
            Payload::Feature(report) if is_new => self.reports.push(report),
            Payload::Event(event) if is_new => self.events.push((event.kind, event.repeats)),
            Payload::Describe(describe) if is_new => {
                assert_eq!(describe, table());
                self.tables += 1;
            }
            _ => {}
        }
        let kind = format!("{:?}", frame.payload().unwrap());
        let kind = kind.split('(').next().unwrap().to_owned();
        self.order.push((header.class, header.sequence, kind));
        let upto = [0, 1].map(|class| {
            let known = |n: &u64| self.received[class].contains(n) || self.gone[class].contains(n);
            (self.flushed[class]..).find(|n| !known(n)).unwrap()
        });
        self.flushing.push_back((now + self.flush_micros, upto));
    }

    fn take(&mut self, channel: ChannelId, index: u64, sample: i16) {
        assert_eq!(sample, value(channel, index), "channel {channel} sample {index}");
        self.samples.insert((channel.get(), index), sample);
    }

    fn flush(&mut self, now: u64) {
        while self.flushing.front().is_some_and(|(at, _)| *at <= now) {
            let (_, upto) = self.flushing.pop_front().unwrap();
            for class in [0, 1] {
                self.flushed[class] = self.flushed[class].max(upto[class]);
            }
        }
    }
}

/// Node, line and agent, and the one clock they share.
struct World {
    now: u64,
    node: Node<'static>,
    agent: Agent,
    master: Option<MasterId>,
    /// Bytes the node has sent since the last poll.
    unpolled: u32,
    /// Out of 256, how many frames the line swallows and how many it carries twice.
    loss: u8,
    repetition: u8,
    random: u64,
    /// What is in force for the vibration channel.
    plan: ChannelPlan,
}

impl World {
    fn new(node: Node<'static>) -> Self {
        Self {
            now: 0,
            node,
            agent: Agent {
                flush_micros: 200_000,
                ..Agent::default()
            },
            unpolled: 0,
            master: Some(MasterId(1)),
            loss: 0,
            repetition: 0,
            random: 0x2545_F491_4F6C_DD1D,
            plan: ChannelPlan::Raw,
        }
    }

    fn ticks(&self) -> NodeTicks {
        NodeTicks(self.now)
    }

    /// Xorshift (Marsaglia 2003).
    fn chance(&mut self, of_256: u8) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u8 <= of_256 && of_256 > 0
    }

    fn tell(&mut self, payload: &Payload<'_>) {
        let bytes = line_bytes(&header_to(LineAddress(1), BOOT), payload);
        if !self.chance(self.loss) {
            self.node.handle_bytes(self.ticks(), &bytes);
        }
    }

    fn poll_as(&mut self, master: MasterId) {
        let poll = Poll {
            address: LineAddress(1),
            master,
            upto: self.agent.flushed,
            credit: CREDIT,
        };
        self.unpolled = 0;
        self.tell(&Payload::Poll(poll));
    }

    /// Carries what the node has to say. Afterwards the node must not ask to be woken at once.
    fn carry(&mut self) {
        let mut out = [0; 4 * LINE_FRAME_MAX];
        loop {
            let length = self.node.poll_transmit(self.ticks(), &mut out);
            if length == 0 {
                break;
            }
            self.unpolled += length as u32;
            for frame in frames(&out[..length]) {
                if self.chance(self.loss) {
                    continue;
                }
                self.agent.handle(self.now, &frame);
                if self.chance(self.repetition) {
                    self.agent.handle(self.now, &frame);
                }
            }
        }
        if self.master.is_some() {
            // The mark of a turn's end is not credit.
            assert!(self.unpolled <= CREDIT + 1, "{} bytes in one poll", self.unpolled);
        }
        let wake = self.node.poll_timeout();
        assert!(
            wake.is_none_or(|at| at > self.ticks()),
            "{wake:?} at {}",
            self.now
        );
    }

    /// Lets time pass in steps of 20 ms, a poll in each while there is a master.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(20) {
            self.now += 20_000;
            self.agent.flush(self.now);
            if let Some(master) = self.master {
                self.poll_as(master);
            }
            self.carry();
            self.check();
        }
    }

    fn produce(&mut self, count: u64) {
        // One by one where it depends on the plan which of them gets the next index.
        let together = if self.plan == ChannelPlan::Raw { count } else { 1 };
        for _ in 0..count / together {
            let first = self.produced(VIBRATION);
            let samples: Vec<i16> = (first..first + together)
                .map(|index| value(VIBRATION, index))
                .collect();
            self.node
                .handle_samples(VIBRATION, self.ticks(), &samples)
                .unwrap();
        }
        self.check();
    }

    fn read(&mut self, count: u64) {
        let first = self.produced(TEMPERATURE);
        let readings: Vec<_> = (first..first + count)
            .map(|index| Ok(f32::from(value(TEMPERATURE, index))))
            .collect();
        self.node
            .handle_readings(TEMPERATURE, self.ticks(), &readings)
            .unwrap();
        self.check();
    }

    fn produced(&self, channel: ChannelId) -> u64 {
        self.node.account(channel).unwrap().produced
    }

    /// The ledger at the node is exact, and nothing is called safe that the agent does not have.
    fn check(&self) {
        for channel in [VIBRATION, TEMPERATURE] {
            let account = self.node.account(channel).unwrap();
            assert_eq!(
                account.produced,
                account.acknowledged + account.held + account.dropped_total(),
                "channel {channel}: {account:?}"
            );
            assert!(
                account.acknowledged <= self.delivered(channel),
                "channel {channel}"
            );
        }
    }

    fn delivered(&self, channel: ChannelId) -> u64 {
        let number = channel.get();
        self.agent.samples.range((number, 0)..=(number, u64::MAX)).count() as u64
    }

    /// On a good line, until everything is acknowledged.
    fn drain(&mut self) {
        (self.loss, self.repetition, self.master) = (0, 0, Some(MasterId(1)));
        for _ in 0..200 {
            self.pass(1_000);
            if [VIBRATION, TEMPERATURE]
                .iter()
                .all(|c| self.node.account(*c).unwrap().held == 0)
            {
                // The line is idle now: one more second brings the status that says so.
                self.pass(1_500);
                return;
            }
        }
        panic!("not drained after 200 s");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Produce(u64),
    Read(u64),
    Miss(u64),
    Plan(ChannelPlan),
    Pass(u64),
    AgentAway(u64),
    AskTime,
    Line { loss: u8, repetition: u8 },
}

fn plan() -> impl Strategy<Value = ChannelPlan> {
    prop_oneof![
        Just(ChannelPlan::Off),
        Just(ChannelPlan::Raw),
        (16u32..3_000).prop_map(|window| ChannelPlan::Features { window }),
        (16u32..3_000, 1u32..2_000).prop_map(|(window, samples)| ChannelPlan::Scheduled {
            window,
            samples,
            every_s: 1,
        }),
        (16u32..3_000, 1u32..2_000, -1_000i32..1_000).prop_map(|(window, samples, low_milli)| {
            ChannelPlan::Triggered {
                window,
                samples,
                every_s: 1,
                trigger: Trigger {
                    channel: VIBRATION,
                    low_milli,
                    high_milli: i32::MAX,
                },
            }
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..3_000).prop_map(Step::Produce),
        2 => (1u64..80).prop_map(Step::Read),
        1 => (1u64..500).prop_map(Step::Miss),
        2 => plan().prop_map(Step::Plan),
        4 => (20u64..1_500).prop_map(Step::Pass),
        1 => (20u64..12_000).prop_map(Step::AgentAway),
        1 => Just(Step::AskTime),
        1 => (0u8..100, 0u8..100).prop_map(|(loss, repetition)| Step::Line { loss, repetition }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, each sample arrives as it was or is counted as dropped, and in a small outbox
    /// as in a large one the figures always add up.
    #[test]
    fn everything_produced_is_delivered_or_counted(
        steps in prop::collection::vec(step(), 1..40),
        room in 0usize..60_000,
        seed in 1u64..,
    ) {
        let wiring = if seed % 2 == 0 { Wiring::Own } else { Wiring::Shared };
        let mut world = World::new(node_on(wiring, ESSENTIAL_MIN + room / 8, WAVEFORM_MIN + room));
        world.random = seed;
        world.node.restore_settings(None).unwrap();
        let mut missed = 0;
        for step in steps {
            match step {
                Step::Produce(count) => world.produce(count),
                Step::Read(count) => world.read(count),
                Step::Miss(count) => {
                    missed += if world.plan == ChannelPlan::Off { 0 } else { count };
                    world.node.handle_missed(VIBRATION, count, Missed::Overrun).unwrap();
                }
                Step::Plan(plan) => {
                    let plans = heapless::Vec::from_slice(&[plan]).unwrap();
                    world.tell(&Payload::Settings(Settings { command: 1, plans }));
                    if world.node.poll_settings().is_some() {
                        world.node.handle_settings_stored(world.ticks(), true);
                        world.plan = plan;
                    }
                }
                Step::Pass(millis) => world.pass(millis),
                Step::AgentAway(millis) => {
                    let master = world.master.take();
                    world.pass(millis);
                    world.master = master;
                }
                Step::AskTime => world.tell(&Payload::TimeRequest(TimeRequest { request: 1 })),
                Step::Line { loss, repetition } => (world.loss, world.repetition) = (loss, repetition),
            }
        }
        world.drain();
        let status = world.agent.last_status.clone().expect("a status each second");
        for channel in [VIBRATION, TEMPERATURE] {
            let account = world.node.account(channel).unwrap();
            // A frame may arrive and still be dropped before its acknowledgement comes; never the reverse.
            let never_came = account.produced - world.delivered(channel);
            prop_assert!(never_came <= account.dropped_total(), "channel {}: {:?}", channel, account);
            let reported = &status.channels[channel.index()];
            prop_assert_eq!(reported.produced, account.produced);
            prop_assert_eq!(reported.held_from, account.produced);
            prop_assert_eq!(&reported.drops, &account.dropped);
            let overruns = account.dropped.iter().find(|(cause, _)| *cause == LossCause::SensorOverrun);
            let expected = if channel == VIBRATION { missed } else { 0 };
            prop_assert_eq!(overruns.map_or(0, |(_, count)| *count), expected);
        }
    }
}

#[test]
fn a_lossy_line_with_a_large_outbox_loses_nothing() {
    let mut world = World::new(node(ESSENTIAL_MIN + 20_000, 1 << 20));
    (world.loss, world.repetition) = (60, 60);
    for _ in 0..50 {
        world.produce(2_400);
        world.read(1);
        world.pass(200);
    }
    world.drain();
    for (channel, produced) in [(VIBRATION, 120_000), (TEMPERATURE, 50)] {
        let account = world.node.account(channel).unwrap();
        assert_eq!((account.produced, account.acknowledged), (produced, produced));
        assert_eq!(world.delivered(channel), produced);
    }
}

#[test]
fn on_a_shared_line_a_node_answers_who_is_there_once_and_speaks_when_it_is_polled() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.produce(2_000);
    world.carry();
    assert_eq!(world.agent.order, []);
    let discover = Header {
        node: NodeId::new(1).unwrap(),
        boot: BootId::from_u64(0),
        ..header_to(LineAddress::BROADCAST, BOOT)
    };
    let question = line_bytes(&discover, &Payload::Discover);
    world.node.handle_bytes(world.ticks(), &question);
    let mut out = [0; 4 * LINE_FRAME_MAX];
    let mut length = 0;
    while length == 0 {
        world.now = world.node.poll_timeout().expect("a slot").0;
        assert!(world.now < u64::from(SLOTS) * slot_micros(960));
        length = world.node.poll_transmit(world.ticks(), &mut out);
    }
    let answer = frames(&out[..length]);
    let answer = RawFrame::parse(&answer[0]).unwrap();
    assert_eq!(
        (answer.header().node, answer.payload()),
        (node_id(), Ok(Payload::Discover))
    );
    assert_eq!(world.node.poll_transmit(world.ticks(), &mut out), 0);
    world.pass(100);
    assert_eq!(world.agent.events, [(EventKind::Boot, 1)]);
    // Its master knows it, and another node's answer is no question.
    world.node.handle_bytes(world.ticks(), &question);
    world.pass(5_000);
    let asked = |(_, _, kind): &(Class, u64, String)| kind == "Discover";
    assert!(!world.agent.order.iter().any(asked), "{:?}", world.agent.order);
}

#[test]
fn a_turn_ends_with_its_mark_and_then_the_node_is_silent() {
    let mut world = World::new(node(ESSENTIAL_MIN, 20 * WAVEFORM_MIN));
    world.produce(12_000);
    let mut out = [0; LINE_FRAME_MAX];
    let mut turn = |world: &mut World, credit| {
        let (address, master, upto) = (LineAddress(1), MasterId(1), world.agent.flushed);
        world.tell(&Payload::Poll(Poll {
            address,
            master,
            upto,
            credit,
        }));
        let mut said = Vec::new();
        loop {
            let length = world.node.poll_transmit(world.ticks(), &mut out);
            if length == 0 {
                return said;
            }
            said.extend(&out[..length]);
        }
    };
    let full = turn(&mut world, 5_000);
    assert!((3_900..=5_001).contains(&full.len()), "{}", full.len());
    assert!(full.ends_with(&[0, END_OF_TURN]));
    assert_eq!(
        turn(&mut world, 10),
        [END_OF_TURN],
        "not even the smallest frame fits"
    );
    let rest = turn(&mut world, 1 << 20);
    assert!(rest.ends_with(&[0, END_OF_TURN]));
    assert_eq!(turn(&mut world, 1 << 20), [END_OF_TURN]);
    world.now += 500_000;
    world.produce(12_000);
    assert_eq!(
        world.node.poll_transmit(world.ticks(), &mut [0; LINE_FRAME_MAX]),
        0
    );
}

#[test]
fn on_a_line_of_its_own_a_node_announces_itself_until_it_has_a_master() {
    let mut world = World::new(node_on(Wiring::Own, ESSENTIAL_MIN, WAVEFORM_MIN));
    world.master = None;
    world.produce(2_000);
    world.pass(3_010);
    assert_eq!(
        world.agent.order,
        vec![(Class::Essential, 0, "Describe".to_owned()); 4]
    );
    world.master = Some(MasterId(1));
    world.pass(3_000);
    let describes = world.agent.order[4..]
        .iter()
        .filter(|(_, _, kind)| kind == "Describe");
    assert_eq!(
        describes.count(),
        1,
        "the first table is safe, its successor is for the new master"
    );
    // Everything is acknowledged when the master goes: after ten seconds there is a new table to show.
    world.master = None;
    world.pass(9_900);
    let before = world.agent.order.len();
    world.pass(1_200);
    let announced: Vec<&str> = world.agent.order[before..]
        .iter()
        .map(|(_, _, kind)| kind.as_str())
        .collect();
    assert!(announced.len() <= 2 && !announced.is_empty(), "{announced:?}");
}

#[test]
fn what_is_meant_for_another_life_or_address_is_ignored() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    let poll = Payload::Poll(Poll {
        address: LineAddress(1),
        master: MasterId(1),
        upto: [0; 2],
        credit: CREDIT,
    });
    let stranger = Header {
        node: NodeId::new(1).unwrap(),
        ..header_to(LineAddress(1), BOOT)
    };
    for header in [
        stranger,
        header_to(LineAddress(1), BootId::new(2, 77)),
        header_to(LineAddress(9), BOOT),
    ] {
        world
            .node
            .handle_bytes(world.ticks(), &line_bytes(&header, &poll));
        world.carry();
        assert_eq!(world.agent.order, [], "{header:?}");
    }
    world.node.handle_bytes(
        world.ticks(),
        &line_bytes(&header_to(LineAddress(1), BOOT), &poll),
    );
    world.carry();
    assert_ne!(world.agent.order, []);
}

#[test]
fn a_time_reply_is_stamped_when_it_leaves() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.now = 5_000;
    world.tell(&Payload::TimeRequest(TimeRequest { request: 9 }));
    world.now = 300_000_000;
    world.poll_as(MasterId(1));
    world.carry();
    let reply = TimeReply {
        request: 9,
        received: NodeTicks(5_000),
        sent: NodeTicks(300_000_000),
    };
    assert_eq!(world.agent.replies, [reply]);
}

#[test]
fn a_second_master_is_refused_and_reported_once_the_first_goes_on() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.pass(1_000);
    world.agent.events.clear();
    for _ in 0..3 {
        world.poll_as(MasterId(2));
    }
    world.pass(1_000);
    assert_eq!(world.agent.events, [(EventKind::SecondMaster, 3)]);
}

#[test]
fn a_successor_is_obeyed_after_ten_seconds_and_gets_the_table() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.pass(1_000);
    assert_eq!(world.agent.tables, 1);
    world.master = Some(MasterId(2));
    world.pass(9_980);
    assert_eq!(world.agent.tables, 1);
    world.pass(100);
    assert_eq!(world.agent.tables, 2);
    // Taking over is not a conflict.
    assert_eq!(world.agent.events, [(EventKind::Boot, 1)]);
}

#[test]
fn the_oldest_samples_go_first_and_the_table_and_events_stay() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.produce(10 * WAVEFORM_SAMPLES as u64);
    world.read(5_000);
    let kept = world.node.account(VIBRATION).unwrap();
    assert_eq!(kept.held, 2 * WAVEFORM_SAMPLES as u64);
    assert_eq!(
        kept.dropped,
        [(LossCause::OutboxFull, 8 * WAVEFORM_SAMPLES as u64)]
    );
    world.drain();
    assert_eq!((world.agent.tables, world.agent.events.len()), (1, 1));
    for channel in [VIBRATION, TEMPERATURE] {
        let account = world.node.account(channel).unwrap();
        let delivered: Vec<u64> = world
            .agent
            .samples
            .keys()
            .filter(|(c, _)| *c == channel.get())
            .map(|(_, i)| *i)
            .collect();
        let newest: Vec<u64> = (account.dropped_total()..account.produced).collect();
        assert_eq!(delivered, newest, "channel {channel}");
    }
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_not_believed() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.produce(WAVEFORM_SAMPLES as u64);
    world.agent.flushed = [1_000, 1_000];
    world.poll_as(MasterId(1));
    assert_eq!(world.node.account(VIBRATION).unwrap().acknowledged, 0);
    world.agent.flushed = [0, 0];
    world.drain();
    assert_eq!(world.delivered(VIBRATION), WAVEFORM_SAMPLES as u64);
}

#[test]
fn an_hour_without_an_agent_leaves_one_status_and_no_holes() {
    let mut world = World::new(node(ESSENTIAL_MIN + 200_000, WAVEFORM_MIN));
    world.pass(2_000);
    world.master = None;
    for _ in 0..360 {
        world.read(10);
        world.pass(10_000);
    }
    world.drain();
    assert_eq!(
        world.agent.gone[0].difference(&world.agent.received[0]).count(),
        0
    );
    assert_eq!(world.delivered(TEMPERATURE), 3_600);
}

#[test]
fn an_agent_that_never_acknowledges_is_asked_less_and_less_often() {
    let mut world = World::new(node(ESSENTIAL_MIN, 1 << 20));
    world.agent.flush_micros = u64::MAX / 2;
    world.produce(500 * WAVEFORM_SAMPLES as u64);
    let mut times = Vec::new();
    for _ in 0..1_000 {
        world.pass(20);
        let heard = std::mem::take(&mut world.agent.order);
        let waveforms = heard.iter().filter(|(class, ..)| *class == Class::Waveform);
        let numbers: BTreeSet<u64> = waveforms.map(|(_, number, _)| *number).collect();
        if numbers.contains(&0) {
            times.push(world.now / 1_000);
        }
        assert!(
            numbers.last().is_none_or(|number| *number < 270),
            "the window is 256 KiB"
        );
    }
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 3 && waits.is_sorted(), "{times:?}");
    assert!(
        waits.iter().all(|wait| (2_000..=8_100).contains(wait)),
        "{times:?}"
    );
}

#[test]
fn settings_that_cannot_be_kept_are_not_taken() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    for second in [ChannelPlan::Raw, ChannelPlan::Off] {
        let plans = heapless::Vec::from_slice(&[ChannelPlan::Raw, second]).unwrap();
        world.tell(&Payload::Settings(Settings { command: 1, plans }));
    }
    world.pass(100);
    assert_eq!(
        world.agent.outcomes,
        [SettingsOutcome::Unchanged, SettingsOutcome::NotStored]
    );
}

/// Settings reach the node, and its board stores what there is to store.
fn settle(world: &mut World, command: u32, plans: &[ChannelPlan], is_stored: bool) {
    let plans = heapless::Vec::from_slice(plans).unwrap();
    world.tell(&Payload::Settings(Settings { command, plans }));
    if world.node.poll_settings().is_some() {
        world.node.handle_settings_stored(world.ticks(), is_stored);
    }
    world.pass(100);
}

#[test]
fn a_plan_is_in_force_once_it_is_stored_and_not_before() {
    let mut world = World::new(node(ESSENTIAL_MIN, 4 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let off = [ChannelPlan::Off];
    settle(&mut world, 1, &off, false);
    assert_eq!(world.agent.outcomes, [SettingsOutcome::NotStored]);
    world.produce(100);
    assert_eq!(
        world.produced(VIBRATION),
        100,
        "what could not be stored is not in force"
    );

    settle(&mut world, 2, &off, true);
    settle(&mut world, 2, &off, true);
    assert_eq!(
        world.agent.outcomes[1..],
        [SettingsOutcome::Applied, SettingsOutcome::Unchanged]
    );
    world.produce(100);
    world.read(3);
    assert_eq!((world.produced(VIBRATION), world.produced(TEMPERATURE)), (100, 3));
    world.drain();
}

#[test]
fn a_second_order_while_the_board_stores_is_answered_when_it_is_repeated() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let settings = |command, plan| {
        let plans = heapless::Vec::from_slice(&[plan]).unwrap();
        Payload::Settings(Settings { command, plans })
    };
    world.tell(&settings(1, ChannelPlan::Off));
    assert!(world.node.poll_settings().is_some());
    assert!(
        world.node.poll_settings().is_none(),
        "an image is handed out once"
    );
    world.tell(&settings(2, ChannelPlan::Features { window: 16 }));
    assert!(world.node.poll_settings().is_none(), "one is being stored");
    world.node.handle_settings_stored(world.ticks(), true);
    world.tell(&settings(2, ChannelPlan::Features { window: 16 }));
    assert!(world.node.poll_settings().is_some());
    world.node.handle_settings_stored(world.ticks(), true);
    world.node.handle_settings_stored(world.ticks(), true);
    world.pass(100);
    assert_eq!(world.agent.outcomes, [SettingsOutcome::Applied; 2]);
}

#[test]
fn stored_settings_are_in_force_after_a_reset() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let plans = heapless::Vec::from_slice(&[ChannelPlan::Features { window: 32 }]).unwrap();
    world.tell(&Payload::Settings(Settings { command: 1, plans }));
    let image = world.node.poll_settings().unwrap();

    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(Some(&image)).unwrap();
    world.produce(100);
    world.pass(100);
    assert_eq!(world.produced(VIBRATION), 0);
    assert_eq!(world.agent.reports.len(), 3);

    let mut damaged = image.clone();
    damaged[2] ^= 4;
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    assert!(world.node.restore_settings(Some(&damaged)).is_err());
    world.produce(100);
    assert_eq!(world.produced(VIBRATION), 100);
    settle(&mut world, 2, &[ChannelPlan::Off], true);
    assert_eq!(world.agent.outcomes, [SettingsOutcome::Applied]);
}

#[test]
fn features_are_those_of_the_samples_and_none_is_sent() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    settle(&mut world, 1, &[ChannelPlan::Features { window: 256 }], true);
    let samples: Vec<i16> = (0..600).map(|index| value(VIBRATION, index)).collect();
    world
        .node
        .handle_samples(VIBRATION, NodeTicks(5_000_000), &samples)
        .unwrap();
    world.pass(500);
    assert_eq!(world.delivered(VIBRATION), 0);
    assert_eq!(world.agent.reports.len(), 2, "the third window is not full");
    for (report, window) in world.agent.reports.iter().zip(samples.chunks(256)) {
        let scale = 16.0 / 32_768.0;
        let window: Vec<f32> = window.iter().map(|sample| f32::from(*sample) * scale).collect();
        let expected = Statistics::of(&window).unwrap();
        let found = |wanted| {
            report
                .features
                .iter()
                .find(|(kind, _)| *kind == wanted)
                .unwrap()
                .1
        };
        assert!((found(FeatureKind::Rms) - expected.rms).abs() < 1e-4 * expected.rms);
        assert!((found(FeatureKind::Peak) - expected.peak).abs() < 1e-4 * expected.peak);
        assert_eq!(report.count, 256);
    }
    let firsts: Vec<u64> = world
        .agent
        .reports
        .iter()
        .map(|report| report.first_sample)
        .collect();
    assert_eq!(firsts, [0, 256]);
}

#[test]
fn a_capture_is_carried_out_once_however_often_it_is_asked_for() {
    let mut world = World::new(node(ESSENTIAL_MIN, 8 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    settle(&mut world, 1, &[ChannelPlan::Off], true);
    let capture = |channel, samples| {
        Payload::Capture(Capture {
            command: 2,
            channel,
            samples,
        })
    };
    for _ in 0..3 {
        world.tell(&capture(VIBRATION, 500));
    }
    world.pass(100);
    world.tell(&capture(ChannelId::new(2).unwrap(), 1));
    world.tell(&capture(VIBRATION, 0));
    world.pass(100);
    use SettingsOutcome::{Applied, BadPlan, Unchanged, UnknownChannel};
    assert_eq!(
        world.agent.outcomes,
        [Applied, Applied, Unchanged, Unchanged, UnknownChannel, BadPlan]
    );
    let samples: Vec<i16> = (0..800).map(|index| value(VIBRATION, index)).collect();
    world
        .node
        .handle_samples(VIBRATION, world.ticks(), &samples)
        .unwrap();
    world.drain();
    assert_eq!(
        (world.delivered(VIBRATION), world.produced(VIBRATION)),
        (500, 500)
    );
}

#[test]
fn a_waveform_begins_while_another_channel_says_so_and_a_reset_does_not_forget_it() {
    let mut world = World::new(node(ESSENTIAL_MIN, 8 * WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    let triggered = ChannelPlan::Triggered {
        window: 256,
        samples: 50,
        every_s: 1,
        trigger: Trigger {
            channel: TEMPERATURE,
            low_milli: 30_000,
            high_milli: 40_000,
        },
    };
    let plans = heapless::Vec::from_slice(&[triggered]).unwrap();
    world.tell(&Payload::Settings(Settings { command: 1, plans }));
    let image = world.node.poll_settings().unwrap();

    let mut node = node(ESSENTIAL_MIN, 8 * WAVEFORM_MIN);
    node.restore_settings(Some(&image)).unwrap();
    let samples = [0; 100];
    let produced = |node: &Node<'_>| node.account(VIBRATION).unwrap().produced;
    node.handle_samples(VIBRATION, NodeTicks(0), &samples).unwrap();
    assert_eq!(produced(&node), 0, "nothing is known of the temperature");
    for (seconds, reading, expected) in [
        (1, Ok(29.0), 0),
        (2, Ok(35.0), 50),
        (3, Ok(41.0), 50),
        (4, Ok(35.0), 100),
        (5, Err(NoData::BusError), 100),
    ] {
        let at = NodeTicks(seconds * 1_000_000);
        node.handle_readings(TEMPERATURE, at, &[reading]).unwrap();
        node.handle_samples(VIBRATION, at, &samples).unwrap();
        assert_eq!(produced(&node), expected, "{reading:?}");
    }
}

#[test]
fn a_slow_line_refuses_what_would_fill_it() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.node.restore_settings(None).unwrap();
    world.node.set_line_speed(LineSpeed::BytesPerSecond(11_520));
    settle(&mut world, 1, &[ChannelPlan::Features { window: 4_096 }], true);
    settle(&mut world, 2, &[ChannelPlan::Raw], true);
    let [SettingsOutcome::Applied, SettingsOutcome::Overfull { needs, may }] = world.agent.outcomes[..]
    else {
        panic!("{:?}", world.agent.outcomes);
    };
    // 70 % of the line, and twelve thousand samples of two bytes with their headers and the status.
    assert_eq!(may, 8_064);
    assert!((24_000..30_000).contains(&needs), "{needs}");
}

#[test]
fn a_node_shows_where_it_is_for_as_long_as_asked() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    assert!(!world.node.is_identifying(NodeTicks(0)));
    world.tell(&Payload::Identify(Identify {
        seconds: 3,
        command: 1,
    }));
    assert!(world.node.is_identifying(NodeTicks(2_999_999)));
    assert!(!world.node.is_identifying(NodeTicks(3_000_000)));
}

#[test]
fn a_flood_of_requests_costs_no_samples() {
    let mut world = World::new(node(ESSENTIAL_MIN, WAVEFORM_MIN));
    world.read(10);
    for request in 0..10_000 {
        world.tell(&Payload::TimeRequest(TimeRequest { request }));
    }
    let account = world.node.account(TEMPERATURE).unwrap();
    assert_eq!((account.held, account.dropped_total()), (10, 0));
    world.drain();
    assert_eq!(world.delivered(TEMPERATURE), 10);
}

/// A queue of a sensor that overran once.
struct Overrun {
    next: u64,
    left: usize,
    missed: Option<(u64, Missed)>,
}

impl Sensor for Overrun {
    fn read(&mut self, now: NodeTicks, out: &mut [i16]) -> Batch {
        let missed = self.missed.take();
        self.next += missed.map_or(0, |(count, _)| count);
        let taken = out.len().min(self.left);
        for (sample, index) in out[..taken].iter_mut().zip(self.next..) {
            *sample = value(VIBRATION, index);
        }
        self.next += taken as u64;
        self.left -= taken;
        Batch {
            missed,
            taken,
            first: now,
        }
    }
}

#[test]
fn a_sensor_is_emptied_and_its_overrun_leaves_a_counted_gap() {
    let mut world = World::new(node(ESSENTIAL_MIN, 100_000));
    world.produce(100);
    let mut sensor = Overrun {
        next: 100,
        left: 1_000,
        missed: Some((50, Missed::Overrun)),
    };
    world.node.sample(NodeTicks(0), VIBRATION, &mut sensor).unwrap();
    world.drain();
    let account = world.node.account(VIBRATION).unwrap();
    assert_eq!((account.produced, account.acknowledged), (1_150, 1_100));
    assert_eq!(account.dropped, [(LossCause::SensorOverrun, 50)]);
    assert!(!world.agent.samples.contains_key(&(0, 149)));
    assert!(world.agent.samples.contains_key(&(0, 150)));
}
