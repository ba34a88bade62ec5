//! Decoders of the wire: node line, blocks, messages, topics, sequence sets, and the door's packets.

use super::{Probe, Target, ensure, golden};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::mem::discriminant;
use trunnion_collector::door::examine;
use trunnion_common::ack::{Ack, Hello};
use trunnion_common::block::{Block, Body, ENVELOPE_BYTES, FrameRecord, Records};
use trunnion_common::codec::{CRC_BYTES, Decoder, LINE_FRAME_MAX, crc32c, stuff};
use trunnion_common::frame::{FRAME_MAX, RawFrame, encode};
use trunnion_common::id::{GatewayId, Name};
use trunnion_common::message::{self, Command, CommandResult, GatewayStatus};
use trunnion_common::reject::{Reject, RejectReason};
use trunnion_common::sequence::{Insertion, RANGES_MAX, Range, SequenceSet};
use trunnion_common::topic::Topic;

pub(super) const LINE: Target = Target {
    name: "line",
    bytes_max: 4_096,
    seeds: lines,
    check: check_line,
};

pub(super) const BLOCK: Target = Target {
    name: "block",
    bytes_max: 4_096,
    seeds: || golden("block."),
    check: check_block,
};

pub(super) const MESSAGE: Target = Target {
    name: "message",
    bytes_max: 4_096,
    seeds: || golden("message."),
    check: check_message,
};

pub(super) const TOPIC: Target = Target {
    name: "topic",
    bytes_max: 160,
    seeds: topics,
    check: check_topic,
};

pub(super) const SEQUENCE: Target = Target {
    name: "sequence",
    bytes_max: 400,
    seeds: || {
        Ok(vec![
            vec![0; 8],
            (0..200).collect(),
            vec![5, 0, 7, 1, 9, 2, 40, 3],
        ])
    },
    check: check_sequence,
};

pub(super) const DOOR: Target = Target {
    name: "door",
    bytes_max: 4_096,
    seeds: || Ok(vec![vec![0xc0, 0]]),
    check: check_door,
};

/// Frames of the golden file, each on its own and all in a row, as they stand on a line.
fn lines() -> anyhow::Result<Vec<Vec<u8>>> {
    let frames = golden("frame.")?;
    let line = |frame: &Vec<u8>| {
        let mut room = [0; LINE_FRAME_MAX];
        stuff(frame, &mut room).map(<[u8]>::to_vec).unwrap_or_default()
    };
    let mut lines: Vec<Vec<u8>> = frames.iter().map(line).collect();
    lines.push(lines.concat());
    Ok(lines)
}

fn check_line(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let whole = decode_line(input, usize::MAX);
    let pieces = decode_line(input, 7);
    ensure(whole == pieces, || {
        format!("{whole:?} in one piece, {pieces:?} in pieces of 7")
    })?;
    for outcome in &whole {
        probe.note(outcome.as_ref().map(Vec::len));
    }
    // What lies behind the checksum: the frames of the line as if the sender had meant them so.
    for frame in input.split(|byte| *byte == 0) {
        let Ok(frame) = cobs_decoded(frame) else {
            continue;
        };
        let content = &frame[..frame.len().saturating_sub(CRC_BYTES).min(FRAME_MAX - CRC_BYTES)];
        let repaired = [content, &crc32c(content).to_le_bytes()].concat();
        check_frame(&repaired, probe)?;
    }
    Ok(())
}

fn cobs_decoded(stuffed: &[u8]) -> Result<Vec<u8>, RejectReason> {
    let mut out = Vec::new();
    let mut rest = stuffed;
    while let Some((&code, after)) = rest.split_first() {
        let count = usize::from(code).saturating_sub(1);
        let (run, next) = after.split_at_checked(count).ok_or(RejectReason::BadCobs)?;
        out.extend_from_slice(run);
        if code != 0xff && !next.is_empty() {
            out.push(0);
        }
        rest = next;
    }
    Ok(out)
}

fn decode_line(line: &[u8], piece: usize) -> Vec<Result<Vec<u8>, RejectReason>> {
    let mut buffer = [0; LINE_FRAME_MAX];
    let mut decoder = Decoder::new(&mut buffer);
    let mut found = Vec::new();
    for mut piece in line.chunks(piece.min(line.len()).max(1)) {
        while !piece.is_empty() {
            let fed = decoder.feed(piece);
            let taken = fed.taken;
            found.extend(fed.frame.map(|frame| frame.map(|frame| frame.bytes().to_vec())));
            piece = &piece[taken..];
        }
    }
    found
}

/// A frame that is accepted means the same when it is written again.
fn check_frame(bytes: &[u8], probe: &mut Probe) -> Result<(), String> {
    let frame = match RawFrame::parse(bytes) {
        Ok(frame) => frame,
        Err(reason) => {
            probe.note(reason);
            return Ok(());
        }
    };
    let payload = match frame.payload() {
        Ok(payload) => payload,
        Err(reason) => {
            probe.note(("payload", reason));
            return Ok(());
        }
    };
    probe.note((discriminant(&payload), frame.header().class, bytes.len() / 16));
    if let trunnion_common::frame::Payload::Waveform(waveform) = &payload
        && let Ok(samples) = waveform.samples()
    {
        let promised = samples.len();
        let count = samples.count();
        ensure(count == promised && count == usize::from(waveform.count), || {
            format!(
                "{promised} samples promised, {count} given, {} said",
                waveform.count
            )
        })?;
    }
    let mut room = [0; FRAME_MAX];
    let again = encode(frame.header(), &payload, &mut room)
        .map_err(|_| "a frame that was taken does not fit a frame".to_owned())?;
    let second = RawFrame::parse(again).map_err(|reason| format!("written again it is refused: {reason}"))?;
    let same = second.payload().map(|second| same(&second, &payload)) == Ok(true);
    ensure(same && second.header() == frame.header(), || {
        format!("{payload:?} becomes {:?}", second.payload())
    })
}

/// Whether two values mean the same; what is not a number is the same as itself here.
fn same<T: Debug>(a: &T, b: &T) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn check_block(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    look_at_block(input, probe)?;
    look_at_block(&repaired_block(input), probe)
}

/// The same bytes with the length and checksum that belong to them.
pub(super) fn repaired_block(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    bytes.resize(bytes.len().max(ENVELOPE_BYTES), 0);
    bytes[..4].copy_from_slice(b"TRB1");
    let length = (bytes.len() - ENVELOPE_BYTES) as u32;
    bytes[25..29].copy_from_slice(&length.to_le_bytes());
    let crc = trunnion_common::codec::crc32c_parts(&[&bytes[..29], &bytes[ENVELOPE_BYTES..]]);
    bytes[29..33].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn look_at_block(bytes: &[u8], probe: &mut Probe) -> Result<(), String> {
    let block = match Block::parse(bytes) {
        Ok(block) => block,
        Err(reason) => {
            probe.note(reason);
            return Ok(());
        }
    };
    let again = [&block.envelope.encode(block.body)[..], block.body].concat();
    ensure(again == bytes, || {
        "an envelope that was taken is written differently".to_owned()
    })?;
    let body = match block.decode() {
        Ok(body) => body,
        Err(reason) => {
            probe.note((block.envelope.kind, reason));
            return Ok(());
        }
    };
    probe.note((discriminant(&body), bytes.len() / 16));
    match body {
        Body::Frames(records) => {
            let mut count = 0;
            for record in records {
                count += 1;
                match record {
                    Ok(record) => {
                        survives_borrowed(&record)?;
                        check_frame(record.frame, probe)?;
                    }
                    Err(reason) => probe.note(("record", reason)),
                }
            }
            ensure(count <= bytes.len(), || {
                format!("{count} records in {} bytes", bytes.len())
            })
        }
        Body::Status(records) => survive(records, probe),
        Body::Readings(readings) => survives(&readings),
        Body::ClockFix(fix) => {
            for ticks in [0, 1, u64::MAX] {
                let _ = fix.event_time(trunnion_common::time::NodeTicks(ticks));
            }
            survives(&fix)
        }
        Body::Gap(gap) => survives(&gap),
        Body::Tombstone(tombstone) => survives(&tombstone),
        Body::Derived(records) => survive(records, probe),
        Body::Advisory(records) => survive(records, probe),
        Body::Condition(records) => survive(records, probe),
        Body::Finding(records) => survive(records, probe),
        Body::Suspicion(records) => survive(records, probe),
        Body::Unusual(records) => survive(records, probe),
        Body::Describe(describe) => survives(&describe),
    }
}

fn survive<'a, T: Serialize + DeserializeOwned + Debug>(
    records: Records<'a, T>,
    probe: &mut Probe,
) -> Result<(), String> {
    for record in records {
        match record {
            Ok(record) => survives(&record)?,
            Err(reason) => probe.note((std::any::type_name::<T>(), reason)),
        }
    }
    Ok(())
}

/// What was decoded means the same when it is written again.
fn survives<T: Serialize + DeserializeOwned + Debug>(value: &T) -> Result<(), String> {
    let bytes = postcard::to_extend(value, Vec::new()).map_err(|error| format!("{value:?}: {error}"))?;
    let again = postcard::from_bytes::<T>(&bytes).map_err(|error| format!("{value:?}: {error}"))?;
    ensure(same(&again, value), || format!("{value:?} becomes {again:?}"))
}

fn survives_borrowed(record: &FrameRecord<'_>) -> Result<(), String> {
    let bytes = postcard::to_extend(record, Vec::new()).map_err(|error| error.to_string())?;
    let again = postcard::from_bytes::<FrameRecord<'_>>(&bytes).map_err(|error| error.to_string())?;
    ensure(again == *record, || format!("{record:?} becomes {again:?}"))
}

fn check_message(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    look_at_message::<Ack>(input, probe)?;
    look_at_message::<Hello>(input, probe)?;
    look_at_message::<GatewayStatus>(input, probe)?;
    look_at_message::<Command>(input, probe)?;
    look_at_message::<CommandResult>(input, probe)?;
    look_at_message::<Reject>(input, probe)
}

fn look_at_message<T: Serialize + DeserializeOwned + Debug>(
    input: &[u8],
    probe: &mut Probe,
) -> Result<(), String> {
    let name = std::any::type_name::<T>();
    let decoded = match message::decode::<T>(input) {
        Ok(decoded) => decoded,
        Err(reason) => {
            probe.note((name, reason));
            return Ok(());
        }
    };
    probe.note((name, input.len() / 8));
    let mut room = vec![0; message::MESSAGE_MAX];
    let bytes = message::encode(&decoded, &mut room)
        .ok_or_else(|| format!("{name} that was taken does not fit MESSAGE_MAX"))?;
    let again = message::decode::<T>(bytes).map_err(|reason| format!("{name} written again: {reason}"))?;
    ensure(same(&again, &decoded), || {
        format!("{decoded:?} becomes {again:?}")
    })
}

fn topics() -> anyhow::Result<Vec<Vec<u8>>> {
    let topics = [
        "trunnion/up/bremen/gw-1/data",
        "trunnion/up/bremen/gw-1/hello",
        "trunnion/up/a/b/status",
        "trunnion/up/a/b/result",
        "trunnion/down/a/b/ack",
        "trunnion/down/a/b/reject",
        "trunnion/down/a/b/command",
        "$SYS/broker/+/#",
        "trunnion/up/UPPER/gw/data",
    ];
    Ok(topics.map(|topic| topic.as_bytes().to_vec()).into())
}

fn check_topic(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    let Some(topic) = Topic::parse(&text) else {
        probe.note(text.split('/').count());
        return Ok(());
    };
    probe.note((topic.kind, text.len()));
    ensure(topic.text() == text.as_ref(), || {
        format!("{text:?} is read as {:?}", topic.text())
    })?;
    let is_plain = |level: &str| {
        (1..=32).contains(&level.len())
            && level
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let levels: Vec<&str> = text.split('/').collect();
    ensure(
        levels.len() == 5 && is_plain(levels[2]) && is_plain(levels[3]),
        || format!("{text:?} is taken for a topic"),
    )
}

/// Two bytes each: where a range begins and how long it is, against a plain set.
fn check_sequence(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let mut set = SequenceSet::new();
    let mut plain = BTreeSet::new();
    for pair in input.chunks_exact(2) {
        let (first, count) = (u64::from(pair[0]), u64::from(pair[1] % 9));
        if pair[1] >= 250 {
            set.advance(first);
            plain.extend(0..first);
        }
        let Some(range) = Range::new(first, first + count) else {
            continue;
        };
        let new = (range.first()..range.end())
            .filter(|n| !plain.contains(n))
            .count() as u64;
        let outcome = set.insert_range(range);
        plain.extend(range.first()..range.end());
        let is_right = match outcome {
            Insertion::New => new == range.count(),
            Insertion::Duplicate => new == 0,
            Insertion::Partial => 0 < new && new < range.count(),
            Insertion::Overflow { closed } => {
                let was_hole = (closed.first()..closed.end()).all(|n| !plain.contains(&n));
                plain.extend(closed.first()..closed.end());
                was_hole
            }
        };
        probe.note((discriminant(&outcome), set.ranges().len()));
        ensure(is_right, || {
            format!("{range:?} is {outcome:?} with {new} new of {plain:?}")
        })?;
        ensure(set.ranges().len() <= RANGES_MAX, || "too many ranges".to_owned())?;
        ensure((0..300).all(|n| set.contains(n) == plain.contains(&n)), || {
            format!("{set:?} is not {plain:?}")
        })?;
    }
    survives(&set)?;
    if let Ok(decoded) = postcard::from_bytes::<SequenceSet>(input) {
        survives(&decoded)?;
        let parts = SequenceSet::from_parts(decoded.upto(), decoded.ranges());
        ensure(parts.as_ref() == Some(&decoded), || {
            format!("{decoded:?} is out of order")
        })?;
    }
    Ok(())
}

/// What a client sends, judged as one piece and byte by byte.
fn check_door(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let name = |text| Name::new(text).map_err(|error| error.to_string());
    let gateway = GatewayId {
        site: name("bremen")?,
        gateway: name("gw-1")?,
    };
    let whole = examine(&gateway, input, usize::MAX);
    let pieces = examine(&gateway, input, 3);
    probe.note((whole.passed.len(), whole.refusal, whole.is_ended));
    ensure(
        whole.passed == pieces.passed && whole.refusal == pieces.refusal,
        || format!("{whole:?} in one piece, {pieces:?} in pieces of 3"),
    )?;
    let passed: usize = whole.passed.iter().map(Vec::len).sum();
    ensure(passed <= input.len(), || {
        format!("{passed} bytes of {} pass", input.len())
    })?;
    ensure(whole.held <= input.len(), || {
        format!("{} bytes are held", whole.held)
    })
}
