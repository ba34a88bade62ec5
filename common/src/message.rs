//! Messages beside blocks: one version byte, then postcard.

use crate::frame::{Calibration, ChannelPlan, SettingsOutcome};
use crate::id::{CHANNELS_MAX, ChannelId, GatewayId, NodeId};
use crate::reject::RejectReason;
use crate::time::EventTime;
use crate::version;
use crate::watch::{BearingSearch, PlainWatch, SpectrumWatch, UnusualWatch, Watch};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// Writes a message to `out`: version byte and content. `None` when it does not fit.
pub fn encode<'b, T: Serialize>(message: &T, out: &'b mut [u8]) -> Option<&'b [u8]> {
    let (first, rest) = out.split_first_mut()?;
    *first = version::MESSAGE;
    let used = postcard::to_slice(message, rest).ok()?.len();
    Some(&out[..=used])
}

/// Reads a message; bytes after it are of a later version and ignored.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RejectReason> {
    let (&version, content) = bytes.split_first().ok_or(RejectReason::TooShort)?;
    if !version::accepts_message(version) {
        return Err(RejectReason::MessageVersion);
    }
    postcard::take_from_bytes(content)
        .map(|(message, _)| message)
        .map_err(|_| RejectReason::MessageDecode)
}

/// Room that is always enough for a message of this module or of [`crate::ack`].
pub const MESSAGE_MAX: usize = 64 * 1_024;

/// Agent to collector: birth, heartbeat, and (set as the connection's last will) death.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Birth, heartbeat or death.
    pub phase: Phase,
    /// Version of the agent.
    pub agent_version: String<32>,
    /// The agent's clock when it wrote this.
    pub utc: EventTime,
    /// Nodes heard in the last ten seconds.
    pub nodes: u16,
    /// Blocks in the spool.
    pub spool_blocks: u64,
    /// Bytes in the spool.
    pub spool_bytes: u64,
    /// Drawn at the agent's start. With the connection's number it says which death belongs to which
    /// birth: a last will may come after the next connection's birth.
    pub life: u64,
    /// Number of the connection in that life.
    pub connection: u64,
    /// How the gateway fares, and for how long.
    pub health: GatewayHealth,
}

/// What plant IT must know of a gateway before it becomes a loss. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GatewayHealth {
    /// Whose UTC the gateway goes by.
    pub clock: GatewayClock,
    /// The clock floor: no certificate is checked against an earlier time.
    pub clock_floor: EventTime,
    /// Times that UTC was set since the agent started.
    pub clock_steps: u32,
    /// Seconds that the spool holds out without a collector at the present rate; `None` when nothing
    /// comes in, or when too little has been seen.
    pub holds_s: Option<u64>,
    /// Seconds until the backlog is drained at the present rates; `None` when it does not shrink.
    pub drains_s: Option<u64>,
    /// Bytes that the agent writes to its disk in a day, at the present rate.
    pub written_per_day_bytes: Option<u64>,
    /// Days until the disk's rated endurance is used up at that rate; `None` where it is not configured.
    pub flash_life_days: Option<u32>,
}

/// Whose UTC a gateway goes by. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayClock {
    /// Its own, synchronised by NTP.
    Synchronised,
    /// Its own, which runs free and contradicts nobody.
    #[default]
    Free,
    /// The collector's, since its own runs free and is far off.
    Collector,
    /// Nobody's: its own is earlier than what is known to be past, so that nothing is dated by it.
    Implausible,
}

/// Where in its life a gateway's connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Just connected.
    Birth,
    /// Still there.
    Heartbeat,
    /// Gone: published by the broker when the connection broke, or by the agent when it stops.
    Death,
}

/// Collector to agent, inside a [`SignedCommand`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Counts the commands of a gateway from 1; an agent carries out each number at most once, and none
    /// below the highest that it has begun.
    pub number: u64,
    /// Not begun after this instant of the agent's clock: what a broker held back is no order any more.
    pub expires: EventTime,
    /// What to do.
    pub action: Action,
}

/// What a [`Command`] asks for. Appended to, never reordered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "decoded, matched and dropped; no allocation to box it"
)]
pub enum Action {
    /// Sample like this from now on, through resets too.
    Settings {
        /// Which node.
        node: NodeId,
        /// A plan for each channel, in the order of the table; channels beyond are sent raw.
        plans: Vec<ChannelPlan, CHANNELS_MAX>,
    },
    /// Show where you are.
    Identify {
        /// Which node.
        node: NodeId,
        /// For how long.
        seconds: u8,
    },
    /// Send samples now.
    Capture {
        /// Which node.
        node: NodeId,
        /// Which channel of it.
        channel: ChannelId,
        /// How many samples.
        samples: u32,
    },
    /// The gateway itself works like this from now on, through restarts too.
    Gateway(GatewaySettings),
    /// As [`Self::Watch`], of collectors before witnesses and slow channels were told of.
    WatchPlain {
        /// Of which node.
        node: NodeId,
        /// Which channel.
        channel: ChannelId,
        /// How; none: not any more.
        watch: Option<PlainWatch>,
    },
    /// A channel's sensor is calibrated like this from now on, through resets too.
    Calibrate {
        /// Of which node.
        node: NodeId,
        /// Which channel of it.
        channel: ChannelId,
        /// How.
        calibration: Calibration,
    },
    /// The gateway watches a channel like this from now on, through restarts too.
    Watch {
        /// Of which node.
        node: NodeId,
        /// Which channel.
        channel: ChannelId,
        /// How; none: not any more.
        watch: Option<Watch>,
    },
    /// The gateway searches a channel that it watches for what is wrong with a bearing, from now on, through
    /// restarts too.
    Search {
        /// Of which node.
        node: NodeId,
        /// Which channel.
        channel: ChannelId,
        /// For what; none: not any more.
        search: Option<BearingSearch>,
    },
    /// The gateway looks at the spectra of a channel that it watches, from now on, through restarts too.
    Examine {
        /// Of which node.
        node: NodeId,
        /// Which channel.
        channel: ChannelId,
        /// For what; none: not any more.
        spectra: Option<SpectrumWatch>,
    },
    /// The gateway judges whether a slow channel that it watches is as it was, and the group that it is the first
    /// of, from now on, through restarts too.
    Unusual {
        /// Of which node.
        node: NodeId,
        /// Which channel.
        channel: ChannelId,
        /// How; none: not any more.
        unusual: Option<UnusualWatch>,
    },
}

impl Action {
    /// The node that is to do something; none when it is the gateway itself.
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Settings { node, .. }
            | Self::Identify { node, .. }
            | Self::Capture { node, .. }
            | Self::Calibrate { node, .. } => Some(*node),
            Self::Gateway(_)
            | Self::WatchPlain { .. }
            | Self::Watch { .. }
            | Self::Search { .. }
            | Self::Examine { .. }
            | Self::Unusual { .. } => None,
        }
    }
}

/// What a collector may change about a gateway: nothing that could cut it off or reach its files. What
/// is `None` is as the gateway's own configuration says. Fields are appended, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GatewaySettings {
    /// From one status message to the next, milliseconds.
    pub heartbeat_interval_ms: Option<u32>,
    /// Percent of the bytes that live blocks get while a backlog drains.
    pub live_share_percent: Option<u8>,
    /// In which order the waveforms of a backlog drain.
    pub backfill_order: Option<BackfillOrder>,
    /// Most KiB of backlog per second.
    pub backfill_kib_s: Option<u32>,
}

/// In which order the waveforms of a backlog drain. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BackfillOrder {
    /// As it happened.
    OldestFirst,
    /// What happened last first.
    NewestFirst,
}

impl BackfillOrder {
    /// Name in configurations and on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OldestFirst => "oldest_first",
            Self::NewestFirst => "newest_first",
        }
    }
}

/// Most certificates that prove whose signature it is: the signer's own and what links it to the plant's
/// authority.
pub const CHAIN_MAX: usize = 4;

/// A [`Command`] and the proof that the plant's collector gave it: whoever may publish at a broker is
/// not for that reason obeyed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedCommand<'a> {
    /// The command, in postcard.
    #[serde(borrow)]
    pub command: &'a [u8],
    /// How it is signed: a `SignatureScheme` of TLS (RFC 8446, 4.2.3).
    pub scheme: u16,
    /// Over [`signed_parts`], by the key of the collector's certificate.
    #[serde(borrow)]
    pub signature: &'a [u8],
    /// The collector's certificate, then what links it to the plant's authority, each in DER.
    #[serde(borrow)]
    pub chain: Vec<&'a [u8], CHAIN_MAX>,
}

/// What is signed of a command to `gateway`, to be put end to end.
///
/// The same key signs TLS handshakes. The 64 spaces keep the two apart as they keep TLS 1.3 and 1.2 apart
/// (RFC 8446, 4.4.3): an older handshake begins with 32 bytes that its client chose and 32 that it did not.
pub fn signed_parts<'a>(gateway: &'a GatewayId, command: &'a [u8]) -> [&'a [u8]; 7] {
    [
        &[b' '; 64],
        b"Trunnion, collector's command, version 1\0",
        gateway.site.as_str().as_bytes(),
        &[0],
        gateway.gateway.as_str().as_bytes(),
        &[0],
        command,
    ]
}

/// Agent to collector: what became of a [`Command`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommandResult {
    /// Which.
    pub number: u64,
    /// What became of it.
    pub outcome: CommandOutcome,
    /// The highest number that this agent has begun to carry out: a collector restored from a backup
    /// goes on above it.
    pub highest: u64,
}

/// What became of a command. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum CommandOutcome {
    /// It is in effect.
    Done,
    /// The node refused, and nothing has changed.
    RefusedByNode(SettingsOutcome),
    /// No such node on this gateway's lines.
    UnknownNode,
    /// The node restarted while it was under way: it may have been carried out, and is not repeated.
    OtherBoot,
    /// This agent or node does not know the action or one of its values.
    Unsupported,
    /// The node did not answer: it may have been carried out, and is not repeated.
    NoAnswer,
    /// The agent restarted while it was under way: it may have been carried out, and is not repeated.
    Interrupted,
    /// It came after its time, and nothing was done.
    Expired,
    /// A higher number has been begun, and nothing was done.
    Superseded,
    /// The agent could not make it durable that it begins, and nothing was done.
    NotStored,
}

impl CommandOutcome {
    /// The label in metrics, logs and on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::RefusedByNode(SettingsOutcome::LineTooSlow | SettingsOutcome::Overfull { .. }) => {
                "refused_line_too_slow"
            }
            Self::RefusedByNode(SettingsOutcome::UnknownChannel) => "refused_unknown_channel",
            Self::RefusedByNode(SettingsOutcome::NotStored) => "refused_not_stored",
            Self::RefusedByNode(SettingsOutcome::BadPlan) => "refused_bad_plan",
            Self::RefusedByNode(SettingsOutcome::BadCalibration) => "refused_bad_calibration",
            Self::RefusedByNode(SettingsOutcome::Applied | SettingsOutcome::Unchanged) => "refused",
            Self::UnknownNode => "unknown_node",
            Self::OtherBoot => "other_boot",
            Self::Unsupported => "unsupported",
            Self::NoAnswer => "no_answer",
            Self::Interrupted => "interrupted",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::NotStored => "not_stored",
        }
    }

    /// Whether the command is in effect for certain.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }
}
