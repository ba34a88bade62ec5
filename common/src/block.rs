//! Blocks: what gateways send to the collector, and what the journal keeps verbatim.
//!
//! The envelope is fixed-layout, little-endian and frozen, so that every later version can still
//! acknowledge and keep what it cannot decode:
//!
//! | offset | field | type |
//! |---|---|---|
//! | 0 | magic | u32, `TRB1` |
//! | 4 | epoch | u64 |
//! | 12 | sequence | u64 |
//! | 20 | lane | u8 |
//! | 21 | kind | u8 |
//! | 22 | codec | u8 |
//! | 23 | body version | u16 |
//! | 25 | body length | u32 |
//! | 29 | crc32c over bytes 0..29 and the body | u32 |
//! | 33 | body | |
//!
//! The gateway is not in it: it comes from the certificate-bound topic. Bodies are postcard; the body
//! of [`Kind::Frames`], [`Kind::Derived`], [`Kind::Advisory`], [`Kind::Status`],
//! [`Kind::Condition`], [`Kind::Finding`], [`Kind::Suspicion`] and [`Kind::Unusual`] is records back to back until it ends
//! ([`Records`]).

use crate::codec::crc32c_parts;
use crate::feature::FeatureKind;
use crate::frame::{Class, EventKind, FEATURES_MAX, Severity};
use crate::id::{BootId, CHANNELS_MAX, ChannelId, Epoch, NodeId};
use crate::quantity::Unit;
use crate::reject::RejectReason;
use crate::sample::{LossCause, Reading};
use crate::sequence::{Range, Ranges};
use crate::time::{ClockFix, EventTime, NodeTicks};
use crate::version;
use crate::watch::{LocalCondition, LocalFinding, LocalSuspicion, LocalUnusual};
use core::marker::PhantomData;
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// `TRB1`, little-endian.
pub const MAGIC: u32 = u32::from_le_bytes(*b"TRB1");

/// Bytes of the envelope before the body.
pub const ENVELOPE_BYTES: usize = 33;

/// Most bytes of a body. An agent closes blocks at 64 KiB; the rest is room for later ones.
pub const BODY_MAX: usize = 1 << 20;

const LANE_AT: usize = 20;

const CRC_AT: usize = 29;

/// Whether a block is of now or of the past; fixed at its first publication.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Lane {
    /// As it happened.
    Live = 0,
    /// History: does not alarm as if it were now.
    Backfill = 1,
}

impl Lane {
    /// The lane of that number; an unknown one is taken as history, which harms nobody.
    pub const fn from_number(number: u8) -> Self {
        if number == 0 { Self::Live } else { Self::Backfill }
    }
}

/// What a body holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// [`FrameRecord`]s.
    Frames = 1,
    /// One [`Readings`].
    Readings = 2,
    /// One [`ClockFix`].
    ClockFix = 3,
    /// One [`Gap`].
    Gap = 4,
    /// One [`Tombstone`].
    Tombstone = 5,
    /// [`Derived`]s.
    Derived = 6,
    /// [`LocalAdvisory`]s.
    Advisory = 7,
    /// One [`GatewayDescribe`].
    Describe = 8,
    /// [`Holding`]s.
    Status = 9,
    /// [`LocalCondition`]s.
    Condition = 10,
    /// [`LocalFinding`]s.
    Finding = 11,
    /// [`LocalSuspicion`]s.
    Suspicion = 12,
    /// [`LocalUnusual`]s.
    Unusual = 13,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Frames,
        Self::Readings,
        Self::ClockFix,
        Self::Gap,
        Self::Tombstone,
        Self::Derived,
        Self::Advisory,
        Self::Describe,
        Self::Status,
        Self::Condition,
        Self::Finding,
        Self::Suspicion,
        Self::Unusual,
    ];

    /// The kind of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// Zstandard (RFC 8878).
    Zstd = 1,
}

/// The envelope's fields as found: numbers of a later version stay what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Which start of which spool chain.
    pub epoch: Epoch,
    /// Position in it.
    pub sequence: u64,
    /// Number of the [`Lane`].
    pub lane: u8,
    /// Number of the [`Kind`].
    pub kind: u8,
    /// Number of the [`Codec`].
    pub codec: u8,
    /// Version of the body.
    pub body_version: u16,
}

impl Envelope {
    /// An envelope for a body this build writes.
    pub const fn new(epoch: Epoch, sequence: u64, lane: Lane, kind: Kind) -> Self {
        Self {
            epoch,
            sequence,
            lane: lane as u8,
            kind: kind as u8,
            codec: Codec::None as u8,
            body_version: version::BODY,
        }
    }

    /// The envelope's bytes for `body`; the block is these, then the body.
    pub fn encode(&self, body: &[u8]) -> [u8; ENVELOPE_BYTES] {
        let mut bytes = [0; ENVELOPE_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[LANE_AT] = self.lane;
        bytes[21] = self.kind;
        bytes[22] = self.codec;
        bytes[23..25].copy_from_slice(&self.body_version.to_le_bytes());
        bytes[25..29].copy_from_slice(&(body.len() as u32).to_le_bytes());
        let crc = crc32c_parts(&[&bytes[..CRC_AT], body]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// The lane of a whole block that has been checked before; `None` when it is too short for an envelope.
pub fn lane(block: &[u8]) -> Option<Lane> {
    let head = block.get(..ENVELOPE_BYTES)?;
    Some(Lane::from_number(head[LANE_AT]))
}

/// Puts a whole block that has been checked before into another lane, and corrects its checksum; what is
/// too short for an envelope is left alone.
pub fn set_lane(block: &mut [u8], lane: Lane) {
    if let Some((head, body)) = block.split_at_mut_checked(ENVELOPE_BYTES) {
        head[LANE_AT] = lane as u8;
        let crc = crc32c_parts(&[&head[..CRC_AT], body]);
        head[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A block with a valid envelope: to be journaled and acknowledged whatever its body holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// The envelope's fields.
    pub envelope: Envelope,
    /// The body, undecoded.
    pub body: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks the envelope of a whole message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RejectReason> {
        let (head, body) = bytes
            .split_at_checked(ENVELOPE_BYTES)
            .ok_or(RejectReason::TooShort)?;
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
        if u32_at(0) != MAGIC {
            return Err(RejectReason::BadMagic);
        }
        if body.len() > BODY_MAX {
            return Err(RejectReason::TooLong);
        }
        if u32_at(25) as usize != body.len() {
            return Err(RejectReason::LengthMismatch);
        }
        if u32_at(CRC_AT) != crc32c_parts(&[&head[..CRC_AT], body]) {
            return Err(RejectReason::BadCrc);
        }
        let envelope = Envelope {
            epoch: Epoch(u64_at(4)),
            sequence: u64_at(12),
            lane: head[LANE_AT],
            kind: head[21],
            codec: head[22],
            body_version: u16_at(23),
        };
        // The last sequence of all has no successor to acknowledge it by.
        if envelope.sequence == u64::MAX {
            return Err(RejectReason::LengthMismatch);
        }
        Ok(Self { envelope, body })
    }

    /// The lane.
    pub const fn lane(&self) -> Lane {
        Lane::from_number(self.envelope.lane)
    }

    /// What the body holds, if this build can read bodies of its version, codec and kind.
    pub fn kind(&self) -> Result<Kind, RejectReason> {
        if !version::accepts_body(self.envelope.body_version) {
            return Err(RejectReason::BodyVersion);
        }
        if self.envelope.codec != Codec::None as u8 {
            return Err(RejectReason::BodyCodec);
        }
        Kind::from_number(self.envelope.kind).ok_or(RejectReason::BodyKind)
    }

    /// The body's content, if this build can read it.
    pub fn decode(&self) -> Result<Body<'a>, RejectReason> {
        fn one<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, RejectReason> {
            postcard::take_from_bytes(body)
                .map(|(value, _)| value)
                .map_err(|_| RejectReason::BodyDecode)
        }
        Ok(match self.kind()? {
            Kind::Frames => Body::Frames(Records::new(self.body)),
            Kind::Readings => Body::Readings(one(self.body)?),
            Kind::ClockFix => Body::ClockFix(one(self.body)?),
            Kind::Gap => Body::Gap(one(self.body)?),
            Kind::Tombstone => Body::Tombstone(one(self.body)?),
            Kind::Derived => Body::Derived(Records::new(self.body)),
            Kind::Advisory => Body::Advisory(Records::new(self.body)),
            Kind::Describe => Body::Describe(one(self.body)?),
            Kind::Status => Body::Status(Records::new(self.body)),
            Kind::Condition => Body::Condition(Records::new(self.body)),
            Kind::Finding => Body::Finding(Records::new(self.body)),
            Kind::Suspicion => Body::Suspicion(Records::new(self.body)),
            Kind::Unusual => Body::Unusual(Records::new(self.body)),
        })
    }
}

/// What a body holds.
#[derive(Clone, PartialEq, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "decoded, matched and dropped; no allocation to box it"
)]
pub enum Body<'a> {
    /// Node frames verbatim.
    Frames(Records<'a, FrameRecord<'a>>),
    /// Readings of a virtual node.
    Readings(Readings),
    /// A relation between a node's clock and UTC.
    ClockFix(ClockFix),
    /// Frames that will never come.
    Gap(Gap),
    /// Blocks that will never come.
    Tombstone(Tombstone),
    /// Features computed at the agent.
    Derived(Records<'a, Derived>),
    /// Alarms of nodes, as the agent keeps them.
    Advisory(Records<'a, LocalAdvisory>),
    /// What the gateway is.
    Describe(GatewayDescribe),
    /// What the agent holds.
    Status(Records<'a, Holding>),
    /// What the agent holds against machines that it watches.
    Condition(Records<'a, LocalCondition>),
    /// What it holds against bearings.
    Finding(Records<'a, LocalFinding>),
    /// What it suspects of shafts and what hangs on them.
    Suspicion(Records<'a, LocalSuspicion>),
    /// What it finds unusual of slow channels.
    Unusual(Records<'a, LocalUnusual>),
}

/// Postcard records back to back until the bytes end. A record that does not decode ends the list
/// with the reason: what stood behind it cannot be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Records<'a, T> {
    rest: &'a [u8],
    record: PhantomData<fn() -> T>,
}

impl<'a, T> Records<'a, T> {
    /// The records in `body`.
    pub const fn new(body: &'a [u8]) -> Self {
        Self {
            rest: body,
            record: PhantomData,
        }
    }
}

impl<'a, T: Deserialize<'a>> Iterator for Records<'a, T> {
    type Item = Result<T, RejectReason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(self.rest) {
            Ok((record, rest)) => {
                self.rest = rest;
                Some(Ok(record))
            }
            Err(_) => {
                self.rest = &[];
                Some(Err(RejectReason::BodyDecode))
            }
        }
    }
}

/// A node's frame as it was taken in.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct FrameRecord<'a> {
    /// Gateway's UTC when its last byte was read: as it arrived, or up to a twentieth of a second later.
    pub arrival: EventTime,
    /// Number of the clock fix in force; 0 also when there was none yet: that boot's first one counts.
    pub fix: u32,
    /// Header, payload and checksum, verbatim ([`crate::frame::RawFrame::parse`]).
    pub frame: &'a [u8],
}

/// Most bytes that a [`FrameRecord`] needs.
pub const FRAME_RECORD_MAX: usize = crate::frame::FRAME_MAX + 10 + 5 + 3;

/// Readings from a source that is no node of ours (Modbus, OPC UA, MQTT): it is given a virtual one,
/// whose boot is the agent's start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Readings {
    /// The virtual node.
    pub node: NodeId,
    /// The agent's start.
    pub boot: BootId,
    /// Position among the virtual node's frames.
    pub sequence: u64,
    /// Which channel.
    pub channel: ChannelId,
    /// The unit of the values.
    pub unit: Unit,
    /// Index of the first reading.
    pub first_sample: u64,
    /// Number of the clock fix in force.
    pub fix: u32,
    /// When each reading was taken, and what it was.
    pub readings: Vec<(NodeTicks, Reading), 32>,
}

/// Frame numbers that the agent will never have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// Whose frames.
    pub node: NodeId,
    /// Of which boot.
    pub boot: BootId,
    /// Of which class.
    pub class: Class,
    /// Which.
    pub ranges: Ranges,
    /// Why.
    pub cause: LossCause,
}

/// Most streams of frames that one tombstone can name.
pub const TOMBSTONE_FRAMES_MAX: usize = 32;

/// Most channels that one tombstone can name.
pub const TOMBSTONE_CHANNELS_MAX: usize = 64;

/// Blocks that were evicted or cannot be read. It has a sequence of its own, and its commit fills the
/// sets of the blocks and frames it names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// Epoch of the blocks lost.
    pub epoch: Epoch,
    /// The blocks.
    pub blocks: Range,
    /// Why.
    pub cause: LossCause,
    /// The frames that were in them.
    pub frames: Vec<(NodeId, BootId, Class, Ranges), TOMBSTONE_FRAMES_MAX>,
    /// How many samples of each channel were in them.
    pub samples: Vec<(NodeId, BootId, ChannelId, u64), TOMBSTONE_CHANNELS_MAX>,
}

/// Features that the agent computed over consecutive samples, so that they outlive the waveform.
/// Outside the ledger.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Derived {
    /// Whose samples.
    pub node: NodeId,
    /// Of which boot.
    pub boot: BootId,
    /// Of which channel.
    pub channel: ChannelId,
    /// Index of the first sample that went in.
    pub first_sample: u64,
    /// How many samples went in.
    pub count: u32,
    /// The features, in the channel's unit where they have one.
    pub features: Vec<(FeatureKind, f32), FEATURES_MAX>,
    /// The node's clock at the first sample.
    pub ticks: NodeTicks,
    /// Number of the clock fix in force when the first sample was taken in, as in a [`FrameRecord`].
    pub fix: u32,
    /// Which [`crate::frame::Describe`] explains it.
    pub revision: u16,
}

/// An alarm of a node as the agent keeps it: all events of one kind on one channel since the first of
/// them, so that it takes the same room however often it repeats. It is told again whenever more is
/// known; (node, channel, kind, raised) says which is meant, and the highest count is the latest.
/// Outside the ledger.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LocalAdvisory {
    /// Whose event it was.
    pub node: NodeId,
    /// The latest boot that reported it.
    pub boot: BootId,
    /// On which channel, if on one.
    pub channel: Option<ChannelId>,
    /// When the agent heard of it for the first time, by the gateway's clock.
    pub raised: EventTime,
    /// What was seen, where the agent knows it.
    pub evidence: Vec<(FeatureKind, f32), FEATURES_MAX>,
    /// What happened; `None` when alarms of several kinds were folded into one for want of room.
    pub kind: Option<EventKind>,
    /// How much it matters.
    pub severity: Severity,
    /// When the agent heard of it last.
    pub last: EventTime,
    /// How often it happened, by the node's own counts.
    pub repeats: u32,
    /// The latest event's number: a limit's value, an error code.
    pub value: f32,
}

/// What a gateway is, once per agent start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GatewayDescribe {
    /// Version of the agent.
    pub agent_version: String<32>,
    /// When the agent started, as its clock had it.
    pub started: EventTime,
}

/// What the agent holds of one boot of one node, in one consistent cut of its intake: every sample
/// below `produced` is acknowledged by the collector, in `at_agent`, in `at_node`, or lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Holding {
    /// Whose samples.
    pub node: NodeId,
    /// Of which boot.
    pub boot: BootId,
    /// One entry per channel heard of.
    pub channels: Vec<ChannelHolding, CHANNELS_MAX>,
}

/// One channel's part of a [`Holding`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelHolding {
    /// Which channel.
    pub channel: ChannelId,
    /// The highest sample index plus one that the node has reported.
    pub produced: u64,
    /// Samples from here to `produced` were with the node, in its last status.
    pub at_node: u64,
    /// Sample indexes in the agent's memory and spool, not yet acknowledged by the collector.
    pub at_agent: Option<Range>,
}
