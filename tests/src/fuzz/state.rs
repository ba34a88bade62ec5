//! The collector's state machine behind the door: whatever gateways send, it goes on, and its books
//! balance.

use super::wire::repaired_block;
use super::{Probe, Target, ensure, golden};
use anyhow::Result;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use trunnion_collector::ingest::{BlockSource, Ingest, Message, SourceClosed};
use trunnion_collector::journal::{Journal, Options, Position, Reader};
use trunnion_collector::metrics::Metrics;
use trunnion_collector::pipeline::{Output, Pipeline};
use trunnion_common::block::{ChannelHolding, Envelope, FrameRecord, Holding, Kind as BlockKind, Lane};
use trunnion_common::frame::{
    ChannelDescriptor, ChannelStatus, Class, Describe, FRAME_MAX, Header, Packing, Payload, ResetCause,
    Status, Waveform, encode,
};
use trunnion_common::id::{BootId, ChannelId, Epoch, GatewayId, LineAddress, Name, NodeId};
use trunnion_common::quantity::Unit;
use trunnion_common::time::{ClockFix, ClockQuality, EventTime, NodeTicks};
use trunnion_common::topic::{Kind, Topic};

pub(super) const INGEST: Target = Target {
    name: "ingest",
    bytes_max: 8 * 1_024,
    seeds: conversations,
    check: check_ingest,
};

const START: i64 = 1_700_000_000_000_000_000;

/// What a message is, by its first byte.
const KINDS: [Kind; 5] = [Kind::Data, Kind::Data, Kind::Hello, Kind::Status, Kind::Result];

/// A message as it stands in an input: kind, length, payload.
fn put(input: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    input.push(kind);
    input.extend((payload.len() as u16).to_le_bytes());
    input.extend(payload);
}

/// What an agent in good order sends, and each golden message on its own.
fn conversations() -> Result<Vec<Vec<u8>>> {
    let mut inputs = vec![conversation()?];
    for (kind, start) in [
        (0, "block."),
        (2, "message.hello"),
        (3, "message.status"),
        (4, "message.result"),
    ] {
        for payload in golden(start)? {
            let mut input = Vec::new();
            put(&mut input, kind, &payload);
            put(&mut input, kind, &payload);
            inputs.push(input);
        }
    }
    let all = inputs.concat();
    inputs.push(all);
    Ok(inputs)
}

fn conversation() -> Result<Vec<u8>> {
    let (Some(node), Some(channel)) = (NodeId::new(5), ChannelId::new(0)) else {
        anyhow::bail!("these are a node and a channel");
    };
    let boot = BootId::new(1, 77);
    let mut sequences = [0; 2];
    let mut frame = |class: Class, ticks: u64, payload: &Payload<'_>| {
        let header = Header {
            version: trunnion_common::version::FRAME,
            address: LineAddress(1),
            node,
            boot,
            class,
            sequence: sequences[class.index()],
            ticks: NodeTicks(ticks),
        };
        sequences[class.index()] += 1;
        let mut room = [0; FRAME_MAX];
        let bytes = encode(&header, payload, &mut room)
            .map(<[u8]>::to_vec)
            .unwrap_or_default();
        let record = FrameRecord {
            arrival: EventTime(START),
            fix: 0,
            frame: &bytes,
        };
        postcard::to_extend(&record, Vec::new()).unwrap_or_default()
    };
    let descriptor = ChannelDescriptor {
        unit: Unit::StandardGravity,
        scale: 0.001,
        rate_mhz: 100_000,
        range: 16.0,
        band_low_hz: 0.0,
        band_high_hz: 40.0,
    };
    let table = frame(
        Class::Essential,
        0,
        &Payload::Describe(Describe {
            revision: 1,
            channels: [descriptor].into_iter().collect(),
        }),
    );
    let data: Vec<u8> = (0..40).collect();
    let mut waves = Vec::new();
    for number in 0..6_u64 {
        waves.extend(frame(
            Class::Waveform,
            200_000 * number,
            &Payload::Waveform(Waveform {
                channel,
                first_sample: 20 * number,
                count: 20,
                revision: 1,
                packing: Packing::I16,
                data: &data,
            }),
        ));
    }
    let status = frame(
        Class::Essential,
        1_200_000,
        &Payload::Status(Status {
            channels: [ChannelStatus {
                produced: 120,
                held_from: 120,
                drops: Default::default(),
            }]
            .into_iter()
            .collect(),
            held: Default::default(),
            next: [2, 6],
            outbox_used: 0,
            outbox_capacity: 100,
            reset: ResetCause::PowerOn,
        }),
    );
    let fix = ClockFix {
        node,
        boot,
        number: 0,
        ticks: NodeTicks(0),
        utc: EventTime(START),
        error_ns: 1_000,
        quality: ClockQuality::Synchronised,
    };
    let holding = Holding {
        node,
        boot,
        channels: [ChannelHolding {
            channel,
            produced: 120,
            at_node: 120,
            at_agent: None,
        }]
        .into_iter()
        .collect(),
    };
    let bodies = [
        (BlockKind::Frames, [table, status].concat()),
        (BlockKind::ClockFix, postcard::to_extend(&fix, Vec::new())?),
        (BlockKind::Frames, waves),
        (BlockKind::Status, postcard::to_extend(&holding, Vec::new())?),
    ];
    let mut input = Vec::new();
    for (sequence, (kind, body)) in (0..).zip(bodies) {
        let envelope = Envelope::new(Epoch(3), sequence, Lane::Live, kind).encode(&body);
        put(&mut input, 0, &[&envelope[..], &body].concat());
    }
    Ok(input)
}

#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<VecDeque<Message>>>);

impl BlockSource for Mailbox {
    fn receive(&mut self, _: Duration) -> Result<Option<Message>, SourceClosed> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front())
    }

    fn publish(&mut self, _: &str, _: Vec<u8>) -> Result<(), SourceClosed> {
        Ok(())
    }
}

fn messages(mut input: &[u8]) -> Result<Vec<(u8, Message)>, String> {
    let name = |text| Name::new(text).map_err(|error| error.to_string());
    let gateway = GatewayId {
        site: name("bremen")?,
        gateway: name("gw-1")?,
    };
    let mut messages = Vec::new();
    while let [kind, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, after) = rest.split_at(length);
        input = after;
        // Most blocks are given the checksum that their content has by now.
        let payload = match kind % 8 {
            0 | 5.. => repaired_block(payload),
            _ => payload.to_vec(),
        };
        let topic = Topic {
            gateway: gateway.clone(),
            kind: KINDS.get(usize::from(kind % 8)).copied().unwrap_or(Kind::Data),
        };
        let message = Message {
            topic: topic.text().to_string(),
            payload: payload.into(),
        };
        messages.push((*kind, message));
    }
    Ok(messages)
}

fn check_ingest(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let folder = super::disk::folder()?;
    let options = Options {
        segment_bytes: 4 * 1_024,
    };
    let (journal, _) = Journal::open(folder.path(), options, EventTime(START)).map_err(|e| told(&e))?;
    let mailbox = Mailbox::default();
    let utc = Arc::new(AtomicI64::new(START));
    let reading = Arc::clone(&utc);
    let clock = move || EventTime(reading.load(Ordering::Relaxed));
    let (mut ingest, handle) = Ingest::new(journal, mailbox.clone(), Metrics::default(), clock);
    for (kind, message) in messages(input)? {
        mailbox
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(message);
        // Every now and then a commit of its own, and time that goes on.
        if kind >= 64 {
            ingest.turn(false).map_err(|e| told(&e))?;
            utc.fetch_add(i64::from(kind) * 10_000_000, Ordering::Relaxed);
        }
    }
    for _ in 0..3 {
        ingest.turn(false).map_err(|e| told(&e))?;
        utc.fetch_add(2_000_000_000, Ordering::Relaxed);
    }
    let upto = *handle.committed.borrow();
    let mut reader = Reader::open(folder.path(), Position::default()).map_err(|e| told(&e))?;
    let (mut pipeline, mut rows) = (Pipeline::new(), BTreeMap::new());
    let mut commits = Vec::new();
    while let Some(commit) = reader.next_commit(upto).map_err(|e| told(&e))? {
        for output in pipeline.apply(&commit) {
            probe.note(std::mem::discriminant(&output));
            match output {
                Output::Ledger(row) => {
                    rows.insert((row.node, row.boot, row.channel), row);
                }
                Output::DeadLetter(letter) => probe.note(letter.reason.label()),
                _ => {}
            }
        }
        commits.push(commit);
    }
    for row in rows.values() {
        let sum = [row.stored, row.lost_total(), row.pending, row.unexplained]
            .into_iter()
            .try_fold(0_u64, u64::checked_add);
        probe.note((
            row.stored > 0,
            row.lost.len(),
            row.pending > 0,
            row.unexplained > 0,
        ));
        ensure(sum == Some(row.produced), || {
            format!("the books do not balance: {row:?}")
        })?;
    }
    let mut replayed = Pipeline::new();
    for commit in &commits {
        let _ = replayed.apply(commit);
    }
    // By its text: what is not a number is not the same as itself.
    ensure(
        format!("{:?}", replayed.state()) == format!("{:?}", pipeline.state()),
        || "a replay gives another state".to_owned(),
    )?;
    let counters: Vec<u32> = pipeline
        .counters()
        .labelled()
        .iter()
        .map(|(_, count)| magnitude(*count))
        .collect();
    probe.note(counters);
    Ok(())
}

/// How many binary digits a count has.
fn magnitude(count: u64) -> u32 {
    u64::BITS - count.leading_zeros()
}
