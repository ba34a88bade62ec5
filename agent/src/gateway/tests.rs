//! A gateway between a scripted node, a disk whose confirmations are given by hand, and a collector.

mod introduction;
mod listening;
mod pace;
mod room;
mod shared_line;
mod silence;
mod watching;

use super::*;
use crate::config::{BlockLimits, PortConfig};
use crate::enrolment::Enrolment;
use crate::floor::Floor;
use crate::gateway::lines::REPORT_AGE;
use crate::port::PortEvent;
use crate::retention::Usage;
use crate::spool::FormerEpoch;
use std::sync::Arc;
use trunnion_common::ack::{AckLevel, Hello, JournalMark};
use trunnion_common::block::{self, Body, Holding, Tombstone};
use trunnion_common::codec::{Decoder, LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{
    Class, FRAME_MAX, Header, Packing, Payload, Poll, RawFrame, TimeReply, Waveform, encode as frame,
};
use trunnion_common::id::{BootId, ChannelId, GatewayId, JournalId, LineAddress, Name, NodeId};
use trunnion_common::message::GatewayClock;
use trunnion_common::sequence::Range;
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};
use trunnion_diagnosis::features::Analyzer;

const JOURNAL: JournalId = JournalId(1);
const WAVEFORMS: Epoch = Epoch(8);
/// The gateway's clock at its start.
const UTC: i64 = 1_700_000_000_000_000_000;

fn config() -> Config {
    let name = |text| Name::new(text).unwrap();
    Config {
        enrolment: Enrolment {
            gateway: GatewayId {
                site: name("plant"),
                gateway: name("gw-1"),
            },
            endpoints: Vec::new(),
            ca: Vec::new(),
            certificate: Vec::new(),
            key: Arc::new(rustls::pki_types::PrivatePkcs8KeyDer::from(Vec::new()).into()),
        },
        state_dir: "unused".into(),
        ports: vec![PortConfig {
            path: "unused".into(),
            baud: 0,
            wiring: Default::default(),
        }],
        block: BlockLimits {
            bytes: 65_536,
            age: Duration::from_millis(200),
        },
        retention: crate::config::RETENTION,
        derive: crate::config::DERIVE,
        flash_endurance_bytes: None,
        drain: crate::config::DRAIN,
        relay: None,
        metrics_listen: None,
        poll_interval: Duration::from_millis(100),
        clock_sync_interval: Duration::from_secs(5),
        heartbeat_interval: Duration::from_secs(10),
    }
}

struct World {
    gateway: Gateway,
    metrics: Metrics,
    mono: Duration,
    /// What the disk has been asked to commit and has not confirmed.
    unflushed: Vec<Commit>,
    /// What the disk holds.
    disk: BTreeMap<BlockKey, Block>,
    /// The file of alarms, and whether the disk takes it.
    alarms: Vec<u8>,
    refuses_alarms: bool,
    cursors: Vec<crate::intake::Cursor>,
    freed: Vec<(Epoch, SequenceSet)>,
    buried: Vec<BlockKey>,
    evicted: Vec<u32>,
    polls: Vec<Poll>,
    paces: Vec<Pace>,
    requests: Vec<u32>,
    discoveries: usize,
    assigned: Vec<LineAddress>,
    hellos: Vec<Hello>,
    published: Vec<BlockKey>,
    /// Of those, in the same order.
    lanes: Vec<Lane>,
    connects: Vec<usize>,
    connection: u64,
    advised: Vec<(Vec<LocalWord>, Duration)>,
    /// What acknowledgements say that it is.
    utc: i64,
    /// Which journal they come from.
    journal: JournalMark,
}

impl World {
    fn new(recovered: Recovered) -> Self {
        Self::with(&config(), recovered)
    }

    fn with(config: &Config, recovered: Recovered) -> Self {
        let metrics = Metrics::default();
        let mono = Duration::ZERO;
        let mut world = Self {
            gateway: Gateway::new(config, recovered, MasterId(77), metrics.clone(), now(mono)),
            metrics,
            mono,
            unflushed: Vec::new(),
            disk: BTreeMap::new(),
            alarms: Vec::new(),
            refuses_alarms: false,
            cursors: Vec::new(),
            freed: Vec::new(),
            buried: Vec::new(),
            evicted: Vec::new(),
            polls: Vec::new(),
            paces: Vec::new(),
            requests: Vec::new(),
            discoveries: 0,
            assigned: Vec::new(),
            hellos: Vec::new(),
            published: Vec::new(),
            lanes: Vec::new(),
            connects: Vec::new(),
            connection: 0,
            advised: Vec::new(),
            utc: 0,
            journal: JOURNAL.into(),
        };
        world.port(PortEvent::Opened);
        world
    }

    fn fresh() -> Self {
        Self::new(nothing())
    }

    fn pump(&mut self) {
        while let Some(action) = self.gateway.poll(now(self.mono)) {
            match action {
                Action::Write(_, bytes) => self.line(&bytes),
                Action::Listen(_, pace) => self.paces.push(pace),
                Action::Spool(Request::Commit(commit)) => self.unflushed.push(commit),
                Action::Spool(Request::Acknowledge { epoch, received, .. }) => {
                    self.freed.push((epoch, *received));
                    self.gateway.handle_spool(Reply::Freed(epoch), now(self.mono));
                }
                Action::Spool(Request::Bury(key)) => self.buried.push(key),
                Action::Spool(Request::Evict(directory)) => self.evicted.push(directory),
                Action::Spool(Request::Read(key)) => {
                    let read = match self.disk.get(&key) {
                        Some(block) => Ok(block.bytes.clone()),
                        None => Err(ReadError::Lost("test".to_owned())),
                    };
                    self.gateway.handle_spool(Reply::Read(key, read), now(self.mono));
                }
                Action::Spool(Request::KeepAlarms(image)) => {
                    let is_kept = !self.refuses_alarms;
                    if is_kept {
                        self.alarms = image;
                    }
                    let reply = Reply::AlarmsKept(is_kept);
                    self.gateway.handle_spool(reply, now(self.mono));
                }
                Action::Connect { connection, endpoint } => {
                    self.connection = connection;
                    self.connects.push(endpoint);
                }
                Action::Publish(topic::Kind::Hello, bytes) => {
                    self.hellos.push(message::decode(&bytes).unwrap());
                }
                Action::PublishBlock(key, bytes) => {
                    assert!(self.disk.contains_key(&key), "published before it was flushed");
                    let lane = block::Block::parse(&bytes).unwrap().lane();
                    assert_eq!(bytes, drain::in_lane(self.disk[&key].bytes.clone(), lane));
                    self.lanes.push(lane);
                    self.published.push(key);
                }
                Action::Subscribe | Action::Publish(..) | Action::Disconnect | Action::Keep(_) => {}
                Action::Advise { standing, closed } => self.advised.push((standing, closed)),
                Action::Search(window) => {
                    let searched = window.run(&mut Analyzer::new());
                    let now = now(self.mono);
                    self.gateway.handle_searched(&searched, Duration::ZERO, now);
                }
            }
        }
    }

    fn line(&mut self, bytes: &[u8]) {
        let mut buffer = [0; LINE_FRAME_MAX];
        let mut decoder = Decoder::new(&mut buffer);
        let mut rest = bytes;
        while !rest.is_empty() {
            let fed = decoder.feed(rest);
            rest = &rest[fed.taken..];
            match fed.frame.unwrap().unwrap().payload().unwrap() {
                Payload::Poll(poll) => self.polls.push(poll),
                Payload::TimeRequest(request) => self.requests.push(request.request),
                Payload::Discover => self.discoveries += 1,
                Payload::Assign(address) => self.assigned.push(address),
                other => panic!("not for a node: {other:?}"),
            }
        }
    }

    fn port(&mut self, event: PortEvent) {
        self.gateway.handle_port(0, event, now(self.mono));
        self.pump();
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

    fn flush(&mut self) {
        for commit in std::mem::take(&mut self.unflushed) {
            for block in commit.blocks {
                self.disk.insert(block.key, block);
            }
            self.cursors = commit.cursors;
            let reply = Reply::Committed(commit.class, commit.number);
            self.gateway.handle_spool(reply, now(self.mono));
        }
        self.pump();
    }

    fn connect(&mut self) {
        for event in [MqttEvent::Connected, MqttEvent::Subscribed] {
            self.gateway
                .handle_mqtt(self.connection, event, 0, now(self.mono));
            self.pump();
        }
    }

    fn ack(&mut self, upto: u64) {
        self.ack_epoch(Epoch(5), upto);
    }

    fn ack_epoch(&mut self, epoch: Epoch, upto: u64) {
        let mut received = SequenceSet::new();
        received.advance(upto);
        let ack = Ack {
            epoch,
            received,
            credit_bytes: 1 << 20,
            utc: EventTime(self.utc),
            journal: self.journal,
            level: AckLevel::Local,
        };
        self.message(topic::Kind::Ack, encode_message(&ack));
    }

    fn message(&mut self, kind: topic::Kind, payload: Vec<u8>) {
        let event = MqttEvent::Message(kind, payload.into());
        self.gateway
            .handle_mqtt(self.connection, event, 0, now(self.mono));
        self.pump();
    }

    fn node(&mut self, payload: &Payload<'_>, class: Class, sequence: u64) {
        let header = Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(9).unwrap(),
            boot: BootId::from_u64(3),
            class,
            sequence,
            ticks: NodeTicks(0),
        };
        let (mut raw, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        let bytes = stuff(frame(&header, payload, &mut raw).unwrap(), &mut line).unwrap();
        let arrived = now(self.mono);
        self.port(PortEvent::Bytes(Bytes::copy_from_slice(bytes), arrived));
    }

    fn waveform(&mut self, sequence: u64) {
        let data = [0; 200];
        let payload = Payload::Waveform(Waveform {
            revision: 1,
            channel: ChannelId::new(0).unwrap(),
            first_sample: 100 * sequence,
            count: 100,
            packing: Packing::I16,
            data: &data,
        });
        self.node(&payload, Class::Waveform, sequence);
    }

    fn time_reply(&mut self, sequence: u64) {
        let ticks = NodeTicks(self.mono.as_micros() as u64);
        let reply = TimeReply {
            request: *self.requests.last().unwrap(),
            received: ticks,
            sent: ticks,
        };
        self.node(&Payload::TimeReply(reply), Class::Essential, sequence);
    }

    /// The sequence after the last block of an epoch on disk.
    fn next(&self, epoch: Epoch) -> u64 {
        self.disk.keys().filter(|key| key.epoch == epoch).count() as u64
    }

    fn last_essential(&self) -> &Block {
        self.disk
            .iter()
            .rfind(|(key, _)| key.epoch == Epoch(5))
            .unwrap()
            .1
    }

    fn last_tombstone(&self) -> (BlockKey, Tombstone) {
        let tombstones = self.disk.iter().filter_map(|(key, block)| {
            let block = block::Block::parse(&block.bytes).unwrap();
            match block.decode().unwrap() {
                Body::Tombstone(tombstone) => Some((*key, tombstone)),
                _ => None,
            }
        });
        tombstones.last().unwrap()
    }

    fn kinds(&self) -> Vec<u8> {
        self.disk
            .values()
            .map(|block| block::Block::parse(&block.bytes).unwrap().envelope.kind)
            .collect()
    }

    fn frames(&self) -> Vec<(u64, u32)> {
        let mut frames = Vec::new();
        for block in self.disk.values() {
            if let Body::Frames(records) = block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
                for record in records.map(Result::unwrap) {
                    let header = *RawFrame::parse(record.frame).unwrap().header();
                    frames.extend((header.class == Class::Waveform).then_some((header.sequence, record.fix)));
                }
            }
        }
        frames
    }
}

/// What a spool recovers that never held anything.
fn nothing() -> Recovered {
    Recovered {
        current: [(Epoch(5), 0), (WAVEFORMS, 0)],
        blocks: BTreeMap::new(),
        epochs: Vec::new(),
        cursors: Vec::new(),
        journals: Vec::new(),
        quarantined: Vec::new(),
        discarded: 0,
    }
}

fn now(mono: Duration) -> Now {
    Now {
        mono,
        utc: EventTime(UTC + mono.as_nanos() as i64),
    }
}

fn describe() -> Payload<'static> {
    Payload::Describe(trunnion_common::frame::Describe {
        revision: 1,
        channels: heapless::Vec::new(),
    })
}

const AGE: Duration = Duration::from_millis(200);

#[test]
fn a_node_is_acknowledged_only_after_the_flush_and_at_once_then() {
    let mut world = World::fresh();
    world.waveform(0);
    world.waveform(1);
    world.advance(AGE);
    assert!(!world.polls.is_empty() && world.polls.iter().all(|poll| poll.upto == [0, 0]));
    assert!(world.disk.is_empty() && !world.unflushed.is_empty());
    world.flush();
    assert_eq!(world.polls.last().unwrap().upto, [0, 2]);
    assert_eq!(world.polls.last().unwrap().master, MasterId(77));
    assert_eq!(world.frames(), [(0, 0), (1, 0)]);
}

#[test]
fn nothing_is_published_before_its_flush_or_before_the_collector_has_spoken() {
    let mut world = World::fresh();
    world.pump();
    world.connect();
    world.waveform(0);
    world.advance(AGE);
    world.ack(0);
    assert!(world.published.is_empty(), "nothing is flushed");
    world.flush();
    assert!(!world.published.is_empty());
    assert_eq!(
        world.hellos[0].epochs[0].next, 0,
        "only what was flushed is listed"
    );
    let count = world.next(Epoch(5));
    world.ack(count);
    assert_eq!(world.freed.last().unwrap().1.upto(), count);
}

#[test]
fn a_clock_fix_comes_before_the_frames_that_name_it() {
    let mut world = World::fresh();
    world.waveform(0);
    for sequence in 0..4 {
        world.advance(Duration::from_millis(50));
        world.time_reply(sequence);
    }
    // A change of quality makes the next exchange a fix.
    world.gateway.handle_quality(ClockQuality::Synchronised);
    world.advance(Duration::from_secs(5));
    world.time_reply(4);
    world.waveform(1);
    world.advance(AGE);
    world.flush();
    let mut fixes = 0;
    for block in world.disk.values() {
        match block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
            Body::ClockFix(fix) => {
                assert_eq!(fix.number, fixes);
                fixes += 1;
            }
            Body::Frames(records) => {
                for record in records.map(Result::unwrap) {
                    assert!(record.fix == 0 || record.fix < fixes);
                }
            }
            _ => {}
        }
    }
    assert!(fixes >= 2);
    assert_eq!(world.frames(), [(0, 0), (1, fixes - 1)]);
}

#[test]
fn a_cold_boot_dates_nothing_until_the_collector_says_what_time_it_is() {
    let mut world = World::fresh();
    let (utc, year) = (UTC + 10 * 86_400_000_000_000, 365 * 86_400_000_000_000);
    world
        .gateway
        .handle_timekeeper(Timekeeper::new(Floor::new(Some(EventTime(utc)), EventTime(0))));
    world.waveform(0);
    for sequence in 0..4 {
        world.advance(Duration::from_millis(50));
        world.time_reply(sequence);
    }
    world.advance(AGE);
    world.flush();
    assert_eq!(world.metrics.clock_fixes.get(), 0);
    assert_eq!(world.frames(), [(0, 0)]);

    world.connect();
    world.gateway.floor_mut().handle_verified(EventTime(utc + year));
    world.utc = utc + year / 2;
    world.ack(0);
    world.advance(AGE);
    world.flush();
    let fixes: Vec<ClockFix> = world.disk.values().filter_map(fix_of).collect();
    assert_eq!(fixes.len(), 1, "{fixes:?}");
    assert_eq!((fixes[0].number, fixes[0].quality), (0, ClockQuality::Free));
    // The exchange was before the acknowledgement came.
    assert!(
        (0..1_000_000_000).contains(&(world.utc - fixes[0].utc.0)),
        "{fixes:?}"
    );
    assert_eq!(world.gateway.timekeeper().floor().utc(), EventTime(world.utc));
    assert_eq!(world.gateway.timekeeper().clock(), GatewayClock::Collector);
    assert_eq!(world.metrics.clock_steps.get(), 1);
}

#[test]
fn a_clock_that_was_set_gives_each_node_a_fix_at_once() {
    for jump in [-315_360_000_000_000_000, 315_360_000_000_000_000] {
        let mut world = World::fresh();
        world.waveform(0);
        world.advance(Duration::from_millis(50));
        world.time_reply(0);
        assert_eq!(world.metrics.clock_fixes.get(), 1);
        world.gateway.handle_spool(
            Reply::Freed(Epoch(77)),
            Now {
                mono: world.mono,
                utc: EventTime(UTC + jump),
            },
        );
        assert_eq!(world.metrics.clock_fixes.get(), 2);
        world.pump();
        world.advance(AGE);
        world.flush();
        let fixes: Vec<ClockFix> = world.disk.values().filter_map(fix_of).collect();
        let moved = fixes[1].event_time(fixes[0].ticks).nanos_since(fixes[0].utc);
        assert!((moved - jump).abs() < 1_000_000_000, "{moved}");
        assert!(world.metrics.clock_steps.get() >= 1);
    }
}

fn fix_of(block: &Block) -> Option<ClockFix> {
    match block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
        Body::ClockFix(fix) => Some(fix),
        _ => None,
    }
}

#[test]
fn what_is_held_is_told_when_it_changes_and_only_then() {
    let mut world = World::fresh();
    world.waveform(0);
    world.waveform(1);
    world.advance(Duration::from_secs(1));
    world.flush();
    let last = world.last_essential();
    let Body::Status(records) = block::Block::parse(&last.bytes).unwrap().decode().unwrap() else {
        panic!("a status expected");
    };
    let holdings: Vec<Holding> = records.map(Result::unwrap).collect();
    assert_eq!(holdings[0].channels[0].produced, 200);
    assert_eq!(holdings[0].channels[0].at_agent, Range::new(0, 200));
    let told = world.disk.len();
    world.advance(Duration::from_secs(5));
    world.flush();
    assert_eq!(world.disk.len(), told, "nothing has changed");

    world.connect();
    world.ack(0);
    world.ack(world.next(Epoch(5)));
    world.ack_epoch(WAVEFORMS, world.next(WAVEFORMS));
    world.advance(Duration::from_secs(1));
    world.flush();
    let last = world.last_essential();
    let Body::Status(mut records) = block::Block::parse(&last.bytes).unwrap().decode().unwrap() else {
        panic!("a status expected");
    };
    assert_eq!(records.next().unwrap().unwrap().channels[0].at_agent, None);
}

#[test]
fn resends_after_a_restart_are_recognised() {
    let mut world = World::fresh();
    world.waveform(0);
    world.waveform(1);
    world.advance(AGE);
    world.flush();
    let mut next = World::new(Recovered {
        current: [(Epoch(6), 0), (Epoch(7), 0)],
        cursors: world.cursors.clone(),
        journals: vec![JOURNAL.into()],
        blocks: world
            .disk
            .iter()
            .map(|(key, block)| (*key, (block.bytes.len() as u32, block.index.clone())))
            .collect(),
        epochs: [(Epoch(5), Class::Essential), (WAVEFORMS, Class::Waveform)]
            .map(|(epoch, class)| FormerEpoch {
                epoch,
                class,
                next: world.next(epoch),
                freed_by: None,
            })
            .to_vec(),
        quarantined: Vec::new(),
        discarded: 0,
    });
    for sequence in 0..3 {
        next.waveform(sequence);
    }
    next.advance(AGE);
    next.flush();
    assert_eq!(next.frames(), [(2, 0)]);
    assert_eq!(next.metrics.frames_duplicate.get(), 2);
    assert_eq!(next.polls.last().unwrap().upto, [0, 3]);
    next.connect();
    let epochs: Vec<Epoch> = next.hellos[0].epochs.iter().map(|held| held.epoch).collect();
    assert_eq!(epochs, [Epoch(5), Epoch(6), WAVEFORMS, Epoch(7)]);
    assert_eq!(next.hellos[0].journals, [JournalMark::from(JOURNAL)]);
}

#[test]
fn an_unreadable_block_gets_a_tombstone() {
    let mut world = World::fresh();
    world.waveform(0);
    world.advance(AGE);
    world.flush();
    let lost = *world
        .disk
        .iter()
        .find(|(_, block)| !block.index.frames.is_empty())
        .unwrap()
        .0;
    world.disk.remove(&lost);
    world.connect();
    world.ack(0);
    world.advance(AGE);
    assert!(world.buried.is_empty(), "its tombstone is not on disk yet");
    world.flush();
    assert_eq!(world.buried, [lost]);
    let (key, tombstone) = world.last_tombstone();
    assert!(world.published.contains(&key));
    assert_eq!(tombstone.epoch, WAVEFORMS);
    assert_eq!(tombstone.blocks, Range::one(lost.sequence).unwrap());
    assert_eq!(
        (tombstone.cause, tombstone.samples[0].3),
        (LossCause::SpoolUnreadable, 100)
    );
}

#[test]
fn what_others_refer_to_in_an_unreadable_block_is_said_again_and_again() {
    let mut world = World::fresh();
    world.node(&describe(), Class::Essential, 0);
    for sequence in 1..5 {
        world.advance(Duration::from_millis(50));
        world.time_reply(sequence);
    }
    world.advance(REPORT_AGE);
    world.flush();
    // The second time the disk destroys what took the place of the first, and its tombstones.
    for _ in 0..2 {
        let essentials: Vec<BlockKey> = world
            .disk
            .keys()
            .filter(|key| key.epoch == Epoch(5))
            .copied()
            .collect();
        for key in &essentials {
            world.disk.remove(key);
        }
        let event = MqttEvent::Disconnected("the line broke".to_owned());
        world
            .gateway
            .handle_mqtt(world.connection, event, 0, now(world.mono));
        world.advance(Duration::from_secs(60));
        world.connect();
        world.ack(0);
        world.advance(AGE);
        world.flush();
        assert!(essentials.iter().all(|key| world.buried.contains(key)));
        let (mut fixes, mut tables, mut lost, mut named) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for block in world.disk.values() {
            match block::Block::parse(&block.bytes).unwrap().decode().unwrap() {
                Body::ClockFix(fix) => fixes.push(fix.number),
                Body::Frames(records) => {
                    let frames =
                        records.map(|record| *RawFrame::parse(record.unwrap().frame).unwrap().header());
                    tables.extend(frames.map(|header| header.sequence));
                }
                Body::Tombstone(tombstone) => {
                    named.extend(tombstone.blocks.first()..tombstone.blocks.end());
                    let ranges = tombstone.frames.iter().flat_map(|(.., ranges)| ranges);
                    lost.extend(ranges.flat_map(|range| range.first()..range.end()));
                }
                _ => {}
            }
        }
        assert_eq!((fixes, tables), (vec![0, 1], vec![0]));
        lost.sort_unstable();
        assert_eq!(lost, [1, 2, 3, 4], "the table is not lost");
        assert!(essentials.iter().all(|key| named.contains(&key.sequence)));
    }
}

#[test]
fn a_block_whose_tombstone_survived_a_crash_that_it_survived_too_is_removed() {
    let key = |sequence| BlockKey {
        epoch: Epoch(2),
        sequence,
    };
    let tombstone = Index {
        buries: Some((Epoch(2), Range::one(0).unwrap())),
        ..Index::default()
    };
    let world = World::new(Recovered {
        current: [(Epoch(5), 0), (WAVEFORMS, 0)],
        blocks: [(key(0), (100, Index::default())), (key(1), (100, tombstone))].into(),
        epochs: vec![FormerEpoch {
            epoch: Epoch(2),
            class: Class::Essential,
            next: 2,
            freed_by: None,
        }],
        cursors: Vec::new(),
        journals: Vec::new(),
        quarantined: Vec::new(),
        discarded: 0,
    });
    let mut world = world;
    world.pump();
    assert_eq!(world.buried, [key(0)]);
}

#[test]
fn a_block_that_the_collector_keeps_and_cannot_read_is_counted_and_neither_given_up_nor_sent_again() {
    for acknowledged_first in [true, false] {
        let mut world = World::fresh();
        world.waveform(0);
        world.advance(AGE);
        world.flush();
        world.connect();
        world.ack(0);
        let unread = *world.published.iter().find(|key| key.epoch == WAVEFORMS).unwrap();
        let crc = crc32c(&world.disk[&unread].bytes);
        let reason = RejectReason::BodyVersion;
        let reject = encode_message(&Reject { crc, reason });
        let ack = unread.sequence + 1;
        if acknowledged_first {
            world.ack_epoch(WAVEFORMS, ack);
        }
        world.message(topic::Kind::Reject, reject);
        if !acknowledged_first {
            world.ack_epoch(WAVEFORMS, ack);
        }
        world.advance(AGE);
        world.flush();
        assert_eq!(world.buried, []);
        let sent = world.published.iter().filter(|&&key| key == unread);
        assert_eq!(sent.count(), 1);
        let told = Metrics::reason(&world.metrics.payloads_refused, reason).get();
        assert_eq!(told, 1);
    }
}

#[test]
fn a_block_that_the_collector_rejects_gets_a_tombstone_and_stops_nothing() {
    let mut world = World::fresh();
    world.waveform(0);
    world.advance(AGE);
    world.flush();
    world.connect();
    world.ack(0);
    let refused = *world.published.iter().find(|key| key.epoch == WAVEFORMS).unwrap();
    let crc = crc32c(&world.disk[&refused].bytes);
    let reason = RejectReason::BadCrc;
    let of_nobody = Reject { crc: !crc, reason };
    world.message(topic::Kind::Reject, encode_message(&of_nobody));
    let reject = Reject { crc, reason };
    world.message(topic::Kind::Reject, encode_message(&reject));
    world.advance(AGE);
    world.flush();
    assert_eq!(world.buried, [refused]);
    let (key, tombstone) = world.last_tombstone();
    assert_eq!(tombstone.epoch, WAVEFORMS);
    assert_eq!(
        (tombstone.blocks, tombstone.cause),
        (Range::one(refused.sequence).unwrap(), LossCause::EnvelopeRejected)
    );
    let lost = Metrics::cause(&world.metrics.blocks_lost, LossCause::EnvelopeRejected);
    assert_eq!(lost.get(), 1);
    assert!(world.published.contains(&key), "the tombstone goes in its place");
    // What comes after it is published as ever.
    let before = world.published.len();
    world.waveform(1);
    world.advance(AGE);
    world.flush();
    assert!(world.published.len() > before);
}

#[test]
fn a_disk_that_is_behind_leaves_waveforms_with_their_nodes_and_then_everything() {
    let mut world = World::fresh();
    let mut sequence = 0;
    while world.metrics.frames_declined.get() == 0 {
        world.waveform(sequence);
        sequence += 1;
        assert!(sequence < 100_000, "unflushed waveforms must be bounded");
    }
    assert!(!world.gateway.is_congested(), "essentials go on");
    let mut essential = 0;
    while !world.gateway.is_congested() {
        world.node(&describe(), Class::Essential, essential);
        essential += 1;
        assert!(essential < 100_000, "unflushed essentials must be bounded");
    }
    assert!(world.unflushed.len() <= 2 * COMMITS_MAX);
    world.flush();
    assert!(!world.gateway.is_congested());
    world.waveform(sequence - 1);
    world.advance(AGE);
    world.flush();
    assert_eq!(
        world.polls.last().unwrap().upto,
        [essential, sequence],
        "declined, not lost"
    );
}

#[test]
fn waveforms_wait_for_the_essentials_before_them_and_each_class_is_acknowledged_by_its_own_chain() {
    let mut world = World::fresh();
    world.node(&describe(), Class::Essential, 0);
    world.waveform(0);
    world.advance(AGE);
    let classes: Vec<Class> = world.unflushed.iter().map(|commit| commit.class).collect();
    assert_eq!(classes, [Class::Essential, Class::Waveform]);
    let waveforms = world.unflushed.split_off(1);
    world.flush();
    assert_eq!(world.polls.last().unwrap().upto, [1, 0]);
    world.unflushed = waveforms;
    world.flush();
    assert_eq!(world.polls.last().unwrap().upto, [1, 1]);
}

#[test]
fn a_stop_flushes_what_is_in_hand() {
    let mut world = World::fresh();
    world.waveform(0);
    world.gateway.handle_shutdown(now(world.mono));
    world.pump();
    assert!(!world.gateway.is_flushed());
    world.flush();
    assert!(world.gateway.is_flushed() && world.gateway.is_drained());
    assert_eq!(world.frames(), [(0, 0)]);
    assert!(world.kinds().contains(&(Kind::Describe as u8)));
    assert!(world.kinds().contains(&(Kind::Status as u8)));
}

#[test]
fn a_message_that_does_not_decode_is_counted_and_harms_nobody() {
    let mut world = World::fresh();
    world.pump();
    world.connect();
    world.message(topic::Kind::Ack, vec![1, 0xFF]);
    world.message(topic::Kind::Ack, vec![]);
    world.message(topic::Kind::Reject, vec![9, 9]);
    let count = |reason| Metrics::reason(&world.metrics.messages_refused, reason).get();
    assert_eq!(count(RejectReason::MessageDecode), 1);
    assert_eq!(count(RejectReason::TooShort), 1);
    assert_eq!(count(RejectReason::MessageVersion), 1);
}

#[test]
fn a_connection_that_ends_is_made_again_after_a_pause() {
    let mut world = World::fresh();
    world.pump();
    assert_eq!(world.connection, 1);
    world.connect();
    let gone = MqttEvent::Disconnected("test".to_owned());
    world.gateway.handle_mqtt(1, gone.clone(), 0, now(world.mono));
    world.pump();
    assert_eq!(world.connection, 1);
    world.advance(crate::endpoints::RECONNECT_FIRST);
    assert_eq!(world.connection, 2);
    world.gateway.handle_mqtt(1, gone, 0, now(world.mono));
    assert_eq!(
        world.gateway.link,
        Link::Connecting,
        "the former connection's last word"
    );
}

#[test]
fn what_a_former_start_left_is_history_and_nothing_is_told_before_its_essentials_are_through() {
    let mut former = World::fresh();
    former.waveform(0);
    former.advance(AGE);
    former.flush();
    let left: Vec<(BlockKey, Block)> = former.disk.into_iter().collect();
    let mut world = World::new(Recovered {
        current: [(Epoch(6), 0), (Epoch(7), 0)],
        cursors: former.cursors,
        journals: vec![JOURNAL.into()],
        blocks: left
            .iter()
            .map(|(key, block)| {
                let mut index = block.index.clone();
                // The agent was off for an hour.
                index.made = EventTime(index.made.0 - 3_600_000_000_000);
                (*key, (block.bytes.len() as u32, index))
            })
            .collect(),
        epochs: [(Epoch(5), Class::Essential), (WAVEFORMS, Class::Waveform)]
            .map(|(epoch, class)| FormerEpoch {
                epoch,
                class,
                next: left.iter().filter(|(key, _)| key.epoch == epoch).count() as u64,
                freed_by: None,
            })
            .to_vec(),
        quarantined: Vec::new(),
        discarded: 0,
    });
    world.disk.extend(left);
    world.waveform(1);
    world.advance(Duration::from_secs(2));
    world.flush();
    let status = Kind::Status as u8;
    let told = |world: &World| {
        let statuses = world.disk.iter().filter(|(key, block)| {
            key.epoch == Epoch(6) && block::Block::parse(&block.bytes).unwrap().envelope.kind == status
        });
        statuses.count()
    };
    assert_eq!(told(&world), 0, "it would overtake what explains it");

    world.connect();
    world.ack(0);
    let lane_of = |world: &World, epoch| {
        let of = world.published.iter().zip(&world.lanes);
        let lanes: Vec<Lane> = of
            .filter(|(key, _)| key.epoch == epoch)
            .map(|(_, lane)| *lane)
            .collect();
        lanes
    };
    assert!(
        lane_of(&world, Epoch(5))
            .iter()
            .all(|lane| *lane == Lane::Backfill)
    );
    assert_eq!(lane_of(&world, WAVEFORMS), [Lane::Backfill]);
    assert_eq!(lane_of(&world, Epoch(7)), [Lane::Live]);
    assert_eq!(
        world.metrics.history_published.get() as usize,
        world.lanes.iter().filter(|lane| **lane == Lane::Backfill).count()
    );
    world.ack(world.next(Epoch(5)));
    world.advance(Duration::from_secs(1));
    world.flush();
    assert_eq!(told(&world), 1);
}

#[test]
fn a_collector_that_acknowledges_nothing_is_left_and_that_counts_as_a_failure() {
    let mut world = World::fresh();
    world.waveform(0);
    world.advance(AGE);
    world.flush();
    world.connect();
    world.ack(0);
    assert!(!world.published.is_empty());
    let (connects, failures) = (world.connects.len(), world.metrics.disconnections.get());
    world.advance(Duration::from_secs(35));
    assert_eq!(world.metrics.silences.get(), 1);
    assert_eq!(world.metrics.disconnections.get(), failures + 1);
    assert_eq!(world.connects.len(), connects + 1, "after a pause");
}
