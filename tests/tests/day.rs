//! A day of one node under virtual time, with all that happens to it: where each of its samples has gone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use trunnion_agent::config::Wiring as AgentWiring;
use trunnion_agent::intake::{BootKey, Fate, Intake, Upto};
use trunnion_agent::line::{Heard, Line};
use trunnion_common::codec::LINE_FRAME_MAX;
use trunnion_common::frame::{ChannelDescriptor, Describe, Payload, ResetCause, Status};
use trunnion_common::id::{BootId, ChannelId, LineAddress, MasterId, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::sample::LossCause;
use trunnion_common::time::NodeTicks;
use trunnion_firmware::link::Wiring;
use trunnion_firmware::node::{Identity, Node};
use trunnion_firmware::outbox::ESSENTIAL_MIN;
use trunnion_firmware::sensor::Missed;
use trunnion_tests::node_memory::NodeMemory;
use trunnion_tests::world::chance::Chance;

const DAY: Duration = Duration::from_secs(86_400);

/// From one look at everything to the next.
const STEP: Duration = Duration::from_millis(250);

/// Of the vibration, hertz, and of the temperature.
const RATES_HZ: [u32; 2] = [200, 4];

const FLUSH: Duration = Duration::from_millis(500);

fn channel(position: usize) -> ChannelId {
    ChannelId::new(position as u16).unwrap()
}

fn key() -> BootKey {
    (NodeId::new(0xDA1).unwrap(), BootId::new(1, 0x5EED))
}

fn value(channel: usize, index: u64) -> i16 {
    ((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ channel as u64) >> 48) as i16
}

fn node() -> Node<'static> {
    let descriptor = |unit, rate_hz| ChannelDescriptor {
        unit,
        scale: 1.0,
        rate_mhz: rate_hz * 1_000,
        range: 32_768.0,
        band_low_hz: 0.0,
        band_high_hz: 80.0,
    };
    let table = Describe {
        revision: 1,
        channels: [
            descriptor(Unit::StandardGravity, RATES_HZ[0]),
            descriptor(Unit::DegreeCelsius, RATES_HZ[1]),
        ]
        .into_iter()
        .collect(),
    };
    let identity = Identity {
        node: key().0,
        boot: key().1,
        address: LineAddress(1),
        wiring: Wiring::Own,
        reset: ResetCause::PowerOn,
    };
    // Two minutes of vibration.
    let memory = NodeMemory::new(2 * ESSENTIAL_MIN, 64 << 10, table.channels.len()).leak();
    Node::new(identity, &table, memory).unwrap()
}

/// A bit for each sample.
#[derive(Default)]
struct Stored(Vec<u64>);

impl Stored {
    fn insert(&mut self, index: u64) {
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// The agent's end of the line. What it has flushed outlives its process.
struct Agent {
    line: Line,
    intake: Intake,
    flushing: VecDeque<(Duration, BTreeMap<BootKey, Upto>)>,
    stored: [Stored; 2],
    status: Option<Status>,
}

impl Agent {
    fn new(master: u64) -> Self {
        let mut line = Line::new(MasterId(master), AgentWiring::Own, 921_600, STEP);
        line.handle_opened();
        Self {
            line,
            intake: Intake::default(),
            flushing: VecDeque::new(),
            stored: Default::default(),
            status: None,
        }
    }

    fn handle_bytes(&mut self, mut bytes: &[u8], now: Duration) {
        let Self {
            line,
            intake,
            stored,
            status,
            ..
        } = self;
        let mut take = |channel: usize, index, sample| {
            assert_eq!(sample, value(channel, index), "{index} of channel {channel}");
            stored[channel].insert(index);
        };
        while !bytes.is_empty() {
            let Some(Heard::Frame(raw, Some(payload))) = line.handle_bytes(&mut bytes, now) else {
                continue;
            };
            if intake.handle_frame(raw.header(), Some(&payload), now).fate != Fate::New {
                continue;
            }
            match payload {
                Payload::Waveform(waveform) => {
                    for (index, sample) in (waveform.first_sample..).zip(waveform.samples().unwrap()) {
                        take(0, index, sample);
                    }
                }
                Payload::Scalar(scalar) => {
                    for (index, reading) in (scalar.first_sample..).zip(&scalar.readings) {
                        take(1, index, reading.unwrap() as i16);
                    }
                }
                Payload::Status(last) => *status = Some(last),
                _ => {}
            }
        }
        self.flushing.push_back((now + FLUSH, self.intake.upto()));
    }

    /// What it says to the node now.
    fn poll(&mut self, now: Duration) -> Vec<u8> {
        while self.flushing.front().is_some_and(|(at, _)| *at <= now) {
            let (_, upto) = self.flushing.pop_front().unwrap();
            self.intake.handle_durable(&upto);
        }
        let upto = self.intake.durable(key());
        self.line.poll(upto, now).unwrap_or_default()
    }
}

/// What the line does to bytes.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Whole,
    /// Flipped bits in a million.
    Noisy(u64),
    Cut,
}

struct Day {
    node: Node<'static>,
    agent: Agent,
    chance: Chance,
    wire: Wire,
    produced: [u64; 2],
    missed: u64,
}

impl Day {
    fn carry(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self.wire {
            Wire::Whole => {}
            Wire::Cut => bytes.clear(),
            Wire::Noisy(per_million) => {
                for byte in &mut bytes {
                    for bit in 0..8 {
                        *byte ^= u8::from(self.chance.below(1_000_000) < per_million) << bit;
                    }
                }
            }
        }
        bytes
    }

    fn sample(&mut self, ticks: NodeTicks) {
        for (at, rate_hz) in RATES_HZ.into_iter().enumerate() {
            let count = u64::from(rate_hz) * STEP.as_millis() as u64 / 1_000;
            let indices = self.produced[at]..self.produced[at] + count;
            // Once in an hour the sensor's queue runs over.
            if at == 0 && self.chance.one_in(14_400) {
                self.missed += count;
                self.node
                    .handle_missed(channel(0), count, Missed::Overrun)
                    .unwrap();
            } else if at == 0 {
                let samples: Vec<i16> = indices.map(|index| value(0, index)).collect();
                self.node.handle_samples(channel(0), ticks, &samples).unwrap();
            } else {
                let readings: Vec<_> = indices.map(|index| Ok(f32::from(value(1, index)))).collect();
                self.node.handle_readings(channel(1), ticks, &readings).unwrap();
            }
            self.produced[at] += count;
        }
    }

    fn exchange(&mut self, now: Duration) {
        let ticks = NodeTicks(now.as_micros() as u64);
        let poll = self.agent.poll(now);
        let poll = self.carry(poll);
        self.node.handle_bytes(ticks, &poll);
        let mut out = [0; LINE_FRAME_MAX];
        loop {
            let length = self.node.poll_transmit(ticks, &mut out);
            if length == 0 {
                return;
            }
            let bytes = self.carry(out[..length].to_vec());
            self.agent.handle_bytes(&bytes, now);
        }
    }

    /// The agent's process ends, and another goes on from its disk.
    fn restart_agent(&mut self, master: u64) {
        let former = std::mem::replace(&mut self.agent, Agent::new(master));
        for cursor in former.intake.cursors(|_| None) {
            self.agent.intake.restore(&cursor);
        }
        self.agent.stored = former.stored;
    }
}

#[test]
fn of_a_day_of_a_node_every_sample_is_stored_or_lost_for_a_cause() {
    let mut day = Day {
        node: node(),
        agent: Agent::new(1),
        chance: Chance::new(24),
        wire: Wire::Whole,
        produced: [0; 2],
        missed: 0,
    };
    let (mut now, mut restarts, mut next_change) = (Duration::ZERO, 1, Duration::ZERO);
    while now < DAY {
        now += STEP;
        if next_change <= now {
            next_change = now + day.chance.millis(1_000, 1_800_000);
            day.wire = match day.chance.below(5) {
                0 => Wire::Cut,
                1 => Wire::Noisy(100),
                2 => Wire::Noisy(1_000),
                _ => Wire::Whole,
            };
            if day.chance.one_in(4) {
                restarts += 1;
                day.restart_agent(restarts);
            }
        }
        day.sample(NodeTicks(now.as_micros() as u64));
        day.exchange(now);
    }
    assert!(restarts > 5, "{restarts}");

    // Nothing is sampled any more, and what is held comes through.
    day.wire = Wire::Whole;
    let night = now + Duration::from_secs(120);
    while now < night {
        now += STEP;
        day.exchange(now);
    }
    let status = day.agent.status.clone().unwrap();
    for (at, produced) in day.produced.into_iter().enumerate() {
        let account = day.node.account(channel(at)).unwrap();
        let lost = account.dropped_total();
        let stored = day.agent.stored[at].count();
        // At the node: produced = acknowledged + lost.
        assert_eq!((account.produced, account.held), (produced, 0), "{account:?}");
        assert_eq!(produced, account.acknowledged + lost, "{account:?}");
        // At the agent: some frames came and were given up before their acknowledgement did.
        let came_all_the_same = stored - account.acknowledged;
        assert_eq!(produced, stored + lost - came_all_the_same);
        assert!(came_all_the_same <= lost, "{stored} {account:?}");
        // The node's last word says the same, cause by cause.
        assert_eq!(status.channels[at].produced, produced);
        assert_eq!(status.channels[at].held_from, produced);
        assert_eq!(status.channels[at].drops, account.dropped);
        let of = |wanted| {
            account
                .dropped
                .iter()
                .find(|(cause, _)| *cause == wanted)
                .map_or(0, |drop| drop.1)
        };
        let overrun = if at == 0 { day.missed } else { 0 };
        assert_eq!(of(LossCause::SensorOverrun), overrun);
        assert_eq!(of(LossCause::OutboxFull), lost - overrun);
        assert!(lost > 0 && stored > produced / 2, "{stored} {account:?}");
    }
    assert_eq!(day.produced, [86_400 * 200, 86_400 * 4]);
}
