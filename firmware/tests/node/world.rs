//! A node and a scripted agent on a line that loses and repeats frames, and the one clock they share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{
    ChannelDescriptor, ChannelPlan, Class, Describe, EventKind, FRAME_MAX, FeatureReport, Header, Payload,
    Poll, RawFrame, ResetCause, SettingsOutcome, Status, TimeReply, encode,
};
use trunnion_common::id::{BootId, ChannelId, LineAddress, MasterId, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::NodeTicks;
use trunnion_common::version;
use trunnion_firmware::channel::{FORMING_SAMPLES, Forming};
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::{Identity, Memory, Node};

pub(crate) const VIBRATION: ChannelId = match ChannelId::new(0) {
    Some(channel) => channel,
    None => panic!("in range"),
};
pub(crate) const TEMPERATURE: ChannelId = match ChannelId::new(1) {
    Some(channel) => channel,
    None => panic!("in range"),
};
pub(crate) const BOOT: BootId = BootId::new(3, 77);
pub(crate) const CREDIT: u32 = 64 * 1024;

pub(crate) fn node_id() -> NodeId {
    NodeId::new(0xAB).unwrap()
}

pub(crate) fn table() -> Describe {
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
pub(crate) fn node(essential: usize, waveform: usize) -> Node<'static> {
    node_on(Wiring::Shared, essential, waveform)
}

pub(crate) fn node_on(wiring: Wiring, essential: usize, waveform: usize) -> Node<'static> {
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
pub(crate) fn value(channel: ChannelId, index: u64) -> i16 {
    (index
        .wrapping_mul(0x9E37_79B9)
        .wrapping_add(u64::from(channel.get()))
        >> 7) as i16
}

pub(crate) fn header_to(address: LineAddress, boot: BootId) -> Header {
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

pub(crate) fn line_bytes(header: &Header, payload: &Payload<'_>) -> Vec<u8> {
    let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
    let frame = encode(header, payload, &mut frame).unwrap();
    stuff(frame, &mut line).unwrap().to_vec()
}

pub(crate) fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
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
pub(crate) struct Agent {
    pub(crate) received: [BTreeSet<u64>; 2],
    pub(crate) gone: [BTreeSet<u64>; 2],
    pub(crate) samples: BTreeMap<(u16, u64), i16>,
    /// Of the vibration channel's samples, those that are not what [`value`] says.
    pub(crate) truth: BTreeMap<u64, i16>,
    pub(crate) order: Vec<(Class, u64, String)>,
    /// When the first sample of each was taken, and its index.
    pub(crate) waveforms: Vec<(NodeTicks, u64)>,
    pub(crate) replies: Vec<TimeReply>,
    pub(crate) outcomes: Vec<SettingsOutcome>,
    pub(crate) reports: Vec<FeatureReport>,
    pub(crate) events: Vec<(EventKind, u32)>,
    pub(crate) tables: Vec<Describe>,
    pub(crate) last_status: Option<Status>,
    pub(crate) flushing: VecDeque<(u64, [u64; 2])>,
    pub(crate) flushed: [u64; 2],
    /// From a frame's arrival to its acknowledgement.
    pub(crate) flush_micros: u64,
}

impl Agent {
    pub(crate) fn handle(&mut self, now: u64, bytes: &[u8]) {
        let frame = RawFrame::parse(bytes).unwrap();
        let header = *frame.header();
        assert_eq!((header.node, header.boot), (node_id(), BOOT));
        let is_new = self.received[header.class.index()].insert(header.sequence);
        match frame.payload().unwrap() {
            Payload::Waveform(waveform) => {
                for (index, sample) in (waveform.first_sample..).zip(waveform.samples().unwrap()) {
                    self.take(waveform.channel, index, sample);
                }
                if is_new {
                    self.waveforms.push((header.ticks, waveform.first_sample));
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
                self.tables.push(describe);
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

    pub(crate) fn take(&mut self, channel: ChannelId, index: u64, sample: i16) {
        let truth = self.truth.get(&index).filter(|_| channel == VIBRATION);
        let truth = truth.copied().unwrap_or(value(channel, index));
        assert_eq!(sample, truth, "channel {channel} sample {index}");
        self.samples.insert((channel.get(), index), sample);
    }

    pub(crate) fn flush(&mut self, now: u64) {
        while self.flushing.front().is_some_and(|(at, _)| *at <= now) {
            let (_, upto) = self.flushing.pop_front().unwrap();
            for class in [0, 1] {
                self.flushed[class] = self.flushed[class].max(upto[class]);
            }
        }
    }
}

/// Node, line and agent, and the one clock they share.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) node: Node<'static>,
    pub(crate) agent: Agent,
    pub(crate) master: Option<MasterId>,
    /// Bytes the node has sent since the last poll.
    pub(crate) unpolled: u32,
    /// Out of 256, how many frames the line swallows and how many it carries twice.
    pub(crate) loss: u8,
    pub(crate) repetition: u8,
    pub(crate) random: u64,
    /// What is in force for the vibration channel.
    pub(crate) plan: ChannelPlan,
    /// Every sample of it so far, sent or not.
    pub(crate) tape: Vec<i16>,
}

impl World {
    pub(crate) fn new(node: Node<'static>) -> Self {
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
            tape: Vec::new(),
        }
    }

    pub(crate) fn ticks(&self) -> NodeTicks {
        NodeTicks(self.now)
    }

    /// Xorshift (Marsaglia 2003).
    pub(crate) fn chance(&mut self, of_256: u8) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u8 <= of_256 && of_256 > 0
    }

    pub(crate) fn tell(&mut self, payload: &Payload<'_>) {
        let bytes = line_bytes(&header_to(LineAddress(1), BOOT), payload);
        if !self.chance(self.loss) {
            self.node.handle_bytes(self.ticks(), &bytes);
        }
    }

    pub(crate) fn poll_as(&mut self, master: MasterId) {
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
    pub(crate) fn carry(&mut self) {
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
    pub(crate) fn pass(&mut self, millis: u64) {
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

    pub(crate) fn produce(&mut self, count: u64) {
        // One by one where it depends on the plan which of them gets the next index.
        let together = if self.plan == ChannelPlan::Raw { count } else { 1 };
        for _ in 0..count / together {
            let first = self.produced(VIBRATION);
            let samples: Vec<i16> = (0..together)
                .map(|at| value(VIBRATION, self.tape.len() as u64 + at))
                .collect();
            self.tape.extend(&samples);
            self.node
                .handle_samples(VIBRATION, self.ticks(), &samples)
                .unwrap();
            // Those that are sent are the last ones, some of them from before a trigger.
            let sent = (self.produced(VIBRATION) - first) as usize;
            let sent = &self.tape[self.tape.len() - sent..];
            self.agent.truth.extend((first..).zip(sent.iter().copied()));
        }
        self.check();
    }

    pub(crate) fn read(&mut self, count: u64) {
        let first = self.produced(TEMPERATURE);
        let readings: Vec<_> = (first..first + count)
            .map(|index| Ok(f32::from(value(TEMPERATURE, index))))
            .collect();
        self.node
            .handle_readings(TEMPERATURE, self.ticks(), &readings)
            .unwrap();
        self.check();
    }

    pub(crate) fn produced(&self, channel: ChannelId) -> u64 {
        self.node.account(channel).unwrap().produced
    }

    /// The ledger at the node is exact, and nothing is called safe that the agent does not have.
    pub(crate) fn check(&self) {
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

    pub(crate) fn delivered(&self, channel: ChannelId) -> u64 {
        let number = channel.get();
        self.agent.samples.range((number, 0)..=(number, u64::MAX)).count() as u64
    }

    /// On a good line, until everything is acknowledged.
    pub(crate) fn drain(&mut self) {
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
