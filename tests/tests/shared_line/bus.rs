//! Two wires, byte by byte: who speaks while another does is heard by nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use trunnion_agent::config::Wiring as AgentWiring;
use trunnion_agent::intake::{BootKey, Fate, Intake, Upto};
use trunnion_agent::line::shared::Turn;
use trunnion_agent::line::{Heard, Line};
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::{ChannelDescriptor, Describe, Event, EventKind, Payload, ResetCause, Severity};
use trunnion_common::id::{BootId, ChannelId, LineAddress, MasterId, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::channel::Account;
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::{Identity, Node};
use trunnion_firmware::outbox::{ESSENTIAL_MIN, WAVEFORM_MIN};
use trunnion_firmware::schedule::Schedule;
use trunnion_firmware::settings::LineSpeed;
use trunnion_tests::node_memory::NodeMemory;
use trunnion_tests::world::chance::Chance;

pub(crate) const BAUD: u32 = 921_600;
pub(crate) const VIBRATION: ChannelId = ChannelId::new(0).expect("0 is below CHANNELS_MAX");

/// Bytes that the wire carries in one step.
const STEP_BYTES: usize = 8;

/// How long that takes.
const STEP_MICROS: u64 = STEP_BYTES as u64 * 10_000_000 / BAUD as u64;

/// How often a node's sensor is emptied.
const READ_MICROS: u64 = 10_000;

/// From a frame's arrival to the flush of its block.
const FLUSH: Duration = Duration::from_millis(200);

/// The value that every sample has, known to whoever asks.
pub(crate) fn value(node: NodeId, index: u64) -> i16 {
    ((index ^ node.get().rotate_left(20)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as i16
}

/// What a node is, and how fast it samples.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) node: u64,
    pub(crate) boot: u32,
    pub(crate) address: LineAddress,
    pub(crate) rate_hz: u32,
    pub(crate) waveform_bytes: usize,
}

impl Spec {
    pub(crate) fn key(&self) -> BootKey {
        (NodeId::new(self.node).unwrap(), BootId::new(self.boot, 0x5EED))
    }
}

/// A node on the wires.
pub(crate) struct SimNode {
    pub(crate) spec: Spec,
    node: Node<'static>,
    sampled: u64,
    next_read: u64,
    alarms: u32,
    is_sampling: bool,
    booted: u64,
    out: VecDeque<u8>,
    /// Bytes that it has put on the wires.
    pub(crate) said: u64,
}

impl SimNode {
    fn new(spec: Spec, now: u64) -> Self {
        let (node, boot) = spec.key();
        let identity = Identity {
            node,
            boot,
            address: spec.address,
            wiring: Wiring::Shared,
            reset: ResetCause::PowerOn,
        };
        let descriptor = ChannelDescriptor {
            unit: Unit::StandardGravity,
            scale: 16.0 / 32_768.0,
            rate_mhz: spec.rate_hz * 1_000,
            range: 16.0,
            band_low_hz: 1.0,
            band_high_hz: 1_000.0,
        };
        let table = Describe {
            revision: 1,
            channels: [descriptor].into_iter().collect(),
        };
        let memory = NodeMemory::new(ESSENTIAL_MIN, spec.waveform_bytes.max(WAVEFORM_MIN), 1).leak();
        let mut node = Node::new(identity, &table, memory).unwrap();
        node.set_line_speed(LineSpeed::BytesPerSecond(BAUD / 10));
        Self {
            spec,
            node,
            sampled: 0,
            next_read: 0,
            alarms: 0,
            is_sampling: true,
            booted: now,
            out: VecDeque::new(),
            said: 0,
        }
    }

    fn ticks(&self, now: u64) -> NodeTicks {
        NodeTicks(now - self.booted)
    }

    pub(crate) fn account(&self) -> Account {
        self.node.account(VIBRATION).unwrap()
    }

    /// A limit is exceeded.
    pub(crate) fn alarm(&mut self, now: u64) {
        self.alarms += 1;
        let event = Event {
            severity: Severity::Alarm,
            kind: EventKind::LimitExceeded,
            channel: Some(VIBRATION),
            repeats: 1,
            value: self.alarms as f32,
        };
        self.node.handle_event(self.ticks(now), event);
    }

    fn step(&mut self, now: u64) {
        let ticks = self.ticks(now);
        if self.is_sampling && self.next_read <= now {
            self.next_read = now + READ_MICROS;
            let schedule = Schedule::new(
                NodeTicks(0),
                (self.spec.rate_hz * 1_000).try_into().expect("a rate is not 0"),
            );
            let (first, due) = (self.sampled, schedule.due_by(ticks));
            let node = self.spec.key().0;
            let samples: Vec<i16> = (first..due).map(|index| value(node, index)).collect();
            let at = schedule.ticks_of(first);
            self.node.handle_samples(VIBRATION, at, &samples).unwrap();
            self.sampled = due;
        }
        if self.out.is_empty() {
            let mut out = [0; LINE_FRAME_MAX];
            let length = self.node.poll_transmit(ticks, &mut out);
            self.out.extend(&out[..length]);
        }
    }
}

/// The agent's end: its line and intake, and a disk that takes its time.
pub(crate) struct Agent {
    line: Line,
    intake: Intake,
    flushing: VecDeque<(Duration, BTreeMap<BootKey, Upto>)>,
    out: VecDeque<u8>,
    is_discovering: bool,
    /// Samples that have come, by life of a node.
    pub(crate) stored: BTreeMap<BootKey, BTreeSet<u64>>,
    /// The values of the alarms that have come, by life of a node.
    pub(crate) alarms: BTreeMap<BootKey, Vec<u32>>,
    /// What happened on the line, by name.
    pub(crate) changes: Vec<(NodeId, &'static str)>,
    pub(crate) broken: u64,
}

impl Agent {
    fn new(master: u64) -> Self {
        let mut line = Line::new(
            MasterId(master),
            AgentWiring::Shared,
            BAUD,
            Duration::from_millis(250),
        );
        line.handle_opened();
        Self {
            line,
            intake: Intake::default(),
            flushing: VecDeque::new(),
            out: VecDeque::new(),
            is_discovering: false,
            stored: BTreeMap::new(),
            alarms: BTreeMap::new(),
            changes: Vec::new(),
            broken: 0,
        }
    }

    pub(crate) fn polled(&self) -> BTreeSet<BootKey> {
        self.line.nodes().collect()
    }

    /// The port is lost and there again.
    pub(crate) fn reopen(&mut self) {
        self.line.handle_closed();
        self.line.handle_opened();
    }

    pub(crate) fn address(&mut self, key: BootKey) -> Option<LineAddress> {
        self.line.shared()?.address(key)
    }

    fn handle_bytes(&mut self, mut bytes: &[u8], now: Duration) {
        let mut is_new = false;
        while !bytes.is_empty() {
            match self.line.handle_bytes(&mut bytes, now) {
                Some(Heard::Frame(raw, payload)) => {
                    let header = *raw.header();
                    let key = (header.node, header.boot);
                    let taken = self.intake.handle_frame(&header, payload.as_ref(), now);
                    if taken.fate != Fate::New {
                        continue;
                    }
                    is_new = true;
                    match payload {
                        Some(Payload::Waveform(waveform)) => {
                            let stored = self.stored.entry(key).or_default();
                            for (index, sample) in (waveform.first_sample..).zip(waveform.samples().unwrap())
                            {
                                assert_eq!(sample, value(header.node, index), "{index} of {}", header.node);
                                assert!(stored.insert(index), "{index} of {} came twice", header.node);
                            }
                        }
                        Some(Payload::Event(event)) if event.kind == EventKind::LimitExceeded => {
                            let alarms = self.alarms.entry(key).or_default();
                            alarms.push(event.value as u32);
                        }
                        _ => {}
                    }
                }
                Some(Heard::Broken(_)) => self.broken += 1,
                Some(Heard::Changed((node, _), change)) => self.changes.push((node, change.label())),
                Some(Heard::SecondMaster(master)) => panic!("{master:?} is the only one"),
                None => {}
            }
        }
        if is_new {
            self.flushing.push_back((now + FLUSH, self.intake.upto()));
        }
    }

    fn step(&mut self, now: Duration) {
        while self.flushing.front().is_some_and(|(at, _)| *at <= now) {
            let (_, upto) = self.flushing.pop_front().unwrap();
            for key in self.intake.handle_durable(&upto) {
                self.line.hasten_poll(key, now);
            }
        }
        let Some(turn) = self.line.shared().and_then(|shared| shared.next_turn(now)) else {
            return;
        };
        self.is_discovering = turn == Turn::Discovery;
        let upto = match &turn {
            Turn::Discovery => [0; 2],
            Turn::Node { key, .. } => self.intake.durable(*key),
        };
        self.out
            .extend(self.line.take_turn(turn, upto, false, now).unwrap());
    }
}

/// The wires, and everybody on them.
pub(crate) struct Bus {
    pub(crate) now: u64,
    pub(crate) agent: Agent,
    pub(crate) nodes: Vec<SimNode>,
    /// Steps in which two spoke, outside discoveries.
    pub(crate) collisions: u64,
    /// Flipped bits in a million.
    pub(crate) noise: u64,
    chance: Chance,
}

impl Bus {
    pub(crate) fn new(specs: &[Spec]) -> Self {
        Self {
            now: 0,
            agent: Agent::new(1),
            nodes: specs.iter().map(|spec| SimNode::new(*spec, 0)).collect(),
            collisions: 0,
            noise: 0,
            chance: Chance::new(1),
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time.as_micros() as u64;
        while self.now < until {
            self.step();
        }
    }

    /// How many samples of a node's life the agent has.
    pub(crate) fn stored(&self, spec: Spec) -> u64 {
        self.agent.stored.get(&spec.key()).map_or(0, BTreeSet::len) as u64
    }

    /// A node's power goes, and comes back as another life.
    pub(crate) fn restart_node(&mut self, at: usize) {
        let spec = self.nodes[at].spec;
        let spec = Spec {
            boot: spec.boot + 1,
            ..spec
        };
        self.nodes[at] = SimNode::new(spec, self.now);
    }

    /// Another start of the agent, which remembers what its disk has.
    pub(crate) fn restart_agent(&mut self, master: u64) {
        let former = std::mem::replace(&mut self.agent, Agent::new(master));
        for cursor in former.intake.cursors(|_| None) {
            self.agent.intake.restore(&cursor);
        }
        self.agent.stored = former.stored;
        self.agent.alarms = former.alarms;
    }

    /// Nobody samples any more; everything that is held comes through.
    pub(crate) fn drain(&mut self) {
        self.noise = 0;
        self.nodes.iter_mut().for_each(|node| node.is_sampling = false);
        for _ in 0..120 {
            self.pass(Duration::from_secs(1));
            if self.nodes.iter().all(|node| node.account().held == 0) {
                return;
            }
        }
        panic!("not drained after two minutes");
    }

    fn step(&mut self) {
        self.now += STEP_MICROS;
        let now = Duration::from_micros(self.now);
        self.agent.step(now);
        self.nodes.iter_mut().for_each(|node| node.step(self.now));

        let mut said: Vec<(Option<usize>, Vec<u8>)> = Vec::new();
        let mut listen = |speaker, out: &mut VecDeque<u8>| {
            let length = out.len().min(STEP_BYTES);
            if length > 0 {
                said.push((speaker, out.drain(..length).collect()));
            }
        };
        listen(None, &mut self.agent.out);
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.said += node.out.len().min(STEP_BYTES) as u64;
            listen(Some(at), &mut node.out);
        }
        let Some((speaker, mut bytes)) = said.pop() else {
            return;
        };
        let is_collision = !said.is_empty();
        if is_collision {
            self.collisions += u64::from(!self.agent.is_discovering);
            bytes.fill_with(|| self.chance.next() as u8);
        } else if self.noise > 0 {
            for byte in &mut bytes {
                for bit in 0..8 {
                    *byte ^= u8::from(self.chance.next() % 1_000_000 < self.noise) << bit;
                }
            }
        }
        if is_collision || speaker.is_some() {
            self.agent.handle_bytes(&bytes, now);
        }
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if is_collision || speaker != Some(at) {
                let ticks = node.ticks(self.now);
                node.node.handle_bytes(ticks, &bytes);
            }
        }
    }
}
