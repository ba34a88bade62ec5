//! The unit sent over the node line: a header and a payload.
//!
//! A frame is `header | payload | crc32c` (the CRC four bytes little-endian over both), at most
//! [`FRAME_MAX`] bytes, byte-stuffed and zero-terminated on the line by [`crate::codec`]. Header and
//! payload are postcard. A reader ignores bytes after the payload it knows: that is where a later
//! version puts optional fields.
//!
//! Frames *from* a node count their sequence per boot and [`Class`] from 0 without gaps, and stay in
//! the node's outbox until a [`Poll`] acknowledges them. Frames *to* a node name the node and boot
//! meant; a node ignores those for another boot. Their sequence counts the agent's frames on that
//! line and is not acknowledged; their ticks are 0.

use crate::codec::{self, CRC_BYTES};
use crate::feature::FeatureKind;
use crate::feature::velocity::Passband;
use crate::id::{BootId, CHANNELS_MAX, ChannelId, LineAddress, MasterId, NodeId};
use crate::packing;
use crate::quantity::Unit;
use crate::reject::RejectReason;
use crate::sample::{LossCause, Reading};
use crate::sequence::Range;
use crate::time::NodeTicks;
use crate::version;
use heapless::Vec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes of a frame before byte stuffing, checksum included.
pub const FRAME_MAX: usize = 1_024;

/// Which of two ways a frame takes through outbox and spool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// Everything but waveforms.
    Essential = 0,
    /// Waveforms: the bulk, and the first to be given up.
    Waveform = 1,
}

impl Class {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Essential, Self::Waveform];

    /// As an index into a pair of per-class things.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self::Essential),
            1 => Ok(Self::Waveform),
            _ => Err(serde::de::Error::custom("unknown class")),
        }
    }
}

/// Who sent it, and where it stands in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Wire version of the frame.
    pub version: u8,
    /// Line address of the node.
    pub address: LineAddress,
    /// The node that sent it, or is meant.
    pub node: NodeId,
    /// Which life of the node.
    pub boot: BootId,
    /// Which way it takes.
    pub class: Class,
    /// Position among the frames of this boot and class.
    pub sequence: u64,
    /// When the first sample or event in it happened.
    pub ticks: NodeTicks,
}

/// What a frame says. Appended to, never reordered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack of one encoder or decoder; no allocation to box it"
)]
pub enum Payload<'a> {
    /// Node: its channel table.
    Describe(Describe),
    /// Node: consecutive samples of a fast channel.
    #[serde(borrow)]
    Waveform(Waveform<'a>),
    /// Node: consecutive readings of a slow channel.
    Scalar(Scalar),
    /// Node: features it computed itself.
    Feature(FeatureReport),
    /// Node: something happened.
    Event(Event),
    /// Node, each second: what it has produced, dropped and still holds.
    Status(Status),
    /// Node: answer to a [`TimeRequest`].
    TimeReply(TimeReply),
    /// Node: what became of [`Settings`], [`Identify`], [`Capture`] or [`Calibrate`].
    SettingsResult(SettingsResult),
    /// Agent: you may send, and this much is safe.
    Poll(Poll),
    /// Agent, to all: who is there? On a shared line also the answer of a node that has no master, outside
    /// its numbered frames.
    Discover,
    /// Agent: take this line address.
    Assign(LineAddress),
    /// Agent: what time is it with you?
    TimeRequest(TimeRequest),
    /// Agent: sample like this from now on.
    Settings(Settings),
    /// Agent: show where you are.
    Identify(Identify),
    /// Agent: send this many samples of a channel now.
    Capture(Capture),
    /// Agent: what a channel's own sensor differs by from its kind.
    Calibrate(Calibrate),
}

/// The channel table: the channel's number is its position. Sample payloads carry its `revision` and
/// wait for it at the collector.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Describe {
    /// Counted up by the node whenever the table changes.
    pub revision: u16,
    /// One descriptor per channel.
    pub channels: Vec<ChannelDescriptor, CHANNELS_MAX>,
}

/// How to read a channel's numbers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ChannelDescriptor {
    /// Unit of the scaled value (it implies the quantity).
    pub unit: Unit,
    /// Value of one least significant bit, in `unit`.
    pub scale: f32,
    /// Sample rate in millihertz, measured.
    pub rate_mhz: u32,
    /// Full scale: values lie within plus and minus this, in `unit`.
    pub range: f32,
    /// Lower edge of the band the sensor is usable in, Hz.
    pub band_low_hz: f32,
    /// Upper edge of the band the sensor is usable in, Hz.
    pub band_high_hz: f32,
}

/// Consecutive samples of a fast channel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Waveform<'a> {
    /// Which [`Describe`] explains it.
    pub revision: u16,
    /// Which channel.
    pub channel: ChannelId,
    /// Index of the first sample, counted since boot over what the plan sends, dropped samples included.
    pub first_sample: u64,
    /// How many samples.
    pub count: u16,
    /// How `data` is written.
    pub packing: Packing,
    /// The samples, in least significant bits of the channel's scale.
    pub data: &'a [u8],
}

impl Waveform<'_> {
    /// The samples in least significant bits, if `data` holds exactly `count` of them.
    pub fn samples(&self) -> Result<Samples<'_>, RejectReason> {
        let count = usize::from(self.count);
        match self.packing {
            Packing::I16 if self.data.len() == 2 * count => {
                Ok(Samples::Plain(self.data.as_chunks().0.iter()))
            }
            Packing::I16 => Err(RejectReason::Payload),
            Packing::Predicted => match packing::unpack(self.data, count) {
                Ok(samples) => Ok(Samples::Unpacked(samples.into_iter())),
                Err(packing::Malformed) => Err(RejectReason::Payload),
            },
        }
    }
}

/// The samples of a waveform, one after the other.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack of one reader; no allocation to box it"
)]
pub enum Samples<'a> {
    /// As they stand in the frame.
    Plain(core::slice::Iter<'a, [u8; 2]>),
    /// As they were unpacked.
    Unpacked(heapless::vec::IntoIter<i16, { packing::SAMPLES_MAX }, usize>),
}

impl Iterator for Samples<'_> {
    type Item = i16;

    fn next(&mut self) -> Option<i16> {
        match self {
            Self::Plain(pairs) => pairs.next().map(|pair| i16::from_le_bytes(*pair)),
            Self::Unpacked(samples) => samples.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self {
            Self::Plain(pairs) => pairs.len(),
            Self::Unpacked(samples) => samples.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Samples<'_> {}

/// How a waveform's samples are written. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Packing {
    /// Two bytes each, little-endian, two's complement.
    I16,
    /// What a prediction leaves of each ([`crate::packing`]).
    Predicted,
}

/// Most readings in one [`Scalar`].
pub const READINGS_MAX: usize = 32;

/// Consecutive readings of a slow channel, at the rate its descriptor declares.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scalar {
    /// Which [`Describe`] explains it.
    pub revision: u16,
    /// Which channel.
    pub channel: ChannelId,
    /// Index of the first reading, counted since boot over what the plan sends, dropped ones included.
    pub first_sample: u64,
    /// The readings, in the channel's unit.
    pub readings: Vec<Reading, READINGS_MAX>,
}

/// Most features in one report.
pub const FEATURES_MAX: usize = 16;

/// Features that the node computed over a stretch of a channel, whose samples need not be sent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FeatureReport {
    /// Which [`Describe`] explains it.
    pub revision: u16,
    /// Which channel.
    pub channel: ChannelId,
    /// Index of the first sample that went in, counted since boot over everything that the sensor gave:
    /// unlike the index of samples that are sent, it runs on while the plan sends none.
    pub first_sample: u64,
    /// How many samples went in.
    pub count: u32,
    /// The features.
    pub features: Vec<(FeatureKind, f32), FEATURES_MAX>,
}

/// How much an event matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Severity {
    /// For the record.
    Info,
    /// Somebody should look when there.
    Warning,
    /// Never dropped; coalesced per channel and kind.
    Alarm,
}

impl Severity {
    /// The name in the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Alarm => "alarm",
        }
    }
}

/// What happened at a node. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum EventKind {
    /// The node started.
    Boot,
    /// A sensor stopped answering.
    SensorLost,
    /// A sensor answers again.
    SensorBack,
    /// A channel crossed its limit.
    LimitExceeded,
    /// A channel is back within its limit.
    LimitCleared,
    /// The previous boot ended in a panic.
    Panicked,
    /// The supply voltage was low.
    BrownOut,
    /// A second master polled this node.
    SecondMaster,
    /// The previous boot hung, and the watchdog ended it.
    WatchdogBite,
    /// A sensor answers with a value that no longer moves.
    SensorStuck,
    /// A sensor is at the end of its range.
    SensorClipped,
    /// The previous boot used so many bytes of its stack at most.
    StackUsed,
    /// The node's crystal does not swing: it runs on an oscillator that may be off by some percent, and measures no
    /// vibration.
    NoCrystal,
}

impl EventKind {
    /// The name in the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::SensorLost => "sensor_lost",
            Self::SensorBack => "sensor_back",
            Self::LimitExceeded => "limit_exceeded",
            Self::LimitCleared => "limit_cleared",
            Self::Panicked => "panicked",
            Self::BrownOut => "brown_out",
            Self::SecondMaster => "second_master",
            Self::WatchdogBite => "watchdog_bite",
            Self::SensorStuck => "sensor_stuck",
            Self::SensorClipped => "sensor_clipped",
            Self::StackUsed => "stack_used",
            Self::NoCrystal => "no_crystal",
        }
    }
}

/// Something happened at a node.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// How much it matters.
    pub severity: Severity,
    /// What it was.
    pub kind: EventKind,
    /// On which channel, if on one.
    pub channel: Option<ChannelId>,
    /// How often since the header's ticks: repeats are folded into one.
    pub repeats: u32,
    /// The kind's own number: a limit's value, an error code.
    pub value: f32,
}

/// Most causes a node counts per channel.
pub const DROP_CAUSES_MAX: usize = 4;

/// Most ranges of held sequences that fit a status, per class.
pub const HELD_RANGES_MAX: usize = 4;

/// What a node has produced, dropped and still holds, as of the header's ticks.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// One entry per channel of the table.
    pub channels: Vec<ChannelStatus, CHANNELS_MAX>,
    /// Per class: sequences still held unacknowledged, this status not counted. Everything below the
    /// header's sequence (for the other class: `next`) that is not in it is acknowledged or gone.
    pub held: [Vec<Range, HELD_RANGES_MAX>; 2],
    /// Per class: the sequence that the next frame will have.
    pub next: [u64; 2],
    /// Bytes held in the outbox.
    pub outbox_used: u32,
    /// Bytes the outbox can hold.
    pub outbox_capacity: u32,
    /// Why the node last started.
    pub reset: ResetCause,
}

/// One channel's part of a [`Status`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Samples produced since boot, as far as the plan sends them: the highest index plus one.
    pub produced: u64,
    /// Lowest sample index still held unacknowledged or not yet framed; `produced` when none is.
    pub held_from: u64,
    /// Samples dropped since boot, by cause.
    pub drops: Vec<(LossCause, u64), DROP_CAUSES_MAX>,
}

/// Why a node last started. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ResetCause {
    /// Power came on.
    PowerOn,
    /// The reset pin.
    Pin,
    /// The supply voltage fell too low.
    BrownOut,
    /// The watchdog bit.
    Watchdog,
    /// The firmware asked for it.
    Software,
    /// The hardware does not say.
    Unknown,
}

/// Answer to a [`TimeRequest`]: the node's two of the four time stamps (RFC 5905, section 8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimeReply {
    /// Which request.
    pub request: u32,
    /// When the request arrived.
    pub received: NodeTicks,
    /// When this reply was handed to the line.
    pub sent: NodeTicks,
}

/// What became of [`Settings`], [`Identify`], [`Capture`] or [`Calibrate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SettingsResult {
    /// Which command.
    pub command: u32,
    /// What became of it.
    pub outcome: SettingsOutcome,
}

/// Whether a node did as it was told. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SettingsOutcome {
    /// In force, and settings are kept across resets.
    Applied,
    /// Already in force, or a number that has been carried out before.
    Unchanged,
    /// The node has no such channel.
    UnknownChannel,
    /// The plan needs more of the line than it may take; what nodes say now is [`Self::Overfull`].
    LineTooSlow,
    /// The settings could not be stored.
    NotStored,
    /// A plan's own numbers make no sense: a window too short or too long, a waveform every 0 s, or a trigger on a
    /// channel that the node does not have.
    BadPlan,
    /// The plans need more of the line than they may take.
    Overfull {
        /// What they come to, bytes a second.
        needs: u32,
        /// What they may take, bytes a second.
        may: u32,
    },
    /// The calibration makes no sense: a gain beyond [`Calibration::GAINS_PPM`], or an offset of a vibration, of which
    /// only what alternates is looked at.
    BadCalibration,
}

/// You may send up to `credit` bytes, and everything below `upto` is safe.
///
/// *Safe* means flushed to the agent's disk. The node obeys one master until it has been silent for
/// 10 s, and reports another as [`EventKind::SecondMaster`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Poll {
    /// The line address polled.
    pub address: LineAddress,
    /// The agent start that polls.
    pub master: MasterId,
    /// Per class: every sequence below this is acknowledged (exclusive).
    pub upto: [u64; 2],
    /// Bytes the node may have under way on the line until the next poll.
    pub credit: u32,
}

/// What time is it with you? Every request of a master has its own number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimeRequest {
    /// Number of the request.
    pub request: u32,
}

/// Sample like this from now on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Number of the command, named in the result.
    pub command: u32,
    /// A plan for each channel, in the order of the table; channels beyond are sent raw.
    pub plans: Vec<ChannelPlan, CHANNELS_MAX>,
}

/// What to send of a channel. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChannelPlan {
    /// Nothing.
    Off,
    /// Every sample.
    Raw,
    /// Features only, over this many samples each.
    Features {
        /// Samples per report.
        window: u32,
    },
    /// Features, and a waveform now and then.
    Scheduled {
        /// Samples per feature report.
        window: u32,
        /// Samples per waveform.
        samples: u32,
        /// Seconds from one waveform to the next.
        every_s: u32,
    },
    /// Features, and a waveform now and then when a channel says so: in an operating state, or above a level.
    Triggered {
        /// Samples per feature report.
        window: u32,
        /// Samples per waveform.
        samples: u32,
        /// Seconds from one waveform to the next, at least.
        every_s: u32,
        /// When one may begin.
        trigger: Trigger,
    },
    /// Any of the former three for a machine that turns slower than 600 rpm: its velocity is told from 2 Hz on.
    Slow {
        /// Samples per feature report.
        window: u32,
        /// Samples per waveform and seconds from one to the next at least, if there are waveforms.
        waveform: Option<(u32, u32)>,
        /// When one may begin, if not whenever one is due.
        trigger: Option<Trigger>,
    },
}

impl ChannelPlan {
    /// Samples of a feature window, if there are features.
    pub const fn window(self) -> Option<u32> {
        match self {
            Self::Off | Self::Raw => None,
            Self::Features { window }
            | Self::Scheduled { window, .. }
            | Self::Triggered { window, .. }
            | Self::Slow { window, .. } => Some(window),
        }
    }

    /// Samples of a waveform and seconds from one to the next, if there are waveforms now and then.
    pub const fn waveform(self) -> Option<(u32, u32)> {
        match self {
            Self::Off | Self::Raw | Self::Features { .. } => None,
            Self::Scheduled { samples, every_s, .. } | Self::Triggered { samples, every_s, .. } => {
                Some((samples, every_s))
            }
            Self::Slow { waveform, .. } => waveform,
        }
    }

    /// What waveforms wait for, if for anything.
    pub const fn trigger(self) -> Option<Trigger> {
        match self {
            Self::Off | Self::Raw | Self::Features { .. } | Self::Scheduled { .. } => None,
            Self::Triggered { trigger, .. } => Some(trigger),
            Self::Slow { trigger, .. } => trigger,
        }
    }

    /// The band that its features tell the velocity of.
    pub const fn passband(self) -> Passband {
        match self {
            Self::Slow { .. } => Passband::SLOW,
            Self::Off
            | Self::Raw
            | Self::Features { .. }
            | Self::Scheduled { .. }
            | Self::Triggered { .. } => Passband::STANDARD,
        }
    }

    /// The same for a shaft that turns so many times a second, as far as it is known (0: not).
    pub fn for_speed(self, shaft_hz: f64) -> Self {
        match self.window() {
            Some(window) if Passband::for_speed(shaft_hz) == Passband::SLOW => Self::Slow {
                window,
                waveform: self.waveform(),
                trigger: self.trigger(),
            },
            _ => self,
        }
    }
}

/// What a channel of the node must say for a waveform to begin: a slow channel by its last reading, a fast one by the RMS of its last feature
/// window. A channel that says nothing triggers nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trigger {
    /// Which channel.
    pub channel: ChannelId,
    /// At least this much, thousandths of its unit.
    pub low_milli: i32,
    /// At most this much, thousandths of its unit.
    pub high_milli: i32,
}

impl Trigger {
    /// Whether a value, in the channel's unit, triggers.
    pub fn is_met_by(&self, value: f32) -> bool {
        (1e-3 * self.low_milli as f32..=1e-3 * self.high_milli as f32).contains(&value)
    }
}

/// Show where you are: blink.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identify {
    /// For how long.
    pub seconds: u8,
    /// Number of the command, named in the result.
    pub command: u32,
}

/// Send this many samples of a channel now, whatever its plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Capture {
    /// Number of the command.
    pub command: u32,
    /// Which channel.
    pub channel: ChannelId,
    /// How many samples.
    pub samples: u32,
}

/// What one sensor differs by from what its kind is, as its certificate or a comparison says:
/// value = told x gain + offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Calibration {
    /// Millionths: a sensor that tells 2 % too little has 1,020,408.
    pub gain_ppm: u32,
    /// Thousandths of the channel's unit.
    pub offset_milli: i32,
}

impl Calibration {
    /// That of a sensor that is as its kind.
    pub const NONE: Self = Self {
        gain_ppm: 1_000_000,
        offset_milli: 0,
    };

    /// Gains that a sensor can have: what is further off is another kind of sensor, or broken.
    pub const GAINS_PPM: core::ops::RangeInclusive<u32> = 100_000..=10_000_000;

    /// What values are multiplied with.
    pub fn gain(self) -> f32 {
        self.gain_ppm as f32 * 1e-6
    }

    /// A value as it truly is.
    pub fn apply(self, told: f32) -> f32 {
        // Exactly what was told where there is nothing to correct.
        if self == Self::NONE {
            return told;
        }
        told * self.gain() + self.offset_milli as f32 * 1e-3
    }
}

/// A channel's sensor is calibrated like this from now on, through resets too. The channel table has it, under a new
/// revision, in its scale and range; readings come corrected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Calibrate {
    /// Number of the command, named in the result.
    pub command: u32,
    /// Which channel.
    pub channel: ChannelId,
    /// How; [`Calibration::NONE`] takes a former one back.
    pub calibration: Calibration,
}

/// The frame does not fit the buffer or [`FRAME_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameTooLong;

impl core::fmt::Display for FrameTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the frame does not fit 1024 bytes or the buffer given")
    }
}

impl core::error::Error for FrameTooLong {}

/// Writes header, payload and checksum to `out`; returns the part written.
pub fn encode<'b>(
    header: &Header,
    payload: &Payload<'_>,
    out: &'b mut [u8],
) -> Result<&'b [u8], FrameTooLong> {
    let limit = out.len().min(FRAME_MAX);
    let out = &mut out[..limit];
    let head = postcard::to_slice(header, out).map_err(|_| FrameTooLong)?.len();
    let body = postcard::to_slice(payload, &mut out[head..])
        .map_err(|_| FrameTooLong)?
        .len();
    let end = head + body;
    let crc = codec::crc32c(&out[..end]);
    out.get_mut(end..end + CRC_BYTES)
        .ok_or(FrameTooLong)?
        .copy_from_slice(&crc.to_le_bytes());
    Ok(&out[..end + CRC_BYTES])
}

/// A frame whose checksum was right and whose header decodes; the payload may still be of a kind
/// this build does not know.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RawFrame<'a> {
    bytes: &'a [u8],
    header: Header,
    payload_at: usize,
}

impl<'a> RawFrame<'a> {
    /// Checks `bytes` (header, payload, checksum; no byte stuffing).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RejectReason> {
        if bytes.len() > FRAME_MAX {
            return Err(RejectReason::TooLong);
        }
        let end = bytes.len().checked_sub(CRC_BYTES).ok_or(RejectReason::TooShort)?;
        let (content, crc) = bytes.split_at(end);
        if codec::crc32c(content).to_le_bytes() != crc {
            return Err(RejectReason::BadCrc);
        }
        let version = *content.first().ok_or(RejectReason::TooShort)?;
        if !version::accepts_frame(version) {
            return Err(RejectReason::FrameVersion);
        }
        let (header, rest) =
            postcard::take_from_bytes::<Header>(content).map_err(|_| RejectReason::FrameHeader)?;
        Ok(Self {
            bytes,
            header,
            payload_at: content.len() - rest.len(),
        })
    }

    /// Who sent it, and where it stands.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Header, payload and checksum, verbatim.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What it says.
    pub fn payload(&self) -> Result<Payload<'a>, RejectReason> {
        read(self.payload_bytes())
    }

    /// What an agent says; none of what nodes say, which a node need not understand: its image has no room for the
    /// readers of that.
    pub fn downlink(&self) -> Option<Payload<'a>> {
        // Sixteen numbers fit one byte of a varint.
        let (&kind, rest) = self.payload_bytes().split_first()?;
        let payload = match kind {
            8 => Payload::Poll(read(rest).ok()?),
            9 => Payload::Discover,
            10 => Payload::Assign(read(rest).ok()?),
            11 => Payload::TimeRequest(read(rest).ok()?),
            12 => Payload::Settings(read(rest).ok()?),
            13 => Payload::Identify(read(rest).ok()?),
            14 => Payload::Capture(read(rest).ok()?),
            15 => Payload::Calibrate(read(rest).ok()?),
            _ => return None,
        };
        Some(payload)
    }

    /// The answer to a time request, if it is one: for who sends it once more.
    pub fn time_reply(&self) -> Option<TimeReply> {
        let (&kind, rest) = self.payload_bytes().split_first()?;
        (kind == 6).then(|| read(rest).ok())?
    }

    fn payload_bytes(&self) -> &'a [u8] {
        &self.bytes[self.payload_at..self.bytes.len() - CRC_BYTES]
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RejectReason> {
    postcard::take_from_bytes(bytes)
        .map(|(value, _)| value)
        .map_err(|_| RejectReason::FramePayload)
}
