//! Messages beside blocks: one version byte, then postcard.

use crate::frame::{Capture, Settings};
use crate::id::{BootId, NodeId};
use crate::reject::RejectReason;
use crate::time::EventTime;
use crate::version;
use heapless::String;
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

/// Collector to agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Number of the command; one is carried out at most once.
    pub number: u64,
    /// The node and boot meant.
    pub node: NodeId,
    /// Which life of it.
    pub boot: BootId,
    /// What to do.
    pub action: Action,
}

/// What a [`Command`] asks for. Appended to, never reordered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "decoded, matched and dropped; no allocation to box it"
)]
pub enum Action {
    /// Sample like this from now on.
    Settings(Settings),
    /// Blink for this many seconds.
    Identify(u8),
    /// Send samples now.
    Capture(Capture),
}

/// Agent to collector: what became of a [`Command`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommandResult {
    /// Which.
    pub number: u64,
    /// What became of it.
    pub outcome: CommandOutcome,
}

/// Whether a command was carried out. Appended to, never reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CommandOutcome {
    /// The node did it.
    Done,
    /// The node refused.
    RefusedByNode,
    /// No such node on this gateway's lines.
    UnknownNode,
    /// The node has restarted since.
    OtherBoot,
    /// This agent does not know the action.
    Unsupported,
}
