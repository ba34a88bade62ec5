//! What a backlog costs in memory and in time per event, measured on the real state machines.
//!
//! A binary of its own with one test, because it measures its process.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use trunnion_agent::block::{Block, BlockKey, Index};
use trunnion_agent::clock::Now;
use trunnion_agent::config::{Config, DRAIN};
use trunnion_agent::drain::{Drain, Order};
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::gateway::{Action, Gateway, encode_message};
use trunnion_agent::inventory::Inventory;
use trunnion_agent::metrics::Metrics;
use trunnion_agent::mqtt::MqttEvent;
use trunnion_agent::publisher::Publisher;
use trunnion_agent::spool::{FormerEpoch, Recovered, Reply, Request};
use trunnion_common::ack::{Ack, AckLevel};
use trunnion_common::block::Kind;
use trunnion_common::frame::Class;
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, JournalId, MasterId, Name, NodeId};
use trunnion_common::sequence::{Range, Ranges, SequenceSet};
use trunnion_common::time::EventTime;
use trunnion_common::topic;

const FORMER: Epoch = Epoch(1);
const CURRENT: [(Epoch, u64); 2] = [(Epoch(2), 0), (Epoch(3), 0)];

/// A block of one node with three channels, an hour old.
fn index(sequence: u64) -> Index {
    let (node, boot) = (NodeId::new(9).unwrap(), BootId::from_u64(1 << 40));
    let mut frames = Ranges::new();
    frames
        .push(Range::new(70 * sequence, 70 * sequence + 70).unwrap())
        .unwrap();
    let samples = (0..3).map(|channel| {
        let range = Range::new(10_000 * sequence, 10_000 * (sequence + 1)).unwrap();
        (node, boot, ChannelId::new(channel).unwrap(), 10_000, range)
    });
    Index {
        frames: vec![(node, boot, Class::Waveform, frames)],
        samples: samples.collect(),
        buries: None,
        stand_in: None,
        made: EventTime(0),
    }
}

const fn key(sequence: u64) -> BlockKey {
    BlockKey {
        epoch: FORMER,
        sequence,
    }
}

fn config() -> Config {
    let name = |text| Name::new(text).unwrap();
    let enrolment = Enrolment {
        gateway: GatewayId {
            site: name("plant"),
            gateway: name("gw-1"),
        },
        endpoints: Vec::new(),
        ca: Vec::new(),
        certificate: Vec::new(),
        key: Arc::new(rustls::pki_types::PrivatePkcs8KeyDer::from(Vec::new()).into()),
    };
    Config {
        drain: Drain {
            order: Order::NewestFirst,
            ..DRAIN
        },
        ..Config::with_defaults(enrolment, "unused".into(), Vec::new())
    }
}

const fn now(mono: Duration) -> Now {
    Now {
        mono,
        utc: EventTime(1_800_000_000_000_000_000 + mono.as_nanos() as i64),
    }
}

fn recovered(blocks: u64) -> Recovered {
    Recovered {
        current: CURRENT,
        blocks: (0..blocks).map(|n| (key(n), (65_000, index(n)))).collect(),
        epochs: vec![FormerEpoch {
            epoch: FORMER,
            class: Class::Waveform,
            next: blocks,
            freed_by: None,
        }],
        cursors: Vec::new(),
        journals: Vec::new(),
        quarantined: Vec::new(),
        discarded: 0,
    }
}

/// A gateway with so many blocks to send, and a collector that acknowledges eight at a time.
struct Drained {
    gateway: Gateway,
    mono: Duration,
    connection: u64,
    epochs: BTreeSet<Epoch>,
    received: BTreeMap<Epoch, SequenceSet>,
    published: u64,
    events: u64,
}

impl Drained {
    fn new(blocks: u64) -> Self {
        let mono = Duration::ZERO;
        let gateway = Gateway::new(
            &config(),
            recovered(blocks),
            MasterId(1),
            Metrics::default(),
            now(mono),
        );
        let mut drained = Self {
            gateway,
            mono,
            connection: 0,
            epochs: BTreeSet::new(),
            received: BTreeMap::new(),
            published: 0,
            events: 0,
        };
        drained.pump();
        drained.event(MqttEvent::Connected);
        drained.event(MqttEvent::Subscribed);
        for epoch in [FORMER, CURRENT[0].0, CURRENT[1].0] {
            drained.ack(epoch);
        }
        drained
    }

    fn event(&mut self, event: MqttEvent) {
        self.events += 1;
        self.gateway
            .handle_mqtt(self.connection, event, 0, now(self.mono));
        self.pump();
    }

    fn ack(&mut self, epoch: Epoch) {
        let ack = Ack {
            epoch,
            received: self.received.entry(epoch).or_default().clone(),
            credit_bytes: 4 << 20,
            utc: EventTime(0),
            journal: JournalId(1).into(),
            level: AckLevel::Local,
        };
        let payload = encode_message(&ack).into();
        self.event(MqttEvent::Message(topic::Kind::Ack, payload));
    }

    fn pump(&mut self) {
        while let Some(action) = self.gateway.poll(now(self.mono)) {
            let reply = match action {
                Action::Connect { connection, .. } => {
                    self.connection = connection;
                    None
                }
                Action::Spool(Request::Commit(commit)) => Some(Reply::Committed(commit.class, commit.number)),
                Action::Spool(Request::Acknowledge { epoch, .. }) => Some(Reply::Freed(epoch)),
                Action::Spool(Request::Read(key)) => {
                    // Small ones: this is about how many there are.
                    let block = Block::new(key, Kind::Frames, &[0; 64], Index::default());
                    Some(Reply::Read(key, Ok(block.bytes)))
                }
                Action::PublishBlock(key, bytes) => {
                    self.note(key, &bytes);
                    None
                }
                _ => None,
            };
            if let Some(reply) = reply {
                self.events += 1;
                self.gateway.handle_spool(reply, now(self.mono));
            }
        }
    }

    fn note(&mut self, key: BlockKey, bytes: &Bytes) {
        assert!(!bytes.is_empty());
        self.published += 1;
        let _ = self.received.entry(key.epoch).or_default().insert(key.sequence);
        self.epochs.insert(key.epoch);
    }

    /// Goes on until so many events have happened.
    fn run(&mut self, events: u64) {
        let end = self.events + events;
        while self.events < end {
            self.mono += Duration::from_millis(5);
            let before = self.published;
            for epoch in std::mem::take(&mut self.epochs) {
                self.ack(epoch);
            }
            if self.published == before {
                self.mono = self.mono.max(self.gateway.next_timeout());
                self.pump();
                self.events += 1;
            }
        }
    }
}

/// Nanoseconds that this thread has had of a processor.
fn cpu() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a number") * 1_024
}

/// Processor time of the events, at the best of a few attempts: others use the machine as well.
fn cost(blocks: u64) -> u64 {
    let attempt = || {
        let mut drained = Drained::new(blocks);
        let before = cpu();
        drained.run(2_000);
        let cost = cpu() - before;
        assert!(drained.published > 500, "{} blocks", drained.published);
        cost
    };
    (0..5).map(|_| attempt()).min().expect("some")
}

#[test]
fn a_backlog_costs_little_memory_and_no_time_per_event() {
    const GIBIBYTE: u64 = 16_384;
    let before = resident_bytes();
    let mut inventory = Inventory::default();
    let mut publisher = Publisher::new(DRAIN, CURRENT, &recovered(0).epochs);
    for sequence in 0..4 * GIBIBYTE {
        inventory.insert(key(sequence), &index(sequence));
        publisher.handle_stored(key(sequence), 65_000, Duration::MAX, Duration::ZERO);
    }
    let bytes = resident_bytes().saturating_sub(before) / 4;
    println!("{bytes} bytes of memory for a backlog of 1 GiB");
    assert!(bytes < 3 << 20, "{bytes}");
    drop((inventory, publisher));

    let (few, many) = (cost(2_000), cost(200_000));
    println!("{few} ns for 2,000 events beside 2,000 blocks, {many} ns beside 200,000");
    // Work for each held block would make it a hundred times as much.
    assert!(
        many < 10 * few,
        "{few} ns beside 2,000 blocks, {many} ns beside 200,000"
    );
}
