//! What the agent's spool gives up, the collector's ledger explains: the real gateway and the real
//! pipeline, with a disk and a network in between that do what this file says.
#![allow(
    clippy::unwrap_used,
    reason = "a test: what is unwrapped was written a few lines above"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use trunnion_agent::block::{Block, BlockKey};
use trunnion_agent::clock::Now;
use trunnion_agent::config::Config;
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::gateway::{Action, Gateway, encode_message};
use trunnion_agent::metrics::Metrics;
use trunnion_agent::mqtt::MqttEvent;
use trunnion_agent::port::PortEvent;
use trunnion_agent::retention::{Decision, Usage};
use trunnion_agent::spool::{ReadError, Recovered, Reply, Request};
use trunnion_collector::journal::{Commit, Entry, Position};
use trunnion_collector::pipeline::{Output, Pipeline};
use trunnion_collector::state::{
    Batch, SeriesKey, SeriesQuery, SeriesValue, Source, State, StateReader, UNASSIGNED,
};
use trunnion_common::ack::{Ack, AckLevel};
use trunnion_common::block::{Block as Parsed, Body};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{
    ChannelDescriptor, ChannelStatus, Class, Describe, Event, EventKind, FRAME_MAX, Header, Packing, Payload,
    ResetCause, Severity, Status, TimeReply, Waveform, encode,
};
use trunnion_common::id::{
    BootId, ChannelId, Epoch, GatewayId, JournalId, LineAddress, MasterId, Name, NodeId,
};
use trunnion_common::quantity::Unit;
use trunnion_common::sample::LossCause;
use trunnion_common::sequence::{Range, SequenceSet};
use trunnion_common::time::{EventTime, NodeTicks};
use trunnion_common::topic;

const WAVEFORMS: Epoch = Epoch(2);
const FRAME_SAMPLES: u64 = 400;

struct World {
    gateway: Gateway,
    id: GatewayId,
    mono: Duration,
    disk: BTreeMap<BlockKey, Block>,
    sequences: [u64; 2],
    connection: u64,
    pipeline: Pipeline,
    received: BTreeMap<Epoch, SequenceSet>,
    outputs: Vec<Output>,
    commits: u64,
}

impl World {
    fn new() -> Self {
        let id = GatewayId {
            site: Name::new("plant").unwrap(),
            gateway: Name::new("gw-1").unwrap(),
        };
        let enrolment = Enrolment {
            gateway: id.clone(),
            endpoints: Vec::new(),
            ca: Vec::new(),
            certificate: Vec::new(),
            key: Arc::new(rustls::pki_types::PrivatePkcs8KeyDer::from(Vec::new()).into()),
        };
        let config = Config::with_defaults(enrolment, "unused".into(), vec!["unused".into()]);
        let recovered = Recovered {
            current: [(Epoch(1), 0), (WAVEFORMS, 0)],
            blocks: BTreeMap::new(),
            epochs: Vec::new(),
            cursors: Vec::new(),
            journals: Vec::new(),
            quarantined: Vec::new(),
            discarded: 0,
        };
        let start = now(Duration::ZERO);
        let gateway = Gateway::new(&config, recovered, MasterId(7), Metrics::default(), start);
        let mut world = Self {
            gateway,
            id,
            mono: Duration::ZERO,
            disk: BTreeMap::new(),
            sequences: [0; 2],
            connection: 0,
            pipeline: Pipeline::new(),
            received: BTreeMap::new(),
            outputs: Vec::new(),
            commits: 0,
        };
        world.gateway.handle_port(0, PortEvent::Opened, start);
        world.pump();
        world
    }

    /// The disk does at once what it is asked for; what is published is committed and acknowledged.
    fn pump(&mut self) {
        while let Some(action) = self.gateway.poll(now(self.mono)) {
            match action {
                Action::Write(_, bytes) => self.answer(&bytes),
                Action::Spool(request) => self.spool(request),
                Action::Connect { connection, .. } => self.connection = connection,
                Action::PublishBlock(_, bytes) => self.collect(&bytes),
                Action::Subscribe
                | Action::Publish(..)
                | Action::Disconnect
                | Action::Keep(_)
                | Action::Listen(..)
                | Action::Advise { .. }
                | Action::Search(_) => {}
            }
        }
    }

    fn spool(&mut self, request: Request) {
        let reply = match request {
            Request::Commit(commit) => {
                let blocks = commit.blocks.into_iter().map(|block| (block.key, block));
                self.disk.extend(blocks);
                Reply::Committed(commit.class, commit.number)
            }
            Request::Acknowledge { epoch, .. } => Reply::Freed(epoch),
            Request::Read(key) => {
                let block = self.disk.get(&key).map(|block| block.bytes.clone());
                Reply::Read(key, block.ok_or_else(|| ReadError::Lost("evicted".to_owned())))
            }
            Request::KeepAlarms(_) => Reply::AlarmsKept(true),
            Request::Bury(_) | Request::Evict(_) => return,
        };
        self.gateway.handle_spool(reply, now(self.mono));
    }

    /// The node's answer to a request for its time.
    fn answer(&mut self, bytes: &[u8]) {
        let mut buffer = [0; LINE_FRAME_MAX];
        let mut decoder = Decoder::new(&mut buffer);
        if let Payload::TimeRequest(request) = decoder.feed(bytes).frame.unwrap().unwrap().payload().unwrap()
        {
            let ticks = self.ticks();
            let reply = TimeReply {
                request: request.request,
                received: ticks,
                sent: ticks,
            };
            self.node(Class::Essential, &Payload::TimeReply(reply));
        }
    }

    fn ticks(&self) -> NodeTicks {
        NodeTicks(self.mono.as_micros() as u64)
    }

    fn node(&mut self, class: Class, payload: &Payload<'_>) {
        let sequence = self.sequences[class.index()];
        self.sequences[class.index()] += 1;
        self.frame(class, sequence, payload);
    }

    /// A frame of the node, for the first time or again.
    fn frame(&mut self, class: Class, sequence: u64, payload: &Payload<'_>) {
        let header = Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(9).unwrap(),
            boot: BootId::new(1, 1),
            class,
            sequence,
            ticks: NodeTicks(self.mono.as_micros() as u64),
        };
        let (mut raw, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        let bytes = stuff(encode(&header, payload, &mut raw).unwrap(), &mut line).unwrap();
        let arrived = now(self.mono);
        let event = PortEvent::Bytes(bytes.to_vec().into(), arrived);
        self.gateway.handle_port(0, event, arrived);
        self.pump();
    }

    fn waveform(&mut self) {
        let first_sample = self.sequences[1] * FRAME_SAMPLES;
        let waveform = Waveform {
            revision: 1,
            channel: ChannelId::new(0).unwrap(),
            first_sample,
            count: FRAME_SAMPLES as u16,
            packing: Packing::I16,
            data: &[1; 2 * FRAME_SAMPLES as usize],
        };
        self.node(Class::Waveform, &Payload::Waveform(waveform));
        self.advance(Duration::from_millis(300));
    }

    fn advance(&mut self, by: Duration) {
        let end = self.mono + by;
        while self.gateway.next_timeout() <= end {
            self.mono = self.mono.max(self.gateway.next_timeout());
            self.pump();
        }
        self.mono = end;
        self.pump();
    }

    /// The node says that it has nothing left.
    fn status(&mut self) {
        let produced = self.sequences[1] * FRAME_SAMPLES;
        let channel = ChannelStatus {
            produced,
            held_from: produced,
            drops: Default::default(),
        };
        let status = Status {
            channels: [channel].into_iter().collect(),
            held: Default::default(),
            next: [self.sequences[0] + 1, self.sequences[1]],
            outbox_used: 0,
            outbox_capacity: 0,
            reset: ResetCause::PowerOn,
        };
        self.node(Class::Essential, &Payload::Status(status));
    }

    fn connect(&mut self) {
        for event in [MqttEvent::Connected, MqttEvent::Subscribed] {
            self.gateway
                .handle_mqtt(self.connection, event, 0, now(self.mono));
            self.pump();
        }
        self.acknowledge(Epoch(1));
    }

    /// Commits a block, and everything adds up.
    fn collect(&mut self, bytes: &[u8]) {
        let block = Parsed::parse(bytes).unwrap();
        let epoch = block.envelope.epoch;
        let _ = self
            .received
            .entry(epoch)
            .or_default()
            .insert(block.envelope.sequence);
        if let Body::Tombstone(tombstone) = block.decode().unwrap() {
            let set = self.received.entry(tombstone.epoch).or_default();
            let _ = set.insert_range(tombstone.blocks);
        }
        let at = |offset| Position {
            offset,
            ..Position::default()
        };
        let entry = Entry::Block {
            gateway: self.id.clone(),
            bytes: bytes.to_vec().into(),
        };
        self.commits += 1;
        let commit = Commit {
            time: now(self.mono).utc,
            entries: vec![(at(self.commits), entry)],
            end: at(self.commits + 1),
        };
        self.outputs.extend(self.pipeline.apply(&commit));
        assert_eq!(self.pipeline.unexplained(), 0, "after block {:?}", block.envelope);
        self.acknowledge(epoch);
    }

    fn acknowledge(&mut self, epoch: Epoch) {
        let ack = Ack {
            epoch,
            received: self.received.get(&epoch).cloned().unwrap_or_default(),
            credit_bytes: 1 << 20,
            utc: EventTime(0),
            journal: JournalId(3).into(),
            level: AckLevel::Local,
        };
        let event = MqttEvent::Message(topic::Kind::Ack, encode_message(&ack).into());
        self.gateway
            .handle_mqtt(self.connection, event, 0, now(self.mono));
    }
}

fn now(mono: Duration) -> Now {
    Now {
        mono,
        utc: EventTime(1_700_000_000_000_000_000 + mono.as_nanos() as i64),
    }
}

/// The collector's tables of these outputs, and the folder that they stand in.
fn tables(outputs: &[Output]) -> (tempfile::TempDir, StateReader) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    let mut state = State::open(&path).unwrap();
    let mut batch = Batch::default();
    for output in outputs.iter().cloned() {
        match output {
            Output::Features(row) => batch.features.push(row),
            Output::Derived(row) => batch.derived.push(row),
            Output::Alarm(row) => batch.alarms.push(row),
            _ => {}
        }
    }
    state.write(&batch).unwrap();
    (dir, State::open_reader(&path).unwrap())
}

/// The mean of the one channel as the collector's tables have it.
fn mean_series(outputs: &[Output]) -> Vec<SeriesValue> {
    let query = SeriesQuery {
        series: SeriesKey {
            asset: UNASSIGNED.to_owned(),
            point: NodeId::new(9).unwrap().to_string(),
            channel: "0".to_owned(),
        },
        stream: String::new(),
        feature: "mean".to_owned(),
        definition: None,
        from: EventTime(0),
        to: EventTime(i64::MAX),
        limit: 1_000,
    };
    let (_dir, reader) = tables(outputs);
    reader.series(&query).unwrap()
}

#[test]
fn evicted_samples_are_lost_by_that_name_and_nothing_is_unexplained_on_the_way() {
    let mut world = World::new();
    let channel = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: 0.001,
        rate_mhz: 1_333_000,
        range: 16.0,
        band_low_hz: 1.0,
        band_high_hz: 500.0,
    };
    let describe = Describe {
        revision: 1,
        channels: [channel].into_iter().collect(),
    };
    world.node(Class::Essential, &Payload::Describe(describe));
    for _ in 0..10 {
        world.waveform();
    }
    world.connect();
    for _ in 0..10 {
        world.waveform();
    }
    let gone = MqttEvent::Disconnected("outage".to_owned());
    world
        .gateway
        .handle_mqtt(world.connection, gone, 0, now(world.mono));
    for _ in 0..30 {
        world.waveform();
    }
    // Of what piled up in the outage, the oldest ten go.
    let received = world.received[&WAVEFORMS].clone();
    let left = |key: &&BlockKey| key.epoch == WAVEFORMS && !received.contains(key.sequence);
    let blocks: Vec<BlockKey> = world.disk.keys().filter(left).take(10).copied().collect();
    assert_eq!(blocks.len(), 10);
    let evicted: BTreeSet<BlockKey> = blocks.iter().copied().collect();
    let samples: u64 = blocks
        .iter()
        .flat_map(|key| &world.disk[key].index.samples)
        .map(|(.., samples, _): &(_, _, _, u64, Range)| *samples)
        .sum();
    world
        .gateway
        .handle_spool(Reply::Evicting(1, blocks), now(world.mono));
    world.pump();
    world.disk.retain(|key, _| !evicted.contains(key));
    world.advance(Duration::from_secs(2));
    world.connect();
    for _ in 0..5 {
        world.waveform();
    }
    world.status();
    world.advance(Duration::from_secs(3));

    let row = world.outputs.iter().rev().find_map(|output| match output {
        Output::Ledger(row) => Some(row.clone()),
        _ => None,
    });
    let row = row.expect("the channel has a row");
    assert_eq!(samples, 10 * FRAME_SAMPLES);
    assert_eq!(row.produced, 55 * FRAME_SAMPLES);
    assert_eq!(row.lost, [(LossCause::SpoolEvicted, samples)]);
    assert_eq!((row.stored, row.pending), (row.produced - samples, 0));
    assert_eq!((row.unexplained, row.duplicated), (0, 0));

    // What the samples said is left, and shown where they are missing and nowhere else.
    let values = mean_series(&world.outputs);
    let agents = || values.iter().filter(|value| value.source == Source::Agent);
    assert!(agents().count() >= 2, "{values:?}");
    assert!(
        values.iter().all(|value| (value.value - 0.257).abs() < 1e-3),
        "{values:?}"
    );
    for pair in values.windows(2) {
        // Neighbouring stretches of an agent's meet as exactly as their frames' clock stamps do.
        let agents = pair.iter().all(|value| value.source == Source::Agent);
        let tolerance = if agents { 1_000_000 } else { 0 };
        assert!(
            pair[1].start.nanos_since(pair[0].end) >= -tolerance,
            "no time is shown twice: {pair:?}"
        );
    }
    let shown: i64 = values
        .iter()
        .map(|value| value.end.nanos_since(value.start))
        .sum();
    let lived = values[values.len() - 1].end.nanos_since(values[0].start);
    // The node paused for two seconds, and at both ends of what was evicted a window and a stretch do
    // not meet.
    assert!(lived - shown < 4_000_000_000, "{values:?}");
}

#[test]
fn an_alarm_reaches_the_collector_when_nothing_else_is_taken_in_and_is_shown_once() {
    let mut world = World::new();
    let room = |world: &mut World, decision| {
        let reply = Reply::Room(Usage::default(), decision);
        world.gateway.handle_spool(reply, now(world.mono));
        world.pump();
    };
    let alarm = |value| {
        Payload::Event(Event {
            severity: Severity::Alarm,
            kind: EventKind::LimitExceeded,
            channel: ChannelId::new(0),
            repeats: 1,
            value,
        })
    };
    // An outage, and the spool has filled up with essentials.
    room(&mut world, Decision::StopIntake);
    for again in 0..5 {
        for sequence in 0..3 {
            world.frame(Class::Essential, sequence, &alarm(sequence as f32));
        }
        world.advance(Duration::from_secs(2 + again));
    }
    world.connect();
    world.advance(Duration::from_secs(3));
    let told = |world: &World| {
        let (_dir, reader) = tables(&world.outputs);
        let alarms = reader.alarms(None, 10).unwrap();
        alarms
            .into_iter()
            .map(|alarm| (alarm.kind, alarm.channel, alarm.repeats, alarm.value))
            .collect::<Vec<_>>()
    };
    let expected = [("limit_exceeded".to_owned(), Some(0), 3, 2.0)];
    assert_eq!(told(&world), expected);
    assert_eq!(
        world.pipeline.counters().node_events,
        0,
        "the frames are with the node"
    );
    // With room again the frames themselves come, and change nothing of what is shown.
    room(&mut world, Decision::Keep);
    for sequence in 0..3 {
        world.frame(Class::Essential, sequence, &alarm(sequence as f32));
    }
    world.advance(Duration::from_secs(3));
    assert_eq!(world.pipeline.counters().node_events, 3);
    assert_eq!(told(&world), expected);
}
